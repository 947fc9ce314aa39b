/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load.h - how busy a node is, and what one more job costs there.
 *
 * Pure: no I/O, no clock. Unit of load: 100 = one process that always runs on a standard
 * machine (one processor of speed CPX_LOAD_STD_SPEED). "Normalised" load is divided by
 * processors and speed, so that it says how much slower a job runs there than alone on a
 * standard machine. openMosix's two views: the local one (mean) rises slowly and falls at once,
 * the one for others (upper) rises at once and falls slowly: a node is shy about sending, and
 * looks busier than it is. Sources and reasons: docs/load.md.
 */
#ifndef CPX_SCHEDULER_LOAD_H
#define CPX_SCHEDULER_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPX_LOAD_ONE 100
#define CPX_LOAD_STD_SPEED 10000
#define CPX_LOAD_MAX 10000000  /* of any figure; more is cut */
#define CPX_LOAD_STABILITY 130 /* percent of itself that a job is charged where it would go */
#define CPX_LOAD_TIE 5	       /* load units within which nodes are equally good */

/* Flags of a node. */
#define CPX_NODE_STAY 1u  /* nothing leaves by itself */
#define CPX_NODE_BLOCK 2u /* nothing comes */
#define CPX_NODE_DRAIN 4u /* everything leaves, nothing comes */
#define CPX_NODE_FLAGS 7u

struct cpx_load_meter {
	uint32_t ncpus, speed;
	uint64_t mean128; /* local view, times 128 */
	uint64_t upper;	  /* view for others */
};

/* What a node says of itself; normalised loads, memory in MiB. */
struct cpx_load_figures {
	uint32_t mean, upper;
	uint32_t speed, ncpus;
	uint32_t mem_total, mem_free;
	uint32_t fetch_mbps; /* measured from the store, MiB/s; 0: not known */
	uint32_t jobs_max;   /* limit --jobs; 0: none */
	uint32_t load_max;   /* limit --load, normalised; 0: none */
	uint32_t flags;
};

/* A job as the cost sees it. */
struct cpx_load_need {
	uint32_t load;	/* 100 a process that always runs */
	uint32_t mem;	/* MiB */
	uint32_t image; /* MiB to be fetched */
};

/* @ncpus and @speed 0 count as 1 and the standard. */
void cpx_load_meter_init(struct cpx_load_meter *m, uint32_t ncpus, uint32_t speed);
/* One second has passed: @adder is the sum of runnable processes over @ticks looks. */
void cpx_load_second(struct cpx_load_meter *m, uint64_t adder, uint32_t ticks);
uint32_t cpx_load_mean(const struct cpx_load_meter *m);
uint32_t cpx_load_upper(const struct cpx_load_meter *m);
/* What @load units on top do to the normalised load of a node of @ncpus and @speed. */
uint32_t cpx_load_add(uint32_t load, uint32_t ncpus, uint32_t speed);

/* Load of a job: its last mean, @ran of @ticks looks it was runnable (openMosix: 5 : 3). */
uint32_t cpx_load_of_job(uint32_t last, uint32_t ran, uint32_t ticks);

/*
 * cpx_load_cost() - opportunity cost of @need on a node, in slowdowns of one job: what all jobs
 * there, this one too, lose together, plus memory (exponential in its use, base @nodes), plus
 * the time to fetch the image (one a minute). @extra: reserved there and not yet in the
 * figures. Return: < 0 where it does not fit.
 */
double cpx_load_cost(const struct cpx_load_figures *f, const struct cpx_load_need *need,
		     const struct cpx_load_need *extra, uint32_t nodes);

struct cpx_load_candidate {
	uint32_t node;
	double cost;	 /* of cpx_load_cost(); < 0: out */
	uint32_t future; /* normalised load with the job */
};
/* Index of the best, at random (@random) among those as good; -1: none. */
int cpx_load_choose(const struct cpx_load_candidate *c, size_t n, uint64_t random);

/*
 * cpx_load_worth_moving() - is it worth it to move a job from @from (mean) to @to (upper)?
 * What all jobs here gain when it leaves, less its opportunity cost there: more than the
 * stability, and over what the job is expected to run more than twice what a move costs.
 * @used_ms: processor time at standard speed so far: it is expected to run as long again.
 * @cost_ms: of a move, as measured.
 */
bool cpx_load_worth_moving(const struct cpx_load_figures *from,
			   const struct cpx_load_figures *to, const struct cpx_load_need *need,
			   const struct cpx_load_need *extra, uint32_t nodes, uint64_t used_ms,
			   uint64_t cost_ms);

/* Short of memory: less than a sixteenth is free. Then moving is not asked whether it pays. */
bool cpx_load_mem_short(const struct cpx_load_figures *f);
/* How well @mem of a job ends the shortage of @f: smaller is better, 0 never. */
uint64_t cpx_load_mem_rank(const struct cpx_load_figures *f, uint32_t mem);

#endif
