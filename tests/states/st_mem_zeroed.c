/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages over a file that the process has zeroed stay zero; their neighbours keep what they
 * hold. */
#include "state.h"

#include <sys/mman.h>

#define PAGE 4096

static char data[6 * PAGE] __attribute__((aligned(PAGE))) = {
	1, [PAGE] = 2, [2 * PAGE] = 3, [3 * PAGE] = 4, [4 * PAGE] = 5, [5 * PAGE] = 6
};

int main(int argc, char **argv)
{
	static char zero[PAGE];
	char page[PAGE], *map;
	int fd;

	st_begin(argc, argv);
	memset(data + PAGE, 0, PAGE);
	memset(data + 3 * PAGE, 0, 2 * PAGE);
	fd = ST_SYS(open(st_path("file"), O_RDWR | O_CREAT | O_TRUNC, 0600));
	memset(page, 'f', PAGE);
	for (int i = 0; i < 3; i++)
		ST_SYS(write(fd, page, PAGE));
	map = ST_OK(mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	close(fd);
	memset(map + PAGE, 0, PAGE);
	st_wait();
	ST_EQ(data[0], 1);
	ST_CHECK(!memcmp(data + PAGE, zero, PAGE), "zeroed page of the data segment");
	ST_EQ(data[2 * PAGE], 3);
	ST_CHECK(!memcmp(data + 3 * PAGE, zero, PAGE), "zeroed page of the data segment");
	ST_CHECK(!memcmp(data + 4 * PAGE, zero, PAGE), "zeroed page of the data segment");
	ST_EQ(data[5 * PAGE], 6);
	ST_EQ(map[0], 'f');
	ST_CHECK(!memcmp(map + PAGE, zero, PAGE), "zeroed page of a mapped file");
	ST_EQ(map[2 * PAGE], 'f');
	return st_end();
}
