/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread that ends after the restart clears its id: join, a detached one, a cancelled one. */
#include "state.h"

#include <pthread.h>

static volatile int go;

static void *worker(void *arg)
{
	st_until(&go);
	return arg;
}

static void *forever(void *arg)
{
	for (;;)
		st_sleep_ms(100);
	return arg;
}

static void *joiner(void *arg)
{
	void *r = NULL;

	pthread_join(*(pthread_t *)arg, &r);
	return r;
}

int main(int argc, char **argv)
{
	pthread_t a, b, c, d;
	void *r = NULL;

	st_begin(argc, argv);
	ST_ZERO(pthread_create(&a, NULL, worker, (void *)5));
	ST_ZERO(pthread_create(&b, NULL, joiner, &a)); /* waits in join while checkpointed */
	ST_ZERO(pthread_create(&c, NULL, forever, NULL));
	ST_ZERO(pthread_create(&d, NULL, worker, NULL));
	pthread_detach(d);
	st_wait();
	go = 1;
	ST_EQ(pthread_join(b, &r), 0);
	ST_EQ((long)r, 5);
	ST_EQ(pthread_cancel(c), 0);
	ST_EQ(pthread_join(c, &r), 0);
	ST_EQ((long)r, (long)PTHREAD_CANCELED);
	return st_end();
}
