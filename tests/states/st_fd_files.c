/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Regular files in all modes: number, offset, flags, close-on-exec, owner and signal. */
#include "state.h"

#include <signal.h>

static const struct {
	int flags, num;
	off_t pos;
} kinds[] = {
	{ O_RDONLY, 3, 0 },
	{ O_RDONLY | O_NONBLOCK, 7, 12345 },
	{ O_WRONLY, 8, 999999 },
	{ O_RDWR | O_CLOEXEC, 20, 77 },
	{ O_RDWR | O_APPEND, 21, 5 },
	{ O_WRONLY | O_APPEND | O_CLOEXEC, 99, 0 },
	{ O_RDWR | O_SYNC, 100, 1 },
	{ O_RDONLY | O_NOATIME, 101, 2 },
	{ O_RDWR | O_DIRECT, 250, 4096 },
	{ O_WRONLY | O_DSYNC | O_NONBLOCK, 900, 100 },
};
#define N (sizeof(kinds) / sizeof(kinds[0]))

int main(int argc, char **argv)
{
	int flags[N];
	char name[32], buf[64];
	struct f_owner_ex own = { F_OWNER_PID, 0 };

	st_begin(argc, argv);
	for (size_t i = 0; i < N; i++) {
		int fd, n;

		snprintf(name, sizeof(name), "file%zu", i);
		fd = ST_SYS(open(st_path(name), O_RDWR | O_CREAT | O_TRUNC, 0640));
		for (int k = 0; k < 1000; k++) {
			n = snprintf(buf, sizeof(buf), "line %d of %s\n", k, name);
			ST_SYS(write(fd, buf, (size_t)n));
		}
		close(fd);
		fd = ST_SYS(open(st_path(name), kinds[i].flags));
		if (fd != kinds[i].num) {
			ST_SYS(dup3(fd, kinds[i].num, kinds[i].flags & O_CLOEXEC));
			close(fd);
		}
		ST_SYS(lseek(kinds[i].num, kinds[i].pos, SEEK_SET));
		flags[i] = ST_SYS(fcntl(kinds[i].num, F_GETFL));
	}
	own.pid = getpid();
	ST_SYS(fcntl(7, F_SETOWN_EX, &own));
	ST_SYS(fcntl(7, F_SETSIG, SIGRTMIN + 3));
	st_wait();
	for (size_t i = 0; i < N; i++) {
		int fd = kinds[i].num;

		ST_CHECK(fcntl(fd, F_GETFL) == flags[i], "flags of %d: %#x, were %#x", fd,
			 (unsigned)fcntl(fd, F_GETFL), (unsigned)flags[i]);
		ST_CHECK(fcntl(fd, F_GETFD) == (kinds[i].flags & O_CLOEXEC ? FD_CLOEXEC : 0),
			 "close-on-exec of %d", fd);
		ST_CHECK(lseek(fd, 0, SEEK_CUR) == kinds[i].pos, "offset of %d is %lld", fd,
			 (long long)lseek(fd, 0, SEEK_CUR));
	}
	ST_EQ(fcntl(4, F_GETFD), -1);
	memset(&own, 0, sizeof(own));
	ST_OK(fcntl(7, F_GETOWN_EX, &own));
	ST_EQ(own.type, F_OWNER_PID);
	ST_EQ(own.pid, getpid());
	ST_EQ(fcntl(7, F_GETSIG), SIGRTMIN + 3);
	ST_EQ(pread(20, buf, 10, 0), 10);
	ST_CHECK(!memcmp(buf, "line 0 of ", 10), "content");
	ST_EQ(write(21, "end", 3), 3); /* goes to the end in spite of the offset */
	ST_EQ(lseek(21, 0, SEEK_CUR), lseek(21, 0, SEEK_END));
	ST_EQ(read(8, buf, 1), -1);
	ST_EQ(write(3, buf, 1), -1);
	return st_end();
}
