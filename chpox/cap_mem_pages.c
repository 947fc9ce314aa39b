/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_mem_pages.c - which pages of an address space have content of their own, and handing
 * them to the image.
 *
 * A page is saved if it is private: present or swapped, and not (any more) a page of a file.
 * PAGEMAP_SCAN tells that without touching what is not there, so a reservation of
 * 64 GiB costs nothing; where the kernel lacks it, /proc/PID/pagemap is read.
 */
#include "cap_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cap_precopy.h"
#include "known.h"
#include "pagemap.h"
#include "track.h"

/* Bits of an entry of /proc/PID/pagemap. */
#define ENTRY_PRESENT (1ull << 63)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_FILE (1ull << 61)
#define ENTRY_GUARD (1ull << 58)
#define ENTRY_PLACE ((1ull << 55) - 1)
#define ENTRY_WP_MARKER (1ull << 5 | 31) /* place of a write-protect mark where no page is */

#define REGIONS 1024
#define ENTRIES 65536u
#define COMPARE 8192u	    /* entries at once */
#define COW_MAX 500000	    /* ranges; what a record can hold */
#define WATCH_NS 5000000    /* a look costs as much as writing some pages */
#define COMPARED (1u << 20) /* bytes read at once to be compared */
#define PIECE (16u << 20)   /* bytes queued at once, so that the watch gets its turn */

int cpx_mem_add_range(struct cpx_mem_ranges *r, uint64_t start, uint64_t end,
		      struct cpx_err *err)
{
	if (r->n && r->v[r->n - 1][1] == start) {
		r->v[r->n - 1][1] = end;
		return 0;
	}
	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 64;
		void *v = realloc(r->v, cap * sizeof(*r->v));

		if (!v)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for page ranges");
		r->v = v;
		r->cap = cap;
	}
	r->v[r->n][0] = start;
	r->v[r->n++][1] = end;
	return 0;
}

/* What the kernel can do, by trying on an empty range. */
static enum cpx_mem_scan probe(int pagemap_fd)
{
	struct page_region v;
	struct pm_scan_arg a = { .size = sizeof(a),
				 .vec = (uintptr_t)&v,
				 .vec_len = 1,
				 .category_mask = PM_GUARD,
				 .return_mask = PM_GUARD };

	a.end = CPX_PAGE;
	if (ioctl(pagemap_fd, PM_SCAN, &a) >= 0)
		return CPX_SCAN_GUARD;
	a.category_mask = a.return_mask = PM_PRESENT;
	return ioctl(pagemap_fd, PM_SCAN, &a) >= 0 ? CPX_SCAN_PLAIN : CPX_SCAN_NONE;
}

static enum cpx_mem_scan how(struct cpx_mem *m, int pagemap_fd)
{
	if (m->scan == CPX_SCAN_UNKNOWN)
		m->scan = probe(pagemap_fd);
	return m->scan;
}

typedef int (*region_fn)(void *ctx, const struct page_region *v, struct cpx_err *err);

/* Regions of what @what asks for, ascending. @most: pages to find before stopping, 0 for all.
 */
