/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine: its clock, its daemon with the core, and what it does not hear while it stands. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define TICK_NS (250 * MSEC)

int64_t machine_clock(const struct sim *s, const struct machine *m)
{
	if (m->stopped_clock)
		return m->base;
	return m->base + (int64_t)((double)(s->now - m->from) * m->rate);
}

static void set_clock(struct sim *s, struct machine *m)
{
	m->base = machine_clock(s, m);
	m->from = s->now;
}

void machine_rate(struct sim *s, uint32_t node, double rate)
{
	struct machine *m = &s->m[node];

	set_clock(s, m);
	m->rate = rate;
	sim_say(s, "node %u: clock runs at %.3f", node, rate);
	keeper_clock(s, m);
}

static void drop_held(struct machine *m)
{
	uint32_t i;

	for (i = 0; i < m->nheld; i++) {
		if (m->held[i].msg)
			free(m->held[i].msg->gossip);
		free(m->held[i].msg);
	}
	m->nheld = 0;
}

void daemon_start(struct sim *s, uint32_t node)
{
	struct machine *m = &s->m[node];
	struct cpx_core_config cfg = CPX_CORE_DEFAULTS;

	if (!m->up || m->core)
		return;
	cfg.self = node;
	cfg.lease = m->kept_lease;
	cfg.features = node % 3 ? 3 : 1;
	cfg.times = s->times;
	if (s->bug == BUG_NO_GUARD)
		cfg.times.guard = 1;
	if (s->bug == BUG_JOIN_OVER)
		cfg.lease = 0;
	cfg.wish_ns = 60 * SEC;
	cfg.move_ns = 20 * SEC;
	if (cpx_core_open(&cfg, &m->core, NULL) < 0)
		abort();
	m->dlife++;
	m->hung = false;
	sim_say(s, "node %u: daemon starts", node);
	sim_post(s, s->now + sim_between(s, 1, TICK_NS), EV_TICK, node)->life = m->dlife;
	sim_post(s, s->now + sim_between(s, 1, SEC), EV_FIGURES, node)->life = m->dlife;
	keeper_announce(s, m);
}

void daemon_crash(struct sim *s, uint32_t node)
{
	struct machine *m = &s->m[node];
	uint64_t i;

	if (!m->core)
		return;
	sim_say(s, "node %u: daemon dies", node);
	cpx_core_close(m->core);
	m->core = NULL;
	m->dlife++;
	drop_held(m);
	for (i = 1; i <= s->next_wish; i++) /* its users saw their connection end */
		if (s->wish_node[i] == node)
			s->wish_until[i] = 0;
}

void machine_boot(struct sim *s, uint32_t node, bool first)
{
	struct machine *m = &s->m[node];

	if (m->up)
		return;
	m->id = node;
	m->up = true;
	m->life++;
	m->base = first ? sim_between(s, 0, 1000 * SEC) : 0;
	m->from = s->now;
	m->kept_lease = 0;
	m->mem = sim_chance(s, 0.3) ? 6500 : 16000; /* where three jobs make it short */
	m->jobs_max = sim_chance(s, 0.1) ? 1 : 0;
	m->flags = sim_chance(s, 0.05) ? CPX_NODE_STAY : 0;
	daemon_start(s, node);
}

void machine_crash(struct sim *s, uint32_t node)
{
	struct machine *m = &s->m[node];
	uint32_t i;

	if (!m->up)
		return;
	sim_say(s, "node %u: power cut", node);
	daemon_crash(s, node);
	m->paused = m->stopped_clock = false;
	for (i = 0; i < SIM_COPIES; i++)
		if (m->copies[i].used)
			keeper_lost(s, m, &m->copies[i]);
	drop_held(m);
	m->up = false;
}

void machine_pause(struct sim *s, uint32_t node, bool clock_too)
{
	struct machine *m = &s->m[node];

	if (!m->up || m->paused)
		return;
	sim_say(s, "node %u: stands still%s", node, clock_too ? ", and its clock" : "");
	set_clock(s, m);
	m->paused = true;
	m->stopped_clock = clock_too;
	keeper_paused(s, m, true);
}

static void hear_held(struct sim *s, struct machine *m)
{
	uint32_t i, n = m->nheld;

	for (i = 0; i < n; i++) {
		struct event *e = sim_post(s, s->now, m->held[i].kind, m->id);
		uint64_t order = e->order;
		int64_t at = e->at;

		*e = m->held[i];
		e->order = order;
		e->at = at;
	}
	m->nheld = 0;
}

