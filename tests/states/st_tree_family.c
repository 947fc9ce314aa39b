/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parents, children, grandchildren; sessions and process groups; the ids of all of them. */
#include "state.h"

struct member {
	pid_t pid, ppid, pgid, sid;
	volatile int ready;
};

static struct member *m;
static volatile int *judge;

static void live(int i)
{
	m[i].pid = getpid();
	m[i].ppid = getppid();
	m[i].pgid = getpgid(0);
	m[i].sid = getsid(0);
	m[i].ready = 1;
}

static void check(int i)
{
	ST_EQ(getpid(), m[i].pid);
	ST_EQ(getpgid(0), m[i].pgid);
	ST_EQ(getsid(0), m[i].sid);
	if (i)
		ST_EQ(getppid(), m[i].ppid);
}

/* 1: plain child, 2: own group, 3: own session; each with two children (group of 2's first
 * child: joined) */
static void child(int i)
{
	pid_t sub[2];

	if (i == 2)
		ST_SYS(setpgid(0, 0));
	if (i == 3)
		ST_SYS(setsid());
	for (int k = 0; k < 2; k++) {
		sub[k] = st_fork();
		if (sub[k] == 0) {
			if (k == 1)
				ST_SYS(setpgid(0, 0));
			live(10 + i * 2 + k);
			st_until(judge);
			check(10 + i * 2 + k);
			_exit(20 + k);
		}
	}
	live(i);
	st_until(judge);
	check(i);
	for (int k = 0; k < 2; k++)
		ST_EQ(st_reap(sub[k]), 20 + k);
	_exit(i);
}

int main(int argc, char **argv)
{
	pid_t pid[4] = { 0 };

	st_begin(argc, argv);
	m = st_shared(4096);
	judge = st_shared(4096);
	for (int i = 1; i <= 3; i++) {
		pid[i] = st_fork();
		if (pid[i] == 0)
			child(i);
	}
	live(0);
	for (int i = 1; i <= 3; i++)
		st_until(&m[i].ready);
	for (int i = 12; i < 18; i++)
		st_until(&m[i].ready);
	ST_TRUE(m[2].pgid == m[2].pid && m[3].sid == m[3].pid && m[16].sid == m[3].pid);
	st_wait();
	check(0);
	*judge = 1;
	for (int i = 1; i <= 3; i++)
		ST_EQ(st_reap(pid[i]), i);
	return st_end();
}
