// SPDX-License-Identifier: GPL-2.0
/*
 * chpox_session.c - a descriptor of /dev/chpox: add processes, dump, read, take snapshots out.
 *
 * Happy path of a dump: the maker of snapshots is started, the tree parks, records are made
 * in memory, page tables are copied, the tree goes on, the answer is written. Whatever fails,
 * the tree goes on and the session is as empty as before its first dump. Closing does the
 * same.
 */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "chpox.h"
#include "chpox_symbols.h"

#define DUMP_FLAGS (CHPOX_DUMP_HOLD | CHPOX_DUMP_NO_SNAPSHOT)

struct session {
	struct mutex lock; /* of all that follows */
	struct chpox_root roots[CHPOX_ROOTS_MAX];
	unsigned int nroots;
	struct chpox_guard *guard; /* fence */
	struct chpox_park *park;   /* held after a dump */
	u64 first_ns;		   /* of it */
	char *records;
	size_t nrecords, read;
	struct chpox_snap **snaps;
	unsigned int nsnaps;
};

static atomic_t count;

unsigned int chpox_session_count(void)
{
	return atomic_read(&count);
}

int chpox_get_arg(void *to, const void __user *from, size_t size)
{
	u32 said;

	if (get_user(said, (const u32 __user *)from))
		return -EFAULT;
	if (said != size)
		return -EINVAL;
	if (copy_from_user(to, from, size))
		return -EFAULT;
	/* it may have been changed in between */
	return *(u32 *)to == size ? 0 : -EINVAL;
}

/* --- small calls ---------------------------------------------------------------------------
 */

