/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_mem.c - building address spaces.
 *
 * Happy path: the records are checked and a hole for the home is found before anything is
 * created. For each process all but the home is unmapped, all mappings are made at their
 * addresses by batches of calls, the pages are written from outside by the page workers
 * (protection does not matter to them), and what must come after the contents follows: locks,
 * guard regions, the mm's own numbers and executable. Seals come last of all.
 *
 * Failure modes: any error leaves a half-built process, which the conductor kills.
 */
#include "rst_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/prctl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "rst_mem_priv.h"

#define LOWEST (64ull << 10)	 /* no mapping is below that */
#define HOME_LOWEST (1ull << 20) /* where the search for a hole begins */
#define HOME_APART (1ull << 20)	 /* and how far it stays below other mappings */
#define VMAS_MAX (1u << 22)
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

/* --- checks ------------------------------------------------------------------------------- */

static int bad_vma(const struct cpx_rec_vma *v, const char *why, struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_FORMAT,
			   "mapping 0x%" PRIx64 "-0x%" PRIx64 " of address space %u: %s",
			   v->start, v->end, v->mm_id, why);
}

static int check_vma(struct cpx_rst *r, const struct cpx_rec_vma *v, struct cpx_err *err)
{
	const uint32_t known = MAP_GROWSDOWN | MAP_LOCKED | MAP_NORESERVE | MAP_HUGETLB |
			       MAP_DROPPABLE | CPX_VMAF_ONFAULT | CPX_VMAF_ACCOUNT |
			       0x3fu << 26;

	if (v->kind > CPX_VMA_VSYSCALL)
		return bad_vma(v, "of no known kind", err);
	if (v->kind == CPX_VMA_VSYSCALL)
		return 0;
	if (v->start % CPX_PAGE || v->end % CPX_PAGE || v->pgoff % CPX_PAGE ||
	    v->start < LOWEST || v->start >= v->end || v->end > CPX_USER_END)
		return bad_vma(v, "bad address", err);
	if (v->prot & ~(uint32_t)(PROT_READ | PROT_WRITE | PROT_EXEC) || v->flags & ~known ||
	    v->pkey >= CPX_PKEYS)
		return bad_vma(v, "bad flags", err);
	if ((v->kind == CPX_VMA_SHM || v->kind == CPX_VMA_SHM_PRIVATE) &&
	    !cpx_rst_shm_find(r, v->file_id))
		return bad_vma(v, "shared memory that is not there", err);
	return 0;
}

struct cpx_rst_mm *cpx_rst_mm_find(struct cpx_rst_mem *m, uint32_t id)
{
	for (size_t i = 0; i < m->nmms; i++)
		if (m->mms[i].rec->id == id)
			return &m->mms[i];
	return NULL;
}

