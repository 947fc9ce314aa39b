/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keepers: a copy of a job, its fence, its checkpoints. A freeze takes up to the stop time; a
 * machine that stood still runs its jobs before it runs the keeper (up to 100 ms).
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define WAKE_NS (100 * MSEC)

static void step_at(struct sim *s, struct machine *m, struct copy_of *c, enum copy_step step,
		    int64_t at)
{
	struct event *e = sim_post(s, at, EV_COPY, m->id);

	e->copy = (uint32_t)(c - m->copies);
	e->arg = step;
	e->tag = c->serial;
}

static void tell(struct sim *s, struct machine *m, const struct copy_of *c,
		 enum cpx_core_ev_kind kind, enum cpx_core_why why)
{
	struct event *e;

	if (!m->core)
		return;
	e = sim_post(s, s->now + 1, EV_TO_CORE, m->id);
	e->life = m->dlife;
	e->msg = calloc(1, sizeof(*e->msg));
	e->msg->ev = (struct cpx_core_event){ .kind = kind,
					      .job = c->job,
					      .epoch = c->epoch,
					      .lease = c->fence.lease,
					      .why = why };
}

/* Two at a time: is it within what docs/scheduler.md states? */
static void overlap(struct sim *s, uint32_t job)
{
	int64_t excuse = 0;
	uint32_t i, k;
	struct machine *at = NULL;
	struct copy_of *c, *of = NULL;

	if (s->truth[job].running < 2)
		return;
	for (i = 1; i <= s->nnodes; i++)
		for (k = 0; k < SIM_COPIES; k++) {
			c = &s->m[i].copies[k];
			if (c->used && c->job == job && c->exec && c->excuse > excuse) {
				excuse = c->excuse;
				at = &s->m[i];
				of = c;
			}
		}
	if (excuse <= s->now)
		sim_fail(s, "job %u: two copies run", job);
	else
		step_at(s, at, of, STEP_OVERLAP, excuse);
}

static void exec_is(struct sim *s, struct machine *m, struct copy_of *c)
{
	bool exec = c->used && c->runs && !m->paused && m->up;

	if (exec == c->exec)
		return;
	c->exec = exec;
	if (exec) {
		c->since = s->now;
		s->truth[c->job].running++;
		step_at(s, m, c, STEP_EXIT, s->now + s->truth[c->job].work - c->progress);
		overlap(s, c->job);
	} else {
		c->progress += s->now - c->since;
		s->truth[c->job].running--;
	}
}

static void fence(struct sim *s, struct machine *m, struct copy_of *c, enum cpx_fence_event ev,
		  uint64_t lease, int64_t deadline)
{
	int64_t clock = machine_clock(s, m);

	switch (cpx_fence_step(&c->fence, ev, lease, deadline, clock)) {
	case CPX_FENCE_FREEZE:
		sim_say(s, "node %u: job %u epoch %lu freezes", m->id, c->job, c->epoch);
		c->frozen_at = s->now + sim_between(s, 1, s->times.stop);
		step_at(s, m, c, STEP_FROZEN, c->frozen_at);
		break;
	case CPX_FENCE_THAW:
		sim_say(s, "node %u: job %u epoch %lu thaws", m->id, c->job, c->epoch);
		c->frozen_at = 0;
		c->runs = c->started && !c->exited;
		exec_is(s, m, c);
		break;
	case CPX_FENCE_END:
		c->dead = true;
		step_at(s, m, c, STEP_GONE, s->now + sim_between(s, MSEC, 300 * MSEC));
		break;
	case CPX_FENCE_NOTHING:
		break;
	}
	if (c->fence.state == CPX_FENCE_RUN && !m->stopped_clock)
		step_at(s, m, c, STEP_DEADLINE,
			s->now + (int64_t)((double)(c->fence.deadline - clock) / m->rate) + 1);
}

static struct copy_of *find(struct machine *m, uint32_t job, uint64_t epoch)
{
	uint32_t i;

	for (i = 0; i < SIM_COPIES; i++)
		if (m->copies[i].used && m->copies[i].job == job && m->copies[i].epoch == epoch)
			return &m->copies[i];
	return NULL;
}

