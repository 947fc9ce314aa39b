/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private file mappings: changed pages kept, others follow the file, SIGBUS past the end. */
#include "state.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static sigjmp_buf back;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

int main(int argc, char **argv)
{
	static char page[4096];
	char *p, *ro, *past;
	int fd;

	st_begin(argc, argv);
	fd = ST_SYS(open(st_path("file"), O_RDWR | O_CREAT | O_TRUNC, 0600));
	for (int i = 0; i < 16; i++) {
		st_fill(page, sizeof(page), (uint64_t)i);
		ST_SYS(write(fd, page, sizeof(page)));
	}
	p = ST_SYS((char *)mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	ro = ST_SYS((char *)mmap(NULL, 4 * 4096, PROT_READ, MAP_PRIVATE, fd, 8 * 4096));
	past = ST_SYS(
		(char *)mmap(NULL, 32 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	st_fill(p + 3 * 4096, 4096, 1003);
	st_fill(p + 15 * 4096, 4096, 1015);
	close(fd);
	st_wait();
	for (int i = 0; i < 16; i++)
		ST_CHECK(st_filled(p + i * 4096, 4096,
				   (uint64_t)(i == 3 || i == 15 ? 1000 + i : i)),
			 "page %d", i);
	for (int i = 0; i < 4; i++)
		ST_CHECK(st_filled(ro + i * 4096, 4096, (uint64_t)(8 + i)), "read-only page %d",
			 i);
	/* a page not written yet still shows what is written to the file */
	fd = ST_OK(open(st_path("file"), O_RDWR));
	st_fill(page, sizeof(page), 77);
	ST_EQ(pwrite(fd, page, sizeof(page), 9 * 4096), 4096);
	ST_CHECK(st_filled(p + 9 * 4096, 4096, 77),
		 "the mapping does not follow the file any more");
	p[0] ^= 1; /* and writes do not reach it */
	ST_EQ(pread(fd, page, 4096, 0), 4096);
	ST_CHECK(st_filled(page, 4096, 0), "a private write reached the file");
	signal(SIGBUS, on_bus);
	if (sigsetjmp(back, 1) == 0) {
		past[20 * 4096] = 1;
		ST_CHECK(false, "no SIGBUS past the end of the file");
	}
	return st_end();
}
