/* SPDX-License-Identifier: GPL-2.0 */
/*
 * chpox.h - what the files of the module share.
 *
 * From the outside in: a device descriptor is a session (chpox_session.c), which owns at most
 * one park (stopped tree), the records of its last dump, and its snapshots. Everything returns
 * 0 or -errno. A session's mutex covers all it owns; parks and snapshots have locks of their
 * own where threads other than the caller's come in.
 */
#ifndef CHPOX_H
#define CHPOX_H

#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/task_work.h>
#include <linux/uidgid.h>
#include <linux/wait.h>

#include "chpox_uapi.h"

struct file;
struct pid;
struct pid_namespace;

#define CHPOX_ROOTS_MAX 16

/* --- chpox_park.c: stopping a tree ------------------------------------------------------- */

struct chpox_root {
	struct pid *pid;
	bool tree;
};

enum chpox_park_state {
	CHPOX_QUEUED, /* asked, not there yet */
	CHPOX_PARKED, /* sleeps in our callback */
	CHPOX_LEFT,   /* went on, or ended */
};

/*
 * One thread of a park. References: the park's list, and the work while it is queued. The
 * work also holds the module and the park.
 */
struct chpox_thread {
	struct callback_head work;
	struct list_head node;
	struct hlist_node claim;
	struct task_struct *task;
	struct chpox_park *park;
	refcount_t ref;
	enum chpox_park_state state;
};

struct chpox_park {
	refcount_t ref;
	bool fence;   /* no deadline; of another kind: both kinds may have a task */
	bool any_uid; /* fence: else only processes that are all @uid's */
	kuid_t uid;
	atomic_t missing; /* threads QUEUED */
	bool released;
	bool overrun;		/* released by the clock */
	unsigned long deadline; /* jiffies */
	wait_queue_head_t sleepers;
	wait_queue_head_t changed;
	struct list_head threads;
	unsigned int nthreads;
	u64 first_ns; /* CLOCK_MONOTONIC, when the first was asked */
};

#define chpox_each_thread(th, park) list_for_each_entry(th, &(park)->threads, node)

/*
 * Stop everybody below @roots. Nobody of them runs in user mode when it returns 0, until
 * @hold_ms after the first was asked, or chpox_park_release(). Fails with EBUSY when another
 * session has one of them, EDEADLK when the caller is among them, EPERM, ESRCH when there is
 * nobody, ETIMEDOUT when not all came within @park_ms; then all have been released.
 */
struct chpox_park *chpox_park(const struct chpox_root *roots, unsigned int nroots,
			      unsigned int park_ms, unsigned int hold_ms);
/* A park of a fence, nobody in it yet. NULL: no memory. */
struct chpox_park *chpox_park_fence(bool any_uid, kuid_t uid);
/*
 * Ask whoever is not yet known to rest. May be called from a kernel thread; processes that
 * @park may not stop are left out. Return: 0 all rest and nobody is new, 1 not yet, or an error
 * after which it is worth trying again.
 */
int chpox_park_pass(struct chpox_park *park, const struct chpox_root *roots,
		    unsigned int nroots);
void chpox_park_kill(struct chpox_park *park);
/* The caller is, or descends from, one of @roots. */
bool chpox_park_self(const struct chpox_root *roots, unsigned int nroots);
/* Everybody is still there: 0, else ETIME. */
int chpox_park_holds(const struct chpox_park *park);
/* From now on @hold_ms more. Return: 0, or ETIME when the clock released it before. */
int chpox_park_renew(struct chpox_park *park, unsigned int hold_ms);
/* CHPOX_IOC_AGAIN. */
int chpox_park_again(struct chpox_park *park, const struct chpox_again *again);
/* May be NULL. Return: 0, or ETIME when the clock released it before. */
int chpox_park_release(struct chpox_park *park);
/* @t cannot go on before a child does that is parked. */
bool chpox_in_vfork(const struct chpox_park *park, const struct task_struct *t);
/* The caller may do as a debugger to this process: 0 or EPERM. */
int chpox_may(struct task_struct *task);

/* --- chpox_fence.c -------------------------------------------------------------------------
 */

struct chpox_guard;

/* CHPOX_IOC_FENCE. *@guard: NULL before the first, owned by the session. */
long chpox_fence_call(struct chpox_guard **guard, const struct chpox_root *roots,
		      unsigned int nroots, void __user *arg);
/* The descriptor is closed. May be NULL. */
void chpox_fence_leave(struct chpox_guard *guard);

/* --- chpox_state.c: records ----------------------------------------------------------------
 */

struct chpox_buf {
	char *data;
	size_t len;
	size_t room;
	int error; /* the first one; later puts do nothing */
};

/* One of a dump's processes, in order of the stream. */
struct chpox_space {
	struct mm_struct *mm; /* owned */
	struct pid *pid;      /* owned; the first process that has it */
};

struct chpox_capture {
	struct chpox_buf buf;
	struct chpox_space *spaces; /* distinct */
	unsigned int nspaces;
	unsigned int processes;
	unsigned int threads;
	u32 seen;
};

int chpox_capture(struct chpox_capture *cap, struct chpox_park *park);
void chpox_capture_free(struct chpox_capture *cap);

/* --- chpox_snap.c: copy-on-write snapshots -------------------------------------------------
 */

struct chpox_maker; /* a kernel thread that makes snapshots; prepared before the pause */

/*
 * A frozen copy of an address space. @users are the session and descriptors: with the last
 * one the memory goes. @ref counts also the holder, the kernel-made process that has it.
 */
struct chpox_snap {
	refcount_t users;
	refcount_t ref;
	spinlock_t lock;	    /* of @mm */
	struct mm_struct *mm;	    /* NULL: dropped, or the holder was killed */
	struct task_struct *holder; /* from ready on */
	struct pid *pid;
	bool dropped;
	bool taken;	       /* a descriptor was made */
	unsigned int unmarked; /* mappings whose marks were taken off */
	int error;
	struct completion ready;
	wait_queue_head_t wq;
};

struct chpox_maker *chpox_maker_start(void);
/* In the pause. *@snaps: array of @n, owned by the caller also after a failure of some. */
int chpox_maker_run(struct chpox_maker *maker, struct chpox_space *spaces, unsigned int n,
		    struct chpox_snap **snaps);
/* After the pause: wait until all holders have theirs, end the thread. */
void chpox_maker_stop(struct chpox_maker *maker);

int chpox_snap_fd(struct chpox_snap *snap);
struct chpox_snap *chpox_snap_of(struct file *file);
/* The address space with a reference, NULL when it is gone. */
struct mm_struct *chpox_snap_mm(struct chpox_snap *snap);
void chpox_snap_drop(struct chpox_snap *snap);
unsigned int chpox_snap_count(void);

/* --- chpox_pages.c: what is in an address space --------------------------------------------
 */

ssize_t chpox_pages_read(struct chpox_snap *snap, char __user *buf, size_t count, loff_t *pos);
long chpox_pages_runs(struct chpox_snap *snap, void __user *arg);

/* --- chpox_session.c ------------------------------------------------------------------------
 */

extern const struct file_operations chpox_session_ops;
unsigned int chpox_session_count(void);

/*
 * An argument of an ioctl: copies @size bytes when the caller's own size, at its begin, is the
 * same.
 */
int chpox_get_arg(void *to, const void __user *from, size_t size);

#endif
