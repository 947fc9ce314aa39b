/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Affinity, nice, scheduling class, io priority and timer slack of single threads. */
#include "state.h"

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static volatile int judge;
static volatile int up;

struct sched {
	int policy, prio, nice, ioprio;
	unsigned long slack;
	cpu_set_t cpus;
};

static void get(struct sched *s)
{
	struct sched_param p;

	memset(s, 0, sizeof(*s));
	s->policy = sched_getscheduler(0);
	ST_EQ(sched_getparam(0, &p), 0);
	s->prio = p.sched_priority;
	s->nice = getpriority(PRIO_PROCESS, 0);
	s->ioprio = (int)syscall(SYS_ioprio_get, 1, 0);
	s->slack = (unsigned long)prctl(PR_GET_TIMERSLACK);
	ST_EQ(sched_getaffinity(0, sizeof(s->cpus), &s->cpus), 0);
}

static void *worker(void *arg)
{
	long i = (long)arg;
	struct sched before, after;
	struct sched_param p = { 0 };
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(i % (sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 1), &cpus);
	switch (i) {
	case 0:
		ST_SYS(sched_setaffinity(0, sizeof(cpus), &cpus));
		ST_SYS(setpriority(PRIO_PROCESS, 0, 7));
		break;
	case 1:
		ST_SYS(sched_setscheduler(0, SCHED_BATCH, &p));
		ST_SYS(setpriority(PRIO_PROCESS, 0, -3));
		break;
	case 2:
		ST_SYS(sched_setscheduler(0, SCHED_IDLE, &p));
		break;
	case 3:
		p.sched_priority = 3;
		ST_SYS(sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &p));
		break;
	case 4:
		ST_SYS(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6));
		ST_SYS(sched_setaffinity(0, sizeof(cpus), &cpus));
		break;
	default:
		ST_SYS(prctl(PR_SET_TIMERSLACK, 123456UL));
	}
	get(&before);
	__sync_fetch_and_add(&up, 1);
	while (!judge)
		st_sleep_ms(10);
	get(&after);
	ST_EQ(after.policy, before.policy);
	ST_EQ(after.prio, before.prio);
	ST_EQ(after.nice, before.nice);
	ST_EQ(after.ioprio, before.ioprio);
	ST_EQ(after.slack, before.slack);
	ST_CHECK(CPU_EQUAL(&after.cpus, &before.cpus), "affinity of thread %ld", i);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[6];

	st_begin(argc, argv);
	for (long i = 0; i < 6; i++)
		ST_ZERO(pthread_create(&t[i], NULL, worker, (void *)i));
	while (up < 6)
		st_sleep_ms(1);
	st_wait();
	judge = 1;
	for (int i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
	return st_end();
}
