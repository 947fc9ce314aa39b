// SPDX-License-Identifier: GPL-2.0
/*
 * chpox_park.c - stopping a whole tree without missing anybody.
 *
 * Happy path: every thread gets a task work with a wake-up, runs into it before it returns to
 * user mode, and sleeps there. When all that are known sleep, the process list is read once
 * more: known ones cannot fork, so when it shows nobody new the tree is complete. A thread that
 * a signal or a tracer has stopped is as good as parked: should it be continued, it runs into
 * its work first.
 *
 * So is one that waits in vfork() for a parked child.
 *
 * Failure: whoever does not come (an uninterruptible sleep) makes the park give up after its
 * time. Works that never ran are taken back; one that cannot be taken back finds its park
 * released and does nothing.
 *
 * A fence's park has no deadline, and is of another kind: a task may be in one of each. One
 * that a checkpoint has parked runs from that into the fence's work, without a step in user
 * mode between.
 *
 * Letting go needs nobody: each sleeper has the deadline itself. A fatal signal ends a sleeper
 * at once.
 */
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/freezer.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/ptrace.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

#include "chpox.h"
#include "chpox_symbols.h"

#define DEPTH_MAX 100000

/* Which park a task belongs to: one of each kind at most. */
static DEFINE_HASHTABLE(claims, 8);
static DEFINE_SPINLOCK(claims_lock);

static void park_put(struct chpox_park *park)
{
	if (refcount_dec_and_test(&park->ref))
		kfree(park);
}

static void thread_put(struct chpox_thread *th)
{
	struct chpox_park *park = th->park;

	if (!refcount_dec_and_test(&th->ref))
		return;
	put_task_struct(th->task);
	kfree(th);
	park_put(park);
}

/* --- in the parked thread ------------------------------------------------------------------
 */

/*
 * Some calls end with EINTR whenever they are woken, even if no signal is there. Those that
 * wait without end are called again, as for a stop that never was; a real signal still turns
 * that into EINTR. One with a time-out keeps its EINTR: started anew it would wait too long.
 */
static bool waits_without_end(const struct pt_regs *regs)
{
	switch (regs->orig_ax) {
	case __NR_epoll_wait:
	case __NR_epoll_pwait:
		return (int)regs->r10 < 0;
	case __NR_epoll_pwait2:
	case __NR_semtimedop:
		return !regs->r10;
	case __NR_rt_sigtimedwait:
		return !regs->dx;
	case __NR_semop:
		return true;
	case __NR_io_getevents:
	case __NR_io_pgetevents:
		return !regs->r8;
	default:
		return false;
	}
}

static void repair_call(void)
{
	struct pt_regs *regs = current_pt_regs();

	if (!in_compat_syscall() && regs->ax == -EINTR && (long)regs->orig_ax >= 0 &&
	    waits_without_end(regs))
		regs->ax = -ERESTARTNOHAND;
}

static void release_all(struct chpox_park *park)
{
	WRITE_ONCE(park->released, true);
	wake_up_all(&park->sleepers);
}

static void sleep_until_released(struct chpox_park *park)
{
	DEFINE_WAIT(wait);

	for (;;) {
		long left = (long)(READ_ONCE(park->deadline) - jiffies);

		prepare_to_wait(&park->sleepers, &wait, TASK_KILLABLE | TASK_FREEZABLE);
		if (READ_ONCE(park->released) || fatal_signal_pending(current))
			break;
		if (park->fence) {
			left = MAX_SCHEDULE_TIMEOUT;
		} else if (left <= 0) {
			WRITE_ONCE(park->overrun, true);
			break;
		}
		schedule_timeout(left);
	}
	finish_wait(&park->sleepers, &wait);
	if (READ_ONCE(park->overrun))
		release_all(park);
}

static void park_self(struct callback_head *work)
{
	struct chpox_thread *th = container_of(work, struct chpox_thread, work);
	struct chpox_park *park = th->park;
	bool ending = current->flags & PF_EXITING;

	if (!ending && !READ_ONCE(park->released))
		repair_call();
	WRITE_ONCE(th->state, ending ? CHPOX_LEFT : CHPOX_PARKED);
	/* orders the state before the count */
	if (atomic_dec_and_test(&park->missing))
		wake_up(&park->changed);
	if (!ending)
		sleep_until_released(park);
	WRITE_ONCE(th->state, CHPOX_LEFT);
	thread_put(th);
	module_put(THIS_MODULE);
}

/* --- who belongs to it ---------------------------------------------------------------------
 */

/*
 * Who has @task; when it is nobody, and @th is given, @th gets it. The pointer that is
 * returned is only to be compared.
 */
