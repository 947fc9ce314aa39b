/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * manifest.c - sections {u16 type, u16 flags, u32 length, body} between a head and a digest.
 *
 * The digest is over all bytes before it and is checked first; what the decoder then
 * meets is what an encoder wrote, or was forged, so every number is checked all the same.
 */
#include "format.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../chpox/base/buf.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "codec.h"
#include "state.h"

static const char manifest_magic[8] = "chpoxMF1";
#define HEAD 24u
#define SECTION_OPTIONAL 1u
#define STATE_PACK_MIN 1024u /* shorter record lists are not compressed */

enum section { SEC_ID = 1, SEC_SIZES, SEC_NOTE, SEC_PACKS, SEC_MAP, SEC_STATE, SEC_COUNT };

static void patch_le(uint8_t *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static void put_gen(struct cpx_buf *b, const struct cpx_gen_id *id)
{
	size_t n = strlen(id->job);

	cpx_buf_u8(b, (uint8_t)n);
	cpx_buf_put(b, id->job, n);
	cpx_buf_u64(b, id->epoch);
	cpx_buf_u64(b, id->seq);
	cpx_buf_put(b, id->nonce, 16);
}

static bool get_gen(struct cpx_rd *r, struct cpx_gen_id *id)
{
	uint8_t n = cpx_rd_u8(r);
	const void *p;

	memset(id, 0, sizeof(*id));
	if (n >= CPX_JOB_NAME_MAX)
		return false;
	p = cpx_rd_bytes(r, n);
	if (p)
		memcpy(id->job, p, n);
	id->epoch = cpx_rd_u64(r);
	id->seq = cpx_rd_u64(r);
	p = cpx_rd_bytes(r, 16);
	if (p)
		memcpy(id->nonce, p, 16);
	return !r->failed && strlen(id->job) == n && cpx_gen_valid(id);
}

static int enc_id(const struct cpx_manifest *m, struct cpx_buf *b)
{
	put_gen(b, &m->id);
	cpx_buf_u64(b, (uint64_t)m->realtime_ns);
	cpx_buf_u8(b, m->has_base);
	if (m->has_base)
		put_gen(b, &m->base);
	return 0;
}

static int dec_id(struct cpx_rd *r, struct cpx_manifest *m)
{
	uint8_t has_base;

	if (!get_gen(r, &m->id))
		return CPX_E_FORMAT;
	m->realtime_ns = (int64_t)cpx_rd_u64(r);
	has_base = cpx_rd_u8(r);
	if (has_base > 1 || (has_base && !get_gen(r, &m->base)))
		return CPX_E_FORMAT;
	m->has_base = has_base;
	return 0;
}

static int enc_sizes(const struct cpx_manifest *m, struct cpx_buf *b)
{
	cpx_buf_u64(b, m->stats.bytes_memory);
	cpx_buf_u64(b, m->stats.bytes_zero);
	cpx_buf_u64(b, m->stats.bytes_stored);
	cpx_buf_u64(b, m->stats.pages_inherited);
	return 0;
}

static int dec_sizes(struct cpx_rd *r, struct cpx_manifest *m)
{
	m->stats.bytes_memory = cpx_rd_u64(r);
	m->stats.bytes_zero = cpx_rd_u64(r);
	m->stats.bytes_stored = cpx_rd_u64(r);
	m->stats.pages_inherited = cpx_rd_u64(r);
	return 0;
}

static int enc_note(const struct cpx_manifest *m, struct cpx_buf *b)
{
	size_t n = m->note ? strnlen(m->note, CPX_NOTE_MAX) : 0;

	cpx_buf_put(b, m->note, n);
	return 0;
}

static int dec_note(struct cpx_rd *r, struct cpx_manifest *m)
{
	size_t n = cpx_rd_left(r);
	const void *p = cpx_rd_bytes(r, n);

	if (n > CPX_NOTE_MAX || memchr(p, 0, n))
		return CPX_E_FORMAT;
	m->note = strndup(p, n);
	return m->note ? 0 : CPX_E_NOMEM;
}

static int enc_packs(const struct cpx_manifest *m, struct cpx_buf *b)
{
	cpx_buf_u32(b, m->npacks);
	for (uint32_t i = 0; i < m->npacks; i++) {
		const struct cpx_pack_info *p = &m->packs[i];

		cpx_buf_u32(b, p->id);
		cpx_buf_u32(b, p->k);
		cpx_buf_u64(b, p->epoch);
		cpx_buf_u64(b, p->seq);
		cpx_buf_put(b, p->nonce, 16);
		cpx_buf_u64(b, p->size);
		cpx_buf_u64(b, p->table_off);
		cpx_buf_u32(b, p->nblocks);
		cpx_buf_put(b, p->digest, CPX_DIGEST);
	}
	return 0;
}
#define PACK_INFO_SIZE 76u

static bool pack_ok(const struct cpx_pack_info *p)
{
	return p->id && strnlen(p->nonce, 17) == 16 &&
	       strspn(p->nonce, "0123456789abcdef") == 16 && p->size <= 2ull * CPX_PACK_MAX &&
	       p->nblocks && p->nblocks <= CPX_PACK_BLOCKS_MAX &&
	       p->table_off > CPX_PACK_HEADER && p->table_off <= p->size &&
	       p->size - p->table_off == (uint64_t)p->nblocks * CPX_TABLE_ENTRY;
}

static int dec_packs(struct cpx_rd *r, struct cpx_manifest *m)
{
	uint32_t n = cpx_rd_u32(r), last = 0;

	if (n > CPX_PACKS_MAX || cpx_rd_left(r) != (size_t)n * PACK_INFO_SIZE)
		return CPX_E_FORMAT;
	m->packs = calloc((size_t)n + 1, sizeof(*m->packs));
	if (!m->packs)
		return CPX_E_NOMEM;
	m->npacks = n;
	for (uint32_t i = 0; i < n; i++) {
		struct cpx_pack_info *p = &m->packs[i];

		p->id = cpx_rd_u32(r);
		p->k = cpx_rd_u32(r);
		p->epoch = cpx_rd_u64(r);
		p->seq = cpx_rd_u64(r);
		memcpy(p->nonce, cpx_rd_bytes(r, 16), 16);
		p->size = cpx_rd_u64(r);
		p->table_off = cpx_rd_u64(r);
		p->nblocks = cpx_rd_u32(r);
		memcpy(p->digest, cpx_rd_bytes(r, CPX_DIGEST), CPX_DIGEST);
		if (!pack_ok(p) || p->id <= last)
			return CPX_E_FORMAT;
		last = p->id;
	}
	return 0;
}

static int enc_map(const struct cpx_manifest *m, struct cpx_buf *b)
{
	cpx_buf_u32(b, m->nsegs);
	for (uint32_t i = 0; i < m->nsegs; i++) {
		const struct cpx_seg_ref *s = &m->segs[i];

		cpx_buf_u32(b, s->space);
		cpx_buf_u64(b, s->seg);
		cpx_buf_u32(b, s->pages);
		cpx_buf_u8(b, (uint8_t)s->nruns);
		for (uint32_t k = 0; k < s->nruns; k++) {
			cpx_buf_u32(b, s->runs[k].pack);
			cpx_buf_u32(b, s->runs[k].block);
		}
	}
	return 0;
}
#define SEG_REF_MIN 25u

static int dec_seg_ref(struct cpx_rd *r, const struct cpx_manifest *m, struct cpx_seg_ref *s)
{
	s->space = cpx_rd_u32(r);
	s->seg = cpx_rd_u64(r);
	s->pages = cpx_rd_u32(r);
	s->nruns = cpx_rd_u8(r);
	if (r->failed || !s->nruns || s->nruns > CPX_SEG_RUNS_MAX || s->pages > CPX_SEG_PAGES ||
	    s->seg >= 1ull << (64 - CPX_SEG_SHIFT))
		return CPX_E_FORMAT;
	for (uint32_t k = 0; k < s->nruns; k++) {
		const struct cpx_pack_info *p;

		s->runs[k].pack = cpx_rd_u32(r);
		s->runs[k].block = cpx_rd_u32(r);
		p = cpx_manifest_pack(m, s->runs[k].pack);
		if (r->failed || !p || s->runs[k].block >= p->nblocks)
			return CPX_E_FORMAT;
	}
	return 0;
}

static bool seg_before(const struct cpx_seg_ref *a, const struct cpx_seg_ref *b)
{
	return a->space < b->space || (a->space == b->space && a->seg < b->seg);
}

static int dec_map(struct cpx_rd *r, struct cpx_manifest *m)
{
	uint32_t n = cpx_rd_u32(r);

	if (n > CPX_SEGS_MAX || n > cpx_rd_left(r) / SEG_REF_MIN)
		return CPX_E_FORMAT;
	m->segs = calloc((size_t)n + 1, sizeof(*m->segs));
	if (!m->segs)
		return CPX_E_NOMEM;
	m->nsegs = n;
	for (uint32_t i = 0; i < n; i++) {
		if (dec_seg_ref(r, m, &m->segs[i]) < 0)
			return CPX_E_FORMAT;
		if (i && !seg_before(&m->segs[i - 1], &m->segs[i]))
			return CPX_E_FORMAT;
	}
	return 0;
}

static int enc_state(const struct cpx_manifest *m, struct cpx_buf *b)
{
	CPX_AUTO_FREE uint8_t *small = NULL;
	struct cpx_codec_ctx *c = NULL;
	size_t n = 0;

	if (m->state_len >= STATE_PACK_MIN) {
		small = malloc(m->state_len);
		if (!small || cpx_codec_new(CPX_CODEC_LZ4, 0, &c, NULL) < 0)
			return CPX_E_NOMEM;
		n = cpx_codec_pack(c, m->state, m->state_len, small);
		cpx_codec_free(c);
	}
	cpx_buf_u32(b, n ? CPX_CODEC_LZ4 : CPX_CODEC_NONE);
	cpx_buf_u64(b, m->state_len);
	cpx_buf_put(b, n ? small : m->state, n ? n : m->state_len);
	return 0;
}

static int dec_state(struct cpx_rd *r, struct cpx_manifest *m)
{
	uint32_t codec = cpx_rd_u32(r);
	uint64_t raw = cpx_rd_u64(r);
	size_t n = cpx_rd_left(r);
	const void *p = cpx_rd_bytes(r, n);

	if (codec > CPX_CODEC_ZLIB || raw > CPX_STATE_MAX || !p)
		return CPX_E_FORMAT;
	m->state_len = raw;
	m->state_stored = n;
	if (!m->state)
		return 0; /* not wanted */
	free(m->state);
	m->state = malloc(raw + 1);
	if (!m->state)
		return CPX_E_NOMEM;
	return cpx_codec_unpack((int)codec, p, n, m->state, raw);
}

static const struct {
	const char *name;
	int (*encode)(const struct cpx_manifest *m, struct cpx_buf *b);
	int (*decode)(struct cpx_rd *r, struct cpx_manifest *m);
} sections[SEC_COUNT] = {
	[SEC_ID] = { "id", enc_id, dec_id },
	[SEC_SIZES] = { "sizes", enc_sizes, dec_sizes },
	[SEC_NOTE] = { "note", enc_note, dec_note },
	[SEC_PACKS] = { "packs", enc_packs, dec_packs },
	[SEC_MAP] = { "map", enc_map, dec_map },
	[SEC_STATE] = { "state", enc_state, dec_state },
};

static void digest_of(const void *p, size_t n, uint8_t out[CPX_DIGEST])
{
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, XXH3_128bits(p, n));
	memcpy(out, c.digest, CPX_DIGEST);
}

