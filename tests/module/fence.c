/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fence.c - who is not renewed stands still; who cannot be renewed dies; nobody else does. */
#include "module.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000LL

static int64_t in_ms(int ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec * 1000 * MS + ts.tv_nsec + ms * MS;
}

/* Return: the state before, or -errno. */
static int fence(int fd, unsigned flags, int64_t deadline)
{
	struct chpox_fence f = { .size = sizeof(f), .flags = flags, .deadline = deadline };

	return ioctl(fd, CHPOX_IOC_FENCE, &f) < 0 ? -errno : (int)f.state;
}

static bool comes_to(int fd, int state)
{
	for (int i = 0; i < 1000; i++) {
		if (fence(fd, CHPOX_FENCE_ASK, 0) == state)
			return true;
		mod_sleep_ms(2);
	}
	return false;
}

static bool stands_still(const struct target *t)
{
	uint64_t before = t->sh->ticks;

	mod_sleep_ms(60);
	return t->sh->ticks == before;
}

static bool dies(pid_t pid)
{
	int st = 0;

	for (int i = 0; i < 1000 && waitpid(pid, &st, WNOHANG) == 0; i++)
		mod_sleep_ms(2);
	return WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL;
}

static void counting(struct shared *sh)
{
	sh->ready = 1;
	for (;;)
		__sync_fetch_and_add(&sh->ticks, 1);
}

static const char *who_is_not_renewed_is_frozen(void)
{
	struct target t = mod_start(counting);
	int fd = mod_session(t.pid);

	CHECK(fd >= 0 && fence(fd, 0, in_ms(100)) == CHPOX_FENCE_NONE);
	for (int i = 0; i < 10; i++) {
		mod_sleep_ms(20);
		CHECK(fence(fd, 0, in_ms(100)) == CHPOX_FENCE_ARMED);
	}
	CHECK(mod_ticks(&t));
	CHECK(comes_to(fd, CHPOX_FENCE_FROZEN) && stands_still(&t));
	/* thawed, and frozen again */
	CHECK(fence(fd, 0, in_ms(200)) == CHPOX_FENCE_FROZEN && mod_ticks(&t));
	CHECK(comes_to(fd, CHPOX_FENCE_FROZEN) && stands_still(&t));
	CHECK(fence(fd, CHPOX_FENCE_DISARM, 0) == CHPOX_FENCE_FROZEN && mod_ticks(&t));
	CHECK(fence(fd, CHPOX_FENCE_ASK, 0) == CHPOX_FENCE_NONE);
	CHECK(fence(fd, CHPOX_FENCE_DISARM, 0) == -ENOENT);
	close(fd);
	mod_sleep_ms(50);
	CHECK(mod_ticks(&t));
	mod_end(&t);
	return NULL;
}

