/* SPDX-License-Identifier: GPL-2.0-or-later */
/* epoll: what is watched with its data, nested, edge-triggered, one-shot used up, exclusive, a
 * closed one. */
#include "state.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

static void add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = { .events = events, .data.u64 = data };

	ST_SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

/* Bits of the data words of what is ready now. */
static uint64_t ready(int ep)
{
	struct epoll_event e[16];
	int n = epoll_wait(ep, e, 16, 0);
	uint64_t set = 0;

	ST_TRUE(n >= 0);
	for (int i = 0; i < n; i++)
		set |= e[i].data.u64;
	return set;
}

int main(int argc, char **argv)
{
	const uint64_t high = 1ULL << 60;
	int ep, inner, lvl, et, et_used, shot, shot_used, quiet, dupped, excl;
	uint64_t one = 1;

	st_begin(argc, argv);
	ep = ST_SYS(epoll_create1(EPOLL_CLOEXEC));
	inner = ST_SYS(epoll_create1(0));
	lvl = ST_SYS(eventfd(1, EFD_NONBLOCK));
	et = ST_SYS(eventfd(0, EFD_NONBLOCK));
	et_used = ST_SYS(eventfd(1, EFD_NONBLOCK));
	shot = ST_SYS(eventfd(0, EFD_NONBLOCK));
	shot_used = ST_SYS(eventfd(1, EFD_NONBLOCK));
	quiet = ST_SYS(eventfd(0, EFD_NONBLOCK));
	excl = ST_SYS(eventfd(0, EFD_NONBLOCK));
	dupped = ST_SYS(dup(quiet));
	add(ep, lvl, EPOLLIN, 1 | high);
	add(ep, et, EPOLLIN | EPOLLET, 2);
	add(ep, et_used, EPOLLIN | EPOLLET, 4);
	add(ep, shot, EPOLLIN | EPOLLONESHOT, 8);
	add(ep, shot_used, EPOLLIN | EPOLLONESHOT, 16);
	add(ep, inner, EPOLLIN, 32);
	add(inner, quiet, EPOLLIN, 64);
	add(ep, dupped, EPOLLIN, 128); /* the same file twice, by two numbers */
	add(ep, excl, EPOLLIN | EPOLLEXCLUSIVE, 256);
	ST_EQ(ready(ep), 1 | 4 | 16 | high); /* uses up the edge and the one-shot */
	st_wait();
	ST_EQ(fcntl(ep, F_GETFD), FD_CLOEXEC);
	/* an edge may be told again (a spurious one is allowed), a used one-shot not */
	ST_EQ(ready(ep) & ~4ULL, 1 | high);
	ST_EQ(ready(ep), 1 | high);
	ST_EQ(write(et, &one, 8), 8);
	ST_EQ(ready(ep), 1 | high | 2);
	ST_EQ(ready(ep), 1 | high);
	ST_EQ(write(shot, &one, 8), 8);
	ST_EQ(ready(ep), 1 | high | 8);
	ST_EQ(ready(ep), 1 | high);
	ST_EQ(write(quiet, &one, 8), 8);
	ST_EQ(ready(ep), 1 | high | 32 | 128);
	ST_EQ(ready(inner), 64);
	ST_EQ(write(excl, &one, 8), 8);
	ST_EQ(ready(ep), 1 | high | 32 | 128 | 256);
	ST_EQ(epoll_ctl(ep, EPOLL_CTL_DEL, lvl, NULL), 0);
	ST_EQ(ready(ep), 32 | 128 | 256);
	return st_end();
}