static int each_region(int fd, const struct pm_scan_arg *what, uint64_t start, uint64_t end,
		       uint64_t most, region_fn fn, void *ctx, struct cpx_err *err)
{
	CPX_AUTO_FREE struct page_region *v = malloc(REGIONS * sizeof(*v));

	if (!v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for page ranges");
	while (start < end) {
		struct pm_scan_arg a = *what;
		int n, rc;

		a.size = sizeof(a);
		a.start = start;
		a.end = end;
		a.vec = (uintptr_t)v;
		a.vec_len = REGIONS;
		a.max_pages = most;
		n = ioctl(fd, PM_SCAN, &a);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cpx_err_sys(err, errno, "scan pages at 0x%" PRIx64, start);
		for (int i = 0; i < n; i++) {
			rc = fn(ctx, &v[i], err);
			if (rc < 0)
				return rc;
		}
		if ((most && n) || a.walk_end <= start)
			break;
		start = a.walk_end;
	}
	return 0;
}

static int add_region(void *ctx, const struct page_region *v, struct cpx_err *err)
{
	return cpx_mem_add_range(ctx, v->start, v->end, err);
}

struct listed {
	int fd; /* of the page map */
	struct cpx_mem_ranges *out;
	bool marks; /* some were passed over */
};

/*
 * Where tracked memory that is not anonymous is given back or reclaimed, the kernel leaves a
 * mark that PAGEMAP_SCAN calls a page in swap, and a clean one: what is there is the file
 * again.
 */
static int add_pages(void *ctx, const struct page_region *v, struct cpx_err *err)
{
	struct listed *l = ctx;
	int rc = 0;

	if (v->categories & PM_PRESENT)
		return cpx_mem_add_range(l->out, v->start, v->end, err);
	for (uint64_t at = v->start; at < v->end && rc == 0; at += CPX_PAGE) {
		uint64_t e;

		if (cpx_pread_full(l->fd, &e, sizeof(e), at / CPX_PAGE * sizeof(e)) !=
		    (ssize_t)sizeof(e))
			return cpx_err_sys(err, errno, "read page map at 0x%" PRIx64, at);
		if (!(e & ENTRY_PRESENT) && (e & ENTRY_PLACE) == ENTRY_WP_MARKER)
			l->marks = true;
		else
			rc = cpx_mem_add_range(l->out, at, at + CPX_PAGE, err);
	}
	return rc;
}

/* What is between the regions that are not private. */
struct between {
	struct cpx_mem_ranges *out, *guards;
	uint64_t at; /* where the last of them ended */
};

static int add_before(void *ctx, const struct page_region *v, struct cpx_err *err)
{
	struct between *b = ctx;
	uint64_t c = v->categories;
	int rc;

	/* swapped out: private, though not present */
	if ((c & (PM_PRESENT | PM_SWAPPED)) && !(c & (PM_PFNZERO | PM_GUARD)))
		return 0;
	rc = v->start > b->at ? cpx_mem_add_range(b->out, b->at, v->start, err) : 0;
	b->at = v->end;
	return rc == 0 && (c & PM_GUARD) ? cpx_mem_add_range(b->guards, v->start, v->end, err)
					 : rc;
}

/*
 * Memory is dense as a rule, and passing over a page costs the kernel a tenth of listing it:
 * so what is not private is listed.
 */
static int scan_between(int fd, bool guard, uint64_t start, uint64_t end,
			struct cpx_mem_ranges *out, struct cpx_mem_ranges *guards,
			struct cpx_err *err)
{
	uint64_t more = PM_PFNZERO | (guard ? PM_GUARD : 0);
	struct pm_scan_arg what = { .category_inverted = PM_PRESENT,
				    .category_anyof_mask = PM_PRESENT | more,
				    .return_mask = PM_PRESENT | PM_SWAPPED | more };
	struct between b = { .out = out, .guards = guards, .at = start };
	int rc = each_region(fd, &what, start, end, 0, add_before, &b, err);

	return rc == 0 && b.at < end ? cpx_mem_add_range(out, b.at, end, err) : rc;
}

static bool private_entry(uint64_t e)
{
	return (e & (ENTRY_PRESENT | ENTRY_SWAPPED)) && !(e & (ENTRY_FILE | ENTRY_GUARD));
}

static int scan_entries(int fd, uint64_t start, uint64_t end, bool first,
			struct cpx_mem_ranges *out, struct cpx_err *err)
{
	CPX_AUTO_FREE uint64_t *e = malloc(ENTRIES * sizeof(*e));
	uint64_t most = first ? 64 : ENTRIES;

	if (!e)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for page ranges");
	while (start < end) {
		uint64_t n = (end - start) / CPX_PAGE;
		ssize_t got;

		if (n > most)
			n = most;
		got = cpx_pread_full(fd, e, n * sizeof(*e), start / CPX_PAGE * sizeof(*e));
		if (got < 0)
			return cpx_err_sys(err, errno, "read page map at 0x%" PRIx64, start);
		if (got < (ssize_t)sizeof(*e))
			break;
		n = (uint64_t)got / sizeof(*e);
		for (uint64_t i = 0; i < n; i++) {
			uint64_t at = start + i * CPX_PAGE;
			int rc = private_entry(e[i])
					 ? cpx_mem_add_range(out, at, at + CPX_PAGE, err)
					 : 0;

			if (rc < 0)
				return rc;
			if (first && out->n)
				return 0;
		}
		start += n * CPX_PAGE;
		most = ENTRIES;
	}
	return 0;
}

static struct pm_scan_arg private_pages(enum cpx_mem_scan scan)
{
	uint64_t none = PM_FILE | PM_PFNZERO | (scan == CPX_SCAN_GUARD ? PM_GUARD : 0);

	return (struct pm_scan_arg){ .category_inverted = none,
				     .category_mask = none,
				     .category_anyof_mask = PM_PRESENT | PM_SWAPPED,
				     .return_mask = PM_PRESENT | PM_SWAPPED };
}

int cpx_mem_scan_pages(struct cpx_mem *m, int fd, const struct cpx_rec_vma *v,
		       struct cpx_mem_ranges *out, struct cpx_mem_ranges *guards,
		       struct cpx_err *err)
{
	enum cpx_mem_scan scan = how(m, fd);
	struct pm_scan_arg what = private_pages(scan),
			   guard = { .category_mask = PM_GUARD, .return_mask = PM_GUARD };
	struct listed l = { .fd = fd, .out = out };
	int rc;

	if (scan == CPX_SCAN_NONE)
		return scan_entries(fd, v->start, v->end, false, out, err);
	if (v->kind == CPX_VMA_ANON && !(v->flags & MAP_HUGETLB))
		return scan_between(fd, scan == CPX_SCAN_GUARD, v->start, v->end, out, guards,
				    err);
	rc = each_region(fd, &what, v->start, v->end, 0, add_pages, &l, err);
	if (rc == 0 && scan == CPX_SCAN_GUARD)
		rc = each_region(fd, &guard, v->start, v->end, 0, add_region, guards, err);
	return rc;
}

int cpx_mem_first_page(struct cpx_mem *m, int fd, uint64_t start, uint64_t end, uint64_t *addr,
		       struct cpx_err *err)
{
	enum cpx_mem_scan scan = how(m, fd);
	struct pm_scan_arg what = private_pages(scan);
	struct cpx_mem_ranges found = { 0 };
	struct listed l = { .fd = fd, .out = &found };
	int rc;

	if (scan == CPX_SCAN_NONE)
		rc = scan_entries(fd, start, end, true, &found, err);
	else
		rc = each_region(fd, &what, start, end, 1, add_pages, &l, err);
	if (rc == 0 && !found.n && l.marks)
		rc = each_region(fd, &what, start, end, 0, add_pages, &l, err);
	if (rc == 0 && found.n) {
		*addr = found.v[0][0];
		rc = 1;
	}
	free(found.v);
	return rc;
}

bool cpx_mem_has_pages(const struct cpx_mem_vma *v)
{
	switch (v->rec->kind) {
	case CPX_VMA_ANON:
	case CPX_VMA_FILE_PRIVATE:
	case CPX_VMA_SHM_PRIVATE:
		return true;
	default:
		return false;
	}
}

/* --- to the image ------------------------------------------------------------------------- */

/* A snapshot of the module's ends before each page that is not there. */
static int read_sparse(const struct cpx_mem_src *s, uint64_t off, uint8_t *buf, size_t len,
		       struct cpx_err *err)
{
	while (len) {
		ssize_t n = pread(s->mem_fd, buf, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == ENXIO) {
			n = (ssize_t)(CPX_PAGE - off % CPX_PAGE);
			n = n < (ssize_t)len ? n : (ssize_t)len;
			memset(buf, 0, (size_t)n);
		}
		if (n <= 0)
			return cpx_err_sys(err, n < 0 ? errno : EIO,
					   "read the snapshot of a process at 0x%" PRIx64, off);
		buf += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int cpx_mem_read_src(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	const struct cpx_mem_src *s = ctx;
	ssize_t n;

	if (s->sparse)
		return read_sparse(s, off, buf, len, err);
	n = cpx_pread_full(s->mem_fd, buf, len, off);

	if (n != (ssize_t)len)
		return cpx_err_sys(err, n < 0 ? errno : ESRCH,
				   "read memory of process %d at 0x%" PRIx64, s->pid, off);
	if (s->home)
		cpx_home_mask(s->home, off, buf, len);
	return 0;
}

static int read_stash(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	const struct cpx_mem_stash *s = ctx;

	(void)err;
	memcpy(buf, s->data + (off - s->off), len);
	return 0;
}

static int put_stashed(struct cpx_cap *c, uint32_t space, uint64_t off, uint64_t len,
		       cpx_page_reader reader, void *ctx, struct cpx_err *err)
{
	struct cpx_mem_stash *s = malloc(sizeof(*s) + len);
	int rc;

	if (!s)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to copy pages into");
	s->off = off;
	s->next = c->mem->stash;
	c->mem->stash = s;
	c->mem->stash_len += len;
	rc = reader(ctx, off, s->data, len, err);
	if (rc < 0)
		return rc;
	return cpx_image_put(c->writer, space, off, len, read_stash, s, err);
}

/* While a clone lives, each page that the job writes costs one more. */
static int watch(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_mem *m = c->mem;
	int64_t now;

	if (c->opts->deadline_ns && c->way == CPX_SNAP_CLONE &&
	    cpx_mono_ns() > c->opts->deadline_ns)
		return cpx_err_set(err, CPX_E_TIMEOUT, "not finished before the deadline");
	if (!m->watch_floor || c->way != CPX_SNAP_CLONE)
		return 0;
	now = cpx_mono_ns();
	if (now - m->watched_ns < WATCH_NS)
		return 0;
	m->watched_ns = now;
	if (cpx_mem_head_room(c->tasks[0]->pid) >= m->watch_floor)
		return 0;
	return cpx_err_set(err, CPX_E_LIMIT,
			   "memory became short while the checkpoint was written, so it was "
			   "given up; the job runs on; try again with less running or --stop");
}

int cpx_mem_put(struct cpx_cap *c, uint32_t space, uint64_t off, uint64_t len,
		cpx_page_reader reader, void *ctx, bool stash, struct cpx_err *err)
{
	while (len) {
		uint64_t n = len < PIECE ? len : PIECE;
		int rc;

		if (stash && n <= CPX_MEM_STASH_MAX - c->mem->stash_len) {
			rc = put_stashed(c, space, off, n, reader, ctx, err);
		} else {
			if (stash)
				c->mem->direct = true;
			rc = watch(c, err);
			if (rc == 0)
				rc = cpx_image_put(c->writer, space, off, n, reader, ctx, err);
		}
		if (rc < 0)
			return rc;
		off += n;
		len -= n;
	}
	return 0;
}

/* One stretch whose content is the same as in the base, or is not. */
static int put_stretch(struct cpx_cap *c, bool same, uint32_t space, uint64_t off, uint64_t len,
		       cpx_page_reader reader, void *ctx, bool stash, struct cpx_err *err)
{
	return same ? cpx_image_inherit(c->writer, space, off, len, err)
		    : cpx_mem_put(c, space, off, len, reader, ctx, stash, err);
}

int cpx_mem_put_changed(struct cpx_cap *c, struct cpx_known *known, uint32_t space,
			uint64_t off, uint64_t len, cpx_page_reader reader, void *ctx,
			bool stash, struct cpx_err *err)
{
	CPX_AUTO_FREE uint8_t *buf = malloc(COMPARED);
	uint64_t from = off; /* of the stretch under way */
	bool same = false;

	if (!buf)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to compare pages");
	for (uint64_t at = off; at < off + len; at += COMPARED) {
		uint64_t n = off + len - at < COMPARED ? off + len - at : COMPARED;
		int rc = reader(ctx, at, buf, n, err);

		for (uint64_t i = 0; i < n && rc == 0; i += CPX_PAGE) {
			bool now = cpx_known_same(known, at + i, buf + i) && c->incremental;

			if (now == same || at + i == off) {
				same = now;
				continue;
			}
			rc = put_stretch(c, same, space, from, at + i - from, reader, ctx,
					 stash, err);
			from = at + i;
			same = now;
		}
		if (rc < 0)
			return rc;
	}
	return put_stretch(c, same, space, from, off + len - from, reader, ctx, stash, err);
}

/* The first range of @r that ends behind @at. */
static size_t first_behind(const struct cpx_mem_ranges *r, uint64_t at)
{
	size_t lo = 0, hi = r->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->v[mid][1] <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Clean pages: put before the pause in this generation, or else as the base has them. */
static int put_clean(struct cpx_cap *c, struct cpx_mem_mm *mm, uint64_t start, uint64_t end,
		     struct cpx_err *err)
{
	static const struct cpx_mem_ranges none;
	const struct cpx_mem_ranges *e = mm->early ? &mm->early->copied : &none;
	int rc = 0;

	for (size_t i = first_behind(e, start); start < end && rc == 0; i++) {
		uint64_t from = i < e->n && e->v[i][0] < end ? e->v[i][0] : end;
		uint64_t to = i < e->n && e->v[i][1] < end ? e->v[i][1] : end;

		if (from > start)
			rc = cpx_image_inherit(c->writer, mm->rec->space, start, from - start,
					       err);
		start = to;
	}
	return rc;
}

static int read_zeros(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	(void)ctx;
	(void)off;
	(void)err;
	memset(buf, 0, len);
	return 0;
}

/* What was put before the pause but is not there any more ([@start, @end) is a hole now). */
static int put_hole(struct cpx_cap *c, struct cpx_mem_mm *mm, uint64_t start, uint64_t end,
		    struct cpx_err *err)
{
	const struct cpx_mem_ranges *e = &mm->early->copied;
	int rc = 0;

	for (size_t i = first_behind(e, start); i < e->n && e->v[i][0] < end && rc == 0; i++) {
		uint64_t from = e->v[i][0] > start ? e->v[i][0] : start;
		uint64_t to = e->v[i][1] < end ? e->v[i][1] : end;

		rc = cpx_image_put(c->writer, mm->rec->space, from, to - from, read_zeros, NULL,
				   err);
	}
	return rc;
}

/* Pages that are there: what was written since the base is put, the rest inherited. */
static int put_pages(struct cpx_cap *c, struct cpx_mem_mm *mm, const struct cpx_mem_vma *v,
		     struct cpx_mem_src *src, uint64_t start, uint64_t end, bool stash,
		     struct cpx_err *err)
{
	const struct cpx_mem_ranges *d = &mm->dirty;
	uint32_t space = mm->rec->space;
	int rc = 0;

	if (mm->track && cpx_track_known(mm->track))
		return cpx_mem_put_changed(c, cpx_track_known(mm->track), space, start,
					   end - start, cpx_mem_read_src, src, stash, err);
	if (!v->covered)
		return cpx_mem_put(c, space, start, end - start, cpx_mem_read_src, src, stash,
				   err);
	for (size_t i = first_behind(d, start); start < end && rc == 0; i++) {
		uint64_t from = i < d->n && d->v[i][0] < end ? d->v[i][0] : end;
		uint64_t to = i < d->n && d->v[i][1] < end ? d->v[i][1] : end;

		if (from > start)
			rc = put_clean(c, mm, start, from, err);
		else
			from = start;
		if (rc == 0 && from < to)
			rc = cpx_mem_put(c, space, from, to - from, cpx_mem_read_src, src,
					 stash, err);
		start = to;
	}
	return rc;
}

int cpx_mem_open_pagemap(const struct cpx_mem_src *src, struct cpx_err *err)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", src->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? cpx_err_sys(err, errno, "open %s", path) : fd;
}

/* The record of the guard regions of a mapping. */
static int guard_record(struct cpx_cap *c, struct cpx_mem_mm *mm,
			const struct cpx_mem_ranges *guards, struct cpx_err *err)
{
	struct cpx_rec_guard *rec;
	uint64_t *copy;

	if (!guards->n)
		return 0;
	rec = cpx_state_new_rec(c->st, guard);
	copy = cpx_state_alloc(c->st, guards->n * sizeof(*guards->v));
	if (!rec || !copy)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for guard regions");
	memcpy(copy, guards->v, guards->n * sizeof(*guards->v));
	rec->mm_id = mm->rec->id;
	rec->ranges = (struct cpx_u64s){ copy, (uint32_t)(guards->n * 2) };
	return 0;
}

/* Private pages over a file that are all zero: without a word the file would show there again.
 */
static int put_zeros(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_mem_src *src,
		     const struct cpx_mem_ranges *found, struct cpx_err *err)
{
	static const uint8_t zero[CPX_PAGE];
	struct cpx_mem_ranges zeros = { 0 };
	struct cpx_rec_zeros *rec;
	uint8_t page[CPX_PAGE];
	uint64_t *copy;
	int rc = 0;

	for (size_t i = 0; i < found->n && rc == 0; i++) {
		for (uint64_t at = found->v[i][0]; at < found->v[i][1] && rc == 0;
		     at += CPX_PAGE) {
			rc = cpx_mem_read_src(src, at, page, sizeof(page), err);
			if (rc == 0 && memcmp(page, zero, sizeof(page)) == 0)
				rc = cpx_mem_add_range(&zeros, at, at + CPX_PAGE, err);
		}
	}
	if (rc == 0 && zeros.n) {
		rec = cpx_state_new_rec(c->st, zeros);
		copy = cpx_state_alloc(c->st, zeros.n * sizeof(*zeros.v));
		if (rec && copy) {
			memcpy(copy, zeros.v, zeros.n * sizeof(*zeros.v));
			rec->mm_id = mm->rec->id;
			rec->ranges = (struct cpx_u64s){ copy, (uint32_t)(zeros.n * 2) };
		} else {
			rc = cpx_err_set(err, CPX_E_NOMEM, "no memory for page ranges");
		}
	}
	free(zeros.v);
	return rc;
}

/* --- what parent and child share -----------------------------------------------------------
 */

/* Entries of one stretch in child, parent, and parent again. */
struct entries {
	uint64_t child[COMPARE], before[COMPARE], after[COMPARE];
};

static int read_entries(int fd, uint64_t at, uint64_t n, uint64_t *e, struct cpx_err *err)
{
	ssize_t got = cpx_pread_full(fd, e, n * sizeof(*e), at / CPX_PAGE * sizeof(*e));

	if (got != (ssize_t)(n * sizeof(*e)))
		return cpx_err_sys(err, got < 0 ? errno : ESRCH, "read page map at 0x%" PRIx64,
				   at);
	return 0;
}

/*
 * The same frame (or place in swap) behind the same address is the same page. Frames may be
 * exchanged by the kernel at any time, for all who share them: so the parent is read before and
 * after the child.
 */
static bool same_page(const struct entries *e, uint64_t i)
{
	const uint64_t place = ENTRY_PLACE, state = ENTRY_PRESENT | ENTRY_SWAPPED;
	uint64_t c = e->child[i];

	return (c & place) && (c & state) && !(c & ENTRY_FILE) &&
	       ((c ^ e->before[i]) & (place | state)) == 0 &&
	       ((c ^ e->after[i]) & (place | state)) == 0;
}

static int put_or_share(struct cpx_cap *c, struct cpx_mem_mm *mm, const struct cpx_mem_vma *v,
			struct cpx_mem_src *src, const int fds[2], bool stash,
			struct entries *e, uint64_t start, uint64_t n, struct cpx_err *err)
{
	int rc = read_entries(fds[1], start, n, e->before, err);

	if (rc == 0)
		rc = read_entries(fds[0], start, n, e->child, err);
	if (rc == 0)
		rc = read_entries(fds[1], start, n, e->after, err);
	for (uint64_t i = 0, k; i < n && rc == 0; i = k) {
		bool same = same_page(e, i);
		uint64_t from = start + i * CPX_PAGE;

		for (k = i + 1; k < n && same_page(e, k) == same;)
			k++;
		if (same) {
			rc = cpx_mem_add_range(&mm->cow, from, start + k * CPX_PAGE, err);
			/* its own space has them too: a later generation may inherit them */
			if (rc == 0)
				rc = cpx_image_share(c->writer, mm->rec->space, from,
						     (k - i) * CPX_PAGE, mm->parent->rec->space,
						     from, err);
		} else {
			rc = put_pages(c, mm, v, src, from, start + k * CPX_PAGE, stash, err);
		}
	}
	return rc;
}

static int put_shared_range(struct cpx_cap *c, struct cpx_mem_mm *mm,
			    const struct cpx_mem_vma *v, struct cpx_mem_src *src,
			    const int fds[2], bool stash, uint64_t start, uint64_t end,
			    struct cpx_err *err)
{
	CPX_AUTO_FREE struct entries *e = malloc(sizeof(*e));
	int rc = 0;

	if (!e)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for page maps");
	while (start < end && rc == 0) {
		uint64_t n = (end - start) / CPX_PAGE;

		if (n > COMPARE)
			n = COMPARE;
		rc = put_or_share(c, mm, v, src, fds, stash, e, start, n, err);
		start += n * CPX_PAGE;
	}
	return rc;
}

int cpx_mem_cow_record(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_err *err)
{
	struct cpx_rec_cow *rec;
	uint64_t *copy;

	if (!mm->cow.n)
		return 0;
	rec = cpx_state_new_rec(c->st, cow);
	copy = cpx_state_alloc(c->st, mm->cow.n * sizeof(*mm->cow.v));
	if (!rec || !copy)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for what processes share");
	memcpy(copy, mm->cow.v, mm->cow.n * sizeof(*mm->cow.v));
	rec->mm_id = mm->rec->id;
	rec->of = mm->parent->rec->id;
	rec->ranges = (struct cpx_u64s){ copy, (uint32_t)(mm->cow.n * 2) };
	return 0;
}

/* Could the parent have any of it? */
static bool parent_maps(const struct cpx_mem_mm *mm, const struct cpx_mem_vma *v)
{
	const struct cpx_map *m = cpx_maps_at(&mm->parent->maps, v->rec->start);

	return m && m->start < v->rec->end && !m->shared;
}

int cpx_mem_put_vma(struct cpx_cap *c, struct cpx_mem_mm *mm, const struct cpx_mem_vma *v,
		    struct cpx_mem_src *src, int fd, int parent_fd, bool stash,
		    struct cpx_err *err)
{
	struct cpx_mem_ranges found = { 0 }, guards = { 0 };
	const int fds[2] = { fd, parent_fd };
	bool compare = parent_fd >= 0 && mm->parent->rec->space < mm->rec->space &&
		       mm->cow.n < COW_MAX && parent_maps(mm, v);
	int rc;

	rc = cpx_mem_scan_pages(c->mem, fd, v->rec, &found, &guards, err);
	for (size_t i = 0; i < found.n && rc == 0; i++) {
		uint64_t hole = i ? found.v[i - 1][1] : v->rec->start;

		if (mm->early)
			rc = put_hole(c, mm, hole, found.v[i][0], err);
		if (rc == 0)
			rc = compare ? put_shared_range(c, mm, v, src, fds, stash,
							found.v[i][0], found.v[i][1], err)
				     : put_pages(c, mm, v, src, found.v[i][0], found.v[i][1],
						 stash, err);
	}
	if (rc == 0 && mm->early)
		rc = put_hole(c, mm, found.n ? found.v[found.n - 1][1] : v->rec->start,
			      v->rec->end, err);
	if (rc == 0 && v->rec->kind != CPX_VMA_ANON)
		rc = put_zeros(c, mm, src, &found, err);
	if (rc == 0)
		rc = guard_record(c, mm, &guards, err);
	free(found.v);
	free(guards.v);
	return rc;
}
