// SPDX-License-Identifier: GPL-2.0
/*
 * chpox_fence.c - a tree that stands still when nobody renews its time.
 *
 * Happy path: armed, renewed again and again, disarmed. When the deadline has passed, a timer
 * starts passes over the tree until nobody of it runs; a renewal thaws. Closing the descriptor
 * leaves the guard to itself: at the deadline the tree is killed, for nobody could thaw it.
 *
 * Passes run in a work queue and wait for nobody, so what sleeps in the kernel holds up no
 * renewal; it comes to rest before it gets back to user mode.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "chpox.h"

#define QUICK_PASSES 64

struct chpox_guard {
	refcount_t ref;	   /* the session's; when it has left, its own */
	struct mutex lock; /* of all below */
	struct hrtimer timer;
	struct delayed_work pass;
	struct chpox_root roots[CHPOX_ROOTS_MAX];
	unsigned int nroots;
	struct chpox_park *park; /* from the deadline on */
	unsigned int passes;	 /* made since then */
	bool still;		 /* all of it rest */
	bool kill, killed, left;
	bool any_uid;
	kuid_t uid;
	s64 deadline;
};

static bool expired(const struct chpox_guard *g)
{
	return g->kill || ktime_get_boottime_ns() >= g->deadline;
}

static enum hrtimer_restart on_deadline(struct hrtimer *timer)
{
	struct chpox_guard *g = container_of(timer, struct chpox_guard, timer);

	mod_delayed_work(system_unbound_wq, &g->pass, 0);
	return HRTIMER_NORESTART;
}

/* Return: more passes are needed. */
static bool one_pass(struct chpox_guard *g)
{
	int rc;

	if (!expired(g) || g->still || g->killed)
		return false;
	if (!g->park)
		g->park = chpox_park_fence(g->any_uid, g->uid);
	if (!g->park)
		return true;
	rc = chpox_park_pass(g->park, g->roots, g->nroots);
	if (g->kill || g->left)
		chpox_park_kill(g->park);
	if (rc)
		return true;
	g->still = true;
	g->killed = g->kill || g->left;
	return false;
}

static void guard_put(struct chpox_guard *g)
{
	if (!refcount_dec_and_test(&g->ref))
		return;
	chpox_park_release(g->park);
	for (unsigned int i = 0; i < g->nroots; i++)
		put_pid(g->roots[i].pid);
	kfree(g);
	module_put(THIS_MODULE);
}

static void pass(struct work_struct *work)
{
	struct chpox_guard *g = container_of(work, struct chpox_guard, pass.work);
	bool more, done;

	mutex_lock(&g->lock);
	more = one_pass(g);
	done = g->left && g->killed;
	mutex_unlock(&g->lock);
	if (more)
		mod_delayed_work(system_unbound_wq, &g->pass,
				 g->passes++ < QUICK_PASSES ? 1 : HZ / 10);
	if (!done)
		return;
	/* nobody queues it again */
	hrtimer_cancel(&g->timer);
	cancel_delayed_work(&g->pass);
	guard_put(g);
}

static struct chpox_guard *guard_new(const struct chpox_root *roots, unsigned int nroots)
{
	struct chpox_guard *g = kzalloc(sizeof(*g), GFP_KERNEL_ACCOUNT);

	if (!g)
		return NULL;
	__module_get(THIS_MODULE);
	refcount_set(&g->ref, 1);
	mutex_init(&g->lock);
	chpox_hrtimer_setup(&g->timer, on_deadline, CLOCK_BOOTTIME);
	INIT_DELAYED_WORK(&g->pass, pass);
	g->any_uid = capable(CAP_SYS_PTRACE);
	g->uid = current_uid();
	for (; g->nroots < nroots; g->nroots++) {
		g->roots[g->nroots] = roots[g->nroots];
		get_pid(roots[g->nroots].pid);
	}
	return g;
}

static u32 state_of(const struct chpox_guard *g)
{
	if (g->killed)
		return CHPOX_FENCE_KILLED;
	if (g->still)
		return CHPOX_FENCE_FROZEN;
	return g->park ? CHPOX_FENCE_FREEZING : CHPOX_FENCE_ARMED;
}

/* Under the lock, which the timer's function does not take. */
static void renew(struct chpox_guard *g, s64 deadline)
{
	hrtimer_cancel(&g->timer);
	g->deadline = deadline;
	if (!expired(g)) {
		chpox_park_release(g->park);
		g->park = NULL;
		g->still = false;
		g->passes = 0;
	}
	hrtimer_start(&g->timer, ns_to_ktime(deadline), HRTIMER_MODE_ABS);
}

static void disarm(struct chpox_guard *g)
{
	hrtimer_cancel(&g->timer);
	cancel_delayed_work_sync(&g->pass);
	guard_put(g);
}

static int change(struct chpox_guard **guard, const struct chpox_fence *f)
{
	struct chpox_guard *g = *guard;

	if (f->flags == CHPOX_FENCE_DISARM) {
		disarm(g);
		*guard = NULL;
		return 0;
	}
	mutex_lock(&g->lock);
	if (f->flags == CHPOX_FENCE_KILL) {
		g->kill = true;
		g->still = false;
		mod_delayed_work(system_unbound_wq, &g->pass, 0);
	} else if (!f->flags && !g->kill) {
		renew(g, f->deadline);
	}
	mutex_unlock(&g->lock);
	return 0;
}

static int check(const struct chpox_fence *f, bool armed, const struct chpox_root *roots,
		 unsigned int nroots)
{
	if (f->deadline < 0 || hweight32(f->flags) > 1 ||
	    f->flags & ~(CHPOX_FENCE_ASK | CHPOX_FENCE_DISARM | CHPOX_FENCE_KILL))
		return -EINVAL;
	if (armed)
		return 0;
	if (f->flags)
		return f->flags == CHPOX_FENCE_ASK ? 0 : -ENOENT;
	if (!nroots)
		return -ESRCH;
	return chpox_park_self(roots, nroots) ? -EDEADLK : 0;
}

long chpox_fence_call(struct chpox_guard **guard, const struct chpox_root *roots,
		      unsigned int nroots, void __user *arg)
{
	struct chpox_fence f;
	int rc = chpox_get_arg(&f, arg, sizeof(f));

	if (!rc)
		rc = check(&f, *guard, roots, nroots);
	if (rc)
		return rc;
	f.state = CHPOX_FENCE_NONE;
	f.threads = 0;
	if (*guard) {
		mutex_lock(&(*guard)->lock);
		f.state = state_of(*guard);
		f.threads = (*guard)->park ? (*guard)->park->nthreads : 0;
		mutex_unlock(&(*guard)->lock);
	}
	/* a caller that cannot be told must not think that it has renewed */
	if (copy_to_user(arg, &f, sizeof(f)))
		return -EFAULT;
	if (!*guard && f.flags)
		return 0;
	if (!*guard)
		*guard = guard_new(roots, nroots);
	if (!*guard)
		return -ENOMEM;
	return change(guard, &f);
}

void chpox_fence_leave(struct chpox_guard *g)
{
	if (!g)
		return;
	refcount_inc(&g->ref);
	mutex_lock(&g->lock);
	g->left = true;
	/* frozen: once more, to kill; killed already: to be freed */
	g->still = false;
	if (g->park || g->killed)
		mod_delayed_work(system_unbound_wq, &g->pass, 0);
	mutex_unlock(&g->lock);
	guard_put(g);
}
