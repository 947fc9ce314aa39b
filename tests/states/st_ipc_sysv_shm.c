/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SysV shared memory: by key and private, attached in two processes, marked for removal. */
#include "state.h"

#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>

int main(int argc, char **argv)
{
	volatile int *go;
	key_t key;
	struct shmid_ds ds;
	char *a, *b, *ro;
	int ia, ib;
	pid_t pid;

	st_begin(argc, argv);
	go = st_shared(4096);
	key = (key_t)(0x53540000 + getpid());
	ia = ST_SYS(shmget(key, 20 * 4096, IPC_CREAT | IPC_EXCL | 0640));
	ib = ST_SYS(shmget(IPC_PRIVATE, 5000, 0600));
	a = ST_SYS((char *)shmat(ia, NULL, 0));
	ro = ST_SYS((char *)shmat(ia, NULL, SHM_RDONLY));
	b = ST_SYS((char *)shmat(ib, NULL, 0));
	ST_SYS(shmctl(ib, IPC_RMID, NULL));
	st_fill(a, 20 * 4096, 1);
	st_fill(b, 5000, 2);
	pid = st_fork();
	if (pid == 0) {
		st_until(go);
		a[0] = 'c';
		b[0] = 'd';
		_exit(0);
	}
	st_wait();
	ST_CHECK(st_filled(a, 20 * 4096, 1), "content");
	ST_CHECK(st_filled(b, 5000, 2), "content of the removed one");
	ST_OK(shmctl(ia, IPC_STAT, &ds));
	ST_EQ(ds.shm_nattch, 4);
	ST_EQ(ds.shm_perm.mode & 0777, 0640);
	ST_EQ(ds.shm_segsz, 20 * 4096);
	ST_EQ(shmget(key, 0, 0), ia);
	*go = 1;
	ST_EQ(st_reap(pid), 0);
	ST_EQ(a[0], 'c');
	ST_EQ(ro[0], 'c');
	ST_EQ(b[0], 'd');
	ST_EQ(shmdt(a), 0);
	ST_EQ(shmdt(ro), 0);
	ST_EQ(shmctl(ia, IPC_RMID, NULL), 0);
	return st_end();
}
