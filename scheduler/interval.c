/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the choice stays calm: the first checkpoint comes after MIN; from there the period at
 * most doubles each time (which also shows how dirty() grows), unless a checkpoint is so costly
 * that this would be more than a tenth of the time; it is at most halved at once; and it stays
 * as it is where the new one would differ by less than a twentieth, for the waste near its
 * least is flat.
 */
#include "interval.h"

#include <math.h>
#include <stdio.h>

#define GIB 1073741824.0
#define FADE 0.97	     /* weight of a point when the next one comes */
#define PRIOR_FAILURES 0.5   /* before anything is seen: half a failure .. */
#define PRIOR_MTBF_S 86400.0 /* .. where one a day is expected */
#define PRIOR_GROWTH 0.5     /* e, and how many points with how much spread it weighs */
#define PRIOR_GROWTH_WEIGHT 0.05
#define GROWTH_MAX 0.95
#define PRIOR_SLOPE_WEIGHT 0.1 /* c1: half of the cost is by bytes, until it is seen */
#define STEP 2.0
#define STEP_COST 10.0 /* while it grows, checkpoints cost at most 1/10 */
#define SAME 0.05
#define ROUNDS 12
#define BYTES_LEAST 4096.0
#define TIME_LEAST 1e-6
#define SUM_MAX 1e12

static double clamp(double v, double min, double max)
{
	return v >= max ? max : v > min ? v : min; /* NaN: min */
}

/* --- fits ---------------------------------------------------------------------------- */

static void fit_add(struct cpx_fit *f, double x, double y)
{
	f->n = f->n * FADE + 1;
	f->x = f->x * FADE + x;
	f->y = f->y * FADE + y;
	f->xx = f->xx * FADE + x * x;
	f->xy = f->xy * FADE + x * y;
}

/* The line y = *mean + slope * (x - *at), its slope drawn to @prior by @weight. */
static double fit_line(const struct cpx_fit *f, double prior, double weight, double *at,
		       double *mean)
{
	double sxx, sxy;

	*at = f->x / f->n;
	*mean = f->y / f->n;
	sxx = fmax(f->xx - f->x * *at, 0);
	sxy = f->xy - f->x * *mean;
	return (sxy + prior * weight) / (sxx + weight);
}

/* A cost that grows with bytes: c0 + c1 * GiB. */
struct line {
	double c0, c1;
};

static struct line cost_line(const struct cpx_fit *f)
{
	struct line l = { 0 };
	double at, mean, prior;

	if (f->n <= 0)
		return l;
	prior = f->x > 0 ? f->y / f->x / 2 : 0;
	/* the weight in the unit of x: what a point a tenth of the mean away has */
	l.c1 = fit_line(f, prior, PRIOR_SLOPE_WEIGHT * (f->x / f->n) * (f->x / f->n) + 1e-12,
			&at, &mean);
	l.c1 = clamp(l.c1, 0, at > 0 ? mean / at : 0);
	l.c0 = fmax(mean - l.c1 * at, 0);
	return l;
}

/* --- the model ----------------------------------------------------------------------- */

struct model {
	struct line cost, delay;
	double growth, at, bytes; /* dirty = exp(bytes + growth * (ln t - at)) */
	double memory, rate;
};

static double failure_rate(const struct cpx_failures *job, const struct cpx_failures *node)
{
	double node_s = (double)node->seen_ns / 1e9, job_s = (double)job->seen_ns / 1e9;
	double rate = (PRIOR_FAILURES + (double)node->count) /
		      (PRIOR_FAILURES * PRIOR_MTBF_S + fmax(node_s, 0));

	return (PRIOR_FAILURES + (double)job->count) / (PRIOR_FAILURES / rate + fmax(job_s, 0));
}