void machine_resume(struct sim *s, uint32_t node)
{
	struct machine *m = &s->m[node];

	if (!m->up || !m->paused)
		return;
	sim_say(s, "node %u: goes on", node);
	set_clock(s, m);
	m->paused = false;
	keeper_paused(s, m, false);
	m->stopped_clock = false;
	hear_held(s, m);
}

void daemon_hang(struct sim *s, uint32_t node, bool hang)
{
	struct machine *m = &s->m[node];

	if (!m->core || m->hung == hang)
		return;
	sim_say(s, "node %u: daemon %s", node, hang ? "hangs" : "goes on");
	m->hung = hang;
	if (!hang && !m->paused)
		hear_held(s, m);
}

static void keep(struct machine *m, struct event *e)
{
	if (m->nheld == m->held_room) {
		m->held_room = m->held_room ? m->held_room * 2 : 64;
		m->held = realloc(m->held, m->held_room * sizeof(*m->held));
		if (!m->held)
			abort();
	}
	m->held[m->nheld++] = *e;
	e->msg = NULL;
}

static void send_request(struct sim *s, struct machine *m, const struct cpx_core_act *a)
{
	int copies = !s->quiet && sim_chance(s, 0.01) ? 2 : 1;

	if (s->bug == BUG_NO_REREAD && a->req.kind == CPX_REQ_GET)
		return;
	while (copies--) {
		struct event *e;

		if (m->cut || sim_lost(s))
			continue;
		e = sim_post(s, s->now + sim_delay(s), EV_TO_REG, m->id);
		e->life = m->dlife;
		e->msg = calloc(1, sizeof(*e->msg));
		e->msg->req = a->req;
	}
}

/* Ages, not times, cross the wire. */
static void send_gossip(struct sim *s, struct machine *m, const struct cpx_core_act *a)
{
	int64_t now_ms = machine_clock(s, m) / 1000000;
	struct msg *msg;
	struct event *e;
	uint32_t i;

	if (sim_lost(s) || m->cut)
		return;
	msg = calloc(1, sizeof(*msg));
	msg->gossip = malloc(sizeof(*msg->gossip));
	*msg->gossip = *a->gossip;
	msg->ev.kind = CPX_EV_GOSSIP;
	for (i = 0; i < msg->gossip->n; i++)
		msg->gossip->e[i].at_ms -= now_ms;
	e = sim_post(s, s->now + sim_delay(s), EV_TO_CORE, a->node);
	e->msg = msg;
}

static void send_offer(struct sim *s, struct machine *m, const struct cpx_core_act *a)
{
	struct event *e;

	if (sim_lost(s) || m->cut)
		return;
	e = sim_post(s, s->now + sim_delay(s), EV_TO_CORE, a->node);
	e->msg = calloc(1, sizeof(*e->msg));
	e->msg->ev = (struct cpx_core_event){ .kind = CPX_EV_OFFER,
					      .job = a->job,
					      .node = a->target,
					      .epoch = a->epoch,
					      .need = a->need,
					      .used_ms = a->used_ms };
	e->msg->figures = a->figures;
}

static void report(struct sim *s, struct machine *m, const struct cpx_core_act *a)
{
	if (!a->id)
		return;
	sim_say(s, "node %u: wish %lu: %d", m->id, a->id, a->why);
	if (s->wish_until[a->id] == 0 && s->wish_node[a->id] == m->id &&
	    s->wish_life[a->id] == m->dlife)
		sim_fail(s, "wish %lu was answered twice", a->id);
	s->wish_until[a->id] = 0;
	if (a->job < SIM_JOBS && a->why == CPX_WHY_NONE)
		s->truth[a->job].known = true;
}

void daemon_step(struct sim *s, struct machine *m, const struct cpx_core_event *ev)
{
	const struct cpx_core_act *acts;
	int i, n = cpx_core_step(m->core, ev, machine_clock(s, m), sim_draw(s), &acts);

	for (i = 0; i < n; i++) {
		const struct cpx_core_act *a = &acts[i];

		switch (a->kind) {
		case CPX_ACT_REQUEST:
			send_request(s, m, a);
			break;
		case CPX_ACT_GOSSIP:
			send_gossip(s, m, a);
			break;
		case CPX_ACT_OFFER:
			send_offer(s, m, a);
			break;
		case CPX_ACT_REPORT:
			report(s, m, a);
			break;
		case CPX_ACT_LEASE:
			m->kept_lease = a->lease;
			/* fall through */
		default:
			keeper_do(s, m, a);
			break;
		}
	}
}

