/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pack_write.h - one growing pack: blocks in, aligned chunks out.
 *
 * One thread at a time uses a pack. A pack that stays within one chunk is written with
 * one plain call; a larger one is preallocated and written by O_DIRECT and
 * asynchronously where the file system lets it.
 */
#ifndef CPX_STORE_PACK_WRITE_H
#define CPX_STORE_PACK_WRITE_H

#include "../chpox/base/buf.h"
#include "format.h"
#include "objio.h"

#define CPX_CHUNK (1u << 20)

struct cpx_packer {
	struct cpx_io *io;
	struct cpx_io_file file;
	bool open;    /* a file is being written */
	bool started; /* its first full chunk has decided how it is written */
	bool queue_up;
	struct cpx_io_queue queue;
	uint8_t *chunks[CPX_IO_DEPTH]; /* page-aligned */
	unsigned cur;		       /* the chunk being filled */
	size_t fill;
	uint64_t chunk_off; /* of the current chunk in the file */
	uint64_t size;	    /* bytes put so far */
	size_t limit;	    /* of a whole pack; at most CPX_PACK_MAX */
	uint64_t allocated;
	bool no_allocate;
	struct cpx_buf table;
	struct cpx_pack_info info;
	uint8_t header[CPX_PACK_HEADER];
};

/* Begin pack @k of @id, called @pack_id by maps; its limit is CPX_PACK_MAX until changed. The
 * struct is zeroed before its first use. */
int cpx_packer_begin(struct cpx_packer *p, struct cpx_io *io, const struct cpx_gen_id *id,
		     uint32_t k, uint32_t pack_id, struct cpx_err *err);
/* Whether a block of @stored bytes still fits. */
bool cpx_packer_fits(const struct cpx_packer *p, size_t stored);
/* Append a block: @b without off and sum. Its number is info.nblocks before the call. */
int cpx_packer_put(struct cpx_packer *p, struct cpx_block *b, const void *stored,
		   struct cpx_err *err);
/* Append the table, make all durable, close. info is complete then. */
int cpx_packer_finish(struct cpx_packer *p, struct cpx_err *err);
/* Give everything back; a pack that was not finished stays as a dead file. */
void cpx_packer_free(struct cpx_packer *p);

#endif
