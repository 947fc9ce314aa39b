/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Zombies not reaped yet keep their status, in every flavour, also grandchildren's. */
#include "state.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	struct rlimit none = { 0, 0 };
	volatile int *go;
	pid_t z[4], pid;
	siginfo_t si;
	int status;

	st_begin(argc, argv);
	go = st_shared(4096);
	setrlimit(RLIMIT_CORE, &none);
	for (int i = 0; i < 4; i++) {
		z[i] = st_fork();
		if (z[i] == 0) {
			prctl(PR_SET_NAME, "was a child");
			if (i == 3)
				setsid();
			if (i == 1)
				raise(SIGTERM);
			if (i == 2)
				abort();
			_exit(i == 0 ? 7 : 255);
		}
		if (!st_in_state(z[i], 'Z', 5000))
			st_die(__FILE__, __LINE__, "zombie");
	}
	pid = st_fork();
	if (pid == 0) {
		pid_t g = st_fork();

		if (g == 0)
			_exit(33);
		st_in_state(g, 'Z', 5000);
		go[1] = 1;
		st_until(go);
		_exit(st_reap(g));
	}
	st_until(go + 1);
	st_wait();
	ST_EQ(waitid(P_PID, (id_t)z[0], &si, WEXITED | WNOWAIT | WNOHANG), 0);
	ST_EQ(si.si_pid, z[0]);
	ST_EQ(si.si_code, CLD_EXITED);
	ST_EQ(si.si_status, 7);
	ST_EQ(waitpid(z[0], &status, WNOHANG), z[0]);
	ST_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	ST_EQ(waitpid(z[1], &status, WNOHANG), z[1]);
	ST_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	ST_EQ(waitpid(z[2], &status, WNOHANG), z[2]);
	ST_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	ST_EQ(waitpid(-1, &status, WNOHANG), z[3]);
	ST_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 255);
	ST_EQ(waitpid(-1, &status, WNOHANG), 0);
	*go = 1;
	ST_EQ(st_reap(pid), 33);
	ST_EQ(waitpid(-1, &status, WNOHANG), -1);
	ST_EQ(errno, ECHILD);
	return st_end();
}
