/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tracee.c - running single system calls in a traced thread.
 *
 * Happy path of a call in a live job: write the sigreturn frame, set the registers to
 * the entry point, block all signals, run to the end of the call, read the result.
 * Calls that follow in the same thread only set registers again.
 *
 * If we die: the kernel detaches the thread, which runs on in our code: it finishes the
 * call, then rt_sigreturn loads the frame, that is its own registers, extended state and
 * signal mask. An interrupted system call is issued anew, as a restart would do.
 * So the frame is written before registers are changed, and put away after they are back.
 *
 * One frame a process: only one of its threads is borrowed at a time (home->user).
 */
#include "tracee.h"
#include "err.h"
#include "fault.h"
#include "fd.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* clang-format off */
/* The entry points; see tracee.h for what each is for. */
static const uint8_t home_code[] = {
	/*  0: CALL  */	0x0f, 0x05,			/* syscall */
	/*  2 */	0xeb, 0x23,			/* jmp S */
	/*  4: CHILD */	0x0f, 0x05,			/* syscall; in a process of ours: no return */
	/*  6: X */	0x31, 0xff,			/* xor edi, edi */
	/*  8 */	0x6a, 0x3c, 0x58,		/* push 60 (exit); pop rax */
	/* 11 */	0x0f, 0x05, 0xf4,		/* syscall; hlt */
	/* 14: FORK  */	0x0f, 0x05,			/* syscall */
	/* 16 */	0x85, 0xc0,			/* test eax, eax */
	/* 18 */	0x74, 0xf2,			/* jz X: the child that nobody holds ends */
	/* 20 */	0x78, 0x11,			/* js S: there is no child */
	/* 22 */	0x89, 0xc7,			/* mov edi, eax: else its parent reaps it */
	/* 24 */	0x31, 0xf6,			/* xor esi, esi */
	/* 26 */	0xba, 0x00, 0x00, 0x00, 0x40,	/* mov edx, __WALL */
	/* 31 */	0x45, 0x31, 0xd2,		/* xor r10d, r10d */
	/* 34 */	0x6a, 0x3d, 0x58, 0x0f, 0x05,	/* push 61 (wait4); pop rax; syscall */
	/* 39: S */	0x6a, 0x0f, 0x58, 0x0f, 0x05,	/* push 15 (rt_sigreturn); pop rax; syscall */
	/* 44 */	0xf4,				/* hlt */
};
/* clang-format on */
#define ENTRY_CALL 0u
#define ENTRY_CHILD 4u
#define ENTRY_FORK 14u
#define CODE_ROOM 48u /* bytes of code, rounded up */

/* The kernel's rt_sigframe as rt_sigreturn reads it, from the ucontext on. Offsets in bytes. */
#define UC_FLAGS 0
#define UC_STACK_FLAGS 24
#define UC_MCONTEXT 40
#define UC_SIGMASK 296
#define UC_SIZE 304
#define UC_FP_XSTATE 1
#define UC_SIGCONTEXT_SS 2
#define UC_STRICT_RESTORE_SS 4
#define FRAME_FP 320 /* 64-aligned relative to a frame that is 64-aligned */
#define FX_SW_BYTES 464
#define FX_MAGIC1 0x46505853u
#define FX_MAGIC2 0x46505845u
#define AMX_FEATURES (3ull << 17) /* on demand: not in a thread's buffer unless in use */
#define FRAME_MAX (FRAME_FP + CPX_XSTATE_MAX + 64)

#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516

#define MAPS_MAX (64u << 20)

/* ptrace with a fault point before it: tests kill us between each pair of calls. */
static long trace(int req, pid_t tid, uintptr_t addr, uintptr_t data)
{
	int sys = cpx_fault("ptrace");

	if (sys) {
		errno = sys;
		return -1;
	}
	return ptrace(req, tid, (void *)addr, (void *)data);
}

