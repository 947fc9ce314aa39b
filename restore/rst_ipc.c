/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_ipc.c - the ipc family of restore: finds the opener, and what is done in the end.
 *
 * Openers run when the first process needs the descriptor; by then all processes exist. What
 * comes in pairs is made at once and the other end kept until it is asked for; an end that is
 * never asked for was closed in the job, and is closed when all have theirs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "rst_ipc_kinds.h"
#include "rst_sock.h"

static struct cpx_ipc_made **bucket(struct cpx_rst *r, const void *rec)
{
	return &cpx_rst_ipc_of(r)->made[((uintptr_t)rec >> 4) % CPX_MADE_HASH];
}

int cpx_ipc_made_add(struct cpx_rst *r, const void *rec, unsigned end, int fd,
		     struct cpx_err *err)
{
	struct cpx_ipc_made *m = malloc(sizeof(*m)), **b = bucket(r, rec);

	if (!m) {
		cpx_close(&fd);
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	}
	*m = (struct cpx_ipc_made){ *b, rec, end, fd, false };
	*b = m;
	return 0;
}

struct cpx_ipc_made *cpx_ipc_made_find(struct cpx_rst *r, const void *rec, unsigned end)
{
	for (struct cpx_ipc_made *m = *bucket(r, rec); m; m = m->next)
		if (m->rec == rec && m->end == end)
			return m;
	return NULL;
}

/* --- the index ------------------------------------------------------------------------------
 */

static const enum cpx_rec_type indexed[] = {
	[CPX_BY_SOCK] = CPX_REC_sock,
	[CPX_BY_OPT] = CPX_REC_sockopt,
	[CPX_BY_MSG] = CPX_REC_sockmsg,
};

static uint32_t key_of(enum cpx_ipc_by by, const void *rec)
{
	switch (by) {
	case CPX_BY_SOCK:
		return ((const struct cpx_rec_sock *)rec)->id;
	case CPX_BY_OPT:
		return ((const struct cpx_rec_sockopt *)rec)->sock;
	default:
		return ((const struct cpx_rec_sockmsg *)rec)->sock;
	}
}

static int by_key(const void *pa, const void *pb)
{
	const struct cpx_ipc_pair *a = pa, *b = pb;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return a->at < b->at ? -1 : a->at > b->at; /* messages keep their order */
}

static int make_index(const struct cpx_rst *r, enum cpx_ipc_by by, struct cpx_ipc_index *x,
		      struct cpx_err *err)
{
	x->n = cpx_state_count(r->st, indexed[by]);
	x->v = calloc(x->n + 1, sizeof(*x->v));
	if (!x->v)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	for (size_t i = 0; i < x->n; i++)
		x->v[i] =
			(struct cpx_ipc_pair){ key_of(by, cpx_state_at(r->st, indexed[by], i)),
					       (uint32_t)i };
	qsort(x->v, x->n, sizeof(*x->v), by_key);
	return 0;
}

const void *cpx_ipc_next(const struct cpx_rst *r, enum cpx_ipc_by by, uint32_t key, size_t *i)
{
	const struct cpx_ipc_index *x = &cpx_rst_ipc_of(r)->index[by];

	if (*i == SIZE_MAX) {
		size_t lo = 0, hi = x->n;

		while (lo < hi) {
			size_t mid = lo + (hi - lo) / 2;

			if (x->v[mid].key < key)
				lo = mid + 1;
			else
				hi = mid;
		}
		*i = lo;
	}
	if (*i >= x->n || x->v[*i].key != key)
		return NULL;
	return cpx_state_at(r->st, indexed[by], x->v[(*i)++].at);
}

struct cpx_rst_task *cpx_ipc_task(const struct cpx_rst *r, uint32_t ns_pid)
{
	for (size_t i = 0; i < r->ntasks; i++)
		if (r->tasks[i].rec->pid == ns_pid)
			return &r->tasks[i];
	return NULL;
}

struct cpx_ipc_who cpx_ipc_as_owner(const struct cpx_rst *r)
{
	struct cpx_ipc_who was;

	was.gid = (uint32_t)setfsgid(r->opts->owner_gid);
	was.uid = (uint32_t)setfsuid(r->opts->owner_uid);
	return was;
}

void cpx_ipc_self(struct cpx_ipc_who was)
{
	setfsuid(was.uid);
	setfsgid(was.gid);
}

int cpx_ipc_drop(struct cpx_rst *r, struct cpx_err *err)
{
	struct cpx_rst_ipc *p = cpx_rst_ipc_of(r);

	p->fsuid = (uint32_t)setfsuid((uid_t)-1);
	p->fsgid = (uint32_t)setfsgid((gid_t)-1);
	return cpx_rst_owner_enter(&p->owner, err);
}

