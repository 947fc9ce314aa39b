/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "retention.h"

#define HOUR_NS 3600000000000LL
#define DAY_NS (24 * HOUR_NS)

/* Of each of the newest @want periods that have any, the newest. */
static void keep_periods(int64_t period_ns, uint32_t want, const int64_t *realtime_ns, size_t n,
			 enum cpx_kept why, uint8_t *kept)
{
	int64_t last = 0;

	for (size_t i = 0; i < n && want; i++) {
		int64_t now = realtime_ns[i] / period_ns;

		/* a clock that was set back makes no new period */
		if (i && now >= last)
			continue;
		kept[i] |= (uint8_t)why;
		last = now;
		want--;
	}
}

void cpx_retain(const struct cpx_retention *r, const int64_t *realtime_ns, size_t n,
		uint8_t *kept)
{
	for (size_t i = 0; i < n; i++)
		kept[i] = i < r->last ? CPX_KEPT_LAST : 0;
	keep_periods(HOUR_NS, r->hourly, realtime_ns, n, CPX_KEPT_HOURLY, kept);
	keep_periods(DAY_NS, r->daily, realtime_ns, n, CPX_KEPT_DAILY, kept);
}