static const struct chpox_park *claim(struct task_struct *task, bool fence,
				      struct chpox_thread *th)
{
	const struct chpox_park *park = NULL;
	struct chpox_thread *other;

	spin_lock(&claims_lock);
	hash_for_each_possible(claims, other, claim, (unsigned long)task) {
		if (other->task == task && other->park->fence == fence) {
			park = other->park;
			break;
		}
	}
	if (!park && th) {
		th->task = get_task_struct(task);
		hash_add(claims, &th->claim, (unsigned long)task);
	}
	spin_unlock(&claims_lock);
	return park;
}

static void unclaim(struct chpox_thread *th)
{
	spin_lock(&claims_lock);
	hash_del(&th->claim);
	spin_unlock(&claims_lock);
}

/* Under rcu_read_lock(). */
static bool descends(const struct task_struct *p, const struct task_struct *root)
{
	for (unsigned int i = 0; i < DEPTH_MAX && p && p != &init_task; i++) {
		if (p == root)
			return true;
		p = rcu_dereference(p->real_parent)->group_leader;
	}
	return false;
}

static bool belongs(struct task_struct *p, const struct chpox_root *roots, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct task_struct *root = pid_task(roots[i].pid, PIDTYPE_TGID);

		if (root && (p == root || (roots[i].tree && descends(p, root))))
			return true;
	}
	return false;
}

static bool to_be_parked(const struct task_struct *t)
{
	return !t->exit_state &&
	       !(t->flags & (PF_EXITING | PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER));
}

/* Whoever armed a fence may stop this process: nothing that has more rights than he. */
static bool fence_may(const struct chpox_park *park, const struct task_struct *t)
{
	const struct cred *cred = __task_cred(t);

	return park->any_uid ||
	       (uid_eq(cred->uid, park->uid) && uid_eq(cred->euid, park->uid) &&
		uid_eq(cred->suid, park->uid));
}

/*
 * Put threads not yet known into objects from @spare and those onto @found. Return: how many
 * more there are, or an error.
 */
static int look_for_new(struct chpox_park *park, const struct chpox_root *roots,
			unsigned int nroots, struct list_head *spare, struct list_head *found)
{
	const struct chpox_park *owner;
	struct task_struct *p, *t;
	struct chpox_thread *th;
	int more = 0, rc = 0;

	rcu_read_lock();
	for_each_process(p) {
		if (!belongs(p, roots, nroots))
			continue;
		for_each_thread(p, t) {
			if (!to_be_parked(t) || (park->fence && !fence_may(park, t)))
				continue;
			th = list_first_entry_or_null(spare, struct chpox_thread, node);
			if (th)
				th->park = park;
			owner = claim(t, park->fence, th);
			/* another fence's will be frozen by that one */
			if (owner == park || (owner && park->fence))
				continue;
			if (owner)
				rc = -EBUSY;
			else if (same_thread_group(t, current))
				rc = -EDEADLK;
			if (!owner && th)
				list_move_tail(&th->node, found);
			else
				more++;
		}
	}
	rcu_read_unlock();
	return rc ? rc : more;
}

int chpox_may(struct task_struct *task)
{
	if (chpox_features() & CHPOX_F_PTRACE_CHECK)
		return static_call(chpox_ptrace_may_access)(task, PTRACE_MODE_ATTACH_FSCREDS)
			       ? 0
			       : -EPERM;
	return capable(CAP_SYS_PTRACE) ? 0 : -EPERM;
}

static int may_all(struct list_head *threads)
{
	const struct task_struct *asked = NULL;
	struct chpox_thread *th;

	list_for_each_entry(th, threads, node) {
		if (asked == th->task->group_leader || READ_ONCE(th->task->exit_state))
			continue;
		asked = th->task->group_leader;
		if (chpox_may(th->task))
			return -EPERM;
	}
	return 0;
}

static void free_all(struct list_head *threads)
{
	struct chpox_thread *th, *next;

	list_for_each_entry_safe(th, next, threads, node)
		kfree(th);
	INIT_LIST_HEAD(threads);
}

static int more_spare(struct list_head *spare, int n)
{
	while (n-- > 0) {
		struct chpox_thread *th = kzalloc(sizeof(*th), GFP_KERNEL_ACCOUNT);

		if (!th)
			return -ENOMEM;
		refcount_set(&th->ref, 1);
		INIT_HLIST_NODE(&th->claim);
		list_add(&th->node, spare);
	}
	return 0;
}

