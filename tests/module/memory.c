/* SPDX-License-Identifier: GPL-2.0-or-later */
/* memory.c - snapshots: frozen, consistent, complete, cheap; runs and differences. */
#include "module.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define PAGES 512ul

static void *map(size_t bytes)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* A page that nobody wrote yet is a hole, and zero. */
static uint64_t peek(int snap, uint64_t at, bool *ok)
{
	uint64_t v = 0;

	if (pread(snap, &v, sizeof(v), (off_t)at) != sizeof(v) && errno != ENXIO)
		*ok = false;
	return v;
}

/* --- one lock, three kinds of memory --------------------------------------------------------
 */

struct counted {
	pthread_mutex_t lock; /* shared by the processes */
};

static struct counted *common;
static volatile uint64_t *private_count, *huge_count;
static struct shared *told;

static void *count_on(void *arg)
{
	(void)arg;
	__sync_fetch_and_add(&told->at[2], 1);
	for (;;) {
		pthread_mutex_lock(&common->lock);
		private_count[0]++;
		huge_count[0]++;
		huge_count[300 * PAGE / 8]++;
		told->ticks++;
		private_count[7 * PAGE / 8]++;
		pthread_mutex_unlock(&common->lock);
	}
	return NULL;
}

static void counting(struct shared *sh)
{
	pthread_mutexattr_t attr;
	pthread_t th;
	char *huge = map(4ul << 20);

	told = sh;
	common = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&common->lock, &attr);
	private_count = map(64 * PAGE);
	huge = (char *)(((uintptr_t)huge + (2ul << 20) - 1) & ~((2ul << 20) - 1));
	madvise(huge, 2ul << 20, MADV_HUGEPAGE);
	huge_count = (volatile uint64_t *)huge;
	sh->at[0] = (uintptr_t)private_count;
	sh->at[1] = (uintptr_t)huge_count;
	/* both processes count from the same number on, in private copies */
	fork();
	for (int i = 0; i < 2; i++)
		pthread_create(&th, NULL, count_on, NULL);
	sh->ready = 1;
	count_on(NULL);
}

/* The counters of one process, in the order they are counted: they differ by one at most. */
static bool add_counts(int snap, const struct target *t, uint64_t *first, uint64_t *last)
{
	bool ok = snap >= 0;
	uint64_t a = peek(snap, t->sh->at[0], &ok);
	uint64_t b = peek(snap, t->sh->at[1], &ok);
	uint64_t c = peek(snap, t->sh->at[1] + 300 * PAGE, &ok);
	uint64_t z = peek(snap, t->sh->at[0] + 7 * PAGE, &ok);

	close(snap);
	*first += a;
	*last += z;
	return ok && a >= b && b >= c && c >= z && a - z <= 1;
}

static const char *snapshot_is_consistent(void)
{
	struct target t = mod_start(counting);
	int fd = mod_session(t.pid);

	CHECK(fd >= 0);
	while (t.sh->at[2] < 6 || !t.sh->ticks)
		mod_sleep_ms(1);
	for (int round = 0; round < 30; round++) {
		uint64_t first = 0, last = 0, ticks;
		struct chpox_dump d;

		errno = -mod_dump(fd, &d, CHPOX_DUMP_HOLD, 0, 0);
		CHECK(errno == 0);
		CHECK(d.processes == 2 && d.threads == 6 && d.snapshots == 2);
		ticks = t.sh->ticks;
		CHECK(mod_release(fd) == 0 && mod_ticks(&t));
		for (unsigned i = 0; i < 2; i++)
			CHECK(add_counts(mod_snap(fd, i, NULL), &t, &first, &last));
		/* one holds the lock, and may be anywhere between its first and last step */
		if (first - last > 1)
			printf("# round %d: %llu, %llu, %llu\n", round,
			       (unsigned long long)first, (unsigned long long)ticks,
			       (unsigned long long)last);
		CHECK(ticks && first >= last && first - last <= 1);
		CHECK(first >= ticks && ticks >= last);
	}
	close(fd);
	mod_end(&t);
	return NULL;
}

/* --- a region with known content ------------------------------------------------------------
 */

