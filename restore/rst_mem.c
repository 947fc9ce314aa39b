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

#define LOWEST (64ull << 10)	  /* no mapping is below that */
#define HOME_LOWEST (1ull << 20)  /* where the search for a hole begins */
#define HOME_APART (1ull << 20)	  /* and how far it stays below other mappings */
#define VMAS_MAX (1u << 22)
#define GROUP_MAX 200u /* mappings made with one descriptor in one batch */
#define PKEYS 16u
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
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
	    v->pkey >= PKEYS)
		return bad_vma(v, "bad flags", err);
	if ((v->kind == CPX_VMA_SHM || v->kind == CPX_VMA_SHM_PRIVATE) &&
	    !cpx_rst_shm_find(r, v->file_id))
		return bad_vma(v, "shared memory that is not there", err);
	return 0;
}

static struct cpx_rst_mm *find_mm(struct cpx_rst_mem *m, uint32_t id)
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

static int list_mms(struct cpx_rst *r, struct cpx_err *err)
{
	struct cpx_rst_mem *m = r->mem;

	m->mms = calloc(cpx_state_count(r->st, CPX_REC_mm) + 1, sizeof(*m->mms));
	if (!m->mms)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for address spaces");
	cpx_state_each(r->st, mm, rec) {
		int rc;

		if (find_mm(m, rec->id))
			return cpx_err_set(err, CPX_E_FORMAT, "address space %u is there twice",
					   rec->id);
		m->mms[m->nmms++].rec = rec;
		rc = list_vmas(r, &m->mms[m->nmms - 1], err);
		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < r->ntasks; i++)
		if (r->tasks[i].rec->state != CPX_TASK_ZOMBIE &&
		    !find_mm(m, r->tasks[i].rec->mm_id))
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

/* All that is taken in some address space; a SysV segment is attached whole before it is cut. */
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
	r->mem->owner = (struct cpx_rst_owner){ .uid = r->opts->owner_uid,
						.gid = r->opts->owner_gid };
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

	f |= v->kind == CPX_VMA_FILE_SHARED || v->kind == CPX_VMA_SHM ? MAP_SHARED : MAP_PRIVATE;
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
static int add_advice(struct cpx_batch *b, const struct cpx_rec_vma *v, struct cpx_err *err)
{
	uint64_t len = v->end - v->start, at;
	int rc = 0;

	for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]) && rc == 0; i++) {
		bool must = advice[i].bit & (CPX_MADV_DONTFORK | CPX_MADV_WIPEONFORK);

		if (v->madv & advice[i].bit)
			rc = cpx_badd(b, err, "madvise", v->start, must ? 0 : CPX_CALL_MAY_FAIL,
				      SYS_madvise, v->start, len, (uint64_t)advice[i].advice);
	}
	if (rc == 0 && v->name)
		rc = cpx_batch_room(b, 1, err);
	if (rc < 0 || !v->name)
		return rc;
	rc = cpx_batch_push(b, v->name, strnlen(v->name, 255) + 1, &at, err);
	if (rc < 0)
		return rc;
	return cpx_badd(b, err, "name", v->start, CPX_CALL_MAY_FAIL, SYS_prctl, PR_SET_VMA,
			PR_SET_VMA_ANON_NAME, v->start, len, at);
}

static int map_anon(struct cpx_batch *b, const struct cpx_rec_vma *v, struct cpx_err *err)
{
	return cpx_badd(b, err, "map memory", v->start, 0, SYS_mmap, v->start,
			v->end - v->start, first_prot(v), map_flags(v), -1ull, 0);
}

struct by_file {
	const struct cpx_rec_vma *v;
	int fd;
};

static int cmp_fd(const void *a, const void *b)
{
	const struct by_file *x = a, *y = b;

	if (x->fd != y->fd)
		return x->fd < y->fd ? -1 : 1;
	return x->v->start < y->v->start ? -1 : 1;
}

