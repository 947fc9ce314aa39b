/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that is written all the time: what was written last in order is a prefix, nothing is
 * torn. */
#include "state.h"

#include <pthread.h>
#include <sys/mman.h>

#define PAGES 4096

static volatile int stop;

/* Round r writes r into page 0, then 1, ...: at any instant the pages are r..r, r-1..r-1. */
static void *writer(void *arg)
{
	volatile uint64_t *p = arg;

	for (uint64_t r = 1; !stop; r++)
		for (int i = 0; i < PAGES && !stop; i++) {
			uint64_t was = p[i * 512];

			ST_CHECK(was == r - 1 || was == 0, "page %d was %llu in round %llu", i,
				 (unsigned long long)was, (unsigned long long)r);
			p[i * 512] = r;
		}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;
	volatile uint64_t *p;
	int steps = 0;

	st_begin(argc, argv);
	p = ST_SYS((volatile uint64_t *)mmap(NULL, PAGES * 4096UL, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	ST_ZERO(pthread_create(&t, NULL, writer, (void *)p));
	while (p[(PAGES - 1) * 512] < 2)
		st_sleep_ms(1);
	st_wait();
	st_sleep_ms(50);
	stop = 1;
	pthread_join(t, NULL);
	for (int i = 1; i < PAGES; i++)
		steps += p[i * 512] != p[(i - 1) * 512];
	ST_CHECK(steps <= 1, "%d steps in the pages", steps);
	return st_end();
}
