/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault.h - places where a test makes the program fail.
 *
 * CHPOX_FAULT="name:n:action" in the environment of a process run by root: the n-th
 * time (from 1) that fault point @name is reached, @action is done:
 * "kill" (SIGKILL to oneself), "errno=N" (cpx_fault() returns N, to be treated as
 * the errno of the call that follows), "sleep=MS", "errno=N+" from the n-th time on.
 * Several, separated by commas. Without the variable a point costs one branch.
 */
#ifndef CPX_BASE_FAULT_H
#define CPX_BASE_FAULT_H

extern int cpx_fault_armed;

void cpx_fault_init(void); /* read the environment; at program start */
int cpx_fault_hit(const char *name);

/* Return: 0, or an errno value that the caller must act upon. */
static inline int cpx_fault(const char *name)
{
	return __builtin_expect(cpx_fault_armed, 0) ? cpx_fault_hit(name) : 0;
}

#endif
