/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_resume.c - threads that were in a system call go on in it, with the time they had left
 * (chpox/base/timed.h tells the classes).
 *
 * A call with a restart block: the thread runs it here, with what is left as its time-out,
 * until it sleeps; interrupted there, the new kernel holds its deadline in a restart block of
 * its own. Then it gets its own registers, with ax = -516. A call that ends meanwhile gets its
 * result. Other calls are issued again by the kernel (ax = -514), unless a handler runs first.
 */
#include "rst_call.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/patch.h"
#include "../chpox/base/timed.h"

#define SLEEP_TIMEOUT_NS 2000000000ll
#define LEFT_MAX_NS 9000000000000000000ll

static int trace_err(const struct cpx_tracee *t, const char *what, struct cpx_err *err)
{
	return cpx_err_sys(err, errno, "%s thread %d", what, t->tid);
}

static int wait_stop(const struct cpx_tracee *t, int flags, int *status, struct cpx_err *err)
{
	pid_t got;

	while ((got = waitpid(t->tid, status, __WALL | flags)) < 0)
		if (errno != EINTR)
			return trace_err(t, "wait for", err);
	if (got && !WIFSTOPPED(*status))
		return cpx_err_set(err, CPX_E_GONE, "thread %d went away", t->tid);
	return got != 0;
}

/* /proc says "running" as long as it does not sleep. */
static bool sleeps(const struct cpx_tracee *t, long nr)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[80], *end;
	long now;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", t->pid, t->tid);
	if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) <= 0)
		return false;
	now = strtol(text, &end, 10);
	return end != text && now == nr;
}

static bool is_syscall_stop(int status)
{
	return status >> 16 == 0 && WSTOPSIG(status) == (SIGTRAP | 0x80);
}

/* Run on to the next system call stop. */
static int to_stop(const struct cpx_tracee *t, struct cpx_err *err)
{
	int status, rc;

	do {
		if (ptrace(PTRACE_SYSCALL, t->tid, NULL, NULL) < 0)
			return trace_err(t, "resume", err);
		rc = wait_stop(t, 0, &status, err);
		if (rc < 0)
			return rc;
	} while (!is_syscall_stop(status));
	return 0;
}

/* The call has been entered: let it fall asleep, wake it, and take it to its exit. */
static int sleep_and_wake(const struct cpx_tracee *t, long nr, struct cpx_err *err)
{
	int64_t until = cpx_mono_ns() + SLEEP_TIMEOUT_NS;
	bool woken = false;

	if (ptrace(PTRACE_SYSCALL, t->tid, NULL, NULL) < 0)
		return trace_err(t, "resume", err);
	for (;;) {
		int status, rc = wait_stop(t, woken ? 0 : WNOHANG, &status, err);

		if (rc < 0)
			return rc;
		if (rc && is_syscall_stop(status))
			return 0;
		if (rc && ptrace(PTRACE_SYSCALL, t->tid, NULL, NULL) < 0)
			return trace_err(t, "resume", err);
		if (woken)
			continue;
		if (!sleeps(t, nr) && cpx_mono_ns() < until) {
			sched_yield();
			continue;
		}
		if (ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL) < 0)
			return trace_err(t, "interrupt", err);
		woken = true;
	}
}

/* Run call @nr with @args at the home. Return: its result in *@ret. */
static int run_call(struct cpx_tracee *t, long nr, const uint64_t args[6], int64_t *ret,
		    struct cpx_err *err)
{
	struct user_regs_struct regs = t->regs;
	struct iovec iov = { .iov_base = &regs, .iov_len = sizeof(regs) };
	int64_t none;
	int rc = cpx_tcall(t, &none, err, SYS_getpid, 0); /* ours: registers and mask */

	if (rc < 0)
		return rc;
	regs.rip = t->home->code;
	regs.rsp = t->home->data + t->home->data_size + 64;
	regs.rax = (uint64_t)nr;
	regs.orig_rax = (uint64_t)-1;
	for (unsigned i = 0; i < 6; i++)
		cpx_timed_set_arg(&regs, i, args[i]);
	if (ptrace(PTRACE_SETREGSET, t->tid, (void *)NT_PRSTATUS, &iov) < 0)
		return trace_err(t, "set registers of", err);
	rc = to_stop(t, err);
	if (rc == 0)
		rc = sleep_and_wake(t, nr, err);
	if (rc < 0)
		return rc;
	if (ptrace(PTRACE_GETREGSET, t->tid, (void *)NT_PRSTATUS, &iov) < 0)
		return trace_err(t, "read registers of", err);
	*ret = (int64_t)regs.rax;
	return 0;
}

