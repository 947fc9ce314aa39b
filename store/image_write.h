/* SPDX-License-Identifier: GPL-2.0-or-later */
/* image_write.h - the inside of a writer: image_write.c makes pieces, image_map.c the map of
 * them. */
#ifndef CPX_STORE_IMAGE_WRITE_H
#define CPX_STORE_IMAGE_WRITE_H

#include <pthread.h>
#include <stdatomic.h>

#include "../chpox/base/err.h"
#include "codec.h"
#include "codec_auto.h"
#include "pack_write.h"
#include "store_priv.h"

#define CPX_WINDOW_PAGES 64u /* read and tested at once; a bit each in a piece */
#define CPX_WINDOW (CPX_WINDOW_PAGES * CPX_PAGE)
#define CPX_PIECE_INHERIT UINT32_MAX
#define CPX_PIECE_SHARE (UINT32_MAX - 1)

/*
 * What became of up to 64 pages that were put: bit i of @bits says page @page + i is
 * stored; the stored ones are at @pos, @pos + 1 … of @pack. With CPX_PIECE_INHERIT:
 * @pos pages from @page on (within one segment) are as in the base. With CPX_PIECE_SHARE:
 * they are as those of space @n from page @bits on.
 */
struct cpx_piece {
	uint64_t page, bits;
	uint32_t space, seq, pack, pos;
	uint32_t n;
};

struct cpx_pieces {
	struct cpx_piece *v;
	size_t n, cap;
};

/* A range as it was given to cpx_image_inherit(), in pages. */
struct cpx_inherited {
	uint64_t first, end;
	uint32_t space, seq;
};

struct cpx_put {
	uint64_t off, end;
	uint32_t space, seq;
	cpx_page_reader reader;
	void *ctx;
};

struct cpx_image_worker {
	struct cpx_image_writer *w;
	pthread_t thread;
	struct cpx_packer packer;
	struct cpx_codec_ctx *codecs[CPX_CODECS]; /* NULL: not open */
	enum cpx_codec now;			  /* the one in use */
	bool trial;				  /* the next block is for all of them */
	uint8_t *buf;				  /* a window and a block, page-aligned */
	uint8_t *squeezed;			  /* CPX_SEG_RAW_MAX */
	uint32_t pending; /* pages at the start of buf that are not in a block yet */
	struct cpx_pieces pieces;
	uint64_t bytes_memory, bytes_zero;
};

/* A pack that is being emptied: where its page @pos is now (pack 0: it was dead). */
struct cpx_moved {
	uint32_t pack;		/* id */
	struct cpx_cell *where; /* owned; @n of them */
	uint32_t n;
};

/* How far the manifest came. */
enum cpx_write_stage { CPX_STAGE_PACKS, CPX_STAGE_TEMPORARY, CPX_STAGE_NAMED };

/*
 * The last step of a commit: what @m refers to is durable. *@stage: what is there of the
 * manifest is kept up to date, for cpx_manifest_unlink() after a failure. @len: its bytes.
 */
int cpx_manifest_write(struct cpx_io *io, const struct cpx_manifest *m,
		       enum cpx_write_stage *stage, size_t *len, struct cpx_err *err);
/* Take back what is there of it, durably: before its packs are removed. */
void cpx_manifest_unlink(struct cpx_io *io, const struct cpx_gen_id *id,
			 enum cpx_write_stage stage);

struct cpx_image_writer {
	struct cpx_store *store;
	struct cpx_gen_id id;
	struct cpx_image_opts opts;
	struct cpx_gen_id base_id;
	struct cpx_image *base; /* NULL: full */
	uint32_t first_pack;	/* id of this generation's pack 0 */
	bool made_dir;
	enum cpx_write_stage stage;
	struct cpx_image_worker *workers;
	unsigned nworkers;
	bool threads; /* they run */
	uint32_t next_seq;
	atomic_uint next_k;
	_Atomic uint64_t bytes_done, bytes_queued;
	_Atomic uint64_t rate, throttled; /* bytes a second, 0: no limit; bytes since then */
	int64_t rate_from;
	struct cpx_store_speed speed_before;
	pthread_mutex_t lock; /* all below */
	pthread_cond_t work, idle;
	struct cpx_put *queue;
	size_t head, count, cap;
	unsigned busy;
	bool closing, failed;
	struct cpx_codec_rates rates; /* CPX_CODEC_AUTO */
	unsigned trials;
	struct cpx_err err;
	struct cpx_pack_info *infos; /* finished packs */
	uint32_t ninfos;
	struct cpx_pieces others; /* inherited and shared */
	struct cpx_inherited *ranges;
	size_t nranges;
	bool shares;
	struct cpx_moved *moved; /* ascending by id; borrowed from image_clean.c */
	uint32_t nmoved;
};

/* Compress and append one block, beginning a pack or going to the next one as needed. */
int cpx_worker_block(struct cpx_image_worker *k, enum cpx_block_kind kind, const void *raw,
		     size_t n, struct cpx_seg_run *where, struct cpx_err *err);
/* The buffers and the codec of a worker that runs in the caller's thread. */
int cpx_worker_open(struct cpx_image_worker *k, struct cpx_err *err);
/* Append @n pages (at most CPX_WINDOW_PAGES) that stand in k->buf behind the k->pending ones.
 */
int cpx_worker_pages(struct cpx_image_worker *k, uint32_t n, struct cpx_cell *where,
		     struct cpx_err *err);
/* As cpx_image_commit(), with state, note and time in @m, which stays the caller's. */
int cpx_writer_commit(struct cpx_image_writer *w, struct cpx_manifest *m,
		      struct cpx_image_stats *stats, struct cpx_err *err);
/* Room for one more. Return: it, or NULL. */
struct cpx_piece *cpx_pieces_add(struct cpx_pieces *p);
/*
 * From all pieces the map segments (written by worker 0) and the refs and packs of @m.
 * Workers have stopped; worker 0's pack may be open and stays so.
 */
int cpx_map_build(struct cpx_image_writer *w, struct cpx_manifest *m, struct cpx_err *err);

#endif
