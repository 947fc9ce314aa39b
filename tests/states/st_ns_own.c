/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A child in UTS, IPC, mount and network namespaces of its own. */
#include "state.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/utsname.h>

int main(int argc, char **argv)
{
	volatile int *go;
	struct utsname u;
	pid_t pid;

	st_begin(argc, argv);
	go = st_shared(4096);
	pid = st_fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS | CLONE_NEWNET) != 0)
			_exit(9);
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
		ST_SYS(sethostname("of-the-test", 11));
		ST_SYS(mount("none", "/mnt", "tmpfs", 0, "size=1m"));
		close(ST_SYS(open("/mnt/inside", O_CREAT | O_WRONLY, 0600)));
		go[1] = 1;
		st_until(go);
		uname(&u);
		ST_STR(u.nodename, "of-the-test");
		ST_EQ(access("/mnt/inside", F_OK), 0);
		_exit(0);
	}
	st_until(go + 1);
	st_wait();
	*go = 1;
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
