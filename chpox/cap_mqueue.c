/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_mqueue.c - POSIX message queues.
 *
 * The kernel has no way to look at a message without taking it: a queue that holds some is
 * emptied and filled again in the same order, which is the order of priorities, while the job
 * stands. A queue with somebody registered by mq_notify() is refused: the value that he gave is
 * not told.
 */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "cap_ipc_kinds.h"

#define MQUEUE_MAGIC 0x19800202
#define MESSAGES_MAX 65536
#define MSGSIZE_MAX (16 << 20)

static int nomem(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
}

bool cpx_is_mqueue(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == MQUEUE_MAGIC;
}

/* A description of our own, that reads, writes and does not wait. */
static int own_end(int here)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", here);
	return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

static bool notified(int here)
{
	char path[40], text[200];
	const char *p;
	int pid = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", here);
	CPX_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	p = strstr(text, "NOTIFY_PID:");
	return p && sscanf(p + 11, "%d", &pid) == 1 && pid;
}

static int take_messages(struct cpx_cap *c, int fd, uint32_t id, const struct mq_attr *attr,
			 struct cpx_err *err)
{
	CPX_AUTO_FREE char *buf = malloc((size_t)attr->mq_msgsize);
	size_t start = cpx_state_count(c->st, CPX_REC_mqmsg);
	int rc = 0;

	if (!buf)
		return nomem(err);
	for (long i = 0; i < attr->mq_curmsgs; i++) {
		struct cpx_rec_mqmsg *rec;
		unsigned prio;
		ssize_t n = mq_receive(fd, buf, (size_t)attr->mq_msgsize, &prio);

		if (n < 0)
			break;
		rec = cpx_state_new_rec(c->st, mqmsg);
		if (rec) {
			rec->mqueue = id;
			rec->prio = prio;
			rec->data = cpx_state_blob(c->st, buf, (size_t)n);
		}
		if (!rec || (n && !rec->data.p)) {
			mq_send(fd, buf, (size_t)n, prio);
			rc = nomem(err);
			break;
		}
	}
	for (size_t i = start; i < cpx_state_count(c->st, CPX_REC_mqmsg); i++) {
		const struct cpx_rec_mqmsg *m = cpx_state_rec(c->st, mqmsg, i);

		if (mq_send(fd, m->data.p ? m->data.p : "", m->data.n, m->prio) && rc >= 0)
			rc = cpx_err_sys(err, errno, "putting a message back");
	}
	return rc;
}

static int cap_contents(const struct cpx_ipc_fd *f, const struct cpx_rec_mqueue *rec,
			struct cpx_err *err)
{
	CPX_AUTO_FD fd = own_end(f->here);
	struct mq_attr attr;
	int rc;

	if (fd < 0 || mq_getattr(fd, &attr))
		return cpx_err_sys(err, errno, "message queue %s", f->link);
	if (f->t->rec->ipc_ns)
		return cpx_cap_refuse(
			f->c, f->t, err,
			"fd %d is the message queue %s of an IPC namespace of its "
			"own, which cannot be made again",
			f->num, f->link);
	if (notified(f->here)) {
		rc = cpx_cap_refuse(
			f->c, f->t, err,
			"fd %d is the message queue %s, for which a process waits by "
			"mq_notify(); end that first",
			f->num, f->link);
		return rc;
	}
	if (f->c->dry_run || !attr.mq_curmsgs)
		return 0;
	if (attr.mq_msgsize > MSGSIZE_MAX || attr.mq_curmsgs > MESSAGES_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "message queue %s is too large", f->link);
	return take_messages(f->c, fd, rec->id, &attr, err);
}

static int describe(const struct cpx_ipc_fd *f, struct cpx_rec_mqueue *rec, struct cpx_err *err)
{
	const char *slash = strrchr(f->link, '/');
	struct mq_attr attr;
	size_t n;
	char name[256];

	if (!slash || mq_getattr(f->here, &attr))
		return cpx_err_sys(err, errno, "message queue %s", f->link);
	n = strlen(slash);
	rec->unlinked = !f->st->st_nlink;
	if (rec->unlinked && n > 10 && !strcmp(slash + n - 10, " (deleted)"))
		n -= 10;
	snprintf(name, sizeof(name), "%.*s", (int)n, slash);
	rec->name = cpx_state_str(f->c->st, name);
	rec->mode = f->st->st_mode & 07777;
	rec->uid = f->st->st_uid;
	rec->gid = f->st->st_gid;
	rec->maxmsg = (uint64_t)attr.mq_maxmsg;
	rec->msgsize = (uint64_t)attr.mq_msgsize;
	return rec->name ? 0 : nomem(err);
}

int cpx_cap_mqueue(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	struct cpx_rec_mqueue *rec = cpx_state_new_rec(f->c->st, mqueue);
	struct cpx_ipc_seen *before = cpx_ipc_of(f->c)->mqueues;
	int rc;

	if (!rec)
		return nomem(err);
	rec->id = f->ofd->id;
	f->ofd->kind = CPX_OFD_MQUEUE;
	f->ofd->object = 0;
	while (before && before->ino != f->st->st_ino)
		before = before->next;
	rc = describe(f, rec, err);
	if (rc < 0)
		return rc;
	if (before)
		rec->same_as = before->ofd->id;
	else
		rc = cap_contents(f, rec, err);
	if (rc < 0)
		return rc;
	if (!cpx_ipc_see(&cpx_ipc_of(f->c)->mqueues, f, rec, false))
		return nomem(err);
	return 1;
}
