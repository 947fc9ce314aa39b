/* SPDX-License-Identifier: GPL-2.0-or-later */
/* User and group ids in all four flavours, supplementary groups, also of single threads. */
#include "state.h"

#include <grp.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static volatile int judge, up;

/* Uid and Gid lines of this thread, and Groups */
static void ids(char out[3][200])
{
	static const char *const keys[] = { "Uid", "Gid", "Groups" };

	for (int i = 0; i < 3; i++) {
		char *s = st_status(0, keys[i]);

		snprintf(out[i], 200, "%s", s ? s : "?");
		free(s);
	}
}

static void *worker(void *arg)
{
	char before[3][200], after[3][200];

	(void)arg;
	/* the raw call changes this thread alone */
	ST_SYS(syscall(SYS_setresgid, 44, 45, 46));
	ST_SYS(syscall(SYS_setresuid, 1044, 1045, 0));
	ids(before);
	__sync_fetch_and_add(&up, 1);
	while (!judge)
		st_sleep_ms(5);
	ids(after);
	for (int i = 0; i < 3; i++)
		ST_STR(after[i], before[i]);
	return NULL;
}

static int child(volatile int *go)
{
	char before[3][200], after[3][200];
	gid_t groups[] = { 5, 1000, 70000, 4294967290u };

	ST_SYS(setgroups(4, groups));
	ST_SYS(setresgid(1001, 1002, 1003));
	ST_SYS(setresuid(2001, 2002, 2003));
	ids(before);
	go[1] = 1;
	st_until(go);
	ids(after);
	for (int i = 0; i < 3; i++)
		ST_STR(after[i], before[i]);
	ST_EQ(setresuid(0, 0, 0), -1);
	return 0;
}

int main(int argc, char **argv)
{
	char before[3][200], after[3][200];
	volatile int *go;
	pthread_t t;
	pid_t pid;

	st_begin(argc, argv);
	if (geteuid() != 0)
		st_skip("needs root");
	chmod(st_path("."), 01777);
	go = st_shared(4096);
	pid = st_fork();
	if (pid == 0)
		_exit(child(go));
	st_until(go + 1);
	ST_ZERO(pthread_create(&t, NULL, worker, NULL));
	while (!up)
		st_sleep_ms(1);
	setfsgid(777);
	setfsuid(0);
	ids(before);
	st_wait();
	ids(after);
	for (int i = 0; i < 3; i++)
		ST_STR(after[i], before[i]);
	judge = 1;
	*go = 1;
	pthread_join(t, NULL);
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
