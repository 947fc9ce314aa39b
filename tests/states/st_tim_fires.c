/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Alarms that go off at any moment, also while they are looked at: none is lost. */
#include "state.h"

#include <signal.h>
#include <sys/time.h>

#define CHILDREN 12

static volatile sig_atomic_t hit;

static void on_alarm(int sig)
{
	(void)sig;
	hit = 1;
}

/* One-shot alarms of 2 to 8 ms, one after the other; nothing else ever wakes it. */
static void tick(volatile long *count, const volatile int *stop)
{
	struct sigaction act = { .sa_handler = on_alarm };
	sigset_t block, old;

	sigaction(SIGALRM, &act, NULL);
	/* many actions to ask for make the look longer */
	for (int sig = SIGRTMIN; sig < SIGRTMAX; sig++)
		sigaction(sig, &act, NULL);
	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	sigprocmask(SIG_BLOCK, &block, &old);
	while (!*stop) {
		struct itimerval v = { .it_value = { 0, 2000 + *count % 7 * 1000 } };

		hit = 0;
		setitimer(ITIMER_REAL, &v, NULL);
		while (!hit)
			sigsuspend(&old);
		++*count;
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	volatile long *count;
	volatile int *stop;
	long was[CHILDREN];
	pid_t pids[CHILDREN];

	st_begin(argc, argv);
	count = st_shared(CHILDREN * sizeof(*count));
	stop = st_shared(sizeof(*stop));
	for (int i = 0; i < CHILDREN; i++) {
		pids[i] = st_fork();
		if (pids[i] == 0)
			tick(&count[i], stop);
	}
	st_sleep_ms(50);
	st_wait();
	for (int i = 0; i < CHILDREN; i++)
		was[i] = count[i];
	for (int ms = 0; ms < 3000; ms += 10) {
		int slow = 0;

		for (int i = 0; i < CHILDREN; i++)
			slow += count[i] <= was[i] + 2;
		if (!slow)
			break;
		st_sleep_ms(10);
	}
	for (int i = 0; i < CHILDREN; i++) {
		ST_CHECK(count[i] > was[i] + 2, "its alarms go on");
		if (count[i] <= was[i] + 2)
			kill(pids[i], SIGKILL);
	}
	*stop = 1;
	for (int i = 0; i < CHILDREN; i++)
		st_reap(pids[i]);
	return st_end();
}
