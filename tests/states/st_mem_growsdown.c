/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A MAP_GROWSDOWN area still grows when touched below its start. */
#include "state.h"

#include <sys/mman.h>

int main(int argc, char **argv)
{
	char *area, *p;

	st_begin(argc, argv);
	area = ST_SYS(
		(char *)mmap(NULL, 4 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	ST_SYS(munmap(area, 4 << 20));
	p = ST_SYS((char *)mmap(area + (3 << 20), 8192, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1,
				0));
	st_fill(p, 8192, 3);
	p[-4096] = 11; /* grown once already */
	st_wait();
	ST_CHECK(st_filled(p, 8192, 3), "content");
	ST_EQ(p[-4096], 11);
	for (int i = 2; i < 20; i++) {
		p[-4096 * i] = (char)i; /* SIGSEGV when it does not grow any more */
		ST_EQ(p[-4096 * i], i);
	}
	return st_end();
}
