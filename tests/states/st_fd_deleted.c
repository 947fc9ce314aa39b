/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Deleted files: content, size, offset; one file open twice; one whose other name lives on. */
#include "state.h"

#include <sys/mman.h>
#include <sys/stat.h>

#define LEN (3u << 20)

int main(int argc, char **argv)
{
	static char big[LEN], now[LEN];
	int a, b, c, ro;
	char buf[16], *map;
	struct stat sa, sb;
	pid_t pid;
	volatile int *go;

	st_begin(argc, argv);
	go = st_shared(4096);
	st_fill(big, LEN, 4);
	a = ST_SYS(open(st_path("a"), O_RDWR | O_CREAT | O_TRUNC, 0640));
	ST_SYS(write(a, big, LEN));
	ST_SYS(ftruncate(a, LEN + 50000)); /* a hole at the end */
	b = ST_SYS(open(st_path("a"), O_RDONLY));
	ST_SYS(lseek(a, 100, SEEK_SET));
	ST_SYS(lseek(b, 200, SEEK_SET));
	map = ST_SYS((char *)mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, a, 4096));
	ST_SYS(unlink(st_path("a")));
	c = ST_SYS(open(st_path("c"), O_RDWR | O_CREAT | O_TRUNC, 0600));
	ST_SYS(write(c, "other name", 10));
	ST_SYS(link(st_path("c"), st_path("c2")));
	ST_SYS(unlink(st_path("c")));
	ro = ST_SYS(open(st_path("ro"), O_RDWR | O_CREAT | O_TRUNC, 0400));
	ST_SYS(write(ro, "read only", 9));
	close(ro);
	ro = ST_SYS(open(st_path("ro"), O_RDONLY));
	ST_SYS(unlink(st_path("ro")));
	pid = st_fork();
	if (pid == 0) {
		st_until(go);
		_exit(pwrite(a, "child", 5, 0) == 5 ? 0 : 1);
	}
	st_wait();
	ST_EQ(lseek(a, 0, SEEK_CUR), 100);
	ST_EQ(lseek(b, 0, SEEK_CUR), 200);
	ST_EQ(lseek(b, 0, SEEK_END), LEN + 50000);
	ST_EQ(pread(a, now, LEN, 0), LEN);
	ST_CHECK(!memcmp(now, big, LEN), "content of the deleted file");
	ST_OK(fstat(a, &sa));
	ST_OK(fstat(b, &sb));
	ST_EQ(sa.st_ino, sb.st_ino);
	ST_EQ(sa.st_nlink, 0);
	ST_EQ(sa.st_mode & 07777, 0640);
	*go = 1;
	ST_EQ(st_reap(pid), 0);
	ST_EQ(pread(b, buf, 5, 0), 5);
	ST_CHECK(!memcmp(buf, "child", 5), "two descriptors of one deleted file are two files");
	memcpy(map, "mapped", 6);
	ST_EQ(pread(b, buf, 6, 4096), 6);
	ST_CHECK(!memcmp(buf, "mapped", 6), "mapping of the deleted file is apart");
	ST_EQ(pread(ro, buf, 16, 0), 9);
	ST_CHECK(!memcmp(buf, "read only", 9), "read-only deleted file");
	ST_EQ(write(ro, "x", 1), -1);
	ST_EQ(pwrite(c, "OTHER", 5, 0), 5);
	c = ST_OK(open(st_path("c2"), O_RDONLY));
	ST_EQ(pread(c, buf, 10, 0), 10);
	ST_CHECK(!memcmp(buf, "OTHER name", 10), "the other name is another file now");
	ST_EQ(access(st_path("a"), F_OK), -1);
	ST_EQ(access(st_path("ro"), F_OK), -1);
	ST_EQ(access(st_path("c"), F_OK), -1);
	return st_end();
}
