/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Timers whose signals are queued and blocked: each comes once, with its value, and those with
 * an interval go on. Ids stay, with the gaps between them.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "state.h"

#define KEPT_A 3
#define KEPT_B 7

static timer_t make(clockid_t clock, int sig, int notify, int value, long ms, long every_ms)
{
	struct sigevent ev = { .sigev_notify = notify, .sigev_signo = sig };
	struct itimerspec t = { { every_ms / 1000, every_ms % 1000 * 1000000 },
				{ ms / 1000, ms % 1000 * 1000000 } };
	timer_t id;

	ev.sigev_value.sival_int = value;
	if (notify == SIGEV_THREAD_ID)
		ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	ST_OK(timer_create(clock, &ev, &id));
	if (ms)
		ST_OK(timer_settime(id, 0, &t, NULL));
	return id;
}

static int take(int sig, int ms, siginfo_t *info)
{
	struct timespec limit = { ms / 1000, ms % 1000 * 1000000 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	return sigtimedwait(&set, info, &limit);
}

int main(int argc, char **argv)
{
	struct itimerval real = { { 0, 500000 }, { 0, 50000 } };
	struct itimerspec left;
	timer_t gaps[10];
	siginfo_t info;
	sigset_t set;

	st_begin(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	for (int i = 0; i < 4; i++)
		sigaddset(&set, SIGRTMIN + i);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < 10; i++)
		gaps[i] = make(CLOCK_MONOTONIC, SIGRTMIN, SIGEV_SIGNAL, i, 0, 0);
	for (int i = 0; i < 10; i++)
		if (i != KEPT_A && i != KEPT_B)
			ST_OK(timer_delete(gaps[i]));
	timer_t every = make(CLOCK_MONOTONIC, SIGRTMIN + 1, SIGEV_SIGNAL, 42, 40, 40);
	make(CLOCK_REALTIME, SIGRTMIN + 2, SIGEV_THREAD_ID, 43, 40, 0);
	timer_t far = make(CLOCK_BOOTTIME, SIGRTMIN + 3, SIGEV_SIGNAL, 44, 100000, 7000);
	ST_OK(setitimer(ITIMER_REAL, &real, NULL));
	st_sleep_ms(150);
	st_wait();
	ST_OK(timer_gettime(gaps[KEPT_A], &left));
	ST_OK(timer_gettime(gaps[KEPT_B], &left));
	ST_EQ(take(SIGRTMIN + 1, 0, &info), SIGRTMIN + 1);
	ST_EQ(info.si_value.sival_int, 42);
	ST_EQ(info.si_code, SI_TIMER);
	ST_EQ(info.si_timerid, (int)(long)every);
	ST_EQ(take(SIGRTMIN + 1, 1000, &info), SIGRTMIN + 1); /* it goes on */
	ST_EQ(take(SIGRTMIN + 2, 0, &info), SIGRTMIN + 2);
	ST_EQ(info.si_value.sival_int, 43);
	ST_EQ(take(SIGRTMIN + 2, 0, &info), -1); /* once */
	ST_OK(timer_gettime(far, &left));
	ST_TRUE(left.it_value.tv_sec > 60 && left.it_value.tv_sec < 100);
	ST_EQ(left.it_interval.tv_sec, 7);
	ST_OK(getitimer(ITIMER_REAL, &real));
	ST_EQ(real.it_interval.tv_usec, 500000);
	ST_EQ(take(SIGALRM, 0, &info), SIGALRM);
	ST_EQ(take(SIGALRM, 1500, &info), SIGALRM); /* started again by the first */
	return st_end();
}
