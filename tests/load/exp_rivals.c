/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Schedulers that know everything at once; the first two also move jobs, for nothing. */
#include "exp.h"

#include <stdlib.h>

struct world {
	struct exp *x;
	struct share *m;	     /* 1..nnodes */
	double *next;		     /* when its first job ends */
	uint32_t *first, turn, over; /* @over: nodes that thrash */
};

static double slow(const struct share *m, double n, uint64_t mem)
{
	return n * n * CPX_LOAD_STD_SPEED / m->speed * (mem > m->mem_total ? 10 : 1);
}

/* What the sum of slowdowns changes by when @n jobs of @mem more run there. */
static double change(const struct share *m, int n, int64_t mem)
{
	return slow(m, (double)m->n + n, (uint64_t)((int64_t)m->mem + mem)) -
	       slow(m, m->n, m->mem);
}

static void look(struct world *w, uint32_t node)
{
	w->next[node] = share_next(&w->m[node], &w->first[node]);
}

static void put(struct world *w, uint32_t node, uint32_t job, double left)
{
	share_mem(&w->m[node], w->x->job[job].mem);
	share_add(&w->m[node], job, left);
	look(w, node);
}

static double pull(struct world *w, uint32_t node, uint32_t job)
{
	double left = share_remove(&w->m[node], job);

	share_mem(&w->m[node], -(int64_t)w->x->job[job].mem);
	look(w, node);
	return left;
}

static void move(struct world *w, uint32_t a, uint32_t job, uint32_t b)
{
	double left;

	share_to(&w->m[a], w->m[a].now);
	left = pull(w, a, job);
	put(w, b, job, left);
}

/* The best single move by how full nodes are alone. Return: was there one? */
static bool level(struct world *w)
{
	uint32_t i, a = 0, b = 0;
	double most = 0, least = 1e18, d;

	for (i = 1; i <= w->x->nnodes; i++) {
		d = w->m[i].n ? -change(&w->m[i], -1, 0) : 0;
		if (d > most) {
			most = d;
			a = i;
		}
		d = change(&w->m[i], 1, 0);
		if (d < least) {
			least = d;
			b = i;
		}
	}
	if (!a || a == b || most <= least + 1e-9)
		return false;
	share_to(&w->m[b], w->m[a].now > w->m[b].now ? w->m[a].now : w->m[b].now);
	share_to(&w->m[a], w->m[b].now);
	move(w, a, w->m[a].job[w->m[a].n - 1], b);
	return true;
}

struct best {
	double gain;
	uint32_t a, b, job, back; /* @back: for which it is exchanged; UINT32_MAX: none */
};

static void try(struct world *w, struct best *best, uint32_t a, uint32_t b, uint32_t job,
		uint32_t back)
{
	int64_t mem = w->x->job[job].mem, mem_back = 0;
	int n = 1;
	double gain;

	if (back != UINT32_MAX) {
		mem_back = w->x->job[back].mem;
		n = 0;
	}
	gain = -change(&w->m[a], -n, mem_back - mem) - change(&w->m[b], n, mem - mem_back);
	if (gain > best->gain + 1e-9)
		*best = (struct best){ gain, a, b, job, back };
}

static void tries(struct world *w, struct best *best, uint32_t a, uint32_t b, bool exchange)
{
	uint32_t i, k;

	for (i = 0; i < w->m[a].n; i++) {
		try(w, best, a, b, w->m[a].job[i], UINT32_MAX);
		for (k = 0; exchange && k < w->m[b].n; k++)
			try(w, best, a, b, w->m[a].job[i], w->m[b].job[k]);
	}
}

static bool reassign(struct world *w)
{
	struct best best = { 0 };
	bool exchange = false;
	uint32_t a, b;

	for (a = 1; a <= w->x->nnodes; a++)
		exchange |= w->m[a].mem > w->m[a].mem_total;
	for (a = 1; a <= w->x->nnodes; a++)
		for (b = 1; b <= w->x->nnodes; b++)
			if (a != b)
				tries(w, &best, a, b, exchange);
	if (best.gain <= 0)
		return false;
	if (best.back != UINT32_MAX)
		move(w, best.b, best.back, best.a);
	move(w, best.a, best.job, best.b);
	return true;
}

static void all_to(struct world *w, double now)
{
	uint32_t i;

	for (i = 1; i <= w->x->nnodes; i++)
		share_to(&w->m[i], now);
}

static uint32_t better(const struct world *w, uint32_t a, uint32_t b)
{
	return (double)(w->m[b].n + 1) / w->m[b].speed < (double)(w->m[a].n + 1) / w->m[a].speed
		       ? b
		       : a;
}

static uint32_t choose(struct world *w, enum exp_rival how, uint32_t job)
{
	uint32_t i, n = w->x->nnodes, at = 1;

	if (how == EXP_ROUND_ROBIN)
		return 1 + w->turn++ % n;
	if (how == EXP_TWO)
		return better(w, 1 + (uint32_t)(exp_draw(w->x) % n),
			      1 + (uint32_t)(exp_draw(w->x) % n));
	for (i = 2; i <= n; i++)
		if (how == EXP_LEAST ? better(w, at, i) == i
				     : change(&w->m[i], 1, w->x->job[job].mem) <
					       change(&w->m[at], 1, w->x->job[job].mem))
			at = i;
	return at;
}

static void settle(struct world *w, enum exp_rival how, double now)
{
	if (how == EXP_EXHAUSTIVE) {
		all_to(w, now);
		while (reassign(w))
			;
	}
	while (how == EXP_OMNISCIENT && level(w))
		;
}

static uint32_t first_end(const struct world *w)
{
	uint32_t i, at = 0;

	for (i = 1; i <= w->x->nnodes; i++)
		if (w->next[i] >= 0 && (!at || w->next[i] < w->next[at]))
			at = i;
	return at;
}

static void run(struct world *w, enum exp_rival how)
{
	struct exp *x = w->x;
	uint32_t next = 0, at;
	double now;

	while ((at = first_end(w)) || next < x->njobs) {
		if (!at || (next < x->njobs && x->job[next].at <= w->next[at])) {
			now = x->job[next].at;
			at = choose(w, how, next);
			share_to(&w->m[at], now);
			put(w, at, next, x->job[next].work);
			next++;
		} else {
			uint32_t job = w->first[at];

			now = w->next[at];
			share_to(&w->m[at], now);
			pull(w, at, job);
			x->job[job].end = now;
		}
		settle(w, how, now);
	}
}

void rival_run(struct exp *x, enum exp_rival how)
{
	struct world w = { .x = x };
	uint32_t i;

	w.m = exp_need(calloc(x->nnodes + 1, sizeof(*w.m)));
	w.next = exp_need(calloc(x->nnodes + 1, sizeof(*w.next)));
	w.first = exp_need(calloc(x->nnodes + 1, sizeof(*w.first)));
	for (i = 1; i <= x->nnodes; i++) {
		w.m[i].speed = x->node[i].speed;
		w.m[i].mem_total = x->node[i].mem;
		w.next[i] = -1;
	}
	run(&w, how);
	for (i = 1; i <= x->nnodes; i++) {
		free(w.m[i].job);
		free(w.m[i].left);
	}
	free(w.m);
	free(w.next);
	free(w.first);
}
