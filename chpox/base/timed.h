/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timed.h - system calls that wait, and how the kernel treats them when a stop interrupts them.
 *
 * After PTRACE_INTERRUPT a thread that waited shows orig_ax (the call) and ax:
 *
 *  block	ax = -516: goes on by the kernel's restart block, which holds the deadline but
 *dies with the task. Interrupted a second time, orig_ax says 219 (restart_syscall).
 *  again	ax = -512..-514: issued again with its own arguments: no time-out, or an
 *absolute one, or one in memory that the kernel has brought up to date. eintr	ax = -4: the
 *stop itself would end the call with EINTR. With ax = -514 the kernel issues it again unless a
 *handler runs first, but with its full time-out.
 *
 * Pure: no system call, no clock. Times in nanoseconds; -1 is no time-out.
 */
#ifndef CPX_BASE_TIMED_H
#define CPX_BASE_TIMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct user_regs_struct;

#define CPX_ERESTARTSYS 512
#define CPX_ERESTARTNOINTR 513
#define CPX_ERESTARTNOHAND 514
#define CPX_ERESTART_RESTARTBLOCK 516
#define CPX_NR_RESTART 219 /* restart_syscall */

enum cpx_timed_class { CPX_TIMED_BLOCK = 1, CPX_TIMED_EINTR };

enum cpx_timed_form {
	CPX_TIMED_NONE = 0, /* waits without limit */
	CPX_TIMED_MS,	    /* int milliseconds in a register, < 0: none */
	CPX_TIMED_TS,	    /* relative struct timespec in memory, NULL: none */
	CPX_TIMED_RCV,	    /* SO_RCVTIMEO of the descriptor in the first argument */
	CPX_TIMED_SND,	    /* SO_SNDTIMEO of it */
};

struct cpx_timed {
	long nr;
	enum cpx_timed_class cls;
	enum cpx_timed_form form;
	unsigned arg; /* 0..5: which argument is the time-out or points to it */
	int rem;      /* argument that points to where the kernel writes the rest, -1: none */
};

/* The description of call @nr, NULL for one that needs no care. */
const struct cpx_timed *cpx_timed_find(long nr);

/* Does this very call use a relative time-out (futex operations, TIMER_ABSTIME)? */
bool cpx_timed_relative(const struct cpx_timed *d, const uint64_t args[6]);

/* The six arguments of a call as they stand in registers, and one of them to be changed. */
void cpx_timed_args(const struct user_regs_struct *regs, uint64_t args[6]);
void cpx_timed_set_arg(struct user_regs_struct *regs, unsigned arg, uint64_t value);

/* @left rounded up to what poll and epoll_wait take. */
int cpx_timed_ms(int64_t left_ns);

/*
 * Which call hides behind restart_syscall? @code: the @n bytes before the instruction after
 * "syscall"; @wchan: where the kernel says the thread slept, may be NULL or "".
 * Return: the number of one of the four calls that have a restart block, or -1 if it cannot be
 * told.
 */
long cpx_timed_guess(const uint64_t args[6], const uint8_t *code, size_t n, const char *wchan);

/* --- finding deadlines among the kernel's sleep timers --------------------------------------
 */

struct cpx_timed_sleep {
	uint64_t id;
	int64_t soft_ns, hard_ns;
	int32_t cpu;
};

/* A thread whose deadline is sought. */
struct cpx_timed_want {
	int64_t asked_ns;   /* the time-out it asked for (when it began) */
	int64_t blocked_ns; /* about when it blocked, CLOCK_MONOTONIC; < 0: not known */
	bool first; /* the call has not been interrupted before: deadline = begin + asked */
	bool wide;  /* poll, epoll: slack is a thousandth of the time-out */
	int64_t slack_ns;    /* timer slack of the thread */
	int32_t cpu;	     /* where it ran last, -1: not known; its timer is there */
	int64_t deadline_ns; /* result; < 0: none found */
};

/*
 * cpx_timed_match() - give each wanted thread one of the timers that are in @before but not in
 * @after (the stop took them away), best fit first, each timer once.
 * @stop_ns: when the threads were stopped; @after_ns: when @after was read. Others' timers that
 * end in between have gone too.
 */
void cpx_timed_match(const struct cpx_timed_sleep *before, size_t nbefore,
		     const struct cpx_timed_sleep *after, size_t nafter, int64_t stop_ns,
		     int64_t after_ns, struct cpx_timed_want *want, size_t nwant);

#endif
