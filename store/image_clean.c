/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_clean.c - packs that are partly dead are emptied.
 *
 * Happy path: all map segments are read, and a bit is set for each page of each pack that one
 * of them refers to; the deadest packs are chosen, what lives in them is appended to packs of
 * the copy, and the copy's map is the old one with these pages moved. It is committed as any
 * generation is, so a crash at any instant leaves the old one, or both.
 *
 * Stored pages are counted, not references to them: what parent and child share is moved once,
 * and is shared again.
 */
#include "image_write.h"

#include <stdlib.h>
#include <string.h>

#include "../chpox/base/fd.h"

#define SMALL_PACK (1u << 20)
#define LIVE_ENOUGH 0.97 /* emptying such a pack gains nothing */

/* What is known of one pack, by its index in the manifest. */
struct use {
	uint64_t *bits; /* its pages that live */
	uint64_t live;	/* bytes; a share of a block's is as large as its share of pages */
	uint64_t size;
	uint32_t index;
	bool victim;
};

struct cleaner {
	struct cpx_image *img;
	struct use *use;   /* by index */
	struct use **rank; /* to be sorted */
	uint32_t n;
	uint64_t live, size; /* of all */
	uint64_t pages;
	struct cpx_moved *moved;
	uint32_t nmoved;
};

static int no_memory(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "no memory to clean packs");
}

static bool bit(const struct use *u, uint32_t pos)
{
	return u->bits[pos / 64] >> (pos % 64) & 1;
}

/* --- what lives ----------------------------------------------------------------------- */

static int note_segment(struct cleaner *c, uint32_t i, struct cpx_err *err)
{
	const struct cpx_seg_ref *ref = &c->img->m.segs[i];
	struct cpx_seg *s;
	int rc = cpx_seg_load(c->img, i, &s, err);

	for (int64_t k = 0; rc == 0 && k < s->n; k++) {
		const struct cpx_seg_entry *e = &s->entries[k];
		struct use *u = &c->use[cpx_pack_index(c->img, e->pack)];

		for (uint32_t pos = e->pos; pos < e->pos + e->count; pos++)
			u->bits[pos / 64] |= 1ull << (pos % 64);
	}
	cpx_seg_drop(c->img, i);
	for (uint32_t k = 0; rc == 0 && k < ref->nruns; k++) {
		uint32_t p = cpx_pack_index(c->img, ref->runs[k].pack);
		struct use *u = &c->use[p];

		/* a map block has one reference, so its first page's bit can stand for it */
		u->bits[ref->runs[k].block / 4] |= 1ull << (ref->runs[k].block % 4 * 16);
	}
	c->pages += ref->pages;
	return rc;
}

static int weigh_pack(struct cleaner *c, struct use *u, struct cpx_err *err)
{
	const struct cpx_pack_info *info = &c->img->m.packs[u->index];
	int rc = cpx_pack_get(c->img, u->index, err);

	if (rc < 0)
		return rc;
	u->size = info->size;
	for (uint32_t b = 0; b < info->nblocks; b++) {
		const struct cpx_block *block = &c->img->packs[u->index].table[b];
		uint32_t pages = block->kind == CPX_BLOCK_DATA ? block->raw / CPX_PAGE : 1;
		uint32_t live =
			(uint32_t)__builtin_popcountll(u->bits[b / 4] >> (b % 4 * 16) & 0xffff);

		u->live += (uint64_t)(block->stored + CPX_TABLE_ENTRY) * live / pages;
	}
	if (u->live)
		u->live += CPX_PACK_HEADER;
	c->live += u->live;
	c->size += u->size;
	cpx_pack_put(c->img, u->index);
	return 0;
}

static int survey(struct cleaner *c, struct cpx_err *err)
{
	const struct cpx_manifest *m = &c->img->m;
	int rc = 0;

	_Static_assert(CPX_BLOCK_PAGES == 16, "four blocks a word of bits");
	c->n = m->npacks;
	c->use = calloc((size_t)c->n + 1, sizeof(*c->use));
	c->rank = calloc((size_t)c->n + 1, sizeof(struct use *));
	if (!c->use || !c->rank)
		return no_memory(err);
	for (uint32_t i = 0; i < c->n; i++) {
		c->use[i].index = i;
		c->use[i].bits = calloc((size_t)m->packs[i].nblocks / 4 + 1, sizeof(uint64_t));
		if (!c->use[i].bits)
			return no_memory(err);
	}
	for (uint32_t i = 0; rc == 0 && i < m->nsegs; i++)
		rc = note_segment(c, i, err);
	for (uint32_t i = 0; rc == 0 && i < c->n; i++)
		rc = weigh_pack(c, &c->use[i], err);
	return rc;
}

