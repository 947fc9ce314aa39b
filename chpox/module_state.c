/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * module_state.c - what the module tells of threads and processes, as the image records it.
 *
 * Numbers of threads in the kernel's records are those of our PID namespace.
 */
#include "module_engine.h"

#include <elf.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "../kernel/chpox_uapi.h"
#include "base/fd.h"
#include "base/proc_task.h"
#include "cap_sig.h"

#define USER_CODE 0x33 /* the code segment of 64-bit programs */

static int gone(pid_t tid, struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_GONE, "thread %d went away", tid);
}

static int no_memory(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "no memory for signals and timers");
}

static const struct cpx_mod_rec *thread_of(const struct cpx_cap *c,
					   const struct cpx_cap_thread *th)
{
	return cpx_mod_thread(&cpx_module_of(c)->records, th->t.tid);
}

static const struct cpx_mod_rec *process_of(const struct cpx_cap *c,
					    const struct cpx_cap_task *t)
{
	return cpx_mod_process(&cpx_module_of(c)->records, t->pid);
}

int cpx_module_judge(const struct cpx_mod_stream *s, struct cpx_err *err)
{
	const char *what = NULL;

	for (size_t i = 0; i < s->n; i++) {
		const struct cpx_mod_rec *r = &s->v[i];
		const struct chpox_rec_thread *t = r->body;
		const struct chpox_rec_timer *timer = r->body;

		if (r->type == CHPOX_REC_TIMER && timer->flags & CHPOX_TIMER_UNKNOWN)
			what = "has a timer whose remaining time the module cannot tell";
		if (r->type != CHPOX_REC_THREAD)
			continue;
		if (t->state == CHPOX_THREAD_TRACED)
			return cpx_err_set(err, CPX_E_PERM,
					   "process %d is being traced (strace, gdb?); end "
					   "that first",
					   r->pid);
		if (t->state == CHPOX_THREAD_VFORK)
			what = "waits in vfork() for its child";
		if (t->seccomp)
			what = "has seccomp filters, which the module does not read";
		if (t->flags & CHPOX_THREAD_MEM_POLICY)
			what = "has a memory policy, which the module does not tell";
		if (t->flags & CHPOX_THREAD_DISPATCH)
			what = "handles system calls itself (PR_SET_SYSCALL_USER_DISPATCH)";
		if (t->flags & CHPOX_THREAD_SEM_UNDO)
			what = "has SysV semaphores to undo, which the module does not tell";
		if (what)
			return cpx_err_set(err, CPX_E_UNSUPPORTED, "process %d %s", r->pid,
					   what);
	}
	return 0;
}

/* --- registers -----------------------------------------------------------------------------
 */

/* In a restartable sequence a thread goes on at the abort handler, as after any preemption. */
static void leave_rseq(struct cpx_tracee *t, uint64_t rseq)
{
	struct {
		uint32_t version, flags;
		uint64_t start, len, abort;
	} cs;
	uint64_t ptr;

	if (!rseq || cpx_tracee_read(t, rseq + 8, &ptr, sizeof(ptr), NULL) < 0 || !ptr ||
	    cpx_tracee_read(t, ptr, &cs, sizeof(cs), NULL) < 0 ||
	    t->regs.rip - cs.start >= cs.len)
		return;
	t->regs.rip = cs.abort;
	t->regs.orig_rax = (uint64_t)-1;
}

int cpx_module_registers(struct cpx_cap *c, struct cpx_cap_thread *th, struct cpx_err *err)
{
	const struct cpx_mod_stream *s = &cpx_module_of(c)->records;
	const struct cpx_mod_rec *r = thread_of(c, th);
	const struct chpox_rec_thread *t;
	const void *regs, *xstate;
	size_t len;

	if (!r)
		return gone(th->t.tid, err);
	t = r->body;
	if (t->machine != EM_X86_64 ||
	    cpx_mod_regset(s, r, NT_PRSTATUS, &regs) != sizeof(th->t.regs))
		return cpx_err_set(err, CPX_E_UNSUPPORTED, "thread %d runs 32-bit code",
				   th->t.tid);
	memcpy(&th->t.regs, regs, sizeof(th->t.regs));
	if (th->t.regs.cs != USER_CODE)
		return cpx_err_set(err, CPX_E_UNSUPPORTED, "thread %d runs 32-bit code",
				   th->t.tid);
	len = cpx_mod_regset(s, r, NT_X86_XSTATE, &xstate);
	if (!len || len > CPX_XSTATE_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "extended state of thread %d", th->t.tid);
	th->t.xstate = malloc(len);
	if (!th->t.xstate)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for registers");
	memcpy(th->t.xstate, xstate, len);
	th->t.xstate_len = len;
	th->t.sigmask = t->flags & CHPOX_THREAD_RESTORE_MASK ? t->saved_mask : t->blocked;
	leave_rseq(&th->t, t->rseq);
	th->t.saved = true;
	return 0;
}

