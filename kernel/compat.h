/* SPDX-License-Identifier: GPL-2.0 */
/*
 * compat.h - the only file that knows kernel versions; force-included.
 *
 * The module is written for the newest kernel; what older ones lack is here.
 */
#ifndef CHPOX_COMPAT_H
#define CHPOX_COMPAT_H

#include <linux/version.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/pagewalk.h>
#include <linux/posix-timers.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/sched/coredump.h>
#include <linux/sched/signal.h>
#include <linux/userfaultfd_k.h>

#define CHPOX_BEFORE(a, b) (KERNEL_VERSION(a, b, 0) > LINUX_VERSION_CODE)

/* 6.3: flags of a mapping are changed through functions that lock it. */
#if CHPOX_BEFORE(6, 3)
static inline void vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/* 6.4: threads that serve a process inside the kernel are not only io_uring's. */
#if CHPOX_BEFORE(6, 4)
#define PF_USER_WORKER PF_IO_WORKER
#endif

/* 6.5: no array of mappings. */
static inline long chpox_get_pages(struct mm_struct *mm, unsigned long start, unsigned long n,
				   unsigned int flags, struct page **pages, int *locked)
{
#if CHPOX_BEFORE(6, 5)
	return get_user_pages_remote(mm, start, n, flags, pages, NULL, locked);
#else
	return get_user_pages_remote(mm, start, n, flags, pages, locked);
#endif
}

/* 6.5: walkers say how they lock. */
#if CHPOX_BEFORE(6, 5)
#define CHPOX_WALK_LOCK
#else
#define CHPOX_WALK_LOCK .walk_lock = PGWALK_RDLOCK,
#endif

/* 6.5: reading an entry of the page table that others may change. */
#if CHPOX_BEFORE(6, 5)
#define ptep_get_lockless(p) READ_ONCE(*(p))
#define chpox_pmd_get(p) READ_ONCE(*(p))
#else
#define chpox_pmd_get(p) pmdp_get_lockless(p)
#endif

/* 6.12: POSIX timers of a process are a hash list. */
#if CHPOX_BEFORE(6, 12)
#define chpox_for_each_timer(timer, signal) \
	list_for_each_entry(timer, &(signal)->posix_timers, list)
#else
#define chpox_for_each_timer(timer, signal) \
	hlist_for_each_entry(timer, &(signal)->posix_timers, list)
#endif

/* 6.18: flags of an address space have accessors. */
#if CHPOX_BEFORE(6, 18)
#define chpox_mm_test(mm, flag) test_bit(flag, &(mm)->flags)
#else
#define chpox_mm_test(mm, flag) mm_flags_test(flag, mm)
#endif

/*
 * A monitor of this mapping wants to hear of forks: copying the page tables would wait for it.
 * Before 6.11 what a monitor wants cannot be seen: any is taken for one that does.
 */
static inline bool chpox_monitor_hears_forks(const struct vm_area_struct *vma)
{
#ifdef CONFIG_USERFAULTFD
	if (!vma->vm_userfaultfd_ctx.ctx)
		return false;
#if CHPOX_BEFORE(6, 11)
	return true;
#else
	return vma->vm_userfaultfd_ctx.ctx->features & UFFD_FEATURE_EVENT_FORK;
#endif
#else
	return false;
#endif
}

/* 6.13: the signal of a POSIX timer is part of it, and its state says that it waits. */
static inline const struct kernel_siginfo *chpox_timer_info(const struct k_itimer *timer)
{
#if CHPOX_BEFORE(6, 13)
	return &timer->sigq->info;
#else
	return &timer->sigq.info;
#endif
}

/* It went off and is armed again when its signal is taken. */
static inline bool chpox_timer_waits(const struct k_itimer *timer)
{
#if CHPOX_BEFORE(6, 13)
	return timer->it_requeue_pending & 1;
#else
	return timer->it_status == POSIX_TIMER_REQUEUE_PENDING;
#endif
}

static inline bool chpox_mem_policy(const struct task_struct *t)
{
#ifdef CONFIG_NUMA
	return t->mempolicy;
#else
	return false;
#endif
}

/* 6.15: one call. */
static inline void chpox_hrtimer_setup(struct hrtimer *timer,
				       enum hrtimer_restart (*fn)(struct hrtimer *), int clock)
{
#if CHPOX_BEFORE(6, 15)
	hrtimer_init(timer, clock, HRTIMER_MODE_ABS);
	timer->function = fn;
#else
	hrtimer_setup(timer, fn, clock, HRTIMER_MODE_ABS);
#endif
}

/* 6.4: all memory of a process may be merged. */
static inline bool chpox_merges(const struct mm_struct *mm)
{
#ifdef MMF_VM_MERGE_ANY
	return chpox_mm_test(mm, MMF_VM_MERGE_ANY);
#else
	return false;
#endif
}

/* 7.0: moved. */
static inline unsigned long chpox_robust_list(const struct task_struct *t)
{
#ifdef CONFIG_FUTEX
#if CHPOX_BEFORE(7, 0)
	return (unsigned long)t->robust_list;
#else
	return (unsigned long)t->futex.robust_list;
#endif
#else
	return 0;
#endif
}

/* 6.3: its size is kept. 6.18: moved. */
static inline unsigned long chpox_rseq(const struct task_struct *t, __u32 *sig, __u32 *size)
{
#ifndef CONFIG_RSEQ
	return 0;
#elif CHPOX_BEFORE(6, 18)
	*sig = t->rseq_sig;
#if CHPOX_BEFORE(6, 3)
	*size = t->rseq ? sizeof(*t->rseq) : 0;
#else
	*size = t->rseq_len;
#endif
	return (unsigned long)t->rseq;
#else
	*sig = t->rseq.sig;
	*size = t->rseq.len;
	return (unsigned long)t->rseq.usrptr;
#endif
}

/* Private to ipc/sem.c, the same in all these kernels. */
struct sem_undo_list {
	refcount_t refcnt;
	spinlock_t lock;
	struct list_head list_proc;
};

/* Threads have a list from the start; is anything in it? Nobody of the tree runs. */
static inline bool chpox_sem_undo(const struct task_struct *t)
{
#ifdef CONFIG_SYSVIPC
	return t->sysvsem.undo_list && !list_empty(&t->sysvsem.undo_list->list_proc);
#else
	return false;
#endif
}

/* 6.3 and 6.6: memory that may not become executable. */
static inline __u32 chpox_mdwe(const struct mm_struct *mm)
{
	__u32 mdwe = 0;

#ifdef MMF_HAS_MDWE
	if (chpox_mm_test(mm, MMF_HAS_MDWE))
		mdwe |= PR_MDWE_REFUSE_EXEC_GAIN;
#endif
#ifdef MMF_HAS_MDWE_NO_INHERIT
	if (chpox_mm_test(mm, MMF_HAS_MDWE_NO_INHERIT))
		mdwe |= PR_MDWE_NO_INHERIT;
#endif
	return mdwe;
}

static inline unsigned int chpox_seccomp_filters(const struct task_struct *t)
{
#ifdef CONFIG_SECCOMP_FILTER
	return atomic_read(&t->seccomp.filter_count);
#else
	return 0;
#endif
}

#endif
