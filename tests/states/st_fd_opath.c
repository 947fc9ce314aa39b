/* SPDX-License-Identifier: GPL-2.0-or-later */
/* O_PATH descriptors of a file, a directory, a symbolic link and a fifo. */
#include "state.h"

#include <sys/stat.h>

int main(int argc, char **argv)
{
	int file, dir, link, fifo;
	struct stat st;
	char buf[100] = "";

	st_begin(argc, argv);
	close(ST_SYS(open(st_path("file"), O_CREAT | O_WRONLY, 0600)));
	ST_SYS(symlink("pointed at", st_path("link")));
	ST_SYS(mkfifo(st_path("fifo"), 0600));
	ST_SYS(mkdir(st_path("dir"), 0700));
	file = ST_SYS(open(st_path("file"), O_PATH));
	dir = ST_SYS(open(st_path("dir"), O_PATH | O_DIRECTORY | O_CLOEXEC));
	link = ST_SYS(open(st_path("link"), O_PATH | O_NOFOLLOW));
	fifo = ST_SYS(open(st_path("fifo"), O_PATH));
	st_wait();
	ST_OK(fstat(file, &st));
	ST_TRUE(S_ISREG(st.st_mode));
	ST_EQ(read(file, buf, 1), -1);
	ST_EQ(errno, EBADF);
	ST_OK(fstat(dir, &st));
	ST_TRUE(S_ISDIR(st.st_mode));
	close(ST_OK(openat(dir, "new", O_CREAT | O_WRONLY, 0600)));
	ST_EQ(access(st_path("dir/new"), F_OK), 0);
	ST_OK(readlinkat(link, "", buf, sizeof(buf) - 1));
	ST_STR(buf, "pointed at");
	ST_OK(fstat(fifo, &st));
	ST_TRUE(S_ISFIFO(st.st_mode));
	ST_TRUE(fcntl(file, F_GETFL) & O_PATH);
	return st_end();
}
