/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process that waits for any child, handles SIGCHLD and has closed all descriptors notices
 * nothing. */
#include "state.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile sig_atomic_t chld;
static volatile int surprise;
static pid_t expect;

static void on_chld(int sig)
{
	(void)sig;
	chld++;
}

static void *waiter(void *arg)
{
	int status;
	pid_t pid = (pid_t)syscall(SYS_wait4, -1, &status, __WALL, NULL);

	(void)arg;
	if (pid != expect)
		surprise = pid < 0 ? -errno : pid;
	return NULL;
}

int main(int argc, char **argv)
{
	volatile int *go;
	pthread_t t;
	sigset_t set;

	st_begin(argc, argv);
	go = st_shared(4096);
	expect = st_fork();
	if (expect == 0) {
		st_until(go);
		_exit(0);
	}
	signal(SIGCHLD, on_chld);
	ST_ZERO(pthread_create(&t, NULL, waiter, NULL));
	syscall(SYS_close_range, 0U, ~0U, 0U);
	sigemptyset(&set);
	st_wait();
	ST_EQ(chld, 0);
	ST_EQ(surprise, 0);
	*go = 1;
	pthread_join(t, NULL);
	ST_EQ(surprise, 0);
	ST_EQ(chld, 1);
	ST_EQ(waitpid(-1, NULL, WNOHANG | __WALL), -1);
	return st_end();
}
