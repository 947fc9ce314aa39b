/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Resource limits, umask, nice, personality, oom_score_adj, dumpable, core filter and other
 * per-process settings. */
#include "state.h"

#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void put(const char *path, const char *text)
{
	int fd = ST_SYS(open(path, O_WRONLY));

	ST_SYS(write(fd, text, strlen(text)));
	close(fd);
}

int main(int argc, char **argv)
{
	struct rlimit before[RLIM_NLIMITS], now;
	char *text;

	st_begin(argc, argv);
	for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
		ST_SYS(getrlimit(i, &before[i]));
		if (i == RLIMIT_CORE)
			before[i].rlim_cur = 0;
		if (i == RLIMIT_NOFILE)
			before[i] = (struct rlimit){ 200, 300 };
		if (i == RLIMIT_CPU || i == RLIMIT_FSIZE)
			before[i] = (struct rlimit){ 100000000, 200000000 };
		if (i == RLIMIT_STACK)
			before[i].rlim_cur = 3 << 20;
		ST_SYS(setrlimit(i, &before[i]));
	}
	umask(0137);
	ST_SYS(setpriority(PRIO_PROCESS, 0, 3));
	ST_SYS(personality(ADDR_NO_RANDOMIZE | UNAME26));
	put("/proc/self/oom_score_adj", "321");
	put("/proc/self/coredump_filter", "0x31");
	ST_SYS(prctl(PR_SET_DUMPABLE, 0));
	ST_SYS(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	ST_SYS(prctl(PR_SET_TIMERSLACK, 70000));
	st_wait();
	for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
		ST_EQ(getrlimit(i, &now), 0);
		ST_CHECK(now.rlim_cur == before[i].rlim_cur &&
				 now.rlim_max == before[i].rlim_max,
			 "limit %d is %ld/%ld, was %ld/%ld", i, (long)now.rlim_cur,
			 (long)now.rlim_max, (long)before[i].rlim_cur,
			 (long)before[i].rlim_max);
	}
	ST_EQ(umask(0), 0137);
	ST_EQ(getpriority(PRIO_PROCESS, 0), 3);
	ST_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE | UNAME26);
	ST_EQ(prctl(PR_GET_DUMPABLE), 0);
	ST_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
	ST_EQ(prctl(PR_GET_TIMERSLACK), 70000);
	text = st_slurp("/proc/self/oom_score_adj", NULL);
	ST_STR(text, "321\n");
	text = st_slurp("/proc/self/coredump_filter", NULL);
	ST_STR(text, "00000031\n");
	return st_end();
}
