/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clock.h - the clocks in nanoseconds. Pure cores get the time as an argument instead. */
#ifndef CPX_BASE_CLOCK_H
#define CPX_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t cpx_clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline int64_t cpx_mono_ns(void)
{
	return cpx_clock_ns(CLOCK_MONOTONIC);
}

static inline int64_t cpx_boot_ns(void)
{
	return cpx_clock_ns(CLOCK_BOOTTIME);
}

#endif
