/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snap_clone.h - copy-on-write clones of the job's address spaces, which are never a second
 * job. */
#ifndef CPX_SNAP_CLONE_H
#define CPX_SNAP_CLONE_H

struct cpx_cap;
struct cpx_err;

/*
 * cpx_snap_take() - while the tree is parked: a clone of each distinct address space
 * (task->clone_pid, clone_mem_fd). Return: 0, or with nothing left behind CPX_E_UNSUPPORTED
 * or CPX_E_LIMIT where clones cannot be had (stop-and-copy then), or another error.
 */
int cpx_snap_take(struct cpx_cap *c, struct cpx_err *err);

/* Kill and reap what cpx_snap_take() made; harmless if there is nothing. */
void cpx_snap_drop(struct cpx_cap *c);

#endif
