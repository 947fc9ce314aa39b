/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files renamed while open, replaced by another of the same name, in a renamed and in a deleted
 * directory. */
#include "state.h"

#include <sys/stat.h>

static int make(const char *name, const char *text)
{
	int fd = ST_SYS(open(st_path(name), O_RDWR | O_CREAT | O_TRUNC, 0600));

	ST_SYS(write(fd, text, strlen(text)));
	return fd;
}

static void holds(int fd, const char *text)
{
	char buf[100] = "";

	ST_OK(pread(fd, buf, sizeof(buf) - 1, 0));
	ST_STR(buf, text);
}

int main(int argc, char **argv)
{
	int a, b, b2, c, d;

	st_begin(argc, argv);
	a = make("a", "renamed");
	ST_SYS(rename(st_path("a"), st_path("a new")));
	b = make("b", "replaced");
	b2 = make("b.tmp", "replacement");
	ST_SYS(rename(st_path("b.tmp"), st_path("b")));
	ST_SYS(mkdir(st_path("d1"), 0700));
	c = make("d1/c", "in a renamed directory");
	ST_SYS(rename(st_path("d1"), st_path("d2")));
	ST_SYS(mkdir(st_path("d3"), 0700));
	d = make("d3/d", "in a deleted directory");
	ST_SYS(unlink(st_path("d3/d")));
	ST_SYS(rmdir(st_path("d3")));
	st_wait();
	holds(a, "renamed");
	holds(b, "replaced");
	holds(b2, "replacement");
	holds(c, "in a renamed directory");
	holds(d, "in a deleted directory");
	ST_EQ(pwrite(a, "RE", 2, 0), 2);
	close(a);
	a = ST_OK(open(st_path("a new"), O_RDONLY));
	holds(a, "REnamed");
	ST_EQ(pwrite(b2, "RE", 2, 0), 2);
	b = ST_OK(open(st_path("b"), O_RDONLY));
	holds(b, "REplacement");
	ST_EQ(access(st_path("d3"), F_OK), -1);
	return st_end();
}
