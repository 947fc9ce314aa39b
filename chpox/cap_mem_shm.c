/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_mem_shm.c - shared memory objects: shared anonymous memory, memfds, SysV segments and
 * deleted files on tmpfs. One record and one space per object, whoever maps it or has it open.
 *
 * Content is read through a descriptor of the object, never through a mapping: pages that
 * nobody maps count, and holes are not filled by looking at them. A clone is no
 * snapshot of shared memory, so content is copied while the tree is parked.
 */
#include "cap_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/xattr.h"
#include "track.h"

#ifndef HUGETLBFS_MAGIC
#define HUGETLBFS_MAGIC 0x958458f6
#endif
#define DELETED " (deleted)"
#define HUGE_SHIFT 26 /* of the size in mmap and memfd_create flags */

static uint64_t kernel_shm_dev(void)
{
	CPX_AUTO_FD fd = memfd_create("probe", MFD_CLOEXEC);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_dev : 0;
}

static uint64_t shm_dev(const struct cpx_mem *m)
{
	struct cpx_mem *w = (struct cpx_mem *)m;

	if (!w->shm_dev)
		w->shm_dev = kernel_shm_dev();
	return w->shm_dev;
}

bool cpx_mem_is_shm(const struct cpx_mem *m, int fd, const struct stat *st)
{
	struct statfs fs;

	if (!S_ISREG(st->st_mode) || st->st_nlink)
		return S_ISREG(st->st_mode) && (uint64_t)st->st_dev == shm_dev(m);
	if ((uint64_t)st->st_dev == shm_dev(m))
		return true;
	return fstatfs(fd, &fs) == 0 &&
	       (fs.f_type == TMPFS_MAGIC || (unsigned long)fs.f_type == HUGETLBFS_MAGIC);
}

/* "/memfd:NAME (deleted)" -> "NAME" in the state's memory. */
static const char *plain_name(struct cpx_state *st, const char *name, size_t skip)
{
	size_t len = strlen(name), tail = sizeof(DELETED) - 1;
	const char *s = cpx_state_str(st, name);

	if (!s)
		return NULL;
	if (len > tail && !strcmp(name + len - tail, DELETED))
		((char *)s)[len - tail] = 0;
	return s + (skip < strlen(s) ? skip : strlen(s));
}

