/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * interval.h - how often a job is to be checkpointed. Pure: no I/O, no clock.
 *
 * What is known of a job is learned from each of its checkpoints and kept in its record: what
 * one cost the job (seconds for which it did not get on), how long it took until it was
 *durable, and how many bytes had to be written after how long a time. From that the model
 *
 *	cost(t)  = c0 + c1 * dirty(t)	dirty(t) = D * (t / T)^e, at most the job's memory
 *	delay(t) = l0 + l1 * dirty(t)
 *
 * and from failures seen against time seen their rate. A period t (from snapshot to snapshot)
 * then wastes, per second, cost(t)/t for the checkpoints and rate * (t/2 + delay(t)) for the
 *work that failures undo; the best t is where that is least (Young, CACM 1974; Daly, FGCS 2006,
 *where cost does not depend on t).
 *
 * Whatever the numbers are, hostile ones too, results are finite and within the bounds.
 */
#ifndef CPX_SCHEDULER_INTERVAL_H
#define CPX_SCHEDULER_INTERVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPX_INTERVAL_MIN_NS 10000000000LL /* bounds of auto where the user gives none */
#define CPX_INTERVAL_MAX_NS 3600000000000LL

/* Sums of a weighted regression of y on x, in which older points fade. */
struct cpx_fit {
	double n, x, y, xx, xy;
};

/* Failures against the time in which they were looked for. */
struct cpx_failures {
	uint64_t count;
	int64_t seen_ns;
};

/* All zero: nothing is known. */
struct cpx_learned {
	struct cpx_fit dirty; /* ln bytes over ln seconds of the period */
	struct cpx_fit cost;  /* seconds over GiB written */
	struct cpx_fit delay; /* seconds over GiB written */
	double memory;	      /* bytes of the last full one */
	bool full;	      /* the last one was full */
	int64_t period_ns;    /* as chosen for the next one; 0: none yet */
	struct cpx_failures failures;
};

/* One checkpoint, as it was measured. */
struct cpx_observed {
	int64_t period_ns; /* from the snapshot before it (or the start), running; 0: not known
			    */
	int64_t cost_ns;
	int64_t delay_ns; /* from its snapshot until it was durable */
	uint64_t bytes;	  /* of memory that it had to write */
	bool full;
};

struct cpx_interval_bounds {
	int64_t min_ns, max_ns; /* 0 < min <= max */
};

struct cpx_interval {
	int64_t ns;	   /* from the end of a checkpoint to the start of the next */
	int64_t period_ns; /* from snapshot to snapshot */
	double cost_s, delay_s;
	double mtbf_s; /* expected time between failures */
	bool known;    /* else the job was not checkpointed yet */
	bool growing;  /* would be longer, were it not that it at most doubles at once */
	int at_bound;  /* -1: would be shorter than MIN, 1: longer than MAX */
};

/*
 * cpx_interval_choose() - the interval after the checkpoints that @l has learned from.
 * @node: failures of the machine the job runs on; what is expected of a job not seen for long.
 */
void cpx_interval_choose(const struct cpx_learned *l, const struct cpx_failures *node,
			 const struct cpx_interval_bounds *b, struct cpx_interval *out);

/* Learn from a checkpoint, and settle the period of the next one. */
void cpx_interval_learn(struct cpx_learned *l, const struct cpx_observed *o,
			const struct cpx_failures *node, const struct cpx_interval_bounds *b);

/* One line for people: "every 12 min, for …". Return: @buf. */
const char *cpx_interval_reason(const struct cpx_learned *l, const struct cpx_interval *i,
				char *buf, size_t size);

/* "850 ms", "12 s", "1.5 h". Return: @buf. */
const char *cpx_interval_time(double seconds, char *buf, size_t size);

/* Numbers from outside: are they what learning could have left? */
bool cpx_learned_ok(const struct cpx_learned *l);

#endif
