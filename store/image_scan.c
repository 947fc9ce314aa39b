/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_scan.c - reading much of an image: in the order of the packs, by several threads.
 *
 * The page map is turned over: wanted pages are sorted by where they are stored, then
 * cut into tasks of neighbouring blocks. A worker reads a task's bytes at once, tells
 * the kernel what comes next, decodes block by block and hands pages on.
 */
#include "store_priv.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

#define TASK_BYTES (1u << 18) /* as stored */
#define AHEAD 16	      /* tasks announced to the kernel beforehand */
#define RUN_BLOCKS 4u	      /* decoded at once, so that calls of the sink are few */
#define WORKERS_MAX 256u

/* @count pages from (space, off) on are at @pos of pack number @pack (an index). */
struct want {
	uint64_t off;
	uint32_t space, pack, pos, count;
};

struct task {
	uint32_t pack, first, end; /* blocks */
	size_t want, nwants;	   /* those that touch it */
};

/* How a pack is cut into tasks. */
struct grid {
	uint32_t *cut; /* first block of each */
	uint32_t n;
};

struct scan {
	struct cpx_image *img;
	struct grid *grids; /* by pack */
	cpx_pieces_sink sink;
	void *ctx;
	struct want *wants;
	size_t nwants, want_cap;
	struct task *tasks;
	size_t ntasks, task_cap;
	bool all; /* verify: every block of every pack, no sink */
	atomic_size_t next;
	atomic_bool failed;
	pthread_mutex_t lock;
	struct cpx_err err;
};

struct scanner {
	struct scan *s;
	uint8_t *in, *out;
	size_t in_size, out_size;
	pthread_t thread;
};

static int grow(void *pv, size_t n, size_t *cap, size_t size)
{
	void **p = pv;
	size_t more = *cap ? *cap * 2 : 256;
	void *v;

	if (n < *cap)
		return 0;
	v = realloc(*p, more * size);
	if (!v)
		return -1;
	*p = v;
	*cap = more;
	return 0;
}

