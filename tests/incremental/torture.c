/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * torture.c - a process that changes its memory in every way that write tracking must see:
 * scattered and dense writes, by user code and by the kernel (read, getrandom), new and moved
 * and shrunk maps, madvise, reads of what was given back, mprotect, fork, children that live on
 * copy-on-write memory or execute another program, huge pages, shared memory (anonymous,
 * memfds that are written and punched without a mapping, private mappings of such). Runs until
 * it is killed. usage: torture SEED
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define AREAS 24
#define AREA_PAGES 512ul
#define KEPT 2

static struct area {
	uint8_t *p;
	size_t pages;
	int shared;
	int fd; /* of a memfd, -1: none */
} areas[AREAS];
static pid_t kept[KEPT]; /* children that live on */
static uint64_t rng;

static uint64_t rnd(uint64_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % below;
}

static void make(struct area *a)
{
	int kind = (int)rnd(6), type;
	size_t pages = 1 + rnd(AREA_PAGES);

	a->shared = kind == 3 || kind == 4;
	a->fd = kind >= 4 ? memfd_create("torture", MFD_CLOEXEC) : -1;
	if (kind == 2)
		pages = 1024;
	if (a->fd >= 0 && ftruncate(a->fd, (off_t)(pages * PAGE)) < 0)
		exit(2);
	type = (a->shared ? MAP_SHARED : MAP_PRIVATE) | (a->fd < 0 ? MAP_ANONYMOUS : 0);
	a->p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, type, a->fd, 0);
	if (a->p == MAP_FAILED)
		exit(2);
	a->pages = pages;
	if (kind == 2)
		madvise(a->p, pages * PAGE, MADV_HUGEPAGE);
}

static void write_some(struct area *a)
{
	size_t n = 1 + rnd(20);

	for (size_t i = 0; i < n; i++)
		a->p[rnd(a->pages) * PAGE + rnd(PAGE)] = (uint8_t)rng;
	if (rnd(8) == 0)
		memset(a->p, (int)rng, a->pages * PAGE / 2);
	if (rnd(8) == 0 && getrandom(a->p + rnd(a->pages) * PAGE, 100, 0) < 0)
		exit(2);
}

static void unmake(struct area *a)
{
	munmap(a->p, a->pages * PAGE);
	if (a->fd >= 0)
		close(a->fd);
}

/* A memfd's content, without its mapping. */
static void write_object(struct area *a)
{
	uint64_t at = rnd(a->pages) * PAGE;

	if (a->fd < 0)
		return;
	if (pwrite(a->fd, &rng, sizeof(rng), (off_t)(at + rnd(PAGE - 8))) < 0)
		exit(2);
	if (rnd(4) == 0)
		fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)(rnd(a->pages) * PAGE), PAGE);
}

