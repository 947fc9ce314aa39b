/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Five thousand descriptors with gaps, close-on-exec here and there, some above a limit lowered
 * since. */
#include "state.h"

#include <sys/resource.h>
#include <sys/stat.h>

#define N 5000

/* Numbers with gaps of all sizes; ascending. */
static int number(int i)
{
	return 20 + i + i / 3 + (i / 1000) * 700;
}

int main(int argc, char **argv)
{
	struct rlimit lim;
	int base, next = 0, top = number(N - 1) + 1;
	struct stat st, want;

	st_begin(argc, argv);
	ST_SYS(getrlimit(RLIMIT_NOFILE, &lim));
	if (lim.rlim_max < (rlim_t)top)
		st_skip("only %llu descriptors allowed", (unsigned long long)lim.rlim_max);
	lim.rlim_cur = lim.rlim_max;
	ST_SYS(setrlimit(RLIMIT_NOFILE, &lim));
	base = ST_SYS(open(st_path("f"), O_RDWR | O_CREAT, 0600));
	ST_SYS(ftruncate(base, N + 1));
	ST_SYS(fstat(base, &want));
	for (int i = 0; i < N; i++) {
		int fd = i % 5 ? base : ST_SYS(open(st_path("f"), O_RDONLY));

		if (i % 5 == 0)
			ST_SYS(lseek(fd, i, SEEK_SET));
		ST_SYS(dup3(fd, number(i), i % 7 == 3 ? O_CLOEXEC : 0));
		if (i % 5 == 0)
			close(fd);
	}
	lim.rlim_cur = 100;
	ST_SYS(setrlimit(RLIMIT_NOFILE, &lim));
	st_wait();
	for (int fd = 20; fd <= top; fd++) {
		bool there = next < N && fd == number(next);
		int flags = fcntl(fd, F_GETFD), i = next;

		next += there;
		if (!there) {
			ST_CHECK(fd == base || flags == -1, "fd %d has appeared", fd);
			continue;
		}
		if (flags < 0 || (flags & FD_CLOEXEC) != (i % 7 == 3) || fstat(fd, &st) < 0 ||
		    st.st_ino != want.st_ino || (i % 5 == 0 && lseek(fd, 0, SEEK_CUR) != i)) {
			ST_CHECK(false, "fd %d differs", fd);
			break;
		}
	}
	ST_EQ(next, N);
	ST_SYS(lseek(base, 4321, SEEK_SET));
	ST_EQ(lseek(number(1), 0, SEEK_CUR), 4321);
	ST_EQ(lseek(number(N - 1), 0, SEEK_CUR), 4321);
	ST_SYS(getrlimit(RLIMIT_NOFILE, &lim));
	ST_EQ(lim.rlim_cur, 100);
	return st_end();
}
