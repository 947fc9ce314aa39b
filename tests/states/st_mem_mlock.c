/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mlock, MLOCK_ONFAULT and MCL_FUTURE. */
#include "state.h"

#include <sys/mman.h>

static long locked_kb(void)
{
	char *s = st_status(0, "VmLck");
	long v = s ? atol(s) : -1;

	free(s);
	return v;
}

int main(int argc, char **argv)
{
	char *a, *b, *c, *d;
	long before;

	st_begin(argc, argv);
	a = ST_SYS((char *)mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	b = ST_SYS((char *)mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	st_fill(a, 8 * 4096, 1);
	ST_SYS(mlock(a, 8 * 4096));
	ST_SYS(mlock2(b, 64 * 4096, MLOCK_ONFAULT));
	b[5 * 4096] = 5;
	ST_SYS(mlockall(MCL_FUTURE));
	c = ST_SYS((char *)mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	before = locked_kb();
	st_wait();
	ST_EQ(locked_kb(), before);
	ST_CHECK(st_filled(a, 8 * 4096, 1), "content");
	ST_EQ(b[5 * 4096], 5);
	ST_EQ(c[0], 0);
	d = ST_OK((char *)mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	ST_CHECK(d[0] == 0 && locked_kb() >= before + 64, "MCL_FUTURE is lost");
	return st_end();
}
