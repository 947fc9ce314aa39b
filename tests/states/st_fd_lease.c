/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A lease on a file. */
#include "state.h"

int main(int argc, char **argv)
{
	int fd, rd;

	st_begin(argc, argv);
	fd = ST_SYS(open(st_path("file"), O_RDWR | O_CREAT, 0600));
	rd = ST_SYS(open(st_path("file2"), O_RDONLY | O_CREAT, 0600));
	ST_SYS(fcntl(fd, F_SETLEASE, F_WRLCK));
	ST_SYS(fcntl(rd, F_SETLEASE, F_RDLCK));
	st_wait();
	ST_EQ(fcntl(fd, F_GETLEASE), F_WRLCK);
	ST_EQ(fcntl(rd, F_GETLEASE), F_RDLCK);
	return st_end();
}
