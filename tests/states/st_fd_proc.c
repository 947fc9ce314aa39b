/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of /proc and /sys held open. */
#include "state.h"

#include <dirent.h>

int main(int argc, char **argv)
{
	char path[64], *p, buf[4096];
	int own, up, dir;
	ssize_t n;

	st_begin(argc, argv);
	own = ST_SYS(open("/proc/self/stat", O_RDONLY));
	up = ST_SYS(open("/proc/uptime", O_RDONLY));
	snprintf(path, sizeof(path), "/proc/%d", getpid());
	dir = ST_SYS(open(path, O_RDONLY | O_DIRECTORY));
	st_wait();
	n = pread(own, buf, sizeof(buf) - 1, 0);
	ST_CHECK(n > 0, "/proc/self/stat: %s", strerror(errno));
	buf[n > 0 ? n : 0] = 0;
	ST_EQ(strtol(buf, &p, 10), getpid());
	ST_TRUE(pread(up, buf, 8, 0) > 0);
	ST_EQ(faccessat(dir, "status", R_OK, 0), 0);
	return st_end();
}
