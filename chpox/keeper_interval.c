/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When the next periodic checkpoint is due, what the last one cost, and failures: what is seen
 * here goes into the job's record with each commit, and scheduler/interval.h chooses from that.
 */
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "keeper.h"

static int64_t interval(const struct keeper *k)
{
	const struct cpx_interval_bounds bounds = cpx_reg_bounds(&k->job);
	struct cpx_reg_past node = { 0 };
	struct cpx_interval choice;

	if (k->job.every_ns >= 0)
		return k->job.every_ns;
	if (cpx_registry_past(k->reg, &node, NULL) < 0)
		memset(&node, 0, sizeof(node));
	cpx_interval_choose(&k->job.learned, &node.failures, &bounds, &choice);
	return choice.ns;
}

/* From the end of the last one: a checkpoint that takes longer than its interval must not
 * queue. */
void keeper_schedule(struct keeper *k)
{
	int64_t now = cpx_mono_ns(), ns = interval(k);

	if (!k->snapshot_ns)
		k->snapshot_ns = now; /* the job begins */
	k->due_ns = ns ? now + ns : 0;
}

static int64_t cpu_ns(const struct rusage *u)
{
	return (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000000000LL +
	       (u->ru_utime.tv_usec + u->ru_stime.tv_usec) * 1000LL;
}

/*
 * What a checkpoint cost the job: it stood still for the pause, and what the capturing child
 * computed was taken from it, where it can use all processors.
 */
void keeper_seen(struct keeper *k, int64_t pause_ns, int64_t total_ns, uint64_t bytes,
		 bool full, const struct rusage *use, struct cpx_observed *out)
{
	int64_t snapshot = cpx_mono_ns() - total_ns;
	int cpus = get_nprocs();

	*out = (struct cpx_observed){
		.period_ns = snapshot > k->snapshot_ns ? snapshot - k->snapshot_ns : 0,
		.cost_ns = pause_ns + cpu_ns(use) / (cpus > 0 ? cpus : 1),
		.delay_ns = total_ns,
		.bytes = bytes,
		.full = full,
	};
	k->snapshot_ns = snapshot;
}

void keeper_node_seen(struct keeper *k)
{
	struct cpx_err err = { 0 };

	if (cpx_registry_past_seen(k->reg, k->job.keeper.boot, cpx_boot_ns(), &err) < 0)
		cpx_log_error("%s: %s", k->name, err.msg);
}

/* As the record stands, before we take it over: did its processes die without their will? */
bool keeper_had_failed(const struct cpx_reg_job *job)
{
	if (job->state == CPX_JOB_RUNNING)
		return !cpx_live_check(&job->init) && !cpx_live_check(&job->root);
	return job->state == CPX_JOB_FAILED && job->has_status && WIFSIGNALED(job->status);
}

void keeper_node_failed(struct keeper *k, const struct cpx_live *old)
{
	struct cpx_err err = { 0 };

	if (!old->boot[0] || !strcmp(old->boot, k->job.keeper.boot))
		return;
	if (cpx_registry_past_failed(k->reg, old->boot, &err) < 0)
		cpx_log_error("%s: %s", k->name, err.msg);
}
