/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stopped process with many threads: all stay stopped, all go on, nobody is told twice. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "state.h"

#define N 6

static volatile long *count;

static void *turn(void *arg)
{
	volatile long *mine = arg;

	for (;;) {
		++*mine;
		st_sleep_ms(1);
	}
	return NULL;
}

static void child(void)
{
	pthread_t t;

	for (long i = 1; i < N; i++)
		ST_OK(pthread_create(&t, NULL, turn, (void *)(count + i)));
	turn((void *)count);
}

int main(int argc, char **argv)
{
	int status = 0;
	long was[N];
	pid_t pid;

	st_begin(argc, argv);
	count = st_shared(4096);
	pid = st_fork();
	if (pid == 0)
		child();
	for (int i = 0; i < N; i++)
		while (!count[i])
			st_sleep_ms(1);
	kill(pid, SIGSTOP);
	ST_EQ(waitpid(pid, &status, WUNTRACED), pid);
	st_wait();
	for (int i = 0; i < N; i++)
		was[i] = count[i];
	st_sleep_ms(50);
	for (int i = 0; i < N; i++)
		ST_EQ(count[i], was[i]);
	ST_EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
	kill(pid, SIGCONT);
	ST_EQ(waitpid(pid, &status, WCONTINUED), pid);
	ST_TRUE(WIFCONTINUED(status));
	st_sleep_ms(100);
	for (int i = 0; i < N; i++)
		ST_TRUE(count[i] > was[i]);
	kill(pid, SIGKILL);
	ST_EQ(st_reap(pid), -1 - SIGKILL);
	return st_end();
}
