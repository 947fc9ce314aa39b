/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry: one history of revisions, leases, compare-and-swap. As etcd does, it keeps
 * leases while it has no leader and gives them their whole time again when it has one. What it
 * accepts is compared with the simulator's own book-keeping (truth), which no bug touches.
 */
#include "sim.h"

#include <stdlib.h>

static void answer_to(struct sim *s, uint32_t node, uint32_t life,
		      const struct cpx_core_event *ev, const struct cpx_core_rec *rec)
{
	int copies = !s->quiet && sim_chance(s, 0.02) ? 2 : 1;

	while (copies--) {
		struct event *e;
		struct msg *m;

		if (s->m[node].cut || sim_lost(s))
			continue;
		m = calloc(1, sizeof(*m));
		m->ev = *ev;
		if (rec) {
			m->rec = *rec;
			m->has_rec = true;
		}
		e = sim_post(s, s->now + sim_delay(s), EV_TO_CORE, node);
		e->life = life;
		e->msg = m;
	}
}

/* Watches go to all, each by its own way. */
static void tell_all(struct sim *s, const struct cpx_core_event *ev,
		     const struct cpx_core_rec *rec)
{
	uint32_t i;

	for (i = 1; i <= s->nnodes; i++)
		answer_to(s, i, 0, ev, rec);
}

static void tell_node(struct sim *s, uint32_t node)
{
	const struct reg_node *n = &s->reg[node];
	struct cpx_core_event ev = { .kind = CPX_EV_NODE,
				     .node = node,
				     .lease = n->lease,
				     .rev = n->rev,
				     .features = n->features,
				     .flags = n->flags };

	tell_all(s, &ev, NULL);
}

static bool over(const struct cpx_core_rec *r)
{
	return r->state == CPX_CORE_DONE || r->state == CPX_CORE_FAILED ||
	       r->state == CPX_CORE_STOPPED;
}

static bool lease_alive(const struct sim *s, uint64_t lease)
{
	uint32_t i;

	for (i = 1; i <= s->nnodes; i++)
		if (lease && s->reg[i].lease == lease)
			return true;
	return false;
}

static int64_t ttl(const struct sim *s)
{
	return s->bug == BUG_EARLY_EXPIRY ? s->times.ttl * 6 / 10 : s->times.ttl;
}

static void arm(struct sim *s)
{
	int64_t at = INT64_MAX;
	uint32_t i;

	for (i = 1; i <= s->nnodes; i++)
		if (s->reg[i].lease && s->reg[i].expires < at)
			at = s->reg[i].expires;
	if (at == INT64_MAX || (s->expire_at > s->now && s->expire_at <= at))
		return;
	s->expire_at = at;
	sim_post(s, at, EV_EXPIRE, 0);
}

void reg_expire(struct sim *s)
{
	uint32_t i;

	s->expire_at = 0;
	for (i = 1; i <= s->nnodes && !s->reg_down; i++) {
		struct reg_node *n = &s->reg[i];

		if (!n->lease || n->expires > s->now)
			continue;
		sim_say(s, "registry: lease %lu of node %u has ended", n->lease, i);
		if (s->placer == n->lease) {
			struct cpx_core_event ev = { .kind = CPX_EV_PLACER };

			s->placer = 0;
			s->placer_rev = ev.rev = ++s->rev;
			tell_all(s, &ev, NULL);
		}
		n->lease = 0;
		n->rev = ++s->rev;
		tell_node(s, i);
	}
	if (!s->reg_down)
		arm(s);
}

void reg_rearm(struct sim *s)
{
	uint32_t i;

	for (i = 1; i <= s->nnodes; i++)
		s->reg[i].expires = s->now + ttl(s);
	s->expire_at = 0;
	arm(s);
}

void reg_flags(struct sim *s, uint32_t node, uint32_t flags)
{
	s->reg[node].flags = flags;
	s->reg[node].rev = ++s->rev;
	tell_node(s, node);
}

void reg_remove(struct sim *s, uint32_t job)
{
	struct cpx_core_rec *r = &s->recs[job];
	struct cpx_core_event ev = { .kind = CPX_EV_RECORD, .job = job };

	if (s->reg_down || !r->version || !over(r) || !s->truth[job].known)
		return;
	*r = (struct cpx_core_rec){ .job = job };
	s->truth[job].known = false;
	ev.rev = ++s->rev;
	sim_say(s, "registry: job %u is removed", job);
	tell_all(s, &ev, NULL);
}

