/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The leading thread has ended, others go on. */
#include "state.h"

#include <pthread.h>

static void *other(void *arg)
{
	pthread_t *leader = arg;

	pthread_join(*leader, NULL);
	if (!st_in_state(getpid(), 'Z', 2000))
		st_die(__FILE__, __LINE__, "leader does not end");
	st_wait();
	ST_TRUE(st_in_state(getpid(), 'Z', 0));
	exit(st_end());
}

int main(int argc, char **argv)
{
	static pthread_t self;
	pthread_t t;

	st_begin(argc, argv);
	self = pthread_self();
	ST_ZERO(pthread_create(&t, NULL, other, &self));
	pthread_exit(NULL);
}
