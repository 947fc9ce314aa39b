// SPDX-License-Identifier: GPL-2.0
/*
 * chpox_snap.c - frozen copies of address spaces, made by the kernel's own fork.
 *
 * Happy path: a kernel thread, ready before the pause, takes on the address space of a parked
 * process and forks without sharing it. The child, the holder, keeps its copy and sleeps; it
 * never runs in user mode and is nobody's child that could be waited for. The pause ends when
 * the forks are done; whether each holder has begun to run is waited for after it.
 *
 * A snapshot ends when its last user (session or descriptor) lets go: the memory is dropped
 * and the holder ends. A holder that is killed, as happens first when memory gets short
 * (its score says so), takes the memory along; reading then fails with EIO.
 *
 * Memory that a fork leaves out or empties (DONTFORK, WIPEONFORK) is in the snapshot: the
 * marks are taken off while the page tables are copied, and put back before the tree goes on.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/freezer.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>
#include <linux/mmu_context.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "chpox.h"
#include "chpox_symbols.h"

#define HIDDEN (VM_DONTCOPY | VM_WIPEONFORK)
#define HIDDEN_MAX 4096

struct chpox_maker {
	struct task_struct *thread;
	struct completion go, done;
	struct chpox_space *spaces;
	struct chpox_snap **snaps;
	unsigned int n;
};

/* A mapping whose marks are to come back. */
struct hidden {
	unsigned long start;
	unsigned long flags;
};

static atomic_t count;

unsigned int chpox_snap_count(void)
{
	return atomic_read(&count);
}

/* --- life of a snapshot --------------------------------------------------------------------
 */

static void snap_put(struct chpox_snap *snap)
{
	if (!refcount_dec_and_test(&snap->ref))
		return;
	if (snap->holder)
		put_task_struct(snap->holder);
	put_pid(snap->pid);
	kfree(snap);
	atomic_dec(&count);
}

static void lose_memory(struct chpox_snap *snap)
{
	struct mm_struct *mm;

	spin_lock(&snap->lock);
	mm = snap->mm;
	snap->mm = NULL;
	spin_unlock(&snap->lock);
	if (mm)
		mmput(mm);
}

struct mm_struct *chpox_snap_mm(struct chpox_snap *snap)
{
	struct mm_struct *mm;

	spin_lock(&snap->lock);
	mm = snap->mm;
	if (mm)
		mmget(mm);
	spin_unlock(&snap->lock);
	return mm;
}

void chpox_snap_drop(struct chpox_snap *snap)
{
	if (!snap || !refcount_dec_and_test(&snap->users))
		return;
	WRITE_ONCE(snap->dropped, true);
	wake_up_all(&snap->wq);
	lose_memory(snap);
	snap_put(snap);
}

static struct chpox_snap *snap_new(struct pid *pid)
{
	struct chpox_snap *snap = kzalloc(sizeof(*snap), GFP_KERNEL_ACCOUNT);

	if (!snap)
		return NULL;
	refcount_set(&snap->users, 1);
	refcount_set(&snap->ref, 1);
	spin_lock_init(&snap->lock);
	init_completion(&snap->ready);
	init_waitqueue_head(&snap->wq);
	snap->pid = get_pid(pid);
	atomic_inc(&count);
	return snap;
}

/* --- the holder ----------------------------------------------------------------------------
 */

static int hold(void *arg)
{
	struct chpox_snap *snap = arg;
	DEFINE_WAIT(wait);

	current->signal->oom_score_adj = OOM_SCORE_ADJ_MAX;
	snap->holder = get_task_struct(current);
	mmget(current->mm);
	snap->mm = current->mm;
	complete(&snap->ready);
	for (;;) {
		prepare_to_wait(&snap->wq, &wait, TASK_KILLABLE | TASK_FREEZABLE);
		if (READ_ONCE(snap->dropped) || fatal_signal_pending(current))
			break;
		schedule();
	}
	finish_wait(&snap->wq, &wait);
	lose_memory(snap);
	snap_put(snap);
	/* it must not come to user mode */
	send_sig(SIGKILL, current, 1);
	module_put(THIS_MODULE);
	return 0;
}

/* --- copying -------------------------------------------------------------------------------
 */

static bool can_be_shown(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & HIDDEN) && !vma->vm_file && !vma->vm_ops &&
	       !(vma->vm_flags & (VM_IO | VM_PFNMAP | VM_MIXEDMAP | VM_SHARED));
}

/* Take the marks off. *@list: kvfree. Return: number of them, or an error. */
static int show_hidden(struct mm_struct *mm, struct hidden **list)
{
	VMA_ITERATOR(vmi, mm, 0);
	VMA_ITERATOR(again, mm, 0);
	struct vm_area_struct *vma;
	int n = 0, i = 0;

	*list = NULL;
	if (mmap_write_lock_killable(mm))
		return -EINTR;
	for_each_vma(vmi, vma)
		n += can_be_shown(vma);
	if (n > HIDDEN_MAX)
		n = -E2BIG;
	if (n > 0) {
		*list = kvcalloc(n, sizeof(**list), GFP_KERNEL_ACCOUNT);
		if (!*list)
			n = -ENOMEM;
	}
	if (n > 0) {
		for_each_vma(again, vma) {
			if (!can_be_shown(vma))
				continue;
			(*list)[i].start = vma->vm_start;
			(*list)[i++].flags = vma->vm_flags & HIDDEN;
			vm_flags_clear(vma, HIDDEN);
		}
	}
	mmap_write_unlock(mm);
	return n;
}

