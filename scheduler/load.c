/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See load.h. The constants 5:3 and 7:1, and when they apply, are openMosix's. */
#include "load.h"

#include <math.h>

#define MEM_BASE_MIN 10
#define FETCH_UNIT_S 60.0
#define ROUNDING 1e-9
#define MOVE_GAIN 2 /* a move must gain twice what it costs */

void cpx_load_meter_init(struct cpx_load_meter *m, uint32_t ncpus, uint32_t speed)
{
	*m = (struct cpx_load_meter){ .ncpus = ncpus ? ncpus : 1,
				      .speed = speed ? speed : CPX_LOAD_STD_SPEED };
}

static uint32_t cut(uint64_t v)
{
	return v > CPX_LOAD_MAX ? CPX_LOAD_MAX : (uint32_t)v;
}

void cpx_load_second(struct cpx_load_meter *m, uint64_t adder, uint32_t ticks)
{
	uint64_t now;

	if (!ticks)
		return;
	/* so many looks that the product would not fit have seen more than any figure may say
	 */
	now = adder > UINT64_MAX / CPX_LOAD_ONE ? CPX_LOAD_MAX
						: cut(adder * CPX_LOAD_ONE / ticks);
	m->mean128 = now * 128 > m->mean128 ? (5 * m->mean128 + 3 * now * 128) / 8 : now * 128;
	m->upper = now >= m->upper ? now : (7 * m->upper + now) / 8;
}

/* @raw over @scale, by processors and speed, rounded. */
static uint32_t normalise(uint64_t raw, uint32_t scale, uint32_t ncpus, uint32_t speed)
{
	uint64_t div =
		(uint64_t)scale * (ncpus ? ncpus : 1) * (speed ? speed : CPX_LOAD_STD_SPEED);

	return cut((raw * CPX_LOAD_STD_SPEED + div / 2) / div);
}

uint32_t cpx_load_mean(const struct cpx_load_meter *m)
{
	return normalise(m->mean128, 128, m->ncpus, m->speed);
}

uint32_t cpx_load_upper(const struct cpx_load_meter *m)
{
	return normalise(m->upper, 1, m->ncpus, m->speed);
}

uint32_t cpx_load_add(uint32_t load, uint32_t ncpus, uint32_t speed)
{
	return normalise(load, 1, ncpus, speed);
}

uint32_t cpx_load_of_job(uint32_t last, uint32_t ran, uint32_t ticks)
{
	uint64_t now = ticks ? (uint64_t)ran * CPX_LOAD_ONE / ticks : 0;

	return cut((5 * (uint64_t)last + 3 * now) / 8);
}

/* What @need costs by memory on top of @used MiB: exponential in their share. */
static double mem_cost(const struct cpx_load_figures *f, double used, uint32_t need,
		       uint32_t nodes)
{
	double base = nodes > MEM_BASE_MIN ? nodes : MEM_BASE_MIN;

	if (!f->mem_total || !need)
		return 0;
	return pow(base, (used + need) / f->mem_total) - pow(base, used / f->mem_total);
}

double cpx_load_cost(const struct cpx_load_figures *f, const struct cpx_load_need *need,
		     const struct cpx_load_need *extra, uint32_t nodes)
{
	uint64_t taken = (uint64_t)extra->mem + need->mem;
	double load = f->upper + cpx_load_add(extra->load, f->ncpus, f->speed);
	double one = cpx_load_add(need->load, f->ncpus, f->speed);
	double cost;

	if (need->mem && (!f->mem_total || taken > f->mem_free))
		return -1;
	if (f->load_max && load + one > f->load_max)
		return -1;
	/* jobs there lose @one each, this one waits behind all of them and itself */
	cost = (2 * load + one) / CPX_LOAD_ONE;
	cost += mem_cost(f, (double)f->mem_total - f->mem_free + extra->mem, need->mem, nodes);
	if (f->fetch_mbps)
		cost += (double)need->image / f->fetch_mbps / FETCH_UNIT_S;
	return cost;
}

/* What its leaving frees here: the same, the other way round. */
static double refund(const struct cpx_load_figures *f, const struct cpx_load_need *need,
		     uint32_t nodes)
{
	double one = cpx_load_add(need->load, f->ncpus, f->speed);
	double used = (double)f->mem_total - f->mem_free - need->mem;

	return (2.0 * f->mean - one) / CPX_LOAD_ONE +
	       mem_cost(f, used < 0 ? 0 : used, need->mem, nodes);
}

int cpx_load_choose(const struct cpx_load_candidate *c, size_t n, uint64_t random)
{
	size_t i, equal = 0, pick;
	int best = -1;

	for (i = 0; i < n; i++)
		if (c[i].cost >= 0 && (best < 0 || c[i].cost < c[best].cost))
			best = (int)i;
	if (best < 0)
		return -1;
/* as good: the job would run as fast, and the rest (memory, fetching) costs a tenth more at
 * most */
#define EQUAL(i)                                                           \
	(c[i].cost >= 0 && c[i].future <= c[best].future + CPX_LOAD_TIE && \
	 c[i].cost <= c[best].cost * 1.1 + 0.05)
	for (i = 0; i < n; i++)
		equal += EQUAL(i);
	pick = random % equal;
	for (i = 0; i < n; i++)
		if (EQUAL(i) && pick-- == 0)
			break;
	return (int)i;
#undef EQUAL
}

bool cpx_load_worth_moving(const struct cpx_load_figures *from,
			   const struct cpx_load_figures *to, const struct cpx_load_need *need,
			   const struct cpx_load_need *extra, uint32_t nodes, uint64_t used_ms,
			   uint64_t cost_ms)
{
	double cost = cpx_load_cost(to, need, extra, nodes);
	uint32_t here = cpx_load_add(need->load, from->ncpus, from->speed);
	uint32_t there = cpx_load_add(need->load, to->ncpus, to->speed);
	double one = here < there ? here : there;
	double gain = refund(from, need, nodes) - cost;

	/* twice, as both ends of a move are in the sum */
	if (cost < 0 ||
	    gain <= 2 * one * (CPX_LOAD_STABILITY - 100) / 100 / CPX_LOAD_ONE + ROUNDING)
		return false;
	/* what is left of it, and of those like it, ends that much earlier */
	return (double)used_ms * gain > (double)MOVE_GAIN * (double)cost_ms;
}

bool cpx_load_mem_short(const struct cpx_load_figures *f)
{
	return f->mem_total && f->mem_free < f->mem_total / 16;
}

uint64_t cpx_load_mem_rank(const struct cpx_load_figures *f, uint32_t mem)
{
	uint64_t wanted = f->mem_total / 16 > f->mem_free ? f->mem_total / 16 - f->mem_free : 0;

	if (!mem)
		return UINT64_MAX;
	/* those whose departure ends it come first, the smallest of them; then the largest */
	return mem >= wanted ? mem : UINT64_MAX / 2 - mem;
}
