/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads with a working directory and umask of their own (unshare(CLONE_FS), as file servers
 * do it), while the process has others. */
#include "state.h"

#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

static volatile int up, go;

static void *own(void *arg)
{
	char want[4096], got[4096];

	ST_SYS(unshare(CLONE_FS));
	ST_SYS(chdir(arg));
	umask(07);
	if (!getcwd(want, sizeof(want)))
		st_die(__FILE__, __LINE__, "getcwd");
	__atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
	while (!go)
		st_sleep_ms(2);
	ST_STR(getcwd(got, sizeof(got)), want);
	ST_EQ(umask(022), 07);
	return NULL;
}

static void *common(void *arg)
{
	__atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
	while (!go)
		st_sleep_ms(2);
	ST_OK(chdir("/usr")); /* of the whole process */
	return arg;
}

int main(int argc, char **argv)
{
	char got[4096];
	pthread_t t[3];

	st_begin(argc, argv);
	ST_SYS(mkdir(st_path("a"), 0755));
	ST_SYS(chdir("/"));
	ST_ZERO(pthread_create(&t[0], NULL, own, (void *)st_path("a")));
	ST_ZERO(pthread_create(&t[1], NULL, own, "/tmp"));
	ST_ZERO(pthread_create(&t[2], NULL, common, NULL));
	while (up < 3)
		st_sleep_ms(1);
	st_wait();
	ST_STR(getcwd(got, sizeof(got)), "/");
	go = 1;
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	ST_STR(getcwd(got, sizeof(got)), "/usr");
	ST_EQ(umask(0), 022);
	return st_end();
}
