/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rst_sock.c - what all sockets have: records, options, room in the queues. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/filter.h>

#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "rst_sock.h"

const struct cpx_rec_sock *cpx_sock_rec(const struct cpx_rst *r, uint32_t id)
{
	size_t i = SIZE_MAX;

	return cpx_ipc_next(r, CPX_BY_SOCK, id, &i);
}

int cpx_sock_made(struct cpx_rst *r, uint32_t id)
{
	const struct cpx_rec_sock *rec = cpx_sock_rec(r, id);
	const struct cpx_ipc_made *m = rec ? cpx_ipc_made_find(r, rec, 0) : NULL;

	return m ? m->fd : -1;
}

void cpx_sock_widen(int fd, size_t bytes)
{
	int size = bytes > INT_MAX / 16 ? INT_MAX / 2 : (int)(bytes * 4 + (1u << 20));

	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
}

int cpx_sock_new(struct cpx_rst *r, int family, int type, int proto, struct cpx_err *err)
{
	char path[48];
	CPX_AUTO_FD theirs = -1, ours = -1;
	struct stat a, b;
	bool moved = false;
	int fd, sys;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)r->tasks[0].pid);
	theirs = open(path, O_RDONLY | O_CLOEXEC);
	ours = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (theirs >= 0 && ours >= 0 && !fstat(theirs, &a) && !fstat(ours, &b) &&
	    a.st_ino != b.st_ino) {
		if (setns(theirs, CLONE_NEWNET))
			return cpx_err_sys(err, errno, "entering the job's network namespace");
		moved = true;
	}
	fd = socket(family, type | SOCK_CLOEXEC, proto);
	sys = errno;
	if (moved && setns(ours, CLONE_NEWNET))
		abort(); /* nothing may go on in a namespace that is not ours */
	return fd < 0 ? cpx_err_sys(err, sys, "socket") : fd;
}

/* Join the group; a filter that is more than that is set behind it. */
static int join_group(int fd, const struct cpx_rec_sockopt *o)
{
	struct group_filter gf;
	struct group_req req;

	if (o->value.n < GROUP_FILTER_SIZE(0)) {
		errno = EINVAL;
		return -1;
	}
	memset(&gf, 0, sizeof(gf));
	memcpy(&gf, o->value.p, GROUP_FILTER_SIZE(0));
	if (o->value.n != GROUP_FILTER_SIZE(gf.gf_numsrc)) {
		errno = EINVAL;
		return -1;
	}
	memset(&req, 0, sizeof(req));
	req.gr_interface = gf.gf_interface;
	req.gr_group = gf.gf_group;
	if (setsockopt(fd, (int)o->level, MCAST_JOIN_GROUP, &req, sizeof(req)) &&
	    errno != EADDRINUSE)
		return -1;
	if (gf.gf_fmode == MCAST_EXCLUDE && !gf.gf_numsrc)
		return 0;
	return setsockopt(fd, (int)o->level, MCAST_MSFILTER, o->value.p, o->value.n);
}

static int set_filter(int fd, const struct cpx_rec_sockopt *o)
{
	struct sock_fprog prog = { .len = (unsigned short)(o->value.n /
							   sizeof(struct sock_filter)),
				   .filter = (struct sock_filter *)o->value.p };

	if (o->value.n % sizeof(struct sock_filter) ||
	    o->value.n / sizeof(struct sock_filter) > BPF_MAXINSNS) {
		errno = EINVAL;
		return -1;
	}
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

/* The kernel doubles what it is given. */
static int set_buffer(int fd, int opt, const struct cpx_rec_sockopt *o)
{
	int size, force = opt == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;

	if (o->value.n != sizeof(size))
		return -1;
	memcpy(&size, o->value.p, sizeof(size));
	size /= 2;
	if (!setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size)))
		return 0;
	return setsockopt(fd, SOL_SOCKET, opt, &size, sizeof(size));
}

/* An option that this older kernel does not know, at "off" (0, or -1 for SO_PEEK_OFF). */
static bool unknown_and_off(int sys, const struct cpx_blob *value)
{
	const uint8_t *v = value->p;

	if (sys != ENOPROTOOPT && sys != EOPNOTSUPP)
		return false;
	for (uint32_t i = 0; i < value->n; i++)
		if (v[i] != v[0] || (v[i] != 0 && v[i] != 0xff))
			return false;
	return true;
}

static int set_opts(struct cpx_rst *r, uint32_t id, int fd, struct cpx_err *err)
{
	cpx_ipc_each(r, CPX_BY_OPT, id, sockopt, o)
	{
		uint8_t now[256];
		socklen_t len = sizeof(now);
		int rc;

		/* a bound socket's cannot change any more; set before, by rst_inet.c */
		if (o->level == IPPROTO_IPV6 && o->opt == IPV6_V6ONLY)
			continue;
		if (o->level == SOL_SOCKET && o->opt == SO_ATTACH_FILTER) {
			if (set_filter(fd, o))
				return cpx_err_sys(err, errno, "socket filter");
			continue;
		}
		if (o->opt == MCAST_MSFILTER &&
		    (o->level == IPPROTO_IP || o->level == IPPROTO_IPV6)) {
			if (join_group(fd, o))
				return cpx_err_sys(err, errno, "multicast group");
			continue;
		}
		if (!getsockopt(fd, (int)o->level, (int)o->opt, now, &len) &&
		    len == o->value.n && !memcmp(now, o->value.p, len))
			continue;
		if (o->level == SOL_SOCKET && (o->opt == SO_SNDBUF || o->opt == SO_RCVBUF))
			rc = set_buffer(fd, (int)o->opt, o);
		else
			rc = setsockopt(fd, (int)o->level, (int)o->opt, o->value.p, o->value.n);
		if (rc && !unknown_and_off(errno, &o->value))
			return cpx_err_sys(err, errno, "socket option %u of level %u", o->opt,
					   o->level);
	}
	return 0;
}

int cpx_sock_set_opts(struct cpx_rst *r, uint32_t id, int fd, struct cpx_err *err)
{
	int rc;

	if (r->opts->trusted)
		return set_opts(r, id, fd, err);
	rc = cpx_ipc_drop(r, err);
	if (rc < 0)
		return rc;
	rc = set_opts(r, id, fd, err);
	cpx_ipc_undrop(r);
	return rc;
}
