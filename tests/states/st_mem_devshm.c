/* SPDX-License-Identifier: GPL-2.0-or-later */
/* POSIX shared memory: named, and unlinked but mapped by two processes. */
#include "state.h"

#include <sys/mman.h>

int main(int argc, char **argv)
{
	volatile int *go;
	char name[64], gone[64], *a, *b;
	int fa, fb;
	pid_t pid;

	st_begin(argc, argv);
	go = st_shared(4096);
	snprintf(name, sizeof(name), "/st_devshm.%d", getpid());
	snprintf(gone, sizeof(gone), "/st_devshm.gone.%d", getpid());
	fa = ST_SYS(shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
	fb = ST_SYS(shm_open(gone, O_RDWR | O_CREAT | O_EXCL, 0600));
	ST_SYS(ftruncate(fa, 20 * 4096));
	ST_SYS(ftruncate(fb, 20 * 4096));
	a = ST_SYS((char *)mmap(NULL, 20 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fa, 0));
	b = ST_SYS((char *)mmap(NULL, 20 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fb, 0));
	st_fill(a, 20 * 4096, 1);
	st_fill(b, 20 * 4096, 2);
	close(fa);
	ST_SYS(shm_unlink(gone));
	pid = st_fork();
	if (pid == 0) {
		st_until(go);
		a[0] = 42;
		b[0] = 43;
		_exit(0);
	}
	st_wait();
	ST_CHECK(st_filled(a, 20 * 4096, 1), "named content");
	ST_CHECK(st_filled(b, 20 * 4096, 2), "unlinked content");
	*go = 1;
	ST_EQ(st_reap(pid), 0);
	ST_EQ(a[0], 42);
	ST_EQ(b[0], 43);
	ST_EQ(pread(fb, name, 1, 0), 1);
	ST_EQ(name[0], 43);
	snprintf(name, sizeof(name), "/st_devshm.%d", getpid());
	fa = ST_OK(shm_open(name, O_RDWR, 0));
	ST_EQ(pread(fa, gone, 1, 0), 1);
	ST_EQ(gone[0], 42);
	shm_unlink(name);
	return st_end();
}
