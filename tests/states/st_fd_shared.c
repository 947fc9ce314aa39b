/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Offsets shared after dup and fork stay shared; two opens of one file stay apart. */
#include "state.h"

#include <linux/kcmp.h>
#include <sys/syscall.h>

static long same(pid_t a, pid_t b, int fa, int fb)
{
	return syscall(SYS_kcmp, a, b, KCMP_FILE, fa, fb) == 0;
}

int main(int argc, char **argv)
{
	volatile int *go;
	int a, b, c, d;
	char buf[8];
	pid_t pid;

	st_begin(argc, argv);
	go = st_shared(4096);
	a = ST_SYS(open(st_path("file"), O_RDWR | O_CREAT | O_TRUNC, 0600));
	ST_SYS(write(a, "0123456789abcdefghij", 20));
	b = ST_SYS(dup(a));
	c = ST_SYS(open(st_path("file"), O_RDWR));
	d = ST_SYS(fcntl(c, F_DUPFD_CLOEXEC, 50));
	ST_SYS(lseek(a, 10, SEEK_SET));
	ST_SYS(lseek(c, 15, SEEK_SET));
	pid = st_fork();
	if (pid == 0) {
		close(b);
		st_until(go);
		_exit(read(a, buf, 2) == 2 && !memcmp(buf, "bc", 2) && read(d, buf, 1) == 1 &&
				      buf[0] == 'f'
			      ? 0
			      : 1);
	}
	st_sleep_ms(20);
	st_wait();
	ST_EQ(read(b, buf, 1), 1);
	ST_EQ(buf[0], 'a');
	ST_EQ(lseek(c, 0, SEEK_CUR), 15);
	*go = 1;
	ST_TRUE(same(getpid(), getpid(), a, b));
	ST_TRUE(same(getpid(), getpid(), c, d));
	ST_TRUE(!same(getpid(), getpid(), a, c));
	ST_EQ(st_reap(pid), 0);
	ST_EQ(lseek(a, 0, SEEK_CUR), 13);
	ST_EQ(lseek(c, 0, SEEK_CUR), 16);
	ST_EQ(fcntl(d, F_GETFD), FD_CLOEXEC);
	return st_end();
}
