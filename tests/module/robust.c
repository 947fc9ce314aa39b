/* SPDX-License-Identifier: GPL-2.0-or-later */
/* robust.c - whatever happens to anybody, nobody stays parked. */
#include "module.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void counting(struct shared *sh)
{
	sh->ready = 1;
	for (;;)
		sh->ticks++;
}

static struct shared *told;

static void *tick(void *arg)
{
	(void)arg;
	for (;;) {
		told->ticks++;
		sched_yield();
	}
	return NULL;
}

static bool stands_still(const struct target *t)
{
	uint64_t before = t->sh->ticks;

	mod_sleep_ms(60);
	return t->sh->ticks == before;
}

static const char *closing_releases(void)
{
	struct target t = mod_start(counting);
	struct chpox_dump d;
	int fd = mod_session(t.pid);

	CHECK(fd >= 0 && mod_dump(fd, &d, CHPOX_DUMP_HOLD, 0, 0) == 0);
	CHECK(stands_still(&t));
	CHECK(mod_dump(fd, &d, 0, 0, 0) == -EBUSY);
	close(fd);
	CHECK(mod_ticks(&t));
	fd = mod_session(t.pid);
	CHECK(mod_dump(fd, &d, CHPOX_DUMP_HOLD, 0, 0) == 0 && stands_still(&t));
	CHECK(mod_release(fd) == 0 && mod_ticks(&t));
	CHECK(mod_release(fd) == -ENOENT);
	close(fd);
	mod_end(&t);
	return NULL;
}

static const char *the_clock_releases(void)
{
	struct target t = mod_start(counting);
	struct chpox_dump d;
	int fd = mod_session(t.pid);

	CHECK(fd >= 0 && mod_dump(fd, &d, CHPOX_DUMP_HOLD, 0, 200) == 0);
	CHECK(stands_still(&t) && mod_ticks(&t));
	CHECK(mod_release(fd) == -ETIME);
	CHECK(mod_dump(fd, &d, 0, 0, 0) == 0);
	close(fd);
	mod_end(&t);
	return NULL;
}

static const char *a_second_session_is_refused(void)
{
	struct target t = mod_start(counting);
	struct chpox_dump d;
	int a = mod_session(t.pid), b = mod_session(t.pid);

	CHECK(mod_dump(a, &d, CHPOX_DUMP_HOLD, 0, 0) == 0);
	CHECK(mod_dump(b, &d, 0, 0, 0) == -EBUSY);
	CHECK(stands_still(&t));
	CHECK(mod_release(a) == 0 && mod_ticks(&t));
	CHECK(mod_dump(b, &d, 0, 0, 0) == 0 && mod_dump(a, &d, 0, 0, 0) == 0);
	close(a);
	close(b);
	mod_end(&t);
	return NULL;
}

static const char *a_parked_target_can_be_killed(void)
{
	struct target t = mod_start(counting);
	struct chpox_dump d;
	int fd = mod_session(t.pid), st = 0;

	CHECK(mod_dump(fd, &d, CHPOX_DUMP_HOLD, 0, 0) == 0);
	kill(t.pid, SIGKILL);
	for (int i = 0; i < 500 && waitpid(t.pid, &st, WNOHANG) == 0; i++)
		mod_sleep_ms(5);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
	CHECK(mod_release(fd) == 0);
	CHECK(mod_dump(fd, &d, 0, 0, 0) == -ESRCH);
	close(fd);
	return NULL;
}

/* The dumping process is killed at any moment of it. */
static const char *a_killed_caller_releases(void)
{
	struct target t = mod_start(counting);

	for (int round = 0; round < 40; round++) {
		pid_t pid = fork();

		if (pid == 0) {
			int fd = mod_session(t.pid);

			for (unsigned i = 0;; i++) {
				struct chpox_dump d;

				mod_dump(fd, &d, i & 1 ? CHPOX_DUMP_HOLD : 0, 0, 0);
				mod_release(fd);
			}
		}
		usleep((useconds_t)(round * 731 % 20000 + 1000));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		CHECK(mod_ticks(&t));
	}
	mod_end(&t);
	return NULL;
}

static void forking(struct shared *sh)
{
	sh->ready = 1;
	for (;;) {
		pid_t pid = fork();

		if (pid == 0) {
			if (fork() == 0)
				_exit(0);
			_exit(0);
		}
		sh->ticks++;
		waitpid(pid, NULL, 0);
	}
}

static void *ending(void *arg)
{
	return arg;
}

static void threading(struct shared *sh)
{
	sh->ready = 1;
	for (;;) {
		pthread_t th[4];

		for (int i = 0; i < 4; i++)
			if (pthread_create(&th[i], NULL, ending, NULL))
				th[i] = 0;
		for (int i = 0; i < 4; i++)
			if (th[i])
				pthread_join(th[i], NULL);
		sh->ticks++;
	}
}

static void execing(struct shared *sh)
{
	pthread_t th;

	told = sh;
	sh->ready = 1;
	for (;;) {
		pid_t pid = fork();

		if (pid == 0) {
			char *argv[] = { "/bin/busybox", "true", NULL };

			pthread_create(&th, NULL, tick, NULL);
			execv(argv[0], argv);
			_exit(1);
		}
		waitpid(pid, NULL, 0);
		sh->ticks++;
	}
}

