/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_file.c - descriptor tables and the open file descriptions behind them.
 *
 * Happy path: each distinct table is walked once. A slot's link, inode and fdinfo say what it
 * is; the kernel's kcmp() says whether the description was seen before, in this table or
 * another one (dup, fork, SCM_RIGHTS). A new description of a file goes to cap_file_rec.c,
 * of anything else to cap_ipc.c.
 *
 * Nothing of the job's own is kept past the pause: a descriptor taken from it would hold its
 * flocks and leases after it has closed them. What is read later is read through O_PATH
 * descriptors, which nobody notices.
 */
#include "cap_file.h"

#include "../store/state.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "cap_ipc.h"
#include "capture.h"
#include "proc_fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/magic.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202
#endif
#ifndef F_GETOWNER_UIDS
#define F_GETOWNER_UIDS 17
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/* One open file description; the first slot it was seen in stands for it. */
struct ofd_node {
	uint64_t dev, ino, pos;
	pid_t pid;
	int fd;
	struct cpx_rec_ofd *rec;
	struct cpx_cap_file *file; /* NULL: not a file by path */
};

/* A slot of a descriptor table, as it is being looked at. */
struct slot {
	struct cpx_cap_task *t;
	int fd;
	char link[4200];
	int info_fd; /* the task's fdinfo directory */
	struct stat st;
	struct cpx_proc_fd info;
};

