/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * meter.c - run a command and measure, from inside its job, how long the job stood still.
 *
 *	meter FILE COMMAND [ARG]...
 *
 * A thread of real-time priority looks at the clock every millisecond. Any longer silence is
 *time in which the job did not run: below LONG_MS a checkpoint's pause, above it the crash and
 *the restart. At the end FILE gets one line: number and largest of the pauses in microseconds,
 *and number of the long silences. Exit status is the command's.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TICK_US 1000
#define PAUSE_US (2 * TICK_US)
#define LONG_MS 1000

struct meter {
	_Atomic int stop;
	uint64_t pauses, largest_us, silences;
};

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

static void *watch(void *arg)
{
	struct meter *m = arg;
	int64_t last = now_us();

	while (!m->stop) {
		struct timespec tick = { 0, TICK_US * 1000 };
		int64_t now, gap;

		nanosleep(&tick, NULL);
		now = now_us();
		gap = now - last - TICK_US;
		last = now;
		if (gap > LONG_MS * 1000LL) {
			m->silences++;
		} else if (gap > PAUSE_US) {
			m->pauses++;
			if ((uint64_t)gap > m->largest_us)
				m->largest_us = (uint64_t)gap;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sched_param first = { .sched_priority = 1 };
	struct meter m = { 0 };
	pthread_t thread;
	int status = 0;
	pid_t pid;
	FILE *f;

	if (argc < 3) {
		fprintf(stderr, "usage: meter FILE COMMAND [ARG]...\n");
		return 2;
	}
	pid = fork();
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		fprintf(stderr, "meter: %s: %s\n", argv[2], strerror(errno));
		_exit(127);
	}
	if (pid < 0 || pthread_create(&thread, NULL, watch, &m)) {
		perror("meter");
		return 1;
	}
	pthread_setschedparam(thread, SCHED_FIFO,
			      &first); /* without it gaps are just less exact */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	m.stop = 1;
	pthread_join(thread, NULL);
	f = fopen(argv[1], "we");
	if (f) {
		fprintf(f, "%llu %llu %llu\n", (unsigned long long)m.pauses,
			(unsigned long long)m.largest_us, (unsigned long long)m.silences);
		fclose(f);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
