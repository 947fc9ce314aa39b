/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interval against what could be known only afterwards: jobs of several kinds live through
 * traces of failures, once with intervals that cpx_interval_learn() chooses from what it saw so
 * far, once with each fixed interval of a fine grid; the best of those is chosen for each trace
 * by itself, after the fact. Time is virtual, all is a function of the seed.
 *
 * SEED=n shows one trace; TRACES=n, FAILURES=n (a trace) change the amount.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../scheduler/interval.h"

#define TRACES 10000
#define FAILURES 150
#define GRID 72
#define GRID_STEP 1.08
#define MEAN_MAX 1.05
#define P95_MAX 1.15
#define THREADS_MAX 16
#define GIB 1073741824.0
#define DAY 86400.0

/* What a job changes: how many bytes in how long. */
enum kind { ALL, RANDOM, HOT, POWER, KINDS };
static const char *const kind_names[KINDS] = { "all", "random", "hot", "power" };

struct trace {
	uint64_t seed, rng;
	enum kind kind;
	double shape, mtbf;  /* Weibull; shape 1: exponential */
	double memory, rate; /* bytes; the kind's own number */
	double c0, c1, l0, l1;
	double noise;
	int failures;
	double *gaps; /* seconds from each start to the failure that ends it */
};

static double uniform(struct trace *t) /* in (0, 1) */
{
	uint64_t z = t->rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	z ^= z >> 31;
	return ((double)(z >> 11) + 0.5) / 9007199254740992.0;
}

static double between(struct trace *t, double min, double max) /* evenly in the logarithm */
{
	return min * pow(max / min, uniform(t));
}

static double normal(struct trace *t)
{
	return sqrt(-2 * log(uniform(t))) * cos(6.283185307179586 * uniform(t));
}

static double dirty(const struct trace *t, double period)
{
	switch (t->kind) {
	case RANDOM:
		return t->memory * (1 - exp(-period / t->rate));
	case HOT:
		return fmin(t->memory * (0.05 + period / t->rate), t->memory);
	case POWER:
		return fmin(t->memory * sqrt(period / t->rate), t->memory);
	default:
		return t->memory;
	}
}

static double cost(const struct trace *t, double bytes)
{
	return t->c0 + t->c1 * bytes / GIB;
}

static double delay(const struct trace *t, double bytes)
{
	return t->l0 + t->l1 * bytes / GIB;
}

/* A job and its failures. A full checkpoint costs between 1/3000 and 1/100 of the MTBF. */
static void make(struct trace *t, uint64_t seed, int failures, double *gaps)
{
	static const double shapes[] = { 1, 1, 0.7, 1.5 };
	double full, fixed, slower, scale;

	*t = (struct trace){ .seed = seed, .rng = seed * 0x2545f4914f6cdd1du + 1 };
	t->failures = failures;
	t->gaps = gaps;
	t->kind = (enum kind)(seed % KINDS);
	t->shape = shapes[seed / KINDS % 4];
	t->mtbf = between(t, DAY / 12, DAY * 10);
	t->memory = between(t, GIB / 16, GIB * 64);
	t->rate = between(t, t->mtbf / 100, t->mtbf);
	full = t->mtbf * between(t, 3e-4, 1e-2);
	fixed = between(t, 0.02, 0.5);
	slower = between(t, 1, 5); /* written beside the job: durable later than it costs */
	t->c0 = full * fixed;
	t->c1 = full * (1 - fixed) / (t->memory / GIB);
	t->l0 = t->c0 * slower;
	t->l1 = t->c1 * slower;
	t->noise = between(t, 0.01, 0.2);
	scale = t->mtbf / tgamma(1 + 1 / t->shape);
	for (int i = 0; i < failures; i++)
		gaps[i] = scale * pow(-log(uniform(t)), 1 / t->shape);
}

/* --- lives --------------------------------------------------------------------------- */

