/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_mem.c - the memory family: address spaces, mappings, and the order in which their
 * contents are taken.
 *
 * Happy path with a clone: task() reads /proc/PID/maps while the tree is parked; the clone is
 * made; finish() copies what a clone does not hold (shared memory, DONTFORK and WIPEONFORK
 * ranges, huge pages of a pool); the tree goes on; late() reads VmFlags and pages from the
 * clone. Without one, all is queued in finish() and read before the tree goes on, or in
 * late() when it never will. smaps walks all pages, so it is read in the pause only where
 * there is no clone, or where fork changes what it says (locked, DONTFORK).
 *
 * Failure modes: what cannot be saved is refused with its reason; a mapping that cannot be
 * looked at is an error.
 */
#include "cap_mem.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cap_precopy.h"
#include "engine.h"
#include "track.h"
#include "base/log.h"
#include "snap_clone.h"

#define SECRETMEM 0x5345434du
#define CODE_MAX (64u << 20) /* bytes of a mapped data file that are kept with the image */
#define VDSO_MAX (1u << 20)
#define STAT_FIELDS 52
#define HUGE_SHIFT 26
#ifndef HUGETLBFS_MAGIC
#define HUGETLBFS_MAGIC 0x958458f6
#endif

/* A mapped file seen before, so that it is looked at once. */
struct cpx_mem_file {
	struct cpx_mem_file *next;
	uint64_t dev, ino;
	uint32_t file_id; /* 0: an obstacle */
	struct cpx_mem_shm *shm;
	uint32_t huge; /* MAP_HUGETLB and size, of a private mapping of the pool */
	bool is_reg, refused, hugetlb;
	uint64_t size;
};

static int no_memory(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "no memory for address spaces");
}

/* --- files behind mappings --------------------------------------------------------------- */

static int refuse_map(struct cpx_cap *c, struct cpx_cap_task *t, const struct cpx_map *m,
		      const char *what, struct cpx_err *err)
{
	return cpx_cap_refuse(c, t, err, "it maps '%s' at 0x%" PRIx64 ", %s", m->name, m->start,
			      what);
}

static const struct {
	const char *prefix, *what;
} never[] = {
	{ "/[aio]", "the ring of asynchronous I/O (io_setup), which cannot be saved" },
	{ "anon_inode:[io_uring]", "an io_uring, which cannot be saved" },
	{ "anon_inode:[perf_event]", "a perf event buffer, which cannot be saved" },
	{ "anon_inode:", "an object of the kernel that cannot be saved" },
	{ "/secretmem", "secret memory, which cannot be read" },
	{ "[uprobes]", "it is being probed; remove the probe" },
	{ "socket:", "a packet socket's ring, which cannot be saved" },
};

static const char *never_why(const char *name)
{
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (!strncmp(name, never[i].prefix, strlen(never[i].prefix)))
			return never[i].what;
	return NULL;
}

static int look_at(struct cpx_cap *c, struct cpx_cap_task *t, const struct cpx_map *m,
		   struct cpx_mem_file *f, struct cpx_err *err)
{
	char path[64], link[PATH_MAX + 16];
	struct statfs fs = { 0 };
	struct stat st;
	ssize_t n;

	snprintf(path, sizeof(path), "map_files/%" PRIx64 "-%" PRIx64, m->start, m->end);
	CPX_AUTO_FD fd = openat(t->proc_fd, path, O_PATH | O_CLOEXEC);
	n = readlinkat(t->proc_fd, path, link, sizeof(link) - 1);

	if (fd < 0 || n < 0 || fstat(fd, &st) < 0) {
		f->refused = true;
		if (c->dry_run && errno == ENOENT) /* unmapped meanwhile */
			return 0;
		return cpx_err_sys(err, errno, "pid %d: look at the mapping of %s", t->ns_pid,
				   m->name);
	}
	link[n] = 0;
	fstatfs(fd, &fs);
	f->hugetlb = (unsigned long)fs.f_type == HUGETLBFS_MAGIC;
	f->is_reg = S_ISREG(st.st_mode);
	f->size = (uint64_t)st.st_size;
	if ((unsigned long)fs.f_type == SECRETMEM || never_why(link)) {
		f->refused = true;
		return refuse_map(c, t, m, never_why(link) ? never_why(link) : "secret memory",
				  err);
	}
	if (cpx_mem_is_shm(c->mem, fd, &st)) {
		if (!m->shared && !strncmp(link, "/anon_hugepage", 14)) {
			f->huge = MAP_HUGETLB |
				  (uint32_t)(__builtin_ctzll((uint64_t)fs.f_bsize | 1ull << 40))
					  << HUGE_SHIFT;
			return 0;
		}
		return cpx_mem_shm_get(c, t, fd, &st, link, &f->shm, err);
	}
	if (f->is_reg || (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5)))
		return cpx_cap_file_of_fd(c, t, fd, link, &f->file_id, err);
	f->refused = true;
	return refuse_map(c, t, m, "a device whose state cannot be saved", err);
}

