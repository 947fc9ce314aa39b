/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The whole list of mappings, line by line, with VmFlags. */
#include "state.h"

#include <sys/mman.h>
#include <sys/prctl.h>

/* start-end perms offset name and VmFlags of each mapping; the kernel's own last ones may
 * differ */
static char *layout(void)
{
	char *text = st_slurp("/proc/self/smaps", NULL), *out, *save = NULL;
	size_t n = 0;

	out = calloc(1, strlen(text) + 1);
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		unsigned long a, b;
		char *p;

		if (sscanf(l, "%lx-%lx ", &a, &b) != 2 && strncmp(l, "VmFlags", 7) != 0)
			continue;
		if (strstr(l, "[vsyscall]"))
			break;
		if ((p = strstr(l, " sd"))) /* soft-dirty says nothing of ours */
			memmove(p, p + 3, strlen(p + 3) + 1);
		n += (size_t)sprintf(out + n, "%s\n", l);
	}
	free(text);
	return out;
}

int main(int argc, char **argv)
{
	char *before, *after;
	char *area;

	st_begin(argc, argv);
	area = ST_SYS((char *)mmap(NULL, 4000 * 4096, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	for (int i = 0; i < 1000; i++) {
		area[i * 4 * 4096] = (char)i;
		ST_SYS(mprotect(area + i * 4 * 4096, 4096, i % 3 ? PROT_READ : PROT_NONE));
	}
#ifdef PR_SET_VMA
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, area + 3990 * 4096, 4096, "a name");
#endif
	layout(); /* the heap has grown as far as it will */
	free(layout());
	before = layout();
	st_wait();
	after = layout();
	if (strcmp(before, after) != 0) {
		char *sa = NULL, *sb = NULL;
		char *a = strtok_r(before, "\n", &sa), *b = strtok_r(after, "\n", &sb);
		int shown = 0;

		for (; a && b && shown < 6;
		     a = strtok_r(NULL, "\n", &sa), b = strtok_r(NULL, "\n", &sb))
			if (strcmp(a, b) != 0) {
				st_fail(__FILE__, __LINE__, "\"%s\" was \"%s\"", b, a);
				shown++;
			}
		ST_CHECK(false, "the mappings differ");
	}
	for (int i = 0; i < 1000; i++)
		if (i % 3)
			ST_EQ(area[i * 4 * 4096], (char)i);
	return st_end();
}