static void start(struct sim *s, struct machine *m, const struct cpx_core_act *a)
{
	struct truth *t = &s->truth[a->job];
	struct copy_of *c = NULL;
	uint32_t i;

	for (i = 0; i < SIM_COPIES && !c; i++)
		if (!m->copies[i].used)
			c = &m->copies[i];
	if (!c || find(m, a->job, a->epoch)) {
		sim_fail(s, "job %u: started twice on node %u", a->job, m->id);
		return;
	}
	*c = (struct copy_of){ .used = true, .job = a->job, .epoch = a->epoch };
	c->serial = ++s->serial;
	c->excuse = m->excuse;
	c->fence = (struct cpx_fence){ .lease = a->lease, .deadline = a->deadline };
	c->progress = t->committed;
	if (s->now >= m->excuse &&
	    (a->rec.head_epoch != t->head_epoch || a->rec.head_seq != t->head_seq))
		sim_fail(s, "job %u: is started from another generation than the head", a->job);
	if (a->rec.skip) /* the head is no good: what it had more is lost, and that is said */
		c->progress = t->committed = t->before;
	if (s->bug == BUG_OLD_HEAD)
		c->progress = t->before;
	s->starts++;
	sim_say(s, "node %u: job %u epoch %lu is started", m->id, a->job, a->epoch);
	fence(s, m, c, CPX_FENCE_TIME, 0, 0);
	step_at(s, m, c, STEP_STARTED, s->now + sim_between(s, 50 * MSEC, 1500 * MSEC));
}

static void lease_is(struct sim *s, struct machine *m, const struct cpx_core_act *a)
{
	int64_t deadline = a->deadline;
	uint32_t i;

	if (s->bug == BUG_ANSWER_DEADLINE)
		deadline = cpx_fence_deadline(&s->times, machine_clock(s, m));
	for (i = 0; i < SIM_COPIES; i++)
		if (m->copies[i].used)
			fence(s, m, &m->copies[i],
			      s->bug == BUG_THAW ? CPX_FENCE_ADOPTED : CPX_FENCE_RENEWED,
			      a->lease, deadline);
}

void keeper_do(struct sim *s, struct machine *m, const struct cpx_core_act *a)
{
	struct copy_of *c;

	if (a->kind == CPX_ACT_START) {
		start(s, m, a);
		return;
	}
	if (a->kind == CPX_ACT_LEASE) {
		lease_is(s, m, a);
		return;
	}
	for (c = m->copies; c < m->copies + SIM_COPIES; c++)
		if (c->used && c->job == a->job &&
		    (a->kind == CPX_ACT_HOLD || c->epoch == a->epoch))
			break;
	if (c == m->copies + SIM_COPIES || (a->kind == CPX_ACT_KILL && s->bug == BUG_NO_KILL)) {
		struct copy_of none = { .job = a->job, .epoch = a->epoch };

		tell(s, m, &none, CPX_EV_ENDED, CPX_WHY_NONE);
		return;
	}
	switch (a->kind) {
	case CPX_ACT_ADOPT:
		fence(s, m, c, CPX_FENCE_ADOPTED, a->lease, a->deadline);
		break;
	case CPX_ACT_UNHOLD:
		c->holding = false;
		fence(s, m, c, CPX_FENCE_UNHOLD, a->lease, a->deadline);
		break;
	case CPX_ACT_HOLD:
		if (c->exited)
			break;
		c->holding = true;
		c->hold_seq = 0;
		c->commits_tried = 0;
		if (s->bug != BUG_NO_FREEZE)
			fence(s, m, c, CPX_FENCE_HOLD, 0, 0);
		if (!c->runs || s->bug == BUG_NO_FREEZE)
			step_at(s, m, c, STEP_CAPTURE, s->now);
		break;
	default:
		if (!c->dead)
			fence(s, m, c, CPX_FENCE_KILL, 0, 0);
		break;
	}
}

static void no_hold(struct sim *s, struct machine *m, struct copy_of *c)
{
	c->holding = false;
	tell(s, m, c, CPX_EV_NOT_HELD, CPX_WHY_NO_STOP);
	fence(s, m, c, CPX_FENCE_UNHOLD, c->fence.lease, c->fence.deadline);
}

