/* SPDX-License-Identifier: GPL-2.0-or-later */
/* memfd: name, seals, size, content, offset, mapped shared and private in two processes. */
#include "state.h"

#include <sys/mman.h>
#include <sys/xattr.h>

int main(int argc, char **argv)
{
	volatile int *go;
	char link[64], *sh, *pr;
	char page[4096];
	int fd, sealed, dupfd;
	bool attrs;
	pid_t pid;

	st_begin(argc, argv);
	go = st_shared(4096);
	fd = ST_SYS(memfd_create("of the test", MFD_ALLOW_SEALING | MFD_CLOEXEC));
	ST_SYS(ftruncate(fd, 100 * 4096 + 17));
	sh = ST_SYS((char *)mmap(NULL, 100 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	pr = ST_SYS((char *)mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd,
				 2 * 4096));
	st_fill(sh, 100 * 4096, 21);
	strcpy(pr, "private change");
	ST_SYS(lseek(fd, 4321, SEEK_SET));
	dupfd = ST_SYS(dup(fd));
	sealed = ST_SYS(memfd_create("sealed", MFD_ALLOW_SEALING));
	ST_SYS(write(sealed, "hello sealed", 12));
	ST_SYS(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
	attrs = fsetxattr(fd, "user.test", "attribute", 9, 0) == 0;
	pid = st_fork();
	if (pid == 0) {
		st_until(go);
		strcpy(sh + 4096, "child");
		_exit(lseek(fd, 0, SEEK_CUR) == 99 ? 0 : 1);
	}
	st_wait();
	/* since Linux 6.6; an older kernel has none to give back */
	if (attrs && fsetxattr(sealed, "user.test", "", 0, 0) == 0)
		ST_EQ(fgetxattr(fd, "user.test", page, sizeof(page)), 9);
	ST_CHECK(st_filled(sh, 2 * 4096, 21), "content");
	ST_STR(pr, "private change");
	ST_EQ(lseek(fd, 0, SEEK_CUR), 4321);
	ST_EQ(lseek(fd, 0, SEEK_END), 100 * 4096 + 17);
	ST_EQ(lseek(dupfd, 99, SEEK_SET), 99);
	ST_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ST_EQ(fcntl(sealed, F_GETFD), 0);
	ST_EQ(fcntl(fd, F_GET_SEALS), 0);
	ST_EQ(fcntl(sealed, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	ST_EQ(pread(sealed, page, sizeof(page), 0), 12);
	ST_CHECK(!memcmp(page, "hello sealed", 12), "sealed content");
	ST_EQ(pwrite(sealed, "x", 1, 0), -1);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	memset(page, 0, sizeof(page));
	ST_OK(readlink(link, page, sizeof(page) - 1));
	ST_STR(page, "/memfd:of the test (deleted)");
	*go = 1;
	ST_EQ(st_reap(pid), 0);
	ST_STR(sh + 4096, "child");
	ST_EQ(pread(fd, page, 5, 4096), 5);
	ST_CHECK(!memcmp(page, "child", 5), "mapping and descriptor are two objects");
	return st_end();
}
