/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_mem_map.c - making the mappings of one address space.
 *
 * A fresh process is cleared but for its home and everything is mapped. A process that was
 * forked from its real parent, whose memory is in place, keeps what both have at the same
 * place in the same way: so pages that they shared copy-on-write are shared again. In what is
 * kept, pages that are not to be shared are dropped before their own content comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "rst_mem_priv.h"

#define GROUP_MAX 200u /* mappings made with one descriptor in one batch */
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* --- files -------------------------------------------------------------------------------- */

/*
 * A descriptor of the conductor; opened on first use. @shm_fd: the object's own descriptor, of
 * which a read-only one is made; -1: a file record.
 */
static int file_fd(struct cpx_rst *r, uint32_t id, int flags, int shm_fd, struct cpx_err *err)
{
	struct cpx_rst_mem *m = r->mem;
	char path[64];
	void *more;
	int fd;

	for (size_t i = 0; i < m->nfiles; i++)
		if (m->files[i].id == id && m->files[i].flags == flags)
			return m->files[i].fd;
	more = realloc(m->files, (m->nfiles + 1) * sizeof(*m->files));
	if (!more)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for mapped files");
	m->files = more;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", shm_fd);
	if (shm_fd >= 0)
		fd = open(path, flags | O_CLOEXEC);
	else
		fd = cpx_rst_open_file(r, id, flags | O_CLOEXEC, err);
	if (fd < 0 && shm_fd >= 0)
		return cpx_err_sys(err, errno, "open shared memory again");
	if (fd < 0)
		return cpx_err_wrap(err, "mapped file");
	m->files[m->nfiles++] = (struct cpx_rst_mfile){ .id = id, .flags = flags, .fd = fd };
	return fd;
}

static bool by_fd(const struct cpx_rst *r, const struct cpx_rec_vma *v)
{
	switch (v->kind) {
	case CPX_VMA_FILE_PRIVATE:
	case CPX_VMA_FILE_SHARED:
	case CPX_VMA_SHM_PRIVATE:
		return true;
	case CPX_VMA_SHM:
		return cpx_rst_shm_find((struct cpx_rst *)r, v->file_id)->rec->kind !=
		       CPX_SHM_SYSV;
	default:
		return false;
	}
}

static int open_flags(const struct cpx_rec_vma *v)
{
	bool shared = v->kind == CPX_VMA_FILE_SHARED || v->kind == CPX_VMA_SHM;

	return shared && (v->file_flags & O_ACCMODE) == O_RDWR ? O_RDWR : O_RDONLY;
}

/* The conductor's descriptor for what @v maps. */
static int vma_fd(struct cpx_rst *r, const struct cpx_rec_vma *v, struct cpx_err *err)
{
	struct cpx_rst_shm *s;
	int rc;

	if (v->kind == CPX_VMA_FILE_PRIVATE || v->kind == CPX_VMA_FILE_SHARED)
		return file_fd(r, v->file_id, open_flags(v), -1, err);
	s = cpx_rst_shm_find(r, v->file_id);
	rc = cpx_rst_shm_make(r, s, err);
	if (rc < 0 || v->kind != CPX_VMA_SHM || open_flags(v) == O_RDWR)
		return rc < 0 ? rc : s->fd;
	return file_fd(r, v->file_id, O_RDONLY, s->fd, err);
}

int cpx_rst_mem_file(struct cpx_rst *r, uint32_t id, int flags, struct cpx_err *err)
{
	return file_fd(r, id, flags, -1, err);
}

/* --- mapping ------------------------------------------------------------------------------ */

/* What was writable once has memory reserved, and stays apart from neighbours. */
static bool was_writable(const struct cpx_rec_vma *v)
{
	return (v->flags & CPX_VMAF_ACCOUNT) && !(v->prot & PROT_WRITE) &&
	       v->kind != CPX_VMA_FILE_SHARED && v->kind != CPX_VMA_SHM;
}

static uint64_t first_prot(const struct cpx_rec_vma *v)
{
	return v->prot | (was_writable(v) ? PROT_WRITE : 0);
}