/* Seconds lost with interval @tau: checkpoints that were paid for, and work done again. */
static double live_fixed(const struct trace *t, double tau)
{
	double first = tau + delay(t, t->memory), period = tau, snap, waste = 0;
	double c, c_full = cost(t, t->memory);

	for (int i = 0; i < 30; i++)
		period = tau + delay(t, dirty(t, period));
	c = cost(t, dirty(t, period));
	for (int i = 0; i < t->failures; i++) {
		double n, gap = t->gaps[i];

		if (gap < first) {
			waste += gap;
			continue;
		}
		/* the cost of the last one, like all after it, is in the time since its
		 * snapshot */
		n = floor((gap - first) / period);
		snap = n > 0 ? first + (n - 1) * period + tau : tau;
		waste += gap - snap + (n > 0 ? c_full + (n - 1) * c : 0);
	}
	return waste;
}

static double best_fixed(const struct trace *t, double *at)
{
	double guess = sqrt(2 * cost(t, dirty(t, t->mtbf / 20)) * t->mtbf), best = INFINITY;

	for (int i = 0; i < GRID; i++) {
		double tau = guess * pow(GRID_STEP, i - GRID * 0.6);
		double waste = live_fixed(t, tau);

		if (waste < best) {
			best = waste;
			*at = tau;
		}
	}
	return best;
}

struct life {
	double wrong; /* factor on each interval: 1 for the rule as it is */
	struct cpx_learned l;
	struct cpx_interval_bounds bounds;
	double waste, last_tau;
};

static const struct cpx_failures no_node;

/* From a start to the failure after @gap seconds. The first checkpoint is a full one. */
static void live_once(struct trace *t, struct life *life, double gap)
{
	double now = 0, snap = 0, paid = 0, seen = 0;
	bool full = true;

	for (;;) {
		double noise = exp(t->noise * normal(t) - t->noise * t->noise / 2);
		double bytes, start, period, c, d;
		struct cpx_interval choice;

		cpx_interval_choose(&life->l, &no_node, &life->bounds, &choice);
		life->last_tau = (double)choice.ns / 1e9 * life->wrong;
		start = now + life->last_tau;
		period = start - snap;
		bytes = full ? t->memory : dirty(t, period);
		c = cost(t, bytes) * noise;
		d = delay(t, bytes) * noise;
		if (start + d > gap)
			break;
		life->waste +=
			paid; /* for the last one; that of this one is in the time since */
		paid = c;
		snap = start;
		now = start + d;
		life->l.failures.seen_ns += (int64_t)((now - seen) * 1e9);
		seen = now;
		cpx_interval_learn(&life->l,
				   &(struct cpx_observed){ .period_ns = (int64_t)(period * 1e9),
							   .cost_ns = (int64_t)(c * 1e9),
							   .delay_ns = (int64_t)(d * 1e9),
							   .bytes = (uint64_t)bytes,
							   .full = full || t->kind == ALL },
				   &no_node, &life->bounds);
		full = false;
	}
	life->waste += gap - snap;
	life->l.failures.count++;
}

static double live_auto(struct trace *t, double wrong, struct life *life)
{
	*life = (struct life){ .wrong = wrong,
			       .bounds = { CPX_INTERVAL_MIN_NS, 365 * 86400 * 1000000000LL } };
	for (int i = 0; i < t->failures; i++)
		live_once(t, life, t->gaps[i]);
	return life->waste;
}

/* --- all traces ---------------------------------------------------------------------- */

struct work {
	pthread_t thread;
	int first, step, traces, failures;
	double wrong;
	double *ratios;
};

