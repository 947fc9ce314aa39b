/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Once a second: tell one other node what is known, and offer the placer one job at most.
 *
 * The job with the second highest load is offered (openMosix: leave the hottest alone), to
 * where it costs least, if that pays (cpx_load_worth_moving). When memory is short, the job
 * that best ends the shortage is offered without asking whether it pays.
 */
#include "core_impl.h"

#define DRAWS 32
#define MS 1000000ll

/* Most numbers below the highest are living nodes; where not, they are gone through. */
static uint32_t draw_node(struct cpx_core *c)
{
	uint32_t i, node = 0;

	for (i = 0; i < DRAWS; i++) {
		node = (uint32_t)(core_draw(c) % c->nnodes);
		if (core_alive(c, node) && node != c->cfg.self)
			return node;
	}
	for (i = 0; i < c->nnodes; i++) {
		node = (node + 1) % c->nnodes;
		if (core_alive(c, node) && node != c->cfg.self)
			return node;
	}
	return 0;
}

static bool movable(const struct cpx_core *c, const struct job *j)
{
	return j->copy == COPY_UP && !j->rec.pinned && !j->rec.place && !j->rec.halt &&
	       j->rec.owner == c->cfg.self && j->rec.lease == c->lease &&
	       c->now >= j->place_retry_at &&
	       c->now - j->up_at > (int64_t)(2 * c->cfg.move_ms) * MS;
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

/* Where it would be better off: into c->cand. Return: how many. */
static uint32_t better(struct cpx_core *c, const struct job *j, bool mem_short)
{
	const struct cpx_load_need none = { 0 };
	uint32_t i, n = 0;

	for (i = 0; i < c->gossip.n; i++) {
		const struct cpx_gossip_entry *e = core_fresh(c, c->gossip.e[i].node);

		if (!e || e->node == c->cfg.self ||
		    j->rec.needs & ~c->nodes[e->node].features ||
		    (e->f.flags | c->nodes[e->node].flags) & (CPX_NODE_BLOCK | CPX_NODE_DRAIN))
			continue;
		if (!mem_short && !cpx_load_worth_moving(&c->own, &e->f, &j->need, &none,
							 c->nnodes, j->used_ms, c->cfg.move_ms))
			continue;
		if (!core_grow(c, (void **)&c->cand, &c->ncand, sizeof(*c->cand), n))
			break;
		c->cand[n].node = e->node;
		c->cand[n].cost = cpx_load_cost(&e->f, &j->need, &none, c->nnodes);
		c->cand[n].future =
			e->f.upper + cpx_load_add(j->need.load, e->f.ncpus, e->f.speed);
		n++;
	}
	return n;
}

static void offer(struct cpx_core *c, uint32_t placer)
{
	bool mem_short = cpx_load_mem_short(&c->own);
	struct job *j = victim(c, mem_short);
	struct cpx_core_act *a;
	int at;

	if (!j)
		return;
	at = cpx_load_choose(c->cand, better(c, j, mem_short), core_draw(c));
	if (at < 0)
		return;
	a = core_emit(c, CPX_ACT_OFFER);
	a->job = j->rec.job;
	a->epoch = j->epoch;
	a->node = placer;
	a->target = c->cand[at].node;
	a->need = j->need;
	a->used_ms = j->used_ms;
	a->figures = c->own;
}

void balance_second(struct cpx_core *c)
{
	struct cpx_core_act *a;
	uint32_t to = draw_node(c), placer;

	if (to) {
		cpx_gossip_make(&c->gossip, &c->gossip_msg);
		a = core_emit(c, CPX_ACT_GOSSIP);
		a->node = to;
		a->gossip = &c->gossip_msg;
	}
	if (!c->cfg.balance || !core_lease_ok(c) ||
	    (c->own.flags | c->nodes[c->cfg.self].flags) & CPX_NODE_STAY)
		return;
	placer = core_placer_node(c);
	if (placer)
		offer(c, placer);
}
