/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flock, POSIX and open-file-description locks: held after the restart, by the right owner,
 * over the right bytes. */
#include "state.h"

#include <sys/file.h>

/* 0: another process may take the lock, else the type that stands in the way */
static int posix_probe(int fd, off_t start, off_t len, int type, pid_t *owner)
{
	struct flock l = {
		.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len
	};

	if (fcntl(fd, F_GETLK, &l) != 0)
		return -errno;
	*owner = l.l_pid;
	return l.l_type == F_UNLCK ? 0 : l.l_type + 1;
}

static void posix(int fd, int type, off_t start, off_t len)
{
	struct flock l = {
		.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len
	};

	ST_SYS(fcntl(fd, F_SETLK, &l));
}

static int judge(pid_t parent)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10 };
	int a = ST_OK(open(st_path("flock"), O_RDWR)),
	    s = ST_OK(open(st_path("shared"), O_RDWR));
	int p = ST_OK(open(st_path("posix"), O_RDWR)), o = ST_OK(open(st_path("ofd"), O_RDWR));
	pid_t who = 0;

	ST_EQ(flock(a, LOCK_EX | LOCK_NB), -1);
	ST_EQ(flock(a, LOCK_SH | LOCK_NB), -1);
	ST_EQ(flock(s, LOCK_EX | LOCK_NB), -1);
	ST_EQ(flock(s, LOCK_SH | LOCK_NB), 0);
	ST_EQ(posix_probe(p, 0, 10, F_RDLCK, &who), F_WRLCK + 1);
	ST_EQ(who, parent);
	ST_EQ(posix_probe(p, 10, 90, F_WRLCK, &who), 0);
	ST_EQ(posix_probe(p, 100, 50, F_WRLCK, &who), F_RDLCK + 1);
	ST_EQ(posix_probe(p, 100, 50, F_RDLCK, &who), 0);
	ST_EQ(posix_probe(p, 5000000, 1, F_RDLCK, &who), F_WRLCK + 1); /* to the end */
	ST_EQ(fcntl(o, F_OFD_SETLK, &l), -1);
	l.l_start = 10;
	ST_EQ(fcntl(o, F_OFD_SETLK, &l), 0);
	return 0;
}

int main(int argc, char **argv)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10 };
	int a, s, p, o;
	pid_t pid, root;

	st_begin(argc, argv);
	root = getpid();
	a = ST_SYS(open(st_path("flock"), O_RDWR | O_CREAT, 0600));
	s = ST_SYS(open(st_path("shared"), O_RDONLY | O_CREAT, 0600));
	p = ST_SYS(open(st_path("posix"), O_RDWR | O_CREAT, 0600));
	o = ST_SYS(open(st_path("ofd"), O_RDWR | O_CREAT, 0600));
	ST_SYS(flock(a, LOCK_EX));
	ST_SYS(flock(s, LOCK_SH));
	posix(p, F_WRLCK, 0, 10);
	posix(p, F_RDLCK, 100, 50);
	posix(p, F_WRLCK, 1000000, 0);
	ST_SYS(fcntl(o, F_OFD_SETLK, &l));
	st_wait();
	pid = st_fork();
	if (pid == 0)
		_exit(judge(root));
	ST_EQ(st_reap(pid), 0);
	close(a);
	a = ST_OK(open(st_path("flock"), O_RDWR));
	ST_EQ(flock(a, LOCK_EX | LOCK_NB), 0); /* the last descriptor gone, so is the lock */
	return st_end();
}
