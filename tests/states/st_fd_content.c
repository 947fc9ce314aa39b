/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file written in place and one that grows: after the restart they are as they were at the
 * checkpoint. */
#include "state.h"

/* The child writes on until it is killed or told to stop; what it has written it keeps in
 * memory too. */
int main(int argc, char **argv)
{
	volatile int *stop;
	int log, db;
	uint64_t n = 0, cell[64] = { 0 }, now[64];
	char line[64], *text, *p;

	st_begin(argc, argv);
	stop = st_shared(4096);
	log = ST_SYS(open(st_path("growing"), O_WRONLY | O_CREAT | O_TRUNC, 0600));
	db = ST_SYS(open(st_path("in place"), O_RDWR | O_CREAT | O_TRUNC, 0600));
	ST_SYS(write(db, cell, sizeof(cell)));
	pid_t pid = st_fork();
	if (pid != 0) {
		st_sleep_ms(20);
		st_wait();
		*stop = 1;
		ST_EQ(st_reap(pid), 0);
		return st_end();
	}
	while (!*stop) {
		int len = snprintf(line, sizeof(line), "%llu\n", (unsigned long long)n);

		ST_EQ(write(log, line, (size_t)len), len);
		cell[n % 64] = n;
		ST_EQ(pwrite(db, &cell[n % 64], 8, (off_t)(n % 64 * 8)), 8);
		n++;
		if (n % 16 == 0)
			st_sleep_ms(1);
	}
	ST_EQ(pread(db, now, sizeof(now), 0), sizeof(now));
	ST_CHECK(!memcmp(now, cell, sizeof(now)),
		 "the file written in place is not as memory knows it");
	p = text = st_slurp(st_path("growing"), NULL);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t got = strtoull(p, &p, 10);

		if (got != i) {
			ST_CHECK(false, "line %llu says %llu", (unsigned long long)i,
				 (unsigned long long)got);
			break;
		}
	}
	ST_CHECK(*p == '\n' && p[1] == 0, "the growing file has more than was written");
	free(text);
	_exit(0);
}