/* All mappings of one descriptor: fetch it, map, close. */
static int map_group(struct cpx_rst_task *t, struct cpx_batch *b, const struct by_file *f,
		     size_t n, struct cpx_err *err)
{
	int rc = cpx_batch_room(b, n + 2, err);

	if (rc == 0)
		rc = cpx_badd(b, err, "fetch a mapped file", f->v->start, CPX_CALL_KEEP,
			      SYS_pidfd_getfd, (uint64_t)t->files_of->self_pidfd,
			      (uint64_t)f->fd, 0);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = cpx_badd(b, err, "map a file", f[i].v->start, CPX_CALL_FD_ARG5, SYS_mmap,
			      f[i].v->start, f[i].v->end - f[i].v->start,
			      first_prot(f[i].v), map_flags(f[i].v), 0, f[i].v->pgoff);
	if (rc == 0)
		rc = cpx_badd(b, err, "close a mapped file", f->v->start, CPX_CALL_FD_ARG1,
			      SYS_close, 0);
	return rc;
}

static int map_files(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_rst_task *t,
		     struct cpx_batch *b, struct cpx_err *err)
{
	CPX_AUTO_FREE struct by_file *f = calloc(mm->n + 1, sizeof(*f));
	size_t n = 0;
	int rc = 0;