static int file_of(struct cpx_cap *c, struct cpx_cap_task *t, const struct cpx_map *m,
		   struct cpx_mem_file **out, struct cpx_err *err)
{
	uint64_t dev = makedev(m->dev_major, m->dev_minor);
	struct cpx_mem_file *f;

	/* numbers of SysV segments are their own: names tell them apart */
	bool sysv = !strncmp(m->name, "/SYSV", 5);

	for (f = c->mem->files; f; f = f->next)
		if (f->dev == dev && f->ino == m->ino && !f->huge &&
		    (f->shm && f->shm->sysv) == sysv) {
			*out = f;
			return 0;
		}
	f = calloc(1, sizeof(*f));
	if (!f)
		return no_memory(err);
	f->dev = dev;
	f->ino = m->ino;
	f->next = c->mem->files;
	c->mem->files = f;
	*out = f;
	return look_at(c, t, m, f, err);
}

/*
 * What a restart must do with the file: code and small data that is only read are kept with
 * the image, what is written through the mapping is put back as it is now.
 */
static uint32_t rule_of(const struct cpx_map *m, const struct cpx_mem_file *f)
{
	if (m->shared && (m->prot & PROT_WRITE))
		return CPX_RULE_SNAPSHOT;
	if ((m->prot & PROT_EXEC) || f->size <= CODE_MAX)
		return CPX_RULE_CODE;
	return CPX_RULE_VERIFY;
}

static int file_vma(struct cpx_cap *c, struct cpx_cap_task *t, const struct cpx_map *m,
		    struct cpx_rec_vma *rec, struct cpx_err *err)
{
	struct cpx_mem_file *f = NULL;
	int rc = file_of(c, t, m, &f, err);

	if (rc < 0 || f->refused)
		return rc;
	rec->pgoff = m->pgoff;
	if (f->huge) {
		rec->kind = CPX_VMA_ANON;
		rec->flags |= f->huge;
		rec->pgoff = 0;
		return 0;
	}
	if (f->shm) {
		rec->kind = m->shared ? CPX_VMA_SHM : CPX_VMA_SHM_PRIVATE;
		rec->file_id = f->shm->rec->id;
		return 0;
	}
	rec->kind = m->shared ? CPX_VMA_FILE_SHARED : CPX_VMA_FILE_PRIVATE;
	rec->file_id = f->file_id;
	if (!f->is_reg || !f->file_id)
		return 0;
	return cpx_cap_file_rule(c, f->file_id, rule_of(m, f), err);
}

/* --- mappings ---------------------------------------------------------------------------- */

/* "[anon:NAME]" or "[anon_shmem:NAME]" -> NAME, else NULL. */
static const char *given_name(struct cpx_state *st, const char *name)
{
	const char *p = NULL;
	char *copy;

	if (!strncmp(name, "[anon:", 6))
		p = name + 6;
	else if (!strncmp(name, "[anon_shmem:", 12))
		p = name + 12;
	copy = p && *p ? (char *)cpx_state_str(st, p) : NULL;
	if (copy)
		copy[strlen(copy) - 1] = 0;
	return copy;
}

static int classify(struct cpx_cap *c, struct cpx_cap_task *t, const struct cpx_map *m,
		    struct cpx_rec_vma *rec, struct cpx_err *err)
{
	const char *n = m->name;

	rec->name = given_name(c->st, n);
	if (!strcmp(n, "[vdso]"))
		rec->kind = CPX_VMA_VDSO;
	else if (!strncmp(n, "[vvar", 5))
		rec->kind = CPX_VMA_VVAR;
	else if (!strcmp(n, "[vsyscall]"))
		rec->kind = CPX_VMA_VSYSCALL;
	else if (m->ino || m->dev_major || m->dev_minor)
		return file_vma(c, t, m, rec, err);
	else if (!*n || !strncmp(n, "[anon:", 6) || !strcmp(n, "[heap]") ||
		 !strncmp(n, "[stack", 6))
		rec->kind = CPX_VMA_ANON;
	else
		return refuse_map(c, t, m,
				  never_why(n) ? never_why(n)
					       : "a kind of memory that cannot be saved",
				  err);
	return 0;
}

