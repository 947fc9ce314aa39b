/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_epoll.c - epoll sets.
 *
 * The kernel keys an item by file and by the number the file has at EPOLL_CTL_ADD in the
 * calling process, whichever that is. So one helper, a fork of the conductor with its own
 * descriptor table, gives each file the number that was recorded and adds it; no process of the
 * job is disturbed. Inner sets come before those that watch them.
 *
 * In each set first come the items whose report must not be made again: spent EPOLLONESHOT
 * ones, and, where nothing was waiting, edge-triggered ones. Their reports are read off by
 * epoll_wait(), then the others are added.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "rst_ipc_kinds.h"

#define DEPTH_MAX 8 /* the kernel allows 5 */

int cpx_rst_epoll(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	(void)r;
	(void)ofd;
	return fd < 0 ? cpx_err_sys(err, errno, "epoll_create") : fd;
}

/* Position of set @id among the epoll records; -1: it is none. */
static long position(const struct cpx_rst *r, uint32_t id)
{
	long n = 0;

	cpx_state_each(r->st, epoll, e) {
		if (e->id == id)
			return n;
		n++;
	}
	return -1;
}

/*
 * How many levels of sets are below each one, counting itself: malloc'ed, by position. What
 * watches itself over corners (an image may say so) ends at the limit, and the kernel refuses
 * it.
 */
static int *depths(const struct cpx_rst *r)
{
	int *depth = calloc(cpx_state_count(r->st, CPX_REC_epoll) + 1, sizeof(*depth));

	for (int round = 1; depth && round < DEPTH_MAX; round++) {
		bool changed = false;

		cpx_state_each(r->st, epoll_item, it) {
			long outer = position(r, it->epoll), inner = position(r, it->ofd);

			if (outer < 0 || inner < 0 || depth[outer] > depth[inner] ||
			    depth[inner] >= DEPTH_MAX)
				continue;
			depth[outer] = depth[inner] + 1;
			changed = true;
		}
		if (!changed)
			break;
	}
	return depth;
}

/* A duplicate of @fd whose number is not @num; -1: @fd is none. */
static int dup_beside(int fd, int num)
{
	int first = fcntl(fd, F_DUPFD_CLOEXEC, 3), second;

	if (first != num)
		return first;
	second = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	close(first);
	return second;
}

/* In the helper: @file gets number @num for the time of the call. Return: 0 or errno. */
static int add(int set, int file, int num, const struct epoll_event *want)
{
	struct epoll_event ev = *want;
	CPX_AUTO_FD set_dup = dup_beside(set, num);
	CPX_AUTO_FD was = dup_beside(num, num);
	CPX_AUTO_FD file_dup = dup_beside(file, num);
	int rc = 0;

	if (set_dup < 0 || file_dup < 0 || dup2(file_dup, num) < 0)
		return errno;
	if (epoll_ctl(set_dup, EPOLL_CTL_ADD, num, &ev))
		rc = errno;
	if (was >= 0)
		dup2(was, num);
	else
		close(num);
	return rc;
}

static void read_off(int set)
{
	struct epoll_event evs[64];

	for (int i = 0; i < 4096 && epoll_wait(set, evs, 64, 0) > 0; i++)
		;
}

static bool silent(const struct cpx_rec_epoll *e, const struct cpx_rec_epoll_item *it)
{
	return (it->flags & CPX_EPOLL_SPENT) || (!e->ready && (it->events & EPOLLET));
}

static int fill(struct cpx_rst *r, const struct cpx_rec_epoll *e, int set, bool quiet)
{
	cpx_state_each(r->st, epoll_item, it) {
		struct epoll_event ev = { .events = it->events, .data.u64 = it->data };
		int file, rc;

		if (it->epoll != e->id || silent(e, it) != quiet)
			continue;
		if (it->flags & CPX_EPOLL_SPENT)
			ev.events |= EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP;
		file = cpx_rst_ofd_fd(r, it->ofd, NULL);
		if (file < 0 || it->fd >= INT32_MAX)
			return EBADF;
		rc = add(set, file, (int)it->fd, &ev);
		if (rc)
			return rc;
	}
	if (quiet)
		read_off(set);
	return 0;
}

/* The helper's work. Return: 0 or errno. */
static int fill_all(struct cpx_rst *r, const int *depth)
{
	struct rlimit lim;

	if (!getrlimit(RLIMIT_NOFILE, &lim)) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	for (int level = 0; level <= DEPTH_MAX; level++) {
		long n = 0;

		cpx_state_each(r->st, epoll, e) {
			int set, rc;

			if (depth[n++] != level)
				continue;
			set = cpx_rst_ofd_fd(r, e->id, NULL);
			if (set < 0)
				return EBADF;
			rc = fill(r, e, set, true);
			if (!rc)
				rc = fill(r, e, set, false);
			if (rc)
				return rc;
		}
	}
	return 0;
}

/* Everything the sets refer to is opened before the fork, so that it is the conductor's. */
static int open_all(struct cpx_rst *r, struct cpx_err *err)
{
	cpx_state_each(r->st, epoll, e) {
		int fd = cpx_rst_ofd_fd(r, e->id, err);

		if (fd < 0)
			return fd;
	}
	cpx_state_each(r->st, epoll_item, it) {
		int fd = cpx_rst_ofd_fd(r, it->ofd, err);

		if (fd < 0)
			return fd;
	}
	return 0;
}

int cpx_rst_epolls(struct cpx_rst *r, struct cpx_err *err)
{
	CPX_AUTO_FREE int *depth = NULL;
	int status, rc;
	pid_t pid;

	if (!cpx_state_count(r->st, CPX_REC_epoll_item))
		return 0;
	rc = open_all(r, err);
	if (rc < 0)
		return rc;
	depth = depths(r);
	if (!depth)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	pid = fork();
	if (!pid)
		_exit(fill_all(r, depth));
	if (pid < 0)
		return cpx_err_sys(err, errno, "fork");
	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return cpx_err_sys(err, errno, "waiting for the epoll helper");
	if (!WIFEXITED(status))
		return cpx_err_set(err, CPX_E_SYS, "the epoll helper was killed");
	if (WEXITSTATUS(status))
		return cpx_err_sys(err, WEXITSTATUS(status), "adding to an epoll set");
	return 0;
}
