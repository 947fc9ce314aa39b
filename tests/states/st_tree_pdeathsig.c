/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PR_SET_PDEATHSIG is kept and still works. */
#include "state.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static volatile sig_atomic_t got;

static void on_usr2(int sig)
{
	got = sig;
}

int main(int argc, char **argv)
{
	struct {
		volatile int go, ready, end;
	} * c;
	pid_t pid, keep;
	int sig = 0;

	st_begin(argc, argv);
	c = st_shared(4096);
	ST_SYS(prctl(PR_SET_CHILD_SUBREAPER, 1));
	pid = st_fork();
	if (pid == 0) {
		keep = st_fork();
		if (keep == 0) {
			signal(SIGUSR2, on_usr2);
			ST_SYS(prctl(PR_SET_PDEATHSIG, SIGUSR2));
			c->ready = 1;
			while (!c->end && !got)
				st_sleep_ms(5);
			ST_OK(prctl(PR_GET_PDEATHSIG, &sig));
			ST_EQ(sig, SIGUSR2);
			ST_EQ(got, SIGUSR2);
			_exit(0);
		}
		st_until(&c->go);
		_exit(0);
	}
	st_until(&c->ready);
	st_wait();
	c->go = 1;
	ST_EQ(st_reap(pid), 0);
	st_sleep_ms(100);
	c->end = 1;
	ST_TRUE(wait(NULL) > 0);
	return st_end();
}
