/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pipes: contents, size, packet mode, flags, ends in different processes, end of file. */
#include "state.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	static char big[200000], now[200000];
	int plain[2], large[2], packet[2], eof[2], broken[2], mine[2], theirs[2], n = 0;
	pid_t pid;
	char buf[64];

	st_begin(argc, argv);
	ST_SYS(pipe2(plain, O_CLOEXEC));
	ST_SYS(pipe2(large, O_NONBLOCK));
	ST_SYS(pipe2(packet, O_DIRECT));
	ST_SYS(pipe(eof));
	ST_SYS(pipe(broken));
	ST_SYS(pipe(mine));
	ST_SYS(pipe(theirs));
	ST_SYS(write(plain[1], "hello", 5));
	ST_SYS(fcntl(large[1], F_SETPIPE_SZ, 1 << 18));
	st_fill(big, sizeof(big), 8);
	ST_EQ(write(large[1], big, sizeof(big)), sizeof(big));
	ST_EQ(read(large[0], big, 5000), 5000); /* does not start at a page */
	ST_SYS(write(packet[1], "one", 3));
	ST_SYS(write(packet[1], "three", 5));
	ST_SYS(write(eof[1], "last words", 10));
	close(eof[1]);
	close(broken[0]);
	pid = st_fork();
	if (pid == 0) {
		close(mine[1]);
		close(theirs[0]);
		n = (int)read(mine[0], buf, sizeof(buf));
		if (n != 4 || memcmp(buf, "ping", 4) != 0 || write(theirs[1], "pong", 4) != 4)
			_exit(1);
		close(theirs[1]);
		_exit(read(mine[0], buf, 1) == 0 ? 0 : 2);
	}
	close(mine[0]);
	close(theirs[1]);
	signal(SIGPIPE, SIG_IGN);
	st_wait();
	ST_EQ(read(plain[0], buf, sizeof(buf)), 5);
	ST_EQ(fcntl(plain[0], F_GETFD), FD_CLOEXEC);
	ST_EQ(fcntl(large[0], F_GETPIPE_SZ), 1 << 18);
	ST_OK(ioctl(large[0], FIONREAD, &n));
	ST_EQ(n, sizeof(big) - 5000);
	st_fill(big, sizeof(big), 8);
	for (n = 0; n < (int)sizeof(big) - 5000;) {
		ssize_t r = read(large[0], now + n, sizeof(now) - (size_t)n);

		ST_CHECK(r > 0, "large pipe: %zd at %d", r, n);
		if (r <= 0)
			break;
		n += (int)r;
	}
	ST_CHECK(!memcmp(now, big + 5000, sizeof(big) - 5000), "content of the large pipe");
	ST_EQ(read(large[0], buf, 1), -1);
	ST_EQ(errno, EAGAIN);
	ST_EQ(read(packet[0], buf, sizeof(buf)), 3);
	ST_EQ(read(packet[0], buf, sizeof(buf)), 5);
	ST_TRUE(fcntl(packet[1], F_GETFL) & O_DIRECT);
	ST_EQ(write(packet[1], "a", 1) + write(packet[1], "b", 1), 2);
	ST_EQ(read(packet[0], buf, sizeof(buf)), 1);
	ST_EQ(read(eof[0], buf, sizeof(buf)), 10);
	ST_EQ(read(eof[0], buf, sizeof(buf)), 0);
	ST_EQ(write(broken[1], "x", 1), -1);
	ST_EQ(errno, EPIPE);
	ST_EQ(write(mine[1], "ping", 4), 4);
	ST_EQ(read(theirs[0], buf, sizeof(buf)), 4);
	ST_EQ(read(theirs[0], buf, sizeof(buf)), 0);
	close(mine[1]);
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
