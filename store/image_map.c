/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_map.c - from the pieces of a writer to map segments.
 *
 * Segment by segment: the pieces are painted in the order in which they were put, onto
 * one cell a page; the result is compared with the base's segment. Equal: the base's
 * is referred to. A small difference: one more delta run on it. Else: a new one.
 */
#include "image_write.h"

#include <stdlib.h>
#include <string.h>

#include "../chpox/base/fd.h"

/* A segment that is done, for those that share from it. */
struct done_seg {
	uint64_t seg;
	uint32_t space;
	struct cpx_seg_entry *entries; /* owned */
	int64_t n;
};

struct builder {
	struct cpx_image_writer *w;
	struct cpx_manifest *m;
	struct cpx_cell *cells, *base, *delta;
	bool *mask, *keep_zero;
	bool *used; /* packs of the base that are referred to, by index */
	struct cpx_buf full, diff;
	uint32_t seg_cap;
	struct done_seg *done; /* only if there are shares; ascending */
	size_t ndone, done_cap;
};

static int compare_pieces(const void *a, const void *b)
{
	const struct cpx_piece *x = a, *y = b;
	uint64_t xs = x->page / CPX_SEG_PAGES, ys = y->page / CPX_SEG_PAGES;

	if (x->space != y->space)
		return x->space < y->space ? -1 : 1;
	if (xs != ys)
		return xs < ys ? -1 : 1;
	if (x->seq != y->seq)
		return x->seq < y->seq ? -1 : 1;
	return x->page < y->page ? -1 : x->page > y->page;
}

/* The index of a segment in the base's manifest, or UINT32_MAX. */
static uint32_t base_index(const struct cpx_image_writer *w, uint32_t space, uint64_t seg)
{
	const struct cpx_manifest *m = w->base ? &w->base->m : NULL;
	uint32_t i = m ? cpx_manifest_seg(m, space, seg) : 0;

	if (!m || i >= m->nsegs || m->segs[i].space != space || m->segs[i].seg != seg)
		return UINT32_MAX;
	return i;
}

/* Pieces for what ranges inherit in a segment that the base does not have: zeros. */
static int empty_pieces(const struct cpx_image_writer *w, uint32_t space, uint64_t seg,
			struct cpx_pieces *out)
{
	uint64_t a = seg * CPX_SEG_PAGES, b = a + CPX_SEG_PAGES;

	for (size_t i = 0; i < w->nranges; i++) {
		const struct cpx_inherited *r = &w->ranges[i];
		uint64_t from = r->first < a ? a : r->first, to = r->end > b ? b : r->end;
		struct cpx_piece *p;

		if (r->space != space || from >= to)
			continue;
		p = cpx_pieces_add(out);
		if (!p)
			return -1;
		*p = (struct cpx_piece){ .page = from,
					 .space = space,
					 .seq = r->seq,
					 .pack = CPX_PIECE_INHERIT,
					 .pos = (uint32_t)(to - from) };
	}
	return 0;
}

/* @all is sorted, and is again afterwards. */
static int add_empty(struct cpx_image_writer *w, struct cpx_pieces *all, struct cpx_err *err)
{
	struct cpx_pieces more = { 0 };
	void *v = NULL;
	int rc = 0;

	for (size_t i = 0; rc == 0 && w->nranges && i < all->n; i++) {
		const struct cpx_piece *p = &all->v[i];
		uint64_t seg = p->page / CPX_SEG_PAGES;

		if (i && p[-1].space == p->space && p[-1].page / CPX_SEG_PAGES == seg)
			continue;
		if (base_index(w, p->space, seg) == UINT32_MAX)
			rc = empty_pieces(w, p->space, seg, &more);
	}
	if (rc == 0 && more.n) {
		v = realloc(all->v, (all->n + more.n) * sizeof(*all->v));
		rc = v ? 0 : -1;
	}
	if (v) {
		all->v = v;
		memcpy(all->v + all->n, more.v, more.n * sizeof(*more.v));
		all->n += more.n;
		qsort(all->v, all->n, sizeof(*all->v), compare_pieces);
	}
	free(more.v);
	return rc < 0 ? cpx_err_set(err, CPX_E_NOMEM, "no memory for the page map") : 0;
}

