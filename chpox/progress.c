/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl.h"

#define QUIET_NS 1000000000LL
#define STEP_NS 200000000LL

void cpx_progress_begin(struct cpx_progress *p, const char *what)
{
	*p = (struct cpx_progress){ .what = what, .start_ns = cpx_mono_ns() };
}

void cpx_progress_step(void *progress, uint64_t done, uint64_t total)
{
	struct cpx_progress *p = progress;
	int64_t now = cpx_mono_ns();
	char a[16], b[16];

	if (now - p->start_ns < QUIET_NS || now - p->last_ns < STEP_NS ||
	    !isatty(STDERR_FILENO))
		return;
	p->last_ns = now;
	p->shown = 1;
	fprintf(stderr, "\r%s: %3u %%  %s of %s\033[K", p->what,
		total ? (unsigned)(100 * (double)done / (double)total) : 0,
		cpx_human_size(done, a), cpx_human_size(total, b));
}

void cpx_progress_end(struct cpx_progress *p)
{
	if (p->shown)
		fprintf(stderr, "\r\033[K");
	p->shown = 0;
}

const char *cpx_human_size(uint64_t bytes, char buf[16])
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	double v = (double)bytes;
	size_t i = 0;

	while (v >= 1024 && i + 1 < sizeof(unit) / sizeof(unit[0])) {
		v /= 1024;
		i++;
	}
	snprintf(buf, 16, i && v < 10 ? "%.1f %s" : "%.0f %s", v, unit[i]);
	return buf;
}
