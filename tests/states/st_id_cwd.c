/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Working directory (also a deleted one) and root directory. */
#include "state.h"

#include <sys/stat.h>

static void child(volatile int *go, int kind)
{
	char cwd[4096], now[4096];
	struct stat a, b;

	if (kind == 0) { /* a directory that is deleted then */
		ST_SYS(mkdir(st_path("gone"), 0700));
		ST_SYS(chdir(st_path("gone")));
		ST_SYS(rmdir(st_path("gone")));
		ST_EQ(getcwd(cwd, sizeof(cwd)) == NULL, 1);
		go[1] = 1;
		st_until(go);
		ST_EQ(getcwd(now, sizeof(now)) == NULL, 1);
		ST_EQ(open("new", O_CREAT | O_WRONLY, 0600), -1);
		ST_EQ(errno, ENOENT);
		_exit(0);
	}
	ST_SYS(mkdir(st_path("jail"), 0755));
	ST_SYS(mkdir(st_path("jail/in"), 0755));
	close(ST_SYS(open(st_path("jail/in/file"), O_CREAT | O_WRONLY, 0600)));
	ST_SYS(stat(st_path("jail"), &a));
	ST_SYS(chroot(st_path("jail")));
	ST_SYS(chdir("/in"));
	ST_SYS(stat("/", &b));
	go[2] = 1;
	st_until(go);
	go[3] = 1; /* failures cannot be written from here: exit status */
	if (stat("/", &b) != 0 || a.st_ino != b.st_ino || access("file", F_OK) != 0 ||
	    access("/in/file", F_OK) != 0 || access("/etc", F_OK) == 0)
		_exit(1);
	_exit(strcmp(getcwd(now, sizeof(now)), "/in") == 0 ? 0 : 2);
}

int main(int argc, char **argv)
{
	volatile int *go;
	char cwd[4096], now[4096];
	pid_t pid[2];

	st_begin(argc, argv);
	go = st_shared(4096);
	ST_SYS(mkdir(st_path("work dir"), 0755));
	ST_SYS(chdir(st_path("work dir")));
	ST_TRUE(getcwd(cwd, sizeof(cwd)) != NULL);
	for (int i = 0; i < 2; i++) {
		pid[i] = st_fork();
		if (pid[i] == 0)
			child(go, i);
		st_until(go + 1 + i);
	}
	st_wait();
	ST_STR(getcwd(now, sizeof(now)), cwd);
	*go = 1;
	for (int i = 0; i < 2; i++)
		ST_EQ(st_reap(pid[i]), 0);
	return st_end();
}
