/* SPDX-License-Identifier: GPL-2.0 */
/*
 * chpox_symbols.h - functions that the kernel has and does not export.
 *
 * Each is found once, at load, and called by a static call: a direct call in our own text. An
 * indirect call would be a trap on processors that check where those lead (IBT), as the
 * kernel has sealed functions whose address it does not take itself. Each stands for a feature
 * bit; where it was not found, a stub says EOPNOTSUPP, and callers ask chpox_features() first.
 */
#ifndef CHPOX_SYMBOLS_H
#define CHPOX_SYMBOLS_H

#include <linux/pagewalk.h>
#include <linux/sched/task.h>
#include <linux/static_call.h>
#include <linux/task_work.h>

pid_t chpox_no_kernel_clone(struct kernel_clone_args *args);
bool chpox_no_ptrace_may_access(struct task_struct *task, unsigned int mode);
struct callback_head *
chpox_no_task_work_cancel_match(struct task_struct *task,
				bool (*match)(struct callback_head *, void *), void *data);
int chpox_no_walk_page_range(struct mm_struct *mm, unsigned long start, unsigned long end,
			     const struct mm_walk_ops *ops, void *private);

DECLARE_STATIC_CALL(chpox_kernel_clone, chpox_no_kernel_clone);
DECLARE_STATIC_CALL(chpox_ptrace_may_access, chpox_no_ptrace_may_access);
DECLARE_STATIC_CALL(chpox_task_work_cancel_match, chpox_no_task_work_cancel_match);
DECLARE_STATIC_CALL(chpox_walk_page_range, chpox_no_walk_page_range);

/* At load; says in the log what is missing and what that costs. */
void chpox_symbols_find(void);
/* CHPOX_F_* */
u64 chpox_features(void);

#endif
