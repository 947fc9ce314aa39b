/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * torture.c - a process that changes its memory in every way that write tracking must see:
 * scattered and dense writes, by user code and by the kernel (read, getrandom), new and moved
 * and shrunk maps, madvise, mprotect, fork, exec of a child, huge pages, shared memory. Runs
 * until it is killed. usage: torture SEED
 */
#include <pthread.h>
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

static struct area {
	uint8_t *p;
	size_t pages;
	int shared;
} areas[AREAS];
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
	int kind = (int)rnd(4);
	size_t pages = 1 + rnd(AREA_PAGES);

	a->shared = kind == 3;
	if (kind == 2)
		pages = 1024;
	a->p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
		    (a->shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
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

static void move(struct area *a)
{
	size_t pages = 1 + rnd(AREA_PAGES);
	void *p;

	if (a->shared)
		return;
	p = mremap(a->p, a->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		return; /* what is tracked apart is not one mapping any more */
	a->p = p;
	a->pages = pages;
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

		switch (rnd(16)) {
		case 0:
			munmap(a->p, a->pages * PAGE);
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
		default:
			write_some(a);
		}
		if (rnd(4) == 0)
			nanosleep(&nap, NULL);
	}
}
