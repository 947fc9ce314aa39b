/* SPDX-License-Identifier: GPL-2.0-or-later */
/* epoll watching a file whose number was closed here but lives on in a duplicate; data differs
 * per number. */
#include "state.h"

#include <sys/epoll.h>

int main(int argc, char **argv)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 5 }, got = { 0 };
	int ep, fd[2], keep;

	st_begin(argc, argv);
	ep = ST_SYS(epoll_create1(0));
	ST_SYS(pipe(fd));
	keep = ST_SYS(dup(fd[0]));
	ST_SYS(epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e));
	close(fd[0]); /* still watched: the description lives on in keep */
	ST_SYS(write(fd[1], "x", 1));
	st_wait();
	ST_EQ(epoll_wait(ep, &got, 1, 0), 1);
	ST_EQ(got.data.u64, 5);
	ST_TRUE(keep >= 0);
	return st_end();
}