int cpx_manifest_encode(const struct cpx_manifest *m, struct cpx_buf *out, struct cpx_err *err)
{
	uint8_t digest[CPX_DIGEST];

	cpx_buf_put(out, manifest_magic, 8);
	cpx_buf_u32(out, CPX_FORMAT_VERSION);
	cpx_buf_u32(out, 0);
	cpx_buf_u64(out, 0);
	for (int t = SEC_ID; t < SEC_COUNT; t++) {
		size_t head = out->len;
		int rc;

		cpx_buf_u16(out, (uint16_t)t);
		cpx_buf_u16(out, 0);
		cpx_buf_u32(out, 0);
		rc = sections[t].encode(m, out);
		if (rc < 0 || out->failed)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for the manifest");
		if (out->len > CPX_MANIFEST_MAX)
			return cpx_err_set(err, CPX_E_LIMIT, "the manifest is too large");
		patch_le(out->data + head + 4, out->len - head - 8, 4);
	}
	patch_le(out->data + 16, out->len + CPX_DIGEST, 8);
	digest_of(out->data, out->len, digest);
	cpx_buf_put(out, digest, CPX_DIGEST);
	if (out->failed)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the manifest");
	return 0;
}

static int check_head(const uint8_t *p, size_t n, const char *what, struct cpx_err *err)
{
	struct cpx_rd r = cpx_rd_init(p, n);
	uint8_t digest[CPX_DIGEST];
	const void *magic = cpx_rd_bytes(&r, 8);
	uint32_t version = cpx_rd_u32(&r), flags = cpx_rd_u32(&r);
	uint64_t size = cpx_rd_u64(&r);

	if (!magic || r.failed || n < HEAD + CPX_DIGEST)
		return cpx_err_set(err, CPX_E_CHECKSUM, "%s is cut off", what);
	if (memcmp(magic, manifest_magic, 8) != 0)
		return cpx_err_set(err, CPX_E_FORMAT, "%s is not a manifest", what);
	if (version != CPX_FORMAT_VERSION)
		return cpx_err_set(err, CPX_E_FORMAT,
				   "%s has format version %u; this program reads %u", what,
				   version, CPX_FORMAT_VERSION);
	if (size != n)
		return cpx_err_set(err, CPX_E_CHECKSUM, "%s has %zu bytes instead of %llu",
				   what, n, (unsigned long long)size);
	digest_of(p, n - CPX_DIGEST, digest);
	if (memcmp(digest, p + n - CPX_DIGEST, CPX_DIGEST) != 0)
		return cpx_err_set(err, CPX_E_CHECKSUM,
				   "%s was changed: its digest does not fit", what);
	if (flags)
		return cpx_err_set(err, CPX_E_FORMAT, "%s needs a newer version", what);
	return 0;
}