static void capture(struct sim *s, struct machine *m, struct copy_of *c)
{
	int64_t now = c->progress + (c->exec ? s->now - c->since : 0);

	if (!c->holding)
		step_at(s, m, c, STEP_CAPTURE, s->now + sim_between(s, 3 * SEC, 15 * SEC));
	if (c->exited || (!c->exec && !c->holding))
		return;
	c->captured = now;
	c->seq++;
	c->hold_seq = c->holding ? c->seq : 0;
	step_at(s, m, c, STEP_STORED, s->now + sim_between(s, 50 * MSEC, 2 * SEC));
}

static void send_commit(struct sim *s, struct machine *m, struct copy_of *c)
{
	struct event *e;

	if (c->holding)
		step_at(s, m, c, STEP_COMMIT_LATE, s->now + SEC);
	if (m->cut || sim_lost(s))
		return;
	e = sim_post(s, s->now + sim_delay(s), EV_COMMIT, m->id);
	e->copy = (uint32_t)(c - m->copies);
	e->tag = c->serial;
	e->msg = calloc(1, sizeof(*e->msg));
	e->msg->req.rec =
		(struct cpx_core_rec){ .job = c->job, .epoch = c->epoch, .head_seq = c->seq };
	e->msg->ev.used_ms = (uint64_t)c->captured;
}

static void stored(struct sim *s, struct machine *m, struct copy_of *c)
{
	if (c->holding && c->hold_seq != c->seq)
		return; /* the last one follows */
	if (!s->store_down)
		send_commit(s, m, c);
	else if (c->holding)
		no_hold(s, m, c);
}

void keeper_committed(struct sim *s, const struct event *e)
{
	struct machine *m = &s->m[e->node];
	struct copy_of *c = &m->copies[e->copy];

	if (!c->used || c->serial != e->tag || !c->holding || m->paused || c->dead)
		return;
	if (e->arg >> 1 != c->hold_seq)
		return; /* an earlier one's */
	if (!(e->arg & 1)) {
		no_hold(s, m, c);
		return;
	}
	c->holding = false;
	tell(s, m, c, CPX_EV_HELD, CPX_WHY_NONE);
}

static void started(struct sim *s, struct machine *m, struct copy_of *c)
{
	double p = s->quiet ? 0 : 0.08;

	if (c->dead)
		return;
	if (sim_chance(s, p) || (s->store_down && s->truth[c->job].committed)) {
		tell(s, m, c, CPX_EV_NOT_STARTED,
		     sim_chance(s, 0.2) ? CPX_WHY_DAMAGED : CPX_WHY_START);
		c->used = false;
		return;
	}
	c->started = true;
	c->runs = c->fence.state == CPX_FENCE_RUN;
	if (c->progress < s->truth[c->job].committed && s->bug == BUG_OLD_HEAD)
		sim_fail(s, "job %u: committed work was lost", c->job);
	exec_is(s, m, c);
	tell(s, m, c, CPX_EV_STARTED, CPX_WHY_NONE);
	step_at(s, m, c, STEP_CAPTURE, s->now + sim_between(s, SEC, 8 * SEC));
}

static void gone(struct sim *s, struct machine *m, struct copy_of *c)
{
	c->runs = false;
	exec_is(s, m, c);
	tell(s, m, c, CPX_EV_ENDED, CPX_WHY_NONE);
	c->used = false;
}

/* Its keeper was killed: the job dies with it. */
void keeper_lost(struct sim *s, struct machine *m, struct copy_of *c)
{
	sim_say(s, "node %u: job %u epoch %lu is lost", m->id, c->job, c->epoch);
	gone(s, m, c);
}

static void exits(struct sim *s, struct machine *m, struct copy_of *c)
{
	if (!c->exec || c->progress + s->now - c->since < s->truth[c->job].work)
		return;
	c->exited = true;
	c->runs = false;
	exec_is(s, m, c);
	sim_say(s, "node %u: job %u epoch %lu ends", m->id, c->job, c->epoch);
	tell(s, m, c, CPX_EV_EXITED, CPX_WHY_NONE);
}

