/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A seccomp filter goes on to hold, in the process, its threads and its children. */
#include "state.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

static volatile int judge, up;

static void forbid(long nr, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, code };

	ST_SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ST_SYS(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog));
}

static bool forbidden(long nr, int err)
{
	errno = 0;
	return syscall(nr, 0, 0, 0) == -1 && errno == err;
}

static void *worker(void *arg)
{
	(void)arg;
	forbid(SYS_sysinfo, 66); /* in this thread alone */
	up = 1;
	while (!judge)
		st_sleep_ms(5);
	ST_TRUE(forbidden(SYS_acct, 77));
	ST_TRUE(forbidden(SYS_sysinfo, 66));
	return NULL;
}

int main(int argc, char **argv)
{
	struct sysinfo si;
	volatile int *go;
	pthread_t t;
	pid_t pid;

	st_begin(argc, argv);
	go = st_shared(4096);
	forbid(SYS_acct, 77);
	ST_ZERO(pthread_create(&t, NULL, worker, NULL));
	while (!up)
		st_sleep_ms(1);
	pid = st_fork();
	if (pid == 0) {
		forbid(SYS_swapoff, 88);
		go[1] = 1;
		st_until(go);
		_exit(forbidden(SYS_acct, 77) && forbidden(SYS_swapoff, 88) ? 0 : 1);
	}
	st_until(go + 1);
	st_wait();
	ST_TRUE(forbidden(SYS_acct, 77));
	ST_TRUE(!forbidden(SYS_swapoff, 88));
	ST_EQ(sysinfo(&si), 0);
	judge = 1;
	*go = 1;
	pthread_join(t, NULL);
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
