/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A memory policy of the main thread, which its threads have from it. */
#include "state.h"

#include <linux/mempolicy.h>
#include <pthread.h>
#include <sys/syscall.h>

#define WORDS 16 /* of a node mask */

static volatile int judge;

static void *thread(void *arg)
{
	int mode = -1;

	(void)arg;
	st_until(&judge);
	ST_OK(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0));
	ST_EQ(mode, MPOL_INTERLEAVE);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned long want[WORDS] = { 1 }, got[WORDS] = { 0 };
	int mode = -1;
	pthread_t t;

	st_begin(argc, argv);
	if (syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, want, WORDS * 64) < 0)
		st_skip("no memory policies here: %s", strerror(errno));
	ST_ZERO(pthread_create(&t, NULL, thread, NULL));
	st_wait();
	ST_OK(syscall(SYS_get_mempolicy, &mode, got, WORDS * 64, NULL, 0));
	ST_EQ(mode, MPOL_INTERLEAVE);
	ST_EQ(got[0], want[0]);
	judge = 1;
	pthread_join(t, NULL);
	return st_end();
}