void keeper_step(struct sim *s, const struct event *e)
{
	struct machine *m = &s->m[e->node];
	struct copy_of *c = &m->copies[e->copy];

	if (!c->used || c->serial != e->tag)
		return;
	if (e->arg == STEP_OVERLAP) {
		overlap(s, c->job);
		return;
	}
	if (m->paused) { /* when it goes on */
		step_at(s, m, c, e->arg, s->now + 50 * MSEC);
		return;
	}
	switch ((enum copy_step)e->arg) {
	case STEP_DEADLINE:
		if (s->bug == BUG_DAEMON_ONLY && (!m->core || m->hung))
			break;
		if (c->fence.state == CPX_FENCE_RUN && machine_clock(s, m) >= c->fence.deadline)
			fence(s, m, c, CPX_FENCE_TIME, 0, 0);
		break;
	case STEP_WAKE: /* and the timer is set anew */
		if (c->fence.state == CPX_FENCE_RUN)
			fence(s, m, c, CPX_FENCE_TIME, 0, 0);
		break;
	case STEP_STARTED:
		started(s, m, c);
		break;
	case STEP_FROZEN:
		if (c->frozen_at != e->at && c->frozen_at > e->at)
			break;
		if (!c->frozen_at)
			break;
		c->frozen_at = 0;
		c->runs = false;
		exec_is(s, m, c);
		if (c->holding)
			step_at(s, m, c, STEP_CAPTURE, s->now);
		break;
	case STEP_CAPTURE:
		capture(s, m, c);
		break;
	case STEP_STORED:
		stored(s, m, c);
		break;
	case STEP_EXIT:
		exits(s, m, c);
		break;
	case STEP_GONE:
		gone(s, m, c);
		break;
	case STEP_COMMIT_LATE:
		if (!c->holding)
			break;
		if (++c->commits_tried < 3)
			send_commit(s, m, c);
		else
			no_hold(s, m, c);
		break;
	case STEP_OVERLAP:
		break;
	}
}

/* A daemon that starts is told what is there. */
void keeper_announce(struct sim *s, struct machine *m)
{
	uint32_t i;

	for (i = 0; i < SIM_COPIES; i++) {
		struct copy_of *c = &m->copies[i];

		if (!c->used || c->dead)
			continue;
		if (!c->started) { /* a restart that its daemon did not see through */
			keeper_lost(s, m, c);
			continue;
		}
		if (c->holding)
			no_hold(s, m, c);
		/* frozen for a move that may have been written: only the registry knows */
		tell(s, m, c, c->fence.state == CPX_FENCE_HELD ? CPX_EV_HELD : CPX_EV_STARTED,
		     CPX_WHY_NONE);
		if (c->exited)
			tell(s, m, c, CPX_EV_EXITED, CPX_WHY_NONE);
	}
}

void keeper_sweep(struct sim *s, struct machine *m)
{
	uint32_t i;

	for (i = 0; i < SIM_COPIES; i++) {
		struct copy_of *c = &m->copies[i];
		const struct cpx_core_rec *r = &s->recs[c->job];

		if (c->used && c->exited && !c->dead &&
		    (r->epoch != c->epoch || r->state == CPX_CORE_DONE))
			c->used = false;
	}
}

void keeper_clock(struct sim *s, struct machine *m)
{
	uint32_t i;

	for (i = 0; i < SIM_COPIES; i++)
		if (m->copies[i].used && m->copies[i].fence.state == CPX_FENCE_RUN)
			fence(s, m, &m->copies[i], CPX_FENCE_TIME, 0, 0);
}

void keeper_paused(struct sim *s, struct machine *m, bool paused)
{
	uint32_t i;

	int64_t bound = WAKE_NS + s->times.stop;

	if (m->stopped_clock)
		bound = (int64_t)((double)(s->times.ttl - s->times.guard) / m->rate) +
			s->times.stop;
	if (!paused && s->now + bound > m->excuse)
		m->excuse =
			s->now + bound; /* of what is started while the clock is behind, too */
	for (i = 0; i < SIM_COPIES; i++) {
		struct copy_of *c = &m->copies[i];

		if (!c->used)
			continue;
		if (!paused) {
			c->excuse = m->excuse;
			step_at(s, m, c, STEP_WAKE, s->now + sim_between(s, 1, WAKE_NS));
		}
		exec_is(s, m, c);
	}
}