	if (!f)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for mappings");
	for (size_t i = 0; i < mm->n; i++) {
		if (!by_fd(r, mm->v[i]))
			continue;
		f[n].v = mm->v[i];
		f[n].fd = vma_fd(r, mm->v[i], err);
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

static int map_all(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_rst_task *t,
		   struct cpx_batch *b, struct cpx_err *err)
{
	uint64_t above = r->home_page + r->home_size;
	int rc = cpx_badd(b, err, "clear the address space", 0, 0, SYS_munmap, 0, r->home_page);

	if (rc == 0)
		rc = cpx_badd(b, err, "clear the address space", above, 0, SYS_munmap, above,
			      CPX_USER_END - above);
	if (rc == 0)
		rc = cpx_rst_shm_attach(r, mm, b, err);
	if (rc == 0)
		rc = map_files(r, mm, t, b, err);
	for (size_t i = 0; i < mm->n && rc == 0; i++)
		if (mm->v[i]->kind == CPX_VMA_ANON)
			rc = map_anon(b, mm->v[i], err);
	for (size_t i = 0; i < mm->n && rc == 0; i++)
		if (mm->v[i]->madv || mm->v[i]->name)
			rc = add_advice(b, mm->v[i], err);
	if (rc == 0)
		rc = cpx_rst_vdso_map(r, mm, t, b, err);
	return rc == 0 ? cpx_batch_run(b, err) : rc;
}

/* --- contents ----------------------------------------------------------------------------- */

struct target {
	pid_t pid;
	int mem_fd;
};

/*
 * Page workers call this. process_vm_writev is the faster way but keeps to the
 * protection; /proc/PID/mem does not.
 */
static int write_pages(void *ctx, uint32_t space, uint64_t off, const void *data, size_t len,
		       struct cpx_err *err)
{
	const struct target *t = ctx;
	struct iovec from = { .iov_base = (void *)data, .iov_len = len };
	struct iovec to = { .iov_base = (void *)(uintptr_t)off, .iov_len = len };
	ssize_t n = process_vm_writev(t->pid, &from, 1, &to, 1, 0);
	size_t done = n > 0 ? (size_t)n : 0;

	(void)space;
	while (done < len) {
		n = pwrite(t->mem_fd, (const char *)data + done, len - done, (off_t)(off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return cpx_err_sys(err, n ? errno : ESRCH,
					   "write memory of process %d at 0x%" PRIx64, t->pid,
					   off + done);
		done += (size_t)n;
	}
	return 0;
}

static int fill(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_rst_task *t,
		struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_extent *x = calloc(mm->n + 1, sizeof(*x));
	struct target to = { .pid = t->pid, .mem_fd = t->mem_fd };
	size_t n = 0;

	if (!x)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for mappings");
	for (size_t i = 0; i < mm->n; i++) {
		const struct cpx_rec_vma *v = mm->v[i];

		if (v->kind != CPX_VMA_ANON && v->kind != CPX_VMA_FILE_PRIVATE &&
		    v->kind != CPX_VMA_SHM_PRIVATE)
			continue;
		if (n && x[n - 1].off + x[n - 1].len == v->start)
			x[n - 1].len += v->end - v->start;
		else
			x[n++] = (struct cpx_extent){ .space = mm->rec->space,
						      .off = v->start,
						      .len = v->end - v->start };
	}
	return n ? cpx_image_scan(r->img, x, n, r->opts->workers, write_pages, &to, err) : 0;
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

/* After the contents: the kernel drops what is reserved for memory that was never written. */
static int add_protection(struct cpx_rst_mm *mm, struct cpx_batch *b, struct cpx_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < mm->n && rc == 0; i++)
		if (was_writable(mm->v[i]))
			rc = cpx_badd(b, err, "protect", mm->v[i]->start, 0, SYS_mprotect,
				      mm->v[i]->start, mm->v[i]->end - mm->v[i]->start,
				      mm->v[i]->prot);
	return rc;
}

static int add_pkeys(struct cpx_rst_mm *mm, struct cpx_batch *b, struct cpx_err *err)
{
	uint32_t most = 0;
	int rc = 0;

	for (size_t i = 0; i < mm->n; i++)
		if (mm->v[i]->pkey > most)
			most = mm->v[i]->pkey;
	if (!most)
		return 0;
	for (uint32_t k = 1; k < PKEYS && rc == 0; k++)
		rc = cpx_badd(b, err, "free a protection key", k, CPX_CALL_MAY_FAIL,
			      SYS_pkey_free, k);
	for (uint32_t k = 1; k <= most && rc == 0; k++)
		rc = cpx_badd(b, err, "take a protection key", k, 0, SYS_pkey_alloc, 0, 0);
	for (size_t i = 0; i < mm->n && rc == 0; i++)
		if (mm->v[i]->pkey)
			rc = cpx_badd(b, err, "set a protection key", mm->v[i]->start, 0,
				      SYS_pkey_mprotect, mm->v[i]->start,
				      mm->v[i]->end - mm->v[i]->start, mm->v[i]->prot,
				      mm->v[i]->pkey);
	return rc;
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

/* The executable is the forking process's already; with its mappings in place it stays (EBUSY). */
static bool has_exe(const struct cpx_rst_task *t, int fd)
{
	struct stat is, want;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", t->pid);
	return stat(path, &is) == 0 && fstat(fd, &want) == 0 && is.st_dev == want.st_dev &&
	       is.st_ino == want.st_ino;
}

/* Numbers of the mm, auxiliary vector, executable: one call, since single ones need more rights. */
static int add_mm(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_rst_task *t,
		  struct cpx_batch *b, struct cpx_err *err)
{
	const struct cpx_rec_mm *rec = mm->rec;
	struct prctl_mm_map map = {
		.start_code = rec->start_code,	 .end_code = rec->end_code,
		.start_data = rec->start_data,	 .end_data = rec->end_data,
		.start_brk = rec->start_brk,	 .brk = rec->brk,
		.start_stack = rec->start_stack, .arg_start = rec->arg_start,
		.arg_end = rec->arg_end,	 .env_start = rec->env_start,
		.env_end = rec->env_end,
	};
	uint64_t auxv, at;
	int fd = file_fd(r, rec->exe_file, O_RDONLY, -1, err), rc;

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
		rc = cpx_badd(b, err, "close the executable", 0, CPX_CALL_FD_ARG1, SYS_close, 0);
	return rc;
}

int cpx_rst_mem_fill(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_rst_mm *mm = find_mm(r->mem, t->rec->mm_id);
	struct cpx_batch b;
	int rc;

	if (!mm)
		return cpx_err_set(err, CPX_E_FORMAT, "process %u has no address space",
				   t->rec->pid);
	rc = cpx_batch_init(&b, &t->threads[0].t, err);
	if (rc == 0)
		rc = map_all(r, mm, t, &b, err);
	if (rc == 0)
		rc = fill(r, mm, t, err);
	if (rc == 0)
		rc = add_guards(r, mm, &b, err);
	if (rc == 0)
		rc = add_protection(mm, &b, err);
	if (rc == 0)
		rc = add_pkeys(mm, &b, err);
	if (rc == 0)
		rc = add_mm(r, mm, t, &b, err);
	if (rc == 0)
		rc = add_locks(mm, &b, err);
	if (rc == 0)
		rc = cpx_batch_run(&b, err);
	cpx_batch_free(&b);
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
	struct cpx_rst_mm *mm = find_mm(r->mem, t->rec->mm_id);
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
