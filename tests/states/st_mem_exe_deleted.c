/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The executable was deleted while it runs, or (mem_exe_deleted DIR memfd) never had a name on
 * a disk; its text and the name that /proc shows stay.
 */
#include "state.h"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	char exe[512] = "", now[512] = "";

	if (argc == 3 && !strcmp(argv[2], "memfd")) {
		int in = open("/proc/self/exe", O_RDONLY);
		int out = memfd_create("in memory", MFD_CLOEXEC);
		char *args[] = { "in memory", argv[1], "again", "memfd", NULL };
		struct stat st;

		if (in < 0 || out < 0 || fstat(in, &st) != 0 ||
		    sendfile(out, in, NULL, (size_t)st.st_size) != st.st_size)
			return 2;
		fexecve(out, args, environ);
		return 2;
	}
	if (argc == 2) { /* first: a copy of ourselves goes on in our place */
		char copy[600];
		int in = open("/proc/self/exe", O_RDONLY), out;
		struct stat st;

		snprintf(copy, sizeof(copy), "%s/copy", argv[1]);
		out = open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0700);
		if (in < 0 || out < 0 || fstat(in, &st) != 0 ||
		    sendfile(out, in, NULL, (size_t)st.st_size) != st.st_size)
			return 2;
		close(out);
		execl(copy, copy, argv[1], "again", (char *)NULL);
		return 2;
	}
	st_begin(argc, argv);
	if (argc == 3)
		ST_SYS(unlink(st_path("copy")));
	ST_SYS(readlink("/proc/self/exe", exe, sizeof(exe) - 1));
	st_wait();
	ST_OK(readlink("/proc/self/exe", now, sizeof(now) - 1));
	ST_STR(now, exe);
	return st_end();
}