/* Threads of a process stand together in the list. */
static void place(struct chpox_park *park, struct chpox_thread *th)
{
	struct list_head *after = park->threads.prev;
	struct chpox_thread *other;

	list_for_each_entry_reverse(other, &park->threads, node) {
		if (same_thread_group(other->task, th->task)) {
			after = &other->node;
			break;
		}
	}
	list_move(&th->node, after);
}

static void ask(struct chpox_park *park, struct chpox_thread *th)
{
	refcount_inc(&th->ref);
	atomic_inc(&park->missing);
	__module_get(THIS_MODULE);
	init_task_work(&th->work, park_self);
	if (!task_work_add(th->task, &th->work, TWA_SIGNAL))
		return;
	/* it is ending */
	WRITE_ONCE(th->state, CHPOX_LEFT);
	atomic_dec(&park->missing);
	thread_put(th);
	module_put(THIS_MODULE);
}

/* Ask everybody not yet asked to park. Return: how many, or an error. */
static int ask_new(struct chpox_park *park, const struct chpox_root *roots, unsigned int nroots)
{
	struct chpox_thread *th, *next;
	LIST_HEAD(spare);
	LIST_HEAD(found);
	int rc, n = 0;

	rc = look_for_new(park, roots, nroots, &spare, &found);
	if (rc > 0 && park->nthreads + rc > CHPOX_TASKS_MAX)
		rc = -E2BIG;
	if (rc > 0) {
		rc = more_spare(&spare, rc);
		if (!rc)
			rc = look_for_new(park, roots, nroots, &spare, &found);
	}
	free_all(&spare);
	if (rc >= 0 && !park->fence && may_all(&found))
		rc = -EPERM;
	if (!park->first_ns)
		park->first_ns = ktime_get_ns();
	list_for_each_entry_safe(th, next, &found, node) {
		refcount_inc(&park->ref);
		park->nthreads++;
		place(park, th);
		if (rc >= 0)
			ask(park, th);
		else
			WRITE_ONCE(th->state, CHPOX_LEFT);
		n++;
	}
	return rc < 0 ? rc : n + rc;
}

/* --- waiting for them ----------------------------------------------------------------------
 */

static bool off_cpu(const struct task_struct *t)
{
	/* pairs with the scheduler's store when it has switched away and saved registers */
	return !smp_load_acquire(&t->on_cpu);
}

/* Threads that need not run into their work to be still. */
static bool rests(const struct task_struct *t)
{
	return (READ_ONCE(t->__state) & (__TASK_STOPPED | __TASK_TRACED)) && off_cpu(t);
}

/*
 * It waits in vfork() for a child that is parked: it cannot go on before the child does.
 * Nothing wakes it for its work, and nothing needs to.
 */
bool chpox_in_vfork(const struct chpox_park *park, const struct task_struct *t)
{
	struct chpox_thread *th;

	if (READ_ONCE(t->__state) == TASK_RUNNING || !off_cpu(t))
		return false;
	chpox_each_thread(th, park) {
		if (READ_ONCE(th->state) == CHPOX_PARKED && READ_ONCE(th->task->vfork_done) &&
		    rcu_access_pointer(th->task->real_parent) == t)
			return true;
	}
	return false;
}

static bool all_still(struct chpox_park *park)
{
	int missing = atomic_read(&park->missing);
	struct chpox_thread *th;

	if (!missing)
		return true;
	chpox_each_thread(th, park) {
		if (READ_ONCE(th->state) == CHPOX_QUEUED &&
		    (rests(th->task) || chpox_in_vfork(park, th->task)))
			missing--;
	}
	return missing <= 0;
}

static int wait_for_all(struct chpox_park *park, unsigned long until)
{
	long rc;

	while (!all_still(park)) {
		if (READ_ONCE(park->overrun) || time_after(jiffies, until))
			return -ETIMEDOUT;
		rc = wait_event_killable_timeout(park->changed, !atomic_read(&park->missing),
						 1);
		if (rc < 0)
			return -EINTR;
	}
	return 0;
}

/*
 * A parked thread is about to sleep: until it has left the processor, its registers are not
 * all where they can be read.
 */
static int wait_off_cpu(struct chpox_park *park, unsigned long until)
{
	struct chpox_thread *th;

	chpox_each_thread(th, park) {
		while (READ_ONCE(th->state) == CHPOX_PARKED &&
		       (READ_ONCE(th->task->__state) == TASK_RUNNING || !off_cpu(th->task))) {
			if (time_after(jiffies, until) || fatal_signal_pending(current))
				return -ETIMEDOUT;
			cpu_relax();
			cond_resched();
		}
	}
	return 0;
}

static struct chpox_park *park_new(unsigned int hold_ms)
{
	struct chpox_park *park = kzalloc(sizeof(*park), GFP_KERNEL_ACCOUNT);

