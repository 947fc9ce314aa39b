/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The action, flags, mask and restorer of every signal. */
#include "state.h"

#include <signal.h>
#include <sys/syscall.h>

struct ksigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

static volatile sig_atomic_t hits;

static void handler(int sig)
{
	hits += sig;
}

int main(int argc, char **argv)
{
	struct ksigaction before[65], after;

	st_begin(argc, argv);
	for (int s = 1; s < 65; s++) {
		struct sigaction a;

		if (s == SIGKILL || s == SIGSTOP || s == 32 || s == 33)
			continue;
		memset(&a, 0, sizeof(a));
		a.sa_handler = s % 4 == 0 ? SIG_IGN : s % 4 == 1 ? SIG_DFL : handler;
		a.sa_flags = (s & 1 ? SA_RESTART : 0) | (s & 2 ? SA_NODEFER : 0) |
			     (s & 8 ? SA_RESETHAND : 0) | (s & 16 ? SA_ONSTACK : 0) |
			     (s == SIGCHLD ? SA_NOCLDSTOP | SA_NOCLDWAIT : 0);
		sigaddset(&a.sa_mask, 1 + s * 7 % 31);
		ST_SYS(sigaction(s, &a, NULL));
	}
	for (int s = 1; s < 65; s++)
		ST_SYS(syscall(SYS_rt_sigaction, s, NULL, &before[s], 8));
	st_wait();
	for (int s = 1; s < 65; s++) {
		ST_OK(syscall(SYS_rt_sigaction, s, NULL, &after, 8));
		ST_CHECK(after.handler == before[s].handler, "handler of %d", s);
		ST_CHECK(after.flags == before[s].flags, "flags of %d: %#lx, %#lx", s,
			 after.flags, before[s].flags);
		ST_CHECK(after.restorer == before[s].restorer, "restorer of %d", s);
		ST_CHECK(after.mask == before[s].mask, "mask of %d", s);
	}
	raise(2);
	ST_EQ(hits, 2);
	return st_end();
}
