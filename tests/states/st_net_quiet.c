/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking at sockets does not change them: empty datagrams are kept; net_quiet DIR error: an
 * error that waits is still told to a job that was left running (a restart may lose it, as the
 * network may); net_quiet DIR urgent: what was sent with MSG_OOB, which may be refused.
 */
#include "state.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

static void error_waits(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	int tmp = ST_SYS(socket(AF_INET, SOCK_DGRAM, 0));
	int fd = ST_SYS(socket(AF_INET, SOCK_DGRAM, 0));
	char c;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ST_SYS(bind(tmp, (void *)&a, sizeof(a)));
	ST_SYS(getsockname(tmp, (void *)&a, &len));
	close(tmp);
	ST_SYS(connect(fd, (void *)&a, sizeof(a)));
	ST_SYS(send(fd, "x", 1, 0));
	st_sleep_ms(50);
	st_wait();
	ST_EQ(recv(fd, &c, 1, MSG_DONTWAIT), -1);
	ST_EQ(errno, ECONNREFUSED);
}

static void empty_ones(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	int un[2], s = ST_SYS(socket(AF_INET, SOCK_DGRAM, 0));
	int c = ST_SYS(socket(AF_INET, SOCK_DGRAM, 0));
	char b[8];

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ST_SYS(bind(s, (void *)&a, sizeof(a)));
	ST_SYS(getsockname(s, (void *)&a, &len));
	ST_SYS(connect(c, (void *)&a, sizeof(a)));
	ST_SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, un));
	for (int i = 0; i < 4; i++) { /* 0, 1, 0, 1 bytes */
		ST_SYS(send(c, "x", i % 2, 0));
		ST_SYS(send(un[0], "x", i % 2, 0));
	}
	st_wait();
	for (int i = 0; i < 4; i++) {
		ST_EQ(recv(s, b, sizeof(b), MSG_DONTWAIT), i % 2);
		ST_EQ(recv(un[1], b, sizeof(b), MSG_DONTWAIT), i % 2);
	}
}

static void urgent(void)
{
	int fd[2];
	char b[8];

	ST_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	if (send(fd[0], "ab!", 3, MSG_OOB) != 3)
		st_skip("no MSG_OOB on unix sockets here: %s", strerror(errno));
	ST_SYS(write(fd[0], "cd", 2));
	st_wait();
	ST_EQ(recv(fd[1], b, sizeof(b), MSG_OOB), 1);
	ST_EQ(b[0], '!');
	ST_EQ(recv(fd[1], b, sizeof(b), MSG_DONTWAIT), 2);
	ST_EQ(recv(fd[1], b, sizeof(b), MSG_DONTWAIT), 2);
}

int main(int argc, char **argv)
{
	char **args = st_begin(argc, argv);

	if (args[0] && !strcmp(args[0], "urgent"))
		urgent();
	else if (args[0])
		error_waits();
	else
		empty_ones();
	return st_end();
}