static void forking(struct shared *sh)
{
	sh->ready = 1;
	for (;;) {
		pid_t pid = fork();

		if (pid == 0) {
			for (int i = 0; i < 200; i++) {
				__sync_fetch_and_add(&sh->ticks, 1);
				sched_yield();
			}
			if (sh->ticks % 4 == 0)
				continue;
			_exit(0);
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

static const char *a_growing_tree_is_frozen_whole(void)
{
	for (int i = 0; i < 5; i++) {
		struct target t = mod_start(forking);
		int fd = mod_session(t.pid);

		CHECK(fence(fd, 0, in_ms(50)) == CHPOX_FENCE_NONE);
		CHECK(comes_to(fd, CHPOX_FENCE_FROZEN) && stands_still(&t));
		CHECK(fence(fd, CHPOX_FENCE_KILL, 0) == CHPOX_FENCE_FROZEN);
		CHECK(dies(t.pid));
		CHECK(stands_still(&t) && comes_to(fd, CHPOX_FENCE_KILLED));
		close(fd);
		mod_end(&t);
	}
	return NULL;
}

static const char *who_cannot_be_renewed_dies(void)
{
	struct target t = mod_start(counting);
	int fd = mod_session(t.pid);

	CHECK(fence(fd, 0, in_ms(300)) == CHPOX_FENCE_NONE);
	close(fd);
	CHECK(mod_ticks(&t) && dies(t.pid));
	t = mod_start(counting);
	fd = mod_session(t.pid);
	CHECK(fence(fd, 0, in_ms(0)) == CHPOX_FENCE_NONE);
	CHECK(comes_to(fd, CHPOX_FENCE_FROZEN));
	close(fd);
	CHECK(dies(t.pid));
	/* killed before its time, and the deadline comes later */
	t = mod_start(counting);
	fd = mod_session(t.pid);
	CHECK(fence(fd, 0, in_ms(200)) == CHPOX_FENCE_NONE);
	CHECK(fence(fd, CHPOX_FENCE_KILL, 0) == CHPOX_FENCE_ARMED && dies(t.pid));
	close(fd);
	mod_sleep_ms(300);
	return NULL;
}

static const char *a_checkpoint_leads_into_the_fence(void)
{
	struct target t = mod_start(counting);
	int guard = mod_session(t.pid), fd = mod_session(t.pid);
	struct chpox_dump d;
	uint64_t before;

	CHECK(mod_dump(fd, &d, CHPOX_DUMP_HOLD, 0, 0) == 0);
	CHECK(fence(guard, 0, in_ms(20)) == CHPOX_FENCE_NONE);
	CHECK(comes_to(guard, CHPOX_FENCE_FREEZING));
	mod_sleep_ms(30);
	before = t.sh->ticks;
	CHECK(mod_release(fd) == 0 && comes_to(guard, CHPOX_FENCE_FROZEN));
	CHECK(t.sh->ticks == before && stands_still(&t));
	/* frozen, it cannot be checkpointed, and that changes nothing */
	CHECK(mod_dump(fd, &d, 0, 100, 0) == -ETIMEDOUT && stands_still(&t));
	CHECK(fence(guard, 0, in_ms(60000)) == CHPOX_FENCE_FROZEN && mod_ticks(&t));
	CHECK(mod_dump(fd, &d, 0, 0, 0) == 0);
	CHECK(fence(guard, CHPOX_FENCE_DISARM, 0) == CHPOX_FENCE_ARMED);
	close(guard);
	close(fd);
	mod_end(&t);
	return NULL;
}

static const char *strange_fences_are_refused(void)
{
	struct target t = mod_start(counting);
	int fd = mod_session(t.pid), own = mod_session(getpid());
	struct chpox_add add = { sizeof(add), 0, t.pid, 0 };
	pid_t pid;
	int st;

	CHECK(fence(own, 0, in_ms(10000)) == -EDEADLK);
	CHECK(fence(fd, 8, 0) == -EINVAL && fence(fd, 3, 0) == -EINVAL);
	CHECK(fence(fd, 0, -1) == -EINVAL && fence(fd, CHPOX_FENCE_KILL, 0) == -ENOENT);
	CHECK(fence(fd, 0, in_ms(60000)) == CHPOX_FENCE_NONE);
	CHECK(ioctl(fd, CHPOX_IOC_ADD, &add) < 0 && errno == EBUSY);
	CHECK(fence(fd, CHPOX_FENCE_DISARM, 0) == CHPOX_FENCE_ARMED);
	/* a stranger cannot even name it */
	pid = fork();
	if (pid == 0)
		_exit(setuid(65534) || mod_session(t.pid) >= 0 || errno != EPERM);
	CHECK(waitpid(pid, &st, 0) == pid && st == 0);
	CHECK(mod_ticks(&t));
	close(own);
	close(fd);
	mod_end(&t);
	return NULL;
}

const struct mod_test mod_tests_fence[] = {
	{ "fence: who is not renewed is frozen, and thaws", who_is_not_renewed_is_frozen },
	{ "fence: a growing tree is frozen whole, and killed", a_growing_tree_is_frozen_whole },
	{ "fence: who cannot be renewed dies at the deadline", who_cannot_be_renewed_dies },
	{ "fence: a checkpoint leads into it without a step",
	  a_checkpoint_leads_into_the_fence },
	{ "fence: strange ones are refused", strange_fences_are_refused },
	{ NULL, NULL },
};
