/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_file_lock.c - locks, leases, and who gets the signals of a descriptor.
 *
 * Locks of an open file description are taken by the conductor, on its own descriptor of the
 * same description. POSIX locks belong to a table, and owners are named by the job's own
 * numbers: both are done in the task.
 */
#include "rst_file.h"

#include "../chpox/base/err.h"
#include "restore.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int taken(struct cpx_rst *r, const struct cpx_rst_ofd *o, const char *what, int sys,
		 struct cpx_err *err)
{
	const struct cpx_rst_file *f = cpx_rst_file_by_id(r, o->rec->object);
	const char *path = f && f->rec->path ? f->rec->path : "a file";

	if (sys == EAGAIN || sys == EWOULDBLOCK || sys == EACCES)
		return cpx_err_set(err, CPX_E_BUSY,
				   "the job had a %s on %s, and another process has it now",
				   what, path);
	return cpx_err_sys(err, sys, "%s on %s", what, path);
}

static struct flock flock_of(const struct cpx_rec_lock *k)
{
	struct flock l;

	memset(&l, 0, sizeof(l));
	l.l_type = (short)k->type;
	l.l_whence = SEEK_SET;
	l.l_start = (off_t)k->start;
	l.l_len = (off_t)k->len;
	return l;
}

/* fcntl() or flock() on the description: in a task that has it, else (in flight) here. */
static int call(struct cpx_rst_ofd *o, long nr, int cmd, const struct flock *l, int64_t *ret,
		struct cpx_err *err)
{
	struct cpx_tracee *tr = o->task ? &o->task->threads[0].t : NULL;
	uint64_t at = 0;
	int rc;

	if (!tr) {
		*ret = nr == SYS_flock ? flock(o->fd, cmd) : fcntl(o->fd, cmd, l);
		if (*ret < 0)
			*ret = -errno;
		return 0;
	}
	cpx_tracee_reset(tr);
	if (l)
		at = cpx_tracee_push(tr, l, sizeof(*l));
	rc = cpx_tcall(tr, ret, err, nr, o->task_fd, (uint64_t)cmd, at);
	cpx_tracee_reset(tr);
	return rc;
}

static int lock_ofd(struct cpx_rst *r, struct cpx_rst_ofd *o, const struct cpx_rec_lock *k,
		    struct cpx_err *err)
{
	int how = k->type == F_WRLCK ? LOCK_EX : LOCK_SH, rc = 0;
	struct flock l = flock_of(k);
	const char *what = NULL;
	int64_t ret = 0;

	if (k->kind == CPX_LOCK_FLOCK) {
		what = "lock (flock)";
		rc = call(o, SYS_flock, how | LOCK_NB, NULL, &ret, err);
	} else if (k->kind == CPX_LOCK_OFD) {
		what = "lock (OFD)";
		rc = call(o, SYS_fcntl, F_OFD_SETLK, &l, &ret, err);
	}
	if (rc < 0 || ret == 0)
		return rc;
	return taken(r, o, what, (int)-ret, err);
}

/* The type of a lease is an argument by value, which makes it a case of its own. */
static int lease(struct cpx_rst *r, struct cpx_rst_ofd *o, const struct cpx_rec_lock *k,
		 struct cpx_err *err)
{
	int64_t ret = 0;
	struct stat st;
	int rc = 0;

	/* taken with our rights, so what the kernel would check is checked here */
	if (!r->opts->trusted && (fstat(o->fd, &st) < 0 || st.st_uid != r->opts->owner_uid))
		return taken(r, o, "lease", EPERM, err);
	if (!o->task)
		ret = fcntl(o->fd, F_SETLEASE, (int)k->type) < 0 ? -errno : 0;
	else
		rc = cpx_tcall(&o->task->threads[0].t, &ret, err, SYS_fcntl, o->task_fd,
			       F_SETLEASE, k->type);
	if (rc < 0)
		return rc;
	return ret < 0 ? taken(r, o, "lease", (int)-ret, err) : 0;
}

static int check_lock(const struct cpx_rec_lock *k, struct cpx_err *err)
{
	if ((k->type != F_RDLCK && k->type != F_WRLCK) || k->start > INT64_MAX ||
	    k->len > INT64_MAX)
		return cpx_err_set(err, CPX_E_FORMAT, "a lock record is damaged");
	return 0;
}

