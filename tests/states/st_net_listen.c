/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listening TCP sockets: address, options, a connection after the restart; one of IPv6; two
 * connections that were not accepted yet.
 */
#include "state.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* A listener that may not reuse its address, with a connection that it has accepted. */
static void plain(int fd[3], struct sockaddr_in *a)
{
	socklen_t len = sizeof(*a);

	fd[0] = ST_SYS(socket(AF_INET, SOCK_STREAM, 0));
	ST_SYS(bind(fd[0], (void *)a, sizeof(*a)));
	ST_SYS(listen(fd[0], 3));
	ST_SYS(getsockname(fd[0], (void *)a, &len));
	fd[1] = ST_SYS(socket(AF_INET, SOCK_STREAM, 0));
	ST_SYS(connect(fd[1], (void *)a, sizeof(*a)));
	fd[2] = ST_SYS(accept(fd[0], NULL, NULL));
}

static void queued(int fd[3], struct sockaddr_in *a)
{
	socklen_t len = sizeof(*a);

	fd[0] = ST_SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	ST_SYS(bind(fd[0], (void *)a, sizeof(*a)));
	ST_SYS(listen(fd[0], 3));
	ST_SYS(getsockname(fd[0], (void *)a, &len));
	for (int i = 1; i < 3; i++) {
		fd[i] = ST_SYS(socket(AF_INET, SOCK_STREAM, 0));
		ST_SYS(connect(fd[i], (void *)a, sizeof(*a)));
	}
}

static void accept_queued(const int fd[3])
{
	struct sockaddr_in client[3], from;
	char buf[8];

	for (int i = 1; i < 3; i++) {
		socklen_t len = sizeof(client[i]);

		ST_OK(getsockname(fd[i], (void *)&client[i], &len));
	}
	for (int i = 1; i < 3; i++) {
		socklen_t len = sizeof(from);
		int got = ST_OK(accept(fd[0], (void *)&from, &len));
		int of = from.sin_port == client[1].sin_port ? 1 : 2;

		ST_EQ(from.sin_port, client[of].sin_port);
		ST_EQ(write(got, "to", 2), 2);
		ST_EQ(read(fd[of], buf, sizeof(buf)), 2);
		ST_EQ(write(fd[of], "from", 4), 4);
		ST_EQ(read(got, buf, sizeof(buf)), 4);
		close(got);
	}
	ST_EQ(accept(fd[0], NULL, NULL), -1);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) },
			   now;
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6,
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	socklen_t len = sizeof(a);
	struct sockaddr_in a2 = a;
	struct sockaddr_in a3 = a;
	int p[3], q[3], s, s6, one = 1, val = 0, c, got;
	char buf[8];

	st_begin(argc, argv);
	s = ST_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	ST_SYS(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	ST_SYS(bind(s, (void *)&a, sizeof(a)));
	ST_SYS(listen(s, 11));
	ST_SYS(getsockname(s, (void *)&a, &len));
	s6 = socket(AF_INET6, SOCK_STREAM, 0);
	if (s6 >= 0 && (bind(s6, (void *)&a6, sizeof(a6)) != 0 || listen(s6, 3) != 0)) {
		close(s6);
		s6 = -1;
	}
	plain(p, &a2);
	queued(q, &a3);
	st_wait();
	accept_queued(q);
	ST_EQ(write(p[1], "to", 2), 2);
	ST_EQ(read(p[2], buf, 8), 2);
	c = ST_OK(socket(AF_INET, SOCK_STREAM, 0));
	ST_EQ(connect(c, (void *)&a2, sizeof(a2)), 0);
	got = ST_OK(accept(p[0], NULL, NULL));
	len = sizeof(now);
	ST_OK(getsockname(s, (void *)&now, &len));
	ST_EQ(now.sin_port, a.sin_port);
	len = sizeof(val);
	ST_OK(getsockopt(s, SOL_SOCKET, SO_REUSEADDR, &val, &len));
	ST_EQ(val, 1);
	ST_EQ(accept(s, NULL, NULL), -1);
	ST_EQ(errno, EAGAIN);
	c = ST_OK(socket(AF_INET, SOCK_STREAM, 0));
	ST_EQ(connect(c, (void *)&a, sizeof(a)), 0);
	got = ST_OK(accept(s, NULL, NULL));
	ST_EQ(write(c, "hello", 5), 5);
	ST_EQ(read(got, buf, 8), 5);
	if (s6 >= 0) {
		len = sizeof(a6);
		ST_OK(getsockname(s6, (void *)&a6, &len));
		c = ST_OK(socket(AF_INET6, SOCK_STREAM, 0));
		ST_EQ(connect(c, (void *)&a6, sizeof(a6)), 0);
		got = ST_OK(accept(s6, NULL, NULL));
	}
	return st_end();
}
