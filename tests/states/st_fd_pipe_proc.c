/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pipe opened again through /proc/self/fd, and one shared by three processes with one end
 * only each. */
#include "state.h"

#include <poll.h>

int main(int argc, char **argv)
{
	volatile int *go;
	char path[64], buf[16];
	int fd[2], again;
	pid_t a, b;

	st_begin(argc, argv);
	go = st_shared(4096);
	ST_SYS(pipe(fd));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd[0]);
	again = ST_SYS(open(path, O_RDONLY | O_NONBLOCK)); /* other flags, same pipe */
	a = st_fork();
	if (a == 0) {
		close(fd[0]);
		close(again);
		st_until(go);
		_exit(write(fd[1], "A", 1) == 1 ? 0 : 1);
	}
	b = st_fork();
	if (b == 0) {
		close(fd[1]);
		close(again);
		_exit(read(fd[0], buf, 1) == 1 && buf[0] == 'A' && read(fd[0], buf, 1) == 0
			      ? 0
			      : 1);
	}
	close(fd[1]);
	close(fd[0]);
	st_wait();
	ST_EQ(read(again, buf, 1), -1);
	ST_EQ(errno, EAGAIN);
	*go = 1;
	ST_EQ(st_reap(a), 0);
	ST_EQ(st_reap(b), 0);
	ST_EQ(read(again, buf, 1), 0);
	return st_end();
}
