/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SysV semaphores: values, undo values, waiters. */
#include "state.h"

#include <sys/ipc.h>
#include <sys/sem.h>

int main(int argc, char **argv)
{
	unsigned short vals[4] = { 1, 0, 77, 5 }, now[4] = { 0 };
	struct sembuf undo = { 3, 3, SEM_UNDO }, down = { 1, -1, 0 }, up = { 1, 1, 0 };
	volatile int *go;
	key_t key;
	pid_t pid, waiter;
	int id;

	st_begin(argc, argv);
	go = st_shared(4096);
	key = (key_t)(0x53550000 + getpid());
	id = ST_SYS(semget(key, 4, IPC_CREAT | IPC_EXCL | 0600));
	ST_SYS(semctl(id, 0, SETALL, vals));
	pid = st_fork();
	if (pid == 0) {
		ST_SYS(semop(id, &undo, 1));
		go[1] = 1;
		st_until(go);
		_exit(0);
	}
	waiter = st_fork();
	if (waiter == 0)
		_exit(semop(id, &down, 1) == 0 ? 0 : 1);
	st_until(go + 1);
	st_sleep_ms(30);
	st_wait();
	ST_EQ(semget(key, 0, 0), id);
	ST_OK(semctl(id, 0, GETALL, now));
	ST_EQ(now[0], 1);
	ST_EQ(now[2], 77);
	ST_EQ(now[3], 8);
	ST_EQ(semctl(id, 1, GETNCNT), 1);
	ST_EQ(semop(id, &up, 1), 0);
	ST_EQ(st_reap(waiter), 0);
	*go = 1;
	ST_EQ(st_reap(pid), 0);
	ST_EQ(semctl(id, 3, GETVAL), 5); /* undone */
	semctl(id, 0, IPC_RMID);
	return st_end();
}