static int trace_err(const struct cpx_tracee *t, const char *what, struct cpx_err *err)
{
	int sys = errno;

	if (sys == ESRCH)
		return cpx_err_set(err, CPX_E_GONE, "thread %d went away", t->tid);
	return cpx_err_sys(err, sys, "%s thread %d", what, t->tid);
}

static int set_mask(const struct cpx_tracee *t, uint64_t mask)
{
	return trace(PTRACE_SETSIGMASK, t->tid, sizeof(mask), (uintptr_t)&mask) < 0 ? -1 : 0;
}

static int set_regs(const struct cpx_tracee *t, const struct user_regs_struct *regs)
{
	struct iovec iov = { .iov_base = (void *)regs, .iov_len = sizeof(*regs) };

	return trace(PTRACE_SETREGSET, t->tid, NT_PRSTATUS, (uintptr_t)&iov) < 0 ? -1 : 0;
}

/* --- saving ------------------------------------------------------------------------------- */

/*
 * A thread stopped inside a restartable sequence is sent to the abort handler, as the
 * kernel does after any preemption: it must not go on in the middle, on whatever CPU.
 */
static void leave_rseq(struct cpx_tracee *t)
{
	struct __ptrace_rseq_configuration conf;
	struct {
		uint32_t version, flags;
		uint64_t start, len, abort;
	} cs;
	uint64_t ptr, none = 0;

	memset(&conf, 0, sizeof(conf));
	if (trace(PTRACE_GET_RSEQ_CONFIGURATION, t->tid, sizeof(conf), (uintptr_t)&conf) < 0 ||
	    !conf.rseq_abi_pointer)
		return;
	if (cpx_tracee_read(t, conf.rseq_abi_pointer + 8, &ptr, sizeof(ptr), NULL) < 0 ||
	    !ptr || cpx_tracee_read(t, ptr, &cs, sizeof(cs), NULL) < 0)
		return;
	if (t->regs.rip - cs.start >= cs.len)
		return;
	if (cpx_tracee_write(t, conf.rseq_abi_pointer + 8, &none, sizeof(none), NULL) < 0)
		return;
	t->regs.rip = cs.abort;
	t->regs.orig_rax = (uint64_t)-1;
	set_regs(t, &t->regs);
}

int cpx_tracee_save(struct cpx_tracee *t, struct cpx_err *err)
{
	struct iovec gp = { .iov_base = &t->regs, .iov_len = sizeof(t->regs) };
	struct iovec xs = { .iov_len = CPX_XSTATE_MAX };

	if (!t->xstate)
		t->xstate = calloc(1, CPX_XSTATE_MAX);
	if (!t->xstate)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for registers");
	xs.iov_base = t->xstate;
	if (trace(PTRACE_GETREGSET, t->tid, NT_PRSTATUS, (uintptr_t)&gp) < 0)
		return trace_err(t, "read registers of", err);
	if (gp.iov_len != sizeof(t->regs) || t->regs.cs != 0x33)
		return cpx_err_set(err, CPX_E_UNSUPPORTED, "thread %d runs 32-bit code",
				   t->tid);
	if (trace(PTRACE_GETREGSET, t->tid, NT_X86_XSTATE, (uintptr_t)&xs) < 0)
		return trace_err(t, "read extended state of", err);
	if (trace(PTRACE_GETSIGMASK, t->tid, sizeof(t->sigmask), (uintptr_t)&t->sigmask) < 0)
		return trace_err(t, "read signal mask of", err);
	t->xstate_len = xs.iov_len;
	leave_rseq(t);
	t->saved = true;
	return 0;
}

void cpx_tracee_free(struct cpx_tracee *t)
{
	if (!t)
		return;
	if (t->home && t->home->user == t)
		t->home->user = NULL;
	free(t->xstate);
	t->xstate = NULL;
}

/* --- memory ------------------------------------------------------------------------------- */

int cpx_tracee_read(const struct cpx_tracee *t, uint64_t addr, void *buf, size_t len,
		    struct cpx_err *err)
{
	ssize_t n = cpx_pread_full(t->mem_fd, buf, len, addr);

