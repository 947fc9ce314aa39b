/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process group and a session whose leaders have ended but were not reaped, and one joined
 * from afar. */
#include "state.h"

#include <sys/wait.h>

int main(int argc, char **argv)
{
	volatile int *go;
	pid_t leader, member, far;

	st_begin(argc, argv);
	go = st_shared(4096);
	leader = st_fork();
	if (leader == 0) {
		setpgid(0, 0);
		go[1] = 1;
		st_until(go + 2);
		_exit(1);
	}
	st_until(go + 1);
	member = st_fork();
	if (member == 0) {
		ST_SYS(setpgid(0, leader));
		go[3] = 1;
		st_until(go);
		_exit(getpgid(0) == leader ? 0 : 1);
	}
	st_until(go + 3);
	far = st_fork();
	if (far == 0) {
		pid_t sub = st_fork();

		if (sub == 0) {
			ST_SYS(setpgid(0, leader));
			go[4] = 1;
			st_until(go);
			_exit(getpgid(0) == leader ? 0 : 1);
		}
		st_until(go + 4);
		st_until(go);
		_exit(st_reap(sub));
	}
	st_until(go + 4);
	go[2] = 1;
	ST_TRUE(st_in_state(leader, 'Z', 2000));
	if (argc > 2) /* reaped too: the number lives on as a group only */
		ST_EQ(st_reap(leader), 1);
	st_wait();
	*go = 1;
	ST_EQ(st_reap(member), 0);
	ST_EQ(st_reap(far), 0);
	if (argc <= 2)
		ST_EQ(st_reap(leader), 1);
	return st_end();
}