bool cpx_module_time_left(const struct cpx_cap *c, const struct cpx_cap_thread *th, int64_t *ns)
{
	const struct cpx_mod_rec *r = thread_of(c, th);
	const struct chpox_rec_restart *restart;

	r = r ? cpx_mod_next(&cpx_module_of(c)->records, r, CHPOX_REC_RESTART) : NULL;
	restart = r ? r->body : NULL;
	if (!restart || restart->kind == CHPOX_RESTART_OTHER)
		return false;
	*ns = restart->remaining;
	return true;
}

/* --- threads, processes --------------------------------------------------------------------
 */

/* As sigaltstack() says it. */
static uint32_t altstack_flags(const struct chpox_rec_thread *t, uint64_t sp)
{
	uint32_t flags = t->altstack_flags;

	if (!t->altstack_size)
		return flags | SS_DISABLE;
	if (!(flags & (1u << 31)) && sp > t->altstack_sp &&
	    sp - t->altstack_sp <= t->altstack_size)
		flags |= SS_ONSTACK;
	return flags;
}

int cpx_module_thread(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
		      struct cpx_err *err)
{
	const struct cpx_mod_rec *r = thread_of(c, th);
	const struct chpox_rec_thread *of;
	struct cpx_rec_thread *rec = th->rec;

	(void)t;
	if (!r)
		return gone(th->t.tid, err);
	of = r->body;
	rec->altstack_sp = of->altstack_sp;
	rec->altstack_size = of->altstack_size;
	rec->altstack_flags = altstack_flags(of, th->t.regs.rsp);
	rec->clear_tid = of->clear_child_tid;
	rec->rseq_addr = of->rseq;
	rec->rseq_size = of->rseq_size;
	rec->rseq_sig = of->rseq_sig;
	rec->pdeathsig = (uint32_t)of->pdeath_signal;
	rec->securebits = of->securebits;
	rec->tsc_mode = of->tsc_mode;
	rec->mce_kill = of->mce_kill;
	return 0;
}

int cpx_module_process(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	const struct cpx_mod_rec *r = process_of(c, t);
	const struct chpox_rec_process *of;

	if (!r)
		return gone(t->pid, err);
	of = r->body;
	t->rec->dumpable = of->dumpable;
	t->rec->subreaper = of->subreaper != 0;
	t->rec->mdwe = of->mdwe;
	t->rec->continued = of->continued && t->rec->ppid;
	if (t->mm_of == t) {
		t->rec->membarrier = of->membarrier;
		t->rec->memory_merge = of->memory_merge;
	}
	return 0;
}

int cpx_module_space(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_rec_mm *rec,
		     bool locked, struct cpx_err *err)
{
	const struct cpx_mod_rec *r = process_of(c, t);
	const struct chpox_rec_process *of;

	(void)locked;
	if (!r)
		return gone(t->pid, err);
	of = r->body;
	rec->brk = of->brk;
	if (of->lock_future)
		rec->mlock_future = of->lock_future & MCL_ONFAULT ? 2 : 1;
	return 0;
}

/* --- signals and timers --------------------------------------------------------------------
 */

static int put_actions(struct cpx_cap *c, struct cpx_cap_task *t,
		       const struct chpox_rec_action *act, struct cpx_err *err)
{
	for (uint32_t sig = 1; sig <= CPX_SIGNALS; sig++, act++) {
		struct cpx_rec_sigaction *rec;

		if (sig == SIGKILL || sig == SIGSTOP ||
		    (!act->handler && !act->flags && !act->mask))
			continue;
		rec = cpx_state_new_rec(c->st, sigaction);
		if (!rec)
			return no_memory(err);
		rec->sighand_id = t->rec->sighand_id;
		rec->sig = sig;
		rec->handler = act->handler;
		rec->flags = act->flags;
		rec->restorer = act->restorer;
		rec->mask = act->mask;
	}
	return 0;
}

/* Is the signal of this timer (@id) or of ITIMER_REAL (-1) in the queue of @t or a thread? */
static bool went_off(const struct cpx_cap *c, const struct cpx_cap_task *t, int32_t id)
{
	cpx_state_each(c->st, sigpending, p) {
		union cpx_siginfo info;

		if (p->pid != t->rec->pid)
			continue;
		memcpy(&info, p->info.p, sizeof(info));
		if (id < 0 ? info.timer.signo == SIGALRM && info.timer.code == SI_KERNEL
			   : info.timer.code == SI_TIMER && info.timer.timer_id == id)
			return true;
	}
	return false;
}

static int put_itimer(struct cpx_cap *c, struct cpx_cap_task *t,
		      const struct chpox_rec_itimer *of, struct cpx_err *err)
{
	struct cpx_rec_itimer *rec = cpx_state_new_rec(c->st, itimer);

	if (!rec)
		return no_memory(err);
	rec->pid = t->rec->pid;
	rec->which = of->which;
	rec->interval_us = (uint64_t)of->interval / 1000;
	rec->value_us = (uint64_t)(of->remaining + 999) / 1000;
	if (of->which == ITIMER_REAL && !of->interval && went_off(c, t, -1))
		rec->value_us = 0;
	return 0;
}

