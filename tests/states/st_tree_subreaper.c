/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A subreaper stays one: orphans made before and after come to it; a session whose leader is
 * gone. */
#include "state.h"

#include <sys/prctl.h>
#include <sys/wait.h>

struct ctl {
	pid_t orphan, sid;
	volatile int go, ready;
};

static void middle(struct ctl *c)
{
	pid_t pid;

	setsid(); /* its session lives on with the orphan, its leader does not */
	pid = st_fork();
	if (pid == 0) {
		c->orphan = getpid();
		c->sid = getsid(0);
		while (getppid() == c->sid)
			st_sleep_ms(1);
		c->ready = 1;
		st_until(&c->go);
		ST_EQ(getsid(0), c->sid);
		ST_EQ(getpgid(0), c->sid);
		_exit(44);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	struct ctl *c;
	pid_t pid;
	int is = 0, status = 0;

	st_begin(argc, argv);
	c = st_shared(4096);
	ST_SYS(prctl(PR_SET_CHILD_SUBREAPER, 1));
	pid = st_fork();
	if (pid == 0)
		middle(c);
	ST_EQ(st_reap(pid), 0);
	st_until(&c->ready);
	st_wait();
	ST_OK(prctl(PR_GET_CHILD_SUBREAPER, &is));
	ST_EQ(is, 1);
	c->go = 1;
	ST_EQ(st_reap(c->orphan), 44);
	pid = st_fork();
	if (pid == 0) {
		if (fork() == 0) {
			st_sleep_ms(50);
			_exit(45);
		}
		_exit(0);
	}
	ST_EQ(st_reap(pid), 0);
	ST_TRUE(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 45);
	return st_end();
}
