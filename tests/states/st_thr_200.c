/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two hundred threads that compute, sleep and take a lock, through everything. */
#include "state.h"

#include <pthread.h>

#define N 200

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long total, turns;
static int judge;

static void *worker(void *arg)
{
	long i = (long)arg, n = 0;

	pthread_mutex_lock(&lock);
	while (!judge) {
		total += i;
		turns++;
		n++;
		pthread_mutex_unlock(&lock);
		st_sleep_ms(20 + i % 30);
		pthread_mutex_lock(&lock);
		if (i % 10 == 0 && !judge)
			pthread_cond_wait(&cond, &lock);
	}
	total -= n * i;
	pthread_mutex_unlock(&lock);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[N];
	pthread_attr_t attr;

	st_begin(argc, argv);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	for (long i = 0; i < N; i++)
		ST_ZERO(pthread_create(&t[i], &attr, worker, (void *)i));
	st_sleep_ms(50);
	st_wait();
	pthread_mutex_lock(&lock);
	judge = 1;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	for (long i = 0; i < N; i++)
		ST_EQ(pthread_join(t[i], NULL), 0);
	ST_EQ(total, 0);
	return st_end();
}
