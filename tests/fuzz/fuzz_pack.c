/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is in packs: tables, map segments, compressed blocks, and names of files. The
 * first byte says which.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "chpox/base/buf.h"
#include "store/codec.h"
#include "store/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_table(const uint8_t *p, size_t n)
{
	struct cpx_pack_info info = { .nblocks = (uint32_t)(n / CPX_TABLE_ENTRY),
				      .table_off = CPX_PACK_HEADER };
	struct cpx_block *tab;

	/* the sum of the lengths is what a manifest would say */
	for (uint32_t i = 0; i < info.nblocks; i++) {
		struct cpx_rd r = cpx_rd_init(p + (size_t)i * CPX_TABLE_ENTRY, 4);

		info.table_off += cpx_rd_u32(&r);
	}
	if (cpx_table_decode(&info, p, n, "fuzz", &tab, NULL) == 0)
		free(tab);
}

static void use_segment(const uint8_t *p, size_t n)
{
	struct cpx_cell *cells, *again;
	struct cpx_seg_entry *e;
	struct cpx_buf b = { 0 };
	struct cpx_rd r = cpx_rd_init(p, n);
	uint32_t space;
	uint64_t seg;
	int64_t count;

	cpx_rd_u32(&r);
	space = cpx_rd_u32(&r);
	seg = cpx_rd_u64(&r);
	count = cpx_seg_decode(p, n, space, seg, &e, NULL);
	if (count < 0)
		return;
	cells = calloc(CPX_SEG_PAGES, sizeof(*cells));
	again = calloc(CPX_SEG_PAGES, sizeof(*again));
	cpx_seg_paint(cells, e, (size_t)count);
	free(e);
	if (cpx_seg_encode(space, seg, cells, NULL, &b) < 0)
		abort();
	count = cpx_seg_decode(b.data, b.len, space, seg, &e, NULL);
	if (count < 0)
		abort();
	cpx_seg_paint(again, e, (size_t)count);
	if (memcmp(cells, again, CPX_SEG_PAGES * sizeof(*cells)) != 0)
		abort();
	free(e);
	free(cells);
	free(again);
	cpx_buf_free(&b);
}

static void use_block(int codec, const uint8_t *p, size_t n)
{
	uint8_t *out = malloc(CPX_BLOCK_RAW);

	cpx_codec_unpack(codec, p, n, out, CPX_BLOCK_RAW);
	cpx_codec_unpack(codec, p, n, out, n % CPX_BLOCK_RAW);
	free(out);
}

static void use_name(const uint8_t *p, size_t n)
{
	char *name = strndup((const char *)p, n), back[CPX_NAME_MAX];
	struct cpx_gen_id id = { .job = "j" };
	uint32_t k = 0;

	switch (cpx_name_parse(name, &id, &k)) {
	case CPX_NAME_PACK:
		cpx_name_pack(id.job, id.epoch, id.seq, id.nonce, k, back);
		break;
	case CPX_NAME_MANIFEST:
		cpx_name_manifest(&id, false, back);
		if (strcmp(back + strlen("jobs/j/"), name) != 0)
			abort();
		break;
	default:
		break;
	}
	cpx_job_name_valid(name);
	free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	switch (data[0] % 6) {
	case 0:
		use_table(data + 1, size - 1);
		break;
	case 1:
		use_segment(data + 1, size - 1);
		break;
	case 2:
		use_name(data + 1, size - 1);
		break;
	default:
		use_block(data[0] % 6 - 3, data + 1, size - 1);
	}
	return 0;
}
