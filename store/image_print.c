/* SPDX-License-Identifier: GPL-2.0-or-later */
/* image_print.c - what `inspect` shows of an image. */
#include "store_priv.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../chpox/base/buf.h"
#include "../chpox/base/err.h"

__attribute__((format(printf, 2, 3))) static void say(struct cpx_buf *out, const char *fmt, ...)
{
	char line[2048];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n > 0)
		cpx_buf_put(out, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static void time_text(int64_t ns, char out[32])
{
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		strcpy(out, "-");
}

/* A note may hold anything: control characters become dots. */
static void clean_text(const char *from, char *to, size_t size)
{
	size_t i = 0;

	for (; from[i] && i + 1 < size; i++)
		to[i] = (unsigned char)from[i] < 0x20 || from[i] == 0x7f ? '.' : from[i];
	to[i] = 0;
}

static void print_head(const struct cpx_image *img, struct cpx_buf *out)
{
	const struct cpx_manifest *m = &img->m;
	char when[32], note[CPX_NOTE_MAX + 1];

	time_text(m->realtime_ns, when);
	clean_text(m->note, note, sizeof(note));
	say(out,
	    "manifest job=%s epoch=%" PRIu64 " seq=%" PRIu64 " nonce=%s time=%s bytes=%zu\n",
	    m->id.job, m->id.epoch, m->id.seq, m->id.nonce, when, img->manifest_len);
	say(out, "note %s\n", note);
	say(out,
	    "sizes bytes_memory=%" PRIu64 " bytes_zero=%" PRIu64 " bytes_stored=%" PRIu64
	    " pages_inherited=%" PRIu64 " state=%zu state_stored=%zu\n",
	    m->stats.bytes_memory, m->stats.bytes_zero,
	    m->stats.bytes_stored + img->manifest_len, m->stats.pages_inherited, m->state_len,
	    m->state_stored);
	if (m->has_base)
		say(out, "base epoch=%" PRIu64 " seq=%" PRIu64 " nonce=%s\n", m->base.epoch,
		    m->base.seq, m->base.nonce);
}

static int print_packs(struct cpx_image *img, struct cpx_buf *out, struct cpx_err *err)
{
	for (uint32_t i = 0; i < img->m.npacks; i++) {
		const struct cpx_pack_info *p = &img->m.packs[i];
		uint64_t raw = 0;
		char path[CPX_NAME_MAX];
		int rc = cpx_pack_get(img, i, err);

		if (rc < 0)
			return rc;
		for (uint32_t b = 0; b < p->nblocks; b++)
			raw += img->packs[i].table[b].raw;
		cpx_pack_put(img, i);
		cpx_pack_path(img, i, path);
		say(out, "pack id=%u file=%s bytes=%" PRIu64 " blocks=%u raw=%" PRIu64 "\n",
		    p->id, path, p->size, p->nblocks, raw);
	}
	return 0;
}

static int print_maps(struct cpx_image *img, struct cpx_buf *out, struct cpx_err *err)
{
	for (uint32_t i = 0; i < img->m.nsegs; i++) {
		const struct cpx_seg_ref *r = &img->m.segs[i];
		struct cpx_seg *s;
		int rc = cpx_seg_load(img, i, &s, err);

		if (rc < 0)
			return rc;
		say(out, "map space=%u at=0x%" PRIx64 " pages=%u entries=%" PRId64 " runs=%u\n",
		    r->space, r->seg << CPX_SEG_SHIFT, r->pages, s->n, r->nruns);
	}
	return 0;
}

static json_t *json_head(const struct cpx_image *img)
{
	const struct cpx_manifest *m = &img->m;
	json_t *o = json_object();
	char note[CPX_NOTE_MAX + 1];

	clean_text(m->note, note, sizeof(note));
	json_object_set_new(o, "job", json_string(m->id.job));
	json_object_set_new(o, "epoch", json_integer((json_int_t)m->id.epoch));
	json_object_set_new(o, "seq", json_integer((json_int_t)m->id.seq));
	json_object_set_new(o, "nonce", json_string(m->id.nonce));
	json_object_set_new(o, "realtime_ns", json_integer(m->realtime_ns));
	/* NULL when it is not UTF-8: then it is left out */
	json_object_set_new(o, "note", json_string(note));
	json_object_set_new(o, "bytes_manifest", json_integer((json_int_t)img->manifest_len));
	json_object_set_new(o, "bytes_memory", json_integer((json_int_t)m->stats.bytes_memory));
	json_object_set_new(o, "bytes_zero", json_integer((json_int_t)m->stats.bytes_zero));
	json_object_set_new(
		o, "bytes_stored",
		json_integer((json_int_t)(m->stats.bytes_stored + img->manifest_len)));
	json_object_set_new(o, "pages_inherited",
			    json_integer((json_int_t)m->stats.pages_inherited));
	if (m->has_base)
		json_object_set_new(o, "base",
				    json_pack("{s:I, s:I, s:s}", "epoch",
					      (json_int_t)m->base.epoch, "seq",
					      (json_int_t)m->base.seq, "nonce", m->base.nonce));
	return o;
}

static json_t *json_packs(const struct cpx_image *img)
{
	json_t *a = json_array();

	for (uint32_t i = 0; i < img->m.npacks; i++) {
		const struct cpx_pack_info *p = &img->m.packs[i];
		char path[CPX_NAME_MAX];

		cpx_pack_path(img, i, path);
		json_array_append_new(a,
				      json_pack("{s:I, s:s, s:I, s:I}", "id", (json_int_t)p->id,
						"file", path, "bytes", (json_int_t)p->size,
						"blocks", (json_int_t)p->nblocks));
	}
	return a;
}

static json_t *json_maps(const struct cpx_image *img)
{
	json_t *a = json_array();

	for (uint32_t i = 0; i < img->m.nsegs; i++) {
		const struct cpx_seg_ref *r = &img->m.segs[i];

		json_array_append_new(
			a, json_pack("{s:I, s:I, s:I, s:I}", "space", (json_int_t)r->space,
				     "offset", (json_int_t)(r->seg << CPX_SEG_SHIFT), "pages",
				     (json_int_t)r->pages, "runs", (json_int_t)r->nruns));
	}
	return a;
}

static json_t *json_records(const struct cpx_image *img)
{
	struct cpx_buf text = { 0 };
	json_t *a = NULL;

	cpx_state_print_json(img->state, &text);
	if (!text.failed)
		a = json_loadb((const char *)text.data, text.len, 0, NULL);
	cpx_buf_free(&text);
	return a;
}

static int print_json(struct cpx_image *img, struct cpx_buf *out, struct cpx_err *err)
{
	json_t *o = json_head(img), *records = json_records(img);
	char *text;

	if (!records) {
		json_decref(o);
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for JSON");
	}
	json_object_set_new(o, "packs", json_packs(img));
	json_object_set_new(o, "maps", json_maps(img));
	json_object_set_new(o, "records", records);
	text = json_dumps(o, JSON_INDENT(1));
	json_decref(o);
	if (!text)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for JSON");
	cpx_buf_put(out, text, strlen(text));
	cpx_buf_u8(out, '\n');
	free(text);
	return 0;
}

int cpx_image_print(struct cpx_image *img, bool json, struct cpx_buf *out, struct cpx_err *err)
{
	int rc;

	if (json) {
		rc = print_json(img, out, err);
	} else {
		print_head(img, out);
		rc = print_packs(img, out, err);
		if (rc == 0)
			rc = print_maps(img, out, err);
		if (rc == 0)
			cpx_state_print(img->state, out);
	}
	if (rc == 0 && out->failed)
		rc = cpx_err_set(err, CPX_E_NOMEM, "no memory for text");
	return rc;
}
