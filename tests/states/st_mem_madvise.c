/* SPDX-License-Identifier: GPL-2.0-or-later */
/* madvise() flags that change meaning, judged by VmFlags and by what fork does. */
#include "state.h"

#include <sys/mman.h>

static const struct {
	int advice;
	const char *flag;
} kinds[] = {
	{ MADV_DONTFORK, "dc" },   { MADV_WIPEONFORK, "wf" }, { MADV_DONTDUMP, "dd" },
	{ MADV_NOHUGEPAGE, "nh" }, { MADV_HUGEPAGE, "hg" },   { MADV_MERGEABLE, "mg" },
	{ MADV_SEQUENTIAL, "sr" }, { MADV_RANDOM, "rr" },
};
#define N (sizeof(kinds) / sizeof(kinds[0]))
#define LEN (8 * 4096)

static bool has_flag(const void *p, const char *flag)
{
	char *text = st_slurp("/proc/self/smaps", NULL), *line = text;
	bool inside = false, found = false;

	for (; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		unsigned long a, b;

		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			inside = a <= (unsigned long)p && (unsigned long)p < b;
		else if (inside && !strncmp(line, "VmFlags:", 8)) {
			const char *f = strstr(line, flag);

			found = f && f < strchr(line, '\n');
		}
	}
	free(text);
	return found;
}

int main(int argc, char **argv)
{
	char *p[N], *untouched;
	bool had[N];
	pid_t pid;

	st_begin(argc, argv);
	for (size_t i = 0; i < N; i++) {
		p[i] = ST_SYS((char *)mmap(NULL, LEN + 4096, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		ST_SYS(mprotect(p[i] + LEN, 4096, PROT_NONE));
		st_fill(p[i], LEN, i);
		had[i] = madvise(p[i], LEN, kinds[i].advice) == 0 &&
			 has_flag(p[i], kinds[i].flag);
	}
	ST_TRUE(had[0] && had[1] && had[2]);
	untouched = ST_SYS((char *)mmap(NULL, LEN, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	ST_SYS(madvise(untouched, LEN, MADV_DONTFORK));
	st_wait();
	ST_TRUE(has_flag(untouched, "dc"));
	for (int i = 0; i < LEN; i += 4096)
		ST_EQ(untouched[i], 0);
	for (size_t i = 0; i < N; i++) {
		ST_CHECK(has_flag(p[i], kinds[i].flag) == had[i], "flag %s is %s",
			 kinds[i].flag, had[i] ? "lost" : "new");
		ST_CHECK(st_filled(p[i], LEN, i), "content of %s", kinds[i].flag);
	}
	pid = st_fork();
	if (pid == 0) {
		bool zero = true;

		for (int i = 0; i < LEN; i++)
			zero &= p[1][i] == 0;
		_exit(zero && msync(p[0], LEN, MS_ASYNC) == -1 ? 0 : 1);
	}
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
