/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a job is, and what the nodes of a cluster have decided about it, as JSON. */
#include <string.h>

#include "proto.h"
#include "registry_back.h"

/* Left out where it is none: records of one machine have nothing of all this. */
static void put_name(json_t *j, const char *key, const char *name)
{
	if (*name)
		json_object_set_new(j, key, json_string(name));
}

static void put_count(json_t *j, const char *key, uint64_t n)
{
	if (n)
		json_object_set_new(j, key, json_integer((json_int_t)n));
}

void cpx_reg_placing_encode(const struct cpx_reg_job *job, json_t *j)
{
	const struct cpx_reg_placing *p = &job->placing;
	json_t *refused = json_array();

	if (!*job->node)
		return json_decref(refused);
	put_name(j, "node", job->node);
	json_object_set_new(j, "lease", json_integer(job->lease));
	put_name(j, "place", p->place);
	put_name(j, "want", p->want);
	if (p->halt)
		json_object_set_new(j, "halt", json_true());
	if (p->pinned)
		json_object_set_new(j, "pinned", json_true());
	put_count(j, "skip", p->skip);
	put_count(j, "tries", p->tries);
	put_count(j, "why", p->why);
	put_count(j, "needs", p->needs);
	for (uint32_t i = 0; i < p->nrefused; i++)
		json_array_append_new(refused, json_string(p->refused[i]));
	json_object_set_new(j, "refused", refused);
}

static void take_name(const json_t *j, const char *key, char out[CPX_JOB_NAME_MAX], bool *ok)
{
	if (!json_object_get(j, key))
		return;
	cpx_reg_text(j, key, out, CPX_JOB_NAME_MAX, ok);
	if (!cpx_job_name_ok(out))
		*ok = false;
}

static uint32_t take_count(const json_t *j, const char *key, uint32_t max, bool *ok)
{
	return json_object_get(j, key) ? (uint32_t)cpx_reg_number(j, key, 0, max, ok) : 0;
}

static void take_refused(const json_t *list, struct cpx_reg_placing *p, bool *ok)
{
	if (list && (!json_is_array(list) || json_array_size(list) > CPX_REG_REFUSED))
		*ok = false;
	for (size_t i = 0; *ok && i < json_array_size(list); i++) {
		const char *name = json_string_value(json_array_get(list, i));

		if (!name || !cpx_job_name_ok(name))
			*ok = false;
		else
			strcpy(p->refused[p->nrefused++], name);
	}
}

void cpx_reg_placing_decode(const json_t *j, struct cpx_reg_job *job, bool *ok)
{
	struct cpx_reg_placing *p = &job->placing;

	if (!json_object_get(j, "node"))
		return;
	take_name(j, "node", job->node, ok);
	job->lease = cpx_reg_number(j, "lease", 0, INT64_MAX, ok);
	take_name(j, "place", p->place, ok);
	take_name(j, "want", p->want, ok);
	p->halt = cpx_proto_bool(j, "halt");
	p->pinned = cpx_proto_bool(j, "pinned");
	p->skip = take_count(j, "skip", CPX_REG_GENS, ok);
	p->tries = take_count(j, "tries", 1000000, ok);
	p->why = take_count(j, "why", 1000, ok);
	if (json_object_get(j, "needs"))
		p->needs = (uint64_t)cpx_reg_number(j, "needs", 0, INT64_MAX, ok);
	take_refused(json_object_get(j, "refused"), p, ok);
}
