/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_sig.c - signal actions, queued signals, timers, and calls in progress.
 *
 * Actions are set when nothing can send a signal any more because of the building itself (ended
 * helpers, zombies): what is pending then is flushed by ignoring it for a moment. Timers and
 * queued signals follow in the last stage, all signals blocked, each thread its own. A timer
 * whose signal is queued and that has an interval is armed so that it fires at once in its old
 * rhythm; queueing its signal as well would deliver it twice.
 */
#include "rst_call.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "../chpox/base/patch.h"
#include "../chpox/base/proc_task.h"

#define NSIGNALS 64
#define SIGINFO_SIZE 128
#define TIMER_ID_MAX 0x7fffffffu
#define TIMER_TRIES 65536
#define NS_MAX 9000000000000000000ull
#ifndef PR_TIMER_CREATE_RESTORE_IDS
#define PR_TIMER_CREATE_RESTORE_IDS 77
#endif

struct kaction { /* struct sigaction of the kernel */
	uint64_t handler, flags, restorer, mask;
};

struct info { /* the head of siginfo_t of a timer's signal */
	int32_t signo, error, code, pad, timer_id;
};

/* --- checks ----------------------------------------------------------------------------------
 */

static int check_signals(const struct cpx_state *st, struct cpx_err *err)
{
	cpx_state_each(st, sigaction, a)
		if (a->sig < 1 || a->sig > NSIGNALS)
			return cpx_err_set(err, CPX_E_FORMAT, "action of signal %u", a->sig);
	cpx_state_each(st, sigpending, p) {
		struct info info;

		if (p->info.n != SIGINFO_SIZE)
			return cpx_err_set(err, CPX_E_FORMAT, "queued signal is damaged");
		memcpy(&info, p->info.p, sizeof(info));
		if (info.signo < 1 || info.signo > NSIGNALS || info.signo == SIGKILL)
			return cpx_err_set(err, CPX_E_FORMAT, "queued signal %d", info.signo);
	}
	return 0;
}

static int sig_prepare(struct cpx_rst *r, void **priv, struct cpx_err *err)
{
	struct cpx_patches *p;
	int rc = check_signals(r->st, err);

	if (rc < 0)
		return rc;
	cpx_state_each(r->st, itimer, t)
		if (t->which > ITIMER_PROF || t->value_us > NS_MAX / 1000 ||
		    t->interval_us > NS_MAX / 1000)
			return cpx_err_set(err, CPX_E_FORMAT, "interval timer %u", t->which);
	cpx_state_each(r->st, ptimer, t)
		if (t->id > TIMER_ID_MAX || t->signo > NSIGNALS || t->value_ns > NS_MAX ||
		    t->interval_ns > NS_MAX)
			return cpx_err_set(err, CPX_E_FORMAT, "timer %u", t->id);
	p = calloc(1, sizeof(*p));
	if (!p)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for time-outs");
	*priv = p;
	return 0;
}

static void sig_end(struct cpx_rst *r, void *priv)
{
	(void)r;
	if (priv)
		cpx_patches_free(priv);
	free(priv);
}

static void sig_released(struct cpx_rst *r, void *priv)
{
	(void)r;
	cpx_patches_put_back(priv);
}

/* --- actions ---------------------------------------------------------------------------------
 */

static int set_action(struct cpx_tracee *t, uint32_t sig, const struct kaction *act,
		      struct cpx_err *err)
{
	uint64_t at;

	cpx_tracee_reset(t);
	at = cpx_tracee_push(t, act, sizeof(*act));
	if (!at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call");
	return cpx_tok(t, NULL, err, "signal action", SYS_rt_sigaction, sig, at, 0, 8);
}

/* What is pending for the process and its threads by our own doing. */
static uint64_t strays(const struct cpx_rst_task *t)
{
	uint64_t all = 0;

	for (size_t i = 0; i < t->nthreads; i++) {
		struct cpx_proc_status s;
		CPX_AUTO_FREE char *text = NULL;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/task/%d/status", t->pid,
			 t->threads[i].t.tid);
		if (cpx_read_file(AT_FDCWD, path, 1 << 20, &text, NULL) < 0 ||
		    cpx_proc_status_parse(text, &s, NULL) < 0)
			continue;
		all |= s.shd_pnd | s.sig_pnd;
		cpx_proc_status_free(&s);
	}
	return all & ~(1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1));
}

