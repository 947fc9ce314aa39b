/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_resume.h - system calls in progress: what the image says of them, and how a job that is
 * left running sees no early return.
 *
 * before() -> (the tree is parked) -> parked() -> note() -> running() for each thread ->
 * released() -> free(). All may be left out but running(); what was not noted is restored with
 * its full time-out.
 */
#ifndef CPX_CAP_RESUME_H
#define CPX_CAP_RESUME_H

struct cpx_cap;
struct cpx_cap_task;
struct cpx_cap_thread;
struct cpx_err;

/*
 * cpx_cap_resume_before() - before anything is stopped: look which threads sleep and at the
 * kernel's timers, since the stop takes them away. Never fails; what cannot be seen is not
 * known.
 */
void cpx_cap_resume_before(struct cpx_cap *c);

/* The tree has just been parked: see which timers have gone. */
void cpx_cap_resume_parked(struct cpx_cap *c);

/* The tree is parked, all registers saved: fill resume, sys_nr, sys_left_ns of each thread. */
int cpx_cap_resume_note(struct cpx_cap *c, struct cpx_err *err);

/*
 * cpx_cap_resume_running() - just before @th is released, its own registers in place and in
 * PTRACE_EVENT_STOP: repair a call that the stop itself would end with EINTR.
 */
int cpx_cap_resume_running(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
			   struct cpx_err *err);

/* After all threads were released: put back time-outs that were patched in their memory. */
void cpx_cap_resume_released(struct cpx_cap *c);

void cpx_cap_resume_free(struct cpx_cap *c);

#endif