static const char *storm(target_body body)
{
	struct target t = mod_start(body);
	int fd = mod_session(t.pid);
	int good = 0;

	CHECK(fd >= 0);
	for (int i = 0; i < 60; i++) {
		struct chpox_dump d;
		int rc = mod_dump(fd, &d, 0, 2000, 3000);

		errno = -rc;
		CHECK(rc == 0 || rc == -ETIMEDOUT);
		good += rc == 0;
		if (i % 10 == 0)
			CHECK(mod_ticks(&t));
	}
	CHECK(good > 40);
	CHECK(mod_ticks(&t));
	close(fd);
	mod_end(&t);
	return NULL;
}

static const char *wild_forks(void)
{
	return storm(forking);
}

static const char *wild_threads(void)
{
	return storm(threading);
}

static const char *wild_execs(void)
{
	return storm(execing);
}

static void vforking(struct shared *sh)
{
	sh->ready = 1;
	for (;;) {
		if (vfork() == 0) {
			sh->at[0] = 1;
			while (!sh->at[1])
				sh->ticks++;
			_exit(0);
		}
		sh->ticks++;
		sh->at[2]++;
	}
}

static const char *a_vfork_parent_is_still(void)
{
	struct target t = mod_start(vforking);
	int fd = mod_session(t.pid);
	const struct chpox_record *r;
	struct chpox_dump d;
	struct stream s;

	while (!t.sh->at[0])
		mod_sleep_ms(1);
	mod_sleep_ms(10);
	CHECK(mod_dump(fd, &d, CHPOX_DUMP_HOLD, 0, 0) == 0 && d.processes == 2);
	CHECK(d.snapshots == 1 && stands_still(&t) && mod_read(fd, &s));
	r = mod_record(&s, CHPOX_REC_THREAD, t.pid, 0);
	CHECK(r && *(const uint32_t *)mod_payload(r) == CHPOX_THREAD_VFORK);
	free(s.data);
	CHECK(mod_release(fd) == 0 && mod_ticks(&t));
	t.sh->at[1] = 1;
	/* now it does nothing else */
	for (int i = 0; i < 50; i++)
		CHECK(mod_dump(fd, &d, 0, 3000, 5000) == 0);
	for (int i = 0; i < 1000 && t.sh->at[2] < 3; i++)
		mod_sleep_ms(1);
	CHECK(t.sh->at[2] >= 3);
	close(fd);
	mod_end(&t);
	return NULL;
}

/* A parent whose child is no part of the tree sleeps where nothing wakes it. */
static const char *giving_up_harms_nobody(void)
{
	struct target t = mod_start(vforking);
	struct chpox_add add = { sizeof(add), 0, t.pid, 0 };
	struct chpox_dump d;
	int fd = mod_open();

	CHECK(ioctl(fd, CHPOX_IOC_ADD, &add) == 0);
	while (!t.sh->at[0])
		mod_sleep_ms(1);
	mod_sleep_ms(10);
	CHECK(mod_dump(fd, &d, 0, 100, 0) == -ETIMEDOUT);
	t.sh->at[1] = 1;
	for (int i = 0; i < 5000 && t.sh->at[2] < 3; i++)
		mod_sleep_ms(1);
	CHECK(t.sh->at[2] >= 3);
	close(fd);
	mod_end(&t);
	return NULL;
}

static const char *stopped_ones_are_recorded(void)
{
	struct target t = mod_start(counting);
	int fd = mod_session(t.pid), st;
	const struct chpox_record *r;
	struct chpox_dump d;
	struct stream s;

	kill(t.pid, SIGSTOP);
	waitpid(t.pid, &st, WUNTRACED);
	CHECK(WIFSTOPPED(st));
	CHECK(mod_dump(fd, &d, CHPOX_DUMP_HOLD, 0, 0) == 0 && (d.seen & CHPOX_SEEN_STOPPED));
	CHECK(mod_read(fd, &s));
	r = mod_record(&s, CHPOX_REC_THREAD, t.pid, 0);
	CHECK(r && *(const uint32_t *)mod_payload(r) == CHPOX_THREAD_STOPPED);
	free(s.data);
	/* continued while held, it comes to us and not to its program */
	kill(t.pid, SIGCONT);
	CHECK(stands_still(&t));
	CHECK(mod_release(fd) == 0 && mod_ticks(&t));
	/* and one that is continued after a release knows nothing of it */
	kill(t.pid, SIGSTOP);
	waitpid(t.pid, &st, WUNTRACED);
	CHECK(mod_dump(fd, &d, 0, 0, 0) == 0);
	kill(t.pid, SIGCONT);
	CHECK(mod_ticks(&t));
	close(fd);
	mod_end(&t);
	return NULL;
}