static int same_ipc(const struct cpx_cap_task *t)
{
	struct stat a, b;

	return stat("/proc/self/ns/ipc", &a) == 0 &&
	       fstatat(t->proc_fd, "ns/ipc", &b, 0) == 0 && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

static int fill_sysv(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_mem_shm *s,
		     struct cpx_err *err)
{
	struct shmid_ds ds;

	if (!same_ipc(t))
		return cpx_cap_refuse(c, t, err,
				      "it uses SysV shared memory of another IPC namespace");
	if (shmctl((int)s->ino, IPC_STAT, &ds) < 0)
		return cpx_err_sys(err, errno, "SysV shared memory %d", (int)s->ino);
	s->rec->kind = CPX_SHM_SYSV;
	s->rec->sysv_id = (int32_t)s->ino;
	s->rec->sysv_key = ds.shm_perm.__key;
	s->rec->mode = ds.shm_perm.mode;
	s->rec->uid = ds.shm_perm.uid;
	s->rec->gid = ds.shm_perm.gid;
	s->rec->size = ds.shm_segsz;
	return 0;
}

static int log2_of(uint64_t v)
{
	int n = 0;

	while (v > 1) {
		v >>= 1;
		n++;
	}
	return n;
}

/* The same number in each generation, where it is tracked. */
static uint32_t space_of(struct cpx_cap *c, struct cpx_mem_shm *s)
{
	/* numbers of SysV segments are their own */
	uint64_t ino = s->ino | (s->sysv ? 1ull << 63 : 0);
	struct cpx_track_mm *t = NULL;

	if (c->opts->track && !c->dry_run)
		t = cpx_track_object(c->opts->track, s->dev, ino);
	if (!t)
		return cpx_cap_id(c);
	s->known = cpx_track_known(t);
	return cpx_track_space(t);
}

static int take_xattrs(struct cpx_cap *c, struct cpx_mem_shm *s, struct cpx_err *err)
{
	CPX_AUTO_FREE uint8_t *attrs = NULL;
	size_t n = 0;

	if (cpx_xattrs_get(s->fd, &attrs, &n) < 0)
		return cpx_err_sys(err, errno, "extended attributes of '%s'", s->rec->name);
	s->rec->xattrs = cpx_state_blob(c->st, attrs, n);
	return n && !s->rec->xattrs.p
		       ? cpx_err_set(err, CPX_E_NOMEM, "no memory for extended attributes")
		       : 0;
}

static int fill(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_mem_shm *s,
		const struct stat *st, const char *name, struct cpx_err *err)
{
	struct cpx_rec_shm *rec = s->rec;
	struct statfs fs;
	int seals;

	rec->id = cpx_cap_id(c);
	rec->space = space_of(c, s);
	rec->size = (uint64_t)st->st_size;
	rec->mode = st->st_mode & 07777;
	rec->uid = st->st_uid;
	rec->gid = st->st_gid;
	if (fstatfs(s->fd, &fs) == 0 && (unsigned long)fs.f_type == HUGETLBFS_MAGIC)
		rec->flags |= MFD_HUGETLB | (uint32_t)log2_of((uint64_t)fs.f_bsize)
						    << HUGE_SHIFT;
	if (s->sysv) {
		rec->name = plain_name(c->st, name, 1);
		return fill_sysv(c, t, s, err);
	}
	if (!strncmp(name, "/memfd:", 7)) {
		rec->kind = CPX_SHM_MEMFD;
		rec->name = plain_name(c->st, name, 7);
	} else if ((uint64_t)st->st_dev == shm_dev(c->mem) ||
		   !strncmp(name, "/anon_huge", 10)) {
		rec->kind = CPX_SHM_ANON;
		rec->name = plain_name(c->st, name, 0);
		if (strncmp(name, "/dev/zero", 9) && strncmp(name, "/anon_huge", 10))
			return cpx_cap_refuse(c, t, err, "it maps '%s', memory of a driver",
					      name);
	} else {
		rec->kind = CPX_SHM_UNLINKED;
		rec->name = plain_name(c->st, name, 0);
	}
	seals = fcntl(s->fd, F_GET_SEALS);
	rec->seals = seals > 0 ? (uint32_t)seals : 0;
	if (!rec->name)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for records");
	return take_xattrs(c, s, err);
}

int cpx_mem_shm_get(struct cpx_cap *c, struct cpx_cap_task *t, int fd, const struct stat *st,
		    const char *name, struct cpx_mem_shm **out, struct cpx_err *err)
{
	bool sysv = (uint64_t)st->st_dev == shm_dev(c->mem) && !strncmp(name, "/SYSV", 5);
	struct cpx_mem_shm *s;
	char path[64];
	int obstacles = c->obstacles, rc;

	*out = NULL;
	for (s = c->mem->shms; s; s = s->next)
		if (s->dev == (uint64_t)st->st_dev && s->ino == st->st_ino && s->sysv == sysv) {
			*out = s;
			return 0;
		}
	s = calloc(1, sizeof(*s));
	if (!s)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for shared memory objects");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*s = (struct cpx_mem_shm){ .dev = st->st_dev, .ino = st->st_ino, .sysv = sysv };
	s->fd = open(path, O_RDONLY | O_CLOEXEC);
	s->next = c->mem->shms;
	c->mem->shms = s;
	if (s->fd < 0)
		return cpx_err_sys(err, errno, "open shared memory '%s'", name);
	s->rec = cpx_state_new_rec(c->st, shm);
	if (!s->rec)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for records");
	rc = fill(c, t, s, st, name, err);
	if (rc < 0)
		return rc;
	if (c->obstacles == obstacles)
		*out = s;
	return 0;
}

int cpx_cap_shm_of_fd(struct cpx_cap *c, struct cpx_cap_task *t, int fd, const char *link_text,
		      uint32_t *id, struct cpx_err *err)
{
	struct cpx_mem_shm *s;
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0)
		return cpx_err_sys(err, errno, "%s", link_text);
	rc = cpx_mem_shm_get(c, t, fd, &st, link_text, &s, err);
	if (rc == 0)
		*id = s ? s->rec->id : 0;
	return rc;
}

/* --- content ------------------------------------------------------------------------------ */

static int read_shm(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	const struct cpx_mem_shm *s = ctx;
	ssize_t n = cpx_pread_full(s->fd, buf, len, off);

	if (n < 0)
		return cpx_err_sys(err, errno, "read shared memory '%s'", s->rec->name);
	/* the end of an object that is no whole number of pages long */
	memset((char *)buf + n, 0, len - (size_t)n);
	return 0;
}

static int put_one(struct cpx_cap *c, struct cpx_mem_shm *s, bool stash, struct cpx_err *err)
{
	uint64_t size = s->rec->size;

	for (uint64_t at = 0; at < size;) {
		off_t data = lseek(s->fd, (off_t)at, SEEK_DATA), hole;
		uint64_t end;
		int rc;

		if (data < 0 && errno == ENXIO)
			break;
		hole = data < 0 ? -1 : lseek(s->fd, data, SEEK_HOLE);
		if (data < 0 || hole < 0) { /* hugetlb does not tell */
			data = (off_t)at;
			hole = (off_t)size;
		}
		at = (uint64_t)data & ~(uint64_t)(CPX_PAGE - 1);
		end = ((uint64_t)hole + CPX_PAGE - 1) & ~(uint64_t)(CPX_PAGE - 1);
		if (end <= at)
			break;
		rc = s->known ? cpx_mem_put_changed(c, s->known, s->rec->space, at, end - at,
						    read_shm, s, stash, err)
			      : cpx_mem_put(c, s->rec->space, at, end - at, read_shm, s, stash,
					    err);
		if (rc < 0)
			return rc;
		at = end;
	}
	return 0;
}

int cpx_mem_shm_put(struct cpx_cap *c, bool stash, struct cpx_err *err)
{
	for (struct cpx_mem_shm *s = c->mem->shms; s; s = s->next) {
		int rc = put_one(c, s, stash, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

void cpx_mem_shm_free(struct cpx_mem *m)
{
	while (m->shms) {
		struct cpx_mem_shm *s = m->shms;

		m->shms = s->next;
		cpx_close(&s->fd);
		free(s);
	}
}
