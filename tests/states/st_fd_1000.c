/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thousand descriptors of many kinds. */
#include "state.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct rlimit lim = { 4096, 4096 };
	int n = 0, fd[1000], peer[2];
	char name[32], buf[64];
	uint64_t v;

	st_begin(argc, argv);
	ST_SYS(setrlimit(RLIMIT_NOFILE, &lim));
	while (n < 1000)
		switch (n % 4) {
		case 0:
			snprintf(name, sizeof(name), "f%d", n);
			fd[n] = ST_SYS(open(st_path(name), O_RDWR | O_CREAT, 0600));
			ST_SYS(write(fd[n], name, strlen(name)));
			n++;
			break;
		case 1:
			fd[n] = ST_SYS(eventfd((unsigned)n, EFD_NONBLOCK));
			n++;
			break;
		default:
			if (n % 8 < 4)
				ST_SYS(pipe(peer));
			else
				ST_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, peer));
			fd[n++] = peer[0];
			fd[n++] = peer[1];
			ST_SYS(write(peer[1], &n, sizeof(n)));
		}
	st_wait();
	for (int i = 0; i < 1000; i++) {
		int got = 0;

		if (i % 4 == 0) {
			snprintf(name, sizeof(name), "f%d", i);
			memset(buf, 0, sizeof(buf));
			ST_OK(pread(fd[i], buf, sizeof(buf), 0));
			ST_STR(buf, name);
		} else if (i % 4 == 1) {
			ST_EQ(read(fd[i], &v, 8), 8);
			ST_EQ(v, i);
		} else if (i % 4 == 2) {
			ST_EQ(read(fd[i], &got, sizeof(got)), sizeof(got));
			ST_EQ(got, i + 2);
		}
	}
	return st_end();
}