static uint64_t map_flags(const struct cpx_rec_vma *v)
{
	uint64_t f = MAP_FIXED_NOREPLACE | (v->flags & MAP_NORESERVE);

	f |= v->kind == CPX_VMA_FILE_SHARED || v->kind == CPX_VMA_SHM ? MAP_SHARED
								      : MAP_PRIVATE;
	if (v->kind == CPX_VMA_ANON) {
		f |= MAP_ANONYMOUS | (v->flags & (MAP_GROWSDOWN | MAP_HUGETLB));
		if (v->flags & MAP_HUGETLB)
			f |= v->flags & 0x3fu << 26;
		if (v->flags & MAP_DROPPABLE)
			f = (f & ~(uint64_t)MAP_PRIVATE) | MAP_DROPPABLE;
	}
	return f;
}

static const struct {
	uint32_t bit;
	int advice;
} advice[] = {
	{ CPX_MADV_HUGEPAGE, MADV_HUGEPAGE },	  { CPX_MADV_NOHUGEPAGE, MADV_NOHUGEPAGE },
	{ CPX_MADV_DONTFORK, MADV_DONTFORK },	  { CPX_MADV_WIPEONFORK, MADV_WIPEONFORK },
	{ CPX_MADV_MERGEABLE, MADV_MERGEABLE },	  { CPX_MADV_DONTDUMP, MADV_DONTDUMP },
	{ CPX_MADV_SEQUENTIAL, MADV_SEQUENTIAL }, { CPX_MADV_RANDOM, MADV_RANDOM },
};

/* What a kernel does not know is no reason to give up: hints, and names. */
static int add_advice(struct cpx_batch *b, const struct cpx_rst_piece *p, struct cpx_err *err)
{
	const struct cpx_rec_vma *v = p->v;
	uint64_t len = p->end - p->start, at;
	uint32_t madv = v->madv ^ (p->apart ? CPX_MADV_DONTDUMP : 0);
	int rc = 0;

	for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]) && rc == 0; i++) {
		bool must = advice[i].bit & (CPX_MADV_DONTFORK | CPX_MADV_WIPEONFORK);

		if (madv & advice[i].bit)
			rc = cpx_badd(b, err, "madvise", p->start, must ? 0 : CPX_CALL_MAY_FAIL,
				      SYS_madvise, p->start, len, (uint64_t)advice[i].advice);
	}
	if (rc == 0 && v->name)
		rc = cpx_batch_room(b, 1, err);
	if (rc < 0 || !v->name)
		return rc;
	rc = cpx_batch_push(b, v->name, strnlen(v->name, 255) + 1, &at, err);
	if (rc < 0)
		return rc;
	return cpx_badd(b, err, "name", p->start, CPX_CALL_MAY_FAIL, SYS_prctl, PR_SET_VMA,
			PR_SET_VMA_ANON_NAME, p->start, len, at);
}

static int map_anon(struct cpx_batch *b, const struct cpx_rst_piece *p, struct cpx_err *err)
{
	return cpx_badd(b, err, "map memory", p->start, 0, SYS_mmap, p->start,
			p->end - p->start, first_prot(p->v), map_flags(p->v), -1ull, 0);
}

struct by_file {
	const struct cpx_rst_piece *p;
	int fd;
};

static int cmp_fd(const void *a, const void *b)
{
	const struct by_file *x = a, *y = b;

	if (x->fd != y->fd)
		return x->fd < y->fd ? -1 : 1;
	return x->p->start < y->p->start ? -1 : 1;
}

/* All mappings of one descriptor: fetch it, map, close. */
static int map_group(struct cpx_rst_task *t, struct cpx_batch *b, const struct by_file *f,
		     size_t n, struct cpx_err *err)
{
	int rc = cpx_batch_room(b, n + 2, err);

	if (rc == 0)
		rc = cpx_badd(b, err, "fetch a mapped file", f->p->start, CPX_CALL_KEEP,
			      SYS_pidfd_getfd, (uint64_t)t->files_of->self_pidfd,
			      (uint64_t)f->fd, 0);
	for (size_t i = 0; i < n && rc == 0; i++) {
		const struct cpx_rst_piece *p = f[i].p;

		rc = cpx_badd(b, err, "map a file", p->start, CPX_CALL_FD_ARG5, SYS_mmap,
			      p->start, p->end - p->start, first_prot(p->v), map_flags(p->v), 0,
			      p->v->pgoff + (p->start - p->v->start));
	}
	if (rc == 0)
		rc = cpx_badd(b, err, "close a mapped file", f->p->start, CPX_CALL_FD_ARG1,
			      SYS_close, 0);
	return rc;
}

