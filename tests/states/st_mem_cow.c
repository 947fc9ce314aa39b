/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What parent and children share copy-on-write has the right content and is not doubled. */
#include "state.h"

#include <sys/mman.h>

#define LEN (16UL << 20)
#define KIDS 4

static long pss_kb(pid_t pid)
{
	char path[64], *text, *p;
	long v;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	text = st_slurp(path, NULL);
	p = text ? strstr(text, "\nPss:") : NULL;
	v = p ? atol(p + 5) : -1;
	free(text);
	return v;
}

int main(int argc, char **argv)
{
	volatile int *go;
	long before, after;
	pid_t kid[KIDS];
	char *p;

	st_begin(argc, argv);
	go = st_shared(4096);
	p = ST_SYS((char *)mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				-1, 0));
	st_fill(p, LEN, 1);
	for (int i = 0; i < KIDS; i++) {
		kid[i] = st_fork();
		if (kid[i])
			continue;
		st_fill(p + i * 65536, 65536, 100 + (uint64_t)i);
		go[1 + i] = 1;
		st_until(go);
		ST_CHECK(st_filled(p + i * 65536, 65536, 100 + (uint64_t)i),
			 "child %d's own pages", i);
		st_fill(p + i * 65536, 65536, 0);
		_exit(0);
	}
	for (int i = 0; i < KIDS; i++)
		st_until(go + 1 + i);
	before = pss_kb(getpid());
	for (int i = 0; i < KIDS; i++)
		before += pss_kb(kid[i]);
	st_wait();
	after = pss_kb(getpid());
	for (int i = 0; i < KIDS; i++)
		after += pss_kb(kid[i]);
	ST_CHECK(after < before + before / 2, "memory of the tree was %ld kB, is %ld kB",
		 before, after);
	*go = 1;
	for (int i = 0; i < KIDS; i++)
		ST_EQ(st_reap(kid[i]), 0);
	ST_CHECK(st_filled(p, LEN, 1), "the parent's pages");
	return st_end();
}
