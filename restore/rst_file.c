/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_file.c - the files family: descriptor tables, open file descriptions, directories.
 *
 * Happy path: prepare() checks every file against its record and changes nothing; task() opens
 * each description once, here, and fills the task's table with it; late(), when the whole tree
 * exists, rolls files back, takes locks and sets owners. Descriptions shared after dup, fork or
 * SCM_RIGHTS are one description here too, because all slots get the same one.
 */
#include "rst_file.h"

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "restore.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What F_SETFL can change. */
#define SETTABLE (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME)
#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

static int by_file_id(const void *pa, const void *pb)
{
	uint32_t a = ((const struct cpx_rst_file *)pa)->rec->id;
	uint32_t b = ((const struct cpx_rst_file *)pb)->rec->id;

	return a < b ? -1 : a > b;
}

static int by_ofd_id(const void *pa, const void *pb)
{
	uint32_t a = ((const struct cpx_rst_ofd *)pa)->rec->id;
	uint32_t b = ((const struct cpx_rst_ofd *)pb)->rec->id;

	return a < b ? -1 : a > b;
}

struct cpx_rst_file *cpx_rst_file_by_id(struct cpx_rst *r, uint32_t id)
{
	struct cpx_rst_files *p = r->files_priv;
	struct cpx_rec_file rec = { .id = id };
	struct cpx_rst_file key = { .rec = &rec };

	if (!p || !p->nfiles)
		return NULL;
	return bsearch(&key, p->files, p->nfiles, sizeof(key), by_file_id);
}

struct cpx_rst_ofd *cpx_rst_ofd_by_id(struct cpx_rst *r, uint32_t id)
{
	struct cpx_rst_files *p = r->files_priv;
	struct cpx_rec_ofd rec = { .id = id };
	struct cpx_rst_ofd key = { .rec = &rec };

	if (!p || !p->nofds)
		return NULL;
	return bsearch(&key, p->ofds, p->nofds, sizeof(key), by_ofd_id);
}

int cpx_rst_open_file(struct cpx_rst *r, uint32_t file_id, int flags, struct cpx_err *err)
{
	struct cpx_rst_file *f = cpx_rst_file_by_id(r, file_id);
	int rc;

	if (!f)
		return cpx_err_set(err, CPX_E_FORMAT, "there is no file record %u", file_id);
	rc = cpx_rst_file_check(r, f, err);
	if (rc == 0)
		rc = cpx_rst_file_ready(r, f, err);
	return rc < 0 ? rc : cpx_rst_file_reopen(r, f, flags, err);
}

/* --- open file descriptions -------------------------------------------------------------- */

static int set_flags(const struct cpx_rec_ofd *o, int fd, struct cpx_err *err)
{
	int is = fcntl(fd, F_GETFL), want = (int)o->flags & SETTABLE;

	if (is < 0)
		return cpx_err_sys(err, errno, "flags of a descriptor");
	if ((is & SETTABLE) == want)
		return 0;
	if (fcntl(fd, F_SETFL, (is & ~SETTABLE) | want) < 0)
		return cpx_err_sys(err, errno, "set the flags of a descriptor (0%o)", o->flags);
	return 0;
}

static int open_file(struct cpx_rst *r, const struct cpx_rec_ofd *o, struct cpx_err *err)
{
	CPX_AUTO_FD fd = cpx_rst_open_file(r, o->object, (int)o->flags, err);
	const struct cpx_rst_file *f = cpx_rst_file_by_id(r, o->object);
	int rc;

	if (fd < 0)
		return fd;
	if (o->flags & O_PATH)
		return cpx_steal_fd(&fd);
	rc = set_flags(o, fd, err);
	if (rc < 0)
		return rc;
	if (o->pos && (S_ISREG(f->rec->mode) || S_ISDIR(f->rec->mode)) &&
	    lseek(fd, (off_t)o->pos, SEEK_SET) < 0)
		return cpx_err_sys(err, errno, "set the position in %s", f->rec->path);
	return cpx_steal_fd(&fd);
}

