/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The step, what is known, and this node's lease. See core.h.
 *
 * Life of a node: JOIN until a lease is granted; RENEW every TTL/5; a renewal that says the
 * lease is gone starts a new life, whose first act is to take its jobs over again (hold.c). The
 * deadline always counts from when a request was sent, never from when it was answered.
 */
#include "core_impl.h"

#include <stdlib.h>
#include <string.h>

#include "../chpox/base/err.h"

#define STAYS_NS \
	10000000000ll	      /* a job that could not be moved is not moved again for so long */
#define SHOWN_NS 2000000000ll /* running for so long, a job shows in what is measured */

struct cpx_core_act *core_emit(struct cpx_core *c, enum cpx_core_act_kind kind)
{
	static struct cpx_core_act lost; /* written to, never read */
	struct cpx_core_act *a;

	if (c->nacts == c->acts_room) {
		uint32_t room = c->acts_room ? c->acts_room * 2 : 32;

		a = realloc(c->acts, room * sizeof(*a));
		if (!a) {
			c->nomem = true;
			return &lost;
		}
		c->acts = a;
		c->acts_room = room;
	}
	a = &c->acts[c->nacts++];
	memset(a, 0, sizeof(*a));
	a->kind = kind;
	a->lease = c->lease;
	a->deadline = c->deadline;
	return a;
}

bool core_grow(struct cpx_core *c, void **array, uint32_t *n, size_t size, uint32_t at)
{
	uint32_t room = at < *n ? *n : (at + 1) * 3 / 2 + 8;
	void *p;

	if (at < *n)
		return true;
	p = realloc(*array, room * size);
	if (!p) {
		c->nomem = true;
		return false;
	}
	memset((char *)p + *n * size, 0, (room - *n) * size);
	*array = p;
	*n = room;
	return true;
}

struct job *core_job(struct cpx_core *c, uint32_t job)
{
	if (job >= CPX_CORE_JOBS_MAX ||
	    !core_grow(c, (void **)&c->jobs, &c->njobs, sizeof(*c->jobs), job))
		return NULL;
	c->jobs[job].rec.job = job;
	return &c->jobs[job];
}

struct node *core_node(struct cpx_core *c, uint32_t node)
{
	if (node > CPX_NODES_MAX ||
	    !core_grow(c, (void **)&c->nodes, &c->nnodes, sizeof(*c->nodes), node))
		return NULL;
	return &c->nodes[node];
}

bool core_alive(const struct cpx_core *c, uint32_t node)
{
	return node && node < c->nnodes && c->nodes[node].lease;
}

const struct cpx_gossip_entry *core_fresh(const struct cpx_core *c, uint32_t node)
{
	const struct cpx_gossip_entry *e = cpx_gossip_get(&c->gossip, node);

	return e && core_alive(c, node) && e->life == c->nodes[node].lease &&
			       e->at_ms > c->now / 1000000 - CORE_FRESH_MS
		       ? e
		       : NULL;
}

uint32_t core_placer_node(struct cpx_core *c)
{
	uint32_t i = c->placer_node;

	if (!c->placer || (i < c->nnodes && c->nodes[i].lease == c->placer))
		return c->placer ? i : 0;
	for (i = 1; i < c->nnodes; i++)
		if (c->nodes[i].lease == c->placer)
			return c->placer_node = i;
	return 0;
}

bool core_lease_ok(const struct cpx_core *c)
{
	return c->lease && c->now < c->deadline;
}