static int cmp_u64(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

/* Inode and position first: kcmp() is asked only where they are equal. */
static int cmp_ofd(const void *pa, const void *pb)
{
	const struct ofd_node *a = pa, *b = pb;
	int r = cmp_u64(a->dev, b->dev);

	r = r ? r : cmp_u64(a->ino, b->ino);
	r = r ? r : cmp_u64(a->pos, b->pos);
	if (r)
		return r;
	switch (syscall(SYS_kcmp, a->pid, b->pid, KCMP_FILE, a->fd, b->fd)) {
	case 0:
		return 0;
	case 1:
		return -1;
	case 2:
		return 1;
	default: /* one is gone (dry run) */
		r = cmp_u64((uint64_t)a->pid, (uint64_t)b->pid);
		return r ? r : cmp_u64((uint64_t)a->fd, (uint64_t)b->fd);
	}
}

static bool gone(const struct cpx_cap *c, int sys)
{
	return c->dry_run && (sys == ENOENT || sys == ESRCH || sys == EBADF);
}

static int ns_tid_of(const struct cpx_cap *c, pid_t tid)
{
	for (size_t i = 0; i < c->ntasks; i++)
		for (size_t k = 0; k < c->tasks[i]->nthreads; k++)
			if (c->tasks[i]->threads[k].t.tid == tid)
				return c->tasks[i]->threads[k].ns_tid;
	return 0;
}

/* The owner's number as the job sees it; 0 where it is outside the job. */
static int ns_owner(const struct cpx_cap *c, const struct f_owner_ex *own)
{
	if (own->type == F_OWNER_TID)
		return ns_tid_of(c, own->pid);
	for (size_t i = 0; i < c->ntasks; i++)
		if (c->tasks[i]->pid == own->pid)
			return c->tasks[i]->ns_pid;
	for (size_t i = 0; own->type == F_OWNER_PGRP && i < c->ntasks; i++)
		if (getpgid(c->tasks[i]->pid) == own->pid && c->tasks[i]->rec)
			return (int)c->tasks[i]->rec->pgid;
	return 0;
}

static void take_owner(const struct cpx_cap *c, int fd, struct cpx_rec_ofd *ofd)
{
	struct f_owner_ex own = { 0 };
	uid_t uids[2];
	int sig;

	if (fcntl(fd, F_GETOWN_EX, &own) < 0)
		return;
	sig = fcntl(fd, F_GETSIG);
	ofd->own_sig = sig > 0 ? (uint32_t)sig : 0;
	if (own.pid == 0)
		return;
	ofd->own_type = (uint32_t)own.type;
	ofd->own_pid = ns_owner(c, &own);
	if (fcntl(fd, F_GETOWNER_UIDS, uids) == 0) {
		ofd->own_uid = uids[0];
		ofd->own_euid = uids[1];
	}
}

/*
 * Closing a descriptor that was fetched from the job flushes it, which on a network file system
 * means writing to the server within the pause. There, only an owner worth the price is asked
 * for.
 */
static bool owner_is_cheap(const struct slot *s)
{
	char path[64];
	struct statfs fs;

	if (s->info.flags & (O_ASYNC | O_PATH))
		return !(s->info.flags & O_PATH);
	if (S_ISDIR(s->st.st_mode) || S_ISCHR(s->st.st_mode))
		return false;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", s->t->live, s->fd);
	if (statfs(path, &fs) < 0)
		return false;
	return fs.f_type != NFS_SUPER_MAGIC && fs.f_type != FUSE_SUPER_MAGIC;
}

static int fetch(const struct slot *s)
{
	return (int)syscall(SYS_pidfd_getfd, s->t->pidfd, s->fd, 0);
}

enum what { WHAT_FILE, WHAT_SHM, WHAT_OTHER, WHAT_BLOCK };

static bool known_device(dev_t dev)
{
	/* null, zero, full, random, urandom, kmsg */
	static const unsigned mem[] = { 3, 5, 7, 8, 9, 11 };

	for (size_t i = 0; i < sizeof(mem) / sizeof(mem[0]); i++)
		if (major(dev) == 1 && minor(dev) == mem[i])
			return true;
	return false;
}

static enum what what_is(const struct slot *s)
{
	char path[64];
	struct statfs fs;
	bool named = s->link[0] == '/';

	if (s->info.flags & O_PATH)
		return named ? WHAT_FILE : WHAT_OTHER;
	if (S_ISDIR(s->st.st_mode) || S_ISFIFO(s->st.st_mode))
		return named ? WHAT_FILE : WHAT_OTHER;
	if (S_ISCHR(s->st.st_mode))
		return named && known_device(s->st.st_rdev) ? WHAT_FILE : WHAT_OTHER;
	if (S_ISBLK(s->st.st_mode))
		return WHAT_BLOCK;
	if (!S_ISREG(s->st.st_mode) || !named)
		return WHAT_OTHER;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", s->t->live, s->fd);
	if (statfs(path, &fs) < 0)
		return WHAT_FILE;
	if (fs.f_type == MQUEUE_MAGIC)
		return WHAT_OTHER;
	if (s->st.st_nlink == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC))
		return WHAT_SHM;
	return WHAT_FILE;
}