static int compare_wants(const void *a, const void *b)
{
	const struct want *x = a, *y = b;

	if (x->pack != y->pack)
		return x->pack < y->pack ? -1 : 1;
	if (x->pos != y->pos)
		return x->pos < y->pos ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static int compare_extents(const void *a, const void *b)
{
	const struct cpx_extent *x = a, *y = b;

	if (x->space != y->space)
		return x->space < y->space ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

/* Blocks [first, end) that begin a task: as many as TASK_BYTES hold. */
static uint32_t task_end(const struct cpx_block *tab, uint32_t first, uint32_t n)
{
	uint32_t end = first + 1;

	while (end < n && tab[end].off + tab[end].stored - tab[first].off <= TASK_BYTES)
		end++;
	return end;
}

/* The blocks at which tasks of pack @pack begin; once a scan. */
static int need_grid(struct scan *s, uint32_t pack, struct cpx_err *err)
{
	struct grid *g = &s->grids[pack];
	uint32_t n = s->img->m.packs[pack].nblocks;
	size_t cap = 0;
	int rc;

	if (g->n)
		return 0;
	rc = cpx_pack_get(s->img, pack, err);
	if (rc < 0)
		return rc;
	for (uint32_t b = 0; rc == 0 && b < n; b = task_end(s->img->packs[pack].table, b, n)) {
		if (grow(&g->cut, g->n, &cap, sizeof(*g->cut)) < 0)
			rc = cpx_err_set(err, CPX_E_NOMEM, "no memory to plan reading");
		else
			g->cut[g->n++] = b;
	}
	cpx_pack_put(s->img, pack);
	return rc;
}

/* The task that @block belongs to. */
static uint32_t cell_of(const struct grid *g, uint32_t block)
{
	uint32_t lo = 0, hi = g->n;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (g->cut[mid] <= block)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* Note the want, split so that each part belongs to one task. */
static int add_split(struct scan *s, struct want w, struct cpx_err *err)
{
	const struct grid *g = &s->grids[w.pack];
	int rc = need_grid(s, w.pack, err);

	while (rc == 0 && w.count) {
		uint32_t cell = cell_of(g, w.pos / CPX_BLOCK_PAGES), n = w.count;

		if (cell + 1 < g->n && g->cut[cell + 1] * CPX_BLOCK_PAGES - w.pos < n)
			n = g->cut[cell + 1] * CPX_BLOCK_PAGES - w.pos;
		if (grow(&s->wants, s->nwants, &s->want_cap, sizeof(*s->wants)) < 0)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory to plan reading");
		s->wants[s->nwants] = w;
		s->wants[s->nwants++].count = n;
		w.pos += n;
		w.off += (uint64_t)n * CPX_PAGE;
		w.count -= n;
	}
	return rc;
}

/* What of entry @e (segment at @base) lies in [@off, @end). */
static int add_want(struct scan *s, uint32_t space, uint64_t base,
		    const struct cpx_seg_entry *e, uint64_t off, uint64_t end,
		    struct cpx_err *err)
{
	const struct cpx_manifest *m = &s->img->m;
	uint64_t a = base + (uint64_t)e->page * CPX_PAGE;
	uint64_t b = a + (uint64_t)e->count * CPX_PAGE;
	uint64_t from = a < off ? off : a, to = b > end ? end : b;
	struct want w = { .off = from, .space = space };

	if (from >= to)
		return 0;
	w.pack = (uint32_t)(cpx_manifest_pack(m, e->pack) - m->packs);
	w.pos = e->pos + (uint32_t)((from - a) / CPX_PAGE);
	w.count = (uint32_t)((to - from) / CPX_PAGE);
	return add_split(s, w, err);
}

static int want_range(struct scan *s, const struct cpx_extent *x, struct cpx_err *err)
{
	struct cpx_image *img = s->img;
	uint64_t end = x->off + x->len;

	for (uint32_t i = cpx_manifest_seg(&img->m, x->space, x->off >> CPX_SEG_SHIFT);
	     i < img->m.nsegs && img->m.segs[i].space == x->space &&
	     img->m.segs[i].seg <= (end - 1) >> CPX_SEG_SHIFT;
	     i++) {
		struct cpx_seg *seg;
		int rc = cpx_seg_load(img, i, &seg, err);

		for (int64_t k = 0; rc == 0 && k < seg->n; k++)
			rc = add_want(s, x->space, img->m.segs[i].seg << CPX_SEG_SHIFT,
				      &seg->entries[k], x->off, end, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Each byte once: ranges sorted, overlaps cut off. */
static int want_ranges(struct scan *s, const struct cpx_extent *ranges, size_t n,
		       struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_extent *v = malloc((n + 1) * sizeof(*v));
	uint64_t reached = 0;
	int rc = 0;

	if (!v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to plan reading");
	for (size_t i = 0; i < n; i++) {
		v[i] = ranges[i];
		if (v[i].off % CPX_PAGE || v[i].len % CPX_PAGE ||
		    v[i].len > UINT64_MAX - v[i].off)
			return cpx_err_set(err, CPX_E_INVAL, "a range is not of whole pages");
	}
	qsort(v, n, sizeof(*v), compare_extents);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		uint64_t end = v[i].off + v[i].len;

		if (i == 0 || v[i].space != v[i - 1].space)
			reached = 0;
		if (v[i].off < reached)
			v[i].off = reached;
		if (v[i].off >= end)
			continue;
		v[i].len = end - v[i].off;
		reached = end;
		rc = want_range(s, &v[i], err);
	}
	return rc;
}

static int add_task(struct scan *s, const struct task *t)
{
	if (grow(&s->tasks, s->ntasks, &s->task_cap, sizeof(*s->tasks)) < 0)
		return -1;
	s->tasks[s->ntasks++] = *t;
	return 0;
}

/* Sorted wants of one cell of the grid are a task. */
static int plan_wants(struct scan *s, struct cpx_err *err)
{
	size_t n;

	for (size_t i = 0; i < s->nwants; i += n) {
		const struct want *w = &s->wants[i];
		const struct grid *g = &s->grids[w->pack];
		uint32_t first = w->pos / CPX_BLOCK_PAGES, cell = cell_of(g, first),
			 last = first;

		for (n = 0; i + n < s->nwants && w[n].pack == w->pack &&
			    cell_of(g, w[n].pos / CPX_BLOCK_PAGES) == cell;
		     n++) {
			uint32_t reach = (w[n].pos + w[n].count - 1) / CPX_BLOCK_PAGES;

			last = reach > last ? reach : last;
		}
		const struct task t = {
			.pack = w->pack, .first = first, .end = last + 1, .want = i, .nwants = n
		};

		if (add_task(s, &t) < 0)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory to plan reading");
	}
	return 0;
}

static int plan_all(struct scan *s, struct cpx_err *err)
{
	for (uint32_t p = 0; p < s->img->m.npacks; p++) {
		const struct grid *g = &s->grids[p];
		int rc = need_grid(s, p, err);

		for (uint32_t i = 0; rc == 0 && i < g->n; i++) {
			const struct task t = { .pack = p,
						.first = g->cut[i],
						.end = i + 1 < g->n
							       ? g->cut[i + 1]
							       : s->img->m.packs[p].nblocks };

			if (add_task(s, &t) < 0)
				rc = cpx_err_set(err, CPX_E_NOMEM, "no memory to plan reading");
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int need_room(uint8_t **p, size_t *have, size_t want, struct cpx_err *err)
{
	void *m;

	if (*have >= want)
		return 0;
	if (*p)
		munmap(*p, *have);
	*p = NULL;
	*have = 0;
	m = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to read with");
	*p = m;
	*have = want;
	return 0;
}

/* The pages of [first, end) that are wanted, from where they were decoded. */
static int hand_over(struct scanner *w, const struct task *t, size_t *want, uint32_t first,
		     uint32_t end, struct cpx_err *err)
{
	struct scan *s = w->s;
	uint32_t from = first * CPX_BLOCK_PAGES, to = end * CPX_BLOCK_PAGES;
	struct cpx_page_piece v[CPX_PIECES_MAX];
	size_t n = 0;

	for (size_t i = *want; i < t->want + t->nwants; i++) {
		const struct want *x = &s->wants[i];
		uint32_t a = x->pos < from ? from : x->pos;
		uint32_t b = x->pos + x->count > to ? to : x->pos + x->count;
		int rc = 0;

		if (x->pos >= to)
			break;
		if (i == *want && x->pos + x->count <= to)
			(*want)++;
		if (a >= b)
			continue;
		v[n++] = (struct cpx_page_piece){
			.space = x->space,
			.off = x->off + (uint64_t)(a - x->pos) * CPX_PAGE,
			.data = w->out + (size_t)(a - from) * CPX_PAGE,
			.len = (size_t)(b - a) * CPX_PAGE,
		};
		if (n == CPX_PIECES_MAX) {
			rc = s->sink(s->ctx, v, n, err);
			n = 0;
		}
		if (rc < 0)
			return rc;
	}
	return n ? s->sink(s->ctx, v, n, err) : 0;
}

/* Whether a wanted page lies in @block, and none behind its last page. */
static int check_block(const struct scanner *w, const struct task *t, size_t want,
		       uint32_t block, bool *wanted, struct cpx_err *err)
{
	const struct cpx_block *b = &w->s->img->packs[t->pack].table[block];
	uint32_t from = block * CPX_BLOCK_PAGES, to = from + CPX_BLOCK_PAGES;
	uint32_t full = from + b->raw / CPX_PAGE;

	*wanted = false;
	for (size_t i = want; i < t->want + t->nwants && w->s->wants[i].pos < to; i++) {
		const struct want *x = &w->s->wants[i];
		uint32_t stop = x->pos + x->count < to ? x->pos + x->count : to;

		if (x->pos + x->count <= from)
			continue;
		*wanted = true;
		if (b->kind != CPX_BLOCK_DATA || stop > full)
			return cpx_err_set(err, CPX_E_FORMAT,
					   "the page map points to what is no page");
	}
	return 0;
}

/* Decode all of a task, a few blocks at a time. */
static int decode_task(struct scanner *w, const struct task *t, struct cpx_err *err)
{
	const struct cpx_block *tab = w->s->img->packs[t->pack].table;
	size_t want = t->want;
	int rc = 0;

	for (uint32_t first = t->first; rc == 0 && first < t->end; first += RUN_BLOCKS) {
		uint32_t end = first + RUN_BLOCKS < t->end ? first + RUN_BLOCKS : t->end;

		for (uint32_t b = first; rc == 0 && b < end; b++) {
			size_t at = (size_t)(b - first) * CPX_BLOCK_RAW;
			bool wanted = true;

			if (!w->s->all)
				rc = check_block(w, t, want, b, &wanted, err);
			if (rc == 0 && tab[b].raw > CPX_BLOCK_RAW)
				at = 0; /* a segment; only verify comes here */
			if (rc == 0 && wanted)
				rc = cpx_block_decode(w->s->img, t->pack, b,
						      w->in + (tab[b].off - tab[t->first].off),
						      w->out + at, err);
		}
		if (rc == 0 && !w->s->all)
			rc = hand_over(w, t, &want, first, end, err);
	}
	return rc;
}

static void announce(struct scan *s, size_t i)
{
	const struct task *t;
	const struct cpx_block *tab;

	if (i >= s->ntasks)
		return;
	t = &s->tasks[i];
	if (cpx_pack_get(s->img, t->pack, NULL) < 0)
		return;
	tab = s->img->packs[t->pack].table;
	posix_fadvise(s->img->packs[t->pack].fd, (off_t)tab[t->first].off,
		      (off_t)(tab[t->end - 1].off + tab[t->end - 1].stored - tab[t->first].off),
		      POSIX_FADV_WILLNEED);
	cpx_pack_put(s->img, t->pack);
}

static int do_task(struct scanner *w, const struct task *t, struct cpx_err *err)
{
	struct cpx_image *img = w->s->img;
	const size_t out = RUN_BLOCKS * CPX_BLOCK_RAW;
	const struct cpx_block *tab;
	char path[CPX_NAME_MAX];
	size_t n;
	int rc = cpx_pack_get(img, t->pack, err);

	if (rc < 0)
		return rc;
	tab = img->packs[t->pack].table;
	n = tab[t->end - 1].off + tab[t->end - 1].stored - tab[t->first].off;
	cpx_pack_path(img, t->pack, path);
	rc = need_room(&w->in, &w->in_size, n > TASK_BYTES ? n : TASK_BYTES, err);
	if (rc == 0)
		rc = need_room(&w->out, &w->out_size, out, err);
	if (rc == 0)
		rc = cpx_io_read(&img->store->io, img->packs[t->pack].fd, path, w->in, n,
				 tab[t->first].off, err);
	if (rc == 0)
		rc = decode_task(w, t, err);
	cpx_pack_put(img, t->pack);
	return rc;
}

static void *scanner_main(void *arg)
{
	struct scanner *w = arg;
	struct scan *s = w->s;
	struct cpx_err err = { 0 };

	while (!atomic_load(&s->failed)) {
		size_t i = atomic_fetch_add(&s->next, 1);

		if (i >= s->ntasks)
			break;
		announce(s, i + AHEAD);
		if (do_task(w, &s->tasks[i], &err) < 0) {
			pthread_mutex_lock(&s->lock);
			if (!atomic_exchange(&s->failed, true))
				s->err = err;
			pthread_mutex_unlock(&s->lock);
		}
	}
	if (w->in)
		munmap(w->in, w->in_size);
	if (w->out)
		munmap(w->out, w->out_size);
	return NULL;
}

static int run_tasks(struct scan *s, unsigned workers, struct cpx_err *err)
{
	struct scanner w[WORKERS_MAX] = { 0 };
	unsigned n = cpx_store_workers(workers), started = 0;
	sigset_t all, old;

	if (n > WORKERS_MAX)
		n = WORKERS_MAX;
	if (n > s->ntasks)
		n = s->ntasks ? (unsigned)s->ntasks : 1;
	for (size_t i = 0; i < AHEAD && n > 1; i++)
		announce(s, i);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned i = 1; i < n; i++) {
		w[i].s = s;
		if (pthread_create(&w[i].thread, NULL, scanner_main, &w[i]) != 0)
			break; /* fewer will do */
		started = i;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	w[0].s = s;
	scanner_main(&w[0]);
	for (unsigned i = 1; i <= started; i++)
		pthread_join(w[i].thread, NULL);
	if (!atomic_load(&s->failed))
		return 0;
	if (err)
		*err = s->err;
	return s->err.code;
}

static int begin(struct scan *s, struct cpx_err *err)
{
	pthread_mutex_init(&s->lock, NULL);
	s->grids = calloc((size_t)s->img->m.npacks + 1, sizeof(*s->grids));
	return s->grids ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory to plan reading");
}

static void end(struct scan *s)
{
	for (uint32_t i = 0; s->grids && i < s->img->m.npacks; i++)
		free(s->grids[i].cut);
	free(s->grids);
	free(s->wants);
	free(s->tasks);
	pthread_mutex_destroy(&s->lock);
}

int cpx_page_each(void *ctx, const struct cpx_page_piece *v, size_t n, struct cpx_err *err)
{
	const struct cpx_page_each *e = ctx;
	int rc = 0;

	for (size_t i = 0; i < n && rc >= 0; i++)
		rc = e->sink(e->ctx, v[i].space, v[i].off, v[i].data, v[i].len, err);
	return rc;
}

int cpx_image_scan(struct cpx_image *img, const struct cpx_extent *ranges, size_t n,
		   unsigned workers, cpx_page_sink sink, void *ctx, struct cpx_err *err)
{
	struct cpx_page_each e = { .sink = sink, .ctx = ctx };

	return cpx_image_scan_pieces(img, ranges, n, workers, cpx_page_each, &e, err);
}

int cpx_image_scan_pieces(struct cpx_image *img, const struct cpx_extent *ranges, size_t n,
			  unsigned workers, cpx_pieces_sink sink, void *ctx,
			  struct cpx_err *err)
{
	struct scan s = { .img = img, .sink = sink, .ctx = ctx };
	int rc = begin(&s, err);

	if (rc == 0)
		rc = want_ranges(&s, ranges, n, err);
	if (rc == 0 && s.nwants) {
		qsort(s.wants, s.nwants, sizeof(*s.wants), compare_wants);
		rc = plan_wants(&s, err);
	}
	if (rc == 0 && s.ntasks)
		rc = run_tasks(&s, workers, err);
	end(&s);
	return rc;
}

/* All map entries point to pages that are there. */
static int verify_maps(struct cpx_image *img, struct cpx_err *err)
{
	for (uint32_t i = 0; i < img->m.nsegs; i++) {
		struct cpx_seg *s;
		int64_t pages = 0;
		int rc = cpx_seg_load(img, i, &s, err);

		for (int64_t k = 0; rc == 0 && k < s->n; k++) {
			const struct cpx_seg_entry *e = &s->entries[k];
			uint32_t p =
				(uint32_t)(cpx_manifest_pack(&img->m, e->pack) - img->m.packs);

			pages += e->count;
			for (uint32_t q = e->pos; rc == 0 && q < e->pos + e->count; q++) {
				const struct cpx_block *b =
					&img->packs[p].table[q / CPX_BLOCK_PAGES];

				if (b->kind != CPX_BLOCK_DATA ||
				    (q % CPX_BLOCK_PAGES + 1) * CPX_PAGE > b->raw)
					rc = cpx_err_set(err, CPX_E_FORMAT,
							 "the page map points to no page");
			}
		}
		if (rc == 0 && pages != img->m.segs[i].pages)
			rc = cpx_err_set(err, CPX_E_FORMAT,
					 "a map segment has %lld pages, not %u",
					 (long long)pages, img->m.segs[i].pages);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The code objects that files refer to. */
static int verify_code(struct cpx_image *img, struct cpx_err *err)
{
	cpx_state_each(img->state, file, f) {
		int rc = 0;

		if (f->sha256.n == 32)
			rc = cpx_store_check_code(img->store, f->sha256.p, err);
		if (rc < 0)
			return cpx_err_wrap(err, "%s", f->path ? f->path : "a file"), rc;
	}
	return 0;
}

int cpx_image_check(struct cpx_image *img, struct cpx_err *err)
{
	for (uint32_t i = 0; i < img->m.npacks; i++) {
		int rc = cpx_pack_get(img, i, err);

		if (rc < 0)
			return rc;
		cpx_pack_put(img, i);
	}
	return verify_maps(img, err);
}

int cpx_image_verify(struct cpx_image *img, unsigned workers, struct cpx_err *err)
{
	struct scan s = { .img = img, .all = true };
	int rc = begin(&s, err);

	if (rc == 0)
		rc = plan_all(&s, err);
	if (rc == 0 && s.ntasks)
		rc = run_tasks(&s, workers, err);
	end(&s);
	if (rc == 0)
		rc = verify_maps(img, err);
	return rc < 0 ? rc : verify_code(img, err);
}
