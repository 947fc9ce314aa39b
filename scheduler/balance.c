/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Once a second: tell one other node what is known, and offer the placer one job at most.
 *
 * The job with the second highest load is offered (openMosix: leave the hottest alone), to
 * where it costs least, if that pays (cpx_load_worth_moving). When memory is short, the job
 * that best ends the shortage is offered without asking whether it pays.
 */
#include "core_impl.h"

static uint32_t draw_node(struct cpx_core *c)
{
	uint32_t i, alive = 0, pick;

	for (i = 1; i < c->nnodes; i++)
		alive += core_alive(c, i) && i != c->cfg.self;
	if (!alive)
		return 0;
	pick = (uint32_t)(core_draw(c) % alive);
	for (i = 1; i < c->nnodes; i++)
		if (core_alive(c, i) && i != c->cfg.self && pick-- == 0)
			return i;
	return 0;
}

static bool movable(const struct cpx_core *c, const struct job *j)
{
	return j->copy == COPY_UP && !j->rec.pinned && !j->rec.place && !j->rec.halt &&
	       j->rec.owner == c->cfg.self && j->rec.lease == c->lease &&
	       j->used_ms > 2 * c->cfg.move_ms;
}

static struct job *victim(struct cpx_core *c, bool mem_short)
{
	struct job *first = NULL, *second = NULL;
	uint32_t i;

	for (i = 0; i < c->nactive; i++) {
		struct job *j = &c->jobs[c->active[i]];

		if (!movable(c, j))
			continue;
		if (mem_short) {
			if (!first || cpx_load_mem_rank(&c->own, j->need.mem) <
					      cpx_load_mem_rank(&c->own, first->need.mem))
				first = j;
		} else if (!first || j->need.load > first->need.load) {
			second = first;
			first = j;
		} else if (!second || j->need.load > second->need.load) {
			second = j;
		}
	}
	return second ? second : first;
}

static void offer(struct cpx_core *c, uint32_t placer)
{
	bool mem_short = cpx_load_mem_short(&c->own);
	struct job *j = victim(c, mem_short);
	const struct cpx_load_need none = { 0 };
	struct cpx_core_act *a;
	uint32_t i, n = 0;
	int at;

	if (!j)
		return;
	for (i = 1; i < c->nnodes; i++) {
		const struct cpx_gossip_entry *e = cpx_gossip_get(&c->gossip, i);

		if (!e || i == c->cfg.self || !core_alive(c, i) ||
		    e->life != c->nodes[i].lease || j->rec.needs & ~c->nodes[i].features ||
		    (e->f.flags | c->nodes[i].flags) & (CPX_NODE_BLOCK | CPX_NODE_DRAIN))
			continue;
		if (!mem_short && !cpx_load_worth_moving(&c->own, &e->f, &j->need, &none,
							 j->used_ms, c->cfg.move_ms))
			continue;
		c->cand[n].node = i;
		c->cand[n].cost = cpx_load_cost(&e->f, &j->need, &none, c->nnodes);
		c->cand[n].future =
			e->f.upper + cpx_load_add(j->need.load, e->f.ncpus, e->f.speed);
		n++;
	}
	at = cpx_load_choose(c->cand, n, core_draw(c));
	if (at < 0)
		return;
	a = core_emit(c, CPX_ACT_OFFER);
	a->job = j->rec.job;
	a->epoch = j->epoch;
	a->node = placer;
	a->target = c->cand[at].node;
}

void balance_second(struct cpx_core *c)
{
	struct cpx_core_act *a;
	uint32_t to = draw_node(c), i;

	if (to) {
		cpx_gossip_make(&c->gossip, &c->gossip_msg);
		a = core_emit(c, CPX_ACT_GOSSIP);
		a->node = to;
		a->gossip = &c->gossip_msg;
	}
	if (!c->cfg.balance || !core_lease_ok(c) || !c->placer ||
	    (c->own.flags | c->nodes[c->cfg.self].flags) & CPX_NODE_STAY)
		return;
	for (i = 1; i < c->nnodes; i++)
		if (c->nodes[i].lease == c->placer)
			offer(c, i);
}
