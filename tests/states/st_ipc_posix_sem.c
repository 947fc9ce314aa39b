/* SPDX-License-Identifier: GPL-2.0-or-later */
/* POSIX semaphores: named, and in shared memory with a waiter. */
#include "state.h"

#include <semaphore.h>

int main(int argc, char **argv)
{
	char name[64];
	sem_t *named, *mine;
	int val = 0;
	pid_t pid;

	st_begin(argc, argv);
	snprintf(name, sizeof(name), "/st_sem.%d", getpid());
	named = sem_open(name, O_CREAT | O_EXCL, 0600, 3);
	if (named == SEM_FAILED)
		st_die(__FILE__, __LINE__, "sem_open");
	mine = st_shared(4096);
	ST_SYS(sem_init(mine, 1, 0));
	pid = st_fork();
	if (pid == 0) {
		while (sem_wait(mine) != 0)
			;
		_exit(sem_post(named) == 0 ? 0 : 1);
	}
	st_sleep_ms(20);
	st_wait();
	sem_getvalue(named, &val);
	ST_EQ(val, 3);
	ST_EQ(sem_post(mine), 0);
	ST_EQ(st_reap(pid), 0);
	sem_getvalue(named, &val);
	ST_EQ(val, 4);
	sem_unlink(name);
	return st_end();
}
