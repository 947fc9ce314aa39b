/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes fork, exit and are reaped all the time. */
#include "state.h"

int main(int argc, char **argv)
{
	volatile int *stop;
	pid_t pid[3];

	st_begin(argc, argv);
	stop = st_shared(4096);
	for (int i = 0; i < 3; i++) {
		pid[i] = st_fork();
		if (pid[i] == 0) {
			int n = 0;

			while (!*stop) {
				pid_t sub = st_fork();

				if (sub == 0)
					_exit(n % 100);
				ST_EQ(st_reap(sub), n % 100);
				n++;
			}
			_exit(n > 3 ? 0 : 1);
		}
	}
	st_wait();
	st_sleep_ms(50);
	*stop = 1;
	for (int i = 0; i < 3; i++)
		ST_EQ(st_reap(pid[i]), 0);
	return st_end();
}
