/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_stop.c - a process that was stopped is stopped again, by the same signal, and its parent
 * has been told or not, as it was.
 *
 * It is done while we still hold it, before its actions are set, so that the signal has its
 * default effect; calls can be run in it all the same, and when it is let go the kernel takes
 * it back into the stop without telling anybody. A thread that is resumed for this stands
 * before pause(): should the signal not stop it (the group is an orphan), it sleeps there, and
 * SIGSTOP does.
 */
#include "rst_call.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENT_STOP 128 /* PTRACE_EVENT_STOP */
#define IDTYPE_PID 1   /* P_PID of waitid */

static bool is_stop_signal(int sig)
{
	return sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

static int trace_err(const struct cpx_tracee *t, const char *what, struct cpx_err *err)
{
	return cpx_err_sys(err, errno, "%s thread %d", what, t->tid);
}

static int set_mask(const struct cpx_tracee *t, uint64_t mask, struct cpx_err *err)
{
	if (ptrace(PTRACE_SETSIGMASK, t->tid, (void *)sizeof(mask), &mask) < 0)
		return trace_err(t, "block signals of", err);
	return 0;
}

static int before_pause(const struct cpx_tracee *t, struct cpx_err *err)
{
	struct user_regs_struct regs = t->regs;
	struct iovec iov = { .iov_base = &regs, .iov_len = sizeof(regs) };

	regs.rip = t->home->code;
	regs.rsp = t->home->data + t->home->data_size + 64;
	regs.rax = SYS_pause;
	regs.orig_rax = (uint64_t)-1;
	if (ptrace(PTRACE_SETREGSET, t->tid, (void *)NT_PRSTATUS, &iov) < 0)
		return trace_err(t, "set registers of", err);
	return 0;
}

/* Resume @t until it takes part in the stop. @sig: what was sent to it; 0: another got it. */
static int into_stop(const struct cpx_tracee *t, int sig, struct cpx_err *err)
{
	uintptr_t pass = 0;

	for (;;) {
		int status, got;

		if (ptrace(PTRACE_SYSCALL, t->tid, NULL, (void *)pass) < 0)
			return trace_err(t, "resume", err);
		pass = 0;
		while (waitpid(t->tid, &status, __WALL) < 0)
			if (errno != EINTR)
				return trace_err(t, "wait for", err);
		if (!WIFSTOPPED(status))
			return cpx_err_set(err, CPX_E_GONE, "thread %d went away", t->tid);
		got = WSTOPSIG(status);
		if (status >> 16 == EVENT_STOP && is_stop_signal(got))
			return 0;
		if (status >> 16 == 0 && is_stop_signal(got))
			pass = (uintptr_t)got;
		if (status >> 16 == 0 && got == (SIGTRAP | 0x80) && sig != SIGSTOP) {
			sig = SIGSTOP;
			syscall(SYS_tgkill, t->pid, t->tid, sig);
		}
	}
}

int cpx_rst_stop(struct cpx_rst_task *t, struct cpx_err *err)
{
	int sig = is_stop_signal((int)t->rec->stop_signal) ? (int)t->rec->stop_signal : SIGSTOP;
	struct cpx_tracee *lead = &t->threads[0].t;
	int64_t ret;
	int rc = 0;

	/*
	 * A call first: registers and mask are then ours. In all threads before the signal: a
	 * call in one that has the stop before it would take part in it, and only once.
	 */
	for (size_t k = 0; k < t->nthreads && rc == 0; k++) {
		rc = cpx_tcall(&t->threads[k].t, &ret, err, SYS_getpid, 0);
		if (rc == 0)
			rc = before_pause(&t->threads[k].t, err);
	}
	if (rc == 0)
		rc = set_mask(lead, ~(1ull << (sig - 1)), err);
	if (rc == 0 && syscall(SYS_tgkill, t->pid, lead->tid, sig) < 0)
		rc = trace_err(lead, "stop", err);
	for (size_t k = 0; k < t->nthreads && rc == 0; k++)
		rc = into_stop(&t->threads[k].t, k ? 0 : sig, err);
	if (rc == 0)
		rc = set_mask(lead, ~0ull, err);
	if (rc == 0 && t->rec->stop_waited && t->parent)
		rc = cpx_tcall(&t->parent->threads[0].t, &ret, err, SYS_waitid, IDTYPE_PID,
			       t->rec->pid, 0, WSTOPPED | WNOHANG | __WALL);
	return rc;
}
