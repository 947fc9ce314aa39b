/* SPDX-License-Identifier: GPL-2.0-or-later */
/* POSIX timers: ids with holes, clocks, ways of telling, values, remaining time. */
#include "state.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static int make(int clock, int how, int sig, int value, pid_t tid)
{
	struct sigevent ev = { .sigev_notify = how, .sigev_signo = sig };
	int id = -1; /* the kernel's id, not libc's handle */

	ev.sigev_value.sival_int = value;
	if (how == SIGEV_THREAD_ID)
		ev.sigev_notify_thread_id = tid;
	ST_SYS(syscall(SYS_timer_create, clock, &ev, &id));
	return id;
}

static void set(int id, long sec, long nsec, long isec)
{
	struct itimerspec t = { { isec, 0 }, { sec, nsec } };

	ST_SYS(syscall(SYS_timer_settime, id, 0, &t, NULL));
}

static volatile pid_t tid;
static volatile int judge;

static void *worker(void *arg)
{
	struct timespec wait = { 3, 0 };
	sigset_t m;
	siginfo_t si;

	(void)arg;
	tid = (pid_t)syscall(SYS_gettid);
	while (!judge)
		st_sleep_ms(5);
	sigemptyset(&m);
	sigaddset(&m, SIGRTMIN + 2);
	ST_EQ(sigtimedwait(&m, &si, &wait), SIGRTMIN + 2);
	ST_EQ(si.si_code, SI_TIMER);
	ST_EQ(si.si_value.sival_int, 33);
	return NULL;
}

int main(int argc, char **argv)
{
	int id[8];
	struct itimerspec t;
	struct timespec zero = { 0, 0 };
	pthread_t th;
	sigset_t all;
	siginfo_t si;

	st_begin(argc, argv);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	ST_ZERO(pthread_create(&th, NULL, worker, NULL));
	while (!tid)
		st_sleep_ms(1);
	id[0] = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 11, 0);
	id[1] = make(CLOCK_REALTIME, SIGEV_NONE, 0, 0, 0);
	id[2] = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 22, 0);
	id[3] = make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGUSR1, 1, 0);
	id[4] = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 2, 33, tid);
	id[5] = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 3, 44, 0);
	id[6] = make(CLOCK_BOOTTIME, SIGEV_SIGNAL, SIGRTMIN + 4, 55, 0);
	ST_SYS(syscall(SYS_timer_delete, id[1]));
	ST_SYS(syscall(SYS_timer_delete, id[3])); /* holes */
	set(id[0], 500, 0, 7);
	set(id[4], 600, 0, 0);
	set(id[5], 300, 0, 4);
	/* id[2] ticks 100 times a second and overruns; id[6] is not armed */
	t = (struct itimerspec){ { 0, 10000000 }, { 0, 10000000 } };
	ST_SYS(syscall(SYS_timer_settime, id[2], 0, &t, NULL));
	st_sleep_ms(60);
	st_wait();
	ST_EQ(syscall(SYS_timer_gettime, id[1], &t), -1);
	ST_EQ(syscall(SYS_timer_gettime, id[3], &t), -1);
	ST_OK(syscall(SYS_timer_gettime, id[0], &t));
	ST_CHECK(t.it_value.tv_sec > 450 && t.it_value.tv_sec <= 500, "%ld s left",
		 t.it_value.tv_sec);
	ST_EQ(t.it_interval.tv_sec, 7);
	ST_OK(syscall(SYS_timer_gettime, id[5], &t));
	ST_CHECK(t.it_value.tv_sec > 280 && t.it_value.tv_sec <= 300, "cpu: %ld s left",
		 t.it_value.tv_sec);
	ST_EQ(t.it_interval.tv_sec, 4);
	ST_OK(syscall(SYS_timer_gettime, id[6], &t));
	ST_EQ(t.it_value.tv_sec + t.it_value.tv_nsec, 0);
	sigemptyset(&all);
	sigaddset(&all, SIGRTMIN + 1);
	ST_EQ(sigtimedwait(&all, &si, &zero), SIGRTMIN + 1);
	ST_EQ(si.si_code, SI_TIMER);
	ST_EQ(si.si_value.sival_int, 22);
	ST_CHECK(si.si_overrun >= 4, "overrun %d", si.si_overrun);
	st_sleep_ms(30);
	ST_EQ(sigtimedwait(&all, &si, &zero), SIGRTMIN + 1);
	set(id[4], 0, 20000000, 0);
	judge = 1;
	pthread_join(th, NULL);
	ST_EQ(make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0), id[6] + 1);
	return st_end();
}