static int put_timer(struct cpx_cap *c, struct cpx_cap_task *t,
		     const struct chpox_rec_timer *of, struct cpx_err *err)
{
	struct cpx_rec_ptimer *rec = cpx_state_new_rec(c->st, ptimer);

	if (!rec)
		return no_memory(err);
	rec->pid = t->rec->pid;
	rec->id = (uint32_t)of->id;
	rec->clock = of->clock;
	rec->signo = (uint32_t)of->signo;
	rec->notify = (uint32_t)of->notify;
	rec->sigval = of->value;
	rec->interval_ns = (uint64_t)of->interval;
	rec->overrun = of->overrun > 0 ? (uint32_t)of->overrun : 0;
	for (size_t i = 0; of->tid && i < t->nthreads; i++)
		if (t->threads[i].t.tid == of->tid)
			rec->tid = (uint32_t)t->threads[i].ns_tid;
	/* it ticked on in the stop: it runs or it has gone off, never neither or both */
	if (of->flags & CHPOX_TIMER_ARMED && (of->interval || !went_off(c, t, of->id)))
		rec->value_ns = (uint64_t)of->remaining;
	return 0;
}

static int by_timer_id(const void *a, const void *b)
{
	const struct chpox_rec_timer *const *x = a, *const *y = b;

	return x[0]->id < y[0]->id ? -1 : x[0]->id > y[0]->id;
}

/* In the order of their ids: so they are made again. */
static int put_timers(struct cpx_cap *c, struct cpx_cap_task *t, const struct cpx_mod_rec *p,
		      struct cpx_err *err)
{
	const struct cpx_mod_stream *all = &cpx_module_of(c)->records;
	CPX_AUTO_FREE const struct chpox_rec_timer **list = NULL;
	const struct cpx_mod_rec *r = p;
	size_t n = 0, i = 0;
	int rc = 0;

	while ((r = cpx_mod_next(all, r, CHPOX_REC_TIMER)))
		n++;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return no_memory(err);
	for (r = p; (r = cpx_mod_next(all, r, CHPOX_REC_TIMER));)
		list[i++] = r->body;
	qsort(list, n, sizeof(*list), by_timer_id);
	for (i = 0; i < n && rc == 0; i++)
		rc = put_timer(c, t, list[i], err);
	return rc;
}

/* @pending: the whole set; a signal of it without siginfo is made up. */
static int put_queue(struct cpx_cap *c, struct cpx_cap_task *t, const struct cpx_mod_rec *of,
		     uint32_t tid, uint64_t pending, struct cpx_err *err)
{
	const struct cpx_mod_rec *r = of;
	int rc = 0;

	while (rc == 0 &&
	       (r = cpx_mod_next(&cpx_module_of(c)->records, r, CHPOX_REC_SIGINFO))) {
		union cpx_siginfo info;

		memcpy(&info, r->body, sizeof(info));
		if (info.timer.signo >= 1 && info.timer.signo <= CPX_SIGNALS)
			pending &= ~(1ull << (info.timer.signo - 1));
		rc = cpx_sig_add_pending(c, t, tid, &info, err);
	}
	for (int sig = 1; sig <= CPX_SIGNALS && rc == 0; sig++) {
		union cpx_siginfo made = { .timer = { .signo = sig } };

		if (pending >> (sig - 1) & 1 && sig != SIGKILL)
			rc = cpx_sig_add_pending(c, t, tid, &made, err);
	}
	return rc;
}

static int put_queues(struct cpx_cap *c, struct cpx_cap_task *t, const struct cpx_mod_rec *p,
		      struct cpx_err *err)
{
	const struct chpox_rec_process *process = p->body;
	int rc = put_queue(c, t, p, 0, process->pending, err);

	for (size_t i = 0; i < t->nthreads && rc == 0; i++) {
		const struct cpx_mod_rec *r = thread_of(c, &t->threads[i]);
		const struct chpox_rec_thread *thread = r ? r->body : NULL;

		rc = r ? put_queue(c, t, r, (uint32_t)t->threads[i].ns_tid, thread->pending,
				   err)
		       : gone(t->threads[i].t.tid, err);
	}
	return rc;
}

int cpx_module_signals(struct cpx_cap *c, struct cpx_cap_task *t,
		       const struct cpx_proc_status *s, struct cpx_err *err)
{
	const struct cpx_mod_stream *all = &cpx_module_of(c)->records;
	const struct cpx_mod_rec *p = process_of(c, t), *r;
	int rc;

	(void)s;
	if (!p)
		return gone(t->pid, err);
	rc = put_queues(c, t, p, err);
	r = t->sighand_of == t ? cpx_mod_next(all, p, CHPOX_REC_ACTIONS) : NULL;
	if (rc == 0 && r)
		rc = put_actions(c, t, r->body, err);
	for (r = p; rc == 0 && (r = cpx_mod_next(all, r, CHPOX_REC_ITIMER));)
		rc = put_itimer(c, t, r->body, err);
	return rc == 0 ? put_timers(c, t, p, err) : rc;
}