static int add_vmas(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_err *err)
{
	mm->v = calloc(mm->maps.n ? mm->maps.n : 1, sizeof(*mm->v));
	if (!mm->v)
		return no_memory(err);
	for (size_t i = 0; i < mm->maps.n; i++) {
		const struct cpx_map *m = &mm->maps.v[i];
		struct cpx_rec_vma *rec = cpx_state_new_rec(c->st, vma);
		int rc;

		if (!rec)
			return no_memory(err);
		mm->v[mm->n++] = (struct cpx_mem_vma){ .map = m, .rec = rec };
		rec->mm_id = mm->rec->id;
		rec->start = m->start;
		rec->end = m->end;
		rec->prot = m->prot;
		rc = classify(c, mm->t, m, rec, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- VmFlags ------------------------------------------------------------------------------ */

static const struct {
	uint32_t flag, madv;
} advice[] = {
	{ CPX_VMF_DC, CPX_MADV_DONTFORK },   { CPX_VMF_WF, CPX_MADV_WIPEONFORK },
	{ CPX_VMF_HG, CPX_MADV_HUGEPAGE },   { CPX_VMF_NH, CPX_MADV_NOHUGEPAGE },
	{ CPX_VMF_MG, CPX_MADV_MERGEABLE },  { CPX_VMF_DD, CPX_MADV_DONTDUMP },
	{ CPX_VMF_SR, CPX_MADV_SEQUENTIAL }, { CPX_VMF_RR, CPX_MADV_RANDOM },
};

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

static int set_flags(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_rec_vma *rec,
		     const struct cpx_map *m, struct cpx_err *err)
{
	uint32_t f = m->vmflags;

	for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]); i++)
		if (f & advice[i].flag)
			rec->madv |= advice[i].madv;
	if (f & CPX_VMF_GD)
		rec->flags |= MAP_GROWSDOWN;
	if (f & CPX_VMF_NR)
		rec->flags |= MAP_NORESERVE;
	if (f & CPX_VMF_AC)
		rec->flags |= CPX_VMAF_ACCOUNT;
	if (f & CPX_VMF_DP)
		rec->flags |= MAP_DROPPABLE;
	if (f & CPX_VMF_LO)
		rec->flags |= MAP_LOCKED | (m->rss < m->end - m->start && (m->prot & PROT_READ)
						    ? CPX_VMAF_ONFAULT
						    : 0);
	rec->sealed = !!(f & CPX_VMF_SL);
	rec->pkey = m->pkey;
	if (rec->kind == CPX_VMA_FILE_SHARED || rec->kind == CPX_VMA_SHM)
		rec->file_flags = f & CPX_VMF_MW ? O_RDWR : O_RDONLY;
	if (rec->kind == CPX_VMA_VDSO || rec->kind == CPX_VMA_VVAR)
		return 0;
	if (f & CPX_VMF_SS)
		return cpx_cap_refuse(c, mm->t, err,
				      "it has a shadow stack, which cannot be saved");
	if (f & (CPX_VMF_IO | CPX_VMF_PF))
		return cpx_cap_refuse(c, mm->t, err, "it maps memory of a device at 0x%" PRIx64,
				      m->start);
	if (f & CPX_VMF_UFFD)
		return cpx_cap_refuse(c, mm->t, err, "its memory is watched by a userfaultfd");
	return 0;
}

/* @proc_fd: of the task or of its clone, which lacks what is not copied by fork. */
static int take_flags(struct cpx_cap *c, struct cpx_mem_mm *mm, int proc_fd,
		      struct cpx_err *err)
{
	struct cpx_maps smaps;
	size_t at = 0;
	int rc = cpx_maps_read(proc_fd, "smaps", &smaps, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < mm->n && rc == 0; i++) {
		struct cpx_rec_vma *rec = mm->v[i].rec;

		while (at < smaps.n && smaps.v[at].end <= rec->start)
			at++;
		if (at < smaps.n && smaps.v[at].start <= rec->start &&
		    smaps.v[at].end >= rec->end)
			rc = set_flags(c, mm, rec, &smaps.v[at], err);
		else if (!c->dry_run)
			rec->madv |= CPX_MADV_DONTFORK;
	}
	cpx_maps_free(&smaps);
	mm->flags_known = rc == 0;
	return rc;
}

/* --- the mm record ------------------------------------------------------------------------ */

static int take_stat(struct cpx_cap_task *t, struct cpx_rec_mm *rec, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	uint64_t f[STAT_FIELDS] = { 0 };
	char *p;

	if (cpx_read_file(t->proc_fd, "stat", 65536, &text, err) < 0)
		return cpx_err_wrap(err, "process %d", t->ns_pid);
	p = strrchr(text, ')');
	for (size_t i = 3; p && i < STAT_FIELDS; i++) {
		p = strchr(p + 1, ' ');
		f[i] = p ? strtoull(p, NULL, 10) : 0;
	}
	rec->start_code = f[26];
	rec->end_code = f[27];
	rec->start_stack = f[28];
	rec->start_data = f[45];
	rec->end_data = f[46];
	rec->start_brk = rec->brk = f[47];
	rec->arg_start = f[48];
	rec->arg_end = f[49];
	rec->env_start = f[50];
	rec->env_end = f[51];
	return 0;
}

