/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c - tests of chpox.ko, in a machine of the rig: loads it, runs the tables, unloads it,
 * and looks into the kernel's log. TAP on standard output.
 *
 *	modtest FILE.ko [REGEX]
 */
#include "module.h"

#include <fcntl.h>
#include <regex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int failures;

const char *mod_fail(const char *file, int line, const char *text)
{
	static char why[512];
	const char *slash = strrchr(file, '/');

	snprintf(why, sizeof(why), "%s:%d: %s (%s)", slash ? slash + 1 : file, line, text,
		 strerror(errno));
	return why;
}

/* --- targets -------------------------------------------------------------------------------
 */

void mod_sleep_ms(int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

int64_t mod_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

struct target mod_start(target_body body)
{
	struct target t = { 0 };

	t.sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	t.pid = fork();
	if (t.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		/* one that a failed test leaves behind must not keep our output open */
		if (!freopen("/dev/null", "w", stdout) || dup2(1, 2) != 2)
			_exit(1);
		body(t.sh);
		_exit(0);
	}
	setpgid(t.pid, t.pid);
	for (int i = 0; i < 20000 && !t.sh->ready; i++)
		mod_sleep_ms(1);
	return t;
}

bool mod_ticks(const struct target *t)
{
	uint64_t before = t->sh->ticks;

	for (int i = 0; i < 5000; i++) {
		if (t->sh->ticks > before + 1)
			return true;
		mod_sleep_ms(1);
	}
	return false;
}

void mod_end(struct target *t)
{
	kill(-t->pid, SIGKILL);
	kill(t->pid, SIGKILL);
	waitpid(t->pid, NULL, 0);
	munmap(t->sh, 4096);
}

/* --- calls ---------------------------------------------------------------------------------
 */

int mod_open(void)
{
	return open("/dev/chpox", O_RDWR | O_CLOEXEC);
}

int mod_session(pid_t pid)
{
	struct chpox_add add = { sizeof(add), CHPOX_ADD_TREE, pid, 0 };
	int fd = mod_open();

	if (fd >= 0 && ioctl(fd, CHPOX_IOC_ADD, &add) < 0) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

int mod_dump(int fd, struct chpox_dump *d, unsigned flags, unsigned park_ms, unsigned hold_ms)
{
	memset(d, 0, sizeof(*d));
	d->size = sizeof(*d);
	d->flags = flags;
	d->park_ms = park_ms;
	d->hold_ms = hold_ms;
	return ioctl(fd, CHPOX_IOC_DUMP, d) < 0 ? -errno : 0;
}

int mod_release(int fd)
{
	struct chpox_release r = { .size = sizeof(r) };

	return ioctl(fd, CHPOX_IOC_RELEASE, &r) < 0 ? -errno : 0;
}

int mod_snap(int fd, unsigned index, pid_t *holder)
{
	struct chpox_snap_arg s = { .size = sizeof(s), .index = index };

	if (ioctl(fd, CHPOX_IOC_SNAP, &s) < 0)
		return -errno;
	if (holder)
		*holder = s.holder;
	return s.fd;
}

int mod_runs(int snap, int base, uint64_t start, uint64_t end, struct chpox_run *runs,
	     unsigned max)
{
	struct chpox_runs r = { .size = sizeof(r),
				.start = start,
				.end = end,
				.buf = (uintptr_t)runs,
				.max = max,
				.base_fd = base };

	if (ioctl(snap, CHPOX_IOC_RUNS, &r) < 0)
		return -errno;
	return r.next == end ? (int)r.count : -E2BIG;
}

bool mod_read(int fd, struct stream *s)
{
	size_t room = 1 << 16;
	ssize_t n;

	s->data = malloc(room);
	s->len = 0;
	while (s->data && (n = read(fd, s->data + s->len, room - s->len)) > 0) {
		s->len += (size_t)n;
		if (s->len == room)
			s->data = realloc(s->data, room *= 2);
	}
	return s->data && s->len;
}

const struct chpox_record *mod_record(const struct stream *s, unsigned type, pid_t pid,
				      unsigned nth)
{
	size_t at = 0;

	while (at + sizeof(struct chpox_record) <= s->len) {
		const struct chpox_record *r = (const void *)(s->data + at);

		if (r->type == type && (!pid || r->pid == pid) && nth-- == 0)
			return r;
		at += sizeof(*r) + (r->bytes + 7) / 8 * 8;
	}
	return NULL;
}

const void *mod_payload(const struct chpox_record *r)
{
	return r + 1;
}

/* --- the run -------------------------------------------------------------------------------
 */

static void verdict(const char *name, const char *why)
{
	const char *where = getenv("RIG_KERNEL") ? getenv("RIG_KERNEL") : "here";

	if (why && strncmp(why, "SKIP", 4) == 0) {
		printf("ok %s: module: %s # %s\n", where, name, why);
	} else if (why) {
		printf("# %s\nnot ok %s: module: %s\n", why, where, name);
		failures++;
	} else {
		printf("ok %s: module: %s\n", where, name);
	}
}

static void run_table(const struct mod_test *t, const regex_t *only)
{
	for (; t->name; t++) {
		int64_t start = mod_now_ns();

		if (only && regexec(only, t->name, 0, NULL, 0))
			continue;
		verdict(t->name, t->run());
		printf("#   %.1f s\n", (double)(mod_now_ns() - start) / 1e9);
	}
}

static const char *unload(void)
{
	int fd = mod_open();
	long rc;

	CHECK(fd >= 0);
	rc = syscall(SYS_delete_module, "chpox", O_NONBLOCK);
	CHECK(rc < 0 && errno == EAGAIN);
	close(fd);
	/* holders of the last snapshots may still be on their way out */
	for (int i = 0; i < 500; i++) {
		rc = syscall(SYS_delete_module, "chpox", O_NONBLOCK);
		if (rc == 0)
			return NULL;
		mod_sleep_ms(10);
	}
	CHECK(rc == 0);
	return NULL;
}

static const char *log_clean(void)
{
	static const char *const bad[] = { "BUG:", "WARNING:", "Oops", "Call Trace",
					   "INFO: task" };
	static char log[1 << 20];
	int n = klogctl(3 /* read all */, log, sizeof(log) - 1);

	CHECK(n > 0);
	log[n] = '\0';
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *at = strstr(log, bad[i]);

		if (at) {
			printf("# %.1500s\n", at);
			return "the kernel complains";
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	regex_t re;
	int fd;

	if (argc < 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0)) {
		printf("not ok module: load %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	close(fd);
	if (argc > 2 && regcomp(&re, argv[2], REG_EXTENDED | REG_NOSUB))
		return 2;
	run_table(mod_tests_state, argc > 2 ? &re : NULL);
	run_table(mod_tests_memory, argc > 2 ? &re : NULL);
	run_table(mod_tests_robust, argc > 2 ? &re : NULL);
	run_table(mod_tests_fence, argc > 2 ? &re : NULL);
	verdict("unload is refused while in use, then works", unload());
	verdict("the kernel's log is clean", log_clean());
	return failures != 0;
}
