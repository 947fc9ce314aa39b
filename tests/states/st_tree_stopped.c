/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stopped children stay stopped, tell their parent once, and go on with SIGCONT. That another
 * one was continued is still to be told.
 */
#include "state.h"

#include <signal.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	volatile int *count;
	const volatile int never = 0;
	pid_t pid[2], continued;
	int status = 0, was;

	st_begin(argc, argv);
	count = st_shared(4096);
	for (int i = 0; i < 2; i++) {
		pid[i] = st_fork();
		if (pid[i] == 0) {
			setpgid(0, 0); /* or SIGTSTP does not stop: the root's group is an
					  orphan */
			for (;;) {
				count[i]++;
				st_sleep_ms(1);
			}
		}
		st_until(count + i);
		kill(pid[i], i ? SIGTSTP : SIGSTOP);
		if (!st_in_state(pid[i], 'T', 2000))
			st_die(__FILE__, __LINE__, "does not stop");
	}
	ST_EQ(waitpid(pid[0], &status, WUNTRACED | WNOHANG), pid[0]); /* told for this one */
	continued = st_fork();
	if (continued == 0)
		st_until(&never);
	kill(continued, SIGSTOP);
	ST_EQ(waitpid(continued, &status, WUNTRACED), continued);
	kill(continued, SIGCONT);
	st_sleep_ms(20);
	st_wait();
	ST_EQ(waitpid(continued, &status, WCONTINUED | WNOHANG), continued);
	ST_TRUE(WIFCONTINUED(status));
	ST_EQ(waitpid(continued, &status, WCONTINUED | WNOHANG), 0);
	ST_TRUE(!st_in_state(continued, 'T', 0));
	kill(continued, SIGKILL);
	ST_EQ(st_reap(continued), -1 - SIGKILL);
	for (int i = 0; i < 2; i++) {
		was = count[i];
		ST_TRUE(st_in_state(pid[i], 'T', 0));
		st_sleep_ms(30);
		ST_EQ(count[i], was);
	}
	ST_EQ(waitpid(pid[0], &status, WUNTRACED | WNOHANG), 0);
	ST_EQ(waitpid(pid[1], &status, WUNTRACED | WNOHANG), pid[1]); /* not told before */
	ST_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
	for (int i = 0; i < 2; i++) {
		was = count[i];
		kill(pid[i], SIGCONT);
		ST_EQ(waitpid(pid[i], &status, WCONTINUED), pid[i]);
		ST_TRUE(WIFCONTINUED(status));
		st_sleep_ms(50);
		ST_TRUE(count[i] > was);
		kill(pid[i], SIGKILL);
		ST_EQ(st_reap(pid[i]), -1 - SIGKILL);
	}
	return st_end();
}
