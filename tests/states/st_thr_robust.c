/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Robust and priority-inheriting mutexes: an owner that dies after the restart is noticed. */
#include "state.h"

#include <pthread.h>

int main(int argc, char **argv)
{
	struct {
		pthread_mutex_t robust, pi;
		volatile int held, go;
	} * s;
	pthread_mutexattr_t a;
	pid_t pid;

	st_begin(argc, argv);
	s = st_shared(4096);
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	ST_ZERO(pthread_mutex_init(&s->robust, &a));
	pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
	ST_ZERO(pthread_mutex_init(&s->pi, &a));
	pid = st_fork();
	if (pid == 0) {
		pthread_mutex_lock(&s->robust);
		pthread_mutex_lock(&s->pi);
		s->held = 1;
		st_until(&s->go);
		_exit(0); /* without unlocking */
	}
	st_until(&s->held);
	st_wait();
	ST_EQ(pthread_mutex_trylock(&s->robust), EBUSY);
	ST_EQ(pthread_mutex_trylock(&s->pi), EBUSY);
	s->go = 1;
	ST_EQ(pthread_mutex_lock(&s->robust), EOWNERDEAD);
	ST_EQ(pthread_mutex_lock(&s->pi), EOWNERDEAD);
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
