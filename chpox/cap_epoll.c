/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_epoll.c - epoll sets.
 *
 * fdinfo gives number, events and data of each item; which open file description the number
 * meant when it was added is found by kcmp() with the descriptors of the tree, for it may have
 * been closed, moved or reused since.
 *
 * fdinfo does not tell which items are on the ready list. poll() on the set does, in one bit:
 * if nothing waits to be reported, then no edge-triggered item has news, and restore takes back
 * the reports that adding them makes. Otherwise they may be reported once more, which is
 * harmless.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kcmp.h>

#include "base/fd.h"
#include "cap_ipc_kinds.h"

#define PRIVATE_BITS (EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE)
#define ITEMS_MAX (1u << 20)

int cpx_cap_epoll(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	struct pollfd pfd = { .fd = f->here, .events = POLLIN };
	struct cpx_rec_epoll *rec = cpx_state_new_rec(f->c->st, epoll);

	if (!rec)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	rec->id = f->ofd->id;
	rec->ready = poll(&pfd, 1, 0) != 0;
	f->ofd->kind = CPX_OFD_EPOLL;
	f->ofd->object = 0;
	if (!cpx_ipc_see(&cpx_ipc_of(f->c)->epolls, f, rec, true))
		return cpx_err_sys(err, errno, "keeping an epoll set");
	return 1;
}

static pid_t pid_of_files(const struct cpx_cap *c, uint32_t files_id)
{
	for (size_t i = 0; i < c->ntasks; i++)
		if (!c->tasks[i]->zombie && c->tasks[i]->rec &&
		    c->tasks[i]->rec->files_id == files_id)
			return c->tasks[i]->pid;
	return 0;
}

/* All descriptors of the tree by their numbers: most items are found under the number they
 * have. */
struct slot {
	uint32_t fd, ofd;
	pid_t pid;
};

struct slots {
	struct slot *v; /* owned */
	size_t n;
};

static int by_number(const void *pa, const void *pb)
{
	const struct slot *a = pa, *b = pb;

	return a->fd < b->fd ? -1 : a->fd > b->fd;
}

static int all_slots(const struct cpx_cap *c, struct slots *s, struct cpx_err *err)
{
	uint32_t files = 0;
	pid_t pid = 0;

	s->v = calloc(cpx_state_count(c->st, CPX_REC_fd) + 1, sizeof(*s->v));
	s->n = 0;
	if (!s->v)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	cpx_state_each(c->st, fd, fd) {
		if (!pid || fd->files_id != files)
			pid = pid_of_files(c, files = fd->files_id);
		if (pid)
			s->v[s->n++] = (struct slot){ fd->fd, fd->ofd, pid };
	}
	qsort(s->v, s->n, sizeof(*s->v), by_number);
	return 0;
}

static bool is_target(const struct slot *s, const struct kcmp_epoll_slot *item)
{
	return !syscall(SYS_kcmp, s->pid, getpid(), KCMP_EPOLL_TFD, s->fd, item);
}

/* The ofd of @item; the same number in some table first, then all others. 0: not found. */
static uint32_t target_of(const struct slots *s, const struct kcmp_epoll_slot *item)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->v[mid].fd < item->tfd)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < s->n && s->v[lo].fd == item->tfd; lo++)
		if (is_target(&s->v[lo], item))
			return s->v[lo].ofd;
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].fd != item->tfd && is_target(&s->v[i], item))
			return s->v[i].ofd;
	return 0;
}

struct item {
	int fd;
	unsigned events;
	unsigned long long data;
};

static uint32_t seen_before(const struct item *items, size_t n, int fd)
{
	uint32_t same = 0;

	for (size_t i = 0; i < n; i++)
		same += items[i].fd == fd;
	return same;
}

static int add_item(struct cpx_cap *c, const struct cpx_ipc_seen *s, const struct slots *all,
		    const struct item *it, uint32_t nth, struct cpx_err *err)
{
	struct kcmp_epoll_slot slot = { .efd = (uint32_t)s->here,
					.tfd = (uint32_t)it->fd,
					.toff = nth };
	uint32_t ofd = target_of(all, &slot);
	struct cpx_rec_epoll_item *rec;

	if (!ofd)
		return cpx_cap_refuse(
			c, s->t, err,
			"fd %d is an epoll set that watches a descriptor (%d when "
			"it was added) that no process of the job has open any more",
			s->num, it->fd);
	rec = cpx_state_new_rec(c->st, epoll_item);
	if (!rec)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	rec->epoll = s->ofd->id;
	rec->fd = (uint32_t)it->fd;
	rec->ofd = ofd;
	rec->events = it->events;
	rec->data = it->data;
	if ((it->events & EPOLLONESHOT) && !(it->events & ~(uint32_t)PRIVATE_BITS))
		rec->flags |= CPX_EPOLL_SPENT;
	return 0;
}

static int cap_set(struct cpx_cap *c, const struct cpx_ipc_seen *s, const struct slots *all,
		   struct cpx_err *err)
{
	CPX_AUTO_FREE char *info = NULL;
	CPX_AUTO_FREE struct item *items = NULL;
	size_t n = 0, room = 0;
	int rc = cpx_ipc_fdinfo(s->here, &info, err);

	if (rc < 0)
		return rc;
	for (const char *p = info; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		struct item it;

		if (sscanf(p, "tfd: %d events: %x data: %llx", &it.fd, &it.events, &it.data) !=
		    3)
			continue;
		if (n == room) {
			struct item *more =
				realloc(items, (room = room * 2 + 64) * sizeof(*items));

			if (!more || n > ITEMS_MAX)
				return cpx_err_set(err, CPX_E_NOMEM, "too many epoll items");
			items = more;
		}
		rc = add_item(c, s, all, &it, seen_before(items, n, it.fd), err);
		if (rc < 0)
			return rc;
		items[n++] = it;
	}
	return 0;
}

int cpx_cap_epolls(struct cpx_cap *c, struct cpx_err *err)
{
	struct slots all;
	int rc;

	if (!cpx_ipc_of(c)->epolls)
		return 0;
	rc = all_slots(c, &all, err);
	for (const struct cpx_ipc_seen *s = cpx_ipc_of(c)->epolls; rc >= 0 && s; s = s->next)
		rc = cap_set(c, s, &all, err);
	free(all.v);
	return rc < 0 ? rc : 0;
}
