/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What membarrier() was registered for: run times with threads rely on it. */
#include "state.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>

static long barrier(int cmd)
{
	return syscall(SYS_membarrier, cmd, 0, 0);
}

int main(int argc, char **argv)
{
	pid_t pid;
	volatile int *go;

	st_begin(argc, argv);
	go = st_shared(4096);
	if (barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
		st_skip("no membarrier() here: %s", strerror(errno));
	ST_SYS(barrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED));
	pid = st_fork();
	if (pid == 0) {
		ST_SYS(barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE));
		go[1] = 1;
		st_until(go);
		ST_OK(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE));
		_exit(0);
	}
	st_until(go + 1);
	st_wait();
	ST_OK(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
	ST_EQ(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE), -1);
	*go = 1;
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
