/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ppoll and sigsuspend with a mask of their own: it holds while they wait, the old one comes
 * back after. */
#include "state.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

static volatile sig_atomic_t hits;
static volatile pid_t tid;

static void on_sig(int sig)
{
	hits += sig == SIGUSR1;
}

static void *worker(void *arg)
{
	sigset_t none, now;
	int r;

	(void)arg;
	sigemptyset(&none);
	tid = (pid_t)syscall(SYS_gettid);
	r = ppoll(NULL, 0, NULL, &none);
	ST_CHECK(r == -1 && errno == EINTR, "ppoll: %d, %s", r, strerror(errno));
	ST_EQ(hits, 1);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	ST_TRUE(sigismember(&now, SIGUSR1));
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;
	sigset_t m;
	int was;

	st_begin(argc, argv);
	signal(SIGUSR1, on_sig);
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigprocmask(SIG_BLOCK, &m, NULL);
	ST_ZERO(pthread_create(&t, NULL, worker, NULL));
	while (!tid)
		st_sleep_ms(1);
	st_in_call(tid, SYS_ppoll, 2000);
	st_wait();
	was = hits;
	ST_EQ(was, 0);
	ST_TRUE(st_in_call(tid, SYS_ppoll, 0));
	syscall(SYS_tgkill, getpid(), tid, SIGUSR1);
	pthread_join(t, NULL);
	return st_end();
}