	if (n == (ssize_t)len)
		return 0;
	if (n == 0)
		return cpx_err_set(err, CPX_E_GONE, "process %d has no memory any more",
				   t->pid);
	return cpx_err_sys(err, n < 0 ? errno : EIO, "read memory of process %d at 0x%" PRIx64,
			   t->pid, addr);
}

static int mem_write(int mem_fd, uint64_t addr, const void *buf, size_t len)
{
	while (len) {
		ssize_t n = pwrite(mem_fd, buf, len, (off_t)addr);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n ? errno : ESRCH;
			return -1;
		}
		buf = (const char *)buf + n;
		addr += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int cpx_tracee_write(const struct cpx_tracee *t, uint64_t addr, const void *buf, size_t len,
		     struct cpx_err *err)
{
	if (mem_write(t->mem_fd, addr, buf, len) == 0)
		return 0;
	return cpx_err_sys(err, errno, "write memory of process %d at 0x%" PRIx64, t->pid,
			   addr);
}

uint64_t cpx_tracee_push(struct cpx_tracee *t, const void *buf, size_t len)
{
	uint64_t at = (t->data_used + 15) & ~15ull;

	if (len > t->home->data_size || at > t->home->data_size - len)
		return 0;
	if (buf && mem_write(t->mem_fd, t->home->data + at, buf, len) < 0)
		return 0;
	t->data_used = at + len;
	return t->home->data + at;
}

void cpx_tracee_reset(struct cpx_tracee *t)
{
	t->data_used = 0;
}

/* --- the frame ---------------------------------------------------------------------------- */

static void put64(uint8_t *at, uint64_t v)
{
	memcpy(at, &v, sizeof(v));
}

static void put32(uint8_t *at, uint32_t v)
{
	memcpy(at, &v, sizeof(v));
}

/* Size of the standard-format xsave area that holds @features. */
static uint32_t xsave_size(uint64_t features)
{
	uint32_t size = 576;

	for (int i = 2; i < 63; i++) {
		uint32_t a, b, c, d;

		if (!(features >> i & 1))
			continue;
		__cpuid_count(0xd, i, a, b, c, d);
		if (a && b + a > size)
			size = b + a;
	}
	return size;
}

/* Extended state in the form that the kernel leaves on a signal stack. Return: its length. */
static size_t build_fpstate(const struct cpx_tracee *t, uint8_t *fp)
{
	uint64_t features, in_use;
	uint32_t size;

	memcpy(&features, t->xstate + FX_SW_BYTES, sizeof(features));
	memcpy(&in_use, t->xstate + 512, sizeof(in_use));
	if (!(in_use & AMX_FEATURES))
		features &= ~AMX_FEATURES;
	size = xsave_size(features);
	if (size > t->xstate_len)
		size = (uint32_t)t->xstate_len;
	memcpy(fp, t->xstate, size);
	memset(fp + FX_SW_BYTES, 0, 48);
	put32(fp + FX_SW_BYTES, FX_MAGIC1);
	put32(fp + FX_SW_BYTES + 4, size + 4);
	put64(fp + FX_SW_BYTES + 8, features);
	put32(fp + FX_SW_BYTES + 16, size);
	put32(fp + size, FX_MAGIC2);
	return size + 4;
}

/* Does @addr point to something that can be a time-out? */
static bool is_timespec(const struct cpx_tracee *t, uint64_t addr)
{
	int64_t ts[2];

	return addr >= 4096 && addr % 8 == 0 &&
	       cpx_tracee_read(t, addr, ts, sizeof(ts), NULL) == 0 && ts[0] >= 0 &&
	       ts[0] < 10000000000 && ts[1] >= 0 && ts[1] < 1000000000;
}

/* Only four calls leave a restart block: nanosleep, clock_nanosleep, poll, futex. */
long cpx_tracee_restart_nr(const struct cpx_tracee *t)
{
	const struct user_regs_struct *r = &t->regs;
	uint64_t op = r->rsi & ~(128ull | 256ull);

	if ((int64_t)r->orig_rax != SYS_restart_syscall)
		return (int64_t)r->orig_rax < 0 ? -1 : (long)r->orig_rax;
	if (r->rdi < 4096 || (int64_t)(int32_t)r->rdi == (int64_t)r->rdi)
		return is_timespec(t, r->rdx) ? SYS_clock_nanosleep : SYS_poll;
	if (r->rsi & 128 && (op == 0 || op == 9) && r->rdi % 4 == 0 && is_timespec(t, r->r10))
		return SYS_futex;
	if ((r->rsi == 0 || r->rsi > (1u << 20)) && is_timespec(t, r->rdi))
		return SYS_nanosleep;
	if ((op == 0 || op == 9) && r->rdi % 4 == 0 && is_timespec(t, r->r10))
		return SYS_futex;
	return SYS_poll;
}

/* ip and ax with which an interrupted call is issued again by a thread that is on its own. */
static void restart_regs(const struct cpx_tracee *t, uint64_t *ip, uint64_t *ax)
{
	const struct user_regs_struct *r = &t->regs;

	*ip = r->rip;
	*ax = r->rax;
	if ((int64_t)r->orig_rax < 0)
		return;
	switch (-(int64_t)r->rax) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
	case ERESTART_RESTARTBLOCK:
		*ip = r->rip - 2;
		*ax = (uint64_t)cpx_tracee_restart_nr(t);
	}
}

