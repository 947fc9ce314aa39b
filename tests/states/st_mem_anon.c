/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private anonymous memory of every protection, with guard pages, keeps content and protection.
 */
#include "state.h"

#include <sys/mman.h>

#define LEN (16 * 4096)

static const int prots[] = {
	PROT_READ | PROT_WRITE,
	PROT_READ,
	PROT_NONE,
	PROT_READ | PROT_EXEC,
	PROT_READ | PROT_WRITE | PROT_EXEC,
	PROT_WRITE,
};
#define N (sizeof(prots) / sizeof(prots[0]))

/* "rwxp" of the mapping that holds @p, from /proc/self/maps */
static void perms(const void *p, char out[5])
{
	char *text = st_slurp("/proc/self/maps", NULL), *line = text;

	strcpy(out, "????");
	for (; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		unsigned long a, b;
		char perm[5];

		if (sscanf(line, "%lx-%lx %4s", &a, &b, perm) == 3 && a <= (unsigned long)p &&
		    (unsigned long)p < b)
			strcpy(out, perm);
	}
	free(text);
}

int main(int argc, char **argv)
{
	char before[N][5], after[5], guard[5];
	char *p[N];

	st_begin(argc, argv);
	for (size_t i = 0; i < N; i++) {
		p[i] = ST_SYS((char *)mmap(NULL, LEN + 8192, PROT_NONE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) +
		       4096;
		ST_SYS(mprotect(p[i], LEN, PROT_READ | PROT_WRITE));
		st_fill(p[i], LEN, i + 1);
		/* a hole that was never touched in the middle, and a page of zeroes that was */
		ST_SYS(madvise(p[i] + 4 * 4096, 4096, MADV_DONTNEED));
		memset(p[i] + 5 * 4096, 0, 4096);
		ST_SYS(mprotect(p[i], LEN, prots[i]));
		perms(p[i], before[i]);
	}
	st_wait();
	for (size_t i = 0; i < N; i++) {
		static char zero[2 * 4096], want[LEN];

		perms(p[i], after);
		ST_STR(after, before[i]);
		perms(p[i] - 1, guard);
		ST_STR(guard, "---p");
		perms(p[i] + LEN, guard);
		ST_STR(guard, "---p");
		ST_OK(mprotect(p[i], LEN, PROT_READ | PROT_WRITE));
		st_fill(want, LEN, i + 1);
		memcpy(want + 4 * 4096, zero, sizeof(zero));
		ST_CHECK(!memcmp(p[i], want, LEN), "content of area %zu differs", i);
		p[i][LEN / 2] = 1;
	}
	return st_end();
}
