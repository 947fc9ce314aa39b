/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process that gets signals all the time loses none and gets none too many. */
#include "state.h"

#include <signal.h>

static volatile sig_atomic_t got;

static void on_sig(int sig)
{
	(void)sig;
	got++;
}

int main(int argc, char **argv)
{
	struct {
		volatile int stop, sent;
	} * c;
	pid_t pid, root;

	st_begin(argc, argv);
	c = st_shared(4096);
	root = getpid();
	signal(SIGRTMIN, on_sig);
	pid = st_fork();
	if (pid == 0) {
		union sigval v = { 0 };

		while (!c->stop) {
			if (sigqueue(root, SIGRTMIN, v) == 0)
				c->sent++;
			if (c->sent % 50 == 0)
				st_sleep_ms(1);
		}
		_exit(0);
	}
	st_wait();
	c->stop = 1;
	ST_EQ(st_reap(pid), 0);
	st_sleep_ms(10);
	ST_EQ(got, c->sent);
	return st_end();
}
