/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A hundred processes, each with memory and a pipe of its own, in a chain and in a fan. */
#include "state.h"

#define N 100

int main(int argc, char **argv)
{
	volatile int *judge, *up;
	pid_t pid[N / 2];
	int status = 0;

	st_begin(argc, argv);
	judge = st_shared(4096);
	up = judge + 1;
	for (int i = 0; i < N / 2; i++) {
		pid[i] = st_fork();
		if (pid[i] == 0) { /* each has one child */
			char *p = malloc(50000), c;
			int fd[2];
			pid_t sub;

			st_fill(p, 50000, (uint64_t)i);
			ST_SYS(pipe(fd));
			sub = st_fork();
			if (sub == 0) {
				__sync_fetch_and_add(up, 1);
				st_until(judge);
				ST_EQ(write(fd[1], "x", 1), 1);
				_exit(i);
			}
			__sync_fetch_and_add(up, 1);
			ST_EQ(read(fd[0], &c, 1), 1);
			ST_CHECK(st_filled(p, 50000, (uint64_t)i), "memory of process %d", i);
			_exit(st_reap(sub));
		}
	}
	while (*up < N)
		st_sleep_ms(1);
	st_wait();
	*judge = 1;
	for (int i = 0; i < N / 2; i++) {
		status = st_reap(pid[i]);
		ST_EQ(status, i);
	}
	return st_end();
}