static void join(struct sim *s, uint32_t node, const struct cpx_core_req *q,
		 struct cpx_core_event *a)
{
	struct reg_node *n = &s->reg[node];

	if (n->lease && s->bug != BUG_JOIN_OVER) {
		a->result = CPX_ANS_CONFLICT;
		return;
	}
	n->lease = a->lease = ++s->next_lease;
	n->features = q->features;
	n->rev = ++s->rev;
	n->expires = s->now + ttl(s);
	tell_node(s, node);
	arm(s);
}

static void renew(struct sim *s, uint32_t node, const struct cpx_core_req *q,
		  struct cpx_core_event *a)
{
	a->lease = q->alive;
	if (s->reg[node].lease != q->alive) {
		a->result = CPX_ANS_GONE;
		return;
	}
	s->reg[node].expires = s->now + ttl(s);
	arm(s);
}

static void elect(struct sim *s, const struct cpx_core_req *q, struct cpx_core_event *a)
{
	if (!s->placer && lease_alive(s, q->alive)) {
		struct cpx_core_event ev = { .kind = CPX_EV_PLACER, .lease = q->alive };

		s->placer = q->alive;
		s->placer_rev = ev.rev = ++s->rev;
		sim_say(s, "registry: placer is lease %lu", s->placer);
		tell_all(s, &ev, NULL);
	} else {
		a->result = CPX_ANS_CONFLICT;
	}
	a->lease = s->placer;
	a->rev = s->placer_rev;
}

/* An accepted change of a record, judged by what must never happen. */
static void judge_swap(struct sim *s, const struct cpx_core_rec *old,
		       const struct cpx_core_rec *new)
{
	struct truth *t = &s->truth[new->job];

	if (new->epoch > old->epoch) {
		if (new->epoch != t->epoch + 1)
			sim_fail(s, "job %u: epoch %lu was taken, after %lu", new->job,
				 new->epoch, t->epoch);
		if (old->owner && lease_alive(s, old->lease) && old->lease != new->lease)
			sim_fail(s, "job %u: taken from a living owner", new->job);
		t->epoch = new->epoch;
		if (old->owner != new->owner && old->state == CPX_CORE_MOVING)
			s->moves++;
		if (old->state == CPX_CORE_RECOVERING)
			s->recoveries++;
	} else if (new->epoch < t->epoch) {
		sim_fail(s, "job %u: epoch went back to %lu", new->job, new->epoch);
	}
	if (new->head_epoch != t->head_epoch || new->head_seq != t->head_seq)
		sim_fail(s, "job %u: a swap moved its head", new->job);
}

static void swap(struct sim *s, const struct cpx_core_req *q, struct cpx_core_event *a)
{
	struct cpx_core_rec *r = &s->recs[q->rec.job];
	bool claim = s->bug == BUG_CLAIM_COMPARE && q->rec.epoch > r->epoch;

	if ((r->version != q->rec.version && !claim) ||
	    (q->alive && !lease_alive(s, q->alive)) ||
	    (q->gone && lease_alive(s, q->gone) && s->bug != BUG_SUSPECT)) {
		a->result = CPX_ANS_CONFLICT;
		return;
	}
	judge_swap(s, r, &q->rec);
	*r = q->rec;
	r->version = ++s->rev;
	sim_say(s,
		"registry: job %u is state %d epoch %lu owner %u place %u want %u halt %d why "
		"%d",
		r->job, r->state, r->epoch, r->owner, r->place, r->want, r->halt, r->why);
	tell_all(s, &(struct cpx_core_event){ .kind = CPX_EV_RECORD, .job = r->job }, r);
}