static const char *traced_ones_stay_traced(void)
{
	struct target t = mod_start(counting);
	int fd = mod_session(t.pid), st;
	struct chpox_dump d;

	CHECK(ptrace(PTRACE_SEIZE, t.pid, 0, 0) == 0);
	CHECK(ptrace(PTRACE_INTERRUPT, t.pid, 0, 0) == 0);
	CHECK(waitpid(t.pid, &st, 0) == t.pid && WIFSTOPPED(st));
	CHECK(mod_dump(fd, &d, 0, 0, 0) == 0);
	CHECK(stands_still(&t));
	CHECK(ptrace(PTRACE_CONT, t.pid, 0, 0) == 0 && mod_ticks(&t));
	CHECK(mod_dump(fd, &d, 0, 0, 0) == 0 && mod_ticks(&t));
	close(fd);
	mod_end(&t);
	return NULL;
}

static void many_threads(struct shared *sh)
{
	pthread_t th;

	told = sh;
	for (int i = 0; i < 63; i++)
		pthread_create(&th, NULL, tick, NULL);
	sh->ready = 1;
	tick(NULL);
}

static const char *many_threads_park(void)
{
	struct target t = mod_start(many_threads);
	int fd = mod_session(t.pid);
	uint64_t best = UINT64_MAX;
	struct chpox_dump d;

	for (int i = 0; i < 10; i++) {
		CHECK(mod_dump(fd, &d, CHPOX_DUMP_NO_SNAPSHOT, 0, 0) == 0);
		CHECK(d.threads == 64);
		if (d.park_ns < best)
			best = d.park_ns;
	}
	printf("# parking 64 threads: %.2f ms at best\n", (double)best / 1e6);
	CHECK(mod_ticks(&t));
	close(fd);
	mod_end(&t);
	return NULL;
}

/* Random calls with random bytes, by root and by nobody, killed in the middle. */
static void throw_things(pid_t victim, unsigned seed)
{
	static const unsigned cmds[] = { CHPOX_IOC_INFO,    CHPOX_IOC_ADD,  CHPOX_IOC_DUMP,
					 CHPOX_IOC_RELEASE, CHPOX_IOC_SNAP, CHPOX_IOC_RUNS };
	int fds[4];

	srand(seed);
	for (int i = 0; i < 4; i++)
		fds[i] = mod_open();
	for (;;) {
		uint32_t arg[32];
		unsigned cmd = cmds[rand() % 6];
		int fd = fds[rand() % 4];

		for (int i = 0; i < 32; i++)
			arg[i] = rand() % 4 ? 0 : (uint32_t)rand() >> rand() % 32;
		if (rand() % 8)
			arg[0] = _IOC_SIZE(cmd);
		if (cmd == CHPOX_IOC_ADD && rand() % 2)
			arg[2] = (uint32_t)victim;
		if (cmd == CHPOX_IOC_DUMP && rand() % 2)
			arg[1] = (uint32_t)rand() & 3, arg[2] = 50, arg[3] = 100;
		if (cmd == CHPOX_IOC_SNAP && ioctl(fd, cmd, arg) == 0) {
			fds[rand() % 4] = (int)arg[5];
			continue;
		}
		ioctl(fd, cmd, arg);
		if (pread(fd, arg, sizeof(arg), (off_t)rand() << 12) < 0 || rand() % 16 == 0)
			fds[rand() % 4] = mod_open();
		if (fd > 200)
			_exit(0);
	}
}

static const char *random_calls_harm_nobody(void)
{
	struct target t = mod_start(counting);
	int rounds = getenv("MOD_FUZZ") ? atoi(getenv("MOD_FUZZ")) : 20;

	for (int round = 0; round < rounds; round++) {
		pid_t pid[2];

		for (int i = 0; i < 2; i++) {
			pid[i] = fork();
			if (pid[i] == 0) {
				if (i == 1 && (setgid(1000) || setuid(1000)))
					_exit(1);
				throw_things(t.pid, (unsigned)(round * 2 + i));
			}
		}
		mod_sleep_ms(200);
		for (int i = 0; i < 2; i++) {
			kill(pid[i], SIGKILL);
			waitpid(pid[i], NULL, 0);
		}
		CHECK(mod_ticks(&t));
	}
	mod_end(&t);
	return NULL;
}

const struct mod_test mod_tests_robust[] = {
	{ "closing the descriptor releases", closing_releases },
	{ "the clock releases", the_clock_releases },
	{ "a second session on one tree is refused and harms nobody",
	  a_second_session_is_refused },
	{ "a parked target can be killed", a_parked_target_can_be_killed },
	{ "a caller killed at any moment releases", a_killed_caller_releases },
	{ "64 threads park", many_threads_park },
	{ "a target that forks wildly", wild_forks },
	{ "a target that makes threads wildly", wild_threads },
	{ "a target that execs wildly", wild_execs },
	{ "a vfork parent is still while its child is", a_vfork_parent_is_still },
	{ "a dump that gives up harms nobody", giving_up_harms_nobody },
	{ "stopped ones are recorded and continue", stopped_ones_are_recorded },
	{ "traced ones stay traced", traced_ones_stay_traced },
	{ "random calls harm nobody", random_calls_harm_nobody },
	{ NULL, NULL },
};