/* All pieces of all workers in one sorted array; theirs are given up. */
static int gather(struct cpx_image_writer *w, struct cpx_pieces *all, struct cpx_err *err)
{
	size_t n = w->others.n;

	for (unsigned i = 0; i < w->nworkers; i++)
		n += w->workers[i].pieces.n;
	all->v = malloc((n + 1) * sizeof(*all->v));
	if (!all->v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the page map");
	if (w->others.n)
		memcpy(all->v, w->others.v, w->others.n * sizeof(*all->v));
	all->n = w->others.n;
	for (unsigned i = 0; i < w->nworkers; i++) {
		struct cpx_pieces *p = &w->workers[i].pieces;

		if (p->n)
			memcpy(all->v + all->n, p->v, p->n * sizeof(*p->v));
		all->n += p->n;
		free(p->v);
		memset(p, 0, sizeof(*p));
	}
	qsort(all->v, all->n, sizeof(*all->v), compare_pieces);
	return add_empty(w, all, err);
}

static const struct done_seg *find_done(const struct builder *b, uint32_t space, uint64_t seg)
{
	size_t lo = 0, hi = b->ndone;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct done_seg *d = &b->done[mid];

		if (d->space < space || (d->space == space && d->seg < seg))
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < b->ndone && b->done[lo].space == space && b->done[lo].seg == seg)
		return &b->done[lo];
	return NULL;
}

