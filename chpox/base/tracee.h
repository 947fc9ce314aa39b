/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tracee.h - one thread held by ptrace, and running single system calls in it.
 *
 * This is the one mechanism of the ptrace engine (calls in a live job) and of the
 * restorer (calls that build a process). The caller is the tracer; all functions
 * must be called from the thread that seized. A tracee in use is in a ptrace-stop.
 *
 * A call runs at the tracee's "home": a few bytes of code and some bytes of data.
 *
 *  live home    in a job that must survive our death at any instant. Code in the unused
 *		 tail of the vDSO, data in never-touched bytes at the low end of [stack].
 *		 Whatever happens, the code after an injected call is rt_sigreturn with a
 *		 frame that holds the thread's own registers, extended state and signal mask:
 *		 killed at any point, we leave a thread that goes on with its own. A forked
 *		 child that nobody holds any more exits.
 *  bare home	 in a process that is being built: a page of its own, no frame; the tracer
 *		 sets PTRACE_O_EXITKILL, so that a half-built process never lives on.
 *
 * Return values: 0 or CPX_E_GONE (the tracee died), CPX_E_SYS, …  What the injected call
 * itself returned is in *ret, -errno as the kernel gives it: not an error of these functions.
 */
#ifndef CPX_BASE_TRACEE_H
#define CPX_BASE_TRACEE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct cpx_err;

#define CPX_XSTATE_MAX 16384
#define CPX_HOME_DATA 4096 /* bytes of data area a home has at least, for arguments */

struct cpx_home {
	uint64_t code;	    /* address of the entry points */
	uint64_t data;	    /* address of the argument area */
	uint64_t data_size; /* bytes */
	uint64_t frame;	    /* live home: where the sigreturn frame goes; 0: bare home */
	size_t frame_size;
	struct cpx_tracee *user; /* live home: the one thread whose registers are ours */
	uint8_t code_was[64];	 /* what stood where the code and the data go */
	uint8_t *data_was;	 /* malloc'ed, data_size + frame_size bytes from data on */
};

struct cpx_tracee {
	pid_t pid, tid;	       /* thread group and thread, in the tracer's PID namespace */
	int mem_fd;	       /* /proc/PID/mem, borrowed from the owner of the process */
	struct cpx_home *home; /* borrowed, shared by the threads of a process */
	struct user_regs_struct regs; /* the thread's own, saved by cpx_tracee_save() */
	uint8_t *xstate;	      /* own extended state, malloc'ed */
	size_t xstate_len;
	uint64_t sigmask;
	bool saved;    /* the three above are valid */
	bool borrowed; /* registers are ours at the moment; unborrow before release */
	bool ours; /* a process of our own (a clone): code after a call exits, never returns */
	bool stop_seen;	    /* a SIGSTOP came while borrowed: it is sent again at release */
	uint64_t data_used; /* of the home's argument area, in this call */
};

/* Save registers, extended state, mask of a thread in PTRACE_EVENT_STOP. */
int cpx_tracee_save(struct cpx_tracee *t, struct cpx_err *err);
void cpx_tracee_free(struct cpx_tracee *t);

/*
 * cpx_tracee_call() - run system call @nr in the tracee.
 * Signals of the thread are blocked meanwhile; stops for other reasons are passed over.
 */
int cpx_tracee_call(struct cpx_tracee *t, int64_t *ret, long nr, const uint64_t args[6],
		    struct cpx_err *err);

/* cpx_tcall(t, &ret, err, SYS_mmap, addr, len, …): missing arguments are 0. */
#define cpx_tcall(t, ret, err, nr, ...) \
	cpx_tracee_call(t, ret, nr, (const uint64_t[6]){ __VA_ARGS__ }, err)

/*
 * cpx_tracee_ok() - the same, but a failing call is an error: "WHAT: strerror".
 */
int cpx_tracee_ok(struct cpx_tracee *t, int64_t *ret, const char *what, long nr,
		  const uint64_t args[6], struct cpx_err *err);
#define cpx_tok(t, ret, err, what, nr, ...) \
	cpx_tracee_ok(t, ret, what, nr, (const uint64_t[6]){ __VA_ARGS__ }, err)

/*
 * cpx_tracee_push() - copy @len bytes into the argument area, 16-aligned.
 * Return: their address in the tracee, valid until cpx_tracee_reset(); 0 when it does not fit
 * or cannot be written. @buf NULL: room only.
 */
uint64_t cpx_tracee_push(struct cpx_tracee *t, const void *buf, size_t len);
void cpx_tracee_reset(struct cpx_tracee *t); /* forget what was pushed */

/*
 * cpx_tracee_restart_nr() - the number of the system call a saved thread was in: orig_ax, but
 * where the kernel already shows restart_syscall (after an earlier stop) the call that it
 * stands for, told from its arguments, which are intact. Return: the number, or -1 for none.
 */
long cpx_tracee_restart_nr(const struct cpx_tracee *t);

/* The process's memory, any protection. Return: 0 or CPX_E_*. */
int cpx_tracee_read(const struct cpx_tracee *t, uint64_t addr, void *buf, size_t len,
		    struct cpx_err *err);
int cpx_tracee_write(const struct cpx_tracee *t, uint64_t addr, const void *buf, size_t len,
		     struct cpx_err *err);

/*
 * cpx_tracee_fork() - clone or clone3 in the tracee; the child is seized by us, stopped before
 * its first instruction. @flags and @exit_signal as for clone3; @set_tid 0: any.
 * @child_tid: in the tracer's namespace; @inner: as the tracee sees it; each may be NULL.
 */
int cpx_tracee_fork(struct cpx_tracee *t, uint64_t flags, int exit_signal, pid_t set_tid,
		    uint64_t stack, pid_t *child_tid, pid_t *inner, struct cpx_err *err);

/*
 * cpx_tracee_unborrow() - give the thread its own registers and mask back; it then is in
 * PTRACE_EVENT_STOP again, and PTRACE_DETACH lets the kernel restart what it was in.
 */
int cpx_tracee_unborrow(struct cpx_tracee *t, struct cpx_err *err);

/* End the process with this wait status (a code, or a signal); reaped as tracer. */
int cpx_tracee_exit(struct cpx_tracee *t, int wait_status, struct cpx_err *err);

/*
 * cpx_home_live() - find a live home in a stopped process. Reads /proc/PID/maps and memory.
 * cpx_home_write() - write its code (once the process is parked); cpx_home_erase() puts back
 *   what was there.
 * cpx_home_bare() - describe the home at @page (code first, then data), @size bytes.
 * cpx_home_code() - the bytes of the entry points, for whoever maps the page.
 */
int cpx_home_live(pid_t pid, int mem_fd, struct cpx_home *home, struct cpx_err *err);
int cpx_home_write(int mem_fd, struct cpx_home *home, struct cpx_err *err);
int cpx_home_erase(int mem_fd, struct cpx_home *home, struct cpx_err *err);
void cpx_home_free(struct cpx_home *home);
/* In @buf, read from [@start, @start + @len) of the process, put what stood there before. */
void cpx_home_mask(const struct cpx_home *home, uint64_t start, void *buf, size_t len);
void cpx_home_bare(uint64_t page, size_t size, struct cpx_home *home);
const void *cpx_home_code(size_t *len);

#endif