int cpx_rst_file_ofd_locks(struct cpx_rst *r, struct cpx_err *err)
{
	cpx_state_each(r->st, lock, k) {
		struct cpx_rst_ofd *o = cpx_rst_ofd_by_id(r, k->ofd);
		int rc = check_lock(k, err);

		/* the job itself may run and hold it */
		if (rc == 0 && !r->opts->rehearse && o && o->fd >= 0)
			rc = k->kind == CPX_LOCK_LEASE ? lease(r, o, k, err)
						       : lock_ofd(r, o, k, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The number under which table @files_id holds the description; -1: it does not. */
static int64_t number_of(struct cpx_rst *r, uint32_t files_id, uint32_t ofd)
{
	cpx_state_each(r->st, fd, rec)
		if (rec->files_id == files_id && rec->ofd == ofd)
			return rec->fd;
	return -1;
}

int cpx_rst_file_locks(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_tracee *tr = &t->threads[0].t;

	cpx_state_each(r->st, lock, k) {
		struct cpx_rst_ofd *o = cpx_rst_ofd_by_id(r, k->ofd);
		struct flock l = flock_of(k);
		int64_t fd, ret;
		uint64_t at;
		int rc;

		if (r->opts->rehearse || k->kind != CPX_LOCK_POSIX ||
		    k->files_id != t->rec->files_id || !o)
			continue;
		fd = number_of(r, k->files_id, k->ofd);
		if (fd < 0)
			continue;
		cpx_tracee_reset(tr);
		at = cpx_tracee_push(tr, &l, sizeof(l));
		rc = cpx_tcall(tr, &ret, err, SYS_fcntl, (uint64_t)fd, F_SETLK, at);
		cpx_tracee_reset(tr);
		if (rc < 0)
			return rc;
		if (ret < 0)
			return taken(r, o, "lock (POSIX)", (int)-ret, err);
	}
	return 0;
}

/*
 * Signals go out with the rights of who names the receiver, and that is us: so only the tree
 * itself can be named. A group is the tree's own if its leader is.
 */
static bool in_tree(struct cpx_rst *r, const struct cpx_rec_ofd *o)
{
	uint32_t pid = (uint32_t)o->own_pid;

	if (o->own_type == F_OWNER_TID) {
		cpx_state_each(r->st, thread, th) {
			if (th->tid == pid)
				return true;
		}
		return false;
	}
	for (size_t i = 0; i < r->ntasks; i++)
		if (r->tasks[i].rec->pid == pid ||
		    (r->opts->trusted && o->own_type == F_OWNER_PGRP &&
		     r->tasks[i].rec->pgid == pid))
			return true;
	return false;
}

/* Owner, signal and O_ASYNC: the kernel notes the number of the descriptor, so in the task. */
static int own(struct cpx_rst *r, struct cpx_rst_ofd *o, struct cpx_err *err)
{
	struct cpx_tracee *tr = &o->task->threads[0].t;
	struct f_owner_ex who = { .type = (int)o->rec->own_type, .pid = o->rec->own_pid };
	uint64_t fd = o->task_fd, at;
	int64_t flags;
	int rc = 0;

	if (o->rec->own_pid && in_tree(r, o->rec)) {
		cpx_tracee_reset(tr);
		at = cpx_tracee_push(tr, &who, sizeof(who));
		rc = cpx_tok(tr, NULL, err, "set the owner of a descriptor", SYS_fcntl, fd,
			     F_SETOWN_EX, at);
		cpx_tracee_reset(tr);
	}
	if (rc == 0 && o->rec->own_sig)
		rc = cpx_tok(tr, NULL, err, "set the signal of a descriptor", SYS_fcntl, fd,
			     F_SETSIG, o->rec->own_sig);
	if (rc < 0 || !(o->rec->flags & O_ASYNC))
		return rc;
	rc = cpx_tok(tr, &flags, err, "flags of a descriptor", SYS_fcntl, fd, F_GETFL, 0);
	if (rc < 0 || (flags & O_ASYNC))
		return rc;
	return cpx_tok(tr, NULL, err, "set O_ASYNC", SYS_fcntl, fd, F_SETFL,
		       (uint64_t)(flags | O_ASYNC));
}

int cpx_rst_file_owners(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	int rc = 0;

	for (size_t i = 0; i < p->nofds && rc == 0; i++) {
		struct cpx_rst_ofd *o = &p->ofds[i];

		if (o->task == t && !(o->rec->flags & O_PATH) &&
		    (o->rec->own_pid || o->rec->own_sig || (o->rec->flags & O_ASYNC)))
			rc = own(r, o, err);
	}
	return rc;
}
