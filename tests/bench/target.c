/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * target.c - the process that the bench checkpoints.
 *
 *	target SIZE KIND FILE [DIRTY]
 *
 * Fills SIZE of memory (4 KiB pages) with data of KIND, makes FILE, sleeps. A thread of
 *real-time priority reads the clock all the time (every TICK_US). Each command is a signal, its
 *answer a line at the end of FILE:
 *
 *	SIGUSR1		"fork SECONDS": how long its own fork() takes
 *	SIGUSR2		"gap SECONDS AT": the largest gap the clock thread saw since the last
 *			answer, and the time of day (seconds) of the first look after it
 *	SIGHUP		"dirty SECONDS START": write DIRTY bytes of pages at random
 *	SIGPROF		"track 0 0": note its own writes, as bare.c needs it
 *	SIGVTALRM	"work SECONDS": dirty once a second and compute, WORK_S long; what was
 *			lost in the mean second by slower writes and by not running
 *	SIGTERM		exit
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "data.h"

#define TICK_US 50
#define WORK_S 10
#define GAP_NS 5000	      /* a look at the clock takes 30 */
#define WP_ASYNC (1ull << 15) /* UFFD_FEATURE_WP_ASYNC */

struct watch {
	_Atomic int64_t gap_ns, at_ns; /* largest gap, time of day after it */
};

static struct {
	uint8_t *p;
	uint64_t size, dirty; /* bytes */
	uint64_t rng;
} memory = { .rng = 88172645463325252ull };

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* Time of day, for it is the clock that a restart does not shift. */
static void *look(void *arg)
{
	struct timespec tick = { 0, TICK_US * 1000 };
	struct watch *w = arg;
	int64_t last = now_ns(CLOCK_REALTIME);

	for (;;) {
		int64_t now;

		nanosleep(&tick, NULL);
		now = now_ns(CLOCK_REALTIME);
		if (now - last > w->gap_ns) {
			w->gap_ns = now - last;
			w->at_ns = now;
		}
		last = now;
	}
	return NULL;
}

static double own_fork(void)
{
	int64_t start = now_ns(CLOCK_MONOTONIC), end;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	end = now_ns(CLOCK_MONOTONIC);
	waitpid(pid, NULL, 0);
	return (double)(end - start) / 1e9;
}

static double dirty(void)
{
	int64_t start = now_ns(CLOCK_MONOTONIC);
	uint64_t *r = &memory.rng;

	for (uint64_t i = 0; i < memory.dirty / 4096; i++) {
		*r ^= *r << 13;
		*r ^= *r >> 7;
		*r ^= *r << 17;
		memory.p[*r % (memory.size / 4096) * 4096 + *r % 4096] ^= (uint8_t)i;
	}
	return (double)(now_ns(CLOCK_MONOTONIC) - start) / 1e9;
}

static double track(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);
	struct uffdio_api api = { .api = UFFD_API, .features = WP_ASYNC };
	struct uffdio_register reg = { .range = { (uintptr_t)memory.p, memory.size },
				       .mode = UFFDIO_REGISTER_MODE_WP };

	return fd >= 0 && !ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg)
		       ? 0
		       : -1;
}

static double work(void)
{
	int64_t until = now_ns(CLOCK_MONOTONIC);
	double lost = 0;

	for (int i = 0; i < WORK_S; i++) {
		int64_t last, now;

		until += 1000000000;
		lost += dirty();
		last = now_ns(CLOCK_MONOTONIC);
		while (last < until) {
			now = now_ns(CLOCK_MONOTONIC);
			if (now - last > GAP_NS)
				lost += (double)(now - last) / 1e9;
			last = now;
		}
	}
	return lost / WORK_S;
}

static void answer(int fd, const char *what, double a, double b)
{
	char line[80];
	int n = snprintf(line, sizeof(line), "%s %.6f %.6f\n", what, a, b);

	if (write(fd, line, (size_t)n) != n)
		_exit(1);
}

static void serve(int fd, struct watch *w)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGPROF);
	sigaddset(&set, SIGVTALRM);
	sigaddset(&set, SIGTERM);
	for (;;) {
		if (sigwait(&set, &sig))
			continue;
		if (sig == SIGTERM)
			return;
		if (sig == SIGUSR1)
			answer(fd, "fork", own_fork(), 0);
		else if (sig == SIGHUP)
			answer(fd, "dirty", dirty(), (double)(uintptr_t)memory.p);
		else if (sig == SIGPROF)
			answer(fd, "track", track(), 0);
		else if (sig == SIGVTALRM)
			answer(fd, "work", work(), 0);
		else
			answer(fd, "gap", (double)w->gap_ns / 1e9, (double)w->at_ns / 1e9);
		w->gap_ns = 0;
	}
}

int main(int argc, char **argv)
{
	struct sched_param first = { .sched_priority = 1 };
	struct watch watch = { 0 };
	pthread_t thread;
	uint64_t size;
	sigset_t set;
	int kind, fd;
	void *p;

	if (argc < 4 || argc > 5 || (size = bench_size_of(argv[1])) == 0 ||
	    (kind = bench_kind_of(argv[2])) < 0) {
		fprintf(stderr, "usage: target SIZE mix|random FILE [DIRTY]\n");
		return 2;
	}
	sigfillset(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || (madvise(p, size, MADV_NOHUGEPAGE) && size > 4096)) {
		perror("target: memory");
		return 1;
	}
	bench_fill(p, size, 1, kind);
	memory.p = p;
	memory.size = size;
	memory.dirty = argc > 4 ? bench_size_of(argv[4]) : 0;
	if (pthread_create(&thread, NULL, look, &watch)) {
		perror("target: thread");
		return 1;
	}
	pthread_setschedparam(thread, SCHED_FIFO, &first);
	fd = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0) {
		perror(argv[3]);
		return 1;
	}
	answer(fd, "ready", 0, 0);
	serve(fd, &watch);
	return 0;
}