static void filled(struct shared *sh)
{
	char *p = map(PAGES * PAGE), *dont, *wipe;

	madvise(p, PAGES * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < PAGES; i++)
		memset(p + i * PAGE, (int)(i & 0x7f) + 1, PAGE);
	dont = map(2 * PAGE);
	wipe = map(2 * PAGE);
	memset(dont, 'd', 2 * PAGE);
	memset(wipe, 'w', 2 * PAGE);
	madvise(dont, 2 * PAGE, MADV_DONTFORK);
	madvise(wipe, 2 * PAGE, MADV_WIPEONFORK);
	/* last, or another mapping would find place in it */
	munmap(p + 100 * PAGE, 10 * PAGE);
	sh->at[0] = (uintptr_t)p;
	sh->at[1] = (uintptr_t)dont;
	sh->at[2] = (uintptr_t)wipe;
	sh->ready = 1;
	for (;;) {
		uint64_t page = sh->at[3]; /* asked to write this one */

		if (page) {
			p[(page - 1) * PAGE]++;
			sh->at[3] = 0;
		}
		sh->ticks++;
	}
}

static void write_page(struct target *t, uint64_t page)
{
	t->sh->at[3] = page + 1;
	while (t->sh->at[3])
		mod_sleep_ms(1);
}

static const char *snapshot_is_frozen(void)
{
	struct target t = mod_start(filled);
	int fd = mod_session(t.pid), snap;
	struct chpox_dump d;
	char buf[3 * PAGE], c;
	uint64_t p = t.sh->at[0];

	CHECK(fd >= 0 && mod_dump(fd, &d, 0, 0, 0) == 0);
	snap = mod_snap(fd, 0, NULL);
	CHECK(snap >= 0);
	CHECK(mod_snap(fd, 0, NULL) == -EALREADY);
	write_page(&t, 5);
	CHECK(pread(snap, &c, 1, (off_t)(p + 5 * PAGE)) == 1 && c == 6);
	/* up to a hole, into a hole, behind it, and what fork leaves out */
	CHECK(pread(snap, buf, sizeof(buf), (off_t)(p + 98 * PAGE + 100)) == 2 * PAGE - 100);
	CHECK(buf[0] == 99 && buf[PAGE] == 100);
	CHECK(pread(snap, buf, 1, (off_t)(p + 105 * PAGE)) < 0 && errno == ENXIO);
	CHECK(pread(snap, buf, PAGE, (off_t)(p + 110 * PAGE)) == PAGE && buf[9] == 111);
	CHECK(pread(snap, buf, PAGE, (off_t)t.sh->at[1]) == PAGE && buf[9] == 'd');
	CHECK(pread(snap, buf, PAGE, (off_t)t.sh->at[2]) == PAGE && buf[9] == 'w');
	CHECK(pread(snap, buf, 1, -4096) < 0);
	CHECK(mod_ticks(&t));
	/* it stays when its process is gone, and when the session is */
	mod_end(&t);
	close(fd);
	CHECK(pread(snap, &c, 1, (off_t)(p + 5 * PAGE)) == 1 && c == 6);
	close(snap);
	return NULL;
}

/* How often @flag stands in the flags of the mapping at @at. */
static int has_flag(pid_t pid, uint64_t at, const char *flag)
{
	char path[64], line[512], head[32];
	int found = 0, in = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	snprintf(head, sizeof(head), "%lx-", (unsigned long)at);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, head, strlen(head)) == 0)
			in = 1;
		if (in && strncmp(line, "VmFlags:", 8) == 0) {
			found = strstr(line, flag) != NULL;
			break;
		}
	}
	if (f)
		fclose(f);
	return found;
}

static const char *marks_come_back(void)
{
	struct target t = mod_start(filled);
	int fd = mod_session(t.pid);
	struct chpox_dump d;

	CHECK(has_flag(t.pid, t.sh->at[1], " dc") && has_flag(t.pid, t.sh->at[2], " wf"));
	CHECK(fd >= 0 && mod_dump(fd, &d, 0, 0, 0) == 0);
	CHECK(has_flag(t.pid, t.sh->at[1], " dc") && has_flag(t.pid, t.sh->at[2], " wf"));
	close(fd);
	mod_end(&t);
	return NULL;
}

