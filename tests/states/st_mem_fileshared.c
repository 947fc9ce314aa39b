/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared file mappings in two processes: one content, in memory and in the file. */
#include "state.h"

#include <sys/mman.h>

int main(int argc, char **argv)
{
	volatile int *step = NULL;
	static char page[4096];
	char *p;
	int fd;
	pid_t pid;

	st_begin(argc, argv);
	step = st_shared(4096);
	fd = ST_SYS(open(st_path("file"), O_RDWR | O_CREAT | O_TRUNC, 0600));
	ST_SYS(ftruncate(fd, 32 * 4096));
	p = ST_SYS((char *)mmap(NULL, 32 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	close(fd);
	st_fill(p, 32 * 4096, 5);
	pid = st_fork();
	if (pid == 0) {
		st_until(step);
		ST_CHECK(st_filled(p, 32 * 4096, 5), "content in the child");
		st_fill(p, 4096, 6);
		_exit(3);
	}
	st_wait();
	ST_CHECK(st_filled(p, 32 * 4096, 5), "content");
	*step = 1;
	ST_EQ(st_reap(pid), 3);
	ST_CHECK(st_filled(p, 4096, 6), "the child's write is not seen");
	fd = ST_OK(open(st_path("file"), O_RDONLY));
	ST_EQ(read(fd, page, 4096), 4096);
	ST_CHECK(st_filled(page, 4096, 6), "the write is not in the file");
	return st_end();
}