static void make_model(const struct cpx_learned *l, const struct cpx_failures *node,
		       struct model *m)
{
	m->cost = cost_line(&l->cost);
	m->delay = cost_line(&l->delay);
	m->rate = failure_rate(&l->failures, node);
	m->memory = fmax(l->memory, BYTES_LEAST);
	m->growth = 0;
	m->at = 0;
	m->bytes = log(m->memory);
	if (l->dirty.n > 0)
		m->growth = clamp(fit_line(&l->dirty, PRIOR_GROWTH, PRIOR_GROWTH_WEIGHT, &m->at,
					   &m->bytes),
				  0, GROWTH_MAX);
}

static double dirty_gib(const struct model *m, double t)
{
	return fmin(exp(m->bytes + m->growth * (log(t) - m->at)), m->memory) / GIB;
}

static double cost_at(const struct line *l, double gib)
{
	return fmax(l->c0 + l->c1 * gib, TIME_LEAST);
}

/*
 * Where the derivative of the waste is zero:
 *	t^2 * rate/2 + t * rate * l1 * e * dirty(t) = c0 + (1 - e) * c1 * dirty(t)
 * The right side grows slower than t^2, so putting t in again and again ends at it.
 */
static double best_period(const struct model *m, double t)
{
	for (int i = 0; i < ROUNDS; i++) {
		double gib = dirty_gib(m, t), old = t;
		double c = fmax(m->cost.c0 + (1 - m->growth) * m->cost.c1 * gib, TIME_LEAST);
		double d = m->delay.c1 * m->growth * gib;

		t = sqrt(d * d + 2 * c / m->rate) - d;
		if (!(t > TIME_LEAST))
			t = TIME_LEAST;
		if (fabs(t - old) < old * 1e-3)
			break;
	}
	return t;
}

/* --- the choice ---------------------------------------------------------------------- */

/* The next period: from the last one towards the best one. */
static double calm(double best, double last, double cost)
{
	double most = fmax(STEP * last, STEP_COST * cost);

	if (fabs(best - last) < SAME * last)
		return last;
	return fmax(fmin(best, most), last / STEP);
}

/* A period, within what the bounds of the interval allow. */
static double bounded(double period, double delay, const struct cpx_interval_bounds *b)
{
	return clamp(period, (double)b->min_ns / 1e9 + delay, (double)b->max_ns / 1e9 + delay);
}

static double delay_at(const struct model *m, double period)
{
	return cost_at(&m->delay, dirty_gib(m, period));
}

static double seconds_of(const struct cpx_learned *l, const struct cpx_interval_bounds *b)
{
	return (double)(l->period_ns > 0 ? l->period_ns : b->min_ns) / 1e9;
}

void cpx_interval_choose(const struct cpx_learned *l, const struct cpx_failures *node,
			 const struct cpx_interval_bounds *b, struct cpx_interval *out)
{
	double best, period = seconds_of(l, b);
	struct model m;

	*out = (struct cpx_interval){ .ns = b->min_ns, .period_ns = b->min_ns };
	make_model(l, node, &m);
	out->mtbf_s = 1 / m.rate;
	out->known = l->cost.n > 0;
	if (!out->known)
		return;
	best = best_period(&m, period);
	period = bounded(period, delay_at(&m, period), b);
	out->cost_s = cost_at(&m.cost, dirty_gib(&m, period));
	out->delay_s = delay_at(&m, period);
	out->period_ns = (int64_t)(period * 1e9);
	out->ns = (int64_t)clamp((period - out->delay_s) * 1e9, (double)b->min_ns,
				 (double)b->max_ns);
	out->growing = best > period * (1 + SAME);
	/* the bound holds at once, the period only when the next one is settled */
	if (best > bounded(best, out->delay_s, b) && out->ns >= b->max_ns - b->max_ns / 32)
		out->at_bound = 1;
	else if (best < bounded(best, out->delay_s, b) && out->ns <= b->min_ns + b->min_ns / 32)
		out->at_bound = -1;
}