static void list(struct sim *s, const struct event *e)
{
	struct cpx_core_event ev = { .kind = CPX_EV_LISTED,
				     .id = e->msg->req.id,
				     .rev = s->rev };
	struct msg *m;
	uint32_t i, n = 0;

	if (s->m[e->node].cut || sim_lost(s))
		return;
	/* one answer, unpacked by the shell into its parts: whole or not at all */
	m = calloc(1, sizeof(*m));
	m->ev = ev;
	for (i = 0; i < s->njobs; i++)
		n += s->recs[i].version > 0;
	m->ev.used_ms = n;
	m->ev.gossip = NULL;
	m->gossip = calloc(1, (n + 1) * sizeof(struct cpx_core_rec) +
				      (s->nnodes + 1) * sizeof(struct reg_node));
	{
		struct cpx_core_rec *r = (void *)m->gossip;
		struct reg_node *nodes = (void *)(r + n + 1);

		for (i = 0; i < s->njobs; i++)
			if (s->recs[i].version)
				*r++ = s->recs[i];
		for (i = 1; i <= s->nnodes; i++)
			nodes[i] = s->reg[i];
	}
	m->ev.lease = s->placer;
	m->ev.features = s->placer_rev;
	{
		struct event *to = sim_post(s, s->now + sim_delay(s), EV_TO_CORE, e->node);

		to->life = e->life;
		to->msg = m;
	}
}

void reg_request(struct sim *s, const struct event *e)
{
	const struct cpx_core_req *q = &e->msg->req;
	struct cpx_core_event a = { .kind = CPX_EV_ANSWER, .id = q->id, .job = q->rec.job };
	const struct cpx_core_rec *rec = NULL;

	if (s->reg_down) {
		/* never done, or done when it is back: long after it was given up */
		if (sim_chance(s, 0.3)) {
			struct event *again = sim_post(s, s->now + 2 * SEC, EV_TO_REG, e->node);

			again->life = e->life;
			again->msg = calloc(1, sizeof(*again->msg));
			again->msg->req = *q;
		}
		return;
	}
	s->requests++;
	switch (q->kind) {
	case CPX_REQ_JOIN:
		join(s, e->node, q, &a);
		break;
	case CPX_REQ_RENEW:
		renew(s, e->node, q, &a);
		break;
	case CPX_REQ_ELECT:
		elect(s, q, &a);
		break;
	case CPX_REQ_LIST:
		list(s, e);
		return;
	case CPX_REQ_SWAP:
		swap(s, q, &a);
		rec = s->recs[q->rec.job].version ? &s->recs[q->rec.job] : NULL;
		break;
	case CPX_REQ_GET:
		rec = s->recs[q->rec.job].version ? &s->recs[q->rec.job] : NULL;
		break;
	}
	if ((q->kind == CPX_REQ_SWAP || q->kind == CPX_REQ_GET) && !rec)
		a.result = CPX_ANS_GONE;
	answer_to(s, e->node, e->life, &a, rec);
}

/* A keeper's commit: .msg->req.rec has the new head, .msg->ev.used_ms its progress. */
void reg_commit(struct sim *s, const struct event *e)
{
	const struct cpx_core_rec *n = &e->msg->req.rec;
	struct cpx_core_rec *r = &s->recs[n->job];
	struct truth *t = &s->truth[n->job];
	bool later = n->epoch > r->head_epoch || n->head_seq > r->head_seq;
	bool ok = r->version && r->epoch == n->epoch && r->owner == e->node && later &&
		  lease_alive(s, r->lease) && !over(r);
	int64_t progress = (int64_t)e->msg->ev.used_ms;
	struct event *a;

	if (s->reg_down)
		return;
	if (s->bug == BUG_COMMIT_EPOCH)
		ok = r->version && !over(r);
	if (ok) {
		if (n->epoch != t->epoch)
			sim_fail(s, "job %u: committed by epoch %lu when %lu owns it", n->job,
				 n->epoch, t->epoch);
		if (progress < t->committed)
			sim_fail(s, "job %u: its head went back in time", n->job);
		r->head_epoch = t->head_epoch = n->epoch;
		r->head_seq = t->head_seq = n->head_seq;
		r->gens = r->gens < 3 ? r->gens + 1 : 3;
		r->skip = r->tries = r->nrefused = 0;
		t->before = t->committed;
		t->committed = progress;
		r->version = ++s->rev;
		s->commits++; /* nobody watches heads */
	}
	if (s->m[e->node].cut || sim_lost(s))
		return;
	a = sim_post(s, s->now + sim_delay(s), EV_COMMITTED, e->node);
	a->life = e->life;
	a->copy = e->copy;
	a->tag = e->tag;
	ok = ok || (r->head_epoch == n->epoch && r->head_seq == n->head_seq);
	a->arg = (uint32_t)(n->head_seq << 1 | ok);
}
