// SPDX-License-Identifier: GPL-2.0
/*
 * chpox_state.c - the records of a parked tree: registers, and what only the kernel knows.
 *
 * All is read from the caller's thread while nobody of the tree runs. A thread that was
 * killed in the park is left out, as one that ended before.
 */
#include <linux/alarmtimer.h>
#include <linux/elf.h>
#include <linux/hash.h>
#include <linux/hrtimer.h>
#include <linux/kallsyms.h>
#include <linux/mman.h>
#include <linux/pid_namespace.h>
#include <linux/posix-timers.h>
#include <linux/prctl.h>
#include <linux/ptrace.h>
#include <linux/regset.h>
#include <linux/sched/coredump.h>
#include <linux/sched/jobctl.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/seccomp.h>
#include <linux/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <uapi/linux/membarrier.h>
#include <asm/syscall.h>

#include "chpox.h"

#define PAD 8

struct context {
	struct chpox_capture *cap;
	struct pid_namespace *ns;
	struct task_struct *leader;
	struct chpox_rec_clocks now;
};

/* --- the buffer ----------------------------------------------------------------------------
 */

static void *reserve(struct chpox_buf *b, size_t bytes)
{
	size_t room = max(b->room * 2, (size_t)256 << 10);
	void *to;

	if (b->error)
		return NULL;
	if (b->len + bytes > b->room) {
		while (room < b->len + bytes)
			room *= 2;
		to = room <= CHPOX_RECORDS_MAX ? kvmalloc(room, GFP_KERNEL_ACCOUNT) : NULL;
		if (!to) {
			b->error = room <= CHPOX_RECORDS_MAX ? -ENOMEM : -E2BIG;
			return NULL;
		}
		if (b->len)
			memcpy(to, b->data, b->len);
		kvfree(b->data);
		b->data = to;
		b->room = room;
	}
	to = b->data + b->len;
	memset(to, 0, bytes);
	b->len += bytes;
	return to;
}

/* A record with room for @bytes, all zero; NULL when there is no memory. */
static void *record(struct context *c, u32 type, const struct task_struct *t, size_t bytes)
{
	size_t total = sizeof(struct chpox_record) + ALIGN(bytes, PAD);
	struct chpox_record *rec = reserve(&c->cap->buf, total);

	if (!rec)
		return NULL;
	rec->type = type;
	rec->bytes = bytes;
	if (c->leader)
		rec->pid = task_tgid_nr_ns(c->leader, c->ns);
	if (t)
		rec->tid = task_pid_nr_ns((struct task_struct *)t, c->ns);
	return rec + 1;
}

/* --- signals -------------------------------------------------------------------------------
 */

/* As the kernel's own: the handler table may be exchanged by exec until it is locked. */
static struct sighand_struct *lock_signals(struct task_struct *t)
{
	struct sighand_struct *sighand;

	rcu_read_lock();
	for (;;) {
		sighand = rcu_dereference(t->sighand);
		if (!sighand)
			break;
		spin_lock_irq(&sighand->siglock);
		if (sighand == rcu_access_pointer(t->sighand))
			break;
		spin_unlock_irq(&sighand->siglock);
	}
	rcu_read_unlock();
	return sighand;
}

static void unlock_signals(struct sighand_struct *sighand)
{
	__acquire(&sighand->siglock); /* sparse cannot see that lock_signals() took it */
	spin_unlock_irq(&sighand->siglock);
}

static u64 set_of(const sigset_t *set)
{
	return set->sig[0];
}

static void put_actions(struct context *c)
{
	struct chpox_rec_action *to = record(c, CHPOX_REC_ACTIONS, NULL, sizeof(*to) * _NSIG);
	struct sighand_struct *sighand;

	if (!to)
		return;
	sighand = lock_signals(c->leader);
	if (!sighand)
		return;
	for (unsigned int i = 0; i < _NSIG; i++) {
		const struct sigaction *act = &sighand->action[i].sa;

		to[i].handler = (unsigned long)act->sa_handler;
		to[i].flags = act->sa_flags;
		to[i].restorer = (unsigned long)act->sa_restorer;
		to[i].mask = set_of(&act->sa_mask);
	}
	unlock_signals(sighand);
}

