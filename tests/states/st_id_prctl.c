/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What prctl() sets besides: comm, machine check policy, speculation, TSC and more. */
#include "state.h"

#include <linux/prctl.h>
#include <sys/prctl.h>

int main(int argc, char **argv)
{
	char name[16] = "";
	int io = 0, spec, mce;

	st_begin(argc, argv);
	ST_SYS(prctl(PR_SET_NAME, "a \"new\" (name)"));
	ST_SYS(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
	io = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0;
	mce = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
	spec = prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0) == 0
		       ? prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0)
		       : -1;
	st_wait();
	prctl(PR_GET_NAME, name);
	ST_STR(name, "a \"new\" (name)");
	ST_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), mce);
	if (io)
		ST_EQ(prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0), 1);
	if (spec >= 0)
		ST_EQ(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0), spec);
	return st_end();
}