/* Shared memory has no name: a new description of the same object is opened by /proc. */
static int open_shm(struct cpx_rst *r, const struct cpx_rec_ofd *o, struct cpx_err *err)
{
	int base = cpx_rst_shm_fd(r, o->object, err);
	CPX_AUTO_FD fd = -1;
	char path[32];
	int rc;

	if (base < 0)
		return base;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", base);
	fd = open(path, ((int)o->flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC | O_NOFOLLOW |
					   O_DIRECTORY | TMPFILE_BIT)) |
				O_CLOEXEC);
	if (fd < 0)
		return cpx_err_sys(err, errno, "open shared memory %u", o->object);
	rc = set_flags(o, fd, err);
	if (rc < 0)
		return rc;
	if (o->pos && lseek(fd, (off_t)o->pos, SEEK_SET) < 0)
		return cpx_err_sys(err, errno, "set the position in shared memory");
	return cpx_steal_fd(&fd);
}

int cpx_rst_ofd_fd(struct cpx_rst *r, uint32_t ofd_id, struct cpx_err *err)
{
	struct cpx_rst_ofd *o = cpx_rst_ofd_by_id(r, ofd_id);
	int fd;

	if (!o)
		return cpx_err_set(err, CPX_E_FORMAT, "there is no ofd record %u", ofd_id);
	if (o->fd >= 0)
		return o->fd;
	if (o->opening)
		return cpx_err_set(err, CPX_E_FORMAT, "ofd %u needs itself", ofd_id);
	o->opening = true;
	switch (o->rec->kind) {
	case CPX_OFD_FILE:
		fd = open_file(r, o->rec, err);
		break;
	case CPX_OFD_SHM:
		fd = open_shm(r, o->rec, err);
		break;
	default:
		fd = cpx_rst_open_ipc(r, o->rec, err);
	}
	o->opening = false;
	if (fd >= 0 && o->fd < 0)
		o->fd = fd;
	return fd;
}

/* --- the family -------------------------------------------------------------------------- */

static int load(struct cpx_rst *r, struct cpx_rst_files *p, struct cpx_err *err)
{
	size_t nf = cpx_state_count(r->st, CPX_REC_file);
	size_t no = cpx_state_count(r->st, CPX_REC_ofd);

	p->files = calloc(nf + 1, sizeof(*p->files));
	p->ofds = calloc(no + 1, sizeof(*p->ofds));
	if (!p->files || !p->ofds)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for descriptors");
	for (; p->nfiles < nf; p->nfiles++)
		p->files[p->nfiles] =
			(struct cpx_rst_file){ .rec = cpx_state_rec(r->st, file, p->nfiles),
					       .path_fd = -1,
					       .guard_fd = -1 };
	for (; p->nofds < no; p->nofds++)
		p->ofds[p->nofds] =
			(struct cpx_rst_ofd){ .rec = cpx_state_rec(r->st, ofd, p->nofds),
					      .fd = -1 };
	qsort(p->files, nf, sizeof(*p->files), by_file_id);
	qsort(p->ofds, no, sizeof(*p->ofds), by_ofd_id);
	for (size_t i = 1; i < nf; i++)
		if (p->files[i].rec->id == p->files[i - 1].rec->id)
			return cpx_err_set(err, CPX_E_FORMAT, "file record %u is there twice",
					   p->files[i].rec->id);
	for (size_t i = 1; i < no; i++)
		if (p->ofds[i].rec->id == p->ofds[i - 1].rec->id)
			return cpx_err_set(err, CPX_E_FORMAT, "ofd record %u is there twice",
					   p->ofds[i].rec->id);
	return 0;
}

static int files_prepare(struct cpx_rst *r, void **priv, struct cpx_err *err)
{
	struct cpx_rst_files *p = calloc(1, sizeof(*p));
	struct rlimit lim;
	int rc;

	if (!p)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for descriptors");
	*priv = r->files_priv = p;
	p->job_root_fd = p->sock[0] = p->sock[1] = -1;
	p->owner.uid = r->opts->owner_uid;
	p->owner.gid = r->opts->owner_gid;
	p->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->root_fd < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->sock) < 0)
		return cpx_err_sys(err, errno, "prepare for descriptors");
	/* every description of the job is open here for a while */
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	rc = load(r, p, err);
	for (size_t i = 0; i < p->nfiles && rc == 0; i++)
		rc = cpx_rst_file_check(r, &p->files[i], err);
	return rc;
}