/*
 * Queued signals in order; @t NULL: those of the whole process. Memory cannot be had under
 * the lock, so they are counted first; nobody of the tree takes any, but somebody outside may
 * send one in between: it comes after the stop.
 */
static void put_queue(struct context *c, struct task_struct *t)
{
	struct task_struct *of = t ? t : c->leader;
	struct sigpending *pending = t ? &t->pending : &c->leader->signal->shared_pending;
	struct sighand_struct *sighand;
	unsigned int n = 0, room, i = 0;
	struct sigqueue *q;
	siginfo_t *infos;

	sighand = lock_signals(of);
	if (!sighand)
		return;
	list_for_each_entry(q, &pending->list, list)
		n++;
	unlock_signals(sighand);
	if (!n)
		return;
	room = n;
	infos = kvcalloc(room, sizeof(*infos), GFP_KERNEL_ACCOUNT);
	if (!infos) {
		c->cap->buf.error = -ENOMEM;
		return;
	}
	sighand = lock_signals(of);
	if (sighand) {
		list_for_each_entry(q, &pending->list, list) {
			if (i == room)
				break;
			copy_siginfo_to_external(&infos[i++], &q->info);
		}
		unlock_signals(sighand);
	}
	for (n = 0; n < i; n++) {
		void *to = record(c, CHPOX_REC_SIGINFO, t, sizeof(*infos));

		if (to)
			memcpy(to, &infos[n], sizeof(*infos));
	}
	kvfree(infos);
}

/* --- timers --------------------------------------------------------------------------------
 */

/* Remaining time of one that may have gone off and waits to be armed again. */
static s64 next_expiry(s64 remaining, s64 interval)
{
	s64 over;

	if (remaining > 0)
		return remaining;
	if (interval <= 0)
		return 1;
	div64_u64_rem(-remaining, interval, (u64 *)&over);
	return interval - over;
}

static void put_itimers(struct context *c)
{
	struct signal_struct *sig = c->leader->signal;
	const struct task_cputime_atomic *spent = &sig->cputimer.cputime_atomic;
	struct chpox_rec_itimer *to;
	s64 user = atomic64_read(&spent->utime);
	s64 both = user + atomic64_read(&spent->stime);
	s64 left;

	if (hrtimer_active(&sig->real_timer) || sig->it_real_incr) {
		left = ktime_to_ns(hrtimer_get_remaining(&sig->real_timer));
		to = record(c, CHPOX_REC_ITIMER, NULL, sizeof(*to));
		if (to) {
			to->which = ITIMER_REAL;
			to->interval = ktime_to_ns(sig->it_real_incr);
			to->remaining = next_expiry(left, to->interval);
		}
	}
	for (int which = ITIMER_VIRTUAL; which <= ITIMER_PROF; which++) {
		const struct cpu_itimer *it =
			&sig->it[which == ITIMER_PROF ? CPUCLOCK_PROF : CPUCLOCK_VIRT];

		if (!it->expires)
			continue;
		to = record(c, CHPOX_REC_ITIMER, NULL, sizeof(*to));
		if (!to)
			continue;
		to->which = which;
		to->interval = it->incr;
		to->remaining =
			max_t(s64, it->expires - (which == ITIMER_PROF ? both : user), 1);
	}
}