static const char *runs_and_differences(void)
{
	struct target t = mod_start(filled);
	int fd = mod_session(t.pid), first, second;
	uint64_t p = t.sh->at[0];
	struct chpox_run r[64];
	struct chpox_dump d;

	CHECK(fd >= 0 && mod_dump(fd, &d, 0, 0, 0) == 0);
	first = mod_snap(fd, 0, NULL);
	CHECK(mod_runs(first, -1, p, p + PAGES * PAGE, r, 64) == 2);
	CHECK(r[0].start == p && r[0].bytes == 100 * PAGE && r[0].kind == CHPOX_RUN_ANON);
	CHECK(r[1].start == p + 110 * PAGE && r[1].bytes == (PAGES - 110) * PAGE);
	write_page(&t, 7);
	write_page(&t, 8);
	write_page(&t, 300);
	CHECK(mod_dump(fd, &d, 0, 0, 0) == 0);
	second = mod_snap(fd, 0, NULL);
	CHECK(mod_runs(second, first, p, p + PAGES * PAGE, r, 64) == 2);
	CHECK(r[0].start == p + 7 * PAGE && r[0].bytes == 2 * PAGE);
	CHECK(r[1].start == p + 300 * PAGE && r[1].bytes == PAGE);
	CHECK(mod_runs(second, second, p, p + PAGES * PAGE, r, 64) == 0);
	CHECK(mod_runs(second, 0, p, p + PAGE, r, 64) == -EINVAL);
	CHECK(mod_runs(second, -1, p + 1, p + PAGE, r, 64) == -EINVAL);
	CHECK(mod_runs(first, -1, p, p + PAGES * PAGE, r, 1) == -E2BIG);
	close(first);
	close(second);
	close(fd);
	mod_end(&t);
	return NULL;
}

static const char *soft_dirty_is_told(void)
{
	struct target t = mod_start(filled);
	int fd = mod_session(t.pid), snap, clear;
	uint64_t p = t.sh->at[0];
	struct chpox_run r[64];
	struct chpox_dump d;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", t.pid);
	CHECK(fd >= 0 && mod_dump(fd, &d, CHPOX_DUMP_HOLD, 0, 0) == 0);
	clear = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(clear >= 0 && write(clear, "4", 1) == 1);
	CHECK(mod_release(fd) == 0);
	close(clear);
	write_page(&t, 50);
	CHECK(mod_dump(fd, &d, 0, 0, 0) == 0);
	snap = mod_snap(fd, 0, NULL);
	CHECK(mod_runs(snap, -1, p, p + 100 * PAGE, r, 64) == 3);
	CHECK(!r[0].flags && r[1].flags == CHPOX_RUN_SOFT_DIRTY && !r[2].flags);
	CHECK(r[1].start == p + 50 * PAGE && r[1].bytes == PAGE);
	close(snap);
	close(fd);
	mod_end(&t);
	return NULL;
}

/* Reading must not give the snapshot pages of its own: the base stays equal after it. */
static const char *reading_unshares_nothing(void)
{
	struct target t = mod_start(filled);
	int fd = mod_session(t.pid), first, second;
	uint64_t p = t.sh->at[0];
	struct chpox_run r[64];
	static char buf[100 * PAGE];
	struct chpox_dump d;

	CHECK(fd >= 0 && mod_dump(fd, &d, 0, 0, 0) == 0);
	first = mod_snap(fd, 0, NULL);
	CHECK(pread(first, buf, sizeof(buf), (off_t)p) == sizeof(buf));
	CHECK(mod_dump(fd, &d, 0, 0, 0) == 0);
	second = mod_snap(fd, 0, NULL);
	CHECK(pread(second, buf, sizeof(buf), (off_t)p) == sizeof(buf));
	CHECK(mod_runs(second, first, p, p + PAGES * PAGE, r, 64) == 0);
	close(first);
	close(second);
	close(fd);
	mod_end(&t);
	return NULL;
}

