/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pack_write.c
 *
 * Happy path: begin, put …, finish (table, last chunk padded to a page, wait, truncate
 * to size, fsync). Any failure leaves the pack open; free waits for what is in
 * flight, since the kernel reads from our chunks, and closes. Removing the file is
 * the image writer's work.
 */
#include "pack_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "../chpox/base/err.h"

#define ALLOCATE_STEP (32u << 20)
/* Below this the page cache is quicker, and needs no threads. */
#define DIRECT_AT (4u << 20)

static int append(struct cpx_packer *p, const void *data, size_t n, struct cpx_err *err);

static int need_chunk(struct cpx_packer *p, unsigned i, struct cpx_err *err)
{
	void *m;

	if (p->chunks[i])
		return 0;
	m = mmap(NULL, CPX_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a chunk of %u bytes",
				   CPX_CHUNK);
	p->chunks[i] = m;
	return 0;
}

int cpx_packer_begin(struct cpx_packer *p, struct cpx_io *io, const struct cpx_gen_id *id,
		     uint32_t k, uint32_t pack_id, struct cpx_err *err)
{
	char name[CPX_NAME_MAX];
	int rc;

	cpx_name_pack(id->job, id->epoch, id->seq, id->nonce, k, name);
	rc = need_chunk(p, p->cur, err);
	if (rc == 0)
		rc = cpx_io_create(io, name, &p->file, err);
	if (rc < 0)
		return rc;
	p->io = io;
	p->open = true;
	p->limit = CPX_PACK_MAX;
	p->started = false;
	p->fill = 0;
	p->chunk_off = p->size = p->allocated = 0;
	p->table.len = 0;
	memset(&p->info, 0, sizeof(p->info));
	p->info.id = pack_id;
	p->info.k = k;
	p->info.epoch = id->epoch;
	p->info.seq = id->seq;
	memcpy(p->info.nonce, id->nonce, 16);
	cpx_pack_header(id, k, p->header);
	return append(p, p->header, CPX_PACK_HEADER, err);
}

/* The pack turns out to be a large one. What was written before stays in the page cache. */
static void start(struct cpx_packer *p)
{
	p->started = true;
	p->no_allocate = false;
	if (p->queue_up) {
		/* not the first pack: what could be had for that is to be had for this one */
		p->started = cpx_io_direct(&p->file);
	} else if (cpx_io_direct(&p->file)) {
		cpx_io_queue_init(&p->queue);
		p->queue_up = true;
	}
}

static bool is_async(const struct cpx_packer *p)
{
	return p->started && p->queue_up;
}

static int write_chunk(struct cpx_packer *p, size_t len, struct cpx_err *err)
{
	int rc;

	if (!is_async(p))
		return cpx_io_write(&p->file, p->chunks[p->cur], len, p->chunk_off, err);
	if (!p->no_allocate && p->chunk_off + len > p->allocated) {
		/* a refusal is no error yet: the writes will tell whether there is room */
		p->allocated = p->chunk_off;
		if (cpx_io_allocate(&p->file, p->allocated, ALLOCATE_STEP) < 0)
			p->no_allocate = true;
		else
			p->allocated += ALLOCATE_STEP;
	}
	rc = cpx_io_queue_write(&p->queue, p->cur, &p->file, p->chunks[p->cur], len,
				p->chunk_off, err);
	if (rc < 0)
		return rc;
	rc = cpx_io_queue_slot(&p->queue, err);
	if (rc < 0)
		return rc;
	p->cur = (unsigned)rc;
	return need_chunk(p, p->cur, err);
}

static int append(struct cpx_packer *p, const void *data, size_t n, struct cpx_err *err)
{
	const uint8_t *from = data;

	p->size += n;
	while (n) {
		size_t take = CPX_CHUNK - p->fill < n ? CPX_CHUNK - p->fill : n;
		int rc;

		memcpy(p->chunks[p->cur] + p->fill, from, take);
		p->fill += take;
		from += take;
		n -= take;
		if (p->fill < CPX_CHUNK)
			break;
		if (!p->started && (p->queue_up || p->chunk_off >= DIRECT_AT))
			start(p);
		rc = write_chunk(p, CPX_CHUNK, err);
		if (rc < 0)
			return rc;
		p->chunk_off += CPX_CHUNK;
		p->fill = 0;
	}
	return 0;
}

bool cpx_packer_fits(const struct cpx_packer *p, size_t stored)
{
	return p->info.nblocks < CPX_PACK_BLOCKS_MAX &&
	       p->size + stored + (p->info.nblocks + 1ull) * CPX_TABLE_ENTRY <= p->limit;
}

int cpx_packer_put(struct cpx_packer *p, struct cpx_block *b, const void *stored,
		   struct cpx_err *err)
{
	b->off = p->size;
	b->sum = XXH3_64bits(stored, b->stored);
	cpx_table_put(&p->table, b);
	if (p->table.failed)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a pack's table");
	p->info.nblocks++;
	return append(p, stored, b->stored, err);
}

/* What is left in the last chunk, padded where O_DIRECT wants whole pages. */
static int write_rest(struct cpx_packer *p, struct cpx_err *err)
{
	size_t len = p->fill;

	if (!len)
		return 0;
	if (is_async(p)) {
		len = (len + CPX_PAGE - 1) / CPX_PAGE * CPX_PAGE;
		memset(p->chunks[p->cur] + p->fill, 0, len - p->fill);
		return write_chunk(p, len, err);
	}
	return cpx_io_write(&p->file, p->chunks[p->cur], len, p->chunk_off, err);
}

int cpx_packer_finish(struct cpx_packer *p, struct cpx_err *err)
{
	int rc;

	p->info.table_off = p->size;
	cpx_pack_digest(p->header, p->table.data, p->table.len, p->info.digest);
	rc = append(p, p->table.data, p->table.len, err);
	if (rc == 0)
		rc = write_rest(p, err);
	if (rc == 0 && is_async(p))
		rc = cpx_io_queue_drain(&p->queue, err);
	if (rc == 0 && is_async(p))
		rc = cpx_io_truncate(&p->file, p->size, err);
	if (rc == 0)
		rc = cpx_io_fsync(&p->file, err);
	if (rc < 0)
		return rc;
	p->info.size = p->size;
	cpx_io_close(&p->file);
	p->open = false;
	return 0;
}

void cpx_packer_free(struct cpx_packer *p)
{
	if (p->queue_up)
		cpx_io_queue_fini(&p->queue);
	p->queue_up = false;
	cpx_io_close(&p->file);
	p->open = false;
	for (unsigned i = 0; i < CPX_IO_DEPTH; i++) {
		if (p->chunks[i])
			munmap(p->chunks[i], CPX_CHUNK);
		p->chunks[i] = NULL;
	}
	cpx_buf_free(&p->table);
}
