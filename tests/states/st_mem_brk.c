/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The heap: content, sbrk(0), and brk can still grow and shrink. */
#include "state.h"

int main(int argc, char **argv)
{
	char *p, *end;

	st_begin(argc, argv);
	p = ST_SYS((char *)sbrk(40 * 4096 + 123));
	st_fill(p, 40 * 4096, 7);
	end = sbrk(0);
	st_wait();
	ST_EQ(sbrk(0), end);
	ST_CHECK(st_filled(p, 40 * 4096, 7), "heap content");
	ST_EQ(ST_OK(sbrk(65536)), end);
	memset(end, 5, 65536);
	ST_OK(sbrk(-65536));
	ST_EQ(sbrk(0), end);
	return st_end();
}
