/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ptrace_sig.c - signals and timers as the ptrace engine finds them.
 *
 * /proc tells which signals have an action and which timers exist, so only those are asked for
 * by calls in the main thread. Queued signals are peeked at by ptrace, in order.
 */
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "base/fd.h"
#include "base/proc_task.h"
#include "cap_sig.h"
#include "ptrace_engine.h"

#define PROC_TEXT_MAX (8u << 20)
#define NSIGNALS 64
#define PEEK_AT_ONCE 32
#define PENDING_MAX 100000
#define MANY_ACTIONS 12

/* struct sigaction as the kernel has it */
struct kaction {
	uint64_t handler, flags, restorer, mask;
};

static int code_of(const struct cpx_err *err)
{
	return err ? err->code : CPX_E_SYS;
}

static int no_memory(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "no memory for signals and timers");
}

/* A call of @nr with @a, @b and room for @len bytes of answer as argument number @arg. */
static int ask(struct cpx_cap_thread *th, long nr, unsigned arg, const uint64_t given[6],
	       void *answer, size_t len, int64_t *ret, struct cpx_err *err)
{
	uint64_t args[6], at;
	int rc;

	memcpy(args, given, sizeof(args));
	cpx_tracee_reset(&th->t);
	at = cpx_tracee_push(&th->t, NULL, len);
	if (!at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call in process %d",
				   th->t.pid);
	args[arg] = at;
	rc = cpx_tracee_call(&th->t, ret, nr, args, err);
	if (rc == 0 && *ret >= 0)
		rc = cpx_tracee_read(&th->t, at, answer, len, err);
	return rc;
}

/* --- actions -------------------------------------------------------------------------------
 */

static int capture_action(struct cpx_cap *c, struct cpx_cap_task *t, int sig,
			  struct cpx_err *err)
{
	struct cpx_rec_sigaction *rec;
	struct kaction act = { 0 };
	int64_t ret;
	int rc = ask(&t->threads[0], SYS_rt_sigaction, 2,
		     (const uint64_t[6]){ (uint64_t)sig, 0, 0, 8 }, &act, sizeof(act), &ret,
		     err);

	if (rc < 0)
		return rc;
	if (ret < 0)
		return cpx_err_sys(err, (int)-ret, "process %d: action of signal %d", t->pid,
				   sig);
	if (act.handler == 0 && act.flags == 0 && act.mask == 0)
		return 0;
	rec = cpx_state_new_rec(c->st, sigaction);
	if (!rec)
		return no_memory(err);
	rec->sighand_id = t->rec->sighand_id;
	rec->sig = (uint32_t)sig;
	rec->handler = act.handler;
	rec->flags = act.flags;
	rec->restorer = act.restorer;
	rec->mask = act.mask;
	return 0;
}

static int capture_actions(struct cpx_cap *c, struct cpx_cap_task *t,
			   const struct cpx_proc_status *s, struct cpx_err *err)
{
	/* SIGCHLD may have flags that matter (SA_NOCLDWAIT) with its default action */
	uint64_t sigs = s->sig_cgt | s->sig_ign | 1ull << (SIGCHLD - 1);
	int rc = 0;

	/* flags of default actions have no effect but can be asked for: who sets many, may ask
	 */
	if (__builtin_popcountll(s->sig_cgt | s->sig_ign) >= MANY_ACTIONS)
		sigs = ~(1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1));
	for (int sig = 1; sig <= NSIGNALS && rc == 0; sig++)
		if (sigs >> (sig - 1) & 1)
			rc = capture_action(c, t, sig, err);
	return rc;
}

/* --- queued signals --------------------------------------------------------------------------
 */

/* @mask: what /proc says is pending; signals without queue entry are made up from it. */
static int capture_queue(struct cpx_cap *c, struct cpx_cap_task *t, pid_t host_tid,
			 uint32_t tid, uint64_t mask, struct cpx_err *err)
{
	struct __ptrace_peeksiginfo_args args = { .nr = PEEK_AT_ONCE };
	union cpx_siginfo infos[PEEK_AT_ONCE];
	int rc = 0;

	args.flags = tid ? 0 : PTRACE_PEEKSIGINFO_SHARED;
	while (args.off < PENDING_MAX) {
		long n;

		memset(infos, 0, sizeof(infos));
		n = ptrace(PTRACE_PEEKSIGINFO, host_tid, &args, infos);
		if (n < 0)
			return cpx_err_sys(err, errno, "queued signals of thread %d", host_tid);
		for (long i = 0; i < n && rc == 0; i++) {
			int signo = infos[i].timer.signo;

			if (signo >= 1 && signo <= NSIGNALS)
				mask &= ~(1ull << (signo - 1));
			rc = cpx_sig_add_pending(c, t, tid, &infos[i], err);
		}
		if (rc < 0 || n < PEEK_AT_ONCE)
			break;
		args.off += (uint64_t)n;
	}
	for (int sig = 1; sig <= NSIGNALS && rc == 0; sig++) {
		union cpx_siginfo made = { .timer = { .signo = sig } };

		if (mask >> (sig - 1) & 1 && sig != SIGKILL)
			rc = cpx_sig_add_pending(c, t, tid, &made, err);
	}
	return rc;
}

/* --- timers ----------------------------------------------------------------------------------
 */