static size_t build_frame(const struct cpx_tracee *t, uint8_t *uc, uint64_t addr)
{
	const struct user_regs_struct *r = &t->regs;
	uint8_t *mc = uc + UC_MCONTEXT;
	uint64_t ip, ax;

	restart_regs(t, &ip, &ax);
	memset(uc, 0, FRAME_FP);
	put64(uc + UC_FLAGS, UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS);
	/* flags that no alternate stack has: the kernel leaves the thread's own in place */
	put32(uc + UC_STACK_FLAGS, 7);
	const uint64_t gp[] = { r->r8,	r->r9,	r->r10, r->r11, r->r12, r->r13,
				r->r14, r->r15, r->rdi, r->rsi, r->rbp, r->rbx,
				r->rdx, ax,	r->rcx, r->rsp, ip,	r->eflags };

	memcpy(mc, gp, sizeof(gp));
	mc[144] = (uint8_t)r->cs;
	mc[150] = (uint8_t)r->ss;
	put64(mc + 184, addr + FRAME_FP);
	put64(uc + UC_SIGMASK, t->sigmask);
	return FRAME_FP + build_fpstate(t, uc + FRAME_FP);
}

/* --- calls -------------------------------------------------------------------------------- */

static int borrow(struct cpx_tracee *t, struct cpx_err *err)
{
	struct cpx_home *h = t->home;
	uint8_t frame[FRAME_MAX];
	size_t len;
	int rc;

	if (h->frame && h->user && h->user != t) {
		rc = cpx_tracee_unborrow(h->user, err);
		if (rc < 0)
			return rc;
	}
	if (h->frame) {
		len = build_frame(t, frame, h->frame);
		if (len > h->frame_size)
			return cpx_err_set(err, CPX_E_LIMIT,
					   "extended state of thread %d is too large", t->tid);
		rc = cpx_tracee_write(t, h->frame, frame, len, err);
		if (rc < 0)
			return rc;
	}
	h->user = t;
	return 0;
}

/*
 * Wait for the next system call stop. Events of forks are noted in *@child, a SIGSTOP is
 * kept for later, all else is passed over.
 */
