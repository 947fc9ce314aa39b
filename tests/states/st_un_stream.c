/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unix stream sockets: data in flight both ways, options, half closed, peer gone, ends in two
 * processes. */
#include "state.h"

#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv)
{
	int a[2], half[2], dead[2], fam[2], val = 0;
	struct ucred cred;
	socklen_t len;
	char buf[64], *big = malloc(60000), *now = malloc(60000);
	pid_t pid;

	st_begin(argc, argv);
	ST_SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a));
	ST_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, half));
	ST_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, dead));
	ST_SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fam));
	st_fill(big, 60000, 3);
	ST_EQ(write(a[0], big, 60000), 60000);
	ST_SYS(write(a[1], "back", 4));
	val = 333333;
	ST_SYS(setsockopt(a[0], SOL_SOCKET, SO_SNDBUF, &val, sizeof(val)));
	val = 1;
	ST_SYS(setsockopt(a[1], SOL_SOCKET, SO_PASSCRED, &val, sizeof(val)));
	ST_SYS(write(half[0], "end", 3));
	ST_SYS(shutdown(half[0], SHUT_WR));
	ST_SYS(write(dead[0], "legacy", 6));
	close(dead[0]);
	pid = st_fork();
	if (pid == 0) {
		close(fam[0]);
		fcntl(fam[1], F_SETFL, 0);
		if (read(fam[1], buf, sizeof(buf)) != 2 || write(fam[1], "yo", 2) != 2)
			_exit(1);
		_exit(read(fam[1], buf, 1) == 0 ? 0 : 2);
	}
	close(fam[1]);
	st_wait();
	ST_EQ(fcntl(a[0], F_GETFD), FD_CLOEXEC);
	for (int n = 0; n < 60000;) {
		ssize_t r = read(a[1], now + n, (size_t)(60000 - n));

		ST_CHECK(r > 0, "read %zd at %d", r, n);
		if (r <= 0)
			break;
		n += (int)r;
	}
	ST_CHECK(!memcmp(now, big, 60000), "data in flight");
	ST_EQ(read(a[0], buf, sizeof(buf)), 4);
	len = sizeof(val);
	ST_OK(getsockopt(a[0], SOL_SOCKET, SO_SNDBUF, &val, &len));
	ST_TRUE(val == 666666 || val == 2 * 212992);
	len = sizeof(val);
	ST_OK(getsockopt(a[1], SOL_SOCKET, SO_PASSCRED, &val, &len));
	ST_EQ(val, 1);
	len = sizeof(cred);
	ST_OK(getsockopt(a[0], SOL_SOCKET, SO_PEERCRED, &cred, &len));
	ST_EQ(cred.pid, getpid());
	ST_EQ(cred.uid, geteuid());
	ST_EQ(read(half[1], buf, sizeof(buf)), 3);
	ST_EQ(read(half[1], buf, sizeof(buf)), 0);
	ST_EQ(send(half[0], "x", 1, MSG_NOSIGNAL), -1);
	ST_EQ(write(half[1], "still", 5), 5);
	ST_EQ(read(half[0], buf, sizeof(buf)), 5);
	ST_EQ(read(dead[1], buf, sizeof(buf)), 6);
	ST_EQ(read(dead[1], buf, sizeof(buf)), 0);
	ST_EQ(send(dead[1], "x", 1, MSG_NOSIGNAL), -1);
	ST_EQ(errno, EPIPE);
	ST_EQ(write(fam[0], "hi", 2), 2);
	st_sleep_ms(50);
	ST_EQ(read(fam[0], buf, sizeof(buf)), 2);
	close(fam[0]);
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