static void hide_again(struct mm_struct *mm, const struct hidden *list, int n)
{
	struct vm_area_struct *vma;

	if (n <= 0)
		return;
	mmap_write_lock(mm);
	for (int i = 0; i < n; i++) {
		vma = vma_lookup(mm, list[i].start);
		if (vma)
			vm_flags_set(vma, list[i].flags);
	}
	mmap_write_unlock(mm);
}

/* In the maker's thread. Page tables are charged to the job. */
static int copy(struct chpox_snap *snap, struct mm_struct *mm)
{
	struct kernel_clone_args args = {
		.flags = CLONE_UNTRACED | CLONE_FS,
		.exit_signal = SIGCHLD,
		.fn = hold,
		.fn_arg = snap,
	};
	struct mem_cgroup *group, *old;
	struct hidden *hidden;
	int n = show_hidden(mm, &hidden);
	pid_t pid;

	if (n < 0)
		return n;
	snap->unmarked = n;
	refcount_inc(&snap->ref);
	__module_get(THIS_MODULE);
	group = get_mem_cgroup_from_mm(mm);
	old = set_active_memcg(group);
	kthread_use_mm(mm);
	pid = static_call(chpox_kernel_clone)(&args);
	kthread_unuse_mm(mm);
	set_active_memcg(old);
	mem_cgroup_put(group);
	hide_again(mm, hidden, n);
	kvfree(hidden);
	if (pid >= 0)
		return 0;
	snap_put(snap);
	module_put(THIS_MODULE);
	return pid;
}

static int make(void *arg)
{
	struct chpox_maker *m = arg;

	/* kernel threads ignore all signals, and holders must be mortal */
	kernel_sigaction(SIGKILL, SIG_DFL);
	wait_for_completion(&m->go);
	for (unsigned int i = 0; i < m->n; i++) {
		m->snaps[i]->error = copy(m->snaps[i], m->spaces[i].mm);
		if (m->snaps[i]->error)
			complete(&m->snaps[i]->ready);
	}
	complete(&m->done);
	for (;;) {
		set_current_state(TASK_IDLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

struct chpox_maker *chpox_maker_start(void)
{
	struct chpox_maker *m;

	if (!(chpox_features() & CHPOX_F_SNAPSHOT))
		return ERR_PTR(-EOPNOTSUPP);
	m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);
	if (!m)
		return ERR_PTR(-ENOMEM);
	init_completion(&m->go);
	init_completion(&m->done);
	m->thread = kthread_run(make, m, "chpox_snapshot");
	if (IS_ERR(m->thread)) {
		int rc = PTR_ERR(m->thread);

		kfree(m);
		return ERR_PTR(rc);
	}
	get_task_struct(m->thread);
	return m;
}

int chpox_maker_run(struct chpox_maker *m, struct chpox_space *spaces, unsigned int n,
		    struct chpox_snap **snaps)
{
	int rc = 0;

	for (unsigned int i = 0; i < n; i++) {
		snaps[i] = snap_new(spaces[i].pid);
		if (!snaps[i])
			return -ENOMEM;
	}
	m->spaces = spaces;
	m->snaps = snaps;
	m->n = n;
	complete(&m->go);
	wait_for_completion(&m->done);
	for (unsigned int i = 0; i < n && !rc; i++)
		rc = snaps[i]->error;
	return rc;
}

void chpox_maker_stop(struct chpox_maker *m)
{
	if (IS_ERR_OR_NULL(m))
		return;
	complete(&m->go);
	for (unsigned int i = 0; i < m->n; i++)
		wait_for_completion(&m->snaps[i]->ready);
	kthread_stop(m->thread);
	put_task_struct(m->thread);
	kfree(m);
}

/* --- descriptors ---------------------------------------------------------------------------
 */

static ssize_t fd_read(struct file *file, char __user *buf, size_t bytes, loff_t *pos)
{
	return chpox_pages_read(file->private_data, buf, bytes, pos);
}

static long fd_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	if (cmd != CHPOX_IOC_RUNS)
		return -ENOTTY;
	return chpox_pages_runs(file->private_data, (void __user *)arg);
}

static int fd_release(struct inode *inode, struct file *file)
{
	chpox_snap_drop(file->private_data);
	return 0;
}

static const struct file_operations snap_ops = {
	.owner = THIS_MODULE,
	.read = fd_read,
	.unlocked_ioctl = fd_ioctl,
	.release = fd_release,
};

struct chpox_snap *chpox_snap_of(struct file *file)
{
	return file->f_op == &snap_ops ? file->private_data : NULL;
}

int chpox_snap_fd(struct chpox_snap *snap)
{
	int fd = get_unused_fd_flags(O_CLOEXEC);
	struct file *file;

	if (fd < 0)
		return fd;
	refcount_inc(&snap->users);
	file = anon_inode_getfile("[chpox-snapshot]", &snap_ops, snap, O_RDONLY);
	if (IS_ERR(file)) {
		chpox_snap_drop(snap);
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	file->f_mode |= FMODE_PREAD;
	fd_install(fd, file);
	return fd;
}
