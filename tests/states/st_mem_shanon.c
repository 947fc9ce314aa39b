/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared anonymous memory, also grown by mremap, part unmapped, protections differing. */
#include "state.h"

#include <sys/mman.h>

int main(int argc, char **argv)
{
	struct {
		volatile int go, seen;
	} * ctl;
	char *p, *zero;
	int fd;
	pid_t pid, grand;

	st_begin(argc, argv);
	ctl = st_shared(4096);
	p = st_shared(64 * 4096);
	st_fill(p, 64 * 4096, 9);
	fd = ST_SYS(open("/dev/zero", O_RDWR));
	zero = ST_SYS((char *)mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	close(fd);
	strcpy(zero, "dev zero shared");
	ST_SYS(munmap(p + 10 * 4096, 4 * 4096));
	pid = st_fork();
	if (pid == 0) {
		ST_SYS(mprotect(p, 4096, PROT_READ));
		grand = st_fork();
		if (grand == 0) {
			st_until(&ctl->go);
			strcpy(p + 4096, "from grandchild");
			strcpy(zero + 4096, "too");
			_exit(0);
		}
		st_until(&ctl->go);
		ST_EQ(st_reap(grand), 0);
		ST_CHECK(st_filled(p, 4096, 9), "content in child");
		ctl->seen = 1;
		_exit(4);
	}
	st_wait();
	ST_CHECK(st_filled(p, 10 * 4096, 9), "content");
	ST_STR(zero, "dev zero shared");
	ctl->go = 1;
	ST_EQ(st_reap(pid), 4);
	ST_EQ(ctl->seen, 1);
	ST_STR(p + 4096, "from grandchild");
	ST_STR(zero + 4096, "too");
	return st_end();
}
