/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_resume.h - system calls in progress: what the image says of them, and how a job that is left
 * running sees no early return.
 */
#ifndef CPX_CAP_RESUME_H
#define CPX_CAP_RESUME_H

struct cpx_cap;
struct cpx_cap_task;
struct cpx_cap_thread;
struct cpx_err;

/*
 * cpx_cap_resume_running() - just before @th is released, its own registers in place and in
 * PTRACE_EVENT_STOP: repair a call that the stop itself would end with EINTR.
 */
int cpx_cap_resume_running(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
			   struct cpx_err *err);

/* After all threads were released: put back time-outs that were patched in their memory. */
void cpx_cap_resume_released(struct cpx_cap *c);

#endif
