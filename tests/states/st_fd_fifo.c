/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fifos by name: both ends, contents, one opened for reading and writing, a second writer. */
#include "state.h"

#include <sys/ioctl.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	volatile int *go;
	int r, w, rw, n = 0;
	char buf[64] = "";
	pid_t pid;

	st_begin(argc, argv);
	go = st_shared(4096);
	ST_SYS(mkfifo(st_path("a"), 0600));
	ST_SYS(mkfifo(st_path("b"), 0600));
	r = ST_SYS(open(st_path("a"), O_RDONLY | O_NONBLOCK));
	w = ST_SYS(open(st_path("a"), O_WRONLY | O_CLOEXEC));
	rw = ST_SYS(open(st_path("b"), O_RDWR));
	ST_SYS(write(w, "in the fifo", 11));
	ST_SYS(write(rw, "to myself", 9));
	pid = st_fork();
	if (pid == 0) {
		st_until(go);
		_exit(write(w, "+child", 6) == 6 ? 0 : 1);
	}
	st_wait();
	ST_OK(ioctl(r, FIONREAD, &n));
	ST_EQ(n, 11);
	ST_EQ(read(r, buf, sizeof(buf)), 11);
	ST_CHECK(!memcmp(buf, "in the fifo", 11), "content: %.11s", buf);
	ST_EQ(read(r, buf, 1), -1);
	ST_EQ(errno, EAGAIN);
	ST_EQ(read(rw, buf, sizeof(buf)), 9);
	ST_CHECK(!memcmp(buf, "to myself", 9), "content: %.9s", buf);
	*go = 1;
	ST_EQ(st_reap(pid), 0);
	ST_EQ(read(r, buf, sizeof(buf)), 6);
	close(w);
	ST_EQ(read(r, buf, 1), 0); /* the last writer is gone: no one else holds it */
	return st_end();
}
