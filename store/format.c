/* SPDX-License-Identifier: GPL-2.0-or-later */
/* format.c - pack tables and map segments; the manifest is in manifest.c. */
#include "format.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../chpox/base/buf.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

static const char pack_magic[8] = "chpoxPK1";
#define SEG_MAGIC 0x31474553u /* "SEG1" */

static void put_le(uint8_t *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

void cpx_pack_header(const struct cpx_gen_id *id, uint32_t k, uint8_t out[CPX_PACK_HEADER])
{
	memcpy(out, pack_magic, 8);
	put_le(out + 8, CPX_FORMAT_VERSION, 4);
	put_le(out + 12, k, 4);
	put_le(out + 16, id->epoch, 8);
	put_le(out + 24, id->seq, 8);
	memcpy(out + 32, id->nonce, 16);
	put_le(out + 48, XXH3_64bits(id->job, strlen(id->job)), 8);
	put_le(out + 56, XXH3_64bits(out, 56), 8);
}

void cpx_pack_digest(const uint8_t header[CPX_PACK_HEADER], const void *table, size_t n,
		     uint8_t out[CPX_DIGEST])
{
	XXH128_canonical_t c;
	XXH128_hash_t h = XXH3_128bits(header, CPX_PACK_HEADER);

	h = XXH3_128bits_withSeed(table, n, h.low64 ^ h.high64);
	XXH128_canonicalFromHash(&c, h);
	memcpy(out, c.digest, CPX_DIGEST);
}

void cpx_table_put(struct cpx_buf *out, const struct cpx_block *b)
{
	cpx_buf_u32(out, b->stored);
	cpx_buf_u32(out, b->raw);
	cpx_buf_u8(out, b->codec);
	cpx_buf_u8(out, b->kind);
	cpx_buf_u16(out, 0);
	cpx_buf_u64(out, b->sum);
}

static bool block_ok(const struct cpx_block *b, uint16_t zero)
{
	if (zero || b->codec > CPX_CODEC_ZLIB || !b->raw || !b->stored || b->stored > b->raw ||
	    (b->codec == CPX_CODEC_NONE && b->stored != b->raw))
		return false;
	if (b->kind == CPX_BLOCK_DATA)
		return b->raw <= CPX_BLOCK_RAW && b->raw % CPX_PAGE == 0;
	return b->kind == CPX_BLOCK_SEGMENT && b->raw <= CPX_SEG_RAW_MAX;
}

int cpx_table_decode(const struct cpx_pack_info *info, const void *p, size_t n,
		     const char *what, struct cpx_block **out, struct cpx_err *err)
{
	struct cpx_rd r = cpx_rd_init(p, n);
	CPX_AUTO_FREE struct cpx_block *tab = NULL;
	uint64_t off = CPX_PACK_HEADER;

	if (n != (size_t)info->nblocks * CPX_TABLE_ENTRY)
		return cpx_err_set(err, CPX_E_FORMAT, "%s: table of the wrong length", what);
	tab = calloc((size_t)info->nblocks + 1, sizeof(*tab));
	if (!tab)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the table of %s", what);
	for (uint32_t i = 0; i < info->nblocks; i++) {
		struct cpx_block *b = &tab[i];
		uint16_t zero;

		b->off = off;
		b->stored = cpx_rd_u32(&r);
		b->raw = cpx_rd_u32(&r);
		b->codec = cpx_rd_u8(&r);
		b->kind = cpx_rd_u8(&r);
		zero = cpx_rd_u16(&r);
		b->sum = cpx_rd_u64(&r);
		if (r.failed || !block_ok(b, zero))
			return cpx_err_set(err, CPX_E_FORMAT, "%s: block %u is impossible",
					   what, i);
		off += b->stored;
	}
	if (off != info->table_off)
		return cpx_err_set(err, CPX_E_FORMAT, "%s: blocks do not fill the file", what);
	*out = cpx_steal_ptr(&tab);
	return 0;
}

/* How many cells from @i on make one entry. */
static uint32_t run_length(const struct cpx_cell *cells, const bool *keep_zero, uint32_t i)
{
	uint32_t n = 1;

	while (i + n < CPX_SEG_PAGES && cells[i + n].pack == cells[i].pack) {
		if (cells[i].pack ? cells[i + n].pos != cells[i].pos + n : !keep_zero[i + n])
			break;
		n++;
	}
	return n;
}

int cpx_seg_encode(uint32_t space, uint64_t seg, const struct cpx_cell cells[CPX_SEG_PAGES],
		   const bool *keep_zero, struct cpx_buf *out)
{
	size_t head = out->len;
	uint32_t count = 0, n;

	cpx_buf_u32(out, SEG_MAGIC);
	cpx_buf_u32(out, space);
	cpx_buf_u64(out, seg);
	cpx_buf_u32(out, 0);
	for (uint32_t i = 0; i < CPX_SEG_PAGES; i += n) {
		n = 1;
		if (!cells[i].pack && (!keep_zero || !keep_zero[i]))
			continue;
		n = run_length(cells, keep_zero, i);
		cpx_buf_u16(out, (uint16_t)i);
		cpx_buf_u16(out, (uint16_t)(n - 1));
		cpx_buf_u32(out, cells[i].pack);
		cpx_buf_u32(out, cells[i].pack ? cells[i].pos : 0);
		count++;
	}
	if (out->failed)
		return CPX_E_NOMEM;
	put_le(out->data + head + 16, count, 4);
	return 0;
}

static int decode_entries(struct cpx_rd *r, struct cpx_seg_entry *e, uint32_t count)
{
	uint32_t next = 0;

	for (uint32_t i = 0; i < count; i++) {
		e[i].page = cpx_rd_u16(r);
		e[i].count = cpx_rd_u16(r) + 1u;
		e[i].pack = cpx_rd_u32(r);
		e[i].pos = cpx_rd_u32(r);
		if (r->failed || e[i].page < next || e[i].page + e[i].count > CPX_SEG_PAGES ||
		    e[i].pos > UINT32_MAX - CPX_SEG_PAGES || (!e[i].pack && e[i].pos))
			return CPX_E_FORMAT;
		next = e[i].page + e[i].count;
	}
	return 0;
}

int64_t cpx_seg_decode(const void *p, size_t n, uint32_t space, uint64_t seg,
		       struct cpx_seg_entry **out, struct cpx_err *err)
{
	struct cpx_rd r = cpx_rd_init(p, n);
	CPX_AUTO_FREE struct cpx_seg_entry *e = NULL;
	bool right =
		cpx_rd_u32(&r) == SEG_MAGIC && cpx_rd_u32(&r) == space && cpx_rd_u64(&r) == seg;
	uint32_t count = cpx_rd_u32(&r);

	if (!right || r.failed || cpx_rd_left(&r) != (size_t)count * CPX_SEG_ENTRY ||
	    count > CPX_SEG_PAGES)
		return cpx_err_set(err, CPX_E_FORMAT, "map segment %llx of space %u is damaged",
				   (unsigned long long)seg, space);
	e = calloc((size_t)count + 1, sizeof(*e));
	if (!e)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a map segment");
	if (decode_entries(&r, e, count) < 0)
		return cpx_err_set(err, CPX_E_FORMAT, "map segment %llx of space %u is damaged",
				   (unsigned long long)seg, space);
	*out = cpx_steal_ptr(&e);
	return count;
}

void cpx_seg_paint(struct cpx_cell cells[CPX_SEG_PAGES], const struct cpx_seg_entry *e,
		   size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < e[i].count; k++)
			cells[e[i].page + k] =
				(struct cpx_cell){ .pack = e[i].pack,
						   .pos = e[i].pack ? e[i].pos + k : 0 };
}