/* Timers on processor time: how much has been spent on the clock of @timer. -1: not known. */
static s64 spent(struct context *c, const struct k_itimer *timer)
{
	const struct task_cputime_atomic *all = &c->leader->signal->cputimer.cputime_atomic;
	u64 user = atomic64_read(&all->utime), system = atomic64_read(&all->stime);
	u64 ran = atomic64_read(&all->sum_exec_runtime);

	if (CPUCLOCK_PERTHREAD(timer->it_clock)) {
		const struct task_struct *t = pid_task(timer->it.cpu.pid, PIDTYPE_PID);

		if (!t)
			return -1;
		user = t->utime;
		system = t->stime;
		ran = t->se.sum_exec_runtime;
	}
	switch (CPUCLOCK_WHICH(timer->it_clock)) {
	case CPUCLOCK_PROF:
		return user + system;
	case CPUCLOCK_VIRT:
		return user;
	default:
		return ran;
	}
}

static void fill_cpu_timer(struct context *c, struct chpox_rec_timer *to,
			   const struct k_itimer *timer)
{
	u64 expires = timer->it.cpu.node.expires;
	s64 now = timer->it_clock < 0 ? spent(c, timer) : -1;

	if (now < 0)
		to->flags = CHPOX_TIMER_UNKNOWN;
	else if (expires)
		to->flags = CHPOX_TIMER_ARMED;
	if (to->flags == CHPOX_TIMER_ARMED)
		to->remaining = next_expiry(expires - now, to->interval);
}

static void fill_timer(struct context *c, struct chpox_rec_timer *to,
		       const struct k_itimer *timer)
{
	const struct kernel_siginfo *info = chpox_timer_info(timer);
	const struct hrtimer *hr = &timer->it.real.timer;
	s64 left = 0;

	to->id = timer->it_id;
	to->clock = timer->it_clock;
	to->notify = timer->it_sigev_notify;
	to->signo = info->si_signo;
	to->value = (unsigned long)info->si_value.sival_ptr;
	to->interval = ktime_to_ns(timer->it_interval);
	to->overrun = timer->it_overrun_last;
	if (timer->it_sigev_notify & SIGEV_THREAD_ID)
		to->tid = pid_nr_ns(timer->it_pid, c->ns);
	switch (timer->it_clock) {
	case CLOCK_REALTIME:
	case CLOCK_MONOTONIC:
	case CLOCK_BOOTTIME:
	case CLOCK_TAI:
		left = ktime_to_ns(hrtimer_get_remaining(hr));
		break;
	case CLOCK_REALTIME_ALARM:
	case CLOCK_BOOTTIME_ALARM:
		hr = &timer->it.alarm.alarmtimer.timer;
		left = ktime_to_ns(alarm_expires_remaining(&timer->it.alarm.alarmtimer));
		break;
	default:
		fill_cpu_timer(c, to, timer);
		return;
	}
	if (hrtimer_active(hr) || (chpox_timer_waits(timer) && to->interval)) {
		to->flags = CHPOX_TIMER_ARMED;
		to->remaining = next_expiry(left, to->interval);
	}
}

static void put_timers(struct context *c)
{
	struct chpox_rec_timer *list, *to;
	struct sighand_struct *sighand;
	struct k_itimer *timer;
	unsigned int n = 0, i = 0;

	sighand = lock_signals(c->leader);
	if (!sighand)
		return;
	chpox_for_each_timer(timer, c->leader->signal)
		n++;
	unlock_signals(sighand);
	if (!n)
		return;
	list = kvcalloc(n, sizeof(*list), GFP_KERNEL_ACCOUNT);
	if (!list) {
		c->cap->buf.error = -ENOMEM;
		return;
	}
	sighand = lock_signals(c->leader);
	if (sighand) {
		chpox_for_each_timer(timer, c->leader->signal) {
			if (i < n)
				fill_timer(c, &list[i++], timer);
		}
		unlock_signals(sighand);
	}
	for (n = 0; n < i; n++) {
		to = record(c, CHPOX_REC_TIMER, NULL, sizeof(*to));
		if (to)
			*to = list[n];
	}
	kvfree(list);
}

/* --- threads -------------------------------------------------------------------------------
 */

