/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A directory being read goes on where it was; descriptors of directories work with openat. */
#include "state.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>

int main(int argc, char **argv)
{
	char name[64], seen[300] = { 0 };
	int n = 0, at, raw;
	struct dirent *e;
	off_t pos;
	DIR *d;

	st_begin(argc, argv);
	ST_SYS(mkdir(st_path("dir"), 0700));
	at = ST_SYS(open(st_path("dir"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "entry-with-a-longer-name-%d", i);
		close(ST_SYS(openat(at, name, O_CREAT | O_WRONLY, 0600)));
	}
	d = opendir(st_path("dir"));
	raw = ST_SYS(open(st_path("dir"), O_RDONLY | O_DIRECTORY));
	char part[2048];
	ST_SYS(syscall(SYS_getdents64, raw, part, sizeof(part)));
	pos = ST_SYS(lseek(raw, 0, SEEK_CUR));
	while (n < 120 && (e = readdir(d)) != NULL)
		if (e->d_name[0] == 'e') {
			seen[atoi(e->d_name + 25)]++;
			n++;
		}
	st_wait();
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] == 'e') {
			seen[atoi(e->d_name + 25)]++;
			n++;
		}
	ST_EQ(n, 300);
	for (int i = 0; i < 300; i++)
		ST_CHECK(seen[i] == 1, "entry %d was seen %d times", i, seen[i]);
	ST_EQ(lseek(raw, 0, SEEK_CUR), pos);
	ST_EQ(faccessat(at, "entry-with-a-longer-name-7", F_OK, 0), 0);
	ST_EQ(fcntl(at, F_GETFD), FD_CLOEXEC);
	return st_end();
}
