/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_tree.h - making the processes: parents, children, sessions, process groups, zombies.
 *
 * plan.c checks the records and orders them (pure); rst_tree.c creates.
 */
#ifndef CPX_RST_TREE_H
#define CPX_RST_TREE_H

#include "restore.h"

/*
 * cpx_rst_plan() - fill r->tasks from the state: parents before children, threads with their
 * tasks, sharing resolved. Pure. Refuses what is not a tree or cannot be rebuilt.
 */
int cpx_rst_plan(struct cpx_rst *r, struct cpx_err *err);

/* Create root and all others with their memory, sessions, groups; zombies have ended. */
int cpx_rst_tree(struct cpx_rst *r, struct cpx_err *err);

/* Create the threads of all tasks. */
int cpx_rst_threads(struct cpx_rst *r, struct cpx_err *err);

/* Registers for all, unmap the home, let go. */
int cpx_rst_release(struct cpx_rst *r, struct cpx_err *err);

/* After a failure: kill what was created, reap it. */
void cpx_rst_undo(struct cpx_rst *r);

#endif
