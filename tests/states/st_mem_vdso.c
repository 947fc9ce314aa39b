/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clocks through the vDSO, read all the time by two threads, never go back and go on. */
#include "state.h"

#include <pthread.h>
#include <sched.h>
#include <sys/time.h>
#include <time.h>

static volatile int stop;
static volatile long rounds;

static void *reader(void *arg)
{
	int clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE,
			 CLOCK_MONOTONIC_RAW };
	int64_t last[4] = { 0 };

	(void)arg;
	while (!stop) {
		struct timeval tv;
		unsigned cpu, node;

		for (int i = 0; i < 4; i++) {
			int64_t now = st_now_ns(clocks[i]);

			ST_CHECK(now >= last[i], "clock %d went back by %lld ns", clocks[i],
				 (long long)(last[i] - now));
			last[i] = now;
		}
		gettimeofday(&tv, NULL);
		ST_TRUE(tv.tv_sec > 1600000000);
		ST_TRUE(time(NULL) >= tv.tv_sec - 1); /* a coarse clock */
		getcpu(&cpu, &node);
		ST_TRUE(cpu < 4096);
		rounds++;
		if (rounds % 64 == 0)
			sched_yield();
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[2];
	long before;

	st_begin(argc, argv);
	for (int i = 0; i < 2; i++)
		ST_ZERO(pthread_create(&t[i], NULL, reader, NULL));
	st_wait();
	before = rounds;
	st_sleep_ms(100);
	ST_TRUE(rounds > before);
	stop = 1;
	for (int i = 0; i < 2; i++)
		ST_EQ(pthread_join(t[i], NULL), 0);
	return st_end();
}