static int wait_syscall_stop(struct cpx_tracee *t, pid_t *child, struct cpx_err *err)
{
	for (;;) {
		unsigned long msg = 0;
		int status, event, sig;

		if (trace(PTRACE_SYSCALL, t->tid, 0, 0) < 0)
			return trace_err(t, "resume", err);
		while (waitpid(t->tid, &status, __WALL) < 0)
			if (errno != EINTR)
				return trace_err(t, "wait for", err);
		if (!WIFSTOPPED(status))
			return cpx_err_set(err, CPX_E_GONE, "thread %d went away", t->tid);
		event = status >> 16;
		sig = WSTOPSIG(status);
		if (event == 0 && sig == (SIGTRAP | 0x80))
			return 0;
		if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK ||
		    event == PTRACE_EVENT_VFORK) {
			if (trace(PTRACE_GETEVENTMSG, t->tid, 0, (uintptr_t)&msg) == 0 && child)
				*child = (pid_t)msg;
		} else if (event == 0 && sig == SIGSTOP) {
			t->stop_seen = true;
		}
	}
}

static int run(struct cpx_tracee *t, unsigned entry, uint64_t nr, const uint64_t args[6],
	       int64_t *ret, pid_t *child, struct cpx_err *err)
{
	struct user_regs_struct regs = t->regs;
	struct iovec iov = { .iov_base = &regs, .iov_len = sizeof(regs) };
	bool first = !t->borrowed || t->home->user != t;
	int rc;

	if (first && (rc = borrow(t, err)) < 0)
		return rc;
	regs.rip = t->home->code + entry;
	regs.rsp = t->home->frame ? t->home->frame : t->home->data + t->home->data_size + 64;
	regs.rax = nr;
	regs.orig_rax = (uint64_t)-1;
	regs.rdi = args[0];
	regs.rsi = args[1];
	regs.rdx = args[2];
	regs.r10 = args[3];
	regs.r8 = args[4];
	regs.r9 = args[5];
	regs.eflags &= ~0x500ull; /* no single step, forward strings */
	if (set_regs(t, &regs) < 0)
		return trace_err(t, "set registers of", err);
	t->borrowed = true;
	if (first && set_mask(t, ~0ull) < 0)
		return trace_err(t, "block signals of", err);
	for (int stop = 0; stop < 2; stop++) {
		rc = wait_syscall_stop(t, child, err);
		if (rc < 0)
			return rc;
	}
	if (trace(PTRACE_GETREGSET, t->tid, NT_PRSTATUS, (uintptr_t)&iov) < 0)
		return trace_err(t, "read registers of", err);
	*ret = (int64_t)regs.rax;
	return 0;
}

int cpx_tracee_call(struct cpx_tracee *t, int64_t *ret, long nr, const uint64_t args[6],
		    struct cpx_err *err)
{
	int64_t value = 0;
	int rc = run(t, t->ours ? ENTRY_CHILD : ENTRY_CALL, (uint64_t)nr, args, &value, NULL,
		     err);

	if (rc == 0 && ret)
		*ret = value;
	return rc;
}

int cpx_tracee_ok(struct cpx_tracee *t, int64_t *ret, const char *what, long nr,
		  const uint64_t args[6], struct cpx_err *err)
{
	int64_t value = 0;
	int rc = cpx_tracee_call(t, &value, nr, args, err);

	if (rc < 0)
		return cpx_err_wrap(err, "%s", what);
	if (value < 0 && value > -4096)
		return cpx_err_sys(err, (int)-value, "process %d: %s", t->pid, what);
	if (ret)
		*ret = value;
	return 0;
}

static int wait_first_stop(pid_t tid, struct cpx_err *err)
{
	int status;

	while (waitpid(tid, &status, __WALL) < 0)
		if (errno != EINTR)
			return cpx_err_sys(err, errno, "wait for new thread %d", tid);
	if (!WIFSTOPPED(status))
		return cpx_err_set(err, CPX_E_GONE, "new thread %d died at once", tid);
	return 0;
}

