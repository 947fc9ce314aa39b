/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * format.h - the bytes of manifests, packs and map segments (docs/image-format.md).
 *
 * Encoders append to a buffer; decoders are total: any input gives a checked result or
 * CPX_E_FORMAT, CPX_E_CHECKSUM, CPX_E_LIMIT, CPX_E_NOMEM, and leaves nothing behind on failure.
 */
#ifndef CPX_STORE_FORMAT_H
#define CPX_STORE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image.h"

struct cpx_buf;
struct cpx_err;

#define CPX_FORMAT_VERSION 1u
#define CPX_BLOCK_PAGES 16u
#define CPX_BLOCK_RAW (CPX_BLOCK_PAGES * CPX_PAGE)
#define CPX_PACK_MAX (128u << 20)
#define CPX_PACK_HEADER 64u
#define CPX_PACK_BLOCKS_MAX (1u << 20)
#define CPX_TABLE_ENTRY 20u
#define CPX_SEG_SHIFT 26 /* a map segment covers 64 MiB of a space */
#define CPX_SEG_PAGES (1u << (CPX_SEG_SHIFT - 12))
#define CPX_SEG_RUNS_MAX 9 /* a base and eight deltas */
#define CPX_SEG_HEADER 20u
#define CPX_SEG_ENTRY 12u
#define CPX_SEG_RAW_MAX (CPX_SEG_HEADER + CPX_SEG_PAGES * CPX_SEG_ENTRY)
#define CPX_MANIFEST_MAX (1u << 30)
#define CPX_NOTE_MAX 1024u
#define CPX_PACKS_MAX (1u << 20)
#define CPX_SEGS_MAX (1u << 22)
#define CPX_DIGEST 16

/* --- packs -------------------------------------------------------------------------- */

enum cpx_block_kind { CPX_BLOCK_DATA = 1, CPX_BLOCK_SEGMENT = 2 };

struct cpx_block {
	uint64_t off; /* in the pack; not stored, the sum of the lengths before */
	uint64_t sum; /* xxh3-64 of the bytes as stored */
	uint32_t stored, raw;
	uint8_t codec, kind;
};

struct cpx_pack_info {
	uint32_t id; /* how map segments call it; unique in a manifest, > 0 */
	uint32_t k;  /* number within the generation that wrote it */
	uint64_t epoch, seq;
	char nonce[17];
	uint64_t size, table_off;
	uint32_t nblocks;
	uint8_t digest[CPX_DIGEST];
};

void cpx_pack_header(const struct cpx_gen_id *id, uint32_t k, uint8_t out[CPX_PACK_HEADER]);
void cpx_pack_digest(const uint8_t header[CPX_PACK_HEADER], const void *table, size_t n,
		     uint8_t out[CPX_DIGEST]);
void cpx_table_put(struct cpx_buf *out, const struct cpx_block *b);
/*
 * Decode the table of @info. Return: 0 and *@out (malloc'ed, info->nblocks entries).
 * @what: name of the file, for messages.
 */
int cpx_table_decode(const struct cpx_pack_info *info, const void *p, size_t n,
		     const char *what, struct cpx_block **out, struct cpx_err *err);

/* --- map segments ------------------------------------------------------------------- */

/*
 * @count pages from @page of the segment on are the pages @pos, @pos + 1 … of pack @pack,
 * where pos counts CPX_BLOCK_PAGES a block. Pack 0: they are zero (in a delta: again).
 */
struct cpx_seg_entry {
	uint32_t pack, pos;
	uint16_t page;
	uint32_t count; /* 1..CPX_SEG_PAGES */
};

/* Where a page is; index: page of the segment. */
struct cpx_cell {
	uint32_t pack; /* 0: zero */
	uint32_t pos;
};