/* splitmix64 over the step's random number. */
uint64_t core_draw(struct cpx_core *c)
{
	uint64_t z = (c->random += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

void core_activate(struct cpx_core *c, uint32_t job)
{
	if (c->jobs[job].active ||
	    !core_grow(c, (void **)&c->active, &c->active_room, sizeof(*c->active), c->nactive))
		return;
	c->jobs[job].active = true;
	c->active[c->nactive++] = job;
}

void core_report(struct cpx_core *c, uint64_t id, uint32_t job, enum cpx_core_why why)
{
	struct cpx_core_act *a = core_emit(c, CPX_ACT_REPORT);

	a->id = id;
	a->job = job;
	a->why = why;
	if (job < c->njobs)
		a->rec = c->jobs[job].rec;
}

/* A record as it was at its version; older ones than known say nothing. */
void core_learn(struct cpx_core *c, const struct cpx_core_rec *rec)
{
	struct job *j = core_job(c, rec->job);
	const struct cpx_core_rec *o;

	if (!j || rec->version <= j->rec.version)
		return;
	o = &j->rec;
	if (o->owner != rec->owner || o->lease != rec->lease || !o->version) {
		j->own_rev = rec->version;
		j->gone_at = 0;
		j->owned_at = c->now;
	}
	if (o->place && !rec->place && o->owner == rec->owner && o->owner)
		j->place_retry_at = c->now + STAYS_NS; /* it could not leave */
	if (o->place != rec->place || o->owner != rec->owner || o->epoch != rec->epoch)
		j->placed_at = c->now;
	if (o->state != rec->state || o->owner != rec->owner || o->epoch != rec->epoch) {
		j->rec = *rec;
		core_report(c, 0, rec->job, rec->why);
	}
	j->rec = *rec;
	if (rec->place == c->cfg.self || rec->owner == c->cfg.self || j->copy != COPY_NONE)
		core_activate(c, rec->job);
	hold_judge(c, j);
}

static void removed(struct cpx_core *c, uint32_t job, uint64_t rev)
{
	struct job *j = core_job(c, job);

	if (!j || rev <= j->rec.version || !j->rec.version)
		return;
	j->rec = (struct cpx_core_rec){ .job = job };
	j->req = 0;
	j->doubt = false;
	hold_judge(c, j);
}

static void node_is(struct cpx_core *c, const struct cpx_core_event *ev)
{
	struct node *n = ev->node ? core_node(c, ev->node) : NULL;

	if (!n || ev->rev <= n->rev)
		return;
	if (n->lease && n->lease != ev->lease)
		cpx_gossip_forget(&c->gossip, ev->node, n->lease);
	n->lease = ev->lease;
	n->features = ev->features;
	n->flags = ev->flags;
	n->rev = ev->rev;
}

/* Nodes that a whole list did not name are gone; so are jobs older than it. */
static void listed(struct cpx_core *c, const struct cpx_core_event *ev)
{
	uint32_t i;

	if (ev->id == c->list_req)
		c->list_req = 0;
	if (ev->rev < c->list_rev)
		return;
	c->list_rev = ev->rev;
	for (i = 1; i < c->nnodes; i++) {
		struct cpx_core_event gone = { .node = i, .rev = ev->rev };

		if (c->nodes[i].rev < ev->rev)
			node_is(c, &gone);
	}
}

static uint64_t request(struct cpx_core *c, enum cpx_core_req_kind kind)
{
	struct cpx_core_act *a = core_emit(c, CPX_ACT_REQUEST);

	a->req.id = ++c->next_id;
	a->req.kind = kind;
	a->req.alive = c->lease;
	a->req.features = c->cfg.features;
	return a->req.id;
}

static void live(struct cpx_core *c)
{
	uint64_t id;

	if (c->life_req && c->now < c->life_until)
		return;
	if (c->now < (c->lease && !c->life_req ? c->renew_at : c->join_at))
		return;
	id = request(c, c->lease ? CPX_REQ_RENEW : CPX_REQ_JOIN);
	c->renewals[c->renewal].id = id;
	c->renewals[c->renewal].sent = c->now;
	c->renewal = (c->renewal + 1) % RENEWALS;
	c->life_req = id;
	c->life_until = c->now + c->cfg.times.timeout;
	c->renew_at = c->now + c->cfg.times.ttl / 5;
	c->join_at = c->now + c->cfg.times.timeout / 2;
}

static void extend(struct cpx_core *c, int64_t sent)
{
	int64_t deadline = cpx_fence_deadline(&c->cfg.times, sent);

	if (deadline <= c->deadline)
		return;
	c->deadline = deadline;
	core_emit(c, CPX_ACT_LEASE);
}

/* An answer to a renewal or a join, however late: it counts from when it was sent. */
static void life_answer(struct cpx_core *c, const struct cpx_core_event *ev, int64_t sent)
{
	if (c->life_req == ev->id)
		c->life_req = 0;
	if (ev->result == CPX_ANS_OK && ev->lease && ev->lease == c->lease) {
		extend(c, sent);
	} else if (ev->result == CPX_ANS_OK && ev->lease && !c->lease) {
		c->lease = ev->lease;
		c->deadline = INT64_MIN;
		extend(c, sent);
		c->list_at = c->elect_at = c->now;
		c->nodes[c->cfg.self].lease = c->lease;
	} else if (ev->result == CPX_ANS_GONE && ev->lease == c->lease) {
		c->lease = 0;
		c->join_at = c->now;
	}
}

static void answer(struct cpx_core *c, const struct cpx_core_event *ev)
{
	uint32_t i;

	for (i = 0; i < RENEWALS; i++)
		if (ev->id && c->renewals[i].id == ev->id) {
			c->renewals[i].id = 0;
			life_answer(c, ev, c->renewals[i].sent);
			return;
		}
	if (ev->id == c->elect_req) {
		c->elect_req = 0;
		if (ev->lease && ev->rev > c->placer_rev) {
			c->placer = ev->lease;
			c->placer_rev = ev->rev;
		}
		return;
	}
	if (ev->id == c->list_req && ev->result != CPX_ANS_OK)
		c->list_req = 0;
	if (ev->job < c->njobs && c->jobs[ev->job].req == ev->id && ev->id)
		hold_answer(c, ev, &c->jobs[ev->job]);
	else if (ev->rec)
		core_learn(c, ev->rec);
}

/* The placer's key lives as long as its lease. */
static bool placer_gone(struct cpx_core *c)
{
	if (!c->placer)
		return true;
	return !core_placer_node(c) && c->list_rev >= c->placer_rev;
}

static void tick(struct cpx_core *c)
{
	uint32_t i;

	live(c);
	if (c->lease && c->now >= c->list_at && (!c->list_req || c->now >= c->list_until)) {
		c->list_req = request(c, CPX_REQ_LIST);
		c->list_until = c->now + 2 * c->cfg.times.timeout;
		c->list_at = c->now + 3 * c->cfg.times.ttl;
	} else if (c->list_req && c->now >= c->list_until) {
		c->list_at = c->now; /* was not answered: once more */
		c->list_until = c->now;
	}
	if (core_lease_ok(c) && c->now >= c->elect_at && placer_gone(c) &&
	    (!c->elect_req || c->now >= c->elect_until)) {
		c->elect_req = request(c, CPX_REQ_ELECT);
		c->elect_until = c->now + c->cfg.times.timeout;
		c->elect_at = c->now + c->cfg.times.timeout;
	}
	for (i = 0; i < c->nactive;) {
		struct job *j = &c->jobs[c->active[i]];

		hold_judge(c, j);
		if (j->copy != COPY_NONE || j->req || j->doubt || j->rec.place == c->cfg.self ||
		    j->rec.owner == c->cfg.self) {
			i++;
			continue;
		}
		j->active = false;
		c->active[i] = c->active[--c->nactive];
	}
	wish_tick(c);
	if (cpx_core_is_placer(c))
		place_tick(c);
}

/* What is measured, and what has come too lately to be measured: so nobody sends too much. */
static struct cpx_load_figures promised(const struct cpx_core *c)
{
	struct cpx_load_figures f = c->own;
	uint32_t i;

	for (i = 0; i < c->nactive; i++) {
		const struct job *j = &c->jobs[c->active[i]];

		if (j->copy != COPY_STARTING &&
		    (j->copy != COPY_UP || c->now - j->up_at >= SHOWN_NS))
			continue;
		f.upper += cpx_load_add(j->need.load, f.ncpus, f.speed);
		if (f.upper > CPX_LOAD_MAX)
			f.upper = CPX_LOAD_MAX;
		f.mem_free -= j->need.mem < f.mem_free ? j->need.mem : f.mem_free;
	}
	return f;
}

static void figures(struct cpx_core *c, const struct cpx_core_event *ev)
{
	struct cpx_load_figures f;

	c->own = *ev->figures;
	f = promised(c);
	if (!c->lease || cpx_gossip_own(&c->gossip, c->lease, &f, c->now / 1000000) < 0)
		return;
	balance_second(c);
}

static void used(struct cpx_core *c, const struct cpx_core_event *ev)
{
	if (ev->job >= c->njobs)
		return;
	c->jobs[ev->job].need = ev->need;
	c->jobs[ev->job].used_ms = ev->used_ms;
}

int cpx_core_open(const struct cpx_core_config *cfg, struct cpx_core **out, struct cpx_err *err)
{
	struct cpx_core *c;

	if (!cfg->self || cfg->self > CPX_NODES_MAX)
		return cpx_err_set(err, CPX_E_INVAL, "a node's number is from 1 to %d",
				   CPX_NODES_MAX);
	if (cpx_fence_times_ok(&cfg->times, err) < 0)
		return CPX_E_INVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	c->cfg = *cfg;
	c->lease = cfg->lease;
	c->deadline = INT64_MIN;
	cpx_gossip_init(&c->gossip, cfg->self, cfg->figures_kept);
	c->held_at = INT64_MIN;
	if (!core_node(c, cfg->self)) {
		cpx_core_close(c);
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	}
	*out = c;
	return 0;
}

void cpx_core_close(struct cpx_core *c)
{
	if (!c)
		return;
	cpx_gossip_free(&c->gossip);
	free(c->jobs);
	free(c->active);
	free(c->nodes);
	free(c->held);
	free(c->cand);
	free(c->wishes);
	free(c->acts);
	free(c);
}

int cpx_core_step(struct cpx_core *c, const struct cpx_core_event *ev, int64_t now,
		  uint64_t random, const struct cpx_core_act **acts)
{
	c->now = now;
	c->random = random;
	c->nacts = 0;
	c->nomem = false;
	switch (ev->kind) {
	case CPX_EV_TICK:
		tick(c);
		break;
	case CPX_EV_ANSWER:
		answer(c, ev);
		break;
	case CPX_EV_RECORD:
		if (ev->rec)
			core_learn(c, ev->rec);
		else
			removed(c, ev->job, ev->rev);
		break;
	case CPX_EV_NODE:
		node_is(c, ev);
		break;
	case CPX_EV_PLACER:
		if (ev->rev > c->placer_rev) {
			c->placer_rev = ev->rev;
			c->placer = ev->lease;
		}
		break;
	case CPX_EV_LISTED:
		listed(c, ev);
		break;
	case CPX_EV_USED:
		used(c, ev);
		break;
	case CPX_EV_FIGURES:
		figures(c, ev);
		break;
	case CPX_EV_GOSSIP:
		cpx_gossip_take(&c->gossip, ev->gossip);
		break;
	case CPX_EV_OFFER:
		place_offer(c, ev);
		break;
	case CPX_EV_RUN:
	case CPX_EV_MIGRATE:
	case CPX_EV_HALT:
	case CPX_EV_DRAIN:
		wish_add(c, ev);
		break;
	default:
		hold_keeper(c, ev);
		break;
	}
	*acts = c->acts;
	return c->nomem ? CPX_E_NOMEM : (int)c->nacts;
}

const struct cpx_core_rec *cpx_core_record(const struct cpx_core *c, uint32_t job)
{
	return job < c->njobs && c->jobs[job].rec.version ? &c->jobs[job].rec : NULL;
}

bool cpx_core_is_placer(const struct cpx_core *c)
{
	return core_lease_ok(c) && c->placer == c->lease;
}

uint64_t cpx_core_lease(const struct cpx_core *c, int64_t *deadline)
{
	if (deadline)
		*deadline = c->deadline;
	return c->lease;
}

const struct cpx_gossip *cpx_core_gossip(const struct cpx_core *c)
{
	return &c->gossip;
}