static int capture_itimers(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	for (uint64_t which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
		struct cpx_rec_itimer *rec;
		struct itimerval v = { 0 };
		int64_t ret;
		int rc = ask(&t->threads[0], SYS_getitimer, 1, (const uint64_t[6]){ which }, &v,
			     sizeof(v), &ret, err);

		if (rc < 0)
			return rc;
		if (ret < 0 || (!v.it_value.tv_sec && !v.it_value.tv_usec &&
				!v.it_interval.tv_sec && !v.it_interval.tv_usec))
			continue;
		rec = cpx_state_new_rec(c->st, itimer);
		if (!rec)
			return no_memory(err);
		rec->pid = t->rec->pid;
		rec->which = (uint32_t)which;
		rec->value_us = (uint64_t)(v.it_value.tv_sec * 1000000 + v.it_value.tv_usec);
		rec->interval_us =
			(uint64_t)(v.it_interval.tv_sec * 1000000 + v.it_interval.tv_usec);
	}
	return 0;
}

static uint64_t ns_of(const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec * 1000000000u + (uint64_t)ts->tv_nsec;
}

/* The thread's number as the job sees it, 0 where it is none of its own. */
static uint32_t inner_tid(const struct cpx_cap_task *t, pid_t host_tid)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->threads[i].t.tid == host_tid)
			return (uint32_t)t->threads[i].ns_tid;
	return 0;
}

static int capture_ptimer(struct cpx_cap *c, struct cpx_cap_task *t,
			  const struct cpx_proc_timer *pt, struct cpx_err *err)
{
	struct cpx_cap_thread *lead = &t->threads[0];
	struct cpx_rec_ptimer *rec;
	struct itimerspec v = { 0 };
	int64_t ret, overrun;
	int rc = ask(lead, SYS_timer_gettime, 1, (const uint64_t[6]){ pt->id }, &v, sizeof(v),
		     &ret, err);

	if (rc == 0)
		rc = cpx_tcall(&lead->t, &overrun, err, SYS_timer_getoverrun, pt->id);
	if (rc < 0)
		return rc;
	if (ret < 0)
		return cpx_err_sys(err, (int)-ret, "process %d: timer %u", t->pid, pt->id);
	rec = cpx_state_new_rec(c->st, ptimer);
	if (!rec)
		return no_memory(err);
	rec->pid = t->rec->pid;
	rec->id = pt->id;
	rec->clock = pt->clock;
	rec->signo = pt->signo;
	rec->notify = pt->notify;
	rec->tid = pt->notify & SIGEV_THREAD_ID ? inner_tid(t, pt->target) : 0;
	rec->sigval = pt->sigval;
	rec->value_ns = ns_of(&v.it_value);
	rec->interval_ns = ns_of(&v.it_interval);
	rec->overrun = overrun > 0 ? (uint32_t)overrun : 0;
	return 0;
}

static int capture_ptimers(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_proc_timer *list = NULL;
	CPX_AUTO_FREE char *text = NULL;
	int n, rc = 0;

	if (cpx_read_file(t->proc_fd, "timers", PROC_TEXT_MAX, &text, NULL) <= 0)
		return 0;
	n = cpx_proc_timers_parse(text, &list, err);
	for (int i = 0; i < n && rc == 0; i++)
		rc = capture_ptimer(c, t, &list[i], err);
	return n < 0 ? n : rc;
}

/*
 * Timers tick on while the job is parked, and a signal of one of them may be in the queue by
 * now: then what is left of the timer is asked for once more. So it is recorded as running or
 * as having fired, never as neither or both.
 */
static int settle_timers(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	struct cpx_cap_thread *lead = &t->threads[0];
	int64_t ret;

	cpx_state_each(c->st, sigpending, p) {
		union cpx_siginfo info;

		if (p->pid != t->rec->pid)
			continue;
		memcpy(&info, p->info.p, sizeof(info));
		cpx_state_each(c->st, itimer, i) {
			struct cpx_rec_itimer *rec = (struct cpx_rec_itimer *)i;
			struct itimerval v = { 0 };

			if (i->pid != p->pid || i->which != ITIMER_REAL ||
			    info.timer.signo != SIGALRM || info.timer.code != SI_KERNEL)
				continue;
			if (ask(lead, SYS_getitimer, 1, (const uint64_t[6]){ ITIMER_REAL }, &v,
				sizeof(v), &ret, err) < 0)
				return code_of(err);
			rec->value_us =
				(uint64_t)(v.it_value.tv_sec * 1000000 + v.it_value.tv_usec);
		}
		cpx_state_each(c->st, ptimer, q) {
			struct cpx_rec_ptimer *rec = (struct cpx_rec_ptimer *)q;
			struct itimerspec v = { 0 };

			if (q->pid != p->pid || info.timer.code != SI_TIMER ||
			    q->id != (uint32_t)info.timer.timer_id)
				continue;
			if (ask(lead, SYS_timer_gettime, 1, (const uint64_t[6]){ q->id }, &v,
				sizeof(v), &ret, err) < 0)
				return code_of(err);
			rec->value_ns = ns_of(&v.it_value);
		}
	}
	return 0;
}

/* --- all -----------------------------------------------------------------------------------
 */

int cpx_ptrace_signals(struct cpx_cap *c, struct cpx_cap_task *t,
		       const struct cpx_proc_status *s, struct cpx_err *err)
{
	int rc = t->sighand_of == t ? capture_actions(c, t, s, err) : 0;

	/* timers first: one that fires from now on is found in the queue */
	if (rc == 0)
		rc = capture_itimers(c, t, err);
	if (rc == 0)
		rc = capture_ptimers(c, t, err);
	if (rc == 0)
		rc = capture_queue(c, t, t->live, 0, s->shd_pnd, err);
	for (size_t i = 0; i < t->nthreads && rc == 0; i++)
		rc = capture_queue(c, t, t->threads[i].t.tid, (uint32_t)t->threads[i].ns_tid,
				   i == 0 ? s->sig_pnd : 0, err);
	return rc < 0 ? rc : settle_timers(c, t, err);
}
