/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fence.h - the deadline that a copy of a job lives under, and nothing else.
 *
 * Pure: the keeper's outer half (and the simulator) step it with CLOCK_BOOTTIME. A copy runs
 * only while its lease is sure to be alive: until t_send(last good renewal) + TTL - guard. At
 * that instant it is frozen, whatever daemon and registry do. It is thawed by proof alone: a
 * later deadline of the same lease (which then has never ended), or a new lease under which the
 * registry has taken the job over again at the same epoch. What is held (frozen for a move) is
 * thawed only by word of the core, which has asked the registry first.
 */
#ifndef CPX_SCHEDULER_FENCE_H
#define CPX_SCHEDULER_FENCE_H

#include <stdbool.h>
#include <stdint.h>

struct cpx_err;

/* All in ns. */
struct cpx_fence_times {
	int64_t ttl, guard, stop, timeout, election;
};
#define CPX_FENCE_DEFAULTS                                                  \
	(struct cpx_fence_times)                                            \
	{                                                                   \
		.ttl = 15000000000, .guard = 2000000000, .stop = 500000000, \
		.timeout = 1000000000, .election = 2100000000               \
	}
/* TTL >= 1.5 (guard + stop + timeout + election), all > 0. Return: 0, CPX_E_INVAL. */
int cpx_fence_times_ok(const struct cpx_fence_times *t, struct cpx_err *err);
/* The deadline that a renewal sent at @sent gives. */
int64_t cpx_fence_deadline(const struct cpx_fence_times *t, int64_t sent);

enum cpx_fence_state {
	CPX_FENCE_RUN = 0,
	CPX_FENCE_FENCED, /* frozen by the deadline */
	CPX_FENCE_HELD,	  /* frozen for a move or stop */
	CPX_FENCE_DEAD,
	CPX_FENCE_STATES,
};
enum cpx_fence_event {
	CPX_FENCE_TIME = 0, /* to be stepped at the deadline at the latest */
	CPX_FENCE_RENEWED,  /* lease and deadline; another lease is not heard */
	CPX_FENCE_ADOPTED,  /* lease and deadline: the registry has taken the job over again */
	CPX_FENCE_HOLD,
	CPX_FENCE_UNHOLD, /* lease and deadline as adopted */
	CPX_FENCE_KILL,
	CPX_FENCE_EVENTS,
};
enum cpx_fence_act { CPX_FENCE_NOTHING = 0, CPX_FENCE_FREEZE, CPX_FENCE_THAW, CPX_FENCE_END };

struct cpx_fence {
	enum cpx_fence_state state;
	uint64_t lease;
	int64_t deadline;
};

enum cpx_fence_act cpx_fence_step(struct cpx_fence *f, enum cpx_fence_event ev, uint64_t lease,
				  int64_t deadline, int64_t now);

#endif