int cpx_tracee_fork(struct cpx_tracee *t, uint64_t flags, int exit_signal, pid_t set_tid,
		    uint64_t stack, pid_t *child_tid, pid_t *inner, struct cpx_err *err)
{
	struct clone_args ca = { .flags = flags, .exit_signal = (uint64_t)exit_signal };
	pid_t child = 0;
	int64_t ret;
	uint64_t at;
	int rc;

	cpx_tracee_reset(t);
	if (stack) {
		ca.stack = stack - 16;
		ca.stack_size = 16;
	}
	if (set_tid) {
		ca.set_tid = cpx_tracee_push(t, &set_tid, sizeof(set_tid));
		ca.set_tid_size = 1;
	}
	at = cpx_tracee_push(t, &ca, sizeof(ca));
	if (!at || (set_tid && !ca.set_tid))
		return cpx_err_set(err, CPX_E_SYS, "cannot write to process %d", t->pid);
	rc = run(t, t->ours ? ENTRY_CHILD : ENTRY_FORK, SYS_clone3,
		 (const uint64_t[6]){ at, sizeof(ca) }, &ret, &child, err);
	cpx_tracee_reset(t);
	if (rc < 0)
		return rc;
	if (ret < 0)
		return cpx_err_sys(err, (int)-ret, "process %d: clone3%s", t->pid,
				   set_tid ? " with a given PID" : "");
	if (!child)
		return cpx_err_set(err, CPX_E_SYS, "process %d: clone3 was not reported",
				   t->pid);
	rc = wait_first_stop(child, err);
	if (rc < 0)
		return rc;
	if (child_tid)
		*child_tid = child;
	if (inner)
		*inner = (pid_t)ret;
	return 0;
}

/*
 * INTERRUPT comes first: from then on the kernel's own restart handling is sure to run on
 * the way out, also if we die after the registers are back.
 */
int cpx_tracee_unborrow(struct cpx_tracee *t, struct cpx_err *err)
{
	if (!t->borrowed)
		return 0;
	if (trace(PTRACE_INTERRUPT, t->tid, 0, 0) < 0 || set_mask(t, t->sigmask) < 0 ||
	    set_regs(t, &t->regs) < 0)
		return trace_err(t, "give back registers of", err);
	t->borrowed = false;
	if (t->home->user == t)
		t->home->user = NULL;
	for (;;) {
		int status, sig;

		if (trace(PTRACE_CONT, t->tid, 0, 0) < 0)
			return trace_err(t, "resume", err);
		while (waitpid(t->tid, &status, __WALL) < 0)
			if (errno != EINTR)
				return trace_err(t, "wait for", err);
		if (!WIFSTOPPED(status))
			return cpx_err_set(err, CPX_E_GONE, "thread %d went away", t->tid);
		sig = WSTOPSIG(status);
		if (status >> 16 == PTRACE_EVENT_STOP)
			return 0;
		if (sig == SIGSTOP)
			t->stop_seen = true;
		if (trace(PTRACE_INTERRUPT, t->tid, 0, 0) < 0)
			return trace_err(t, "interrupt", err);
	}
}

/* Wait until the process is gone; signals on the way are delivered. */
static int wait_gone(struct cpx_tracee *t, struct cpx_err *err)
{
	for (;;) {
		int status;

		while (waitpid(t->tid, &status, __WALL) < 0)
			if (errno != EINTR)
				return cpx_err_sys(err, errno, "wait for %d", t->tid);
		if (!WIFSTOPPED(status))
			return 0;
		if (trace(PTRACE_CONT, t->tid, 0,
			  (uintptr_t)(status >> 16 ? 0 : WSTOPSIG(status))) < 0 &&
		    errno != ESRCH)
			return trace_err(t, "resume", err);
	}
}

int cpx_tracee_exit(struct cpx_tracee *t, int wait_status, struct cpx_err *err)
{
	struct user_regs_struct regs = t->regs;

	regs.rip = t->home->code + ENTRY_CHILD;
	regs.rsp = t->home->data + t->home->data_size + 64;
	regs.orig_rax = (uint64_t)-1;
	regs.rax = SYS_exit_group;
	regs.rdi = (uint64_t)WEXITSTATUS(wait_status);
	if (WIFSIGNALED(wait_status)) {
		regs.rax = SYS_pause;
		if (set_mask(t, 0) < 0 || kill(t->pid, WTERMSIG(wait_status)) < 0)
			return trace_err(t, "signal", err);
	}
	if (set_regs(t, &regs) < 0 || trace(PTRACE_CONT, t->tid, 0, 0) < 0)
		if (errno != ESRCH)
			return trace_err(t, "end", err);
	return wait_gone(t, err);
}

