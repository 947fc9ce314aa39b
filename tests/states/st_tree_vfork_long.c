/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A vfork whose child takes its time: parent suspended, memory shared. May be refused, not
 * broken. */
#include "state.h"

int main(int argc, char **argv)
{
	static volatile int word;
	pid_t pid;

	st_begin(argc, argv);
	pid = vfork();
	if (pid == 0) {
		st_wait();
		word = 99;
		_exit(5);
	}
	ST_EQ(word, 99);
	ST_EQ(st_reap(pid), 5);
	return st_end();
}
