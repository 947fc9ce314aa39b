/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TCP inside the tree: established connections with data in flight, options, half closed ones.
 */
#include "state.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static void couple(int family, int out[2])
{
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6,
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in a4 = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr *a = family == AF_INET ? (void *)&a4 : (void *)&a6;
	socklen_t len = family == AF_INET ? sizeof(a4) : sizeof(a6);
	int srv = ST_SYS(socket(family, SOCK_STREAM, 0));

	ST_SYS(bind(srv, a, len));
	ST_SYS(listen(srv, 4));
	ST_SYS(getsockname(srv, a, &len));
	out[0] = ST_SYS(socket(family, SOCK_STREAM, 0));
	ST_SYS(connect(out[0], a, len));
	out[1] = ST_SYS(accept(srv, NULL, NULL));
	close(srv);
}

static void drain(int fd, const char *want, size_t len)
{
	char *now = malloc(len);
	size_t n = 0;

	while (n < len) {
		ssize_t r = read(fd, now + n, len - n);

		ST_CHECK(r > 0, "read: %zd at %zu: %s", r, n, strerror(errno));
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	ST_CHECK(n == len && !memcmp(now, want, len), "data in flight");
	free(now);
}

int main(int argc, char **argv)
{
	const size_t len = 100000;
	char *big = malloc(len), buf[64];
	int c[2], half[2], six[2], one = 1, val = 0;
	socklen_t sl = sizeof(val);
	pid_t pid;

	st_begin(argc, argv);
	couple(AF_INET, c);
	couple(AF_INET, half);
	couple(AF_INET, six);
	st_fill(big, len, 6);
	ST_EQ(write(c[0], big, len), len);
	ST_SYS(write(c[1], "back", 4));
	ST_SYS(setsockopt(c[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	ST_SYS(setsockopt(c[1], SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)));
	ST_SYS(write(half[0], "end", 3));
	ST_SYS(shutdown(half[0], SHUT_WR));
	pid = st_fork();
	if (pid == 0) {
		close(six[0]);
		_exit(read(six[1], buf, sizeof(buf)) == 4 && write(six[1], "answer", 6) == 6 &&
				      read(six[1], buf, 1) == 0
			      ? 0
			      : 1);
	}
	close(six[1]);
	st_wait();
	drain(c[1], big, len);
	drain(c[0], "back", 4);
	ST_OK(getsockopt(c[0], IPPROTO_TCP, TCP_NODELAY, &val, &sl));
	ST_EQ(val, 1);
	val = 0;
	ST_OK(getsockopt(c[1], SOL_SOCKET, SO_KEEPALIVE, &val, &sl));
	ST_EQ(val, 1);
	ST_EQ(write(c[0], big, 1000), 1000);
	drain(c[1], big, 1000);
	drain(half[1], "end", 3);
	ST_EQ(read(half[1], buf, 1), 0);
	ST_EQ(write(half[1], "still", 5), 5);
	drain(half[0], "still", 5);
	ST_EQ(write(six[0], "ping", 4), 4);
	ST_EQ(read(six[0], buf, sizeof(buf)), 6);
	close(six[0]);
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