static long do_info(struct session *s, void __user *arg)
{
	struct chpox_info info;
	int rc = chpox_get_arg(&info, arg, sizeof(info));

	if (rc)
		return rc;
	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	info.abi = CHPOX_ABI;
	info.features = chpox_features();
	info.sessions = chpox_session_count();
	info.snapshots = chpox_snap_count();
	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static int may_be_root(struct pid *pid)
{
	struct task_struct *task = get_pid_task(pid, PIDTYPE_TGID);
	int rc = 0;

	if (!task)
		return -ESRCH;
	if (task->flags & PF_KTHREAD)
		rc = -EINVAL;
	else if (is_global_init(task))
		rc = -EPERM;
	else
		rc = chpox_may(task);
	put_task_struct(task);
	return rc;
}

static long do_add(struct session *s, void __user *arg)
{
	struct chpox_add add;
	struct pid *pid;
	int rc = chpox_get_arg(&add, arg, sizeof(add));

	if (rc)
		return rc;
	if (add.flags & ~CHPOX_ADD_TREE || add.reserved || add.pid <= 0)
		return -EINVAL;
	if (s->nroots == CHPOX_ROOTS_MAX)
		return -E2BIG;
	if (s->guard)
		return -EBUSY;
	pid = find_get_pid(add.pid);
	if (!pid)
		return -ESRCH;
	rc = may_be_root(pid);
	if (rc) {
		put_pid(pid);
		return rc;
	}
	s->roots[s->nroots].pid = pid;
	s->roots[s->nroots++].tree = add.flags & CHPOX_ADD_TREE;
	return 0;
}

static long do_snap(struct session *s, void __user *arg)
{
	struct chpox_snap *snap;
	struct chpox_snap_arg out;
	int rc = chpox_get_arg(&out, arg, sizeof(out));

	if (rc)
		return rc;
	if (out.flags || out.reserved)
		return -EINVAL;
	if (out.index >= s->nsnaps)
		return -ENOENT;
	snap = s->snaps[out.index];
	if (snap->taken)
		return -EALREADY;
	out.pid = pid_vnr(snap->pid);
	out.holder = task_tgid_vnr(snap->holder);
	out.unmarked = snap->unmarked;
	out.fd = chpox_snap_fd(snap);
	if (out.fd < 0)
		return out.fd;
	/* a descriptor whose number the caller does not learn is closed when it ends */
	snap->taken = true;
	return copy_to_user(arg, &out, sizeof(out)) ? -EFAULT : 0;
}

/* --- dump ----------------------------------------------------------------------------------
 */

static void forget_dump(struct session *s)
{
	chpox_park_release(s->park);
	s->park = NULL;
	kvfree(s->records);
	s->records = NULL;
	s->nrecords = 0;
	s->read = 0;
	for (unsigned int i = 0; i < s->nsnaps; i++)
		chpox_snap_drop(s->snaps[i]);
	kvfree(s->snaps);
	s->snaps = NULL;
	s->nsnaps = 0;
}

static int check_dump(struct session *s, struct chpox_dump *d)
{
	if (d->flags & ~DUMP_FLAGS || d->hold_ms > CHPOX_HOLD_MAX_MS)
		return -EINVAL;
	if (s->park)
		return -EBUSY;
	if (!s->nroots)
		return -ESRCH;
	if (!d->hold_ms)
		d->hold_ms = CHPOX_HOLD_DEFAULT_MS;
	if (!d->park_ms || d->park_ms > d->hold_ms)
		d->park_ms = d->hold_ms;
	return 0;
}

/* While all are parked. */
static int take(struct session *s, struct chpox_dump *d, struct chpox_capture *cap,
		struct chpox_maker *maker, struct chpox_park *park)
{
	u64 parked = ktime_get_ns(), captured;
	int rc = chpox_capture(cap, park);

	if (rc)
		return rc;
	captured = ktime_get_ns();
	d->park_ns = parked - park->first_ns;
	d->capture_ns = captured - parked;
	if (maker) {
		s->snaps =
			kvcalloc(cap->nspaces, sizeof(struct chpox_snap *), GFP_KERNEL_ACCOUNT);
		if (!s->snaps)
			return -ENOMEM;
		s->nsnaps = cap->nspaces;
		rc = chpox_maker_run(maker, cap->spaces, cap->nspaces, s->snaps);
		d->snapshot_ns = ktime_get_ns() - captured;
	}
	return rc ? rc : chpox_park_holds(park);
}

static void answer(struct session *s, struct chpox_dump *d, struct chpox_capture *cap)
{
	d->processes = cap->processes;
	d->threads = cap->threads;
	d->snapshots = s->nsnaps;
	d->seen = cap->seen;
	d->records = cap->buf.len;
	s->records = cap->buf.data;
	s->nrecords = cap->buf.len;
	cap->buf.data = NULL;
}

static int dump(struct session *s, struct chpox_dump *d)
{
	struct chpox_maker *maker = NULL;
	struct chpox_capture cap = {};
	struct chpox_park *park;
	int rc;

	if (!(d->flags & CHPOX_DUMP_NO_SNAPSHOT)) {
		maker = chpox_maker_start();
		if (IS_ERR(maker))
			return PTR_ERR(maker);
	}
	park = chpox_park(s->roots, s->nroots, d->park_ms, d->hold_ms);
	if (IS_ERR(park)) {
		chpox_maker_stop(maker);
		return PTR_ERR(park);
	}
	s->first_ns = park->first_ns;
	rc = take(s, d, &cap, maker, park);
	if (!rc && (d->flags & CHPOX_DUMP_HOLD)) {
		s->park = park;
	} else {
		int late = chpox_park_release(park);

		rc = rc ? rc : late;
		d->pause_ns = ktime_get_ns() - s->first_ns;
	}
	chpox_maker_stop(maker);
	if (!rc)
		answer(s, d, &cap);
	chpox_capture_free(&cap);
	return rc;
}

static long do_dump(struct session *s, void __user *arg)
{
	struct chpox_dump d;
	int rc = chpox_get_arg(&d, arg, sizeof(d));

	if (!rc)
		rc = check_dump(s, &d);
	if (rc)
		return rc;
	d = (struct chpox_dump){
		.size = sizeof(d),
		.flags = d.flags,
		.park_ms = d.park_ms,
		.hold_ms = d.hold_ms,
	};
	forget_dump(s);
	rc = dump(s, &d);
	if (!rc && copy_to_user(arg, &d, sizeof(d)))
		rc = -EFAULT;
	if (rc)
		forget_dump(s);
	return rc;
}

static long do_release(struct session *s, void __user *arg)
{
	struct chpox_release r;
	int rc = chpox_get_arg(&r, arg, sizeof(r));

	if (rc)
		return rc;
	if (r.flags)
		return -EINVAL;
	if (!s->park)
		return -ENOENT;
	rc = chpox_park_release(s->park);
	s->park = NULL;
	r.pause_ns = ktime_get_ns() - s->first_ns;
	if (copy_to_user(arg, &r, sizeof(r)))
		return -EFAULT;
	return rc;
}

static long do_hold(struct session *s, void __user *arg)
{
	struct chpox_hold h;
	int rc = chpox_get_arg(&h, arg, sizeof(h));

	if (rc)
		return rc;
	if (!h.hold_ms || h.hold_ms > CHPOX_HOLD_MAX_MS)
		return -EINVAL;
	return s->park ? chpox_park_renew(s->park, h.hold_ms) : -ENOENT;
}

static long do_again(struct session *s, void __user *arg)
{
	struct chpox_again a;
	int rc = chpox_get_arg(&a, arg, sizeof(a));

	if (rc)
		return rc;
	if (a.flags & ~CHPOX_AGAIN_ARG || a.arg > 5)
		return -EINVAL;
	return s->park ? chpox_park_again(s->park, &a) : -ENOENT;
}

static long do_fence(struct session *s, void __user *arg)
{
	return chpox_fence_call(&s->guard, s->roots, s->nroots, arg);
}

/* --- the descriptor ------------------------------------------------------------------------
 */

static int session_open(struct inode *inode, struct file *file)
{
	struct session *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);

	if (!s)
		return -ENOMEM;
	mutex_init(&s->lock);
	file->private_data = s;
	atomic_inc(&count);
	return stream_open(inode, file);
}

