/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checkpointed inside a handler on an alternate stack, itself inside another handler and a
 * sleep. */
#include "state.h"

#include <signal.h>

static volatile int depth, out;
static sigset_t inside;
static char alt[65536];

static void inner(int sig, siginfo_t *si, void *uc)
{
	stack_t now;
	char here;

	(void)uc;
	depth = 2;
	ST_EQ(sig, SIGUSR2);
	ST_EQ(si->si_pid, getpid());
	st_wait();
	sigaltstack(NULL, &now);
	ST_EQ(now.ss_sp, alt);
	ST_TRUE(now.ss_flags & SS_ONSTACK);
	ST_TRUE(&here >= alt && &here < alt + sizeof(alt));
	sigprocmask(SIG_SETMASK, NULL, &inside);
	ST_TRUE(sigismember(&inside, SIGUSR1) && sigismember(&inside, SIGUSR2) &&
		sigismember(&inside, SIGTERM));
	out = 2;
}

static void outer(int sig)
{
	ST_EQ(sig, SIGUSR1);
	depth = 1;
	raise(SIGUSR2);
	ST_EQ(out, 2);
	out = 1;
}

int main(int argc, char **argv)
{
	struct sigaction a = { .sa_handler = outer };
	struct sigaction b = { .sa_sigaction = inner, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	sigset_t m;

	st_begin(argc, argv);
	ST_SYS(sigaltstack(&ss, NULL));
	sigaddset(&b.sa_mask, SIGTERM);
	ST_SYS(sigaction(SIGUSR1, &a, NULL));
	ST_SYS(sigaction(SIGUSR2, &b, NULL));
	raise(SIGUSR1);
	ST_EQ(out, 1);
	sigprocmask(SIG_SETMASK, NULL, &m);
	ST_TRUE(!sigismember(&m, SIGUSR1) && !sigismember(&m, SIGTERM));
	return st_end();
}
