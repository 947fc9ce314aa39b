/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Three generations of forks whose memory went apart in every way: pages written, dropped,
 * unmapped, mapped anew, protected, grown, in parent, child and grandchild. Each judges its
 * own.
 */
#include "state.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PG 4096ul
#define N 64ul

static char *a, *b, *c, *brk0;
static char data[16 * PG] __attribute__((aligned(4096)));
static volatile int *flag;

static void grandchild(void)
{
	ST_SYS(mprotect(a + 40 * PG, 4 * PG, PROT_READ));
	st_fill(a + 4 * PG, PG, 300);
	st_fill(data + 8 * PG, PG, 301);
	ST_SYS(madvise(a + 8 * PG, 2 * PG, MADV_DONTNEED));
	flag[1] = 1;
	st_until(flag);
	ST_CHECK(st_filled(a, PG, 100), "grandchild: page of the grandparent");
	ST_CHECK(st_filled(a + PG, PG, 201), "grandchild: page of the parent");
	ST_CHECK(st_filled(a + 4 * PG, PG, 300), "grandchild: own page");
	ST_CHECK(!a[8 * PG] && !a[9 * PG + 5], "grandchild: dropped page");
	ST_CHECK(st_filled(data, PG, 50) && st_filled(data + 8 * PG, PG, 301) &&
			 st_filled(data + 4 * PG, PG, 204),
		 "grandchild: data");
	ST_CHECK(st_filled(b, 4 * PG, 220), "grandchild: mapped anew");
	a[0] ^= 1;
	_exit(0);
}

static void child(void)
{
	pid_t pid;

	st_fill(a + PG, PG, 201);
	ST_SYS(madvise(a + 2 * PG, PG, MADV_DONTNEED));
	ST_SYS(munmap(a + 20 * PG, 4 * PG));
	ST_SYS(munmap(b, N * PG));
	ST_SYS(mmap(b, 4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		    -1, 0));
	st_fill(b, 4 * PG, 220);
	ST_SYS(sbrk(8 * PG));
	st_fill(brk0 + 4 * PG, 8 * PG, 203);
	st_fill(data + 4 * PG, PG, 204);
	ST_SYS(madvise(c, PG, MADV_DONTFORK));
	pid = st_fork();
	if (pid == 0)
		grandchild();
	st_fill(a + 6 * PG, PG, 206);
	while (!flag[1])
		st_sleep_ms(1);
	flag[2] = 1;
	st_until(flag);
	ST_CHECK(st_filled(a, PG, 100) && st_filled(a + PG, PG, 201), "child: a");
	ST_CHECK(!a[2 * PG] && st_filled(a + 6 * PG, PG, 206), "child: dropped, late");
	ST_CHECK(st_filled(a + 30 * PG, PG, 130),
		 "child: shared with a parent that is not changed");
	ST_CHECK(st_filled(a + 50 * PG, PG, 150), "child: shared until the parent changed it");
	ST_CHECK(st_filled(b, 4 * PG, 220), "child: mapped anew");
	ST_CHECK(st_filled(brk0, 4 * PG, 60) && st_filled(brk0 + 4 * PG, 8 * PG, 203),
		 "child: heap");
	ST_CHECK(msync(a + 20 * PG, PG, MS_ASYNC) == -1, "child: unmapped is there again");
	ST_CHECK(st_filled(c, N * PG, 70), "child: not for its child");
	ST_EQ(st_reap(pid), 0);
	ST_CHECK(st_filled(a, PG, 100), "child: sees what the grandchild wrote");
	_exit(0);
}

int main(int argc, char **argv)
{
	char *line;
	pid_t pid;

	st_begin(argc, argv);
	flag = st_shared(PG);
	a = ST_SYS((char *)mmap(NULL, N * PG, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	b = ST_SYS((char *)mmap(NULL, N * PG, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	c = ST_SYS((char *)mmap(NULL, N * PG, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (size_t i = 0; i < N; i++)
		st_fill(a + i * PG, PG, 100 + i);
	st_fill(b, N * PG, 90);
	st_fill(c, N * PG, 70);
	st_fill(data, PG, 50);
	brk0 = ST_SYS((char *)sbrk(4 * PG));
	st_fill(brk0, 4 * PG, 60);
	pid = st_fork();
	if (pid == 0)
		child();
	while (!flag[2])
		st_sleep_ms(1);
	st_fill(a + 50 * PG, PG, 999);
	ST_SYS(munmap(a + 60 * PG, 4 * PG));
	st_wait();
	line = st_slurp("/proc/self/statm", NULL);
	free(line);
	ST_CHECK(st_filled(a + PG, PG, 101) && st_filled(a + 2 * PG, PG, 102), "parent: a");
	ST_CHECK(st_filled(a + 50 * PG, PG, 999) && st_filled(b, N * PG, 90), "parent: own");
	ST_CHECK(st_filled(data, PG, 50) && !data[4 * PG] && !data[8 * PG], "parent: data");
	ST_CHECK(st_filled(c, N * PG, 70) && st_filled(brk0, 4 * PG, 60), "parent: c, heap");
	a[3 * PG] ^= 1;
	flag[0] = 1;
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
