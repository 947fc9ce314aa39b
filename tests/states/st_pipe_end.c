/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A writer ends when the trigger comes, and its reader has to hear of it at once; also a lock
 * is let go. */
#include "state.h"

#include <sys/file.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	int64_t begin;
	int fd[2], lock;
	char c, *p;
	pid_t pid;

	st_begin(argc, argv);
	ST_SYS(pipe(fd));
	lock = ST_SYS(open(st_path("lock"), O_RDWR | O_CREAT, 0600));
	p = ST_SYS((char *)mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	st_fill(p, 8 << 20, 1);
	pid = st_fork();
	if (pid == 0) {
		int mine = open(st_path("lock"), O_RDWR);

		close(fd[0]);
		close(lock);
		flock(mine, LOCK_EX);
		while (!st_gone())
			st_sleep_ms(2);
		_exit(0);
	}
	close(fd[1]);
	st_wait();
	begin = st_now_ns(CLOCK_MONOTONIC);
	ST_EQ(read(fd[0], &c, 1), 0);
	ST_EQ(flock(lock, LOCK_EX), 0);
	ST_EQ(st_reap(pid), 0);
	ST_CHECK(st_now_ns(CLOCK_MONOTONIC) - begin < 1000000000, "it took %lld ms",
		 (long long)(st_now_ns(CLOCK_MONOTONIC) - begin) / 1000000);
	return st_end();
}