static void put_regsets(struct context *c, struct task_struct *t,
			const struct user_regset_view *view)
{
	for (unsigned int i = 0; i < view->n; i++) {
		const struct user_regset *set = &view->regsets[i];
		void *data = NULL;
		u32 *to;
		int n;

		if (!set->core_note_type || !set->regset_get)
			continue;
		if (set->active && set->active(t, set) <= 0)
			continue;
		n = regset_get_alloc(t, set, set->n * set->size, &data);
		if (n > 0) {
			to = record(c, CHPOX_REC_REGSET, t, 8 + n);
			if (to) {
				to[0] = set->core_note_type;
				memcpy(to + 2, data, n);
			}
		} else if (n != -ENODEV && n != -EOPNOTSUPP && n != 0) {
			c->cap->buf.error = n;
		}
		kvfree(data);
	}
}

static s64 clock_now(const struct context *c, int clock)
{
	switch (clock) {
	case CLOCK_REALTIME:
		return c->now.realtime;
	case CLOCK_BOOTTIME:
		return c->now.boottime;
	default:
		return c->now.monotonic;
	}
}

static void put_restart(struct context *c, struct task_struct *t)
{
	const struct restart_block *rb = &t->restart_block;
	struct chpox_rec_restart *to;

	if (task_pt_regs(t)->ax != -ERESTART_RESTARTBLOCK)
		return;
	to = record(c, CHPOX_REC_RESTART, t, sizeof(*to));
	if (!to)
		return;
	snprintf(to->name, sizeof(to->name), "%ps", rb->fn);
	to->clock = CLOCK_MONOTONIC;
	to->remaining = -1;
	if (!strcmp(to->name, "hrtimer_nanosleep_restart")) {
		to->kind = CHPOX_RESTART_NANOSLEEP;
		to->clock = rb->nanosleep.clockid;
		to->expires = rb->nanosleep.expires;
		to->address = (unsigned long)rb->nanosleep.rmtp;
	} else if (!strcmp(to->name, "futex_wait_restart")) {
		to->kind = CHPOX_RESTART_FUTEX;
		to->flags = rb->futex.flags;
		to->expires = rb->futex.time;
		to->address = (unsigned long)rb->futex.uaddr;
		to->value = rb->futex.val;
		to->bitset = rb->futex.bitset;
	} else if (!strcmp(to->name, "do_restart_poll")) {
		to->kind = CHPOX_RESTART_POLL;
		to->address = (unsigned long)rb->poll.ufds;
		to->value = rb->poll.nfds;
		if (rb->poll.has_timeout)
			to->expires = (s64)rb->poll.tv_sec * NSEC_PER_SEC + rb->poll.tv_nsec;
	}
	if (to->expires)
		to->remaining = max_t(s64, to->expires - clock_now(c, to->clock), 0);
}

static u32 state_of(const struct chpox_thread *th)
{
	if (READ_ONCE(th->state) == CHPOX_PARKED)
		return CHPOX_THREAD_PARKED;
	if (READ_ONCE(th->task->__state) & __TASK_TRACED)
		return CHPOX_THREAD_TRACED;
	return chpox_in_vfork(th->park, th->task) ? CHPOX_THREAD_VFORK : CHPOX_THREAD_STOPPED;
}

static void put_prctls(struct chpox_rec_thread *to, struct task_struct *t)
{
	rcu_read_lock();
	to->securebits = __task_cred(t)->securebits;
	rcu_read_unlock();
	to->tsc_mode = test_tsk_thread_flag(t, TIF_NOTSC) ? PR_TSC_SIGSEGV : PR_TSC_ENABLE;
	to->mce_kill = PR_MCE_KILL_DEFAULT;
	if (t->flags & PF_MCE_PROCESS)
		to->mce_kill = t->flags & PF_MCE_EARLY ? PR_MCE_KILL_EARLY : PR_MCE_KILL_LATE;
}

