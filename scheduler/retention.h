/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * retention.h - which generations of a job are kept. Pure.
 *
 * The newest @last ones; of each of the newest @hourly hours that have any, the newest one; and
 * the same for days. Hours and days are those of UTC. A generation that several rules keep
 * counts for each of them. So it does not matter whether the rules are applied after each
 * generation or after many: what one application drops no later one would have kept.
 */
#ifndef CPX_SCHEDULER_RETENTION_H
#define CPX_SCHEDULER_RETENTION_H

#include <stddef.h>
#include <stdint.h>

#define CPX_KEEP_MAX 32
#define CPX_KEEP_HOURLY_MAX 48
#define CPX_KEEP_DAILY_MAX 31
#define CPX_KEEP_DEFAULT 2

/* Why one is kept; 0: it is not. */
enum cpx_kept { CPX_KEPT_LAST = 1, CPX_KEPT_HOURLY = 2, CPX_KEPT_DAILY = 4 };

struct cpx_retention {
	uint32_t last; /* at least 1 */
	uint32_t hourly, daily;
};

/* @realtime_ns: when each was made, newest generation first. @kept: written, @n sets of enum
 * cpx_kept. */
void cpx_retain(const struct cpx_retention *r, const int64_t *realtime_ns, size_t n,
		uint8_t *kept);

#endif
