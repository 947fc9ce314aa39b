/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_mem_shm.c - making shared memory objects again, once, in the conductor.
 *
 * Anonymous shared memory is made by mapping some and opening it through
 * /proc/self/map_files, so that the job sees in /proc what it saw before. SysV segments get
 * their old id; one that is still there with the same key and size is used again and its
 * content put back. Names and owners from the image are touched with the owner's rights.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "../chpox/base/xattr.h"
#include "rst_mem_priv.h"

#define HUGE_BITS (0x3fu << 26) /* size in mmap and memfd_create flags */
#define SIZE_MAX_SHM (1ull << 46)

/* --- records ------------------------------------------------------------------------------ */

struct cpx_rst_shm *cpx_rst_shm_find(struct cpx_rst *r, uint32_t id)
{
	for (size_t i = 0; i < r->mem->nshms; i++)
		if (r->mem->shms[i].rec->id == id)
			return &r->mem->shms[i];
	return NULL;
}

static int check(const struct cpx_rst *r, const struct cpx_rec_shm *s, struct cpx_err *err)
{
	if (s->kind > CPX_SHM_UNLINKED || s->size > SIZE_MAX_SHM || s->sysv_id < 0 ||
	    s->flags & ~(MFD_HUGETLB | HUGE_BITS))
		return cpx_err_set(err, CPX_E_FORMAT, "shared memory %u makes no sense", s->id);
	if (!r->opts->trusted && s->uid != r->opts->owner_uid)
		return cpx_err_set(
			err, CPX_E_PERM,
			"shared memory '%s' belongs to user %u, not to the job's owner",
			s->name ? s->name : "", s->uid);
	return 0;
}

int cpx_rst_shm_prepare(struct cpx_rst *r, struct cpx_err *err)
{
	struct cpx_rst_mem *m = r->mem;

	m->shms = calloc(cpx_state_count(r->st, CPX_REC_shm) + 1, sizeof(*m->shms));
	if (!m->shms)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for shared memory records");
	cpx_state_each(r->st, shm, s) {
		int rc = check(r, s, err);

		if (rc < 0)
			return rc;
		m->shms[m->nshms++] = (struct cpx_rst_shm){ .rec = s, .fd = -1 };
	}
	return 0;
}

/* --- making ------------------------------------------------------------------------------- */

static int make_memfd(struct cpx_rst_shm *s, struct cpx_err *err)
{
	const struct cpx_rec_shm *rec = s->rec;

	/* sealing is allowed so that the seals can be set; "none more" is one of them */
	s->fd = memfd_create(rec->name ? rec->name : "",
			     MFD_CLOEXEC | MFD_ALLOW_SEALING |
				     (rec->flags & (MFD_HUGETLB | HUGE_BITS)));
	if (s->fd < 0)
		return cpx_err_sys(err, errno, "make memfd '%s'", rec->name ? rec->name : "");
	if (ftruncate(s->fd, (off_t)rec->size) < 0)
		return cpx_err_sys(err, errno, "size of memfd '%s'",
				   rec->name ? rec->name : "");
	return 0;
}

static int make_anon(struct cpx_rst_shm *s, struct cpx_err *err)
{
	uint64_t len = (s->rec->size + CPX_PAGE - 1) & ~(uint64_t)(CPX_PAGE - 1);
	int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
	char path[96];
	void *p;

	if (s->rec->flags & MFD_HUGETLB)
		flags |= MAP_HUGETLB | (int)(s->rec->flags & HUGE_BITS);
	p = mmap(NULL, len ? len : CPX_PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (p == MAP_FAILED)
		return cpx_err_sys(err, errno, "make %" PRIu64 " bytes of shared memory", len);
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p,
		 (unsigned long)p + (len ? len : CPX_PAGE));
	s->fd = open(path, O_RDWR | O_CLOEXEC);
	munmap(p, len ? len : CPX_PAGE);
	return s->fd < 0 ? cpx_err_sys(err, errno, "open shared anonymous memory") : 0;
}

