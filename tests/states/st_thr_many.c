/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fifty threads: names, ids, thread-local data, stacks, signal masks, alternate stacks. */
#include "state.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define N 50

static __thread uint64_t local = 77;
static volatile int judge;
static volatile int up;

static void *worker(void *arg)
{
	long i = (long)arg;
	char name[16], now[16], area[3000], alt[16384];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) }, got;
	sigset_t mask, after;
	pid_t tid = (pid_t)syscall(SYS_gettid);

	snprintf(name, sizeof(name), "worker %ld", i);
	prctl(PR_SET_NAME, name);
	local = (uint64_t)i * 1000;
	st_fill(area, sizeof(area), (uint64_t)i);
	sigemptyset(&mask);
	for (int s = 1; s < 32; s++)
		if ((i >> (s % 6)) & 1 && s != SIGKILL && s != SIGSTOP)
			sigaddset(&mask, s);
	sigaddset(&mask, SIGRTMIN + (int)i % 20);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (i % 3)
		sigaltstack(&ss, NULL);
	__sync_fetch_and_add(&up, 1);
	while (!judge)
		st_sleep_ms(10 + i % 7);
	prctl(PR_GET_NAME, now);
	ST_STR(now, name);
	ST_EQ(local, i * 1000);
	ST_EQ(syscall(SYS_gettid), tid);
	ST_CHECK(st_filled(area, sizeof(area), (uint64_t)i), "stack of thread %ld", i);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int s = 1; s < 65; s++)
		ST_CHECK(sigismember(&mask, s) == sigismember(&after, s),
			 "thread %ld, signal %d", i, s);
	sigaltstack(NULL, &got);
	ST_EQ(got.ss_flags, i % 3 ? 0 : SS_DISABLE);
	if (i % 3) {
		ST_EQ(got.ss_sp, alt);
		ST_EQ(got.ss_size, sizeof(alt));
	}
	return (void *)(i * 3);
}

int main(int argc, char **argv)
{
	pthread_t t[N];
	pthread_attr_t attr;

	st_begin(argc, argv);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	for (long i = 0; i < N; i++)
		ST_ZERO(pthread_create(&t[i], &attr, worker, (void *)i));
	while (up < N)
		st_sleep_ms(1);
	st_wait();
	judge = 1;
	for (long i = 0; i < N; i++) {
		void *r = NULL;

		ST_EQ(pthread_join(t[i], &r), 0);
		ST_EQ((long)r, i * 3);
	}
	return st_end();
}
