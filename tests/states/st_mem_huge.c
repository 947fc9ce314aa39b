/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Huge pages: transparent ones keep their content, hugetlb ones their size too. */
#include "state.h"

#include <sys/mman.h>

#define MB2 (2UL << 20)

int main(int argc, char **argv)
{
	char *raw, *p, *h;

	st_begin(argc, argv);
	raw = ST_SYS((char *)mmap(NULL, 5 * MB2, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	p = (char *)(((uintptr_t)raw + MB2 - 1) & ~(MB2 - 1));
	ST_SYS(madvise(p, 4 * MB2, MADV_HUGEPAGE));
	st_fill(p, MB2, 1);
	st_fill(p + 3 * MB2 + 4096, 4096, 2);
	h = mmap(NULL, 2 * MB2, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (h != MAP_FAILED)
		st_fill(h, MB2, 3);
	st_wait();
	ST_CHECK(st_filled(p, MB2, 1), "content of a huge page");
	ST_CHECK(st_filled(p + 3 * MB2 + 4096, 4096, 2), "content of a partial huge page");
	for (size_t i = 0; i < MB2; i++)
		if (p[MB2 + i]) {
			ST_CHECK(false, "memory that was not touched is not zero");
			break;
		}
	if (h != MAP_FAILED) {
		ST_CHECK(st_filled(h, MB2, 3), "content of a hugetlb page");
		ST_EQ(munmap(h + 4096, 4096), -1);
	}
	return st_end();
}
