/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs and nodes have names in the registry and numbers in the core. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"

uint32_t cluster_job_number(struct cpxd_cluster *c, const char *name)
{
	struct cluster_job **jobs, *j;

	for (uint32_t i = 0; i < c->njobs; i++)
		if (!strcmp(c->jobs[i]->name, name))
			return i;
	jobs = realloc(c->jobs, (c->njobs + 1) * sizeof(*jobs));
	if (!jobs)
		return UINT32_MAX;
	c->jobs = jobs;
	j = calloc(1, sizeof(*j));
	if (!j || c->njobs >= CPX_CORE_JOBS_MAX) {
		free(j);
		return UINT32_MAX;
	}
	snprintf(j->name, sizeof(j->name), "%s", name);
	jobs[c->njobs] = j;
	return c->njobs++;
}

uint32_t cluster_node_number(const struct cpxd_cluster *c, const char *name)
{
	for (uint32_t i = 0; i < c->nnodes; i++)
		if (!strcmp(c->nodes[i], name))
			return i + 1;
	return 0;
}

const char *cluster_node_name(const struct cpxd_cluster *c, uint32_t node)
{
	return node && node <= c->nnodes ? c->nodes[node - 1] : "";
}

static enum cpx_core_state state_to_core(enum cpx_job_state s)
{
	static const enum cpx_core_state to[CPX_JOB_STATES] = {
		[CPX_JOB_QUEUED] = CPX_CORE_QUEUED,
		[CPX_JOB_RUNNING] = CPX_CORE_RUNNING,
		[CPX_JOB_STOPPED] = CPX_CORE_STOPPED,
		[CPX_JOB_DONE] = CPX_CORE_DONE,
		[CPX_JOB_FAILED] = CPX_CORE_FAILED,
		[CPX_JOB_MOVING] = CPX_CORE_MOVING,
		[CPX_JOB_RECOVERING] = CPX_CORE_RECOVERING,
	};

	return to[s];
}

static enum cpx_job_state state_from_core(enum cpx_core_state s)
{
	static const enum cpx_job_state to[CPX_CORE_STATES] = {
		[CPX_CORE_QUEUED] = CPX_JOB_QUEUED,
		[CPX_CORE_RUNNING] = CPX_JOB_RUNNING,
		[CPX_CORE_STOPPED] = CPX_JOB_STOPPED,
		[CPX_CORE_DONE] = CPX_JOB_DONE,
		[CPX_CORE_FAILED] = CPX_JOB_FAILED,
		[CPX_CORE_MOVING] = CPX_JOB_MOVING,
		[CPX_CORE_RECOVERING] = CPX_JOB_RECOVERING,
	};

	return to[s];
}

/* Return: false where a name has no number yet. */
static bool node_to_core(const struct cpxd_cluster *c, const char *name, uint32_t *out)
{
	*out = *name ? cluster_node_number(c, name) : 0;
	return !*name || *out;
}

bool cluster_to_core(const struct cpxd_cluster *c, uint32_t job, const struct cpx_reg_job *rec,
		     struct cpx_core_rec *out)
{
	const struct cpx_reg_placing *p = &rec->placing;
	struct cpx_core_rec r = {
		.job = job,
		.version = rec->version,
		.epoch = rec->epoch,
		.state = state_to_core(rec->state),
		.lease = (uint64_t)rec->lease,
		.halt = p->halt,
		.pinned = p->pinned,
		.head_epoch = rec->ngens ? rec->gens[0].id.epoch : 0,
		.head_seq = rec->ngens ? rec->gens[0].id.seq : 0,
		.gens = rec->ngens,
		.skip = p->skip,
		.status = rec->status,
		.why = (enum cpx_core_why)p->why,
		.tries = p->tries,
		.needs = p->needs,
	};
	bool ok = node_to_core(c, rec->lease ? rec->node : "", &r.owner) &&
		  node_to_core(c, p->place, &r.place) && node_to_core(c, p->want, &r.want);

	for (uint32_t i = 0; ok && i < p->nrefused; i++)
		ok = node_to_core(c, p->refused[i], &r.refused[r.nrefused++]);
	/* the head's memory is what it will want */
	if (rec->ngens)
		r.need.mem = (uint32_t)(rec->gens[0].bytes_memory >> 20);
	if (ok)
		*out = r;
	return ok;
}

static void end_is(const struct cpx_core_rec *r, const char *reason, struct cpx_reg_job *job)
{
	static const char *const why[] = {
		[CPX_WHY_NONE] = "",
		[CPX_WHY_NO_NODE] = "no node is there that it fits",
		[CPX_WHY_START] = "it could not be started",
		[CPX_WHY_DAMAGED] = "its generations are damaged",
		[CPX_WHY_NO_STOP] = "it could not be checkpointed",
		[CPX_WHY_TRIES] = "too many starts failed",
		[CPX_WHY_TIME] = "not done in time",
		[CPX_WHY_GONE] = "it is gone",
	};

	if ((unsigned)r->why < sizeof(why) / sizeof(why[0]) && r->why)
		snprintf(job->reason, sizeof(job->reason), "%.60s%s%.130s", why[r->why],
			 *reason ? ": " : "", reason);
	else
		job->reason[0] = 0;
}

void cluster_from_core(const struct cpxd_cluster *c, const struct cpx_core_rec *r,
		       const char *reason, struct cpx_reg_job *job)
{
	struct cpx_reg_placing *p = &job->placing;
	bool acquired = r->epoch != job->epoch;

	job->state = state_from_core(r->state);
	job->lease = (int64_t)r->lease;
	if (r->owner)
		snprintf(job->node, sizeof(job->node), "%s", cluster_node_name(c, r->owner));
	snprintf(p->place, sizeof(p->place), "%s", cluster_node_name(c, r->place));
	snprintf(p->want, sizeof(p->want), "%s", cluster_node_name(c, r->want));
	p->halt = r->halt;
	p->skip = r->skip;
	p->tries = r->tries;
	if (p->why != r->why || *reason)
		end_is(r, reason, job);
	p->why = r->why;
	p->nrefused = r->nrefused;
	for (uint32_t i = 0; i < r->nrefused; i++)
		snprintf(p->refused[i], sizeof(p->refused[i]), "%s",
			 cluster_node_name(c, r->refused[i]));
	job->epoch = r->epoch;
	if (!acquired && r->owner)
		return;
	/* the processes of another epoch, or of none */
	memset(&job->keeper, 0, sizeof(job->keeper));
	memset(&job->init, 0, sizeof(job->init));
	memset(&job->root, 0, sizeof(job->root));
}