static void suspect(struct sim *s, struct machine *m)
{
	int64_t now_ms = machine_clock(s, m) / 1000000;
	uint32_t i;

	for (i = 1; i <= s->nnodes; i++) {
		const struct cpx_gossip_entry *e = cpx_gossip_get(cpx_core_gossip(m->core), i);
		struct cpx_core_event ev = { .kind = CPX_EV_NODE, .node = i, .rev = s->rev };

		if (e && i != m->id && e->at_ms > INT64_MIN && e->at_ms < now_ms - 8000)
			daemon_step(s, m, &ev);
	}
}

static void figures(struct sim *s, struct machine *m)
{
	struct cpx_load_figures f = { .speed = 10000,
				      .ncpus = 1,
				      .mem_total = m->mem,
				      .mem_free = m->mem,
				      .jobs_max = s->quiet ? 0 : m->jobs_max,
				      .flags = m->flags };
	uint32_t i;

	keeper_sweep(s, m);
	for (i = 0; i < SIM_COPIES; i++) {
		struct copy_of *c = &m->copies[i];

		if (!c->used || !c->exec)
			continue;
		f.mean += 100;
		f.mem_free -= f.mem_free > 3000 ? 3000 : f.mem_free;
		daemon_step(s, m,
			    &(struct cpx_core_event){ .kind = CPX_EV_USED,
						      .job = c->job,
						      .need = { 100, 3000, 1000 },
						      .used_ms = (uint64_t)(s->now / MSEC) });
	}
	f.upper = f.mean;
	daemon_step(s, m, &(struct cpx_core_event){ .kind = CPX_EV_FIGURES, .figures = &f });
}

static void hear_list(struct sim *s, struct machine *m, const struct msg *msg)
{
	const struct cpx_core_rec *r = (const void *)msg->gossip;
	uint64_t n = msg->ev.used_ms, i;
	const struct reg_node *nodes = (const void *)(r + n + 1);
	struct cpx_core_event ev = { .kind = CPX_EV_PLACER,
				     .lease = msg->ev.lease,
				     .rev = msg->ev.features };

	daemon_step(s, m, &ev);
	for (i = 1; i <= s->nnodes; i++) {
		ev = (struct cpx_core_event){ .kind = CPX_EV_NODE,
					      .node = (uint32_t)i,
					      .lease = nodes[i].lease,
					      .rev = msg->ev.rev,
					      .features = nodes[i].features,
					      .flags = nodes[i].flags };
		daemon_step(s, m, &ev);
	}
	for (i = 0; i < n; i++) {
		ev = (struct cpx_core_event){ .kind = CPX_EV_RECORD, .rec = &r[i] };
		daemon_step(s, m, &ev);
	}
	ev = (struct cpx_core_event){ .kind = CPX_EV_LISTED,
				      .id = msg->ev.id,
				      .rev = msg->ev.rev };
	daemon_step(s, m, &ev);
}

static void hear(struct sim *s, struct machine *m, struct msg *msg)
{
	int64_t now_ms = machine_clock(s, m) / 1000000;
	uint32_t i;

	if (msg->ev.kind == CPX_EV_LISTED) {
		hear_list(s, m, msg);
		return;
	}
	if (msg->has_rec)
		msg->ev.rec = &msg->rec;
	if (msg->ev.kind == CPX_EV_GOSSIP) {
		for (i = 0; i < msg->gossip->n; i++)
			msg->gossip->e[i].at_ms += now_ms;
		msg->ev.gossip = msg->gossip;
	}
	if (msg->ev.kind == CPX_EV_OFFER)
		msg->ev.figures = &msg->figures;
	daemon_step(s, m, &msg->ev);
}

void daemon_event(struct sim *s, struct event *e)
{
	struct machine *m = &s->m[e->node];

	if (!m->core || (e->life && e->life != m->dlife))
		return;
	if (m->hung || m->paused) {
		keep(m, e);
		return;
	}
	if (e->kind == EV_TO_CORE) {
		hear(s, m, e->msg);
	} else if (e->kind == EV_TICK) {
		if (s->bug == BUG_SUSPECT)
			suspect(s, m);
		daemon_step(s, m, &(struct cpx_core_event){ .kind = CPX_EV_TICK });
		sim_post(s, s->now + (int64_t)(TICK_NS / m->rate), EV_TICK, e->node)->life =
			e->life;
	} else {
		figures(s, m);
		sim_post(s, s->now + (int64_t)(SEC / m->rate), EV_FIGURES, e->node)->life =
			e->life;
	}
}
