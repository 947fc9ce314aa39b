/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pending signals, of the process and of a thread: real-time ones in order with their values,
 * and their source. */
#include "state.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

static volatile int judge;
static volatile pid_t tid;

static int take(int *value, int *code, pid_t *from)
{
	struct timespec zero = { 0, 0 };
	sigset_t all;
	siginfo_t si;
	int r;

	sigfillset(&all);
	memset(&si, 0, sizeof(si));
	r = (int)syscall(SYS_rt_sigtimedwait, &all, &si, &zero,
			 8UL); /* glibc's hides SI_TKILL */
	*value = si.si_value.sival_int;
	*code = si.si_code;
	*from = si.si_pid;
	return r;
}

static void *worker(void *arg)
{
	int v, c;
	pid_t from;

	(void)arg;
	tid = (pid_t)syscall(SYS_gettid);
	while (!judge)
		st_sleep_ms(5);
	/* its own first, lowest number first */
	ST_EQ(take(&v, &c, &from), SIGUSR2);
	ST_EQ(c, SI_TKILL);
	ST_EQ(from, getpid());
	ST_EQ(take(&v, &c, &from), SIGRTMIN + 1);
	ST_EQ(v, 4);
	return NULL;
}

int main(int argc, char **argv)
{
	union sigval v;
	sigset_t all, pend;
	pthread_t t;
	siginfo_t si;
	int val, code;
	pid_t from;

	st_begin(argc, argv);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	ST_ZERO(pthread_create(&t, NULL, worker, NULL));
	while (!tid)
		st_sleep_ms(1);
	for (v.sival_int = 1; v.sival_int <= 20; v.sival_int++)
		ST_SYS(sigqueue(getpid(), SIGRTMIN + 5, v));
	v.sival_int = 100;
	ST_SYS(sigqueue(getpid(), SIGRTMIN + 3, v));
	ST_SYS(kill(getpid(), SIGHUP));
	ST_SYS(kill(getpid(), SIGHUP));
	v.sival_int = 55;
	ST_SYS(sigqueue(getpid(), SIGTERM, v));
	ST_SYS(syscall(SYS_tgkill, getpid(), tid, SIGUSR2));
	memset(&si, 0, sizeof(si));
	si.si_code = SI_QUEUE;
	si.si_pid = getpid();
	si.si_value.sival_int = 4;
	ST_SYS(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, SIGRTMIN + 1, &si));
	st_wait();
	judge = 1;
	pthread_join(t, NULL);
	sigpending(&pend);
	ST_TRUE(sigismember(&pend, SIGHUP) && sigismember(&pend, SIGTERM) &&
		!sigismember(&pend, SIGUSR2));
	ST_EQ(take(&val, &code, &from), SIGHUP);
	ST_EQ(code, SI_USER);
	ST_EQ(from, getpid());
	ST_EQ(take(&val, &code, &from), SIGTERM);
	ST_EQ(code, SI_QUEUE);
	ST_EQ(val, 55);
	ST_EQ(take(&val, &code, &from), SIGRTMIN + 3);
	ST_EQ(val, 100);
	for (int i = 1; i <= 20; i++) {
		ST_EQ(take(&val, &code, &from), SIGRTMIN + 5);
		ST_EQ(val, i);
		ST_EQ(code, SI_QUEUE);
	}
	ST_EQ(take(&val, &code, &from), -1);
	return st_end();
}