/* The first entry that reaches beyond @page. */
static int64_t first_entry(const struct done_seg *d, uint32_t page)
{
	int64_t lo = 0, hi = d->n;

	while (lo < hi) {
		int64_t mid = lo + (hi - lo) / 2;

		if (d->entries[mid].page + d->entries[mid].count <= page)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* @n cells from cell @first on become what segment @d has from its page @from on. */
static void paint_from(struct builder *b, uint32_t first, const struct done_seg *d,
		       uint32_t from, uint32_t n)
{
	memset(b->cells + first, 0, n * sizeof(*b->cells));
	for (int64_t i = d ? first_entry(d, from) : 0; d && i < d->n; i++) {
		const struct cpx_seg_entry *e = &d->entries[i];
		uint32_t a = e->page < from ? from : e->page;
		uint32_t end = e->page + e->count > from + n ? from + n : e->page + e->count;

		if (e->page >= from + n)
			break;
		for (uint32_t q = a; q < end; q++)
			b->cells[first + q - from] =
				(struct cpx_cell){ .pack = e->pack,
						   .pos = e->pos + (q - e->page) };
	}
}

static void paint_share(struct builder *b, const struct cpx_piece *p)
{
	uint32_t first = (uint32_t)(p->page % CPX_SEG_PAGES), left = p->pos;
	uint64_t from = p->bits;

	while (left) {
		uint32_t at = (uint32_t)(from % CPX_SEG_PAGES), n = CPX_SEG_PAGES - at;

		n = n > left ? left : n;
		paint_from(b, first, find_done(b, p->n, from / CPX_SEG_PAGES), at, n);
		first += n;
		from += n;
		left -= n;
	}
}

/* Keep what this segment has become for those that share from it. */
static int keep_done(struct builder *b, uint32_t space, uint64_t seg, struct cpx_err *err)
{
	struct done_seg *d;

	if (b->ndone == b->done_cap) {
		size_t cap = b->done_cap ? b->done_cap * 2 : 64;
		void *v = realloc(b->done, cap * sizeof(*b->done));

		if (!v)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for the page map");
		b->done = v;
		b->done_cap = cap;
	}
	b->full.len = 0;
	if (cpx_seg_encode(space, seg, b->cells, NULL, &b->full) < 0)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the page map");
	d = &b->done[b->ndone];
	*d = (struct done_seg){ .space = space, .seg = seg };
	d->n = cpx_seg_decode(b->full.data, b->full.len, space, seg, &d->entries, err);
	if (d->n < 0)
		return (int)d->n;
	b->ndone++;
	return 0;
}

static const struct cpx_moved *find_moved(const struct cpx_image_writer *w, uint32_t pack)
{
	uint32_t lo = 0, hi = w->nmoved;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (w->moved[mid].pack < pack)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < w->nmoved && w->moved[lo].pack == pack ? &w->moved[lo] : NULL;
}

/* @n inherited cells from @first on: what was in an emptied pack is elsewhere now. */
static void follow_moves(struct builder *b, uint32_t first, uint32_t n)
{
	const struct cpx_moved *m = NULL;
	uint32_t last = 0;

	for (uint32_t i = first; i < first + n; i++) {
		struct cpx_cell *c = &b->cells[i];

		if (c->pack && c->pack != last) {
			last = c->pack;
			m = find_moved(b->w, last);
		}
		if (c->pack && m)
			*c = m->where[c->pos];
	}
}

static void paint_piece(struct builder *b, const struct cpx_piece *p)
{
	uint32_t first = (uint32_t)(p->page % CPX_SEG_PAGES), pos = p->pos;

	if (p->pack == CPX_PIECE_SHARE) {
		paint_share(b, p);
		return;
	}

	if (p->pack == CPX_PIECE_INHERIT) {
		memcpy(b->cells + first, b->base + first, p->pos * sizeof(*b->cells));
		if (b->w->nmoved)
			follow_moves(b, first, p->pos);
		return;
	}
	for (uint32_t i = 0; i < p->n; i++) {
		bool stored = p->bits >> i & 1;

		b->cells[first + i] = (struct cpx_cell){ .pack = stored ? p->pack : 0,
							 .pos = stored ? pos++ : 0 };
	}
}

/* The base's cells of this segment; its index in the base's manifest or UINT32_MAX. */
static int load_base(struct builder *b, uint32_t space, uint64_t seg, uint32_t *index,
		     struct cpx_err *err)
{
	uint32_t i = base_index(b->w, space, seg);
	struct cpx_seg *s;
	int rc;

	*index = i;
	memset(b->base, 0, CPX_SEG_PAGES * sizeof(*b->base));
	if (i == UINT32_MAX)
		return 0;
	rc = cpx_seg_load(b->w->base, i, &s, err);
	if (rc < 0)
		return rc;
	cpx_seg_paint(b->base, s->entries, (size_t)s->n);
	cpx_seg_drop(b->w->base, i);
	return 0;
}

static void mark_used(struct builder *b, uint32_t pack)
{
	const struct cpx_manifest *m = &b->w->base->m;
	const struct cpx_pack_info *p = cpx_manifest_pack(m, pack);

	if (p)
		b->used[p - m->packs] = true;
}

/* Count what is stored and what of it is older; note the packs of the base. */
static uint32_t count_cells(struct builder *b, uint64_t *inherited)
{
	uint32_t n = 0, last = 0;

	for (uint32_t i = 0; i < CPX_SEG_PAGES; i++) {
		uint32_t pack = b->cells[i].pack;

		if (!pack)
			continue;
		n++;
		if (pack >= b->w->first_pack && !b->w->nmoved)
			continue;
		(*inherited)++;
		if (pack >= b->w->first_pack)
			continue;
		if (pack != last)
			mark_used(b, pack);
		last = pack;
	}
	return n;
}

/* The masked cells as a delta. */
static int encode_delta(struct builder *b, uint32_t space, uint64_t seg)
{
	for (uint32_t i = 0; i < CPX_SEG_PAGES; i++) {
		memset(&b->delta[i], 0, sizeof(b->delta[i]));
		if (b->mask[i])
			b->delta[i] = b->cells[i];
		b->keep_zero[i] = b->mask[i] && !b->cells[i].pack;
	}
	b->diff.len = 0;
	return cpx_seg_encode(space, seg, b->delta, b->keep_zero, &b->diff);
}

static bool same_cell(const struct cpx_cell *a, const struct cpx_cell *b)
{
	return a->pack == b->pack && a->pos == b->pos;
}

/* How many runs of the base's segment can stay: those before the first in an emptied pack. */
static uint32_t runs_to_keep(const struct builder *b, const struct cpx_seg_ref *old)
{
	uint32_t n = 0;

	while (n < old->nruns && !find_moved(b->w, old->runs[n].pack))
		n++;
	return n;
}

/*
 * Merge the newest runs with the changes as long as they are not larger than what is merged
 * already, so that sizes of runs fall by half at least from the oldest to the newest: there are
 * few of them, and each entry is written again only a logarithmic number of times.
 * @keep: at most so many stay. Return: how many do; the delta on them is in b->diff.
 */
static int merge_runs(struct builder *b, const struct cpx_seg_ref *old, uint32_t index,
		      uint32_t keep, struct cpx_err *err)
{
	uint32_t runs = old->nruns;
	int rc;

	for (uint32_t i = 0; i < CPX_SEG_PAGES; i++)
		b->mask[i] = !same_cell(&b->cells[i], &b->base[i]);
	rc = encode_delta(b, old->space, old->seg);
	while (rc == 0 && runs > 1) {
		CPX_AUTO_FREE struct cpx_seg_entry *e = NULL;
		int64_t n = cpx_seg_run(b->w->base, index, runs - 1, &e, err);

		if (n < 0)
			return (int)n;
		if (runs <= keep && runs < CPX_SEG_RUNS_MAX &&
		    CPX_SEG_HEADER + (size_t)n * CPX_SEG_ENTRY > b->diff.len)
			break;
		for (int64_t i = 0; i < n; i++)
			memset(b->mask + e[i].page, true, e[i].count);
		rc = encode_delta(b, old->space, old->seg);
		runs--;
	}
	return rc < 0 ? cpx_err_set(err, rc, "no memory for a map segment") : (int)runs;
}

/* Where the segment is to be found: as in the base, a delta on that, or a new one. */
static int write_seg(struct builder *b, struct cpx_seg_ref *ref, uint32_t index,
		     struct cpx_err *err)
{
	const struct cpx_seg_ref *old = index == UINT32_MAX ? NULL : &b->w->base->m.segs[index];
	const size_t size = CPX_SEG_PAGES * sizeof(*b->cells);
	uint32_t keep = old ? runs_to_keep(b, old) : 0;
	struct cpx_buf *out = &b->full;
	int rc;

	if (old && keep == old->nruns && memcmp(b->cells, b->base, size) == 0) {
		*ref = *old;
		return 0;
	}
	b->full.len = 0;
	if (cpx_seg_encode(ref->space, ref->seg, b->cells, NULL, &b->full) < 0)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a map segment");
	rc = keep ? merge_runs(b, old, index, keep, err) : 0;
	if (rc < 0)
		return rc;
	if (keep && b->diff.len * 2 < b->full.len) {
		memcpy(ref->runs, old->runs, sizeof(ref->runs));
		ref->nruns = (uint32_t)rc;
		out = &b->diff;
	}
	return cpx_worker_block(b->w->workers, CPX_BLOCK_SEGMENT, out->data, out->len,
				&ref->runs[ref->nruns++], err);
}

static int add_ref(struct builder *b, const struct cpx_seg_ref *ref, struct cpx_err *err)
{
	struct cpx_manifest *m = b->m;

	if (m->nsegs == b->seg_cap) {
		uint32_t cap = b->seg_cap ? b->seg_cap * 2 : 64;
		void *v;

		if (cap > CPX_SEGS_MAX)
			return cpx_err_set(err, CPX_E_LIMIT, "too many map segments");
		v = realloc(m->segs, cap * sizeof(*m->segs));
		if (!v)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for the page map");
		m->segs = v;
		b->seg_cap = cap;
	}
	m->segs[m->nsegs++] = *ref;
	return 0;
}

/* @p[0..n): all pieces of one segment. */
static int build_seg(struct builder *b, const struct cpx_piece *p, size_t n,
		     struct cpx_err *err)
{
	struct cpx_seg_ref ref = { .space = p->space, .seg = p->page / CPX_SEG_PAGES };
	uint32_t index;
	int rc = load_base(b, ref.space, ref.seg, &index, err);

	if (rc < 0)
		return rc;
	memset(b->cells, 0, CPX_SEG_PAGES * sizeof(*b->cells));
	for (size_t i = 0; i < n; i++)
		paint_piece(b, &p[i]);
	ref.pages = count_cells(b, &b->m->stats.pages_inherited);
	if (!ref.pages)
		return 0;
	if (b->w->shares) {
		rc = keep_done(b, ref.space, ref.seg, err);
		if (rc < 0)
			return rc;
	}
	rc = write_seg(b, &ref, index, err);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; b->w->base && i < ref.nruns; i++)
		mark_used(b, ref.runs[i].pack);
	return add_ref(b, &ref, err);
}

/* The packs of the base that are still referred to come first: their ids are lower. */
static int keep_base_packs(struct builder *b, struct cpx_err *err)
{
	const struct cpx_manifest *base = &b->w->base->m;

	b->m->packs = calloc((size_t)base->npacks + 1, sizeof(*b->m->packs));
	if (!b->m->packs)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the manifest");
	for (uint32_t i = 0; i < base->npacks; i++)
		if (b->used[i])
			b->m->packs[b->m->npacks++] = base->packs[i];
	return 0;
}

static int build(struct builder *b, const struct cpx_pieces *all, struct cpx_err *err)
{
	size_t n;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < all->n; i += n) {
		const struct cpx_piece *p = &all->v[i];

		for (n = 1; i + n < all->n; n++)
			if (p[n].space != p->space ||
			    p[n].page / CPX_SEG_PAGES != p->page / CPX_SEG_PAGES)
				break;
		rc = build_seg(b, p, n, err);
	}
	if (rc == 0 && b->w->base)
		rc = keep_base_packs(b, err);
	return rc;
}