/* Give the thread a restart block of its own. */
static int prime(struct cpx_rst_thread *th, const struct cpx_timed *d, uint64_t args[6],
		 struct cpx_err *err)
{
	int64_t left = th->rec->sys_left_ns, ret = 0;
	struct timespec ts = { left / 1000000000, left % 1000000000 };
	uint64_t rem = d->rem >= 0 ? args[d->rem] : 0;
	uint8_t was[sizeof(ts)];
	bool keep = false;
	int rc;

	cpx_tracee_reset(&th->t);
	if (d->form == CPX_TIMED_MS)
		args[d->arg] = (uint64_t)cpx_timed_ms(left);
	else
		args[d->arg] = cpx_tracee_push(&th->t, &ts, sizeof(ts));
	if (d->form == CPX_TIMED_TS && !args[d->arg])
		return cpx_err_set(err, CPX_E_SYS, "no room for a call");
	if (rem)
		keep = cpx_tracee_read(&th->t, rem, was, sizeof(was), NULL) == 0;
	rc = run_call(&th->t, d->nr, args, &ret, err);
	if (rc == 0 && keep)
		rc = cpx_tracee_write(&th->t, rem, was, sizeof(was), err);
	if (rc < 0)
		return rc;
	th->regs.rax = (uint64_t)ret;
	th->regs.orig_rax = ret <= -CPX_ERESTARTSYS ? (uint64_t)d->nr : (uint64_t)-1;
	return 0;
}

/* The kernel issues it again; the time left goes where the call will look for it. */
static void issue_again(struct cpx_rst_task *t, struct cpx_rst_thread *th,
			const struct cpx_timed *d, const uint64_t args[6],
			struct cpx_patches *p)
{
	int64_t left = th->rec->sys_left_ns;
	CPX_AUTO_FD pidfd = -1;

	th->regs.orig_rax = th->rec->sys_nr;
	th->regs.rax = (uint64_t)-CPX_ERESTARTNOHAND;
	if (th->rec->resume != CPX_RESUME_TIMED || !cpx_timed_relative(d, args))
		return;
	if (d->form == CPX_TIMED_MS) {
		cpx_timed_set_arg(&th->regs, d->arg, (uint64_t)cpx_timed_ms(left));
	} else if (t->rec->state == CPX_TASK_STOPPED) {
		; /* nobody knows when it will read its time-out */
	} else if (d->form == CPX_TIMED_TS) {
		cpx_patch_memory(p, t->pid, th->t.tid, d->nr, t->mem_fd, args[d->arg], left);
	} else {
		pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
		cpx_patch_socket(p, t->pid, th->t.tid, d->nr, pidfd, (int)args[0],
				 d->form == CPX_TIMED_RCV ? SO_RCVTIMEO : SO_SNDTIMEO, left);
	}
}

int cpx_rst_resume(struct cpx_rst_task *t, struct cpx_rst_thread *th, struct cpx_patches *p,
		   struct cpx_err *err)
{
	const struct cpx_rec_thread *rec = th->rec;
	const struct cpx_timed *d;
	uint64_t args[6];

	if (rec->resume == CPX_RESUME_NONE)
		return 0;
	d = cpx_timed_find((long)rec->sys_nr);
	if (!d || rec->resume > CPX_RESUME_TIMED || rec->sys_left_ns > LEFT_MAX_NS ||
	    (rec->resume == CPX_RESUME_TIMED && rec->sys_left_ns < 0))
		return cpx_err_set(err, CPX_E_FORMAT, "call %u in progress makes no sense",
				   rec->sys_nr);
	cpx_timed_args(&th->regs, args);
	if (d->cls == CPX_TIMED_BLOCK && rec->resume == CPX_RESUME_TIMED &&
	    cpx_timed_relative(d, args))
		return prime(th, d, args, err);
	issue_again(t, th, d, args, p);
	return 0;
}