static int map_files(struct cpx_rst *r, const struct cpx_rst_pieces *ps, struct cpx_rst_task *t,
		     struct cpx_batch *b, struct cpx_err *err)
{
	CPX_AUTO_FREE struct by_file *f = calloc(ps->n + 1, sizeof(*f));
	size_t n = 0;
	int rc = 0;

	if (!f)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for mappings");
	for (size_t i = 0; i < ps->n; i++) {
		if (ps->v[i].kept || !by_fd(r, ps->v[i].v))
			continue;
		f[n].p = &ps->v[i];
		f[n].fd = vma_fd(r, ps->v[i].v, err);
		if (f[n].fd < 0)
			return f[n].fd;
		n++;
	}
	qsort(f, n, sizeof(*f), cmp_fd);
	for (size_t i = 0, k; i < n && rc == 0; i = k) {
		for (k = i + 1; k < n && f[k].fd == f[i].fd && k - i < GROUP_MAX;)
			k++;
		rc = map_group(t, b, &f[i], k - i, err);
	}
	return rc;
}

/* --- what is kept ------------------------------------------------------------------------- */

bool cpx_rst_has_pages(const struct cpx_rec_vma *v)
{
	return v->kind == CPX_VMA_ANON || v->kind == CPX_VMA_FILE_PRIVATE ||
	       v->kind == CPX_VMA_SHM_PRIVATE;
}

static bool same_text(const char *a, const char *b)
{
	return !a || !b ? a == b : !strcmp(a, b);
}

/* May the inherited mapping stand for the wanted one, where they overlap? */
static bool alike(const struct cpx_rst *r, const struct cpx_rec_vma *p,
		  const struct cpx_rec_vma *v)
{
	const uint32_t forked = ~(uint32_t)(MAP_LOCKED | CPX_VMAF_ONFAULT);

	if (p->kind != v->kind || (p->flags & forked) != (v->flags & forked) ||
	    p->madv != v->madv || p->pkey || v->pkey || (p->flags & MAP_HUGETLB) ||
	    (p->madv & (CPX_MADV_DONTFORK | CPX_MADV_WIPEONFORK)) ||
	    !same_text(p->name, v->name))
		return false;
	if (v->kind == CPX_VMA_ANON)
		return true;
	return by_fd(r, v) && p->file_id == v->file_id && p->file_flags == v->file_flags &&
	       p->start - p->pgoff == v->start - v->pgoff;
}

/*
 * Is anything gained by keeping [@start, @end)? Where nothing is shared any more, the two only
 * happen to be at the same place; but untouched mappings of files are cheaper kept.
 */
static bool worth(const struct cpx_rst_mm *mm, const struct cpx_rec_vma *p,
		  const struct cpx_rec_vma *v, uint64_t start, uint64_t end)
{
	uint32_t i;

	if (!cpx_rst_has_pages(v) ||
	    (v->kind != CPX_VMA_ANON && p->start == v->start && p->end == v->end))
		return true;
	if (!mm->cow)
		return false;
	i = cpx_rst_cow_at(mm->cow, start);
	return i < mm->cow->ranges.n && mm->cow->ranges.v[i] < end;
}

static bool guarded(const struct cpx_rst *r, uint32_t mm_id, uint64_t start, uint64_t end)
{
	cpx_state_each(r->st, guard, g)
		for (uint32_t i = 0; g->mm_id == mm_id && i + 1 < g->ranges.n; i += 2)
			if (g->ranges.v[i] < end && g->ranges.v[i + 1] > start)
				return true;
	return false;
}

static int add_piece(struct cpx_rst_pieces *ps, const struct cpx_rec_vma *v, uint64_t start,
		     uint64_t end, const struct cpx_rec_vma *kept, struct cpx_err *err)
{
	if (start >= end)
		return 0;
	if (ps->n == ps->cap) {
		size_t cap = ps->cap ? ps->cap * 2 : 128;
		void *more = realloc(ps->v, cap * sizeof(*ps->v));

		if (!more)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for mappings");
		ps->v = more;
		ps->cap = cap;
	}
	ps->v[ps->n++] = (struct cpx_rst_piece){ .v = v,
						 .start = start,
						 .end = end,
						 .kept = kept != NULL,
						 .old_prot = kept ? kept->prot : 0 };
	return 0;
}