static int take_file(struct cpx_cap *c, struct slot *s, struct ofd_node *n, struct cpx_err *err)
{
	CPX_AUTO_FD fd = -1;
	char path[32];
	int rc;

	snprintf(path, sizeof(path), "fd/%d", s->fd);
	if (s->info.flags & O_PATH)
		fd = fetch(s); /* the link of an O_PATH symbolic link would be followed */
	else
		fd = openat(s->t->proc_fd, path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return gone(c, errno)
			       ? 0
			       : cpx_err_sys(err, errno, "pid %d: fd %d", s->t->pid, s->fd);
	rc = cpx_cap_file_get(c, s->t, fd, s->link, &n->file, err);
	if (rc < 0 || !n->file)
		return rc;
	n->rec->kind = CPX_OFD_FILE;
	n->rec->object = n->file->rec->id;
	if (!(s->info.flags & O_PATH) && S_ISREG(s->st.st_mode))
		cpx_cap_file_opened(n->file, s->info.flags, s->info.pos);
	if (!(s->info.flags & O_PATH) && S_ISFIFO(s->st.st_mode)) {
		CPX_AUTO_FD fifo = fetch(s);

		return fifo < 0 ? 0 : cpx_cap_fifo(c, n->file, fifo, err);
	}
	return 0;
}

static int take_other(struct cpx_cap *c, struct slot *s, struct ofd_node *n, enum what what,
		      struct cpx_err *err)
{
	CPX_AUTO_FD fd = fetch(s);
	int rc;

	if (fd < 0)
		return gone(c, errno) ? 0
				      : cpx_err_sys(err, errno, "pid %d: fetch fd %d (%s)",
						    s->t->pid, s->fd, s->link);
	take_owner(c, fd, n->rec);
	if (what == WHAT_SHM) {
		n->rec->kind = CPX_OFD_SHM;
		return cpx_cap_shm_of_fd(c, s->t, fd, s->link, &n->rec->object, err);
	}
	rc = cpx_cap_ipc_fd(c, s->t, s->fd, fd, s->link, &s->st, n->rec, err);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (S_ISCHR(s->st.st_mode))
		return cpx_cap_refuse(c, s->t, err,
				      "fd %d is the device %s (%u:%u), which cannot be saved; "
				      "close it before the checkpoint",
				      s->fd, s->link, major(s->st.st_rdev),
				      minor(s->st.st_rdev));
	return cpx_cap_refuse(
		c, s->t, err,
		"fd %d is '%s', a kind of descriptor that cannot be saved; close it "
		"before the checkpoint",
		s->fd, s->link);
}

/* A description not seen before. */
static int take_ofd(struct cpx_cap *c, struct slot *s, struct ofd_node *n, struct cpx_err *err)
{
	enum what what = what_is(s);

	n->rec = cpx_state_new_rec(c->st, ofd);
	if (!n->rec)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for descriptors");
	n->rec->id = cpx_cap_id(c);
	n->rec->flags = s->info.flags;
	n->rec->pos = s->info.pos;
	if (what == WHAT_BLOCK)
		return cpx_cap_refuse(c, s->t, err, "fd %d is the block device %s; close it",
				      s->fd, s->link);
	if (what != WHAT_FILE)
		return take_other(c, s, n, what, err);
	if (owner_is_cheap(s)) {
		CPX_AUTO_FD fd = fetch(s);

		if (fd >= 0)
			take_owner(c, fd, n->rec);
	}
	return take_file(c, s, n, err);
}

static int find_ofd(struct cpx_cap *c, struct slot *s, struct ofd_node **out, bool *first,
		    struct cpx_err *err)
{
	struct cpx_cap_files *p = c->files_priv;
	CPX_AUTO_FREE struct ofd_node *n = calloc(1, sizeof(*n));
	struct ofd_node **found;

	if (!n)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for descriptors");
	n->dev = s->st.st_dev;
	n->ino = s->st.st_ino;
	n->pos = s->info.pos;
	n->pid = s->t->pid;
	n->fd = s->fd;
	found = tsearch(n, &p->ofds, cmp_ofd);
	if (!found)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for descriptors");
	*first = *found == n;
	*out = *found;
	if (!*first)
		return 0;
	cpx_steal_ptr(&n);
	return take_ofd(c, s, *out, err);
}

/* One read is enough, but for a descriptor with very many locks. */
static int read_info(struct slot *s, const char *name, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	char most[4096];
	int fd = openat(s->info_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return cpx_err_sys(err, errno, "pid %d: fdinfo/%s", s->t->pid, name);
	n = read(fd, most, sizeof(most));
	close(fd);
	if (n > 0 && (size_t)n < sizeof(most) - 256)
		return cpx_proc_fd_parse(most, (size_t)n, &s->info, err);
	n = cpx_read_file(s->info_fd, name, CPX_FDINFO_MAX, &text, err);
	if (n < 0)
		return (int)n;
	return cpx_proc_fd_parse(text, (size_t)n, &s->info, err);
}

/* Return: 1 if there is something, 0 if it is gone (dry run), or an error. */
static int look(struct cpx_cap *c, struct slot *s, int dir, const char *name,
		struct cpx_err *err)
{
	ssize_t n = readlinkat(dir, name, s->link, sizeof(s->link) - 1);
	int rc;

	if (n < 0 && errno == ENAMETOOLONG)
		return cpx_cap_refuse(c, s->t, err, "the path of fd %d is too long", s->fd);
	if (n < 0 || fstatat(dir, name, &s->st, 0) < 0)
		return gone(c, errno)
			       ? 0
			       : cpx_err_sys(err, errno, "pid %d: fd %d", s->t->pid, s->fd);
	s->link[n] = 0;
	rc = read_info(s, name, err);
	if (rc < 0)
		return c->dry_run && rc == CPX_E_NOENT ? 0 : rc;
	return 1;
}

static int take_slot(struct cpx_cap *c, struct slot *s, struct cpx_err *err)
{
	struct ofd_node *n = NULL;
	struct cpx_rec_fd *fd;
	bool first = false;
	int rc = find_ofd(c, s, &n, &first, err);

	if (rc < 0)
		return rc;
	if (!n->rec)
		return 0; /* refused before, in a dry run */
	if (s->t->files_of->rec) {
		fd = cpx_state_new_rec(c->st, fd);
		if (!fd)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for descriptors");
		fd->files_id = s->t->files_of->rec->files_id;
		fd->fd = (uint32_t)s->fd;
		fd->cloexec = s->info.cloexec;
		fd->ofd = n->rec->id;
	}
	if (s->info.nlocks == 0)
		return 0;
	return cpx_cap_file_locks(c, s->t, s->fd, &s->info, n->rec, first, n->file, err);
}

static int walk_table(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	int fd = openat(t->proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	CPX_AUTO_FREE struct slot *s = calloc(1, sizeof(*s));
	CPX_AUTO_FD infos = openat(t->proc_fd, "fdinfo", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct dirent *e;

	if (!d || !s || infos < 0) {
		int sys = errno;

		if (d)
			closedir(d);
		else
			cpx_close(&fd);
		return gone(c, sys) ? 0 : cpx_err_sys(err, sys, "pid %d: /proc/PID/fd", t->pid);
	}
	while (rc == 0 && (errno = 0, e = readdir(d))) {
		if (e->d_name[0] < '0' || e->d_name[0] > '9')
			continue;
		s->t = t;
		s->fd = atoi(e->d_name);
		s->info_fd = infos;
		rc = look(c, s, fd, e->d_name, err);
		if (rc > 0)
			rc = take_slot(c, s, err);
		cpx_proc_fd_free(&s->info);
	}
	if (rc == 0 && errno && !gone(c, errno))
		rc = cpx_err_sys(err, errno, "pid %d: list descriptors", t->pid);
	closedir(d);
	return rc;
}

/* The record of the directory that @name (cwd, root, also task/TID/cwd) of the task is. */
static int dir_of(struct cpx_cap *c, struct cpx_cap_task *t, const char *name, uint32_t *id,
		  struct cpx_err *err)
{
	CPX_AUTO_FD fd = openat(t->proc_fd, name, O_PATH | O_CLOEXEC);
	char link[4200];
	ssize_t n = readlinkat(t->proc_fd, name, link, sizeof(link) - 1);
	int rc;

	if (fd < 0 || n < 0)
		return gone(c, errno) ? 0
				      : cpx_err_sys(err, errno, "pid %d: its %s", t->pid, name);
	link[n] = 0;
	if (strcmp(link, "/") == 0 && strcmp(name + strlen(name) - 4, "root") == 0)
		return 0;
	rc = cpx_cap_file_of_fd(c, t, fd, link, id, err);
	return rc < 0 ? cpx_err_wrap(err, "%s of pid %d", name, t->pid) : 0;
}

static int take_dirs(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	uint32_t cwd = 0, root = 0;
	int rc;

	if (t->fs_of != t) {
		if (t->rec && t->fs_of->rec) {
			t->rec->cwd_file = t->fs_of->rec->cwd_file;
			t->rec->root_file = t->fs_of->rec->root_file;
		}
		return 0;
	}
	rc = dir_of(c, t, "cwd", &cwd, err);
	if (rc == 0)
		rc = dir_of(c, t, "root", &root, err);
	if (rc == 0 && t->rec) {
		t->rec->cwd_file = cwd;
		t->rec->root_file = root;
	}
	return rc;
}

static int same_object(pid_t a, pid_t b, int type)
{
	return syscall(SYS_kcmp, a, b, type, 0, 0) == 0;
}

/* Threads that have taken leave of their process: unshare(CLONE_FS or CLONE_FILES). */
static int take_thread(struct cpx_cap *c, struct cpx_cap_task *t, size_t k, struct cpx_err *err)
{
	struct cpx_rec_thread *rec = t->threads[k].rec;
	pid_t tid = t->threads[k].t.tid;
	char path[32];
	int rc;

	if (!same_object(t->live, tid, KCMP_FILES))
		return cpx_cap_refuse(c, t, err,
				      "its thread %d has a descriptor table of its own, which "
				      "cannot be saved",
				      tid);
	if (same_object(t->live, tid, KCMP_FS))
		return 0;
	for (size_t i = 0; i < k; i++)
		if (t->threads[i].rec->own_fs && same_object(t->threads[i].t.tid, tid, KCMP_FS))
			return cpx_cap_refuse(
				c, t, err,
				"its threads %d and %d share a working directory that is not "
				"the process's, which cannot be saved",
				t->threads[i].t.tid, tid);
	rec->own_fs = 1;
	snprintf(path, sizeof(path), "task/%d/cwd", tid);
	rc = dir_of(c, t, path, &rec->cwd_file, err);
	snprintf(path, sizeof(path), "task/%d/root", tid);
	return rc < 0 ? rc : dir_of(c, t, path, &rec->root_file, err);
}

static int files_begin(struct cpx_cap *c, void **priv, struct cpx_err *err)
{
	struct cpx_cap_files *p = calloc(1, sizeof(*p));
	struct rlimit lim;

	if (!p)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for descriptors");
	p->root_fd = -1;
	p->tail = &p->list;
	*priv = c->files_priv = p;
	if (syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, 0, 0) < 0 && errno == ENOSYS)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "this kernel has no kcmp(), so shared descriptors cannot be "
				   "told apart (CONFIG_KCMP)");
	/* one O_PATH descriptor a file is kept until the end */
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	return 0;
}

static int files_task(struct cpx_cap *c, void *priv, struct cpx_cap_task *t,
		      struct cpx_err *err)
{
	int rc;

	(void)priv;
	if (t->zombie)
		return 0;
	rc = take_dirs(c, t, err);
	if (rc == 0 && t->files_of == t)
		rc = walk_table(c, t, err);
	for (size_t k = 1; k < t->nthreads && rc == 0; k++)
		rc = take_thread(c, t, k, err);
	return rc;
}

static int files_finish(struct cpx_cap *c, void *priv, struct cpx_err *err)
{
	return cpx_cap_file_pause(c, priv, err);
}

static int files_late(struct cpx_cap *c, void *priv, struct cpx_err *err)
{
	return cpx_cap_file_late(c, priv, err);
}

static void files_end(struct cpx_cap *c, void *priv)
{
	struct cpx_cap_files *p = priv;

	c->files_priv = NULL;
	if (!p)
		return;
	tdestroy(p->ofds, free);
	cpx_cap_file_free_all(p);
	cpx_close(&p->root_fd);
	free(p);
}

const struct cpx_cap_family cpx_cap_files = {
	.name = "files",
	.begin = files_begin,
	.task = files_task,
	.finish = files_finish,
	.late = files_late,
	.end = files_end,
};