static void learn_dirty(struct cpx_learned *l, const struct cpx_observed *o)
{
	double bytes = fmax((double)o->bytes, BYTES_LEAST);

	if (o->full)
		l->memory = bytes;
	/* a full one between others says nothing about what was changed; where all are full,
	 * that much is written each time */
	if ((!o->full || l->full) && o->period_ns > 0)
		fit_add(&l->dirty, log((double)o->period_ns / 1e9), log(bytes));
	l->full = o->full;
	l->memory = fmax(l->memory, bytes);
}

void cpx_interval_learn(struct cpx_learned *l, const struct cpx_observed *o,
			const struct cpx_failures *node, const struct cpx_interval_bounds *b)
{
	double gib = fmax((double)o->bytes, BYTES_LEAST) / GIB, last = seconds_of(l, b), best;
	struct cpx_learned new = *l;
	struct model m;

	fit_add(&new.cost, gib, (double)(o->cost_ns > 0 ? o->cost_ns : 0) / 1e9);
	fit_add(&new.delay, gib, (double)(o->delay_ns > 0 ? o->delay_ns : 0) / 1e9);
	learn_dirty(&new, o);
	make_model(&new, node, &m);
	best = best_period(&m, last);
	best = calm(best, last, cost_at(&m.cost, dirty_gib(&m, best)));
	new.period_ns = (int64_t)(bounded(best, delay_at(&m, best), b) * 1e9);
	if (cpx_learned_ok(&new))
		*l = new;
}

static bool fit_ok(const struct cpx_fit *f)
{
	/* NaN compares false */
	return f->n >= 0 && f->n <= 1 / (1 - FADE) + 1 && fabs(f->x) <= SUM_MAX &&
	       fabs(f->y) <= SUM_MAX && f->xx >= 0 && f->xx <= SUM_MAX &&
	       fabs(f->xy) <= SUM_MAX;
}

bool cpx_learned_ok(const struct cpx_learned *l)
{
	return fit_ok(&l->dirty) && fit_ok(&l->cost) && fit_ok(&l->delay) && l->memory >= 0 &&
	       l->memory <= (double)INT64_MAX && l->period_ns >= 0 && l->failures.seen_ns >= 0;
}

/* --- words --------------------------------------------------------------------------- */

const char *cpx_interval_time(double s, char *buf, size_t size)
{
	static const struct {
		double from, unit;
		const char *name;
	} units[] = { { 2 * 86400.0, 86400, "d" },
		      { 2 * 3600.0, 3600, "h" },
		      { 120, 60, "min" },
		      { 1, 1, "s" },
		      { 0, 0.001, "ms" } };
	size_t i = 0;

	while (s < units[i].from && i < 4)
		i++;
	s /= units[i].unit;
	snprintf(buf, size, s < 9.95 ? "%.1f %s" : "%.0f %s", s, units[i].name);
	return buf;
}

const char *cpx_interval_reason(const struct cpx_learned *l, const struct cpx_interval *i,
				char *buf, size_t size)
{
	static const char *const bounds[] = { ", the least allowed", "", ", the most allowed" };
	char every[24], cost[24], mtbf[24], seen[24];

	cpx_interval_time((double)i->ns / 1e9, every, sizeof(every));
	if (!i->known) {
		snprintf(buf, size, "the first after %s, to learn what one costs", every);
		return buf;
	}
	snprintf(buf, size,
		 "every %s%s%s: one costs the job %s, and a failure is expected in %s (%llu "
		 "seen "
		 "in %s)",
		 every, bounds[i->at_bound + 1], i->growing && !i->at_bound ? ", growing" : "",
		 cpx_interval_time(i->cost_s, cost, sizeof(cost)),
		 cpx_interval_time(i->mtbf_s, mtbf, sizeof(mtbf)),
		 (unsigned long long)l->failures.count,
		 cpx_interval_time((double)l->failures.seen_ns / 1e9, seen, sizeof(seen)));
	return buf;
}
