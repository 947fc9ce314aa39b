/* SPDX-License-Identifier: GPL-2.0-or-later */
/* load seven | published [SCENARIOS] [SEED] | scale NODES [SEED] | rest [NODES] [JOBS] */
#include "exp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *exp_need(void *p)
{
	if (!p) {
		fputs("load: out of memory\n", stderr);
		exit(2);
	}
	return p;
}

uint64_t exp_draw(struct exp *x)
{
	uint64_t z = (x->rng += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

double exp_real(struct exp *x, double lo, double hi)
{
	return lo + (hi - lo) * ((double)(exp_draw(x) >> 11) / 9007199254740992.0);
}

static const uint32_t speeds[3] = { 10000, 5000, 2500 };

static struct exp *exp_open(uint64_t seed, uint32_t nodes, uint32_t jobs)
{
	struct exp *x = exp_need(calloc(1, sizeof(*x)));

	*x = (struct exp){ .rng = seed, .nnodes = nodes, .njobs = jobs };
	x->node = exp_need(calloc(nodes + 1, sizeof(*x->node)));
	x->job = exp_need(calloc(jobs, sizeof(*x->job)));
	return x;
}

static void exp_close(struct exp *x)
{
	free(x->node);
	free(x->job);
	free(x);
}

static int by_arrival(const void *a, const void *b)
{
	const struct exp_job *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

/* Mean slowdown; jobs that have not ended are an error. */
static double slowdown(const struct exp *x)
{
	double sum = 0;
	uint32_t i;

	for (i = 0; i < x->njobs; i++) {
		if (x->job[i].end < 0) {
			printf("job %u has not ended\n", i);
			exit(1);
		}
		sum += (x->job[i].end - x->job[i].at) / x->job[i].work;
	}
	return sum / x->njobs;
}

static int verdict(bool ok, const char *what)
{
	printf("%s: %s\n", ok ? "holds" : "DOES NOT HOLD", what);
	return ok ? 0 : 1;
}

static int spread(const char *how, uint32_t want, double join)
{
	struct exp *x = exp_open(7 + want, join > 0 ? 4 : 3, 7);
	uint32_t at[5] = { 0 }, i;
	struct exp_cluster c = { .until = join + 700, .quiet = true, .at_node = at };
	bool ok;

	for (i = 1; i <= x->nnodes; i++)
		x->node[i] = (struct exp_node){ speeds[(i - 1) % 3], 16384, i > 3 ? join : 0 };
	for (i = 0; i < 7; i++)
		x->job[i] = (struct exp_job){ 5 + 0.2 * i, -1, 512, 1, want, -1 };
	if (want)
		c.from = 7;
	cluster_run(x, &c);
	printf("%s: %u %u %u %u, %lu moves, the last at %.1f s, %u at most unseen\n", how,
	       at[1], at[2], at[3], at[4], c.moves, c.last_move, c.unseen);
	ok = c.unseen <= 2 && c.last_move < (join > 0 ? join + 60 : 36.2);
	ok = ok && (join > 0 ? at[4] > 0 && c.last_move > join
			     : at[1] == 4 && at[2] == 2 && at[3] == 1);
	exp_close(x);
	return ok ? 0 : 1;
}

static int seven(void)
{
	int bad = spread("placed", 0, 0);

	bad |= spread("begun on 100 %", 1, 0);
	bad |= spread("begun on 50 %", 2, 0);
	bad |= spread("begun on 25 %", 3, 0);
	bad |= spread("a node joins", 0, 300);
	return verdict(!bad,
		       "seven jobs become 4, 2, 1 within 30 s and stay; a node that joins "
		       "gets work, no more than two before it shows");
}

static void scenario(struct exp *x)
{
	uint32_t i;

	for (i = 1; i <= x->nnodes; i++) {
		x->node[i].speed = speeds[exp_draw(x) % 3];
		x->node[i].mem = 4096u << exp_draw(x) % 3;
	}
	for (i = 0; i < x->njobs; i++) {
		x->job[i].at = 5 + exp_real(x, 0, 1000);
		x->job[i].work = 20 / exp_real(x, 0.02, 1);
		x->job[i].mem = (uint32_t)(128 / exp_real(x, 1.0 / 32, 1));
		x->job[i].from = 1 + (uint32_t)(exp_draw(x) % x->nnodes);
	}
	qsort(x->job, x->njobs, sizeof(*x->job), by_arrival);
}

static int published(uint64_t scenarios, uint64_t seed)
{
	static const char *const names[EXP_RIVALS + 1] = { "exhaustive",  "",
							   "round robin", "least loaded",
							   "two choices", "chpox" };
	double sum[EXP_RIVALS + 1] = { 0 }, moves = 0;
	bool below = true;
	uint64_t i;
	int k;

	for (i = 0; i < scenarios; i++) {
		struct exp *x = exp_open(seed + i, 8, 100);
		struct exp_cluster c = { .until = 100000 };

		scenario(x);
		for (k = 0; k < EXP_RIVALS; k++)
			if (k != EXP_OMNISCIENT) {
				rival_run(x, (enum exp_rival)k);
				sum[k] += slowdown(x);
			}
		cluster_run(x, &c);
		sum[EXP_RIVALS] += slowdown(x);
		moves += (double)c.moves;
		exp_close(x);
	}
	for (k = 0; k <= EXP_RIVALS; k++)
		if (k != EXP_OMNISCIENT)
			printf("%-12s %6.3f\n", names[k], sum[k] / (double)scenarios);
	printf("%lu scenarios, chpox is %.3f times exhaustive, %.1f moves a scenario\n",
	       scenarios, sum[EXP_RIVALS] / sum[EXP_EXHAUSTIVE], moves / (double)scenarios);
	for (k = EXP_ROUND_ROBIN; k < EXP_RIVALS; k++)
		below = below && sum[EXP_RIVALS] < sum[k];
	return verdict(below && sum[EXP_RIVALS] <= 1.14 * sum[EXP_EXHAUSTIVE],
		       "within 1.14 times exhaustive, below the three that place once");
}

static int scale(uint32_t nodes, uint64_t seed)
{
	struct exp *x = exp_open(seed, nodes, 4 * nodes);
	struct exp_cluster c = { .until = 20000 };
	double all, end = 0, needless;
	uint32_t i;
	double us;

	for (i = 1; i <= nodes; i++)
		x->node[i] = (struct exp_node){ speeds[i % 3], 16384, 0 };
	for (i = 0; i < x->njobs; i++)
		x->job[i] = (struct exp_job){ 5 + exp_real(x, 0, 300),
					      60 / exp_real(x, 0.1, 1),
					      512,
					      1 + (uint32_t)(exp_draw(x) % nodes),
					      0,
					      -1 };
	qsort(x->job, x->njobs, sizeof(*x->job), by_arrival);
	rival_run(x, EXP_OMNISCIENT);
	all = slowdown(x);
	cluster_run(x, &c);
	us = slowdown(x);
	for (i = 0; i < x->njobs; i++)
		end = x->job[i].end > end ? x->job[i].end : end;
	needless = (double)c.needless * 1000 / end / nodes;
	printf("%u nodes, %u jobs, %.0f s: slowdown %.3f, omniscient %.3f: %.3f times; %lu "
	       "moves, "
	       "needless %.3f a node in 1,000 s; %lu steps\n",
	       nodes, x->njobs, end, us, all, us / all, c.moves, needless, c.steps);
	exp_close(x);
	return verdict(us <= 1.10 * all && needless <= 1,
		       "within 1.10 times omniscient, one needless move a node in 1,000 s at "
		       "most");
}

static int rest(uint32_t nodes, uint32_t jobs)
{
	struct exp *x = exp_open(1, nodes, jobs);
	struct exp_cluster c = { .until = 480, .from = 300, .quiet = true };
	struct cpx_fence_times t = CPX_FENCE_DEFAULTS;
	double ttl = (double)t.ttl / 1e9, should;
	uint32_t i;

	for (i = 1; i <= nodes; i++)
		x->node[i] = (struct exp_node){ 10000, 16384, 0 };
	for (i = 0; i < jobs; i++)
		x->job[i] = (struct exp_job){
			5 + 60.0 * i / jobs, -1, 512, 1 + (uint32_t)(exp_draw(x) % nodes), 0, -1
		};
	cluster_run(x, &c);
	should = 180.0 * nodes * (5 / ttl + 1 / (3 * ttl));
	printf("%u nodes, %u jobs, 180 s: %lu requests (%lu renewals, %lu lists), %.3f times "
	       "what "
	       "must be; %lu moves\n",
	       nodes, jobs, c.requests, c.renewals, c.lists, (double)c.requests / should,
	       c.moves);
	exp_close(x);
	return verdict((double)c.requests <= 1.2 * should && c.renewals,
		       "at rest 1.2 times renewals and lists at most");
}

static uint64_t number(int argc, char **argv, int at, uint64_t other)
{
	return argc > at ? strtoull(argv[at], NULL, 0) : other;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	uint64_t a = number(argc, argv, 2, 0), seed = number(argc, argv, 3, 1);

	if (!strcmp(what, "seven"))
		return seven();
	if (!strcmp(what, "published"))
		return published(a ? a : 100, seed);
	if (!strcmp(what, "scale") && a && a <= CPX_NODES_MAX)
		return scale((uint32_t)a, seed);
	if (!strcmp(what, "rest"))
		return rest(a ? (uint32_t)a : 1000, (uint32_t)number(argc, argv, 3, 10000));
	fputs("load seven | published [SCENARIOS] [SEED] | scale NODES [SEED] | "
	      "rest [NODES] [JOBS]\n",
	      stderr);
	return 2;
}