static int take_auxv(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_rec_mm *rec,
		     struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	ssize_t n = cpx_read_file(t->proc_fd, "auxv", 65536, &text, err);

	if (n < 0)
		return cpx_err_wrap(err, "process %d", t->ns_pid);
	rec->auxv = cpx_state_blob(c->st, text, (size_t)n);
	return rec->auxv.p || !n ? 0 : no_memory(err);
}

static int take_exe(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_rec_mm *rec,
		    struct cpx_err *err)
{
	CPX_AUTO_FD fd = openat(t->proc_fd, "exe", O_PATH | O_CLOEXEC);
	char link[PATH_MAX + 16];
	ssize_t n = readlinkat(t->proc_fd, "exe", link, sizeof(link) - 1);
	int rc;

	if (fd < 0 || n < 0)
		return cpx_err_sys(err, errno, "executable of process %d", t->ns_pid);
	link[n] = 0;
	rc = cpx_cap_file_of_fd(c, t, fd, link, &rec->exe_file, err);
	if (rc < 0 || !rec->exe_file)
		return rc;
	return cpx_cap_file_rule(c, rec->exe_file, CPX_RULE_CODE, err);
}

/* "VmLck:" in kB. */
uint64_t cpx_mem_locked_kb(const struct cpx_cap_task *t)
{
	CPX_AUTO_FREE char *text = NULL;
	const char *p;

	if (cpx_read_file(t->proc_fd, "status", 65536, &text, NULL) < 0)
		return 0;
	p = strstr(text, "\nVmLck:");
	return p ? strtoull(p + 7, NULL, 10) : 0;
}

/* The keys whose rights some thread of @t has changed: those were allocated once. */
static uint32_t keys_touched(const struct cpx_cap_task *t)
{
	const uint32_t rights = 0x55555554; /* of a new program: all but key 0 denied */
	uint32_t size, at, c, d, touched = 0;

	__cpuid_count(0xd, 9, size, at, c, d);
	for (size_t i = 0; size >= 4 && i < t->nthreads; i++) {
		const struct cpx_tracee *th = &t->threads[i].t;
		uint32_t pkru;

		if (!th->xstate || th->xstate_len < sizeof(pkru) ||
		    at > th->xstate_len - sizeof(pkru))
			continue;
		memcpy(&pkru, th->xstate + at, sizeof(pkru));
		for (uint32_t k = 1; k < CPX_PKEYS; k++)
			touched |= ((pkru ^ rights) >> 2 * k & 3 ? 1u : 0) << k;
	}
	return touched;
}

static int take_mm(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_err *err)
{
	struct cpx_cap_task *t = mm->t;
	bool locked = cpx_mem_locked_kb(t) != 0;
	int rc;

	mm->rec->id = t->rec->mm_id;
	mm->rec->space = mm->track ? cpx_track_space(mm->track) : cpx_cap_id(c);
	/* before the calls below: what they touch is not the job's */
	rc = cpx_maps_read(t->proc_fd, "maps", &mm->maps, err);
	if (rc == 0)
		rc = take_stat(t, mm->rec, err);
	if (rc == 0)
		rc = take_auxv(c, t, mm->rec, err);
	if (rc == 0)
		rc = take_exe(c, t, mm->rec, err);
	if (rc == 0)
		rc = add_vmas(c, mm, err);
	if (rc == 0 && (locked || c->dry_run))
		rc = take_flags(c, mm, t->proc_fd, err);
	if (rc < 0 || c->dry_run)
		return rc;
	mm->rec->pkeys = keys_touched(t);
	return c->engine->space(c, t, mm->rec, locked, err);
}

/* --- the vDSO ----------------------------------------------------------------------------- */

static int take_vdso(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_mem_src *src,
		     struct cpx_err *err)
{
	const struct cpx_rec_vma *vdso = NULL;
	uint64_t vvar = 0;
	struct cpx_rec_vdso *rec;
	uint8_t *image;

	for (size_t i = 0; i < mm->n; i++) {
		const struct cpx_rec_vma *v = mm->v[i].rec;

		if (v->kind == CPX_VMA_VDSO)
			vdso = v;
		if (v->kind == CPX_VMA_VVAR && !vvar)
			vvar = v->start;
	}
	if (!vdso || vdso->end - vdso->start > VDSO_MAX)
		return 0;
	rec = cpx_state_new_rec(c->st, vdso);
	image = cpx_state_alloc(c->st, vdso->end - vdso->start);
	if (!rec || !image)
		return no_memory(err);
	rec->mm_id = mm->rec->id;
	rec->start = vdso->start;
	rec->vvar_start = vvar;
	rec->image = (struct cpx_blob){ image, (uint32_t)(vdso->end - vdso->start) };
	return cpx_mem_read_src(src, vdso->start, image, rec->image.n, err);
}

