/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 96 MiB of all kinds of pages, and a sparse reservation of 64 GiB. */
#include "state.h"

#include <sys/mman.h>

int main(int argc, char **argv)
{
	const size_t len = 96UL << 20, huge = 64UL << 30;
	char *p, *r;

	st_begin(argc, argv);
	p = ST_SYS((char *)mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				-1, 0));
	r = ST_SYS((char *)mmap(NULL, huge, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	st_fill(p, len / 3, 1);		   /* random */
	memset(p + len / 3, 'a', len / 3); /* repeats */
	for (size_t i = 0; i < 1000; i++)
		*(size_t *)(r + i * (huge / 1000) / 4096 * 4096) = i;
	st_wait();
	ST_CHECK(st_filled(p, len / 3, 1), "random part");
	for (size_t i = len / 3; i < len; i++)
		if (p[i] != (i < len / 3 * 2 ? 'a' : 0)) {
			ST_CHECK(false, "byte %zu", i);
			break;
		}
	for (size_t i = 0; i < 1000; i++)
		if (*(size_t *)(r + i * (huge / 1000) / 4096 * 4096) != i)
			ST_CHECK(false, "sparse page %zu", i);
	ST_EQ(r[huge - 1], 0);
	return st_end();
}
