/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the registry that is the same for each back end: records and rules. */
#include "registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "etcd_msg.h"
#include "proto.h"
#include "registry_back.h"

#define FORMAT 1
#define TRIES 100

static const char *const state_names[CPX_JOB_STATES] = { "QUEUED",    "RUNNING", "STOPPED",
							 "DONE",      "FAILED",	 "MOVING",
							 "RECOVERING" };

const char *cpx_job_state_name(enum cpx_job_state s)
{
	return (unsigned)s < CPX_JOB_STATES ? state_names[s] : "?";
}

bool cpx_job_name_ok(const char *name)
{
	static const char ok[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t n = strlen(name);

	return n > 0 && n < CPX_JOB_NAME_MAX && strspn(name, ok) == n && name[0] != '.' &&
	       name[0] != '-';
}

/* --- records ------------------------------------------------------------------------- */

static json_t *encode_live(const struct cpx_live *l)
{
	return json_pack("{s:s, s:i, s:I}", "boot", l->boot, "pid", l->pid, "start",
			 (json_int_t)l->start);
}

static json_t *encode_gen(const struct cpx_reg_gen *g)
{
	return json_pack("{s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "epoch",
			 (json_int_t)g->id.epoch, "seq", (json_int_t)g->id.seq, "nonce",
			 g->id.nonce, "realtime_ns", (json_int_t)g->realtime_ns, "bytes_memory",
			 (json_int_t)g->bytes_memory, "bytes_stored",
			 (json_int_t)g->bytes_stored, "pause_ns", (json_int_t)g->pause_ns,
			 "total_ns", (json_int_t)g->total_ns, "tasks", (json_int_t)g->tasks,
			 "threads", (json_int_t)g->threads);
}

static json_t *encode_pins(const struct cpx_reg_job *job)
{
	json_t *pins = json_array();

	for (uint32_t i = 0; i < job->npins; i++) {
		const struct cpx_reg_pin *p = &job->pins[i];

		json_t *j = json_pack("{s:I, s:I, s:s, s:o}", "epoch", (json_int_t)p->epoch,
				      "seq", (json_int_t)p->seq, "why", p->why, "holder",
				      encode_live(&p->holder));

		if (*p->node) {
			json_object_set_new(j, "node", json_string(p->node));
			json_object_set_new(j, "lease", json_integer(p->lease));
		}
		json_array_append_new(pins, j);
	}
	return pins;
}

json_t *cpx_reg_encode(const struct cpx_reg_job *job)
{
	json_t *gens = json_array(), *tuning = json_object();
	json_t *j = json_pack(
		"{s:i, s:s, s:I, s:I, s:I, s:I, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, "
		"s:I,"
		" s:I}",
		"format", FORMAT, "name", job->name, "version", (json_int_t)job->version,
		"epoch", (json_int_t)job->epoch, "uid", (json_int_t)job->uid, "gid",
		(json_int_t)job->gid, "state", cpx_job_state_name(job->state), "marked",
		job->marked, "tty", job->tty, "every_ns", (json_int_t)job->every_ns, "keep",
		(json_int_t)job->keep.last, "keep_hourly", (json_int_t)job->keep.hourly,
		"keep_daily", (json_int_t)job->keep.daily, "checkpoints",
		(json_int_t)job->checkpoints, "restarts", (json_int_t)job->restarts,
		"created_ns", (json_int_t)job->created_ns, "started_ns",
		(json_int_t)job->started_ns);

	if (!j || !gens || !tuning) {
		json_decref(j);
		json_decref(gens);
		json_decref(tuning);
		return NULL;
	}
	cpx_tuning_encode(&job->tuning, tuning);
	json_object_set_new(j, "tuning", tuning);
	if (job->has_status)
		json_object_set_new(j, "status", json_integer(job->status));
	json_object_set_new(j, "reason", cpx_proto_bytes(job->reason));
	json_object_set_new(j, "command", cpx_proto_bytes(job->command));
	cpx_reg_placing_encode(job, j);
	json_object_set_new(j, "keeper", encode_live(&job->keeper));
	json_object_set_new(j, "init", encode_live(&job->init));
	json_object_set_new(j, "root", encode_live(&job->root));
	for (uint32_t i = 0; i < job->ngens; i++)
		json_array_append_new(gens, encode_gen(&job->gens[i]));
	json_object_set_new(j, "generations", gens);
	json_object_set_new(j, "pins", encode_pins(job));
	json_object_set_new(j, "auto", cpx_reg_learned_encode(job));
	return j;
}

int64_t cpx_reg_number(const json_t *j, const char *key, int64_t min, int64_t max, bool *ok)
{
	const json_t *v = json_object_get(j, key);
	int64_t n = json_integer_value(v);

	if (!json_is_integer(v) || n < min || n > max) {
		*ok = false;
		return min;
	}
	return n;
}

/* The same for a field that older records do not have. */
static uint32_t later_number(const json_t *j, const char *key, uint32_t max, bool *ok)
{
	return json_object_get(j, key) ? (uint32_t)cpx_reg_number(j, key, 0, max, ok) : 0;
}

void cpx_reg_text(const json_t *j, const char *key, char *out, size_t size, bool *ok)
{
	char *s = cpx_proto_unbytes(json_object_get(j, key));

	if (!s || strlen(s) >= size)
		*ok = false;
	else
		strcpy(out, s);
	free(s);
}

static void decode_live(const json_t *j, struct cpx_live *l, bool *ok)
{
	cpx_reg_text(j, "boot", l->boot, sizeof(l->boot), ok);
	l->pid = (pid_t)cpx_reg_number(j, "pid", 0, INT32_MAX, ok);
	l->start = (uint64_t)cpx_reg_number(j, "start", 0, INT64_MAX, ok);
}

static void decode_gen(const json_t *j, const char *job, struct cpx_reg_gen *g, bool *ok)
{
	strcpy(g->id.job, job);
	cpx_reg_text(j, "nonce", g->id.nonce, sizeof(g->id.nonce), ok);
	if (strlen(g->id.nonce) != 16 || strspn(g->id.nonce, "0123456789abcdef") != 16)
		*ok = false;
	g->id.epoch = (uint64_t)cpx_reg_number(j, "epoch", 0, INT64_MAX, ok);
	g->id.seq = (uint64_t)cpx_reg_number(j, "seq", 0, INT64_MAX, ok);
	g->realtime_ns = cpx_reg_number(j, "realtime_ns", INT64_MIN, INT64_MAX, ok);
	g->bytes_memory = (uint64_t)cpx_reg_number(j, "bytes_memory", 0, INT64_MAX, ok);
	g->bytes_stored = (uint64_t)cpx_reg_number(j, "bytes_stored", 0, INT64_MAX, ok);
	g->pause_ns = cpx_reg_number(j, "pause_ns", 0, INT64_MAX, ok);
	g->total_ns = cpx_reg_number(j, "total_ns", 0, INT64_MAX, ok);
	g->tasks = (uint32_t)cpx_reg_number(j, "tasks", 0, UINT32_MAX, ok);
	g->threads = (uint32_t)cpx_reg_number(j, "threads", 0, UINT32_MAX, ok);
}

static void decode_pins(const json_t *pins, struct cpx_reg_job *job, bool *ok)
{
	if (!json_is_array(pins) || json_array_size(pins) > CPX_REG_PINS)
		*ok = false;
	for (size_t i = 0; *ok && i < json_array_size(pins); i++) {
		const json_t *j = json_array_get(pins, i);
		struct cpx_reg_pin *p = &job->pins[job->npins++];

		p->epoch = (uint64_t)cpx_reg_number(j, "epoch", 0, INT64_MAX, ok);
		p->seq = (uint64_t)cpx_reg_number(j, "seq", 0, INT64_MAX, ok);
		cpx_reg_text(j, "why", p->why, sizeof(p->why), ok);
		decode_live(json_object_get(j, "holder"), &p->holder, ok);
		if (!json_object_get(j, "node"))
			continue;
		cpx_reg_text(j, "node", p->node, sizeof(p->node), ok);
		p->lease = cpx_reg_number(j, "lease", 0, INT64_MAX, ok);
	}
}

static void decode_state(const json_t *j, struct cpx_reg_job *job, bool *ok)
{
	const char *s = cpx_proto_str(j, "state");
	int i = 0;

	while (i < CPX_JOB_STATES && (!s || strcmp(s, state_names[i])))
		i++;
	if (i == CPX_JOB_STATES)
		*ok = false;
	else
		job->state = (enum cpx_job_state)i;
	job->has_status = json_object_get(j, "status") != NULL;
	if (job->has_status)
		job->status = (int)cpx_reg_number(j, "status", 0, 0xffff, ok);
}

int cpx_reg_decode(const json_t *j, struct cpx_reg_job *out, struct cpx_err *err)
{
	struct cpx_reg_job job;
	const json_t *gens = json_object_get(j, "generations");
	bool ok = true;

	memset(&job, 0, sizeof(job));
	cpx_reg_number(j, "format", FORMAT, FORMAT, &ok);
	cpx_reg_text(j, "name", job.name, sizeof(job.name), &ok);
	cpx_reg_text(j, "reason", job.reason, sizeof(job.reason), &ok);
	cpx_reg_text(j, "command", job.command, sizeof(job.command), &ok);
	decode_state(j, &job, &ok);
	cpx_reg_placing_decode(j, &job, &ok);
	job.version = (uint64_t)cpx_reg_number(j, "version", 0, INT64_MAX, &ok);
	job.epoch = (uint64_t)cpx_reg_number(j, "epoch", 0, INT64_MAX, &ok);
	job.uid = (uint32_t)cpx_reg_number(j, "uid", 0, UINT32_MAX, &ok);
	job.gid = (uint32_t)cpx_reg_number(j, "gid", 0, UINT32_MAX, &ok);
	job.marked = cpx_proto_bool(j, "marked");
	job.tty = cpx_proto_bool(j, "tty");
	job.every_ns = cpx_reg_number(j, "every_ns", -1, INT64_MAX, &ok);
	job.keep.last = (uint32_t)cpx_reg_number(j, "keep", 1, CPX_KEEP_MAX, &ok);
	job.keep.hourly = later_number(j, "keep_hourly", CPX_KEEP_HOURLY_MAX, &ok);
	job.keep.daily = later_number(j, "keep_daily", CPX_KEEP_DAILY_MAX, &ok);
	job.checkpoints = (uint64_t)cpx_reg_number(j, "checkpoints", 0, INT64_MAX, &ok);
	job.restarts = (uint64_t)cpx_reg_number(j, "restarts", 0, INT64_MAX, &ok);
	job.created_ns = cpx_reg_number(j, "created_ns", INT64_MIN, INT64_MAX, &ok);
	job.started_ns = cpx_reg_number(j, "started_ns", INT64_MIN, INT64_MAX, &ok);
	decode_live(json_object_get(j, "keeper"), &job.keeper, &ok);
	decode_live(json_object_get(j, "init"), &job.init, &ok);
	decode_live(json_object_get(j, "root"), &job.root, &ok);
	if (!json_is_array(gens) || json_array_size(gens) > CPX_REG_GENS)
		ok = false;
	for (size_t i = 0; ok && i < json_array_size(gens); i++)
		decode_gen(json_array_get(gens, i), job.name, &job.gens[job.ngens++], &ok);
	if (json_object_get(j, "pins"))
		decode_pins(json_object_get(j, "pins"), &job, &ok);
	if (json_object_get(j, "tuning") &&
	    cpx_tuning_decode(json_object_get(j, "tuning"), &job.tuning, NULL) < 0)
		ok = false;
	cpx_reg_learned_decode(json_object_get(j, "auto"), &job, &ok);
	if (!ok || !cpx_job_name_ok(job.name))
		return cpx_err_set(err, CPX_E_FORMAT,
				   "a job's record in the registry makes no sense");
	*out = job;
	return 0;
}

/* --- rules --------------------------------------------------------------------------- */

int cpx_registry_open(const char *where, const char *key_file, struct cpx_registry **out,
		      struct cpx_err *err)
{
	struct cpx_registry *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	if (cpx_etcd_is_url(where)) {
		r->ops = &cpx_reg_etcd_ops;
		rc = cpx_reg_etcd_open(where, key_file, &r->be, err);
	} else {
		r->ops = &cpx_reg_embedded_ops;
		rc = cpx_reg_embedded_open(where, &r->be, err);
	}
	if (rc < 0) {
		free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void cpx_registry_close(struct cpx_registry *r)
{
	if (!r)
		return;
	r->ops->close(r->be);
	free(r);
}

int cpx_registry_get(struct cpx_registry *r, const char *name, struct cpx_reg_job *out,
		     struct cpx_err *err)
{
	if (!cpx_job_name_ok(name))
		return cpx_err_set(err, CPX_E_INVAL, "'%.80s' cannot be the name of a job",
				   name);
	return r->ops->get(r->be, name, out, err);
}

int cpx_registry_swap(struct cpx_registry *r, struct cpx_reg_job *job, struct cpx_err *err)
{
	if (!cpx_job_name_ok(job->name))
		return cpx_err_set(
			err, CPX_E_INVAL,
			"'%.80s' cannot be the name of a job; letters, digits, '.', '_' and "
			"'-' can",
			job->name);
	return r->ops->swap(r->be, job, NULL, err);
}

int cpx_registry_swap_if(struct cpx_registry *r, struct cpx_reg_job *job,
			 const struct cpx_reg_cond *cond, struct cpx_err *err)
{
	if (!cpx_job_name_ok(job->name))
		return cpx_registry_swap(r, job, err);
	return r->ops->swap(r->be, job, cond, err);
}

int cpx_registry_spec(struct cpx_registry *r, const char *name, char **out, struct cpx_err *err)
{
	if (!r->ops->spec || !cpx_job_name_ok(name))
		return cpx_err_set(err, CPX_E_NOENT, "job '%.80s' has no specification", name);
	return r->ops->spec(r->be, name, out, err);
}

int cpx_registry_remove(struct cpx_registry *r, const char *name, uint64_t version,
			struct cpx_err *err)
{
	if (!cpx_job_name_ok(name))
		return cpx_err_set(err, CPX_E_INVAL, "'%.80s' cannot be the name of a job",
				   name);
	return r->ops->remove(r->be, name, version, err);
}

int cpx_registry_list(struct cpx_registry *r, char ***names, struct cpx_err *err)
{
	return r->ops->list(r->be, names, err);
}

void cpx_registry_fence(struct cpx_registry *r, const char *node, int64_t lease)
{
	snprintf(r->node, sizeof(r->node), "%s", node);
	r->lease = lease;
	if (r->ops->fence)
		r->ops->fence(r->be, node, lease);
}

int cpx_registry_node(struct cpx_registry *r, const char *name, struct cpx_reg_node *out,
		      struct cpx_err *err)
{
	if (!r->ops->node || !cpx_job_name_ok(name))
		return cpx_err_set(err, CPX_E_NOENT, "there is no node '%.80s'", name);
	return r->ops->node(r->be, name, out, err);
}

int cpx_registry_each(struct cpx_registry *r, cpx_reg_each fn, void *ctx, struct cpx_err *err)
{
	char **names = NULL;
	int n, given = 0;

	if (r->ops->each)
		return r->ops->each(r->be, fn, ctx, err);
	n = cpx_registry_list(r, &names, err);
	for (int i = 0; i < n; i++) {
		struct cpx_reg_job job;

		if (cpx_registry_get(r, names[i], &job, NULL) < 0)
			continue;
		fn(&job, ctx);
		given++;
	}
	cpx_registry_names_free(names);
	return n < 0 ? n : given;
}

void cpx_registry_names_free(char **names)
{
	cpx_proto_strv_free(names);
}

int cpx_registry_change(struct cpx_registry *r, const char *name, cpx_reg_change fn, void *ctx,
			struct cpx_reg_job *out, struct cpx_err *err)
{
	struct cpx_reg_job job;
	int rc = CPX_E_CONFLICT;

	for (int i = 0; i < TRIES && rc == CPX_E_CONFLICT; i++) {
		rc = cpx_registry_get(r, name, &job, err);
		if (rc >= 0)
			rc = fn(&job, ctx, err);
		if (rc < 0)
			return rc;
		rc = cpx_registry_swap(r, &job, err);
	}
	if (rc >= 0 && out)
		*out = job;
	return rc;
}

struct commit {
	struct cpx_registry *r;
	uint64_t epoch;
	int64_t lease;
	const struct cpx_reg_gen *gen;
	struct cpx_failures node;
	struct cpx_gen_id *dead;
	int ndead;
};

static int older(const struct cpx_gen_id *a, const struct cpx_gen_id *b)
{
	return a->epoch != b->epoch ? a->epoch < b->epoch : a->seq < b->seq;
}

/* An earlier try was done although nobody said so: what fell out then falls out still. */
static bool is_there(const struct cpx_reg_job *job, const struct cpx_gen_id *id)
{
	for (uint32_t i = 0; i < job->ngens; i++)
		if (job->gens[i].id.epoch == id->epoch && job->gens[i].id.seq == id->seq &&
		    !strcmp(job->gens[i].id.nonce, id->nonce))
			return true;
	return false;
}

static bool is_pinned(const struct cpx_reg_job *job, const struct cpx_gen_id *id)
{
	for (uint32_t i = 0; i < job->npins; i++)
		if (job->pins[i].epoch == id->epoch && job->pins[i].seq == id->seq)
			return true;
	return false;
}

/* PIDs mean something on the holder's node alone; for others its lease has to do. */
static bool pin_lives(struct cpx_registry *r, const struct cpx_reg_pin *p)
{
	struct cpx_reg_node node;
	int rc;

	if (!strcmp(p->node, r->node))
		return cpx_live_check(&p->holder);
	rc = cpx_registry_node(r, p->node, &node, NULL);
	return rc < 0 ? rc != CPX_E_NOENT : node.lease == p->lease;
}

static void drop_dead_pins(struct cpx_registry *r, struct cpx_reg_job *job)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < job->npins; i++)
		if (pin_lives(r, &job->pins[i]))
			job->pins[n++] = job->pins[i];
	memset(job->pins + n, 0, (job->npins - n) * sizeof(job->pins[0]));
	job->npins = n;
}

/* Take out what nothing keeps. Return: how many; @dead may be NULL. */
int cpx_reg_retain(struct cpx_registry *r, struct cpx_reg_job *job, struct cpx_gen_id *dead)
{
	int64_t when[CPX_REG_GENS];
	uint8_t keep[CPX_REG_GENS];
	uint32_t n = 0;
	int ndead = 0;

	drop_dead_pins(r, job);
	for (uint32_t i = 0; i < job->ngens; i++)
		when[i] = job->gens[i].realtime_ns;
	cpx_retain(&job->keep, when, job->ngens, keep);
	for (uint32_t i = 0; i < job->ngens; i++) {
		if (keep[i] || is_pinned(job, &job->gens[i].id))
			job->gens[n++] = job->gens[i];
		else if (dead)
			dead[ndead++] = job->gens[i].id;
		else
			ndead++;
	}
	memset(job->gens + n, 0, (job->ngens - n) * sizeof(job->gens[0]));
	job->ngens = n;
	return ndead;
}

static void learn(struct cpx_reg_job *job, const struct cpx_observed *seen,
		  const struct cpx_failures *node)
{
	const struct cpx_interval_bounds bounds = cpx_reg_bounds(job);
	int64_t *ran = &job->learned.failures.seen_ns;

	if (seen->period_ns > 0 && seen->period_ns < INT64_MAX - *ran)
		*ran += seen->period_ns;
	if (seen->delay_ns > 0)
		cpx_interval_learn(&job->learned, seen, node, &bounds);
}

static int put_head(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	struct commit *c = ctx;

	if (is_there(job, &c->gen->id))
		return 0;
	c->ndead = 0;
	if (job->epoch != c->epoch)
		return cpx_err_set(err, CPX_E_CONFLICT,
				   "job '%s' has been placed anew (epoch %llu, not %llu)",
				   job->name, (unsigned long long)job->epoch,
				   (unsigned long long)c->epoch);
	if (job->lease != c->lease)
		return cpx_err_set(err, CPX_E_CONFLICT,
				   "job '%s' is not this node's under the lease it has",
				   job->name);
	if (job->ngens && !older(&job->gens[0].id, &c->gen->id))
		return cpx_err_set(err, CPX_E_CONFLICT, "job '%s' has a newer head", job->name);
	if (job->ngens == CPX_REG_GENS)
		return cpx_err_set(err, CPX_E_LIMIT, "job '%s' has too many generations",
				   job->name);
	memmove(job->gens + 1, job->gens, job->ngens * sizeof(job->gens[0]));
	job->gens[0] = *c->gen;
	job->ngens++;
	job->checkpoints++;
	job->placing.tries = job->placing.nrefused = job->placing.skip = 0;
	learn(job, &c->gen->seen, &c->node);
	c->ndead = cpx_reg_retain(c->r, job, c->dead);
	return 0;
}

int cpx_registry_commit(struct cpx_registry *r, const char *name, uint64_t epoch, int64_t lease,
			const struct cpx_reg_gen *gen, struct cpx_gen_id *dead,
			struct cpx_reg_job *out, struct cpx_err *err)
{
	struct commit c = { .r = r, .epoch = epoch, .lease = lease, .gen = gen, .dead = dead };
	struct cpx_reg_past past;
	int rc;

	/* without it the interval is a little worse, no more */
	if (cpx_registry_past(r, &past, NULL) >= 0)
		c.node = past.failures;
	rc = cpx_registry_change(r, name, put_head, &c, out, err);
	return rc < 0 ? rc : c.ndead;
}

struct replacement {
	struct cpx_registry *r;
	uint64_t epoch;
	const struct cpx_gen_id *old, *copy;
};

static int put_copy(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	const struct replacement *c = ctx;

	if (job->epoch != c->epoch || !job->ngens ||
	    strcmp(job->gens[0].id.nonce, c->old->nonce) != 0)
		return cpx_err_set(err, CPX_E_CONFLICT, "job '%s' has a newer head", job->name);
	drop_dead_pins(c->r, job);
	if (is_pinned(job, &job->gens[0].id))
		return cpx_err_set(err, CPX_E_BUSY, "the head of job '%s' is being read",
				   job->name);
	job->gens[0].id = *c->copy;
	return 0;
}

int cpx_registry_replace_head(struct cpx_registry *r, const char *name, uint64_t epoch,
			      const struct cpx_gen_id *old, const struct cpx_gen_id *copy,
			      struct cpx_reg_job *out, struct cpx_err *err)
{
	struct replacement c = { .r = r, .epoch = epoch, .old = old, .copy = copy };

	return cpx_registry_change(r, name, put_copy, &c, out, err);
}

/* --- pins ---------------------------------------------------------------------------- */

struct pinning {
	struct cpx_registry *r;
	uint64_t epoch, seq;
	const char *why;
	struct cpx_live self;
	struct cpx_reg_gen gen;
};

static int add_pin(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	struct pinning *p = ctx;
	uint32_t i = 0;

	while (i < job->ngens && (p->epoch || p->seq) &&
	       (job->gens[i].id.epoch != p->epoch || job->gens[i].id.seq != p->seq))
		i++;
	if (i == job->ngens)
		return cpx_err_set(err, CPX_E_NOENT,
				   "job '%s' has no such image; see `chpox_ctl images %s`",
				   job->name, job->name);
	drop_dead_pins(p->r, job);
	if (job->npins == CPX_REG_PINS)
		return cpx_err_set(
			err, CPX_E_BUSY,
			"images of job '%s' have %d readers already; try again later",
			job->name, CPX_REG_PINS);
	p->gen = job->gens[i];
	job->pins[job->npins] = (struct cpx_reg_pin){ .epoch = p->gen.id.epoch,
						      .seq = p->gen.id.seq,
						      .holder = p->self,
						      .lease = p->r->lease };
	strcpy(job->pins[job->npins].node, p->r->node);
	snprintf(job->pins[job->npins++].why, sizeof(job->pins[0].why), "%s", p->why);
	return 0;
}

int cpx_registry_pin(struct cpx_registry *r, const char *name, uint64_t epoch, uint64_t seq,
		     const char *why, struct cpx_reg_gen *out, struct cpx_err *err)
{
	struct pinning p = { .r = r, .epoch = epoch, .seq = seq, .why = why };
	int rc = cpx_live_of(getpid(), &p.self, err);

	if (rc >= 0)
		rc = cpx_registry_change(r, name, add_pin, &p, NULL, err);
	if (rc >= 0 && out)
		*out = p.gen;
	return rc;
}

static int remove_pin(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	const struct pinning *p = ctx;

	for (uint32_t i = 0; i < job->npins; i++) {
		const struct cpx_reg_pin *q = &job->pins[i];

		if (q->epoch != p->epoch || q->seq != p->seq || q->holder.pid != p->self.pid ||
		    q->holder.start != p->self.start || strcmp(q->holder.boot, p->self.boot))
			continue;
		job->pins[i] = job->pins[--job->npins];
		memset(&job->pins[job->npins], 0, sizeof(job->pins[0]));
		return 0;
	}
	return cpx_err_set(err, CPX_E_NOENT, "job '%s' has no such pin of this process",
			   job->name);
}

int cpx_registry_unpin(struct cpx_registry *r, const char *name, const struct cpx_gen_id *gen,
		       struct cpx_err *err)
{
	struct pinning p = { .epoch = gen->epoch, .seq = gen->seq };
	int rc = cpx_live_of(getpid(), &p.self, err);

	return rc < 0 ? rc : cpx_registry_change(r, name, remove_pin, &p, NULL, err);
}

static int drop(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	struct commit *c = ctx;

	(void)err;
	c->ndead = cpx_reg_retain(c->r, job, c->dead);
	return 0;
}

int cpx_registry_drop(struct cpx_registry *r, const char *name, struct cpx_gen_id *dead,
		      struct cpx_reg_job *out, struct cpx_err *err)
{
	struct commit c = { .r = r, .dead = dead };
	int rc = cpx_registry_change(r, name, drop, &c, out, err);

	return rc < 0 ? rc : c.ndead;
}

struct fall {
	const char *head, *to;
};

static int drop_newer(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	const struct fall *f = ctx;
	uint32_t i = 0;

	if (!job->ngens || strcmp(job->gens[0].id.nonce, f->head) != 0)
		return cpx_err_set(err, CPX_E_CONFLICT,
				   "job '%s' has another checkpoint by now; try again",
				   job->name);
	while (i < job->ngens && strcmp(job->gens[i].id.nonce, f->to) != 0)
		i++;
	if (i == job->ngens)
		return cpx_err_set(err, CPX_E_NOENT, "job '%s' has no such generation",
				   job->name);
	job->ngens -= i;
	memmove(job->gens, job->gens + i, job->ngens * sizeof(job->gens[0]));
	return 0;
}

int cpx_registry_fall_back(struct cpx_registry *r, const char *name, const char *head,
			   const char *to, struct cpx_reg_job *out, struct cpx_err *err)
{
	struct fall f = { .head = head, .to = to };

	return cpx_registry_change(r, name, drop_newer, &f, out, err);
}
