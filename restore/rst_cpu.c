/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_cpu.c - the conductor and what it builds share one CPU.
 *
 * They take turns, twice for each call that is run: on one CPU that is a switch, on two it
 * wakes the other each time, which costs ten times as much where CPUs are virtual. Every thread
 * gets its own CPUs at the end (set_sched()).
 */
#include <sched.h>

#include "restore.h"

void cpx_rst_cpu_join(struct cpx_rst *r, pid_t root)
{
	int cpu = sched_getcpu();
	cpu_set_t one;

	if (cpu < 0 || cpu >= CPU_SETSIZE || r->joined ||
	    sched_getaffinity(0, sizeof(r->own_cpus), &r->own_cpus) < 0)
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(root, sizeof(one), &one) < 0)
		return;
	r->joined = true;
	sched_setaffinity(0, sizeof(one), &one);
}

void cpx_rst_cpu_leave(struct cpx_rst *r)
{
	if (r->joined)
		sched_setaffinity(0, sizeof(r->own_cpus), &r->own_cpus);
	r->joined = false;
}

int cpx_rst_scan_pieces(struct cpx_rst *r, const struct cpx_extent *ranges, size_t n,
			cpx_pieces_sink sink, void *ctx, struct cpx_err *err)
{
	bool joined = r->joined;
	cpu_set_t one;
	int rc;

	sched_getaffinity(0, sizeof(one), &one);
	cpx_rst_cpu_leave(r);
	rc = cpx_image_scan_pieces(r->img, ranges, n, r->opts->workers, sink, ctx, err);
	if (joined && sched_setaffinity(0, sizeof(one), &one) == 0)
		r->joined = true;
	return rc;
}

int cpx_rst_scan(struct cpx_rst *r, const struct cpx_extent *ranges, size_t n,
		 cpx_page_sink sink, void *ctx, struct cpx_err *err)
{
	struct cpx_page_each e = { .sink = sink, .ctx = ctx };

	return cpx_rst_scan_pieces(r, ranges, n, cpx_page_each, &e, err);
}