/* --- homes -------------------------------------------------------------------------------- */

const void *cpx_home_code(size_t *len)
{
	*len = sizeof(home_code);
	return home_code;
}

void cpx_home_bare(uint64_t page, size_t size, struct cpx_home *home)
{
	memset(home, 0, sizeof(*home));
	home->code = page;
	home->data = page + CODE_ROOM * 2;
	/* calls run with the stack pointer just above the data */
	home->data_size = size - CODE_ROOM * 2 - 128;
}

/* What stands at the end of the vDSO: its section headers are the last thing in the file. */
static int find_code(int mem_fd, uint64_t start, uint64_t end, uint64_t *code)
{
	CPX_AUTO_FREE uint8_t *image = NULL;
	size_t size = end - start, used, at;
	Elf64_Ehdr eh;

	if (size < sizeof(eh) || size > (1u << 20))
		return -1;
	image = malloc(size);
	if (!image || cpx_pread_full(mem_fd, image, size, start) != (ssize_t)size)
		return -1;
	memcpy(&eh, image, sizeof(eh));
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0)
		return -1;
	used = eh.e_shoff + (size_t)eh.e_shnum * eh.e_shentsize;
	at = (used + 15) & ~(size_t)15;
	if (used <= size && size - at >= CODE_ROOM && at >= used) {
		size_t zeros = 0;

		while (zeros < CODE_ROOM && image[at + zeros] == 0)
			zeros++;
		if (zeros == CODE_ROOM) {
			*code = start + at;
			return 0;
		}
	}
	/* no room behind them: the headers of sections themselves serve nobody at run time */
	if (eh.e_shoff > sizeof(eh) && eh.e_shoff < size && size - eh.e_shoff >= CODE_ROOM) {
		*code = start + eh.e_shoff;
		return 0;
	}
	return -1;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/*
 * Where data may go without harm: at the low end of [stack], if those bytes were never used or
 * the main thread's stack pointer is well above them (what is below it and its red zone is
 * dead).
 */
static int find_data(pid_t pid, int mem_fd, uint64_t lo, uint64_t hi, size_t need,
		     uint64_t *data)
{
	CPX_AUTO_FREE uint8_t *was = malloc(need);
	CPX_AUTO_FREE char *text = NULL;
	char path[64];
	uint64_t sp = 0;
	char *last;

	if (!was || hi - lo < need || cpx_pread_full(mem_fd, was, need, lo) != (ssize_t)need)
		return -1;
	*data = lo;
	if (all_zero(was, need))
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return -1;
	/* the last two words are the stack pointer and the program counter */
	last = strrchr(text, ' ');
	if (!last)
		return -1;
	*last = 0;
	last = strrchr(text, ' ');
	if (last)
		sp = strtoull(last + 1, NULL, 16);
	return sp > lo + need + 4096 && sp <= hi ? 0 : -1;
}

/* Where the vDSO has room for code, and the main stack. 0 where there is none. */
static int scan_maps(pid_t pid, int mem_fd, uint64_t *code, uint64_t *stack_lo,
		     uint64_t *stack_hi, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *save = NULL;

	*code = *stack_lo = *stack_hi = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	if (cpx_read_file(AT_FDCWD, path, MAPS_MAX, &text, err) < 0)
		return cpx_err_wrap(err, "process %d", pid);
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		uint64_t a, b;

		if (sscanf(l, "%" SCNx64 "-%" SCNx64, &a, &b) != 2 || b <= a)
			continue;
		if (strstr(l, " [vdso]"))
			find_code(mem_fd, a, b, code);
		if (strstr(l, " rw-p ") && strstr(l, " [stack]")) {
			*stack_lo = a;
			*stack_hi = b;
		}
	}
	return 0;
}