int cpx_map_build(struct cpx_image_writer *w, struct cpx_manifest *m, struct cpx_err *err)
{
	struct builder b = { .w = w, .m = m };
	struct cpx_pieces all = { 0 };
	int rc = gather(w, &all, err);

	for (unsigned i = 0; i < w->nworkers; i++) {
		m->stats.bytes_memory += w->workers[i].bytes_memory;
		m->stats.bytes_zero += w->workers[i].bytes_zero;
	}
	if (rc == 0 && all.n) {
		b.cells = calloc(CPX_SEG_PAGES, sizeof(*b.cells));
		b.base = calloc(CPX_SEG_PAGES, sizeof(*b.base));
		b.delta = calloc(CPX_SEG_PAGES, sizeof(*b.delta));
		b.mask = calloc(CPX_SEG_PAGES, sizeof(*b.mask));
		b.keep_zero = calloc(CPX_SEG_PAGES, sizeof(*b.keep_zero));
		b.used = calloc(w->base ? (size_t)w->base->m.npacks + 1 : 1, sizeof(*b.used));
		if (b.cells && b.base && b.delta && b.mask && b.keep_zero && b.used)
			rc = build(&b, &all, err);
		else
			rc = cpx_err_set(err, CPX_E_NOMEM, "no memory for the page map");
	}
	for (size_t i = 0; i < b.ndone; i++)
		free(b.done[i].entries);
	free(b.done);
	cpx_buf_free(&b.full);
	cpx_buf_free(&b.diff);
	free(b.cells);
	free(b.base);
	free(b.delta);
	free(b.mask);
	free(b.keep_zero);
	free(b.used);
	free(all.v);
	return rc;
}
