/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The harmless devices. */
#include "state.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

int main(int argc, char **argv)
{
	static const char *const names[] = { "/dev/null", "/dev/zero", "/dev/full",
					     "/dev/random", "/dev/urandom" };
	struct stat before[5], now;
	int fd[5];
	char buf[8];

	st_begin(argc, argv);
	for (int i = 0; i < 5; i++) {
		fd[i] = ST_SYS(open(names[i], i < 3 ? O_RDWR : O_RDONLY));
		ST_SYS(fstat(fd[i], &before[i]));
	}
	st_wait();
	for (int i = 0; i < 5; i++) {
		ST_OK(fstat(fd[i], &now));
		ST_EQ(now.st_rdev, before[i].st_rdev);
	}
	ST_EQ(read(fd[0], buf, 8), 0);
	ST_EQ(read(fd[1], buf, 8), 8);
	ST_EQ(write(fd[2], buf, 8), -1);
	ST_EQ(errno, ENOSPC);
	ST_EQ(read(fd[4], buf, 8), 8);
	return st_end();
}