	if (!park)
		return NULL;
	refcount_set(&park->ref, 1);
	INIT_LIST_HEAD(&park->threads);
	init_waitqueue_head(&park->sleepers);
	init_waitqueue_head(&park->changed);
	park->deadline = jiffies + msecs_to_jiffies(hold_ms);
	return park;
}

struct chpox_park *chpox_park_fence(bool any_uid, kuid_t uid)
{
	struct chpox_park *park = park_new(0);

	if (!park)
		return NULL;
	park->fence = true;
	park->any_uid = any_uid;
	park->uid = uid;
	return park;
}

int chpox_park_pass(struct chpox_park *park, const struct chpox_root *roots,
		    unsigned int nroots)
{
	int rc = ask_new(park, roots, nroots);

	return rc ? min(rc, 1) : !all_still(park);
}

void chpox_park_kill(struct chpox_park *park)
{
	struct chpox_thread *th;

	chpox_each_thread(th, park)
		send_sig(SIGKILL, th->task, 1);
}

bool chpox_park_self(const struct chpox_root *roots, unsigned int nroots)
{
	bool self;

	rcu_read_lock();
	self = belongs(current->group_leader, roots, nroots);
	rcu_read_unlock();
	return self;
}

struct chpox_park *chpox_park(const struct chpox_root *roots, unsigned int nroots,
			      unsigned int park_ms, unsigned int hold_ms)
{
	unsigned long until = jiffies + msecs_to_jiffies(park_ms);
	struct chpox_park *park = park_new(hold_ms);
	int rc;

	if (!park)
		return ERR_PTR(-ENOMEM);
	do {
		rc = ask_new(park, roots, nroots);
		if (rc < 0)
			goto fail;
		if (wait_for_all(park, until)) {
			rc = fatal_signal_pending(current) ? -EINTR : -ETIMEDOUT;
			goto fail;
		}
	} while (rc);
	if (!park->nthreads) {
		rc = -ESRCH;
		goto fail;
	}
	rc = wait_off_cpu(park, until);
	/* nobody execs any more: what may be done to them now is settled */
	if (!rc)
		rc = may_all(&park->threads);
	if (!rc)
		rc = chpox_park_holds(park);
	if (rc)
		goto fail;
	return park;
fail:
	chpox_park_release(park);
	return ERR_PTR(rc);
}

int chpox_park_holds(const struct chpox_park *park)
{
	return READ_ONCE(park->overrun) ? -ETIME : 0;
}

int chpox_park_renew(struct chpox_park *park, unsigned int hold_ms)
{
	/* who slept for the old deadline looks at the new one before it goes */
	WRITE_ONCE(park->deadline, jiffies + msecs_to_jiffies(hold_ms));
	return chpox_park_holds(park);
}

int chpox_park_again(struct chpox_park *park, const struct chpox_again *again)
{
	struct pid_namespace *ns = task_active_pid_ns(current);
	struct chpox_thread *th;

	chpox_each_thread(th, park) {
		struct pt_regs *regs = task_pt_regs(th->task);
		unsigned long *const args[] = { &regs->di,  &regs->si, &regs->dx,
						&regs->r10, &regs->r8, &regs->r9 };

		if (task_pid_nr_ns(th->task, ns) != again->tid)
			continue;
		if (READ_ONCE(th->state) != CHPOX_PARKED || regs->ax != -EINTR ||
		    (long)regs->orig_ax < 0)
			return -EINVAL;
		if (again->flags & CHPOX_AGAIN_ARG)
			*args[again->arg] = again->value;
		regs->ax = -ERESTARTNOHAND;
		return chpox_park_holds(park);
	}
	return -ESRCH;
}

/* --- letting go ----------------------------------------------------------------------------
 */

static bool is_this(struct callback_head *work, void *data)
{
	return work == data;
}

static void take_back(struct chpox_thread *th)
{
	if (READ_ONCE(th->state) != CHPOX_QUEUED || !(chpox_features() & CHPOX_F_CANCEL) ||
	    !static_call(chpox_task_work_cancel_match)(th->task, is_this, &th->work))
		return;
	WRITE_ONCE(th->state, CHPOX_LEFT);
	thread_put(th);
	module_put(THIS_MODULE);
}

int chpox_park_release(struct chpox_park *park)
{
	struct chpox_thread *th, *next;
	int rc;

	if (!park)
		return 0;
	rc = chpox_park_holds(park);
	release_all(park);
	list_for_each_entry_safe(th, next, &park->threads, node) {
		unclaim(th);
		take_back(th);
		list_del(&th->node);
		thread_put(th);
	}
	park_put(park);
	return rc;
}
