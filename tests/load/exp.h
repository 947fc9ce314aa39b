/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exp.h - experiments about load (docs/simulation.md): many jobs, many nodes, virtual time.
 *
 * exp_share.c: a machine whose processor is shared equally; exp_cluster.c: nodes, each with the
 * core that chpoxd runs, and a registry that always answers; exp_rivals.c: other schedulers on
 * the same machines; exp_main.c: the experiments. Nothing but the seed decides. Times are
 * seconds, work is seconds of a standard machine, memory MiB.
 */
#ifndef CPX_EXP_H
#define CPX_EXP_H

#include "../../scheduler/core.h"

struct exp_node {
	uint32_t speed, mem;
	double joins; /* 0: there from the beginning */
};
struct exp_job {
	double at, work; /* @work < 0: never ends */
	uint32_t mem, from, want;
	double end; /* < 0: not yet */
};
struct exp {
	uint64_t rng;
	struct exp_node *node; /* 1..nnodes */
	struct exp_job *job;
	uint32_t nnodes, njobs;
};

/* exp_share.c */
struct share {
	double now, rate; /* @rate: what one job does a second */
	uint32_t *job, n, room;
	double *left;
	uint32_t speed, mem_total;
	uint64_t mem; /* taken, by what runs and by what does not */
};
void share_to(struct share *s, double now);
void share_add(struct share *s, uint32_t job,
	       double left);			    /* as of .now, so share_to() first */
double share_remove(struct share *s, uint32_t job); /* what is left of it */
/* When the first of them ends; < 0: none does. @job is set to it. */
double share_next(const struct share *s, uint32_t *job);
void share_mem(struct share *s, int64_t more);

/* exp_cluster.c */
struct exp_cluster {
	double until; /* no longer than this */
	bool quiet;   /* jobs never end: it runs until @until */
	/* out */
	uint64_t requests, renewals, lists, moves, needless, steps;
	uint32_t unseen; /* most jobs on their way to a node that its known figures lack */
	double last_move, last_start;
	uint32_t
		*at_node; /* jobs on each node at the end; by the caller, nnodes + 1; or NULL */
	double from;	  /* requests and moves count from then on */
};
void cluster_run(struct exp *x, struct exp_cluster *c);

/* exp_rivals.c */
enum exp_rival {
	EXP_EXHAUSTIVE,
	EXP_OMNISCIENT,
	EXP_ROUND_ROBIN,
	EXP_LEAST,
	EXP_TWO,
	EXP_RIVALS,
};
void rival_run(struct exp *x, enum exp_rival how);

/* exp_main.c */
uint64_t exp_draw(struct exp *x);
double exp_real(struct exp *x, double lo, double hi); /* uniform */
void *exp_need(void *p);			      /* p; ends the program when it is NULL */

#endif