/* --- contents ----------------------------------------------------------------------------- */

/* @of: the parent in the same state, NULL if there is none. */
static int put_mm(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_mem_src *src,
		  const struct cpx_mem_src *of, bool stash, struct cpx_err *err)
{
	CPX_AUTO_FD pagemap = cpx_mem_open_pagemap(src, err);
	CPX_AUTO_FD parent = of ? cpx_mem_open_pagemap(of, err) : -1;

	if (pagemap < 0 || (of && parent < 0))
		return pagemap < 0 ? pagemap : parent;
	for (size_t i = 0; i < mm->n; i++) {
		int rc;

		/* read in the pause already, or not in the clone */
		if (!cpx_mem_has_pages(&mm->v[i]) || mm->v[i].taken)
			continue;
		rc = cpx_mem_put_vma(c, mm, &mm->v[i], src, pagemap, parent, stash, err);
		if (rc < 0)
			return rc;
	}
	if (mm->parent) {
		int rc = cpx_mem_cow_record(c, mm, err);

		if (rc < 0)
			return rc;
	}
	return take_vdso(c, mm, src, err);
}

/* Everything from the parked tasks themselves. */
static int put_all_live(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_mem *m = c->mem;
	int rc = cpx_mem_shm_put(c, false, err);

	for (size_t i = 0; i < m->nmms && rc == 0; i++) {
		if (!m->mms[i]->flags_known)
			rc = take_flags(c, m->mms[i], m->mms[i]->t->proc_fd, err);
		if (rc == 0)
			rc = put_mm(c, m->mms[i], &m->mms[i]->live,
				    m->mms[i]->parent ? &m->mms[i]->parent->live : NULL, false,
				    err);
	}
	return rc;
}

/* Is the mapping's content missing in the clone (DONTFORK, WIPEONFORK) or unsafe there? */
static int lost_by_fork(struct cpx_mem *m, const struct cpx_mem_vma *v, int live, int clone,
			struct cpx_err *err)
{
	uint64_t addr, there;
	int rc;

	if (v->rec->flags & MAP_HUGETLB)
		return 1;
	rc = cpx_mem_first_page(m, live, v->rec->start, v->rec->end, &addr, err);
	if (rc <= 0)
		return rc;
	rc = cpx_mem_first_page(m, clone, addr, addr + CPX_PAGE, &there, err);
	return rc < 0 ? rc : !rc;
}

static uint64_t total_pages(pid_t pid)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	return cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0 ? 0
								    : strtoull(text, NULL, 10);
}

/* In the pause: what the clone does not hold. */
static int put_lost(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_err *err)
{
	CPX_AUTO_FD live = cpx_mem_open_pagemap(&mm->live, err);
	CPX_AUTO_FD clone = cpx_mem_open_pagemap(&mm->clone, err);
	int rc = 0;

	if (live < 0 || clone < 0)
		return live < 0 ? live : clone;
	/* a mapping is missing, or has lost its marks: flags cannot be read later */
	if (!mm->flags_known && (mm->t->clone_unmarked ||
				 total_pages(mm->t->live) != total_pages(mm->t->clone_pid)))
		rc = take_flags(c, mm, mm->t->proc_fd, err);
	for (size_t i = 0; i < mm->n && rc == 0; i++) {
		struct cpx_mem_vma *v = &mm->v[i];

		if (!cpx_mem_has_pages(v))
			continue;
		rc = lost_by_fork(c->mem, v, live, clone, err);
		/* where the clone has no mapping, a scan of it tells nothing */
		if (rc == 0 && v->rec->madv & CPX_MADV_DONTFORK)
			rc = 1;
		if (rc <= 0)
			continue;
		v->taken = true;
		rc = cpx_mem_put_vma(c, mm, v, &mm->live, live, -1, true, err);
	}
	return rc;
}

static uint64_t resident_pages(pid_t pid)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return 0;
	p = strchr(text, ' ');
	return p ? strtoull(p, NULL, 10) : 0;
}

static int finish_clone(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_mem *m = c->mem;
	int rc = cpx_mem_shm_put(c, true, err);

	for (size_t i = 0; i < m->nmms && rc == 0; i++) {
		struct cpx_mem_mm *mm = m->mms[i];

		mm->clone = (struct cpx_mem_src){ mm->t->clone_mem_fd, NULL, mm->t->clone_pid,
						  !c->engine->injects };
		rc = put_lost(c, mm, err);
	}
	return rc == 0 && m->direct ? cpx_image_drain(c->writer, err) : rc;
}

