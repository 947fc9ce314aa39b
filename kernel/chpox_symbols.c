// SPDX-License-Identifier: GPL-2.0
/*
 * chpox_symbols.c - finding what is not exported: see chpox_symbols.h.
 *
 * A probe registered by name gives an address somewhere at the function's start; the kernel's
 * own "%pS" tells how far behind its first byte. The probe is removed at once. Where a kernel
 * has no such function, or forbids the probe, its feature stays off.
 */
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/string.h>

#include "chpox.h"
#include "chpox_symbols.h"

static u64 features;

pid_t chpox_no_kernel_clone(struct kernel_clone_args *args)
{
	return -EOPNOTSUPP;
}

bool chpox_no_ptrace_may_access(struct task_struct *task, unsigned int mode)
{
	return false;
}

struct callback_head *
chpox_no_task_work_cancel_match(struct task_struct *task,
				bool (*match)(struct callback_head *, void *), void *data)
{
	return NULL;
}

int chpox_no_walk_page_range(struct mm_struct *mm, unsigned long start, unsigned long end,
			     const struct mm_walk_ops *ops, void *private)
{
	return -EOPNOTSUPP;
}

DEFINE_STATIC_CALL(chpox_kernel_clone, chpox_no_kernel_clone);
DEFINE_STATIC_CALL(chpox_ptrace_may_access, chpox_no_ptrace_may_access);
DEFINE_STATIC_CALL(chpox_task_work_cancel_match, chpox_no_task_work_cancel_match);
DEFINE_STATIC_CALL(chpox_walk_page_range, chpox_no_walk_page_range);

/* The first byte of function @name, or 0. */
static unsigned long entry_of(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	char text[KSYM_NAME_LEN + 32];
	unsigned long addr, offset;
	size_t len = strlen(name);

	if (register_kprobe(&probe))
		return 0;
	addr = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	snprintf(text, sizeof(text), "%pS", (void *)addr);
	if (strncmp(text, name, len) || sscanf(text + len, "+0x%lx/", &offset) != 1 ||
	    offset > 16)
		return 0;
	return addr - offset;
}

static unsigned long find(const char *name, u64 feature, const char *loss)
{
	unsigned long addr = entry_of(name);

	if (addr)
		features |= feature;
	else
		pr_warn("chpox: this kernel does not let me use %s(): %s\n", name, loss);
	return addr;
}

/* clang-format off */
#define FIND(name, feature, loss)						\
	do {									\
		typeof(chpox_no_##name) *f = (void *)find(#name, feature, loss);	\
										\
		if (f)								\
			static_call_update(chpox_##name, f);			\
	} while (0)
/* clang-format on */

void chpox_symbols_find(void)
{
	FIND(kernel_clone, CHPOX_F_SNAPSHOT, "no snapshots");
	FIND(ptrace_may_access, CHPOX_F_PTRACE_CHECK, "only CAP_SYS_PTRACE may use it");
	FIND(task_work_cancel_match, CHPOX_F_CANCEL,
	     "after a park that was given up, unloading may have to wait");
	FIND(walk_page_range, CHPOX_F_PAGES, "no page runs and no differences of snapshots");
}

u64 chpox_features(void)
{
	return features;
}
