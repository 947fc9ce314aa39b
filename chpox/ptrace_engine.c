/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ptrace_engine.c - the engine that needs nothing of the kernel but ptrace: park.c stops,
 * base/tracee.h runs calls in the job, snap_clone.c copies memory; here is what is left.
 */
#include "ptrace_engine.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "cap_mem.h"
#include "engine.h"
#include "park.h"
#include "snap_clone.h"

static int ptrace_park(struct cpx_cap *c, struct cpx_park *park, int64_t timeout_ns,
		       struct cpx_err *err)
{
	return cpx_park(c->opts->root, timeout_ns, park, err);
}

static int ptrace_registers(struct cpx_cap *c, struct cpx_cap_thread *th, struct cpx_err *err)
{
	(void)c;
	return cpx_tracee_save(&th->t, err);
}

/* Where calls run. */
static int ptrace_settle(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	int rc = cpx_home_live(t->live, t->mem_fd, &t->home, err);

	if (rc == CPX_E_UNSUPPORTED)
		rc = cpx_cap_refuse(c, t, err, "%s", err ? err->msg : "no room for calls");
	return rc == 0 ? cpx_home_write(t->mem_fd, &t->home, err) : rc;
}

/*
 * mlockall(MCL_FUTURE) shows nowhere; what a new mapping becomes does: locked, and there at
 * once unless MCL_ONFAULT goes with it. Only asked for where something is locked. A page
 * that is left behind if we die in between is of no harm.
 */
static int take_mlock_future(struct cpx_cap_task *of, struct cpx_rec_mm *rec,
			     struct cpx_err *err)
{
	struct cpx_tracee *t = &of->threads[0].t;
	uint64_t before = cpx_mem_locked_kb(of), after, vec;
	uint8_t there = 1;
	int64_t addr, ret;
	int rc = cpx_tcall(t, &addr, err, SYS_mmap, 0, CPX_PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0);

	if (rc < 0 || addr < 0)
		return rc;
	after = cpx_mem_locked_kb(of);
	vec = cpx_tracee_push(t, &there, sizeof(there));
	rc = cpx_tcall(t, &ret, err, SYS_mincore, (uint64_t)addr, CPX_PAGE, vec);
	if (rc == 0)
		rc = cpx_tracee_read(t, vec, &there, sizeof(there), err);
	cpx_tracee_reset(t);
	if (rc == 0)
		rc = cpx_tcall(t, &ret, err, SYS_munmap, (uint64_t)addr, CPX_PAGE);
	if (after > before)
		rec->mlock_future = there & 1 ? 1 : 2;
	return rc;
}

/*
 * Which protection keys are allocated shows nowhere, but pkey_mprotect() looks at the key
 * before it looks for the mapping, of which there is none in the kernel's half. The kernel's
 * own key, of mappings that are only executed, is none of the program's.
 */
static int take_pkeys(struct cpx_cap_task *of, struct cpx_rec_mm *rec, struct cpx_err *err)
{
	const uint64_t nowhere = -2ull * CPX_PAGE;
	uint32_t taken = 0;
	int64_t ret;

	for (uint32_t k = 1; k < CPX_PKEYS; k++) {
		int rc = cpx_tcall(&of->threads[0].t, &ret, err, SYS_pkey_mprotect, nowhere,
				   CPX_PAGE, PROT_NONE, k);

		if (rc < 0)
			return rc;
		if (ret == -ENOMEM)
			taken |= 1u << k;
	}
	rec->pkeys = taken;
	return 0;
}

static int ptrace_space(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_rec_mm *rec,
			bool locked, struct cpx_err *err)
{
	int64_t ret;
	int rc = cpx_tcall(&t->threads[0].t, &ret, err, SYS_brk, 0);

	(void)c;
	if (rc == 0 && ret > 0)
		rec->brk = (uint64_t)ret;
	if (rc == 0 && rec->pkeys)
		rc = take_pkeys(t, rec, err);
	return rc == 0 && locked ? take_mlock_future(t, rec, err) : rc;
}

static int ptrace_give_back(struct cpx_cap *c, struct cpx_cap_thread *th, struct cpx_err *err)
{
	(void)c;
	return th->t.saved ? cpx_tracee_unborrow(&th->t, err) : 0;
}

static int ptrace_again(struct cpx_cap *c, struct cpx_cap_thread *th,
			const struct user_regs_struct *regs, int arg, struct cpx_err *err)
{
	struct iovec iov = { .iov_base = (void *)regs, .iov_len = sizeof(*regs) };

	(void)c, (void)arg;
	if (ptrace(PTRACE_SETREGSET, th->t.tid, (void *)NT_PRSTATUS, &iov) < 0)
		return cpx_err_sys(err, errno, "put thread %d back into its call", th->t.tid);
	return 0;
}

static int ptrace_leave(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	(void)c;
	return cpx_home_erase(t->mem_fd, &t->home, err);
}

static int ptrace_release(struct cpx_cap *c, struct cpx_park *park, bool stop,
			  struct cpx_err *err)
{
	(void)err;
	cpx_park_release(park, stop);
	for (size_t i = 0; i < c->ntasks && !stop; i++) {
		bool again = false;

		for (size_t k = 0; k < c->tasks[i]->nthreads; k++)
			again |= c->tasks[i]->threads[k].t.stop_seen;
		if (again)
			kill(c->tasks[i]->pid, SIGSTOP);
	}
	return 0;
}

/*
 * Kill from the leaves up and let each parent, stopped as it is, reap its children: else they
 * would be left to init, and their PIDs taken until it looks.
 */
static void kill_and_reap(struct cpx_cap *c)
{
	for (size_t i = c->ntasks; i-- > 1;) {
		struct cpx_cap_task *t = c->tasks[i], *parent = NULL;
		int64_t ret;
		int status;

		for (size_t k = 0; k < i && !parent; k++)
			if (c->tasks[k]->rec->pid == t->rec->ppid)
				parent = c->tasks[k];
		if (!t->zombie)
			kill(t->pid, SIGKILL);
		for (size_t k = t->nthreads; k-- > 0;)
			while (waitpid(t->threads[k].t.tid, &status, __WALL) >= 0 &&
			       WIFSTOPPED(status))
				;
		if (parent && parent->nthreads)
			cpx_tcall(&parent->threads[0].t, &ret, NULL, SYS_wait4,
				  (uint64_t)t->ns_pid, 0, WNOHANG | __WALL, 0);
	}
}

static void ptrace_kill(struct cpx_cap *c, struct cpx_park *park)
{
	kill_and_reap(c);
	cpx_park_kill(park);
}

const struct cpx_engine cpx_engine_ptrace = {
	.name = "ptrace",
	.injects = true,
	.park = ptrace_park,
	.registers = ptrace_registers,
	.settle = ptrace_settle,
	.thread = cpx_ptrace_thread,
	.process = cpx_ptrace_process,
	.signals = cpx_ptrace_signals,
	.space = ptrace_space,
	.snapshot = cpx_snap_take,
	.drop = cpx_snap_drop,
	.give_back = ptrace_give_back,
	.again = ptrace_again,
	.leave = ptrace_leave,
	.release = ptrace_release,
	.kill = ptrace_kill,
};
