/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mount namespace of the whole job's own: a tmpfs with all kinds of files in it, one of them
 * open and one open and deleted, a mount in that, a bind mount that is read-only, /proc mounted
 * elsewhere.
 */
#include "state.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static char *text_of(const char *path)
{
	char *text = st_slurp(path, NULL);

	return text ? text : strdup("(none)");
}

static void put(const char *path, const char *text)
{
	int fd = ST_SYS(open(path, O_CREAT | O_EXCL | O_WRONLY, 0640));

	ST_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void set_up(bool *attrs)
{
	ST_SYS(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	ST_SYS(mount("mine", "/mnt", "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=711"));
	ST_SYS(mkdir("/mnt/dir", 0710));
	put("/mnt/dir/file", "content");
	ST_SYS(chown("/mnt/dir/file", 12, 34));
	*attrs = setxattr("/mnt/dir/file", "user.test", "value", 5, 0) == 0;
	ST_SYS(link("/mnt/dir/file", "/mnt/other name"));
	ST_SYS(symlink("dir/file", "/mnt/link"));
	ST_SYS(mkfifo("/mnt/fifo", 0600));
	ST_SYS(mkdir("/mnt/inner", 0755));
	ST_SYS(mount("inner", "/mnt/inner", "tmpfs", 0, "size=1m"));
	put("/mnt/inner/deep", "deep");
	ST_SYS(mkdir("/mnt/bound", 0755));
	ST_SYS(mount("/mnt/dir", "/mnt/bound", NULL, MS_BIND, NULL));
	ST_SYS(mount(NULL, "/mnt/bound", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	ST_SYS(mkdir("/mnt/proc", 0555));
	ST_SYS(mount("proc", "/mnt/proc", "proc", 0, NULL));
}

static void judge(bool attrs)
{
	struct stat a, b;
	char buf[16] = "";

	ST_STR(text_of("/mnt/link"), "content");
	ST_OK(stat("/mnt/dir/file", &a));
	ST_OK(stat("/mnt/other name", &b));
	ST_EQ(a.st_ino, b.st_ino);
	ST_EQ(a.st_uid, 12);
	ST_EQ(a.st_gid, 34);
	ST_EQ(a.st_mode & 07777, 0640);
	if (attrs)
		ST_EQ(getxattr("/mnt/dir/file", "user.test", buf, sizeof(buf)), 5);
	ST_OK(stat("/mnt", &a));
	ST_EQ(a.st_mode & 07777, 0711);
	ST_OK(stat("/mnt/dir", &a));
	ST_EQ(a.st_mode & 07777, 0710);
	ST_OK(stat("/mnt/fifo", &a));
	ST_TRUE(S_ISFIFO(a.st_mode));
	ST_STR(text_of("/mnt/inner/deep"), "deep");
	ST_STR(text_of("/mnt/bound/file"), "content");
	ST_EQ(open("/mnt/bound/new", O_CREAT | O_WRONLY, 0600), -1);
	ST_EQ(errno, EROFS);
	ST_EQ(access("/mnt/proc/self/status", R_OK), 0);
}

int main(int argc, char **argv)
{
	char buf[16] = "";
	int fd, gone;
	bool attrs;

	st_begin(argc, argv);
	if (unshare(CLONE_NEWNS) < 0)
		st_skip("no mount namespaces here: %s", strerror(errno));
	set_up(&attrs);
	fd = ST_SYS(open("/mnt/dir/file", O_RDWR));
	ST_SYS(lseek(fd, 3, SEEK_SET));
	gone = ST_SYS(open("/mnt/gone", O_RDWR | O_CREAT, 0600));
	ST_EQ(write(gone, "gone", 4), 4);
	ST_SYS(unlink("/mnt/gone"));
	ST_SYS(chdir("/mnt/dir"));
	st_wait();
	judge(attrs);
	ST_EQ(read(fd, buf, sizeof(buf)), 4);
	ST_STR(buf, "tent");
	memset(buf, 0, sizeof(buf));
	ST_EQ(pread(gone, buf, sizeof(buf), 0), 4);
	ST_STR(buf, "gone");
	ST_STR(getcwd(buf, sizeof(buf)), "/mnt/dir");
	ST_SYS(chdir("/"));
	return st_end();
}