static int sig_late(struct cpx_rst *r, void *priv, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_tracee *lead = &t->threads[0].t;
	const struct kaction ignore = { .handler = (uintptr_t)SIG_IGN }, dfl = { 0 };
	uint64_t pending = strays(t);
	int rc = 0;

	(void)priv;
	for (uint32_t sig = 1; sig <= NSIGNALS && rc == 0; sig++) {
		if (!(pending >> (sig - 1) & 1))
			continue;
		rc = set_action(lead, sig, &ignore, err);
		if (rc == 0)
			rc = set_action(lead, sig, &dfl, err);
	}
	cpx_state_each(r->st, sigaction, a) {
		const struct kaction act = { a->handler, a->flags, a->restorer, a->mask };

		if (rc == 0 && a->sighand_id == t->rec->sighand_id && a->sig != SIGKILL &&
		    a->sig != SIGSTOP && (t->sighand_of == t || pending))
			rc = set_action(lead, a->sig, &act, err);
	}
	return rc;
}

/* --- queued signals
 * ----------------------------------------------------------------------------- */

static const struct cpx_rec_ptimer *timer_of(const struct cpx_rst *r, uint32_t pid, uint32_t id)
{
	cpx_state_each(r->st, ptimer, t)
		if (t->pid == pid && t->id == id)
			return t;
	return NULL;
}

/* Will the timer itself send this signal again? */
static bool sent_by_timer(const struct cpx_rst *r, const struct cpx_rec_sigpending *p)
{
	const struct cpx_rec_ptimer *t;
	struct info info;

	memcpy(&info, p->info.p, sizeof(info));
	if (info.code != SI_TIMER)
		return false;
	t = timer_of(r, p->pid, (uint32_t)info.timer_id);
	return t && t->interval_ns && t->value_ns && t->signo == (uint32_t)info.signo;
}

static int queue_signals(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_rst_thread *th,
			 uint32_t tid, struct cpx_err *err)
{
	int rc = 0;

	cpx_state_each(r->st, sigpending, p) {
		struct info info;
		uint64_t at;

		if (rc < 0 || p->pid != t->rec->pid || p->tid != tid || sent_by_timer(r, p))
			continue;
		memcpy(&info, p->info.p, sizeof(info));
		cpx_tracee_reset(&th->t);
		at = cpx_tracee_push(&th->t, p->info.p, SIGINFO_SIZE);
		if (!at)
			return cpx_err_set(err, CPX_E_SYS, "no room for a call");
		if (tid)
			rc = cpx_tok(&th->t, NULL, err, "queue a signal", SYS_rt_tgsigqueueinfo,
				     p->pid, tid, (uint64_t)info.signo, at);
		else
			rc = cpx_tok(&th->t, NULL, err, "queue a signal", SYS_rt_sigqueueinfo,
				     p->pid, (uint64_t)info.signo, at);
	}
	return rc;
}

/* --- timers
 * ----------------------------------------------------------------------------------- */

static int set_itimers(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_tracee *lead = &t->threads[0].t;
	int rc = 0;

	cpx_state_each(r->st, itimer, i) {
		/* run down, its signal not taken yet: the kernel starts it again when that is
		 */
		uint64_t value = i->value_us || i->which != ITIMER_REAL ? i->value_us : 1;
		const struct itimerval v = {
			.it_value = { (time_t)(value / 1000000), (time_t)(value % 1000000) },
			.it_interval = { (time_t)(i->interval_us / 1000000),
					 (time_t)(i->interval_us % 1000000) },
		};
		uint64_t at;

		if (rc < 0 || i->pid != t->rec->pid)
			continue;
		cpx_tracee_reset(lead);
		at = cpx_tracee_push(lead, &v, sizeof(v));
		if (!at)
			return cpx_err_set(err, CPX_E_SYS, "no room for a call");
		rc = cpx_tok(lead, NULL, err, "interval timer", SYS_setitimer, i->which, at, 0);
	}
	return rc;
}

/* timer_create() with whatever id the kernel picks, or the one in *@id. */
static int create_any(struct cpx_tracee *t, const struct cpx_rec_ptimer *p, int32_t *id,
		      struct cpx_err *err)
{
	const struct {
		uint64_t value;
		int32_t signo, notify, tid;
		uint8_t pad[44];
	} ev = { p->sigval, (int32_t)p->signo, (int32_t)p->notify, (int32_t)p->tid, { 0 } };
	uint64_t at, id_at;
	int rc;

