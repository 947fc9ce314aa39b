/* SPDX-License-Identifier: GPL-2.0-or-later */
/* inotify: watches with their numbers and masks, events not read yet. */
#include "state.h"

#include <sys/inotify.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	char buf[4096] __attribute__((aligned(8)));
	const struct inotify_event *ev = (void *)buf;
	int fd, dir, file, extra;
	ssize_t n;

	st_begin(argc, argv);
	fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (fd < 0)
		st_skip("no inotify: %s", strerror(errno));
	ST_SYS(mkdir(st_path("dir"), 0700));
	close(ST_SYS(open(st_path("file"), O_CREAT | O_WRONLY, 0600)));
	extra = ST_SYS(inotify_add_watch(fd, "/", IN_DELETE));
	dir = ST_SYS(inotify_add_watch(fd, st_path("dir"), IN_CREATE | IN_DELETE));
	ST_SYS(inotify_rm_watch(fd, extra)); /* the numbers have a hole */
	file = ST_SYS(inotify_add_watch(fd, st_path("file"), IN_MODIFY | IN_ATTRIB));
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	st_wait();
	ST_EQ(read(fd, buf, sizeof(buf)), -1);
	ST_EQ(errno, EAGAIN);
	close(ST_OK(open(st_path("dir/new"), O_CREAT | O_WRONLY, 0600)));
	n = read(fd, buf, sizeof(buf));
	ST_TRUE(n > 0 && ev->mask == IN_CREATE && !strcmp(ev->name, "new"));
	ST_EQ(ev->wd, dir);
	chmod(st_path("file"), 0640);
	n = read(fd, buf, sizeof(buf));
	ST_TRUE(n > 0 && ev->mask == IN_ATTRIB);
	ST_EQ(ev->wd, file);
	ST_EQ(inotify_rm_watch(fd, dir), 0);
	ST_EQ(inotify_rm_watch(fd, extra), -1);
	return st_end();
}
