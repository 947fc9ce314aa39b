/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pidfds of a child, of a zombie and of oneself. */
#include "state.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	volatile int *go;
	pid_t kid, dead;
	int a, z, self;
	siginfo_t si;

	st_begin(argc, argv);
	go = st_shared(4096);
	kid = st_fork();
	if (kid == 0) {
		st_until(go);
		_exit(8);
	}
	dead = st_fork();
	if (dead == 0)
		_exit(9);
	st_in_state(dead, 'Z', 2000);
	a = ST_SYS((int)syscall(SYS_pidfd_open, kid, 0));
	z = ST_SYS((int)syscall(SYS_pidfd_open, dead, 0));
	self = ST_SYS((int)syscall(SYS_pidfd_open, getpid(), 0));
	st_wait();
	struct pollfd p[2] = { { a, POLLIN, 0 }, { z, POLLIN, 0 } };
	ST_EQ(poll(p, 2, 0), 1);
	ST_TRUE(p[1].revents & POLLIN);
	ST_EQ(syscall(SYS_pidfd_send_signal, self, 0, NULL, 0), 0);
	ST_EQ(syscall(SYS_pidfd_send_signal, a, 0, NULL, 0), 0);
	memset(&si, 0, sizeof(si));
	ST_EQ(waitid(P_PIDFD, (id_t)z, &si, WEXITED), 0);
	ST_EQ(si.si_pid, dead);
	*go = 1;
	ST_EQ(waitid(P_PIDFD, (id_t)a, &si, WEXITED), 0);
	ST_EQ(si.si_status, 8);
	return st_end();
}
