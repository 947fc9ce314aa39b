/* SPDX-License-Identifier: GPL-2.0-or-later */
/* eventfd: counter, semaphore mode, flags, shared with a child. */
#include "state.h"

#include <sys/eventfd.h>

int main(int argc, char **argv)
{
	uint64_t v = 0;
	int a, s, z;
	volatile int *go;
	pid_t pid;

	st_begin(argc, argv);
	go = st_shared(4096);
	a = ST_SYS(eventfd(123456, EFD_NONBLOCK | EFD_CLOEXEC));
	s = ST_SYS(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK));
	z = ST_SYS(eventfd(0, 0));
	v = 0xfffffffffffffff0ULL;
	int m = ST_SYS(eventfd(0, EFD_NONBLOCK));
	ST_SYS(write(m, &v, 8));
	pid = st_fork();
	if (pid == 0) {
		st_until(go);
		v = 9;
		_exit(write(z, &v, 8) == 8 ? 0 : 1);
	}
	st_wait();
	ST_EQ(fcntl(a, F_GETFD), FD_CLOEXEC);
	ST_EQ(read(a, &v, 8), 8);
	ST_EQ(v, 123456);
	ST_EQ(read(a, &v, 8), -1);
	for (int i = 0; i < 3; i++) {
		ST_EQ(read(s, &v, 8), 8);
		ST_EQ(v, 1);
	}
	ST_EQ(read(s, &v, 8), -1);
	ST_EQ(read(m, &v, 8), 8);
	ST_EQ(v, 0xfffffffffffffff0ULL);
	*go = 1;
	ST_EQ(read(z, &v, 8), 8);
	ST_EQ(v, 9);
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
