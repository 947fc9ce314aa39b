/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ptrace_engine.h - the parts of the ptrace engine; engine.h says what each does. */
#ifndef CPX_PTRACE_ENGINE_H
#define CPX_PTRACE_ENGINE_H

struct cpx_cap;
struct cpx_cap_task;
struct cpx_cap_thread;
struct cpx_err;
struct cpx_proc_status;

int cpx_ptrace_thread(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
		      struct cpx_err *err);
int cpx_ptrace_process(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err);
int cpx_ptrace_signals(struct cpx_cap *c, struct cpx_cap_task *t,
		       const struct cpx_proc_status *s, struct cpx_err *err);

#endif
