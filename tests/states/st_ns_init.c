/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The root process is PID 1 of a PID namespace, with /proc of its own in a mount namespace: it
 * is so again, and its children have their numbers, an orphan that came to it, too.
 */
#include "state.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

/* PID 1 says in DIR/pid what its number is for others, which its parent tells it. */
static void begin_as_init(int argc, char **argv)
{
	char text[32];
	int to[2], fd;
	ssize_t n;
	pid_t pid;

	ST_SYS(pipe(to));
	if (unshare(CLONE_NEWPID) < 0) {
		st_begin(argc, argv);
		st_skip("no PID namespaces here: %s", strerror(errno));
	}
	pid = fork();
	if (pid > 0) {
		dprintf(to[1], "%d", pid);
		_exit(0);
	}
	n = read(to[0], text, sizeof(text));
	st_begin(argc, argv);
	fd = ST_SYS(open(st_path("pid"), O_WRONLY | O_TRUNC));
	if (n > 0 && write(fd, text, (size_t)n) != n)
		st_die(__FILE__, __LINE__, "write");
	close(fd);
}

int main(int argc, char **argv)
{
	volatile pid_t *pids;
	volatile int *go;
	char path[32];
	pid_t child;

	begin_as_init(argc, argv);
	ST_EQ(getpid(), 1);
	ST_SYS(unshare(CLONE_NEWNS));
	ST_SYS(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	ST_SYS(mount("proc", "/proc", "proc", 0, NULL));
	go = st_shared(4096);
	pids = (volatile pid_t *)go + 8;
	child = st_fork();
	if (child == 0) {
		if (st_fork() == 0) {
			pids[0] = getpid();
			st_until(go);
			_exit(getpid() == pids[0] && getppid() == 1 ? 7 : 1);
		}
		st_until((volatile int *)pids);
		_exit(0);
	}
	ST_EQ(st_reap(child), 0);
	st_wait();
	ST_EQ(getpid(), 1);
	ST_EQ(getppid(), 0);
	snprintf(path, sizeof(path), "/proc/%d/stat", pids[0]);
	ST_EQ(access(path, F_OK), 0);
	ST_EQ(access("/proc/1/stat", F_OK), 0);
	*go = 1;
	ST_EQ(st_reap(pids[0]), 7);
	return st_end();
}