/* Should the kernel have to kill for memory, let it be a snapshot and not the job. */
static void make_expendable(const struct cpx_mem *m)
{
	for (size_t i = 0; i < m->nmms; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", m->mms[i]->t->clone_pid);
		CPX_AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd >= 0)
			cpx_write_full(fd, "1000", 4);
	}
}

static int late_clone(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_mem *m = c->mem;
	int rc = 0;

	make_expendable(m);

	for (size_t i = 0; i < m->nmms && rc == 0; i++) {
		struct cpx_mem_mm *mm = m->mms[i];
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d", mm->t->clone_pid);
		CPX_AUTO_FD proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (proc < 0)
			return cpx_err_sys(err, errno, "snapshot of process %d went away",
					   mm->t->ns_pid);
		if (!mm->flags_known)
			rc = take_flags(c, mm, proc, err);
		if (rc == 0)
			rc = put_mm(c, mm, &mm->clone, mm->parent ? &mm->parent->clone : NULL,
				    false, err);
	}
	if (rc == 0)
		rc = cpx_image_drain(c->writer, err);
	if (rc == 0)
		c->engine->drop(c);
	return rc;
}

/* --- the short pause ---------------------------------------------------------------------- */

uint64_t cpx_mem_resident(const struct cpx_cap *c)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < c->mem->nmms; i++)
		pages += resident_pages(c->mem->mms[i]->t->pid);
	return pages;
}

int cpx_mem_left(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_mem *m = c->mem;
	uint64_t bytes = 0;

	for (size_t i = 0; i < m->nmms; i++) {
		struct cpx_mem_mm *mm = m->mms[i];
		CPX_AUTO_FD pagemap = cpx_mem_open_pagemap(&mm->live, err);

		if (pagemap < 0)
			return pagemap;
		for (size_t k = 0; k < mm->dirty.n; k++)
			bytes += mm->dirty.v[k][1] - mm->dirty.v[k][0];
		for (size_t k = 0; k < mm->n; k++) {
			struct cpx_mem_ranges found = { 0 }, guards = { 0 };
			const struct cpx_rec_vma *v = mm->v[k].rec;
			int rc = 0;

			if (cpx_mem_has_pages(&mm->v[k]) && !mm->v[k].covered)
				rc = cpx_mem_scan_pages(m, pagemap, v, &found, &guards, err);
			for (size_t j = 0; j < found.n; j++)
				bytes += found.v[j][1] - found.v[j][0];
			free(found.v);
			free(guards.v);
			if (rc < 0)
				return rc;
		}
	}
	c->precopy->left = bytes / CPX_PAGE;
	c->precopy->resident = cpx_mem_resident(c);
	return 0;
}

static int finish_precopy(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_mem *m = c->mem;
	int rc = cpx_mem_shm_put(c, true, err);
	int64_t start = cpx_mono_ns();

	for (size_t i = 0; i < m->nmms && rc == 0; i++)
		rc = put_mm(c, m->mms[i], &m->mms[i]->live,
			    m->mms[i]->parent ? &m->mms[i]->parent->live : NULL, true, err);
	c->snapshot_ns = cpx_mono_ns() - start;
	return rc == 0 && m->direct ? cpx_image_drain(c->writer, err) : rc;
}

/* What the words that were read in the pause mean. Return: 1 if that of a mapping is new. */
static int set_words(struct cpx_cap *c, struct cpx_mem_mm *mm, bool set, struct cpx_err *err)
{
	const struct cpx_vma_words *known = cpx_track_words(c->opts->track);
	int rc = 0;

	for (size_t i = 0; i < mm->n && rc == 0; i++) {
		struct cpx_map m = *mm->v[i].map;
		uint64_t word;

		if (mm->v[i].rec->kind == CPX_VMA_VSYSCALL) /* the kernel's own, no flags */
			continue;
		/* of locked ones more must be known */
		if (!cpx_vma_word(&mm->words, m.start, m.end, &word) ||
		    !cpx_vma_flags(known, word, &m.vmflags, &m.pkey) ||
		    (m.vmflags & CPX_VMF_LO))
			return 1;
		if (set)
			rc = set_flags(c, mm, mm->v[i].rec, &m, err);
	}
	return rc;
}

static int read_words(struct cpx_cap *c, const struct cpx_mem_mm *mm, struct cpx_vma_list *out,
		      struct cpx_err *err)
{
	CPX_AUTO_FD fd = cpx_vma_open(cpx_track_words(c->opts->track), mm->t->live, err);

	return fd < 0 ? fd : cpx_vma_read(fd, out, err);
}

