/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole images whose digests and checksums are right and whose contents are not: a
 * forger's. The input gives the blocks, the entries of the map segments and the
 * references to them; the image is opened, verified, scanned, read and printed.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "chpox/base/buf.h"
#include "chpox/base/err.h"
#include "store/codec.h"
#include "store/format.h"
#include "store/objio.h"
#include "store/store_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BLOCKS 4
#define SEGS 3

static const struct cpx_gen_id gen = {
	.job = "job", .epoch = 1, .seq = 1, .nonce = "0123456789abcdef"
};

/* In build/, for libFuzzer leaves without cleaning up; its files are made anew each time. */
static struct cpx_store *the_store(void)
{
	static struct cpx_store *s;
	const struct cpx_store_opts opts = { .create = true,
					     .uid = (uint32_t)-1,
					     .gid = (uint32_t)-1 };

	if (s)
		return s;
	mkdir("build", 0755);
	mkdir("build/fuzz", 0755);
	if (cpx_store_open("build/fuzz/image-store", &opts, &s, NULL) < 0)
		abort();
	cpx_io_mkdir(&s->io, "jobs", NULL);
	cpx_io_mkdir(&s->io, "jobs/job", NULL);
	return s;
}

static void put_file(struct cpx_store *s, const char *name, const struct cpx_buf *b)
{
	struct cpx_io_file f;

	cpx_io_unlink(&s->io, name, NULL);
	if (cpx_io_create(&s->io, name, &f, NULL) < 0 ||
	    cpx_io_write(&f, b->data, b->len, 0, NULL) < 0)
		abort();
	cpx_io_close(&f);
}

/* One more block in @pack and @table. */
static void put_block(struct cpx_buf *pack, struct cpx_buf *table, int kind, int codec,
		      uint32_t raw, const void *p, size_t n)
{
	struct cpx_block b = { .stored = (uint32_t)n,
			       .raw = raw,
			       .kind = (uint8_t)kind,
			       .codec = (uint8_t)codec,
			       .sum = XXH3_64bits(p, n) };

	cpx_table_put(table, &b);
	cpx_buf_put(pack, p, n);
}

static void put_data(struct cpx_rd *r, struct cpx_buf *pack, struct cpx_buf *table)
{
	uint8_t pages = cpx_rd_u8(r) % 16 + 1;
	uint8_t *raw = malloc((size_t)pages * CPX_PAGE), *small = malloc(CPX_BLOCK_RAW);
	struct cpx_codec_ctx *c;
	size_t n;

	memset(raw, pages, (size_t)pages * CPX_PAGE);
	if (cpx_codec_new(CPX_CODEC_LZ4, 0, &c, NULL) < 0)
		abort();
	n = cpx_codec_pack(c, raw, (size_t)pages * CPX_PAGE, small);
	put_block(pack, table, CPX_BLOCK_DATA, CPX_CODEC_LZ4, pages * CPX_PAGE, small, n);
	cpx_codec_free(c);
	free(raw);
	free(small);
}

static void put_segment(struct cpx_rd *r, struct cpx_buf *pack, struct cpx_buf *table,
			uint32_t seg)
{
	uint32_t n = cpx_rd_u8(r) % 8;
	struct cpx_buf b = { 0 };

	cpx_buf_u32(&b, 0x31474553);
	cpx_buf_u32(&b, 1);
	cpx_buf_u64(&b, seg);
	cpx_buf_u32(&b, n);
	for (uint32_t i = 0; i < n; i++) {
		cpx_buf_u16(&b, cpx_rd_u16(r));
		cpx_buf_u16(&b, cpx_rd_u16(r));
		cpx_buf_u32(&b, cpx_rd_u8(r) % 3);
		cpx_buf_u32(&b, cpx_rd_u16(r) % 256);
	}
	put_block(pack, table, CPX_BLOCK_SEGMENT, CPX_CODEC_NONE, (uint32_t)b.len, b.data,
		  b.len);
	cpx_buf_free(&b);
}

static void make_image(struct cpx_store *s, struct cpx_rd *r)
{
	uint8_t header[CPX_PACK_HEADER];
	struct cpx_buf pack = { 0 }, table = { 0 }, out = { 0 };
	struct cpx_pack_info info = { .id = 1, .epoch = 1, .seq = 1, .nblocks = BLOCKS + SEGS };
	struct cpx_seg_ref segs[SEGS] = { 0 };
	struct cpx_manifest m = { .id = gen,
				  .note = (char *)"x",
				  .packs = &info,
				  .npacks = 1,
				  .segs = segs,
				  .nsegs = SEGS };
	char name[CPX_NAME_MAX];

	memcpy(info.nonce, gen.nonce, 17);
	cpx_pack_header(&gen, 0, header);
	cpx_buf_put(&pack, header, sizeof(header));
	for (int i = 0; i < BLOCKS; i++)
		put_data(r, &pack, &table);
	for (uint32_t i = 0; i < SEGS; i++)
		put_segment(r, &pack, &table, i);
	info.table_off = pack.len;
	cpx_buf_put(&pack, table.data, table.len);
	info.size = pack.len;
	cpx_pack_digest(header, table.data, table.len, info.digest);
	for (uint32_t i = 0; i < SEGS; i++) {
		segs[i] = (struct cpx_seg_ref){ .space = 1, .seg = i, .nruns = 1 };
		segs[i].pages = cpx_rd_u16(r) % 256;
		segs[i].nruns = cpx_rd_u8(r) % 2 + 1;
		segs[i].runs[0] = (struct cpx_seg_run){ 1, BLOCKS + i };
		segs[i].runs[1] = (struct cpx_seg_run){ 1, cpx_rd_u8(r) % (BLOCKS + SEGS) };
	}
	if (cpx_manifest_encode(&m, &out, NULL) < 0)
		abort();
	cpx_name_pack(gen.job, 1, 1, gen.nonce, 0, name);
	put_file(s, name, &pack);
	cpx_name_manifest(&gen, false, name);
	put_file(s, name, &out);
	cpx_buf_free(&pack);
	cpx_buf_free(&table);
	cpx_buf_free(&out);
}

/* Touches every byte. */
static int sink(void *ctx, uint32_t space, uint64_t off, const void *data, size_t len,
		struct cpx_err *err)
{
	(void)space;
	(void)off;
	(void)err;
	*(uint64_t *)ctx += XXH3_64bits(data, len);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct cpx_extent all = { 1, 0, (uint64_t)SEGS << CPX_SEG_SHIFT };
	struct cpx_store *s = the_store();
	struct cpx_rd r = cpx_rd_init(data, size);
	struct cpx_buf text = { 0 };
	struct cpx_extent *x = NULL;
	struct cpx_image *img;
	uint8_t page[CPX_PAGE];
	uint64_t sum = 0;

	make_image(s, &r);
	if (cpx_image_open(s, &gen, &img, NULL) < 0)
		return 0;
	cpx_image_verify(img, 1, NULL);
	cpx_image_scan(img, &all, 1, 1, sink, &sum, NULL);
	for (uint64_t off = 0; off < 16; off++)
		cpx_image_read(img, 1, off * 308 * CPX_PAGE, page, sizeof(page), NULL);
	if (cpx_image_extents(img, 1, 0, all.len, &x, NULL) >= 0)
		free(x);
	cpx_image_print(img, sum & 1, &text, NULL);
	cpx_buf_free(&text);
	cpx_image_close(img);
	return 0;
}