static void move(struct area *a)
{
	size_t pages = 1 + rnd(AREA_PAGES);
	void *p;

	if (a->shared)
		return;
	if (a->fd >= 0 && ftruncate(a->fd, (off_t)(pages * PAGE)) < 0)
		exit(2);
	p = mremap(a->p, a->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		return; /* what is tracked apart is not one mapping any more */
	a->p = p;
	a->pages = pages;
}

/* What was given back and is only read then has pages, too. */
static void read_some(struct area *a, size_t first, size_t n)
{
	volatile uint8_t sum = 0;

	for (size_t i = first; i < first + n && i < a->pages; i++)
		sum = (uint8_t)(sum + a->p[i * PAGE]);
}

static void give_back(struct area *a)
{
	size_t first = rnd(a->pages), n = 1 + rnd(a->pages - first);

	if (a->shared)
		return;
	madvise(a->p + first * PAGE, n * PAGE, MADV_DONTNEED);
	if (a->fd < 0 || rnd(2))
		read_some(a, first, n);
}

static void advise(struct area *a)
{
	static const int what[] = { MADV_DONTNEED,
				    MADV_FREE,
				    MADV_NOHUGEPAGE,
				    MADV_HUGEPAGE,
				    MADV_PAGEOUT,
				    MADV_COLD,
				    25 /* COLLAPSE */ };
	size_t first = rnd(a->pages), n = 1 + rnd(a->pages - first);

	if (a->shared)
		return;
	madvise(a->p + first * PAGE, n * PAGE, what[rnd(7)]);
	if (rnd(2))
		read_some(a, first, n);
}

static void protect(struct area *a)
{
	size_t first = rnd(a->pages), n = 1 + rnd(a->pages - first);

	mprotect(a->p + first * PAGE, n * PAGE, PROT_READ);
	mprotect(a->p + first * PAGE, n * PAGE, PROT_READ | PROT_WRITE);
}

/* A hole in the middle, and something new in the same place. */
static void replace(struct area *a)
{
	size_t first = rnd(a->pages), n = 1 + rnd(a->pages - first);

	if (a->shared)
		return;
	munmap(a->p + first * PAGE, n * PAGE);
	if (mmap(a->p + first * PAGE, n * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		exit(2);
	if (rnd(2))
		a->p[first * PAGE] = 7;
}

static void child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (int i = 0; i < AREAS; i++)
			write_some(&areas[i]);
		_exit(0);
	}
	for (int i = 0; i < 4; i++)
		write_some(&areas[rnd(AREAS)]);
	waitpid(pid, NULL, 0);
}

/* A child that lives on and writes to what it shares copy-on-write, or executes this again. */
static void keep_child(const char *seed)
{
	struct timespec nap = { .tv_nsec = 700000 };
	pid_t *k = &kept[rnd(KEPT)];

	if (*k) {
		kill(*k, SIGKILL);
		waitpid(*k, NULL, 0);
	}
	*k = fork();
	if (*k)
		return;
	memset(kept, 0, sizeof(kept));
	if (rnd(2))
		execl("/proc/self/exe", "torture", seed, "child", NULL);
	for (;;) {
		write_some(&areas[rnd(AREAS)]);
		nanosleep(&nap, NULL);
		if (rnd(400) == 0)
			execl("/proc/self/exe", "torture", seed, "child", NULL);
	}
}

static void *scribble(void *arg)
{
	static uint64_t counters[64][512];
	struct timespec nap = { .tv_nsec = 300000 };

	for (uint64_t n = 0;; n++) {
		((volatile uint64_t *)counters[n % 64])[n % 512] = n;
		nanosleep(&nap, NULL);
	}
	return arg;
}

int main(int argc, char **argv)
{
	struct timespec nap = { .tv_nsec = 500000 };
	pthread_t t;

	rng = 88172645463325252ull + (argc > 1 ? strtoull(argv[1], NULL, 10) : 0);
	for (int i = 0; i < AREAS; i++)
		make(&areas[i]);
	pthread_create(&t, NULL, scribble, NULL);
	for (;;) {
		struct area *a = &areas[rnd(AREAS)];

		switch (rnd(20)) {
		case 0:
			unmake(a);
			make(a);
			break;
		case 1:
			move(a);
			break;
		case 2:
		case 3:
			advise(a);
			break;
		case 4:
			protect(a);
			break;
		case 5:
			replace(a);
			break;
		case 6:
			if (rnd(4) == 0)
				child();
			break;
		case 7:
			free(malloc(1 + rnd(1 << 20)));
			break;
		case 8:
			read_some(a, rnd(a->pages), 40);
			break;
		case 9:
			write_object(a);
			break;
		case 10:
			if (argc < 3 && rnd(30) == 0)
				keep_child(argc > 1 ? argv[1] : "0");
			break;
		case 11:
			give_back(a);
			break;
		default:
			write_some(a);
		}
		if (rnd(4) == 0)
			nanosleep(&nap, NULL);
	}
}
