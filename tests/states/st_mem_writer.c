/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 57 MiB, all of it written again and again (in a group with a limit of 64 MiB, say). */
#include "state.h"

#include <sys/mman.h>

#define PAGES (57 * 256)

int main(int argc, char **argv)
{
	volatile uint64_t *p;
	uint64_t round = 0;

	st_begin(argc, argv);
	p = ST_SYS((volatile uint64_t *)mmap(NULL, PAGES * 4096UL, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	close(ST_SYS(open(st_path("ready"), O_WRONLY | O_CREAT, 0600)));
	while (!st_gone() || round < 2) {
		for (size_t i = 0; i < PAGES; i++) {
			ST_EQ(p[i * 512], round);
			p[i * 512] = round + 1;
		}
		round++;
	}
	return st_end();
}
