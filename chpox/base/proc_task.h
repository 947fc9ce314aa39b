/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proc_task.h - the text of /proc/PID files that tell about processes and threads, taken apart.
 *
 * Pure: text in, struct out; nothing is opened here. The text is NUL-terminated, as
 * cpx_read_file() gives it, and hostile: each parser accepts any bytes, checks every number,
 * and writes its output only on success. A line that an older kernel does not have reads as the
 * default named at the field. Lists are malloc'ed; the caller frees them with free().
 */
#ifndef CPX_BASE_PROC_TASK_H
#define CPX_BASE_PROC_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_err;

#define CPX_PROC_GROUPS_MAX 65536
#define CPX_PROC_TIMERS_MAX 65536
#define CPX_RLIMITS 16

struct cpx_proc_status {
	uint32_t umask;		 /* 022 where the line is missing */
	char state;		 /* R S D T t Z X I */
	uint32_t uid[4], gid[4]; /* real, effective, saved, file system */
	uint32_t *groups;	 /* malloc'ed, may be NULL */
	uint32_t ngroups;
	uint64_t sig_pnd, shd_pnd; /* pending for the thread, for the process */
	uint64_t sig_blk, sig_ign, sig_cgt;
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	uint32_t no_new_privs, seccomp, seccomp_filters;
	bool thp_enabled;  /* true where the line is missing */
	bool shadow_stack; /* x86_Thread_features lists shstk */
	/* speculation that the thread has switched off: PR_SPEC_DISABLE, PR_SPEC_FORCE_DISABLE
	 * or 0 */
	uint32_t spec_store, spec_branch;
	pid_t tracer;
};

/* Return: 0 or CPX_E_FORMAT, CPX_E_NOMEM. Free with cpx_proc_status_free(). */
int cpx_proc_status_parse(const char *text, struct cpx_proc_status *out, struct cpx_err *err);
void cpx_proc_status_free(struct cpx_proc_status *s);

struct cpx_proc_stat {
	char state;
	pid_t ppid, pgrp, session;
	uint64_t flags;	       /* PF_* */
	uint64_t utime, stime; /* clock ticks */
	int64_t nice;
	int32_t exit_signal;
	int32_t processor; /* where it ran last */
	int32_t exit_code; /* zombie: its status; stopped: the report its parent has not had */
};

#define CPX_PF_FORKNOEXEC 0x40u

int cpx_proc_stat_parse(const char *text, struct cpx_proc_stat *out, struct cpx_err *err);

/* /proc/PID/limits: pairs (soft, hard) by RLIMIT_* number; UINT64_MAX is no limit. */
int cpx_proc_limits_parse(const char *text, uint64_t out[2 * CPX_RLIMITS], struct cpx_err *err);

/* One POSIX timer of /proc/PID/timers. */
struct cpx_proc_timer {
	uint32_t id, signo, notify; /* notify: SIGEV_* */
	uint64_t sigval;
	pid_t target; /* as the reader of /proc sees it; SIGEV_THREAD_ID: a thread */
	int32_t clock;
};

/* Return: number of timers, in the order of their ids; *@out is malloc'ed (NULL for none). */
int cpx_proc_timers_parse(const char *text, struct cpx_proc_timer **out, struct cpx_err *err);

/* One armed sleep of /proc/timer_list: an hrtimer that wakes a task. */
struct cpx_sleep_timer {
	uint64_t id; /* printed (hashed) address: the same timer has the same one */
	int64_t soft_ns, hard_ns; /* CLOCK_MONOTONIC of the first namespace */
	int32_t cpu;		  /* where the sleeper ran when it armed it */
};

/*
 * Return: number of sleeps on the monotonic clock; *@out is malloc'ed. *@now_ns: the moment of
 * the list, 0 where it does not say.
 */
int cpx_proc_timer_list_parse(const char *text, struct cpx_sleep_timer **out, int64_t *now_ns,
			      struct cpx_err *err);

/* /proc/PID/syscall: "running", or a call with its arguments, or "-1" (blocked in no call). */
struct cpx_proc_syscall {
	bool running;
	long nr; /* -1: none */
	uint64_t args[6], sp, ip;
};

int cpx_proc_syscall_parse(const char *text, struct cpx_proc_syscall *out, struct cpx_err *err);

/* se.exec_start of /proc/PID/sched in ns. */
int cpx_proc_exec_start_parse(const char *text, int64_t *out, struct cpx_err *err);

/* /proc/PID/timens_offsets in ns. */
int cpx_proc_timens_parse(const char *text, int64_t *monotonic_ns, int64_t *boottime_ns,
			  struct cpx_err *err);

#endif
