/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state.c - the record codec, driven by one table made from the rec_*.h lists.
 *
 * Happy path: add records, encode; decode, walk. A decode that fails leaves nothing
 * behind; the arena makes freeing one step.
 */
#include "state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../chpox/base/buf.h"
#include "../chpox/base/err.h"

#define CHUNK_SIZE (64u << 10)
#define REC_OPTIONAL 1u
#define RECS_MAX (4u << 20) /* records of one type */

enum kind { K_u8, K_u16, K_u32, K_u64, K_i32, K_i64, K_str, K_blob, K_u32s, K_u64s };

struct field {
	const char *name;
	enum kind kind;
	size_t offset;
};

struct desc {
	uint16_t type;
	const char *name;
	size_t size;
	const struct field *fields;
	size_t nfields;
};

/* clang-format off */
#define FIELD(rec, k, fname) { #fname, K_##k, offsetof(struct cpx_rec_##rec, fname) },
#define FIELD_TABLE(t, rname, FIELDS) \
	static const struct field fields_##rname[] = { FIELDS(FIELD) };
CPX_RECS(FIELD_TABLE)
#define DESC(t, rname, FIELDS) { (t), #rname, sizeof(struct cpx_rec_##rname), fields_##rname, \
				 sizeof(fields_##rname) / sizeof(fields_##rname[0]) },
static const struct desc descs[] = { CPX_RECS(DESC) };
/* clang-format on */
#define NDESCS (sizeof(descs) / sizeof(descs[0]))

struct chunk {
	struct chunk *next;
	size_t used, cap;
	_Alignas(16) uint8_t data[];
};

struct list {
	void **recs;
	size_t n, cap;
};

struct cpx_state {
	struct chunk *chunks;
	struct list lists[NDESCS];
};

static const struct desc *find_desc(uint32_t type)
{
	for (size_t i = 0; i < NDESCS; i++)
		if (descs[i].type == type)
			return &descs[i];
	return NULL;
}

static struct list *list_of(const struct cpx_state *s, uint32_t type)
{
	const struct desc *d = find_desc(type);

	return d ? (struct list *)&s->lists[d - descs] : NULL;
}

struct cpx_state *cpx_state_new(void)
{
	return calloc(1, sizeof(struct cpx_state));
}

void cpx_state_free(struct cpx_state *s)
{
	if (!s)
		return;
	for (struct chunk *c = s->chunks, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	for (size_t i = 0; i < NDESCS; i++)
		free(s->lists[i].recs);
	free(s);
}

void *cpx_state_alloc(struct cpx_state *s, size_t n)
{
	struct chunk *c = s->chunks;
	size_t want = (n + 15) & ~(size_t)15;

	if (want < n || n > CPX_STATE_MAX)
		return NULL;
	if (!c || c->cap - c->used < want) {
		size_t cap = want > CHUNK_SIZE ? want : CHUNK_SIZE;

		c = calloc(1, sizeof(*c) + cap);
		if (!c)
			return NULL;
		c->cap = cap;
		c->next = s->chunks;
		s->chunks = c;
	}
	c->used += want;
	return c->data + c->used - want;
}

const char *cpx_state_str(struct cpx_state *s, const char *text)
{
	size_t n = strlen(text);
	char *p = cpx_state_alloc(s, n + 1);

	return p ? memcpy(p, text, n + 1) : NULL;
}

struct cpx_blob cpx_state_blob(struct cpx_state *s, const void *p, size_t n)
{
	void *copy = cpx_state_alloc(s, n ? n : 1);

	if (!copy)
		return (struct cpx_blob){ 0 };
	if (n)
		memcpy(copy, p, n);
	return (struct cpx_blob){ .p = copy, .n = (uint32_t)n };
}

void *cpx_state_add(struct cpx_state *s, enum cpx_rec_type type)
{
	const struct desc *d = find_desc(type);
	struct list *l = list_of(s, type);
	void *rec;

	if (!d || l->n >= RECS_MAX)
		return NULL;
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;
		void *p = realloc(l->recs, cap * sizeof(*l->recs));

		if (!p)
			return NULL;
		l->recs = p;
		l->cap = cap;
	}
	rec = cpx_state_alloc(s, d->size);
	if (rec)
		l->recs[l->n++] = rec;
	return rec;
}

void cpx_state_drop_last(struct cpx_state *s, enum cpx_rec_type type)
{
	struct list *l = list_of(s, type);

	if (l && l->n)
		l->n--;
}

size_t cpx_state_count(const struct cpx_state *s, enum cpx_rec_type type)
{
	const struct list *l = list_of(s, type);

	return l ? l->n : 0;
}

const void *cpx_state_at(const struct cpx_state *s, enum cpx_rec_type type, size_t i)
{
	const struct list *l = list_of(s, type);

	return l && i < l->n ? l->recs[i] : NULL;
}

/* The integer of a fixed-width field, and its width. */
static uint64_t load_int(const struct field *f, const void *rec, size_t *width)
{
	const uint8_t *p = (const uint8_t *)rec + f->offset;

	switch (f->kind) {
	case K_u8:
		*width = 1;
		return *p;
	case K_u16:
		*width = 2;
		return *(const uint16_t *)p;
	case K_u32:
		*width = 4;
		return *(const uint32_t *)p;
	case K_i32:
		*width = 4;
		return (uint64_t)(int64_t) * (const int32_t *)p;
	default:
		*width = 8;
		return *(const uint64_t *)p;
	}
}

static void encode_field(const struct field *f, const void *rec, struct cpx_buf *out)
{
	const void *p = (const uint8_t *)rec + f->offset;
	size_t width;
	uint64_t v;

	switch (f->kind) {
	case K_str: {
		const char *text = *(const char *const *)p;

		/* the length counts one more than the text, so that 0 is NULL */
		cpx_buf_u32(out, text ? (uint32_t)strlen(text) + 1 : 0);
		if (text)
			cpx_buf_put(out, text, strlen(text));
		break;
	}
	case K_blob: {
		const struct cpx_blob *b = p;

		cpx_buf_u32(out, b->n);
		cpx_buf_put(out, b->p, b->n);
		break;
	}
	case K_u32s: {
		const struct cpx_u32s *a = p;

		cpx_buf_u32(out, a->n);
		for (uint32_t i = 0; i < a->n; i++)
			cpx_buf_u32(out, a->v[i]);
		break;
	}
	case K_u64s: {
		const struct cpx_u64s *a = p;

		cpx_buf_u32(out, a->n);
		for (uint32_t i = 0; i < a->n; i++)
			cpx_buf_u64(out, a->v[i]);
		break;
	}
	default:
		v = load_int(f, rec, &width);
		for (size_t i = 0; i < width; i++)
			cpx_buf_u8(out, (uint8_t)(v >> (8 * i)));
	}
}

static int encode_rec(const struct desc *d, const void *rec, struct cpx_buf *out,
		      struct cpx_err *err)
{
	size_t head = out->len, len;

	cpx_buf_u16(out, d->type);
	cpx_buf_u16(out, 0);
	cpx_buf_u32(out, 0);
	for (size_t i = 0; i < d->nfields; i++)
		encode_field(&d->fields[i], rec, out);
	if (out->failed)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to encode records");
	len = out->len - head - 8;
	if (len > 2 * (size_t)CPX_BLOB_MAX || out->len > CPX_STATE_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "the job's state is too large (record %s)",
				   d->name);
	for (size_t i = 0; i < 4; i++)
		out->data[head + 4 + i] = (uint8_t)(len >> (8 * i));
	return 0;
}

int cpx_state_encode(const struct cpx_state *s, struct cpx_buf *out, struct cpx_err *err)
{
	for (size_t t = 0; t < NDESCS; t++) {
		for (size_t i = 0; i < s->lists[t].n; i++) {
			int rc = encode_rec(&descs[t], s->lists[t].recs[i], out, err);

			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static int decode_str(struct cpx_state *s, struct cpx_rd *r, void *to)
{
	uint32_t n = cpx_rd_u32(r);
	const char *p;
	char *copy;

	if (n == 0)
		return 0;
	if (n - 1 > CPX_STR_MAX)
		return CPX_E_LIMIT;
	p = cpx_rd_bytes(r, n - 1);
	if (!p || memchr(p, 0, n - 1))
		return CPX_E_FORMAT;
	copy = cpx_state_alloc(s, n);
	if (!copy)
		return CPX_E_NOMEM;
	memcpy(copy, p, n - 1);
	*(const char **)to = copy;
	return 0;
}

static int decode_array(struct cpx_state *s, struct cpx_rd *r, size_t width, void *to)
{
	uint32_t n = cpx_rd_u32(r);
	struct cpx_blob *b = to; /* the three array kinds have one layout */
	uint8_t *copy;
	const uint8_t *p;

	if (n > CPX_BLOB_MAX / width)
		return CPX_E_LIMIT;
	p = cpx_rd_bytes(r, (size_t)n * width);
	if (!p)
		return CPX_E_FORMAT;
	copy = cpx_state_alloc(s, n ? (size_t)n * width : 1);
	if (!copy)
		return CPX_E_NOMEM;
	memcpy(copy, p, (size_t)n * width);
	b->p = copy;
	b->n = n;
	return 0;
}

static int decode_field(struct cpx_state *s, const struct field *f, struct cpx_rd *r, void *rec)
{
	void *to = (uint8_t *)rec + f->offset;

	switch (f->kind) {
	case K_u8:
		*(uint8_t *)to = cpx_rd_u8(r);
		return 0;
	case K_u16:
		*(uint16_t *)to = cpx_rd_u16(r);
		return 0;
	case K_u32:
	case K_i32:
		*(uint32_t *)to = cpx_rd_u32(r);
		return 0;
	case K_u64:
	case K_i64:
		*(uint64_t *)to = cpx_rd_u64(r);
		return 0;
	case K_str:
		return decode_str(s, r, to);
	case K_blob:
		return decode_array(s, r, 1, to);
	case K_u32s:
		return decode_array(s, r, 4, to);
	case K_u64s:
		return decode_array(s, r, 8, to);
	}
	return CPX_E_FORMAT;
}

static int decode_rec(struct cpx_state *s, const struct desc *d, struct cpx_rd r)
{
	void *rec = cpx_state_add(s, d->type);
	int rc = 0;

	if (!rec)
		return CPX_E_NOMEM;
	for (size_t i = 0; i < d->nfields && cpx_rd_left(&r) && rc == 0; i++)
		rc = decode_field(s, &d->fields[i], &r, rec);
	if (rc == 0 && r.failed)
		rc = CPX_E_FORMAT;
	return rc;
}

static int decode_all(struct cpx_state *s, struct cpx_rd *r, struct cpx_err *err)
{
	while (cpx_rd_left(r)) {
		uint16_t type = cpx_rd_u16(r);
		uint16_t flags = cpx_rd_u16(r);
		uint32_t len = cpx_rd_u32(r);
		const void *body = cpx_rd_bytes(r, len);
		const struct desc *d = find_desc(type);
		int rc;

		if (!body)
			return cpx_err_set(err, CPX_E_FORMAT, "record list is cut off");
		if (!d && (flags & REC_OPTIONAL))
			continue;
		if (!d)
			return cpx_err_set(
				err, CPX_E_FORMAT,
				"record type 0x%04x is unknown: the image was made by a "
				"newer version",
				type);
		rc = decode_rec(s, d, cpx_rd_init(body, len));
		if (rc < 0)
			return cpx_err_set(err, rc, "record '%s' is damaged", d->name);
	}
	return 0;
}

int cpx_state_decode(const void *p, size_t n, struct cpx_state **out, struct cpx_err *err)
{
	struct cpx_rd r = cpx_rd_init(p, n);
	struct cpx_state *s;
	int rc;

	if (n > CPX_STATE_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "record list of %zu bytes is too long", n);
	s = cpx_state_new();
	if (!s)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to read records");
	rc = decode_all(s, &r, err);
	if (rc < 0) {
		cpx_state_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

static void put_text(struct cpx_buf *out, const char *text)
{
	cpx_buf_put(out, text, strlen(text));
}

/* Text from an image may hold anything: control characters are shown as \xNN. */
static void put_quoted(struct cpx_buf *out, const char *text)
{
	char hex[8];

	cpx_buf_u8(out, '"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f || c == '"' || c == '\\') {
			snprintf(hex, sizeof(hex), "\\x%02x", c);
			put_text(out, hex);
		} else {
			cpx_buf_u8(out, c);
		}
	}
	cpx_buf_u8(out, '"');
}

static void print_field(const struct field *f, const void *rec, struct cpx_buf *out)
{
	const void *p = (const uint8_t *)rec + f->offset;
	char text[64];
	size_t width;
	uint64_t v;

	switch (f->kind) {
	case K_str:
		if (*(const char *const *)p)
			put_quoted(out, *(const char *const *)p);
		else
			put_text(out, "-");
		return;
	case K_blob:
		snprintf(text, sizeof(text), "<%" PRIu32 " bytes>",
			 ((const struct cpx_blob *)p)->n);
		break;
	case K_u32s:
	case K_u64s:
		snprintf(text, sizeof(text), "<%" PRIu32 " values>",
			 ((const struct cpx_blob *)p)->n);
		break;
	default:
		v = load_int(f, rec, &width);
		if (f->kind == K_i32 || f->kind == K_i64)
			snprintf(text, sizeof(text), "%" PRId64, (int64_t)v);
		else if (v > 0xfffffff)
			snprintf(text, sizeof(text), "0x%" PRIx64, v);
		else
			snprintf(text, sizeof(text), "%" PRIu64, v);
	}
	put_text(out, text);
}

void cpx_state_print(const struct cpx_state *s, struct cpx_buf *out)
{
	for (size_t t = 0; t < NDESCS; t++) {
		for (size_t i = 0; i < s->lists[t].n; i++) {
			put_text(out, descs[t].name);
			for (size_t k = 0; k < descs[t].nfields; k++) {
				cpx_buf_u8(out, ' ');
				put_text(out, descs[t].fields[k].name);
				cpx_buf_u8(out, '=');
				print_field(&descs[t].fields[k], s->lists[t].recs[i], out);
			}
			cpx_buf_u8(out, '\n');
		}
	}
}

/* Length of the UTF-8 sequence at @p, 0 if it is none. */
static size_t utf8_length(const unsigned char *p)
{
	size_t n = *p < 0x80		     ? 1
		   : *p >= 0xc2 && *p < 0xe0 ? 2
		   : *p >= 0xe0 && *p < 0xf0 ? 3
		   : *p >= 0xf0 && *p < 0xf5 ? 4
					     : 0;

	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	/* overlong forms, surrogates, and beyond U+10FFFF */
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
	    (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

static bool is_utf8(const char *text)
{
	for (size_t n; *text; text += n) {
		n = utf8_length((const unsigned char *)text);
		if (!n)
			return false;
	}
	return true;
}

static void json_text(struct cpx_buf *out, const char *text)
{
	bool whole = is_utf8(text);
	char esc[8];

	cpx_buf_u8(out, '"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f || c == '"' || c == '\\' || (c >= 0x80 && !whole)) {
			snprintf(esc, sizeof(esc), "\\u%04x", c);
			put_text(out, esc);
		} else {
			cpx_buf_u8(out, c);
		}
	}
	cpx_buf_u8(out, '"');
}

static void json_number(struct cpx_buf *out, uint64_t v)
{
	char text[32];

	snprintf(text, sizeof(text), v > INT64_MAX ? "\"0x%" PRIx64 "\"" : "%" PRIu64, v);
	put_text(out, text);
}

static void json_hex(struct cpx_buf *out, const uint8_t *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	cpx_buf_u8(out, '"');
	for (size_t i = 0; i < n; i++) {
		cpx_buf_u8(out, (uint8_t)digits[p[i] >> 4]);
		cpx_buf_u8(out, (uint8_t)digits[p[i] & 15]);
	}
	cpx_buf_u8(out, '"');
}

static void json_array(const struct field *f, const void *p, struct cpx_buf *out)
{
	const struct cpx_u32s *a = p;
	const struct cpx_u64s *b = p;

	cpx_buf_u8(out, '[');
	for (uint32_t i = 0; i < a->n; i++) {
		if (i)
			cpx_buf_u8(out, ',');
		json_number(out, f->kind == K_u32s ? a->v[i] : b->v[i]);
	}
	cpx_buf_u8(out, ']');
}

static void json_field(const struct field *f, const void *rec, struct cpx_buf *out)
{
	const void *p = (const uint8_t *)rec + f->offset;
	const struct cpx_blob *b = p;
	char text[32];
	size_t width;
	uint64_t v;

	switch (f->kind) {
	case K_str:
		if (*(const char *const *)p)
			json_text(out, *(const char *const *)p);
		else
			put_text(out, "null");
		return;
	case K_blob:
		json_hex(out, b->p, b->n);
		return;
	case K_u32s:
	case K_u64s:
		json_array(f, p, out);
		return;
	default:
		v = load_int(f, rec, &width);
		if (f->kind != K_i32 && f->kind != K_i64) {
			json_number(out, v);
			return;
		}
		snprintf(text, sizeof(text), "%" PRId64, (int64_t)v);
		put_text(out, text);
	}
}

void cpx_state_print_json(const struct cpx_state *s, struct cpx_buf *out)
{
	const char *sep = "";

	cpx_buf_u8(out, '[');
	for (size_t t = 0; t < NDESCS; t++) {
		for (size_t i = 0; i < s->lists[t].n; i++) {
			put_text(out, sep);
			put_text(out, "{\"record\":");
			json_text(out, descs[t].name);
			for (size_t k = 0; k < descs[t].nfields; k++) {
				cpx_buf_u8(out, ',');
				json_text(out, descs[t].fields[k].name);
				cpx_buf_u8(out, ':');
				json_field(&descs[t].fields[k], s->lists[t].recs[i], out);
			}
			cpx_buf_u8(out, '}');
			sep = ",\n";
		}
	}
	cpx_buf_u8(out, ']');
}