static void put_thread(struct context *c, struct chpox_thread *th)
{
	struct task_struct *t = th->task;
	const struct user_regset_view *view = task_user_regset_view(t);
	struct chpox_rec_thread *to = record(c, CHPOX_REC_THREAD, t, sizeof(*to));

	if (!to)
		return;
	to->state = state_of(th);
	if (to->state == CHPOX_THREAD_STOPPED || to->state == CHPOX_THREAD_TRACED)
		c->cap->seen |= CHPOX_SEEN_STOPPED;
	to->machine = view->e_machine;
	to->blocked = set_of(&t->blocked);
	to->pending = set_of(&t->pending.signal);
	if (test_tsk_restore_sigmask(t)) {
		to->flags |= CHPOX_THREAD_RESTORE_MASK;
		to->saved_mask = set_of(&t->saved_sigmask);
	}
	to->altstack_sp = t->sas_ss_sp;
	to->altstack_size = t->sas_ss_size;
	to->altstack_flags = t->sas_ss_flags;
	if (to->state == CHPOX_THREAD_STOPPED)
		to->stop_signal = t->jobctl & JOBCTL_STOP_SIGMASK;
	if (chpox_sem_undo(t))
		to->flags |= CHPOX_THREAD_SEM_UNDO;
	if (chpox_mem_policy(t))
		to->flags |= CHPOX_THREAD_MEM_POLICY;
	if (test_task_syscall_work(t, SYSCALL_USER_DISPATCH))
		to->flags |= CHPOX_THREAD_DISPATCH;
	to->pdeath_signal = t->pdeath_signal;
	to->clear_child_tid = (unsigned long)t->clear_child_tid;
	to->robust_list = chpox_robust_list(t);
	to->rseq = chpox_rseq(t, &to->rseq_sig, &to->rseq_size);
	to->seccomp = t->seccomp.mode;
	to->seccomp_filters = chpox_seccomp_filters(t);
	put_prctls(to, t);
	put_regsets(c, t, view);
	put_restart(c, t);
	put_queue(c, t);
	c->cap->threads++;
}

/* --- processes -----------------------------------------------------------------------------
 */

/* What copying this address space would meet. */
static int inspect(struct mm_struct *mm, u32 *seen)
{
	VMA_ITERATOR(vmi, mm, 0);
	struct vm_area_struct *vma;
	int rc = mmap_read_lock_killable(mm);

	if (rc)
		return rc;
	for_each_vma(vmi, vma) {
		if (chpox_monitor_hears_forks(vma))
			rc = -EOPNOTSUPP;
		if ((vma->vm_flags & (VM_SHARED | VM_WRITE)) == (VM_SHARED | VM_WRITE))
			*seen |= CHPOX_SEEN_SHARED;
	}
	mmap_read_unlock(mm);
	return rc;
}

/* Return: index of the address space of @leader, -1 when it has none, or an error below that.
 */
static int space_of(struct context *c, struct task_struct *leader)
{
	struct chpox_capture *cap = c->cap;
	struct mm_struct *mm = get_task_mm(leader);
	int rc;

	if (!mm)
		return -1;
	for (unsigned int i = 0; i < cap->nspaces; i++) {
		if (cap->spaces[i].mm == mm) {
			mmput(mm);
			return i;
		}
	}
	rc = inspect(mm, &cap->seen);
	if (rc) {
		mmput(mm);
		cap->buf.error = rc;
		return -1;
	}
	cap->spaces[cap->nspaces].mm = mm;
	cap->spaces[cap->nspaces].pid = get_task_pid(leader, PIDTYPE_TGID);
	return cap->nspaces++;
}