/*
 * The stack is used down to its last page: let the kernel grow it, as it does for the process
 * itself. Reading below it through /proc/PID/mem is enough. What may stand there instead is
 * another mapping, so look again afterwards.
 */
static int grow_stack(pid_t pid, int mem_fd, size_t need, uint64_t *lo, uint64_t *hi)
{
	uint64_t below = (*lo - need) & ~4095ull, code;
	uint8_t byte;

	if (below >= *lo || cpx_pread_full(mem_fd, &byte, 1, below) != 1)
		return -1;
	return scan_maps(pid, mem_fd, &code, lo, hi, NULL) == 0 && *lo && *lo <= below ? 0 : -1;
}

int cpx_home_live(pid_t pid, int mem_fd, struct cpx_home *home, struct cpx_err *err)
{
	uint64_t code = 0, data = 0, stack_lo = 0, stack_hi = 0;
	size_t need = CPX_HOME_DATA + FRAME_MAX + 64;
	int rc = scan_maps(pid, mem_fd, &code, &stack_lo, &stack_hi, err);

	if (rc < 0)
		return rc;
	if (!code)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "process %d has no vDSO to run calls from", pid);
	if (stack_lo && find_data(pid, mem_fd, stack_lo, stack_hi, need, &data) < 0 &&
	    (grow_stack(pid, mem_fd, need, &stack_lo, &stack_hi) < 0 ||
	     find_data(pid, mem_fd, stack_lo, stack_hi, need, &data) < 0))
		stack_lo = 0;
	if (!stack_lo)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "process %d has no unused bytes on its main stack", pid);
	memset(home, 0, sizeof(*home));
	home->code = code;
	home->data = data;
	home->data_size = CPX_HOME_DATA;
	home->frame = (data + CPX_HOME_DATA + 127) & ~63ull;
	home->frame_size = data + need - home->frame;
	return 0;
}

int cpx_home_write(int mem_fd, struct cpx_home *h, struct cpx_err *err)
{
	size_t len = h->frame + h->frame_size - h->data;

	free(h->data_was);
	h->data_was = malloc(len);
	if (!h->data_was)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a home");
	if (cpx_pread_full(mem_fd, h->data_was, len, h->data) != (ssize_t)len ||
	    cpx_pread_full(mem_fd, h->code_was, sizeof(home_code), h->code) !=
		    (ssize_t)sizeof(home_code))
		return cpx_err_sys(err, errno, "read the home of injected calls");
	if (mem_write(mem_fd, h->code, home_code, sizeof(home_code)) < 0)
		return cpx_err_sys(err, errno, "write the home of injected calls");
	return 0;
}

int cpx_home_erase(int mem_fd, struct cpx_home *h, struct cpx_err *err)
{
	size_t len = h->frame + h->frame_size - h->data;

	if (!h->data_was)
		return 0;
	if (mem_write(mem_fd, h->data, h->data_was, len) < 0 ||
	    mem_write(mem_fd, h->code, h->code_was, sizeof(home_code)) < 0)
		return cpx_err_sys(err, errno, "put back the home of injected calls");
	cpx_home_free(h);
	return 0;
}

static void mask(uint64_t at, const uint8_t *was, size_t n, uint64_t start, uint8_t *buf,
		 size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (at + i - start < len)
			buf[at + i - start] = was[i];
}

void cpx_home_mask(const struct cpx_home *h, uint64_t start, void *buf, size_t len)
{
	if (!h->data_was)
		return;
	mask(h->code, h->code_was, sizeof(home_code), start, buf, len);
	mask(h->data, h->data_was, h->frame + h->frame_size - h->data, start, buf, len);
}

void cpx_home_free(struct cpx_home *h)
{
	free(h->data_was);
	h->data_was = NULL;
}