/* The entries for @cells; @keep_zero[i] (may be NULL): write zero cells where set, too. */
int cpx_seg_encode(uint32_t space, uint64_t seg, const struct cpx_cell cells[CPX_SEG_PAGES],
		   const bool *keep_zero, struct cpx_buf *out);
/* Checks that it is segment @seg of @space. *@out is malloc'ed (NULL if none). Return: count.
 */
int64_t cpx_seg_decode(const void *p, size_t n, uint32_t space, uint64_t seg,
		       struct cpx_seg_entry **out, struct cpx_err *err);
void cpx_seg_paint(struct cpx_cell cells[CPX_SEG_PAGES], const struct cpx_seg_entry *e,
		   size_t n);

/* --- manifest ----------------------------------------------------------------------- */

struct cpx_seg_run {
	uint32_t pack, block;
};

struct cpx_seg_ref {
	uint64_t seg; /* offset >> CPX_SEG_SHIFT */
	uint32_t space;
	uint32_t pages; /* not zero */
	uint32_t nruns; /* the base first */
	struct cpx_seg_run runs[CPX_SEG_RUNS_MAX];
};

struct cpx_manifest {
	struct cpx_gen_id id;
	bool has_base;
	struct cpx_gen_id base; /* what the inherited pages came from; for people */
	int64_t realtime_ns;
	struct cpx_image_stats stats; /* bytes_stored: packs of this generation */
	char *note;		      /* owned; never NULL */
	struct cpx_pack_info *packs;  /* owned; ascending by id */
	uint32_t npacks;
	struct cpx_seg_ref *segs; /* owned; ascending by (space, seg) */
	uint32_t nsegs;
	uint8_t *state; /* owned; records, encoded */
	size_t state_len;
	size_t state_stored; /* as decoded: its bytes in the file */
};

int cpx_manifest_encode(const struct cpx_manifest *m, struct cpx_buf *out, struct cpx_err *err);
/* @what: for messages. @want_state: false leaves m->state NULL (its length is there). */
int cpx_manifest_decode(const void *p, size_t n, const char *what, bool want_state,
			struct cpx_manifest *m, struct cpx_err *err);
void cpx_manifest_free(struct cpx_manifest *m);
const struct cpx_pack_info *cpx_manifest_pack(const struct cpx_manifest *m, uint32_t id);
/* The first segment at or after (@space, @seg): its index, nsegs if none. */
uint32_t cpx_manifest_seg(const struct cpx_manifest *m, uint32_t space, uint64_t seg);

/* --- names -------------------------------------------------------------------------- */

#define CPX_NAME_MAX 192

bool cpx_gen_valid(const struct cpx_gen_id *id);
bool cpx_job_name_valid(const char *name);
void cpx_name_job(const char *job, char out[CPX_NAME_MAX]);
void cpx_name_manifest(const struct cpx_gen_id *id, bool temporary, char out[CPX_NAME_MAX]);
void cpx_name_pack(const char *job, uint64_t epoch, uint64_t seq, const char *nonce, uint32_t k,
		   char out[CPX_NAME_MAX]);

void cpx_name_code_list(const struct cpx_gen_id *id, char out[CPX_NAME_MAX]);
void cpx_name_code(const uint8_t sha256[32], char out[CPX_NAME_MAX]);
/* @name in code/: an object, or one that a collector has taken out of its name? */
bool cpx_name_code_parse(const char *name, uint8_t sha256[32]);

enum cpx_name_kind {
	CPX_NAME_OTHER,
	CPX_NAME_MANIFEST,
	CPX_NAME_TEMPORARY,
	CPX_NAME_CODE, /* list of code objects */
	CPX_NAME_PACK,
};
/* What a file of a job's directory is; fills @id (all but job) and @k. */
enum cpx_name_kind cpx_name_parse(const char *name, struct cpx_gen_id *id, uint32_t *k);
/* By (epoch, seq), then nonce. */
int cpx_gen_compare(const struct cpx_gen_id *a, const struct cpx_gen_id *b);

#endif
