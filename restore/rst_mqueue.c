/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_mqueue.c - POSIX message queues: opened or made by name as the owner, emptied, filled
 * with what they held. One without a name is made under a name of its own, which is removed at
 * once.
 */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "rst_ipc_kinds.h"

#define MSGSIZE_MAX (16u << 20)

static const struct cpx_rec_mqueue *record(const struct cpx_rst *r, uint32_t id)
{
	cpx_state_each(r->st, mqueue, rec)
		if (rec->id == id)
			return rec;
	return NULL;
}

static int empty(int fd, const struct mq_attr *attr, struct cpx_err *err)
{
	CPX_AUTO_FREE char *buf = malloc((size_t)attr->mq_msgsize + 1);

	if (!buf)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	for (long n = attr->mq_maxmsg; n >= 0; n--)
		if (mq_receive(fd, buf, (size_t)attr->mq_msgsize, NULL) < 0)
			break;
	return 0;
}

static int fill(const struct cpx_rst *r, const struct cpx_rec_mqueue *rec, int fd,
		struct cpx_err *err)
{
	struct mq_attr attr;
	int rc;

	if (mq_getattr(fd, &attr))
		return cpx_err_sys(err, errno, "message queue %s", rec->name);
	if ((uint64_t)attr.mq_maxmsg != rec->maxmsg ||
	    (uint64_t)attr.mq_msgsize != rec->msgsize)
		return cpx_err_set(err, CPX_E_CONFLICT,
				   "message queue %s is there with other limits; remove it",
				   rec->name);
	rc = attr.mq_curmsgs ? empty(fd, &attr, err) : 0;
	if (rc < 0)
		return rc;
	cpx_state_each(r->st, mqmsg, m)
		if (m->mqueue == rec->id &&
		    mq_send(fd, m->data.p ? m->data.p : "", m->data.n, m->prio))
			return cpx_err_sys(err, errno, "a message for %s", rec->name);
	return 0;
}

static int make(struct cpx_rst *r, const struct cpx_rec_mqueue *rec, struct cpx_err *err)
{
	struct mq_attr attr = { .mq_maxmsg = (long)rec->maxmsg,
				.mq_msgsize = (long)rec->msgsize };
	char temp[64];
	const char *name = rec->name;
	CPX_AUTO_FD fd = -1;
	int rc;

	if (!name || name[0] != '/' || strchr(name + 1, '/') || rec->msgsize > MSGSIZE_MAX)
		return cpx_err_set(err, CPX_E_FORMAT, "message queue %u: a bad name or size",
				   rec->id);
	if (rec->unlinked) {
		snprintf(temp, sizeof(temp), "/chpox.%d.%u", (int)getpid(), rec->id);
		name = temp;
	}
	rc = cpx_ipc_drop(r, err);
	if (rc < 0)
		return rc;
	fd = mq_open(name,
		     O_RDWR | O_NONBLOCK | O_CLOEXEC | O_CREAT | (rec->unlinked ? O_EXCL : 0),
		     0600, &attr);
	if (fd >= 0 && rec->unlinked)
		mq_unlink(name);
	cpx_ipc_undrop(r);
	if (fd < 0)
		return cpx_err_sys(err, errno, "opening message queue %s", rec->name);
	if (r->opts->trusted && fchown(fd, rec->uid, rec->gid) && errno != EPERM)
		return cpx_err_sys(err, errno, "owner of message queue %s", rec->name);
	if (fchmod(fd, rec->mode & 0777) && errno != EPERM)
		return cpx_err_sys(err, errno, "mode of message queue %s", rec->name);
	rc = fill(r, rec, fd, err);
	return rc < 0 ? rc : cpx_ipc_made_add(r, rec, 0, cpx_steal_fd(&fd), err);
}

int cpx_rst_mqueue(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	const struct cpx_rec_mqueue *rec = record(r, ofd->id);
	struct cpx_ipc_made *m;
	int fd, rc;

	if (rec && rec->same_as)
		rec = record(r, rec->same_as);
	if (!rec || rec->same_as)
		return cpx_err_set(err, CPX_E_FORMAT, "message queue %u: no record", ofd->id);
	m = cpx_ipc_made_find(r, rec, 0);
	if (!m) {
		rc = make(r, rec, err);
		if (rc < 0)
			return rc;
		m = cpx_ipc_made_find(r, rec, 0);
	}
	fd = cpx_ipc_reopen(m->fd, (int)(ofd->flags & O_ACCMODE));
	return fd < 0 ? cpx_err_sys(err, errno, "message queue %s", rec->name) : fd;
}