static int session_release(struct inode *inode, struct file *file)
{
	struct session *s = file->private_data;

	forget_dump(s);
	chpox_fence_leave(s->guard);
	for (unsigned int i = 0; i < s->nroots; i++)
		put_pid(s->roots[i].pid);
	kfree(s);
	atomic_dec(&count);
	return 0;
}

static ssize_t session_read(struct file *file, char __user *buf, size_t bytes, loff_t *pos)
{
	struct session *s = file->private_data;

	if (mutex_lock_interruptible(&s->lock))
		return -ERESTARTSYS;
	bytes = min(bytes, s->nrecords - s->read);
	if (bytes && copy_to_user(buf, s->records + s->read, bytes)) {
		mutex_unlock(&s->lock);
		return -EFAULT;
	}
	s->read += bytes;
	mutex_unlock(&s->lock);
	return bytes;
}

static long session_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	static const struct {
		unsigned int cmd;
		long (*call)(struct session *s, void __user *arg);
	} calls[] = {
		{ CHPOX_IOC_INFO, do_info },   { CHPOX_IOC_ADD, do_add },
		{ CHPOX_IOC_DUMP, do_dump },   { CHPOX_IOC_RELEASE, do_release },
		{ CHPOX_IOC_SNAP, do_snap },   { CHPOX_IOC_HOLD, do_hold },
		{ CHPOX_IOC_AGAIN, do_again }, { CHPOX_IOC_FENCE, do_fence },
	};
	struct session *s = file->private_data;
	long rc = -ENOTTY;

	if (mutex_lock_killable(&s->lock))
		return -EINTR;
	for (unsigned int i = 0; i < ARRAY_SIZE(calls); i++) {
		if (calls[i].cmd == cmd)
			rc = calls[i].call(s, (void __user *)arg);
	}
	mutex_unlock(&s->lock);
	return rc;
}

const struct file_operations chpox_session_ops = {
	.owner = THIS_MODULE,
	.open = session_open,
	.release = session_release,
	.read = session_read,
	.unlocked_ioctl = session_ioctl,
};