void cpx_ipc_undrop(struct cpx_rst *r)
{
	struct cpx_rst_ipc *p = cpx_rst_ipc_of(r);
	int keep = errno;

	cpx_rst_owner_leave(&p->owner);
	setfsgid(p->fsgid);
	setfsuid(p->fsuid);
	errno = keep;
}

int cpx_ipc_reopen(int fd, int flags)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC | O_NOCTTY);
}

/* clang-format off */
static int (*const openers[])(struct cpx_rst *, const struct cpx_rec_ofd *, struct cpx_err *) = {
	[CPX_OFD_PIPE]     = cpx_rst_pipe,
	[CPX_OFD_EVENTFD]  = cpx_rst_eventfd,
	[CPX_OFD_EPOLL]    = cpx_rst_epoll,
	[CPX_OFD_TIMERFD]  = cpx_rst_timerfd,
	[CPX_OFD_SIGNALFD] = cpx_rst_signalfd,
	[CPX_OFD_INOTIFY]  = cpx_rst_inotify,
	[CPX_OFD_PIDFD]    = cpx_rst_pidfd,
	[CPX_OFD_UNIX]     = cpx_rst_unix,
	[CPX_OFD_TTY]      = cpx_rst_tty,
	[CPX_OFD_INET]     = cpx_rst_inet,
	[CPX_OFD_NETLINK]  = cpx_rst_netlink,
	[CPX_OFD_MQUEUE]   = cpx_rst_mqueue,
};
/* clang-format on */

int cpx_rst_open_ipc(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	const int status = O_NONBLOCK | O_DIRECT | O_APPEND;
	struct cpx_ipc_who was;
	int fd;

	if (ofd->kind >= sizeof(openers) / sizeof(*openers) || !openers[ofd->kind])
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "the image has a descriptor of kind %u, which this program "
				   "does not know",
				   ofd->kind);
	was = cpx_ipc_as_owner(r);
	fd = openers[ofd->kind](r, ofd, err);
	cpx_ipc_self(was);
	if (fd < 0)
		return fd;
	if (fcntl(fd, F_SETFL, (int)ofd->flags & status)) {
		int rc = cpx_err_sys(err, errno, "status flags of descriptor %u", ofd->id);

		close(fd);
		return rc;
	}
	return fd;
}

static int ipc_prepare(struct cpx_rst *r, void **priv, struct cpx_err *err)
{
	struct cpx_rst_ipc *p = calloc(1, sizeof(*p));

	if (!p)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	p->owner.uid = r->opts->owner_uid;
	p->owner.gid = r->opts->owner_gid;
	*priv = p;
	r->family[CPX_RST_IPC_SLOT] = p;
	for (int by = 0; by < CPX_BY_COUNT; by++) {
		int rc = make_index(r, (enum cpx_ipc_by)by, &p->index[by], err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static void close_made(struct cpx_rst_ipc *p)
{
	for (size_t i = 0; i < CPX_MADE_HASH; i++) {
		while (p->made[i]) {
			struct cpx_ipc_made *m = p->made[i];

			p->made[i] = m->next;
			cpx_close(&m->fd);
			free(m);
		}
	}
}

static bool last_live(const struct cpx_rst *r, const struct cpx_rst_task *t)
{
	for (const struct cpx_rst_task *o = t + 1; o < r->tasks + r->ntasks; o++)
		if (o->rec->state != CPX_TASK_ZOMBIE)
			return false;
	return true;
}

static int close_spare(struct cpx_rst *r, struct cpx_err *err)
{
	(void)err;
	close_made(cpx_rst_ipc_of(r));
	return 0;
}

/* Queues and closed ends before epoll: what is there already is no news. */
static int (*const finishers[])(struct cpx_rst *, struct cpx_err *) = {
	cpx_rst_unix_late, cpx_rst_inet_late, cpx_rst_timerfds, cpx_rst_tty_sessions,
	cpx_rst_sysv,	   close_spare,	      cpx_rst_epolls,
};

static int ipc_late(struct cpx_rst *r, void *priv, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_rst_ipc *p = priv;
	int rc = 0;

	if (!p->late_done) {
		p->late_done = true;
		for (size_t i = 0; rc >= 0 && i < sizeof(finishers) / sizeof(*finishers); i++)
			rc = finishers[i](r, err);
	}
	if (rc >= 0 && last_live(r, t))
		rc = cpx_rst_inotifies(r, err);
	return rc < 0 ? rc : 0;
}

static void ipc_end(struct cpx_rst *r, void *priv)
{
	struct cpx_rst_ipc *p = priv;

	if (!p)
		return;
	close_made(p);
	cpx_rst_owner_free(&p->owner);
	for (int by = 0; by < CPX_BY_COUNT; by++)
		free(p->index[by].v);
	free(p);
	r->family[CPX_RST_IPC_SLOT] = NULL;
}

const struct cpx_rst_family cpx_rst_ipc = {
	.name = "ipc",
	.prepare = ipc_prepare,
	.late = ipc_late,
	.end = ipc_end,
};