/* A file on the same tmpfs, under its old name for a moment, or else under none. */
static int make_unlinked(struct cpx_rst *r, struct cpx_rst_shm *s, struct cpx_err *err)
{
	const struct cpx_rec_shm *rec = s->rec;
	const char *name = rec->name ? strrchr(rec->name, '/') : NULL;
	CPX_AUTO_FREE char *dir =
		name ? strndup(rec->name, (size_t)(name - rec->name) + 1) : NULL;
	struct statfs fs;
	int rc = dir ? cpx_rst_owner_enter(&r->mem->owner, err)
		     : cpx_err_set(err, CPX_E_FORMAT, "shared memory without a name");

	if (rc < 0)
		return rc;
	CPX_AUTO_FD at = r->opts->rehearse ? fcntl(r->opts->scratch_fd, F_DUPFD_CLOEXEC, 3)
					   : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at >= 0 && fstatfs(at, &fs) == 0 && fs.f_type == TMPFS_MAGIC) {
		s->fd = openat(at, name + 1, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			       0600);
		if (s->fd >= 0)
			unlinkat(at, name + 1, 0);
		else
			s->fd = openat(at, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	}
	cpx_rst_owner_leave(&r->mem->owner);
	if (s->fd < 0)
		s->fd = open("/dev/shm", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (s->fd < 0)
		return cpx_err_sys(err, errno, "make the deleted file '%s' again", rec->name);
	if (ftruncate(s->fd, (off_t)rec->size) < 0)
		return cpx_err_sys(err, errno, "size of '%s'", rec->name);
	return 0;
}

/* --- SysV --------------------------------------------------------------------------------- */

static int set_next_id(int32_t id, struct cpx_err *err)
{
	CPX_AUTO_FD fd = open("/proc/sys/kernel/shm_next_id", O_WRONLY | O_CLOEXEC);
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", id);

	if (fd < 0 || write(fd, text, (size_t)n) != n)
		return cpx_err_sys(err, errno, "choose the id of SysV shared memory");
	return 0;
}

static int taken_by_other(const struct cpx_rec_shm *rec, struct cpx_err *err)
{
	return cpx_err_set(
		err, CPX_E_EXIST,
		"SysV shared memory %d (key 0x%x) is in use by others; remove it with "
		"ipcrm or restore elsewhere",
		rec->sysv_id, (unsigned)rec->sysv_key);
}

static int find_or_make_sysv(struct cpx_rst *r, struct cpx_rst_shm *s, struct cpx_err *err)
{
	const struct cpx_rec_shm *rec = s->rec;
	key_t key = rec->mode & SHM_DEST ? IPC_PRIVATE : rec->sysv_key;
	struct shmid_ds ds;
	int rc;

	s->sysv_id = rec->sysv_id;
	if (shmctl(rec->sysv_id, IPC_STAT, &ds) == 0) {
		if (ds.shm_segsz != rec->size || ds.shm_nattch ||
		    ds.shm_perm.__key != rec->sysv_key ||
		    (!r->opts->trusted && ds.shm_perm.uid != r->opts->owner_uid))
			return taken_by_other(rec, err);
		return 0;
	}
	rc = set_next_id(rec->sysv_id, err);
	if (rc < 0)
		return rc;
	s->sysv_id = shmget(key, rec->size, IPC_CREAT | IPC_EXCL | 0600);
	if (s->sysv_id < 0 && errno == EEXIST)
		return taken_by_other(rec, err);
	if (s->sysv_id < 0)
		return cpx_err_sys(err, errno, "make SysV shared memory");
	if (s->sysv_id != rec->sysv_id) {
		shmctl(s->sysv_id, IPC_RMID, NULL);
		return taken_by_other(rec, err);
	}
	s->made = true;
	return 0;
}

static int make_sysv(struct cpx_rst *r, struct cpx_rst_shm *s, struct cpx_err *err)
{
	struct shmid_ds ds;
	int rc = find_or_make_sysv(r, s, err);

	if (rc < 0)
		return rc;
	if (shmctl(s->sysv_id, IPC_STAT, &ds) < 0)
		return cpx_err_sys(err, errno, "SysV shared memory %d", s->sysv_id);
	ds.shm_perm.uid = s->rec->uid;
	ds.shm_perm.gid = s->rec->gid;
	ds.shm_perm.mode = s->rec->mode & 0777;
	if (shmctl(s->sysv_id, IPC_SET, &ds) < 0)
		return cpx_err_sys(err, errno, "owner of SysV shared memory %d", s->sysv_id);
	s->map = shmat(s->sysv_id, NULL, 0);
	if (s->map == (void *)-1) {
		s->map = NULL;
		return cpx_err_sys(err, errno, "attach SysV shared memory %d", s->sysv_id);
	}
	return 0;
}

int cpx_rst_shm_attach(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_batch *b,
		       struct cpx_err *err)
{
	uint64_t base = 0, size = 0, at = 0;
	struct cpx_rst_shm *s = NULL;
	int rc = 0;

	/* one pass more than there are mappings, to end the last attachment */
	for (size_t i = 0; i <= mm->n && rc == 0; i++) {
		const struct cpx_rec_vma *v = i < mm->n ? mm->v[i] : NULL;
		struct cpx_rst_shm *of =
			v && v->kind == CPX_VMA_SHM ? cpx_rst_shm_find(r, v->file_id) : NULL;
		bool mine = of && of->rec->kind == CPX_SHM_SYSV && v->pgoff < v->start;
		bool same = mine && s == of && base == v->start - v->pgoff;

		/* what the job had unmapped in between, or behind */
		if (s && (same ? v->start : base + size) > at &&
		    (same || mine || !v || v->start >= base + size)) {
			uint64_t end = same ? v->start : base + size;

			rc = cpx_badd(b, err, "cut shared memory", at, 0, SYS_munmap, at,
				      end - at);
			at = end;
		}
		if (!mine || rc < 0)
			continue;
		if (!same) {
			s = of;
			base = at = v->start - v->pgoff;
			rc = cpx_rst_shm_make(r, s, err);
			size = (s->rec->size + CPX_PAGE - 1) & ~(uint64_t)(CPX_PAGE - 1);
			if (rc == 0)
				rc = cpx_badd(b, err, "attach shared memory", base, 0,
					      SYS_shmat, (uint64_t)s->sysv_id, base,
					      ((v->file_flags & O_ACCMODE) == O_RDWR
						       ? 0
						       : SHM_RDONLY) |
						      (v->prot & PROT_EXEC ? SHM_EXEC : 0));
			if (rc == 0 && v->start > at)
				rc = cpx_badd(b, err, "cut shared memory", at, 0, SYS_munmap,
					      at, v->start - at);
		}
		at = v->end;
		if (rc == 0)
			rc = cpx_badd(b, err, "protect shared memory", v->start, 0,
				      SYS_mprotect, v->start, v->end - v->start, v->prot);
	}
	return rc;
}

/* --- contents ----------------------------------------------------------------------------- */

static int write_fd(void *ctx, uint32_t space, uint64_t off, const void *data, size_t len,
		    struct cpx_err *err)
{
	const struct cpx_rst_shm *s = ctx;

	(void)space;
	/* the image's pages may go beyond an end that is not at a page */
	if (off >= s->rec->size)
		return 0;
	if (len > s->rec->size - off)
		len = s->rec->size - off;
	while (len) {
		ssize_t n = pwrite(s->fd, data, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return cpx_err_sys(err, n ? errno : ENOSPC, "write shared memory");
		data = (const char *)data + n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_map(void *ctx, uint32_t space, uint64_t off, const void *data, size_t len,
		     struct cpx_err *err)
{
	const struct cpx_rst_shm *s = ctx;
	uint64_t end = (s->rec->size + CPX_PAGE - 1) & ~(uint64_t)(CPX_PAGE - 1);

	(void)space;
	if (off >= end || len > end - off)
		return cpx_err_set(err, CPX_E_FORMAT, "content beyond shared memory");
	memcpy((char *)s->map + off, data, len);
	return 0;
}

static int fill(struct cpx_rst *r, struct cpx_rst_shm *s, struct cpx_err *err)
{
	uint64_t len = (s->rec->size + CPX_PAGE - 1) & ~(uint64_t)(CPX_PAGE - 1);
	struct cpx_extent x = { .space = s->rec->space, .len = len };
	bool huge = s->rec->flags & MFD_HUGETLB;
	int rc;

	if (!len)
		return 0;
	if (s->rec->kind == CPX_SHM_SYSV) /* it may be an old one: what was zero must be */
		memset(s->map, 0, len);
	if (huge && s->fd >= 0) {
		s->map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
		if (s->map == MAP_FAILED) {
			s->map = NULL;
			return cpx_err_sys(err, errno, "map shared huge pages");
		}
	}
	rc = cpx_rst_scan(r, &x, 1, s->map ? write_map : write_fd, s, err);
	if (huge && s->fd >= 0) {
		munmap(s->map, len);
		s->map = NULL;
	}
	return rc;
}

int cpx_rst_shm_make(struct cpx_rst *r, struct cpx_rst_shm *s, struct cpx_err *err)
{
	int rc = 0;

	if (s->fd >= 0 || s->map)
		return 0;
	switch (s->rec->kind) {
	case CPX_SHM_MEMFD:
		rc = make_memfd(s, err);
		break;
	case CPX_SHM_ANON:
		rc = make_anon(s, err);
		break;
	case CPX_SHM_SYSV:
		rc = make_sysv(r, s, err);
		break;
	default:
		rc = make_unlinked(r, s, err);
	}
	if (rc == 0 && s->fd >= 0 &&
	    (fchown(s->fd, s->rec->uid, s->rec->gid) < 0 ||
	     fchmod(s->fd, s->rec->mode & 0777) < 0))
		rc = cpx_err_sys(err, errno, "owner of shared memory '%s'",
				 s->rec->name ? s->rec->name : "");
	if (rc == 0 && s->fd >= 0 &&
	    cpx_xattrs_set(s->fd, s->rec->xattrs.p, s->rec->xattrs.n, r->opts->trusted))
		cpx_log_note("shared memory '%s': not all of its extended attributes can be "
			     "set again",
			     s->rec->name ? s->rec->name : "");
	return rc == 0 ? fill(r, s, err) : rc;
}

int cpx_rst_shm_fd(struct cpx_rst *r, uint32_t shm_id, struct cpx_err *err)
{
	struct cpx_rst_shm *s = cpx_rst_shm_find(r, shm_id);
	int rc;

	if (!s || s->rec->kind == CPX_SHM_SYSV)
		return cpx_err_set(err, CPX_E_FORMAT, "no shared memory object %u", shm_id);
	rc = cpx_rst_shm_make(r, s, err);
	return rc < 0 ? rc : s->fd;
}

int cpx_rst_shm_late(struct cpx_rst *r, struct cpx_err *err)
{
	for (size_t i = 0; i < r->mem->nshms; i++) {
		struct cpx_rst_shm *s = &r->mem->shms[i];

		if (s->fd >= 0 && s->rec->kind == CPX_SHM_MEMFD && s->rec->seals &&
		    fcntl(s->fd, F_ADD_SEALS, (int)s->rec->seals) < 0)
			return cpx_err_sys(err, errno, "seal memfd '%s'",
					   s->rec->name ? s->rec->name : "");
		if (!s->map)
			continue;
		shmdt(s->map);
		s->map = NULL;
		if (s->rec->mode & SHM_DEST)
			shmctl(s->sysv_id, IPC_RMID, NULL);
	}
	return 0;
}

void cpx_rst_shm_end(struct cpx_rst *r)
{
	for (size_t i = 0; i < r->mem->nshms; i++) {
		struct cpx_rst_shm *s = &r->mem->shms[i];

		cpx_close(&s->fd);
		if (!s->map)
			continue;
		/* nobody got that far: leave nothing behind */
		shmdt(s->map);
		if (s->made)
			shmctl(s->sysv_id, IPC_RMID, NULL);
	}
	free(r->mem->shms);
}