/* Cut @mm's mappings into what @from has alike and what must be made. */
static int cut(const struct cpx_rst *r, const struct cpx_rst_mm *mm,
	       const struct cpx_rst_mm *from, struct cpx_rst_pieces *ps, struct cpx_err *err)
{
	size_t k = 0;

	for (size_t i = 0; i < mm->n; i++) {
		const struct cpx_rec_vma *v = mm->v[i];
		uint64_t at = v->start;
		int rc = 0;

		if (v->kind >= CPX_VMA_VDSO)
			continue;
		while (from && k < from->n && from->v[k]->end <= v->start)
			k++;
		for (size_t j = k; from && rc == 0 && j < from->n && from->v[j]->start < v->end;
		     j++) {
			const struct cpx_rec_vma *p = from->v[j];
			uint64_t start = p->start > v->start ? p->start : v->start;
			uint64_t end = p->end < v->end ? p->end : v->end;

			if (!alike(r, p, v) || !worth(mm, p, v, start, end) ||
			    guarded(r, from->rec->id, start, end))
				continue;
			rc = add_piece(ps, v, at, start, NULL, err);
			if (rc == 0)
				rc = add_piece(ps, v, start, end, p, err);
			at = end;
		}
		if (rc == 0)
			rc = add_piece(ps, v, at, v->end, NULL, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/*
 * Neighbours that look the same were two mappings because each has a history of its own. So
 * they become again when they look different until both have their pages.
 */
static void keep_apart(struct cpx_rst_pieces *ps)
{
	for (size_t i = 1; i < ps->n; i++) {
		const struct cpx_rst_piece *a = &ps->v[i - 1];
		struct cpx_rst_piece *b = &ps->v[i];
		const struct cpx_rec_vma *u = a->v, *v = b->v;

		if (b->kept || u == v || a->end != b->start || a->apart ||
		    !cpx_rst_has_pages(v) || u->kind != v->kind || u->prot != v->prot ||
		    u->flags != v->flags || u->madv != v->madv || !same_text(u->name, v->name))
			continue;
		b->apart =
			v->kind == CPX_VMA_ANON || (u->file_id == v->file_id &&
						    u->start - u->pgoff == v->start - v->pgoff);
	}
}

/* The vDSO is inherited as it was built for @from, in whatever way. */
static bool same_vdso(const struct cpx_rst_mm *mm, const struct cpx_rst_mm *from)
{
	const struct cpx_rec_vdso *a = mm->vdso, *b = from ? from->vdso : NULL;

	return a && b && a->start == b->start && a->vvar_start == b->vvar_start &&
	       a->image.n == b->image.n && !memcmp(a->image.p, b->image.p, a->image.n);
}

/* --- clearing ----------------------------------------------------------------------------- */

static int unmap(struct cpx_batch *b, uint64_t start, uint64_t end, struct cpx_err *err)
{
	return start >= end ? 0
			    : cpx_badd(b, err, "clear the address space", start, 0, SYS_munmap,
				       start, end - start);
}

struct hole {
	uint64_t start, end;
};

static int by_start(const void *a, const void *b)
{
	const struct hole *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Unmap all but the home and what is kept. */
static int clear(const struct cpx_rst *r, const struct cpx_rst_mm *mm,
		 const struct cpx_rst_pieces *ps, struct cpx_batch *b, struct cpx_err *err)
{
	CPX_AUTO_FREE struct hole *keep = calloc(ps->n + mm->n + 1, sizeof(*keep));
	uint64_t at = 0, home_end = r->home_page + r->home_size;
	size_t n = 0;
	int rc = 0;

	if (!keep)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for mappings");
	keep[n++] =
		(struct hole){ r->home_page, home_end + (ps->keep_vdso ? CPX_SPARE_SIZE : 0) };
	for (size_t i = 0; i < ps->n; i++)
		if (ps->v[i].kept)
			keep[n++] = (struct hole){ ps->v[i].start, ps->v[i].end };
	for (size_t i = 0; i < mm->n && ps->keep_vdso; i++)
		if (mm->v[i]->kind == CPX_VMA_VDSO || mm->v[i]->kind == CPX_VMA_VVAR)
			keep[n++] = (struct hole){ mm->v[i]->start, mm->v[i]->end };
	qsort(keep, n, sizeof(*keep), by_start);
	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = unmap(b, at, keep[i].start, err);
		if (keep[i].end > at)
			at = keep[i].end;
	}
	return rc == 0 ? unmap(b, at, CPX_USER_END, err) : rc;
}

uint32_t cpx_rst_cow_at(const struct cpx_rec_cow *cow, uint64_t addr)
{
	uint32_t lo = 0, hi = cow->ranges.n / 2;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (cow->ranges.v[mid * 2 + 1] <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo * 2;
}

/* In a kept piece, what is not to be shared goes. */
static int drop_own(const struct cpx_rst_mm *mm, const struct cpx_rst_piece *p,
		    struct cpx_batch *b, struct cpx_err *err)
{
	uint64_t at = p->start;
	int rc = 0;

	for (uint32_t i = mm->cow ? cpx_rst_cow_at(mm->cow, at) : 0;
	     mm->cow && rc == 0 && i < mm->cow->ranges.n && mm->cow->ranges.v[i] < p->end;
	     i += 2) {
		if (mm->cow->ranges.v[i] > at)
			rc = cpx_badd(b, err, "drop pages", at, 0, SYS_madvise, at,
				      mm->cow->ranges.v[i] - at, MADV_DONTNEED);
		at = mm->cow->ranges.v[i + 1];
	}
	if (rc == 0 && at < p->end)
		rc = cpx_badd(b, err, "drop pages", at, 0, SYS_madvise, at, p->end - at,
			      MADV_DONTNEED);
	return rc;
}

/* --- all of it ---------------------------------------------------------------------------- */

int cpx_rst_mem_map(struct cpx_rst *r, struct cpx_rst_mm *mm, const struct cpx_rst_mm *from,
		    struct cpx_rst_task *t, struct cpx_batch *b, struct cpx_rst_pieces *ps,
		    struct cpx_err *err)
{
	int rc = cut(r, mm, from, ps, err);

	keep_apart(ps);
	ps->keep_vdso = same_vdso(mm, from);
	if (rc == 0)
		rc = clear(r, mm, ps, b, err);
	if (rc == 0)
		rc = cpx_rst_shm_attach(r, mm, b, err);
	if (rc == 0)
		rc = map_files(r, ps, t, b, err);
	for (size_t i = 0; i < ps->n && rc == 0; i++) {
		const struct cpx_rst_piece *p = &ps->v[i];

		if (p->kept && cpx_rst_has_pages(p->v))
			rc = drop_own(mm, p, b, err);
		else if (!p->kept && p->v->kind == CPX_VMA_ANON)
			rc = map_anon(b, p, err);
		if (rc == 0 && !p->kept && (p->v->madv || p->v->name || p->apart))
			rc = add_advice(b, p, err);
	}
	if (rc == 0 && !ps->keep_vdso)
		rc = cpx_rst_vdso_map(r, mm, t, b, err);
	return rc == 0 ? cpx_batch_run(b, err) : rc;
}

/* The kernel drops what is reserved for memory that was never written: so after the contents.
 */
int cpx_rst_mem_protect(const struct cpx_rst_pieces *ps, struct cpx_batch *b,
			struct cpx_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < ps->n && rc == 0; i++) {
		const struct cpx_rst_piece *p = &ps->v[i];

		if (p->kept ? p->old_prot != p->v->prot : was_writable(p->v))
			rc = cpx_badd(b, err, "protect", p->start, 0, SYS_mprotect, p->start,
				      p->end - p->start, p->v->prot);
		if (rc == 0 && p->apart)
			rc = cpx_badd(b, err, "madvise", p->start, CPX_CALL_MAY_FAIL,
				      SYS_madvise, p->start, p->end - p->start,
				      p->v->madv & CPX_MADV_DONTDUMP ? MADV_DONTDUMP
								     : MADV_DODUMP);
	}
	return rc;
}
