/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A parent that starts programs all the time (posix_spawn, which is a vfork in progress). */
#include "state.h"

#include <pthread.h>
#include <spawn.h>

extern char **environ;
static volatile int stop;

static void *spawner(void *arg)
{
	char *args[] = { "sh", "-c", "exit 9", NULL };
	long n = 0;

	(void)arg;
	while (!stop) {
		pid_t pid;

		ST_EQ(posix_spawn(&pid, "/bin/sh", NULL, NULL, args, environ), 0);
		ST_EQ(st_reap(pid), 9);
		n++;
	}
	return (void *)n;
}

int main(int argc, char **argv)
{
	pthread_t t;
	void *n = NULL;

	st_begin(argc, argv);
	ST_ZERO(pthread_create(&t, NULL, spawner, NULL));
	st_wait();
	st_sleep_ms(100);
	stop = 1;
	pthread_join(t, &n);
	ST_TRUE((long)n > 3);
	return st_end();
}
