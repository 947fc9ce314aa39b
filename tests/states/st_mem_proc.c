/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What /proc says of the address space: cmdline, environ, auxv, exe, comm, and the numbers in
 * stat. */
#include "state.h"

#include <sys/prctl.h>

static char *stat_tail(int from, int to)
{
	char *s = st_slurp("/proc/self/stat", NULL), *p = s ? strrchr(s, ')') : NULL, *out;
	int n = 2;

	out = calloc(1, 1024);
	for (p = p ? strtok(p + 2, " \n") : NULL; p; p = strtok(NULL, " \n"))
		if (++n >= from && n <= to) {
			strcat(out, p);
			strcat(out, " ");
		}
	free(s);
	return out;
}

int main(int argc, char **argv)
{
	static const char *const files[] = { "/proc/self/cmdline", "/proc/self/environ",
					     "/proc/self/auxv", "/proc/self/comm" };
	char *text[4], exe[512] = "", exe2[512] = "", *code, *data;
	size_t len[4];

	st_begin(argc, argv);
	ST_SYS(prctl(PR_SET_NAME, "my new name"));
	memset(argv[0], 'q', strlen(argv[0])); /* as servers do to show what they are at */
	for (int i = 0; i < 4; i++)
		text[i] = st_slurp(files[i], &len[i]);
	ST_SYS(readlink("/proc/self/exe", exe, sizeof(exe) - 1));
	code = stat_tail(26, 28);
	data = stat_tail(45, 51);
	st_wait();
	for (int i = 0; i < 4; i++) {
		size_t n = 0;
		char *now = st_slurp(files[i], &n);

		ST_CHECK(now && n == len[i] && !memcmp(now, text[i], n),
			 "%s differs (%zu bytes, was %zu)", files[i], n, len[i]);
		free(now);
	}
	ST_OK(readlink("/proc/self/exe", exe2, sizeof(exe2) - 1));
	ST_STR(exe2, exe);
	ST_STR(stat_tail(26, 28), code);
	ST_STR(stat_tail(45, 51), data);
	return st_end();
}