static const char *killed_holder_says_so(void)
{
	struct target t = mod_start(filled);
	int fd = mod_session(t.pid), snap;
	struct chpox_dump d;
	pid_t holder;
	char c;

	CHECK(fd >= 0 && mod_dump(fd, &d, 0, 0, 0) == 0);
	snap = mod_snap(fd, 0, &holder);
	CHECK(snap >= 0 && holder > 0 && kill(holder, SIGKILL) == 0);
	for (int i = 0; i < 1000 && pread(snap, &c, 1, (off_t)t.sh->at[0]) == 1; i++)
		mod_sleep_ms(5);
	CHECK(pread(snap, &c, 1, (off_t)t.sh->at[0]) < 0 && errno == EIO);
	CHECK(mod_ticks(&t));
	close(snap);
	close(fd);
	mod_end(&t);
	return NULL;
}

static void monitored(struct shared *sh)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_FORK };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	reg.range.start = (uintptr_t)map(4 * PAGE);
	reg.range.len = 4 * PAGE;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		sh->error = (uint64_t)errno;
	sh->ready = 1;
	for (;;)
		sh->ticks++;
}

static const char *monitors_of_forks_are_refused(void)
{
	struct target t = mod_start(monitored);
	int fd = mod_session(t.pid);
	struct chpox_dump d;

	if (t.sh->error)
		return "SKIP no userfaultfd";
	CHECK(fd >= 0 && mod_dump(fd, &d, 0, 0, 0) == -EOPNOTSUPP);
	CHECK(mod_ticks(&t));
	close(fd);
	mod_end(&t);
	return NULL;
}

/* --- what it costs --------------------------------------------------------------------------
 */

#define BIG (256ul << 20)

static int compare(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void big(struct shared *sh)
{
	char *p = map(BIG);
	int64_t ns[7];

	madvise(p, BIG, MADV_NOHUGEPAGE);
	memset(p, 1, BIG);
	for (int i = 0; i < 7; i++) {
		int64_t start = mod_now_ns();
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		ns[i] = mod_now_ns() - start;
		waitpid(pid, NULL, 0);
	}
	qsort(ns, 7, sizeof(ns[0]), compare);
	sh->at[0] = (uint64_t)ns[3];
	sh->ready = 1;
	for (;;)
		pause();
}

/* Generous, for the machine is emulated and shared: it fails when something is copied. */
static const char *pause_is_about_a_fork(void)
{
	struct target t = mod_start(big);
	int fd = mod_session(t.pid);
	struct chpox_dump d;
	int64_t ns[7], park[7];

	CHECK(fd >= 0);
	while (!t.sh->ready)
		mod_sleep_ms(10);
	for (int i = 0; i < 7; i++) {
		CHECK(mod_dump(fd, &d, 0, 0, 0) == 0);
		ns[i] = (int64_t)d.pause_ns;
		park[i] = (int64_t)d.park_ns;
	}
	qsort(ns, 7, sizeof(ns[0]), compare);
	qsort(park, 7, sizeof(ns[0]), compare);
	printf("# 256 MiB: fork %.2f ms, pause %.2f (%.2f..%.2f) ms, of it parking %.2f ms\n",
	       (double)t.sh->at[0] / 1e6, (double)ns[3] / 1e6, (double)ns[0] / 1e6,
	       (double)ns[6] / 1e6, (double)park[3] / 1e6);
	CHECK(ns[3] < 4 * (int64_t)t.sh->at[0] + 20000000);
	close(fd);
	mod_end(&t);
	return NULL;
}

const struct mod_test mod_tests_memory[] = {
	{ "a snapshot of a tree is consistent under a lock", snapshot_is_consistent },
	{ "a snapshot is frozen, complete, and outlives its job", snapshot_is_frozen },
	{ "marks of mappings come back", marks_come_back },
	{ "runs and differences are exact", runs_and_differences },
	{ "soft-dirty bits are told", soft_dirty_is_told },
	{ "reading unshares nothing", reading_unshares_nothing },
	{ "a killed holder's snapshot says EIO", killed_holder_says_so },
	{ "monitors of forks are refused", monitors_of_forks_are_refused },
	{ "the pause is about a fork", pause_is_about_a_fork },
	{ NULL, NULL },
};
