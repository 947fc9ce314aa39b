/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_epoll.c - epoll sets.
 *
 * fdinfo gives number, events and data of each item; which open file description the number
 * meant when it was added is found by kcmp() with the descriptors of the tree, for it may have been
 * closed, moved or reused since.
 *
 * fdinfo does not tell which items are on the ready list. poll() on the set does, in one bit: if
 * nothing waits to be reported, then no edge-triggered item has news, and restore takes back the
 * reports that adding them makes. Otherwise they may be reported once more, which is harmless.
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

/* The ofd of item @slot; the same number in some table first, then all others. 0: not found. */
static uint32_t target_of(const struct cpx_cap *c, const struct kcmp_epoll_slot *slot)
{
	for (int same_number = 1; same_number >= 0; same_number--) {
		cpx_state_each(c->st, fd, fd) {
			pid_t pid;

			if ((fd->fd == slot->tfd) != same_number)
				continue;
			pid = pid_of_files(c, fd->files_id);
			if (pid && !syscall(SYS_kcmp, pid, getpid(), KCMP_EPOLL_TFD, fd->fd, slot))
				return fd->ofd;
		}
	}
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

static int add_item(struct cpx_cap *c, const struct cpx_ipc_seen *s, const struct item *it,
		    uint32_t nth, struct cpx_err *err)
{
	struct kcmp_epoll_slot slot = { .efd = (uint32_t)s->here, .tfd = (uint32_t)it->fd,
					.toff = nth };
	uint32_t ofd = target_of(c, &slot);
	struct cpx_rec_epoll_item *rec;

	if (!ofd)
		return cpx_cap_refuse(c, s->t, err,
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

static int cap_set(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	CPX_AUTO_FREE char *info = NULL;
	CPX_AUTO_FREE struct item *items = NULL;
	size_t n = 0, room = 0;
	int rc = cpx_ipc_fdinfo(s->here, &info, err);

	if (rc < 0)
		return rc;
	for (const char *p = info; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		struct item it;

		if (sscanf(p, "tfd: %d events: %x data: %llx", &it.fd, &it.events, &it.data) != 3)
			continue;
		if (n == room) {
			struct item *more = realloc(items, (room = room * 2 + 64) * sizeof(*items));

			if (!more || n > ITEMS_MAX)
				return cpx_err_set(err, CPX_E_NOMEM, "too many epoll items");
			items = more;
		}
		rc = add_item(c, s, &it, seen_before(items, n, it.fd), err);
		if (rc < 0)
			return rc;
		items[n++] = it;
	}
	return 0;
}

int cpx_cap_epolls(struct cpx_cap *c, struct cpx_err *err)
{
	for (const struct cpx_ipc_seen *s = cpx_ipc_of(c)->epolls; s; s = s->next) {
		int rc = cap_set(c, s, err);

		if (rc < 0)
			return cpx_err_wrap(err, "epoll set (fd %d)", s->num);
	}
	return 0;
}
