/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What prctl() sets besides: comm, machine check policy, speculation, TSC and more; id_prctl
 * DIR dispatch: system calls that the program handles itself, which may be refused.
 */
#include "state.h"

#include <linux/prctl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

static volatile char block;
static volatile sig_atomic_t dispatched;

static void on_sys(int sig)
{
	(void)sig;
	block = 0;
	dispatched = 1;
}

static int dispatch(void)
{
	signal(SIGSYS, on_sys);
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &block) < 0)
		st_skip("no dispatch of system calls here: %s", strerror(errno));
	st_wait();
	block = 1;
	syscall(SYS_getppid);
	block = 0;
	ST_EQ(dispatched, 1);
	return st_end();
}

int main(int argc, char **argv)
{
	char **args = st_begin(argc, argv);
	char name[16] = "";
	int io = 0, spec, mce, merge;

	if (args[0] && !strcmp(args[0], "dispatch"))
		return dispatch();
	ST_SYS(prctl(PR_SET_NAME, "a \"new\" (name)"));
	ST_SYS(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
	io = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0;
	mce = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
	spec = prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0) == 0
		       ? prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0)
		       : -1;
	merge = prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0;
	st_wait();
	prctl(PR_GET_NAME, name);
	ST_STR(name, "a \"new\" (name)");
	ST_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), mce);
	if (io)
		ST_EQ(prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0), 1);
	if (merge)
		ST_EQ(prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0), 1);
	if (spec >= 0)
		ST_EQ(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0), spec);
	return st_end();
}
