/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A program that executes itself again and again; what it has to remember is in its arguments.
 */
#include "state.h"

extern char **environ;

int main(int argc, char **argv)
{
	char path[4096], n[24], *args[] = { argv[0], argv[1], n, NULL };
	long count = argc > 2 ? atol(argv[2]) : 0;

	if (count == 0) {
		st_begin(argc, argv);
		close(ST_SYS(open(st_path("ready"), O_WRONLY | O_CREAT, 0600)));
	}
	if (access(strcat(strcpy(path, argv[1]), "/go"), F_OK) == 0 && count > 20) {
		int fd = open(strcat(strcpy(path, argv[1]), "/result"), O_WRONLY | O_CREAT,
			      0600);

		return write(fd, "PASS\n", 5) == 5 ? 0 : 1;
	}
	usleep(200);
	snprintf(n, sizeof(n), "%ld", count + 1);
	execve("/proc/self/exe", args, environ);
	return 1;
}
