/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a job is shown. Pure but for asking whether its processes live. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "server.h"

static bool orphaned(const struct cpx_reg_job *job)
{
	return job->state == CPX_JOB_RUNNING && !cpx_live_check(&job->keeper);
}

bool cpxd_elsewhere(const struct cpxd *d, const struct cpx_reg_job *job)
{
	return job->lease && strcmp(job->node, d->conf.node) != 0;
}

bool cpxd_lost(const struct cpx_reg_job *job)
{
	/* in a cluster that is found out and mended without anybody being asked */
	if (*job->node || !orphaned(job))
		return false;
	if (job->init.pid)
		return !cpx_live_check(&job->init);
	return !cpx_live_check(&job->root);
}

static const char *state_of(const struct cpxd *d, const struct cpx_reg_job *job)
{
	return !cpxd_elsewhere(d, job) && cpxd_lost(job) ? "LOST"
							 : cpx_job_state_name(job->state);
}

static json_t *gen(const struct cpx_reg_gen *g)
{
	return json_pack("{s:I, s:I, s:s, s:I, s:I, s:f, s:f, s:I, s:I, s:f}", "generation",
			 (json_int_t)g->id.seq, "epoch", (json_int_t)g->id.epoch, "nonce",
			 g->id.nonce, "bytes_memory", (json_int_t)g->bytes_memory,
			 "bytes_stored", (json_int_t)g->bytes_stored, "pause_ms",
			 (double)g->pause_ns / 1e6, "total_ms", (double)g->total_ns / 1e6,
			 "tasks", (json_int_t)g->tasks, "threads", (json_int_t)g->threads,
			 "time", (double)g->realtime_ns / 1e9);
}

/* Why it is kept; nothing: it goes with the next one, or by `gc`. */
static json_t *kept_by(const struct cpx_reg_job *job, const struct cpx_gen_id *id, uint8_t kept)
{
	static const struct {
		enum cpx_kept bit;
		const char *word;
	} rules[] = { { CPX_KEPT_LAST, "newest" },
		      { CPX_KEPT_HOURLY, "hourly" },
		      { CPX_KEPT_DAILY, "daily" } };
	json_t *list = json_array();
	char word[32];

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (kept & rules[i].bit)
			json_array_append_new(list, json_string(rules[i].word));
	for (uint32_t i = 0; i < job->npins; i++) {
		const struct cpx_reg_pin *p = &job->pins[i];

		if (p->epoch != id->epoch || p->seq != id->seq || !cpx_live_check(&p->holder))
			continue;
		snprintf(word, sizeof(word), "pin:%s", p->why);
		json_array_append_new(list, json_string(word));
	}
	return list;
}

json_t *cpxd_view_gens(const struct cpx_reg_job *job)
{
	json_t *list = json_array(), *j;
	int64_t when[CPX_REG_GENS];
	uint8_t kept[CPX_REG_GENS];

	for (uint32_t i = 0; i < job->ngens; i++)
		when[i] = job->gens[i].realtime_ns;
	cpx_retain(&job->keep, when, job->ngens, kept);
	for (uint32_t i = 0; list && i < job->ngens; i++) {
		j = gen(&job->gens[i]);
		json_object_set_new(j, "kept_by", kept_by(job, &job->gens[i].id, kept[i]));
		json_array_append_new(list, j);
	}
	return list;
}