static void put_space(struct chpox_rec_process *to, struct mm_struct *mm)
{
	static const struct {
		u32 state, command;
	} barriers[] = {
		{ MEMBARRIER_STATE_GLOBAL_EXPEDITED, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED },
		{ MEMBARRIER_STATE_PRIVATE_EXPEDITED,
		  MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED },
		{ MEMBARRIER_STATE_PRIVATE_EXPEDITED_SYNC_CORE,
		  MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE },
		{ MEMBARRIER_STATE_PRIVATE_EXPEDITED_RSEQ,
		  MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ },
	};
	u32 state = atomic_read(&mm->membarrier_state);

	to->brk = mm->brk;
	to->dumpable = get_dumpable(mm);
	to->mdwe = chpox_mdwe(mm);
	to->memory_merge = chpox_merges(mm);
	for (unsigned int i = 0; i < ARRAY_SIZE(barriers); i++) {
		if (state & barriers[i].state)
			to->membarrier |= barriers[i].command;
	}
	if (mm->def_flags & VM_LOCKED)
		to->lock_future = MCL_FUTURE;
	if (mm->def_flags & VM_LOCKONFAULT)
		to->lock_future |= MCL_ONFAULT;
}

static void put_process(struct context *c, struct chpox_thread *first)
{
	struct chpox_rec_process *to;
	struct task_struct *leader = first->task->group_leader;
	int space;

	c->leader = leader;
	space = space_of(c, first->task);
	to = record(c, CHPOX_REC_PROCESS, NULL, sizeof(*to));
	if (!to)
		return;
	rcu_read_lock();
	to->ppid = task_tgid_nr_ns(rcu_dereference(leader->real_parent), c->ns);
	to->sighand = hash_ptr(rcu_access_pointer(first->task->sighand), 32);
	rcu_read_unlock();
	to->threads = get_nr_threads(leader);
	to->snapshot = space;
	to->subreaper = leader->signal->is_child_subreaper;
	to->continued = !!(leader->signal->flags & SIGNAL_STOP_CONTINUED);
	if (space >= 0)
		put_space(to, c->cap->spaces[space].mm);
	to->pending = set_of(&leader->signal->shared_pending.signal);
	put_actions(c);
	/* before the queue: one that goes off from now on is found there */
	put_itimers(c);
	put_timers(c);
	put_queue(c, NULL);
	c->cap->processes++;
}

static bool still_there(const struct chpox_thread *th)
{
	return READ_ONCE(th->state) != CHPOX_LEFT;
}

/* Threads of a process are together and its first comes first: the order of the lists. */
int chpox_capture(struct chpox_capture *cap, struct chpox_park *park)
{
	struct context c = { .cap = cap, .ns = task_active_pid_ns(current) };
	struct task_struct *leader = NULL;
	struct chpox_rec_clocks *clocks;
	struct chpox_thread *th;

	memset(cap, 0, sizeof(*cap));
	cap->spaces = kvcalloc(park->nthreads, sizeof(*cap->spaces), GFP_KERNEL_ACCOUNT);
	if (!cap->spaces)
		return -ENOMEM;
	c.now.realtime = ktime_get_real_ns();
	c.now.monotonic = ktime_get_ns();
	c.now.boottime = ktime_get_boottime_ns();
	clocks = record(&c, CHPOX_REC_CLOCKS, NULL, sizeof(*clocks));
	if (clocks)
		*clocks = c.now;
	chpox_each_thread(th, park) {
		if (!still_there(th))
			continue;
		if (th->task->group_leader != leader) {
			leader = th->task->group_leader;
			put_process(&c, th);
		}
		put_thread(&c, th);
	}
	c.leader = NULL;
	record(&c, CHPOX_REC_END, NULL, 0);
	if (!cap->buf.error && !cap->processes)
		return -ESRCH;
	return cap->buf.error;
}

void chpox_capture_free(struct chpox_capture *cap)
{
	for (unsigned int i = 0; i < cap->nspaces; i++) {
		mmput(cap->spaces[i].mm);
		put_pid(cap->spaces[i].pid);
	}
	kvfree(cap->spaces);
	kvfree(cap->buf.data);
	memset(cap, 0, sizeof(*cap));
}
