/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fence.h. */
#include "fence.h"

#include <stddef.h>

#include "../chpox/base/err.h"

int cpx_fence_times_ok(const struct cpx_fence_times *t, struct cpx_err *err)
{
	const int64_t max = 3600 * 1000000000ll;
	int64_t sum = t->guard + t->stop + t->timeout + t->election;

	if (t->ttl > max || t->guard > max || t->stop > max || t->timeout > max ||
	    t->election > max || t->guard <= 0 || t->stop <= 0 || t->timeout <= 0 ||
	    t->election <= 0)
		return cpx_err_set(err, CPX_E_INVAL, "times of fencing are from 1 ns to 1 h");
	if (t->ttl * 2 < sum * 3)
		return cpx_err_set(
			err, CPX_E_INVAL,
			"a TTL of %.1f s is too short: guard, stop, time-out and election take "
			"%.1f s, it must be at least %.1f s",
			(double)t->ttl / 1e9, (double)sum / 1e9, (double)sum * 1.5 / 1e9);
	return 0;
}

int64_t cpx_fence_deadline(const struct cpx_fence_times *t, int64_t sent)
{
	return sent + t->ttl - t->guard;
}

enum rule {
	NO = 0, /* not heard */
	LATER,	/* a later deadline of the same lease */
	TAKEN,	/* a new lease */
	PAST,	/* is the deadline past? */
	ALWAYS,
};
struct transition {
	enum rule rule;
	enum cpx_fence_state to;
};

/* clang-format off */
static const struct transition table[CPX_FENCE_STATES][CPX_FENCE_EVENTS] = {
	[CPX_FENCE_RUN] = {
		[CPX_FENCE_TIME]    = { PAST,   CPX_FENCE_FENCED },
		[CPX_FENCE_RENEWED] = { LATER,  CPX_FENCE_RUN },
		[CPX_FENCE_ADOPTED] = { TAKEN,  CPX_FENCE_RUN },
		[CPX_FENCE_HOLD]    = { ALWAYS, CPX_FENCE_HELD },
		[CPX_FENCE_KILL]    = { ALWAYS, CPX_FENCE_DEAD },
	},
	[CPX_FENCE_FENCED] = {
		[CPX_FENCE_RENEWED] = { LATER,  CPX_FENCE_RUN },
		[CPX_FENCE_ADOPTED] = { TAKEN,  CPX_FENCE_RUN },
		[CPX_FENCE_HOLD]    = { ALWAYS, CPX_FENCE_HELD },
		[CPX_FENCE_KILL]    = { ALWAYS, CPX_FENCE_DEAD },
	},
	[CPX_FENCE_HELD] = {
		[CPX_FENCE_RENEWED] = { LATER,  CPX_FENCE_HELD },
		[CPX_FENCE_ADOPTED] = { TAKEN,  CPX_FENCE_HELD },
		[CPX_FENCE_UNHOLD]  = { TAKEN,  CPX_FENCE_RUN },
		[CPX_FENCE_KILL]    = { ALWAYS, CPX_FENCE_DEAD },
	},
};
/* clang-format on */

enum cpx_fence_act cpx_fence_step(struct cpx_fence *f, enum cpx_fence_event ev, uint64_t lease,
				  int64_t deadline, int64_t now)
{
	const struct transition *t = &table[f->state][ev];
	enum cpx_fence_state from = f->state;

	switch (t->rule) {
	case NO:
		return CPX_FENCE_NOTHING;
	case LATER:
		if (lease != f->lease || deadline <= f->deadline)
			return CPX_FENCE_NOTHING;
		f->deadline = deadline;
		break;
	case TAKEN:
		f->lease = lease;
		f->deadline = deadline;
		break;
	case PAST:
		if (now < f->deadline)
			return CPX_FENCE_NOTHING;
		break;
	case ALWAYS:
		break;
	}
	f->state = t->to;
	if (f->state == CPX_FENCE_RUN && now >= f->deadline)
		f->state = CPX_FENCE_FENCED;
	if (f->state == CPX_FENCE_DEAD)
		return CPX_FENCE_END;
	if (f->state == CPX_FENCE_RUN)
		return from == CPX_FENCE_RUN ? CPX_FENCE_NOTHING : CPX_FENCE_THAW;
	return from == CPX_FENCE_RUN ? CPX_FENCE_FREEZE : CPX_FENCE_NOTHING;
}