static int list_vmas(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_err *err)
{
	size_t count = cpx_state_count(r->st, CPX_REC_vma);

	cpx_state_each(r->st, vma, v)
		mm->n += v->mm_id == mm->rec->id;
	if (count > VMAS_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "%zu mappings are too many", count);
	mm->v = calloc(mm->n + 1, sizeof(*mm->v));
	if (!mm->v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for mappings");
	mm->n = 0;
	cpx_state_each(r->st, vma, v) {
		int rc;

		if (v->mm_id != mm->rec->id)
			continue;
		rc = check_vma(r, v, err);
		if (rc < 0)
			return rc;
		if (mm->n && mm->v[mm->n - 1]->end > v->start)
			return bad_vma(v, "not in order", err);
		mm->v[mm->n++] = v;
	}
	cpx_state_each(r->st, vdso, d)
		if (d->mm_id == mm->rec->id)
			mm->vdso = d;
	return 0;
}

/* Sharing leads to an address space that stands before, so it comes to an end. */
static int check_cow(struct cpx_rst *r, const struct cpx_rec_cow *c, struct cpx_err *err)
{
	struct cpx_rst_mm *mm = cpx_rst_mm_find(r->mem, c->mm_id);
	struct cpx_rst_mm *of = cpx_rst_mm_find(r->mem, c->of);
	uint64_t last = 0;

	if (!mm || !of || of >= mm || mm->cow || c->ranges.n % 2)
		return cpx_err_set(err, CPX_E_FORMAT,
				   "address space %u shares with %u: nonsense", c->mm_id,
				   c->of);
	for (uint32_t i = 0; i < c->ranges.n; i += 2) {
		uint64_t start = c->ranges.v[i], end = c->ranges.v[i + 1];

		if (start < last || start >= end || end > CPX_USER_END || start % CPX_PAGE ||
		    end % CPX_PAGE)
			return cpx_err_set(err, CPX_E_FORMAT,
					   "address space %u: bad shared range", c->mm_id);
		last = end;
	}
	mm->cow = c;
	mm->cow_of = of;
	return 0;
}

static int list_mms(struct cpx_rst *r, struct cpx_err *err)
{
	struct cpx_rst_mem *m = r->mem;

	m->mms = calloc(cpx_state_count(r->st, CPX_REC_mm) + 1, sizeof(*m->mms));
	if (!m->mms)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for address spaces");
	cpx_state_each(r->st, mm, rec) {
		int rc;

		if (cpx_rst_mm_find(m, rec->id))
			return cpx_err_set(err, CPX_E_FORMAT, "address space %u is there twice",
					   rec->id);
		m->mms[m->nmms++].rec = rec;
		rc = list_vmas(r, &m->mms[m->nmms - 1], err);
		if (rc < 0)
			return rc;
	}
	cpx_state_each(r->st, cow, c) {
		int rc = check_cow(r, c, err);

		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < r->ntasks; i++)
		if (r->tasks[i].rec->state != CPX_TASK_ZOMBIE &&
		    !cpx_rst_mm_find(m, r->tasks[i].rec->mm_id))
			return cpx_err_set(err, CPX_E_FORMAT, "process %u has no address space",
					   r->tasks[i].rec->pid);
	return 0;
}

/* --- the home ----------------------------------------------------------------------------- */

struct span {
	uint64_t start, end;
};

static int by_start(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* All that is taken in some address space; a SysV segment is attached whole before it is cut.
 */
static size_t taken(struct cpx_rst *r, struct span *s)
{
	size_t n = 0;

	cpx_state_each(r->st, vma, v) {
		struct cpx_rst_shm *shm =
			v->kind == CPX_VMA_SHM ? cpx_rst_shm_find(r, v->file_id) : NULL;

		s[n] = (struct span){ v->start, v->end };
		if (shm && shm->rec->kind == CPX_SHM_SYSV && v->pgoff < v->start &&
		    shm->rec->size < CPX_USER_END) {
			s[n].start = v->start - v->pgoff;
			if (s[n].start + shm->rec->size > s[n].end)
				s[n].end = s[n].start + shm->rec->size;
		}
		n++;
	}
	return n;
}

static int pick_home(struct cpx_rst *r, struct cpx_err *err)
{
	size_t count = cpx_state_count(r->st, CPX_REC_vma), n;
	CPX_AUTO_FREE struct span *s = NULL;
	uint64_t at = HOME_LOWEST, need = CPX_HOME_SIZE + CPX_SPARE_SIZE;
	int rc;

	r->mem = calloc(1, sizeof(*r->mem));
	if (!r->mem)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for address spaces");
	r->mem->owner =
		(struct cpx_rst_owner){ .uid = r->opts->owner_uid, .gid = r->opts->owner_gid };
	rc = cpx_rst_shm_prepare(r, err);
	if (rc == 0)
		rc = list_mms(r, err);
	if (rc < 0)
		return rc;
	s = calloc(count + 1, sizeof(*s));
	if (!s)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for mappings");
	n = taken(r, s);
	qsort(s, n, sizeof(*s), by_start);
	for (size_t i = 0; i < n; i++) {
		if (s[i].start >= at && s[i].start - at >= need + HOME_APART)
			break;
		if (s[i].end > at)
			at = s[i].end;
	}
	if (at + need > CPX_USER_END)
		return cpx_err_set(err, CPX_E_LIMIT, "the job's address spaces leave no hole");
	r->home_page = at;
	r->home_size = CPX_HOME_SIZE;
	return 0;
}

static void mem_end(struct cpx_rst *r, void *priv);

int cpx_rst_mem_pick_home(struct cpx_rst *r, struct cpx_err *err)
{
	int rc = pick_home(r, err);

	if (rc < 0)
		mem_end(r, NULL);
	return rc;
}

/* --- contents ----------------------------------------------------------------------------- */

struct target {
	pid_t pid;
	int mem_fd;
};

static int write_piece(const struct target *t, const struct cpx_page_piece *p, size_t done,
		       struct cpx_err *err)
{
	while (done < p->len) {
		ssize_t n = pwrite(t->mem_fd, (const char *)p->data + done, p->len - done,
				   (off_t)(p->off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return cpx_err_sys(err, n ? errno : ESRCH,
					   "write memory of process %d at 0x%" PRIx64, t->pid,
					   p->off + done);
		done += (size_t)n;
	}
	return 0;
}

/*
 * Page workers call this. process_vm_writev is the faster way but keeps to the
 * protection, so it ends before a piece that may only be read; /proc/PID/mem does not.
 */
static int write_pages(void *ctx, const struct cpx_page_piece *v, size_t n, struct cpx_err *err)
{
	const struct target *t = ctx;
	struct iovec from[CPX_PIECES_MAX], to[CPX_PIECES_MAX];
	int rc = 0;

	for (size_t i = 0; i < n; i++) {
		from[i] = (struct iovec){ (void *)v[i].data, v[i].len };
		to[i] = (struct iovec){ (void *)(uintptr_t)v[i].off, v[i].len };
	}
	for (size_t i = 0; i < n && rc == 0; i++) {
		ssize_t got = process_vm_writev(t->pid, from + i, n - i, to + i, n - i, 0);
		size_t done = got > 0 ? (size_t)got : 0;

		while (i < n && done >= v[i].len)
			done -= v[i++].len;
		if (i < n)
			rc = write_piece(t, &v[i], done, err);
	}
	return rc;
}

struct extents {
	struct cpx_extent *v;
	size_t n, cap;
};

static int add_extent(struct extents *x, uint32_t space, uint64_t start, uint64_t end,
		      struct cpx_err *err)
{
	struct cpx_extent *last = x->n ? &x->v[x->n - 1] : NULL;

	if (last && last->space == space && last->off + last->len == start) {
		last->len += end - start;
		return 0;
	}
	if (x->n == x->cap) {
		size_t cap = x->cap ? x->cap * 2 : 128;
		void *more = realloc(x->v, cap * sizeof(*x->v));

		if (!more)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for page ranges");
		x->v = more;
		x->cap = cap;
	}
	x->v[x->n++] = (struct cpx_extent){ .space = space, .off = start, .len = end - start };
	return 0;
}

/* Where the content of [@start, @end) of @mm is; @shared: also of what it shares. */
static int resolve(const struct cpx_rst_mm *mm, uint64_t start, uint64_t end, bool shared,
		   struct extents *x, struct cpx_err *err)
{
	const struct cpx_rec_cow *c = mm->cow;
	uint64_t at = start;
	int rc = 0;

	for (uint32_t i = c ? cpx_rst_cow_at(c, start) : 0;
	     c && rc == 0 && i < c->ranges.n && c->ranges.v[i] < end; i += 2) {
		uint64_t from = c->ranges.v[i] > start ? c->ranges.v[i] : start;
		uint64_t to = c->ranges.v[i + 1] < end ? c->ranges.v[i + 1] : end;

		if (from > at)
			rc = add_extent(x, mm->rec->space, at, from, err);
		if (rc == 0 && shared)
			rc = resolve(mm->cow_of, from, to, true, x, err);
		at = to;
	}
	return rc == 0 && at < end ? add_extent(x, mm->rec->space, at, end, err) : rc;
}

int cpx_rst_mem_extents(const struct cpx_rst_mm *mm, struct cpx_extent **out,
			struct cpx_err *err)
{
	struct extents x = { 0 };
	int rc = 0;

	for (size_t i = 0; i < mm->n && rc == 0; i++)
		if (cpx_rst_has_pages(mm->v[i]))
			rc = resolve(mm, mm->v[i]->start, mm->v[i]->end, true, &x, err);
	if (rc < 0) {
		free(x.v);
		return rc;
	}
	*out = x.v;
	return (int)x.n;
}

/* Pages that were zero where the file under them is not. */
static int fill_zeros(struct cpx_rst *r, const struct cpx_rst_mm *mm, struct target *to,
		      struct cpx_err *err)
{
	static const uint8_t zero[CPX_PAGE];

	cpx_state_each(r->st, zeros, z) {
		if (z->mm_id != mm->rec->id)
			continue;
		for (uint32_t i = 0; i + 1 < z->ranges.n; i += 2) {
			uint64_t at = z->ranges.v[i], end = z->ranges.v[i + 1];

			if (at % CPX_PAGE || end % CPX_PAGE || at >= end || end > CPX_USER_END)
				return cpx_err_set(err, CPX_E_FORMAT, "zero pages in no place");
			for (; at < end; at += CPX_PAGE) {
				const struct cpx_page_piece page = { mm->rec->space, at, zero,
								     CPX_PAGE };
				int rc = write_pages(to, &page, 1, err);

				if (rc < 0)
					return rc;
			}
		}
	}
	return 0;
}

static int fill(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_rst_task *t,
		const struct cpx_rst_pieces *ps, struct cpx_err *err)
{
	struct target to = { .pid = t->pid, .mem_fd = t->mem_fd };
	struct extents x = { 0 };
	int rc = 0;

	for (size_t i = 0; i < ps->n && rc == 0; i++) {
		const struct cpx_rst_piece *p = &ps->v[i];

		if (!cpx_rst_has_pages(p->v))
			continue;
		/* what is shared is there already in what is kept */
		rc = resolve(mm, p->start, p->end, !p->kept, &x, err);
	}
	if (rc == 0 && x.n)
		rc = cpx_rst_scan_pieces(r, x.v, x.n, write_pages, &to, err);
	if (rc == 0)
		rc = fill_zeros(r, mm, &to, err);
	free(x.v);
	return rc;
}

/* --- after the contents ------------------------------------------------------------------- */

static int add_guards(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_batch *b,
		      struct cpx_err *err)
{
	cpx_state_each(r->st, guard, g) {
		for (uint32_t i = 0; g->mm_id == mm->rec->id && i + 1 < g->ranges.n; i += 2) {
			uint64_t start = g->ranges.v[i], end = g->ranges.v[i + 1];
			int rc;

			if (start >= end || end > CPX_USER_END)
				return cpx_err_set(err, CPX_E_FORMAT, "bad guard region");
			if (start < r->home_page + r->home_size && end > r->home_page)
				return cpx_err_set(err, CPX_E_FORMAT, "bad guard region");
			rc = cpx_badd(b, err, "install a guard region", start, 0, SYS_madvise,
				      start, end - start, MADV_GUARD_INSTALL);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

/*
 * The kernel takes a key of its own when the first mapping becomes execute-only. Return: it,
 * as the image shows it, or 0.
 */
static uint32_t exec_only_key(const struct cpx_rst_mm *mm)
{
	uint32_t key = 0;

	for (size_t i = 0; i < mm->n; i++)
		if (mm->v[i]->prot == PROT_EXEC && mm->v[i]->kind < CPX_VMA_VDSO)
			key = mm->v[i]->pkey;
	for (size_t i = 0; i < mm->n; i++)
		if (mm->v[i]->prot != PROT_EXEC && mm->v[i]->pkey == key)
			return 0;
	return key;
}

/* The keys to have, as a bitmap: those recorded and those of mappings. */
static uint32_t wanted_keys(const struct cpx_rst_mm *mm)
{
	uint32_t keys = mm->rec->pkeys & ((1u << CPX_PKEYS) - 2);

	for (size_t i = 0; i < mm->n; i++)
		if (mm->v[i]->pkey < CPX_PKEYS)
			keys |= 1u << mm->v[i]->pkey;
	return keys & ~1u;
}

static int free_keys(struct cpx_batch *b, uint32_t keys, struct cpx_err *err)
{
	int rc = 0;

	for (uint32_t k = 1; k < CPX_PKEYS && rc == 0; k++)
		if (keys >> k & 1)
			rc = cpx_badd(b, err, "free a protection key", k, CPX_CALL_MAY_FAIL,
				      SYS_pkey_free, k);
	return rc;
}

/*
 * Before anything is mapped: all keys are taken, but for the kernel's own, which it then takes
 * itself as the only one that is free. add_pkeys() frees what is not wanted.
 */
static int take_pkeys(const struct cpx_rst_mm *mm, struct cpx_batch *b, struct cpx_err *err)
{
	uint32_t own = exec_only_key(mm), keys = wanted_keys(mm);
	int rc = 0;

	if (!keys)
		return 0;
	for (uint32_t k = 1; k < CPX_PKEYS && rc == 0; k++)
		rc = cpx_badd(b, err, "take a protection key", k, CPX_CALL_MAY_FAIL,
			      SYS_pkey_alloc, 0, 0);
	if (rc == 0 && own)
		rc = free_keys(b, 1u << own, err);
	return rc;
}

static int add_pkeys(const struct cpx_rst_mm *mm, struct cpx_batch *b, struct cpx_err *err)
{
	uint32_t own = exec_only_key(mm);
	int rc = 0;

	for (size_t i = 0; i < mm->n && rc == 0; i++)
		if (mm->v[i]->pkey && mm->v[i]->pkey != own)
			rc = cpx_badd(b, err, "set a protection key", mm->v[i]->start, 0,
				      SYS_pkey_mprotect, mm->v[i]->start,
				      mm->v[i]->end - mm->v[i]->start, mm->v[i]->prot,
				      mm->v[i]->pkey);
	return rc == 0 && wanted_keys(mm) ? free_keys(b, ~wanted_keys(mm), err) : rc;
}

static int add_locks(struct cpx_rst_mm *mm, struct cpx_batch *b, struct cpx_err *err)
{
	uint32_t future = mm->rec->mlock_future;
	int rc = 0;

	for (size_t i = 0; i < mm->n && rc == 0; i++) {
		const struct cpx_rec_vma *v = mm->v[i];

		if (!(v->flags & MAP_LOCKED))
			continue;
		/* what cannot be populated is locked all the same, and says ENOMEM */
		rc = cpx_badd(b, err, "lock memory", v->start, CPX_CALL_MAY_FAIL, SYS_mlock2,
			      v->start, v->end - v->start,
			      v->flags & CPX_VMAF_ONFAULT ? MLOCK_ONFAULT : 0);
	}
	if (rc == 0 && future)
		rc = cpx_badd(b, err, "mlockall", 0, 0, SYS_mlockall,
			      MCL_FUTURE | (future == 2 ? MCL_ONFAULT : 0));
	return rc;
}

/* The executable is the forking process's already; with its mappings in place it stays (EBUSY).
 */
static bool has_exe(const struct cpx_rst_task *t, int fd)
{
	struct stat is, want;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", t->pid);
	return stat(path, &is) == 0 && fstat(fd, &want) == 0 && is.st_dev == want.st_dev &&
	       is.st_ino == want.st_ino;
}

/* Numbers of the mm, auxiliary vector, executable: one call, since single ones need more
 * rights. */
static int add_mm(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_rst_task *t,
		  struct cpx_batch *b, struct cpx_err *err)
{
	const struct cpx_rec_mm *rec = mm->rec;
	struct prctl_mm_map map = {
		.start_code = rec->start_code,
		.end_code = rec->end_code,
		.start_data = rec->start_data,
		.end_data = rec->end_data,
		.start_brk = rec->start_brk,
		.brk = rec->brk,
		.start_stack = rec->start_stack,
		.arg_start = rec->arg_start,
		.arg_end = rec->arg_end,
		.env_start = rec->env_start,
		.env_end = rec->env_end,
	};
	uint64_t auxv, at;
	int fd = cpx_rst_mem_file(r, rec->exe_file, O_RDONLY, err), rc;

	if (fd < 0)
		return cpx_err_wrap(err, "executable");
	/* empties the argument area: what is pushed now must stay until it is used */
	rc = cpx_batch_run(b, err);
	if (rc == 0)
		rc = cpx_batch_push(b, rec->auxv.p, rec->auxv.n, &auxv, err);
	if (rc < 0)
		return rc;
	map.auxv = (void *)auxv;
	map.auxv_size = rec->auxv.n;
	map.exe_fd = ~0u;
	rc = cpx_batch_push(b, &map, sizeof(map), &at, err);
	if (rc == 0 && has_exe(t, fd))
		return cpx_badd(b, err, "set the mm's numbers", 0, 0, SYS_prctl, PR_SET_MM,
				PR_SET_MM_MAP, at, sizeof(map), 0);
	if (rc == 0)
		rc = cpx_badd(b, err, "fetch the executable", 0, CPX_CALL_KEEP, SYS_pidfd_getfd,
			      (uint64_t)t->files_of->self_pidfd, (uint64_t)fd, 0);
	if (rc == 0)
		rc = cpx_badd(b, err, "set the mm's numbers and executable", 0,
			      CPX_CALL_FD_STORE, SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, at,
			      sizeof(map), 0, at + offsetof(struct prctl_mm_map, exe_fd));
	if (rc == 0)
		rc = cpx_badd(b, err, "close the executable", 0, CPX_CALL_FD_ARG1, SYS_close,
			      0);
	return rc;
}

/* The address space that @t was born with, if it is still as the image has it. */
static const struct cpx_rst_mm *inherited(struct cpx_rst *r, const struct cpx_rst_task *t)
{
	struct cpx_rst_mm *mm =
		t->mem_from ? cpx_rst_mm_find(r->mem, t->mem_from->rec->mm_id) : NULL;

	return mm && mm->filled ? mm : NULL;
}

static int after_contents(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_rst_task *t,
			  const struct cpx_rst_pieces *ps, struct cpx_batch *b,
			  struct cpx_err *err)
{
	int rc = add_guards(r, mm, b, err);

	if (rc == 0)
		rc = cpx_rst_mem_protect(ps, b, err);
	if (rc == 0)
		rc = add_pkeys(mm, b, err);
	if (rc == 0)
		rc = add_mm(r, mm, t, b, err);
	if (rc == 0)
		rc = add_locks(mm, b, err);
	return rc == 0 ? cpx_batch_run(b, err) : rc;
}

int cpx_rst_mem_fill(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_rst_mm *mm = cpx_rst_mm_find(r->mem, t->rec->mm_id);
	struct cpx_rst_pieces ps = { 0 };
	struct cpx_batch b;
	int rc;

	if (!mm)
		return cpx_err_set(err, CPX_E_FORMAT, "process %u has no address space",
				   t->rec->pid);
	rc = cpx_batch_init(&b, &t->threads[0].t, err);
	if (rc == 0)
		rc = take_pkeys(mm, &b, err);
	if (rc == 0)
		rc = cpx_rst_mem_map(r, mm, inherited(r, t), t, &b, &ps, err);
	if (rc == 0)
		rc = fill(r, mm, t, &ps, err);
	if (rc == 0)
		rc = after_contents(r, mm, t, &ps, &b, err);
	free(ps.v);
	cpx_batch_free(&b);
	mm->filled = rc == 0;
	return rc < 0 ? cpx_err_wrap(err, "memory of process %u", t->rec->pid) : 0;
}

/* --- the family --------------------------------------------------------------------------- */

static int mem_prepare(struct cpx_rst *r, void **priv, struct cpx_err *err)
{
	(void)err;
	*priv = r->mem;
	cpx_rst_vdso_own(r->mem);
	return 0;
}

/* Seals forbid unmapping, also to children forked from here: so they come when all exist. */
static int seal_mappings(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_rst_mm *mm = cpx_rst_mm_find(r->mem, t->rec->mm_id);
	struct cpx_batch b;
	int rc;

	rc = cpx_batch_init(&b, &t->threads[0].t, err);
	for (size_t i = 0; mm && i < mm->n && rc == 0; i++)
		if (mm->v[i]->sealed && mm->v[i]->kind < CPX_VMA_VDSO)
			rc = cpx_badd(&b, err, "seal", mm->v[i]->start, CPX_CALL_MAY_FAIL,
				      SYS_mseal, mm->v[i]->start,
				      mm->v[i]->end - mm->v[i]->start, 0);
	if (rc == 0)
		rc = cpx_batch_run(&b, err);
	cpx_batch_free(&b);
	return rc;
}

static int mem_late(struct cpx_rst *r, void *priv, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_rst_mem *m = priv;
	int rc = 0;

	if (!m->late_done) {
		m->late_done = true;
		rc = cpx_rst_shm_late(r, err);
	}
	return rc == 0 && t->mm_of == t ? seal_mappings(r, t, err) : rc;
}

static void mem_end(struct cpx_rst *r, void *priv)
{
	struct cpx_rst_mem *m = priv ? priv : r->mem;

	if (!m)
		return;
	for (size_t i = 0; i < m->nmms; i++)
		free(m->mms[i].v);
	for (size_t i = 0; i < m->nfiles; i++)
		cpx_close(&m->files[i].fd);
	cpx_rst_shm_end(r);
	cpx_rst_owner_free(&m->owner);
	free(m->files);
	free(m->mms);
	free(m);
	r->mem = NULL;
}

const struct cpx_rst_family cpx_rst_mem = {
	.name = "memory",
	.prepare = mem_prepare,
	.late = mem_late,
	.end = mem_end,
};
