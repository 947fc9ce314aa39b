/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_call.h - helpers for calls that build a thread, and the parts of the core and signal
 * families that have a file of their own.
 */
#ifndef CPX_RST_CALL_H
#define CPX_RST_CALL_H

#include "restore.h"

struct cpx_patches;

/* Bytes in the tracee for the arguments of one call: the home's own room, or a mapping. */
struct cpx_rst_bytes {
	uint64_t addr;
	uint64_t mapped; /* length of the mapping, 0: none */
};

/* Copy @len bytes to the tracee. drop() when the call was made. */
int cpx_rst_bytes_put(struct cpx_tracee *t, const void *buf, size_t len,
		      struct cpx_rst_bytes *out, struct cpx_err *err);
int cpx_rst_bytes_drop(struct cpx_tracee *t, struct cpx_rst_bytes *b, struct cpx_err *err);

/* --- identity (rst_cred.c) ------------------------------------------------------------------
 */

/* Before anything is created: refuse what the owner may not have (unless trusted). */
int cpx_rst_creds_check(const struct cpx_rst *r, struct cpx_err *err);

/*
 * Before the threads exist: the filters that all have, so that they are one chain as they were.
 * They do not act yet: we hold the threads with PTRACE_O_SUSPEND_SECCOMP.
 */
int cpx_rst_filters_common(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err);

/* Ids, groups, capabilities, securebits, no_new_privs, seccomp filters, pdeathsig. */
int cpx_rst_creds_set(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_rst_thread *th,
		      struct cpx_err *err);

/* --- namespaces (rst_ns.c) -------------------------------------------------------------------
 */

/* Before anything is created: are the records whole? */
int cpx_rst_ns_check(const struct cpx_rst *r, struct cpx_err *err);
/* Before the threads exist: make or join what is the job's own. */
int cpx_rst_ns_enter(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err);

/* In the root process, before there is anything else: the job's own mounts (rst_mount.c). */
int cpx_rst_mounts(struct cpx_rst *r, struct cpx_rst_task *root, struct cpx_err *err);

/* --- calls in progress (rst_resume.c) --------------------------------------------------------
 */

/*
 * The last thing done to a thread: let th->regs go on in the call it was in, with the time it
 * had left. Time-outs changed in memory or sockets are added to @p, to be put back after
 * release.
 */
int cpx_rst_resume(struct cpx_rst_task *t, struct cpx_rst_thread *th, struct cpx_patches *p,
		   struct cpx_err *err);

/* --- stopped processes (rst_stop.c)
 * ----------------------------------------------------------- */

/* Stop @t as it was stopped; all its threads exist and none has its own registers yet. */
int cpx_rst_stop(struct cpx_rst_task *t, struct cpx_err *err);

#endif
