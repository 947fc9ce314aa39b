/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The restartable-sequences area goes on to be kept by the kernel. */
#include "state.h"

#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>

static volatile int judge;

static struct rseq *area(void)
{
	return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static void *worker(void *arg)
{
	int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);

	(void)arg;
	while (!judge)
		st_sleep_ms(5);
	for (int i = 0; i < 20; i++) {
		cpu_set_t one;

		CPU_ZERO(&one);
		CPU_SET(i % cpus, &one);
		ST_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
		ST_EQ(area()->cpu_id, i % cpus);
		ST_EQ(sched_getcpu(), i % cpus);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[3];

	st_begin(argc, argv);
	if (__rseq_size == 0)
		st_skip("no rseq registered by libc");
	for (int i = 0; i < 3; i++)
		ST_ZERO(pthread_create(&t[i], NULL, worker, NULL));
	st_wait();
	judge = 1;
	worker(NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	return st_end();
}