/* One section; @next: the type that must come. Return: 0 skipped, 1 taken, or an error. */
static int decode_section(struct cpx_rd *r, int next, struct cpx_manifest *m, const char *what,
			  struct cpx_err *err)
{
	uint16_t type = cpx_rd_u16(r), flags = cpx_rd_u16(r);
	uint32_t len = cpx_rd_u32(r);
	const void *body = cpx_rd_bytes(r, len);
	struct cpx_rd sub;
	int rc;

	if (!body)
		return cpx_err_set(err, CPX_E_FORMAT, "%s: a section is cut off", what);
	if (type >= SEC_COUNT && (flags & SECTION_OPTIONAL))
		return 0;
	if (type >= SEC_COUNT)
		return cpx_err_set(err, CPX_E_FORMAT, "%s: section %u is of a newer version",
				   what, type);
	if (type != next)
		return cpx_err_set(err, CPX_E_FORMAT, "%s: section %u out of place", what,
				   type);
	sub = cpx_rd_init(body, len);
	rc = sections[type].decode(&sub, m);
	if (rc == 0 && sub.failed)
		rc = CPX_E_FORMAT;
	if (rc < 0)
		return cpx_err_set(err, rc, "%s: section '%s' is damaged", what,
				   sections[type].name);
	return 1;
}