/* How often it is checkpointed, and why just so. */
static void view_interval(json_t *j, const struct cpx_reg_job *job,
			  const struct cpx_failures *node)
{
	const struct cpx_interval_bounds bounds = cpx_reg_bounds(job);
	struct cpx_interval choice;
	char line[200], time[24];

	cpx_interval_choose(&job->learned, node, &bounds, &choice);
	if (job->every_ns == 0)
		snprintf(line, sizeof(line), "only when asked for");
	else if (job->every_ns > 0)
		snprintf(line, sizeof(line), "every %s, as asked for",
			 cpx_interval_time((double)job->every_ns / 1e9, time, sizeof(time)));
	else
		cpx_interval_reason(&job->learned, &choice, line, sizeof(line));
	json_object_set_new(j, "interval", json_string(line));
	json_object_set_new(
		j, "interval_ms",
		json_integer((job->every_ns < 0 ? choice.ns : job->every_ns) / 1000000));
	json_object_set_new(j, "cost_ms", json_real(choice.cost_s * 1000));
	json_object_set_new(j, "mtbf_s", json_real(choice.mtbf_s));
	json_object_set_new(j, "failures",
			    json_integer((json_int_t)job->learned.failures.count));
}

json_t *cpxd_view(const struct cpxd *d, const struct cpx_reg_job *job,
		  const struct cpx_failures *node)
{
	const struct cpx_reg_gen *h = &job->gens[0];
	const struct cpx_tuning *t = &job->tuning;
	bool here = !cpxd_elsewhere(d, job);
	bool runs = here && job->state == CPX_JOB_RUNNING && !cpxd_lost(job);
	json_t *j = json_pack(
		"{s:s, s:s, s:I, s:I, s:i, s:i, s:b, s:b, s:I, s:I, s:I, s:I, s:f, s:f}", "job",
		job->name, "state", state_of(d, job), "uid", (json_int_t)job->uid, "epoch",
		(json_int_t)job->epoch, "pid", runs ? job->root.pid : 0, "keeper_pid",
		here && cpx_live_check(&job->keeper) ? job->keeper.pid : 0, "marked",
		job->marked, "tty", job->tty, "every_ms",
		(json_int_t)(job->every_ns < 0 ? -1 : job->every_ns / 1000000), "keep",
		(json_int_t)job->keep.last, "checkpoints", (json_int_t)job->checkpoints,
		"restarts", (json_int_t)job->restarts, "created", (double)job->created_ns / 1e9,
		"started", (double)job->started_ns / 1e9);

	if (!j)
		return NULL;
	json_object_set_new(j, "node", json_string(job->node));
	json_object_set_new(j, "command", cpx_proto_bytes(job->command));
	json_object_set_new(j, "reason", cpx_proto_bytes(job->reason));
	json_object_set_new(j, "gid", json_integer(job->gid));
	if (job->has_status)
		json_object_set_new(j, "status",
				    json_integer(WIFSIGNALED(job->status)
							 ? 128 + WTERMSIG(job->status)
							 : WEXITSTATUS(job->status)));
	else
		json_object_set_new(j, "status", json_null());
	json_object_set_new(j, "keep_hourly", json_integer(job->keep.hourly));
	json_object_set_new(j, "keep_daily", json_integer(job->keep.daily));
	json_object_set_new(j, "snapshot", json_string(t->snapshot[0] ? t->snapshot : "auto"));
	json_object_set_new(j, "codec", json_string(t->codec[0] ? t->codec : "lz4"));
	json_object_set_new(j, "cpus", json_integer(t->cpus));
	json_object_set_new(j, "rate", json_integer(t->rate));
	json_object_set_new(j, "pins", json_integer(job->npins));
	json_object_set_new(j, "generations", json_integer(job->ngens));
	json_object_set_new(j, "generation",
			    json_integer(job->ngens ? (json_int_t)h->id.seq : 0));
	json_object_set_new(j, "bytes_memory", json_integer((json_int_t)h->bytes_memory));
	json_object_set_new(j, "bytes_stored", json_integer((json_int_t)h->bytes_stored));
	json_object_set_new(j, "pause_ms", json_real((double)h->pause_ns / 1e6));
	json_object_set_new(j, "total_ms", json_real((double)h->total_ns / 1e6));
	json_object_set_new(j, "checkpoint_time",
			    job->ngens ? json_real((double)h->realtime_ns / 1e9) : json_null());
	view_interval(j, job, node);
	return j;
}
