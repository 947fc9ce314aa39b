/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_file_lock.c - file locks and leases, as fdinfo shows them.
 *
 * flock, OFD locks and leases belong to the open file description and are recorded once;
 * POSIX locks belong to the descriptor table, each table shows its own.
 */
#include "cap_file.h"

#include "../store/state.h"
#include "base/err.h"
#include "capture.h"
#include "proc_fd.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Two slots of one table that share a description both show the table's POSIX locks. */
static bool seen(struct cpx_cap *c, uint32_t files_id, uint32_t ofd,
		 const struct cpx_proc_lock *k)
{
	for (size_t i = cpx_state_count(c->st, CPX_REC_lock); i-- > 0;) {
		const struct cpx_rec_lock *r = cpx_state_rec(c->st, lock, i);

		if (r->kind == CPX_LOCK_POSIX && r->files_id != files_id)
			return false; /* tables are walked one after the other */
		if (r->kind == CPX_LOCK_POSIX && r->ofd == ofd && r->start == k->start &&
		    r->len == k->len && r->type == k->type)
			return true;
	}
	return false;
}

static int add(struct cpx_cap *c, const struct cpx_proc_lock *k, uint32_t ofd,
	       uint32_t files_id, struct cpx_err *err)
{
	struct cpx_rec_lock *r = cpx_state_new_rec(c->st, lock);

	if (!r)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for locks");
	r->kind = k->kind;
	r->ofd = ofd;
	r->files_id = files_id;
	r->type = k->type;
	r->start = k->start;
	r->len = k->len;
	return 0;
}

int cpx_cap_file_locks(struct cpx_cap *c, struct cpx_cap_task *t, int fd,
		       const struct cpx_proc_fd *info, const struct cpx_rec_ofd *ofd,
		       bool first, struct cpx_cap_file *f, struct cpx_err *err)
{
	uint32_t files_id = t->files_of->rec ? t->files_of->rec->files_id : 0;
	int rc = 0;

	for (size_t i = 0; i < info->nlocks && rc == 0; i++) {
		const struct cpx_proc_lock *k = &info->locks[i];

		if (k->foreign)
			continue;
		if (k->kind == CPX_LOCK_LEASE && (k->breaking || k->type == F_UNLCK))
			return cpx_cap_refuse(
				c, t, err, "the lease of fd %d is just being broken; try again",
				fd);
		if (k->kind == CPX_LOCK_POSIX) {
			if (first || !seen(c, files_id, ofd->id, k))
				rc = add(c, k, ofd->id, files_id, err);
			continue;
		}
		if (!first)
			continue;
		if (k->kind == CPX_LOCK_LEASE && f) {
			f->rec->flags |= CPX_FILE_LEASED;
			if (f->read_fd < 0)
				f->read_fd = (int)syscall(SYS_pidfd_getfd, t->pidfd, fd, 0);
		}
		rc = add(c, k, ofd->id, 0, err);
	}
	return rc;
}