static int decode_sections(const uint8_t *p, size_t n, const char *what, struct cpx_manifest *m,
			   struct cpx_err *err)
{
	struct cpx_rd r = cpx_rd_init(p + HEAD, n - HEAD - CPX_DIGEST);
	int next = SEC_ID;

	while (cpx_rd_left(&r)) {
		int rc = decode_section(&r, next, m, what, err);

		if (rc < 0)
			return rc;
		next += rc;
	}
	if (next != SEC_COUNT)
		return cpx_err_set(err, CPX_E_FORMAT, "%s: section '%s' is missing", what,
				   sections[next].name);
	return 0;
}

int cpx_manifest_decode(const void *p, size_t n, const char *what, bool want_state,
			struct cpx_manifest *m, struct cpx_err *err)
{
	struct cpx_manifest got = { 0 };
	int rc = check_head(p, n, what, err);

	if (rc < 0)
		return rc;
	if (want_state) {
		got.state = malloc(1);
		if (!got.state)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory to read %s", what);
	}
	rc = decode_sections(p, n, what, &got, err);
	if (rc < 0) {
		cpx_manifest_free(&got);
		return rc;
	}
	*m = got;
	return 0;
}

void cpx_manifest_free(struct cpx_manifest *m)
{
	cpx_freep(&m->note);
	cpx_freep(&m->packs);
	cpx_freep(&m->segs);
	cpx_freep(&m->state);
}

const struct cpx_pack_info *cpx_manifest_pack(const struct cpx_manifest *m, uint32_t id)
{
	uint32_t lo = 0, hi = m->npacks;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (m->packs[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < m->npacks && m->packs[lo].id == id ? &m->packs[lo] : NULL;
}

uint32_t cpx_manifest_seg(const struct cpx_manifest *m, uint32_t space, uint64_t seg)
{
	const struct cpx_seg_ref key = { .space = space, .seg = seg };
	uint32_t lo = 0, hi = m->nsegs;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (seg_before(&m->segs[mid], &key))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}