/* smaps, for words that were never seen. */
static int learn_words(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_err *err)
{
	struct cpx_vma_list before = { 0 }, after = { 0 };
	struct cpx_maps smaps = { 0 }, again = { 0 };
	int rc = read_words(c, mm, &before, err);

	if (rc == 0)
		rc = cpx_maps_read(mm->t->proc_fd, "smaps", &smaps, err);
	if (rc == 0)
		rc = cpx_maps_read(mm->t->proc_fd, "smaps", &again, err);
	if (rc == 0)
		rc = read_words(c, mm, &after, err);
	if (rc == 0)
		cpx_vma_learn(cpx_track_words(c->opts->track), &before, &smaps, &again, &after);
	cpx_maps_free(&smaps);
	cpx_maps_free(&again);
	cpx_vma_list_free(&before);
	cpx_vma_list_free(&after);
	return rc;
}

static int flags_of_words(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_err *err)
{
	int rc = set_words(c, mm, false, err);

	if (rc == 1)
		rc = learn_words(c, mm, err);
	if (rc == CPX_E_FORMAT || rc == CPX_E_SYS)
		rc = 1; /* the job maps while its mappings are listed */
	else if (rc == 0)
		rc = set_words(c, mm, false, err);
	if (rc == 1)
		return cpx_err_set(err, CPX_E_BUSY, "pid %d: its mappings changed meanwhile",
				   mm->t->ns_pid);
	return rc < 0 ? rc : set_words(c, mm, true, err);
}

/* The flags of mappings, as they were in the pause; or else the same before and after it. */
static int late_flags(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_err *err)
{
	static const struct cpx_maps none;
	struct cpx_maps after = { 0 };
	int rc;

	if (mm->flags_known)
		return 0;
	if (mm->words.n)
		return flags_of_words(c, mm, err);
	rc = cpx_maps_read(mm->t->proc_fd, "smaps", &after, err);
	for (size_t i = 0; i < mm->n && rc == 0; i++) {
		const struct cpx_map *m;

		rc = cpx_precopy_flags(mm->early ? &mm->early->maps : &none, &after,
				       mm->v[i].rec->start, mm->v[i].rec->end, &m);
		if (rc == 0)
			rc = set_flags(c, mm, mm->v[i].rec, m, err);
		else
			cpx_err_set(err, rc, "pid %d: its mappings changed meanwhile",
				    mm->t->ns_pid);
	}
	cpx_maps_free(&after);
	return rc;
}

static int late_precopy(struct cpx_cap *c, struct cpx_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < c->mem->nmms && rc == 0; i++)
		rc = late_flags(c, c->mem->mms[i], err);
	return rc;
}

/* --- the family --------------------------------------------------------------------------- */

static int mem_begin(struct cpx_cap *c, void **priv, struct cpx_err *err)
{
	struct cpx_mem *m = calloc(1, sizeof(*m));

	if (!m)
		return no_memory(err);
	m->mms = calloc(c->ntasks + 1, sizeof(*m->mms));
	*priv = c->mem = m;
	return m->mms ? 0 : no_memory(err);
}

/* The address space of the parent process, which stands before it. */
static struct cpx_mem_mm *parent_mm(const struct cpx_cap *c, const struct cpx_mem *m,
				    const struct cpx_cap_task *t)
{
	for (size_t i = 0; i < c->ntasks && t->rec->ppid; i++) {
		const struct cpx_cap_task *p = c->tasks[i];

		if (p->rec->pid != t->rec->ppid || p->zombie)
			continue;
		for (size_t k = 0; k < m->nmms; k++)
			if (m->mms[k]->t == p->mm_of)
				return m->mms[k];
	}
	return NULL;
}

static bool on_hugetlbfs(const struct cpx_mem *m, const struct cpx_map *map)
{
	uint64_t dev = makedev(map->dev_major, map->dev_minor);

	for (const struct cpx_mem_file *f = m->files; f; f = f->next)
		if (f->dev == dev && f->ino == map->ino && f->hugetlb)
			return true;
	return false;
}

/* The kernel keeps no soft-dirty bits of huge pages of a pool. */
static bool has_bits(const struct cpx_cap *c, const struct cpx_mem_vma *v)
{
	if (cpx_track_way(c->opts->track) != CPX_TRACK_SOFT)
		return true;
	return v->rec->kind != CPX_VMA_SHM_PRIVATE && !(v->rec->flags & MAP_HUGETLB) &&
	       !(v->rec->kind == CPX_VMA_FILE_PRIVATE && on_hugetlbfs(c->mem, v->map));
}

