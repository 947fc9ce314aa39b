/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes that share descriptors, file system data or memory (clone flags) go on sharing
 * them. */
#include "state.h"

#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct ctl {
	volatile int go[3], fd, done[3];
};

static struct ctl *ctl;
static volatile int private_word;

static int child_files(void *arg)
{
	(void)arg;
	st_until(&ctl->go[0]);
	ctl->fd = open("/dev/zero", O_RDONLY);
	close(0);
	return 10;
}

static int child_fs(void *arg)
{
	(void)arg;
	st_until(&ctl->go[1]);
	umask(0123);
	return chdir("/usr") == 0 ? 11 : 1;
}

static int child_vm(void *arg)
{
	(void)arg;
	st_until(&ctl->go[2]);
	private_word = 4711;
	return 12;
}

int main(int argc, char **argv)
{
	static char stack[3][65536] __attribute__((aligned(16)));
	pid_t pid[3];
	char c = 1, cwd[100];

	st_begin(argc, argv);
	ctl = st_shared(4096);
	pid[0] = ST_SYS(clone(child_files, stack[0] + 65536, CLONE_FILES | SIGCHLD, NULL));
	pid[1] = ST_SYS(clone(child_fs, stack[1] + 65536, CLONE_FS | SIGCHLD, NULL));
	pid[2] = ST_SYS(
		clone(child_vm, stack[2] + 65536, CLONE_VM | CLONE_SIGHAND | SIGCHLD, NULL));
	st_wait();
	ctl->go[0] = 1;
	ST_EQ(st_reap(pid[0]), 10);
	ST_EQ(read(ctl->fd, &c, 1), 1);
	ST_EQ(c, 0);
	ST_EQ(fcntl(0, F_GETFD), -1);
	ctl->go[1] = 1;
	ST_EQ(st_reap(pid[1]), 11);
	ST_EQ(umask(0), 0123);
	ST_STR(getcwd(cwd, sizeof(cwd)), "/usr");
	ctl->go[2] = 1;
	ST_EQ(st_reap(pid[2]), 12);
	ST_EQ(private_word, 4711);
	return st_end();
}
