/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads are made and end all the time. */
#include "state.h"

#include <pthread.h>

static volatile int stop;

static void *brief(void *arg)
{
	return (void *)((long)arg + 1);
}

static void *maker(void *arg)
{
	long n = 0;

	(void)arg;
	while (!stop) {
		pthread_t t;
		void *r = NULL;

		ST_EQ(pthread_create(&t, NULL, brief, (void *)n), 0);
		ST_EQ(pthread_join(t, &r), 0);
		ST_EQ((long)r, ++n);
	}
	return (void *)n;
}

int main(int argc, char **argv)
{
	pthread_t t[2];

	st_begin(argc, argv);
	for (int i = 0; i < 2; i++)
		ST_ZERO(pthread_create(&t[i], NULL, maker, NULL));
	st_wait();
	st_sleep_ms(30);
	stop = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	return st_end();
}
