/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capabilities in all five sets, securebits and no_new_privs, of processes with and without
 * root's uid. */
#include "state.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const char *const keys[] = { "CapInh", "CapPrm", "CapEff",
				    "CapBnd", "CapAmb", "NoNewPrivs" };
#define K (sizeof(keys) / sizeof(keys[0]))

static void caps(char *out[K])
{
	for (size_t i = 0; i < K; i++)
		out[i] = st_status(0, keys[i]);
}

static void set(uint64_t eff, uint64_t prm, uint64_t inh)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = {
		{ (uint32_t)eff, (uint32_t)prm, (uint32_t)inh },
		{ (uint32_t)(eff >> 32), (uint32_t)(prm >> 32), (uint32_t)(inh >> 32) },
	};

	ST_SYS(syscall(SYS_capset, &h, d));
}

#define BIT(c) (1ULL << (c))

static int child(volatile int *go, int kind)
{
	char *before[K], *after[K];
	int bits;

	if (kind == 0) { /* root with little */
		ST_SYS(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0));
		ST_SYS(prctl(PR_CAPBSET_DROP, CAP_MKNOD, 0, 0, 0));
		ST_SYS(prctl(PR_SET_SECUREBITS,
			     SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT_LOCKED));
		set(BIT(CAP_KILL), BIT(CAP_KILL) | BIT(CAP_CHOWN),
		    BIT(CAP_FOWNER) | BIT(CAP_CHOWN));
	} else { /* a user with a few, one ambient */
		ST_SYS(prctl(PR_SET_KEEPCAPS, 1));
		ST_SYS(setresuid(1234, 1234, 1234));
		set(BIT(CAP_NET_RAW) | BIT(CAP_KILL), BIT(CAP_NET_RAW) | BIT(CAP_KILL),
		    BIT(CAP_KILL));
		ST_SYS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
		ST_SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	}
	bits = prctl(PR_GET_SECUREBITS);
	caps(before);
	go[1 + kind] = 1;
	st_until(go);
	caps(after);
	for (size_t i = 0; i < K; i++)
		ST_CHECK(!strcmp(before[i], after[i]), "%s of child %d: %s, was %s", keys[i],
			 kind, after[i], before[i]);
	ST_EQ(prctl(PR_GET_SECUREBITS), bits);
	return 0;
}

int main(int argc, char **argv)
{
	volatile int *go;
	pid_t pid[2];

	st_begin(argc, argv);
	if (geteuid() != 0)
		st_skip("needs root");
	go = st_shared(4096);
	for (int i = 0; i < 2; i++) {
		pid[i] = st_fork();
		if (pid[i] == 0)
			_exit(child(go, i));
		st_until(go + 1 + i);
	}
	st_wait();
	*go = 1;
	for (int i = 0; i < 2; i++)
		ST_EQ(st_reap(pid[i]), 0);
	return st_end();
}