static void *worker(void *arg)
{
	struct work *w = arg;
	double *gaps = calloc((size_t)w->failures, sizeof(*gaps)), at;
	struct life life;
	struct trace t;

	for (int i = w->first; gaps && i < w->traces; i += w->step) {
		make(&t, (uint64_t)i, w->failures, gaps);
		w->ratios[i] = live_auto(&t, w->wrong, &life) / best_fixed(&t, &at);
	}
	free(gaps);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int number(const char *name, int otherwise)
{
	const char *s = getenv(name);

	return s ? atoi(s) : otherwise;
}

static void run_all(double *ratios, int n, int failures, double wrong)
{
	struct work w[THREADS_MAX];
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int threads = cores < 1 ? 1 : cores > THREADS_MAX ? THREADS_MAX : (int)cores;

	for (int i = 0; i < threads; i++) {
		w[i] = (struct work){ .first = i,
				      .step = threads,
				      .traces = n,
				      .failures = failures,
				      .wrong = wrong,
				      .ratios = ratios };
		assert_int_equal(pthread_create(&w[i].thread, NULL, worker, &w[i]), 0);
	}
	for (int i = 0; i < threads; i++)
		pthread_join(w[i].thread, NULL);
}

static void print_groups(const double *ratios, int n)
{
	for (int g = 0; g < KINDS * 4; g++) {
		double sum = 0, worst = 0;
		int count = 0, at = 0;

		for (int i = g; i < n; i += KINDS * 4) {
			sum += ratios[i];
			count++;
			if (ratios[i] > worst) {
				worst = ratios[i];
				at = i;
			}
		}
		if (count)
			print_message("# %-6s shape %d: mean %.4f, worst %.3f (SEED=%d)\n",
				      kind_names[g % KINDS], g / KINDS, sum / count, worst, at);
	}
}

static void waste_is_near_the_best_in_hindsight(void **state)
{
	int n = number("TRACES", TRACES), failures = number("FAILURES", FAILURES);
	double *ratios = calloc((size_t)n, sizeof(*ratios)), mean = 0, p95;

	(void)state;
	assert_non_null(ratios);
	run_all(ratios, n, failures, 1);
	print_groups(ratios, n);
	for (int i = 0; i < n; i++) {
		assert_true(isfinite(ratios[i]) && ratios[i] > 0);
		mean += ratios[i] / n;
	}
	qsort(ratios, (size_t)n, sizeof(*ratios), by_value);
	p95 = ratios[n * 95 / 100];
	print_message(
		"# %d traces of %d failures: mean %.4f, median %.4f, 95th percentile %.4f, "
		"worst %.4f\n",
		n, failures, mean, ratios[n / 2], p95, ratios[n - 1]);
	free(ratios);
	assert_true(mean <= MEAN_MAX);
	assert_true(p95 <= P95_MAX);
}

/* The test above would see an interval that is too long or too short. */
static void an_interval_that_is_off_would_be_seen(void **state)
{
	static const double wrong[] = { 0.6, 1.7 };
	double ratios[320];

	(void)state;
	for (int k = 0; k < 2; k++) {
		double mean = 0;

		run_all(ratios, 320, FAILURES, wrong[k]);
		for (int i = 0; i < 320; i++)
			mean += ratios[i] / 320;
		assert_true(mean > MEAN_MAX + 0.02);
	}
}

static int show(uint64_t seed, int failures)
{
	double *gaps = calloc((size_t)failures, sizeof(*gaps)), best, waste, at = 0;
	struct cpx_interval choice;
	char reason[256];
	struct life life;
	struct trace t;

	if (!gaps)
		return 1;
	make(&t, seed, failures, gaps);
	waste = live_auto(&t, 1, &life);
	best = best_fixed(&t, &at);
	printf("%s, shape %.1f, mtbf %.0f s, c0 %.2f s, full %.2f s, full durable after %.2f "
	       "s, "
	       "noise %.2f\n",
	       kind_names[t.kind], t.shape, t.mtbf, t.c0, cost(&t, t.memory),
	       delay(&t, t.memory), t.noise);
	cpx_interval_choose(&life.l, &no_node, &life.bounds, &choice);
	printf("wasted %.0f s, last interval %.1f s; best fixed: %.0f s with %.1f s; ratio "
	       "%.4f\n",
	       waste, life.last_tau, best, at, waste / best);
	printf("%s\n", cpx_interval_reason(&life.l, &choice, reason, sizeof(reason)));
	free(gaps);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waste_is_near_the_best_in_hindsight),
		cmocka_unit_test(an_interval_that_is_off_would_be_seen),
	};

	if (getenv("SEED"))
		return show((uint64_t)number("SEED", 0), number("FAILURES", FAILURES));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
