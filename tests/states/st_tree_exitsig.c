/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Children whose exit is told by another signal than SIGCHLD, or by none. */
#include "state.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

static volatile sig_atomic_t usr1, chld;

static void on_sig(int sig)
{
	if (sig == SIGUSR1)
		usr1++;
	else
		chld++;
}

static int child(void *arg)
{
	st_until(arg);
	return 3;
}

int main(int argc, char **argv)
{
	static char stack[2][65536] __attribute__((aligned(16)));
	volatile int *go;
	pid_t a, b;
	int status = 0;

	st_begin(argc, argv);
	go = st_shared(4096);
	signal(SIGUSR1, on_sig);
	signal(SIGCHLD, on_sig);
	a = ST_SYS(clone(child, stack[0] + 65536, SIGUSR1, (void *)go));
	b = ST_SYS(clone(child, stack[1] + 65536, 0, (void *)go));
	st_wait();
	ST_EQ(usr1 + chld, 0);
	*go = 1;
	ST_EQ(waitpid(a, &status, __WCLONE), a);
	ST_EQ(waitpid(b, &status, __WALL), b);
	st_sleep_ms(20);
	ST_EQ(usr1, 1);
	ST_EQ(chld, 0);
	return st_end();
}