/* --- what is emptied ------------------------------------------------------------------ */

static double share(uint64_t live, uint64_t size)
{
	return size ? (double)live / (double)size : 1;
}

static int deadest_first(const void *a, const void *b)
{
	const struct use *x = *(struct use *const *)a, *y = *(struct use *const *)b;
	double sx = share(x->live, x->size), sy = share(y->live, y->size);

	return sx < sy ? -1 : sx > sy ? 1 : x->index < y->index ? -1 : x->index > y->index;
}

static int smallest_first(const void *a, const void *b)
{
	const struct use *x = *(struct use *const *)a, *y = *(struct use *const *)b;

	if (x->size != y->size)
		return x->size < y->size ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

static void choose(struct cleaner *c, uint64_t budget)
{
	uint64_t cost = 0, size = c->size;
	uint32_t small = 0;

	for (uint32_t i = 0; i < c->n; i++) {
		c->rank[i] = &c->use[i];
		small += c->use[i].size < SMALL_PACK;
	}
	if (c->n)
		qsort(c->rank, c->n, sizeof(struct use *), deadest_first);
	for (uint32_t i = 0; share(c->live, c->size) < CPX_LIVE_SHARE && i < c->n; i++) {
		struct use *u = c->rank[i];

		if (share(c->live, size) >= CPX_LIVE_TARGET || cost + u->live > budget ||
		    share(u->live, u->size) > LIVE_ENOUGH)
			break;
		u->victim = true;
		cost += u->live;
		size -= u->size - u->live;
	}
	if (small <= CPX_SMALL_PACKS)
		return;
	qsort(c->rank, c->n, sizeof(struct use *), smallest_first);
	for (uint32_t i = 0; i < small * 2 / 3 && cost + c->rank[i]->live <= budget; i++) {
		cost += c->rank[i]->victim ? 0 : c->rank[i]->live;
		c->rank[i]->victim = true;
	}
}

/* --- moving --------------------------------------------------------------------------- */

/* The pages of one block that live, behind the pending ones of @k, and where they come to be.
 */
static int move_block(struct cleaner *c, struct cpx_image_worker *k, const struct use *u,
		      struct cpx_moved *moved, uint32_t block, uint8_t *raw,
		      struct cpx_err *err)
{
	uint32_t pages = c->img->packs[u->index].table[block].raw / CPX_PAGE, n = 0;
	uint32_t first = block * CPX_BLOCK_PAGES;
	struct cpx_cell at;
	int rc = cpx_data_block(c->img, u->index, block, raw, err);

	for (uint32_t p = 0; rc == 0 && p < CPX_BLOCK_PAGES; p++) {
		if (!bit(u, first + p))
			continue;
		if (p >= pages)
			return cpx_err_set(err, CPX_E_FORMAT,
					   "the page map points behind a block's end");
		memcpy(k->buf + (size_t)(k->pending + n++) * CPX_PAGE,
		       raw + (size_t)p * CPX_PAGE, CPX_PAGE);
	}
	if (rc == 0)
		rc = cpx_worker_pages(k, n, &at, err);
	for (uint32_t p = 0; rc == 0 && p < pages; p++) {
		if (!bit(u, first + p))
			continue;
		moved->where[first + p] = at;
		at.pos++;
	}
	return rc;
}

static int move_pack(struct cleaner *c, struct cpx_image_worker *k, const struct use *u,
		     struct cpx_err *err)
{
	const struct cpx_pack_info *info = &c->img->m.packs[u->index];
	struct cpx_moved *moved = &c->moved[c->nmoved++];
	CPX_AUTO_FREE uint8_t *raw = malloc(CPX_BLOCK_RAW);
	int rc = 0;

	moved->pack = info->id;
	moved->n = info->nblocks * CPX_BLOCK_PAGES;
	moved->where = calloc(moved->n, sizeof(*moved->where));
	if (!raw || !moved->where)
		return no_memory(err);
	for (uint32_t b = 0; rc == 0 && b < info->nblocks; b++)
		if (c->img->packs[u->index].table[b].kind == CPX_BLOCK_DATA &&
		    u->bits[b / 4] >> (b % 4 * 16) & 0xffff)
			rc = move_block(c, k, u, moved, b, raw, err);
	return rc;
}

/* All of the old generation, with what lived in the victims moved. */
static int fill(struct cleaner *c, struct cpx_image_writer *w, struct cpx_err *err)
{
	const struct cpx_manifest *m = &c->img->m;
	int rc = cpx_worker_open(w->workers, err);

	for (uint32_t i = 0; rc == 0 && i < c->n; i++)
		if (c->use[i].victim)
			rc = move_pack(c, w->workers, &c->use[i], err);
	for (uint32_t i = 0; rc == 0 && i < m->nsegs; i++)
		rc = cpx_image_inherit(w, m->segs[i].space, m->segs[i].seg << CPX_SEG_SHIFT,
				       1ull << CPX_SEG_SHIFT, err);
	w->moved = c->moved;
	w->nmoved = c->nmoved;
	return rc;
}

static int write_copy(struct cleaner *c, struct cpx_store *store, const struct cpx_gen_id *id,
		      const struct cpx_gen_id *copy, enum cpx_codec codec,
		      struct cpx_image_stats *stats, struct cpx_err *err)
{
	const struct cpx_image_opts opts = { .codec = codec, .workers = 1, .base = id };
	struct cpx_image_writer *w;
	struct cpx_manifest old, m = { 0 };
	size_t len;
	int rc = cpx_image_load_manifest(store, id, true, &old, &len, err);

	if (rc < 0)
		return rc;
	m.realtime_ns = old.realtime_ns;
	m.note = old.note;
	m.state = old.state;
	m.state_len = old.state_len;
	old.note = NULL;
	old.state = NULL;
	/* what is stored counts as inherited, the rest of the sum stays */
	m.stats.bytes_zero = old.stats.bytes_zero;
	m.stats.bytes_memory =
		old.stats.bytes_memory + (old.stats.pages_inherited - c->pages) * CPX_PAGE;
	cpx_manifest_free(&old);
	rc = cpx_image_create(store, copy, &opts, &w, err);
	if (rc == 0) {
		rc = fill(c, w, err);
		if (rc < 0)
			cpx_image_abort(w);
		else
			rc = cpx_writer_commit(w, &m, stats, err);
	}
	cpx_manifest_free(&m);
	return rc;
}

static void free_cleaner(struct cleaner *c)
{
	for (uint32_t i = 0; c->use && i < c->n; i++)
		free(c->use[i].bits);
	for (uint32_t i = 0; i < c->nmoved; i++)
		free(c->moved[i].where);
	free(c->moved);
	free(c->use);
	free(c->rank);
	cpx_image_close(c->img);
}

static int clean(struct cleaner *c, struct cpx_store *store, const struct cpx_gen_id *id,
		 const struct cpx_gen_id *copy, enum cpx_codec codec, uint64_t budget,
		 struct cpx_clean_stats *st, struct cpx_err *err)
{
	struct cpx_image_stats stats;
	uint32_t victims = 0;
	int rc = survey(c, err);

	if (rc < 0)
		return rc;
	choose(c, budget);
	for (uint32_t i = 0; i < c->n; i++)
		victims += c->use[i].victim;
	*st = (struct cpx_clean_stats){ .bytes_packs = c->size,
					.bytes_live = c->live,
					.packs = c->n,
					.pages_stored = c->pages };
	if (!victims)
		return 0;
	c->moved = calloc(victims, sizeof(*c->moved));
	if (!c->moved)
		return no_memory(err);
	rc = write_copy(c, store, id, copy, codec, &stats, err);
	if (rc < 0)
		return rc;
	st->bytes_packs = stats.bytes_packs;
	st->bytes_written = stats.bytes_stored;
	st->packs = stats.packs;
	st->packs_emptied = victims;
	return 1;
}

int cpx_image_clean(struct cpx_store *store, const struct cpx_gen_id *id,
		    const struct cpx_gen_id *copy, enum cpx_codec codec, uint64_t budget,
		    struct cpx_clean_stats *st, struct cpx_err *err)
{
	struct cleaner c = { 0 };
	int rc;

	if (strcmp(id->job, copy->job) != 0 || id->epoch != copy->epoch || id->seq != copy->seq)
		return cpx_err_set(err, CPX_E_INVAL, "a copy of another generation");
	rc = cpx_image_load(store, id, false, &c.img, err);
	if (rc == 0)
		rc = clean(&c, store, id, copy, codec, budget, st, err);
	free_cleaner(&c);
	return rc;
}