/* What was written since the base, mapping by mapping; from now on all is tracked. */
static int collect_writes(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_err *err)
{
	CPX_AUTO_FD pagemap = cpx_mem_open_pagemap(&mm->live, err);

	if (pagemap < 0)
		return pagemap;
	for (size_t i = 0; i < mm->n; i++) {
		struct cpx_mem_vma *v = &mm->v[i];
		int rc;

		/* of the pool the kernel keeps marks where no page is, and nothing tells them
		 * apart */
		if (!cpx_mem_has_pages(v) || !has_bits(c, v) || v->rec->flags & MAP_HUGETLB)
			continue;
		rc = cpx_track_collect(mm->track, pagemap, v->rec->start, v->rec->end,
				       &mm->dirty, err);
		if (rc < 0)
			return rc;
		v->covered = rc == 0 && c->incremental &&
			     !cpx_precopy_lost(mm->early, v->rec->start, v->rec->end);
	}
	return cpx_track_arm(mm->track, mm->t->home.code, err);
}

/* A process that cannot be tracked is saved in full each time. */
static int start_tracking(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_err *err)
{
	int rc;

	/* without a main thread /proc shows less */
	if (!c->opts->track || c->dry_run || mm->t->live != mm->t->pid)
		return 0;
	mm->track = cpx_track_find(c->opts->track, mm->t->pid);
	if (mm->track)
		return 0;
	rc = cpx_track_start(c->opts->track, mm->t->pid,
			     c->engine->injects ? &mm->t->threads[0].t : NULL, &mm->track, err);
	return rc == CPX_E_GONE ? rc : 0;
}

static int mem_task(struct cpx_cap *c, void *priv, struct cpx_cap_task *t, struct cpx_err *err)
{
	struct cpx_mem *m = priv;
	struct cpx_mem_mm *mm;
	int rc;

	if (t->zombie || t->mm_of != t)
		return 0;
	mm = calloc(1, sizeof(*mm));
	if (!mm)
		return no_memory(err);
	mm->parent = parent_mm(c, m, t);
	m->mms[m->nmms++] = mm;
	mm->t = t;
	mm->live =
		(struct cpx_mem_src){ t->mem_fd, c->dry_run ? NULL : &t->home, t->live, false };
	mm->early = cpx_precopy_find(c->precopy, t->pid);
	mm->rec = cpx_state_new_rec(c->st, mm);
	if (!mm->rec)
		return no_memory(err);
	rc = start_tracking(c, mm, err);
	if (rc == 0)
		rc = take_mm(c, mm, err);
	if (rc == 0 && mm->track)
		rc = collect_writes(c, mm, err);
	/* to be watched changes words, so that they are read after it */
	if (rc == 0 && mm->early && mm->early->flags_fd >= 0)
		rc = cpx_vma_read(mm->early->flags_fd, &mm->words, err);
	return rc;
}

static int mem_finish(struct cpx_cap *c, void *priv, struct cpx_err *err)
{
	int rc;

	(void)priv;
	if (c->dry_run)
		return 0;
	if (c->way == CPX_SNAP_CLONE)
		return finish_clone(c, err);
	if (c->way == CPX_SNAP_PRECOPY)
		return finish_precopy(c, err);
	if (c->opts->after != CPX_AFTER_RUN)
		return 0;
	rc = put_all_live(c, err);
	return rc == 0 ? cpx_image_drain(c->writer, err) : rc;
}

static int mem_late(struct cpx_cap *c, void *priv, struct cpx_err *err)
{
	(void)priv;
	if (c->way == CPX_SNAP_CLONE)
		return late_clone(c, err);
	if (c->way == CPX_SNAP_PRECOPY)
		return late_precopy(c, err);
	if (c->opts->after == CPX_AFTER_RUN)
		return 0;
	return put_all_live(c, err);
}

static void mem_end(struct cpx_cap *c, void *priv)
{
	struct cpx_mem *m = priv;

	if (!m)
		return;
	for (size_t i = 0; i < m->nmms; i++) {
		cpx_maps_free(&m->mms[i]->maps);
		cpx_vma_list_free(&m->mms[i]->words);
		free(m->mms[i]->v);
		free(m->mms[i]->cow.v);
		free(m->mms[i]->dirty.v);
		free(m->mms[i]);
	}
	while (m->files) {
		struct cpx_mem_file *f = m->files;

		m->files = f->next;
		free(f);
	}
	while (m->stash) {
		struct cpx_mem_stash *s = m->stash;

		m->stash = s->next;
		free(s);
	}
	cpx_mem_shm_free(m);
	free(m->mms);
	free(m);
	c->mem = NULL;
}

const struct cpx_cap_family cpx_cap_mem = {
	.name = "mem",
	.begin = mem_begin,
	.task = mem_task,
	.finish = mem_finish,
	.late = mem_late,
	.end = mem_end,
};