static int enter_dir(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_tracee *tr,
		     uint32_t file_id, bool root, struct cpx_err *err)
{
	CPX_AUTO_FD fd = -1;
	uint64_t at;
	int there, rc;

	if (!file_id)
		return 0;
	/* below a root directory of his own a user could fool set-user-id programs */
	if (root && !r->opts->trusted)
		return cpx_err_set(
			err, CPX_E_PERM,
			"process %u has a root directory of its own, which only root can "
			"give it; restore as root, from a directory that only root can "
			"write",
			t->rec->pid);
	fd = cpx_rst_open_file(r, file_id, O_PATH | O_DIRECTORY, err);
	if (fd < 0)
		return fd;
	there = cpx_rst_give_fd(r, t, fd, -1, true, err);
	if (there < 0)
		return there;
	rc = cpx_tok(tr, NULL, err, "enter a directory", SYS_fchdir, (uint64_t)there);
	if (rc == 0 && root) {
		cpx_tracee_reset(tr);
		at = cpx_tracee_push(tr, ".", 2);
		rc = cpx_tok(tr, NULL, err, "change the root directory", SYS_chroot, at);
		cpx_tracee_reset(tr);
	}
	if (rc == 0)
		rc = cpx_tok(tr, NULL, err, "close a directory", SYS_close, (uint64_t)there);
	return rc;
}

/* Threads with directories of their own. */
static int thread_dirs(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	int rc = 0;

	for (size_t k = 1; k < t->nthreads && rc == 0; k++) {
		struct cpx_tracee *tr = &t->threads[k].t;
		const struct cpx_rec_thread *rec = t->threads[k].rec;

		if (!rec->own_fs)
			continue;
		rc = cpx_tok(tr, NULL, err, "directories of its own", SYS_unshare, CLONE_FS);
		if (rc == 0)
			rc = enter_dir(r, t, tr, rec->root_file, true, err);
		if (rc == 0)
			rc = enter_dir(r, t, tr, rec->cwd_file, false, err);
		if (rc == 0)
			rc = cpx_tok(tr, NULL, err, "umask", SYS_umask, rec->umask & 0777);
		if (rc < 0)
			cpx_err_wrap(err, "thread %u", rec->tid);
	}
	return rc;
}

static int files_task(struct cpx_rst *r, void *priv, struct cpx_rst_task *t,
		      struct cpx_err *err)
{
	struct cpx_tracee *tr = &t->threads[0].t;
	int rc = 0;

	(void)priv;
	if (t->fs_of == t)
		rc = enter_dir(r, t, tr, t->rec->root_file, true, err);
	if (t->fs_of == t && rc == 0)
		rc = enter_dir(r, t, tr, t->rec->cwd_file, false, err);
	if (t->files_of == t && rc == 0)
		rc = cpx_rst_file_table(r, t, err);
	return rc;
}

static int files_late(struct cpx_rst *r, void *priv, struct cpx_rst_task *t,
		      struct cpx_err *err)
{
	struct cpx_rst_files *p = priv;
	bool first = !p->applied;
	int rc = cpx_rst_file_apply(r, err);

	if (first && rc == 0)
		rc = cpx_rst_file_ofd_locks(r, err);
	if (t->files_of != t || rc < 0)
		return rc;
	rc = cpx_rst_file_locks(r, t, err);
	if (rc == 0)
		rc = cpx_rst_file_owners(r, t, err);
	/* the last that needs the way to the conductor */
	for (size_t i = 0; i < r->ntasks && rc == 0; i++)
		if (r->tasks[i].files_of == t)
			rc = thread_dirs(r, &r->tasks[i], err);
	if (rc == 0)
		rc = cpx_tok(&t->threads[0].t, NULL, err, "close the way to the conductor",
			     SYS_close, (uint64_t)t->self_pidfd);
	for (size_t i = 0; i < r->ntasks && rc == 0; i++)
		if (r->tasks[i].files_of == t)
			r->tasks[i].self_pidfd = -1;
	return rc;
}

static void files_end(struct cpx_rst *r, void *priv)
{
	struct cpx_rst_files *p = priv;

	r->files_priv = NULL;
	if (!p)
		return;
	for (size_t i = 0; i < p->nofds; i++)
		cpx_close(&p->ofds[i].fd);
	for (size_t i = 0; i < p->nfiles; i++) {
		cpx_close(&p->files[i].path_fd);
		cpx_close(&p->files[i].guard_fd);
	}
	cpx_close(&p->sock[0]);
	cpx_close(&p->sock[1]);
	cpx_close(&p->root_fd);
	cpx_close(&p->job_root_fd);
	cpx_rst_owner_free(&p->owner);
	free(p->files);
	free(p->ofds);
	free(p);
}

const struct cpx_rst_family cpx_rst_files = {
	.name = "files",
	.prepare = files_prepare,
	.task = files_task,
	.late = files_late,
	.end = files_end,
};