	cpx_tracee_reset(t);
	at = cpx_tracee_push(t, &ev, sizeof(ev));
	id_at = cpx_tracee_push(t, id, sizeof(*id));
	if (!at || !id_at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call");
	rc = cpx_tok(t, NULL, err, "timer", SYS_timer_create, (uint64_t)(int64_t)p->clock, at,
		     id_at);
	return rc < 0 ? rc : cpx_tracee_read(t, id_at, id, sizeof(*id), err);
}

/* Kernels without PR_TIMER_CREATE_RESTORE_IDS hand ids out in ascending order. */
static int create_as(struct cpx_tracee *t, const struct cpx_rec_ptimer *p, bool chosen,
		     struct cpx_err *err)
{
	for (int tries = 0; tries < TIMER_TRIES; tries++) {
		int32_t id = (int32_t)p->id;
		int rc = create_any(t, p, &id, err);

		if (rc < 0 || id == (int32_t)p->id)
			return rc;
		rc = cpx_tok(t, NULL, err, "timer", SYS_timer_delete, (uint64_t)id);
		if (rc < 0)
			return rc;
		if (chosen || id > (int32_t)p->id)
			break;
	}
	return cpx_err_set(err, CPX_E_UNSUPPORTED, "timer id %u cannot be had on this kernel",
			   p->id);
}

/* Its signal is queued: so its last expiry is past by what it has run of its period since. */
static int arm_past(struct cpx_tracee *t, const struct cpx_rec_ptimer *p, struct itimerspec *v,
		    struct cpx_err *err)
{
	uint64_t ran = p->interval_ns > p->value_ns ? p->interval_ns - p->value_ns : 0, at;
	struct timespec now;
	int64_t then;
	int rc;

	cpx_tracee_reset(t);
	at = cpx_tracee_push(t, NULL, sizeof(now));
	if (!at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call");
	rc = cpx_tok(t, NULL, err, "clock", SYS_clock_gettime, (uint64_t)(int64_t)p->clock, at);
	if (rc == 0)
		rc = cpx_tracee_read(t, at, &now, sizeof(now), err);
	if (rc < 0)
		return rc;
	then = now.tv_sec * 1000000000ll + now.tv_nsec - (int64_t)ran;
	if (then < 1)
		then = 1;
	v->it_value = (struct timespec){ then / 1000000000, then % 1000000000 };
	return 0;
}

static bool signal_queued(const struct cpx_rst *r, const struct cpx_rec_ptimer *t)
{
	cpx_state_each(r->st, sigpending, p) {
		struct info info;

		memcpy(&info, p->info.p, sizeof(info));
		if (p->pid == t->pid && info.code == SI_TIMER &&
		    (uint32_t)info.timer_id == t->id && sent_by_timer(r, p))
			return true;
	}
	return false;
}

static int arm(struct cpx_rst *r, struct cpx_tracee *t, const struct cpx_rec_ptimer *p,
	       struct cpx_err *err)
{
	struct itimerspec v = {
		.it_value = { (time_t)(p->value_ns / 1000000000),
			      (long)(p->value_ns % 1000000000) },
		.it_interval = { (time_t)(p->interval_ns / 1000000000),
				 (long)(p->interval_ns % 1000000000) },
	};
	uint64_t flags = 0, at;
	int rc = 0;

	if (p->value_ns && signal_queued(r, p)) {
		flags = TIMER_ABSTIME;
		rc = arm_past(t, p, &v, err);
	}
	if (rc < 0 || (!p->value_ns && !p->interval_ns))
		return rc;
	cpx_tracee_reset(t);
	at = cpx_tracee_push(t, &v, sizeof(v));
	if (!at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call");
	return cpx_tok(t, NULL, err, "arm a timer", SYS_timer_settime, p->id, flags, at, 0);
}

static int set_ptimers(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_tracee *lead = &t->threads[0].t;
	bool chosen = false, any = false;
	int64_t ret;
	int rc = 0;

	cpx_state_each(r->st, ptimer, p) {
		if (rc < 0 || p->pid != t->rec->pid)
			continue;
		if (!any) {
			rc = cpx_tcall(lead, &ret, err, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS,
				       1);
			chosen = rc == 0 && ret == 0;
			any = true;
		}
		if (rc == 0)
			rc = create_as(lead, p, chosen, err);
		if (rc == 0)
			rc = arm(r, lead, p, err);
	}
	if (rc == 0 && chosen)
		rc = cpx_tcall(lead, NULL, err, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS, 0);
	return rc;
}

/* --- the last stage
 * ------------------------------------------------------------------------------ */

static int sig_thread(struct cpx_rst *r, void *priv, struct cpx_rst_task *t,
		      struct cpx_rst_thread *th, struct cpx_err *err)
{
	int rc = 0;

	if (th == &t->threads[0]) {
		rc = set_itimers(r, t, err);
		if (rc == 0)
			rc = set_ptimers(r, t, err);
		if (rc == 0)
			rc = queue_signals(r, t, th, 0, err);
	}
	if (rc == 0)
		rc = queue_signals(r, t, th, th->rec->tid, err);
	return rc < 0 ? rc : cpx_rst_resume(t, th, priv, err);
}

const struct cpx_rst_family cpx_rst_sig = {
	.name = "sig",
	.prepare = sig_prepare,
	.late = sig_late,
	.thread = sig_thread,
	.end = sig_end,
	.released = sig_released,
};
