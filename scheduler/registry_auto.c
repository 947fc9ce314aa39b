/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the registry keeps for `every auto`: of each job what was learned, of the node failures.
 */
#include <string.h>

#include "../chpox/base/err.h"
#include "proto.h"
#include "registry_back.h"

#define FORMAT 1
#define NODE_EVERY_NS 300000000000LL /* between two notes that the node is up */
#define NODE_GAP_NS 7200000000000LL  /* longer without a note: no job ran for a part of it */

struct cpx_interval_bounds cpx_reg_bounds(const struct cpx_reg_job *job)
{
	struct cpx_interval_bounds b = job->bounds;

	/* one that is given moves the default of the other along */
	if (b.max_ns <= 0)
		b.max_ns = b.min_ns > CPX_INTERVAL_MAX_NS ? b.min_ns : CPX_INTERVAL_MAX_NS;
	if (b.min_ns <= 0)
		b.min_ns = b.max_ns < CPX_INTERVAL_MIN_NS ? b.max_ns : CPX_INTERVAL_MIN_NS;
	if (b.max_ns < b.min_ns)
		b.max_ns = b.min_ns;
	return b;
}

/* --- records ------------------------------------------------------------------------- */

static json_t *encode_fit(const struct cpx_fit *f)
{
	return json_pack("[f, f, f, f, f]", f->n, f->x, f->y, f->xx, f->xy);
}

json_t *cpx_reg_learned_encode(const struct cpx_reg_job *job)
{
	const struct cpx_learned *l = &job->learned;

	return json_pack("{s:I, s:I, s:o, s:o, s:o, s:f, s:b, s:I, s:I, s:I}", "min_ns",
			 (json_int_t)job->bounds.min_ns, "max_ns",
			 (json_int_t)job->bounds.max_ns, "dirty", encode_fit(&l->dirty), "cost",
			 encode_fit(&l->cost), "delay", encode_fit(&l->delay), "memory",
			 l->memory, "full", l->full, "period_ns", (json_int_t)l->period_ns,
			 "failures", (json_int_t)l->failures.count, "seen_ns",
			 (json_int_t)l->failures.seen_ns);
}

static double real(const json_t *v, bool *ok)
{
	if (!json_is_number(v))
		*ok = false;
	return json_number_value(v);
}

static void decode_fit(const json_t *j, struct cpx_fit *f, bool *ok)
{
	double *v[] = { &f->n, &f->x, &f->y, &f->xx, &f->xy };

	for (size_t i = 0; i < 5; i++)
		*v[i] = real(json_array_get(j, i), ok);
}

void cpx_reg_learned_decode(const json_t *j, struct cpx_reg_job *job, bool *ok)
{
	struct cpx_learned *l = &job->learned;

	if (!j)
		return;
	job->bounds.min_ns = cpx_reg_number(j, "min_ns", 0, INT64_MAX, ok);
	job->bounds.max_ns = cpx_reg_number(j, "max_ns", 0, INT64_MAX, ok);
	decode_fit(json_object_get(j, "dirty"), &l->dirty, ok);
	decode_fit(json_object_get(j, "cost"), &l->cost, ok);
	decode_fit(json_object_get(j, "delay"), &l->delay, ok);
	l->memory = real(json_object_get(j, "memory"), ok);
	l->full = cpx_proto_bool(j, "full");
	l->period_ns = cpx_reg_number(j, "period_ns", 0, INT64_MAX, ok);
	l->failures.count = (uint64_t)cpx_reg_number(j, "failures", 0, INT64_MAX, ok);
	l->failures.seen_ns = cpx_reg_number(j, "seen_ns", 0, INT64_MAX, ok);
	if (!cpx_learned_ok(l))
		*ok = false;
}

json_t *cpx_reg_past_encode(const struct cpx_reg_past *n)
{
	return json_pack("{s:i, s:I, s:I, s:s, s:I, s:s}", "format", FORMAT, "failures",
			 (json_int_t)n->failures.count, "seen_ns",
			 (json_int_t)n->failures.seen_ns, "boot", n->boot, "boot_ns",
			 (json_int_t)n->boot_ns, "failed_boot", n->failed_boot);
}

int cpx_reg_past_decode(const json_t *j, struct cpx_reg_past *out, struct cpx_err *err)
{
	struct cpx_reg_past n;
	bool ok = true;

	memset(&n, 0, sizeof(n));
	cpx_reg_number(j, "format", FORMAT, FORMAT, &ok);
	n.failures.count = (uint64_t)cpx_reg_number(j, "failures", 0, INT64_MAX, &ok);
	n.failures.seen_ns = cpx_reg_number(j, "seen_ns", 0, INT64_MAX, &ok);
	cpx_reg_text(j, "boot", n.boot, sizeof(n.boot), &ok);
	n.boot_ns = cpx_reg_number(j, "boot_ns", 0, INT64_MAX, &ok);
	cpx_reg_text(j, "failed_boot", n.failed_boot, sizeof(n.failed_boot), &ok);
	if (!ok)
		return cpx_err_set(err, CPX_E_FORMAT,
				   "the node's record in the registry makes no sense");
	*out = n;
	return 0;
}

/* --- the node ------------------------------------------------------------------------ */

struct sight {
	const char *boot;
	int64_t boot_ns;
};

static bool put_seen(struct cpx_reg_past *n, void *ctx)
{
	const struct sight *s = ctx;
	int64_t gap = s->boot_ns - n->boot_ns;
	bool same = !strcmp(n->boot, s->boot);

	if (same && gap < NODE_EVERY_NS)
		return false;
	if (same && gap <= NODE_GAP_NS && gap < INT64_MAX - n->failures.seen_ns)
		n->failures.seen_ns += gap;
	strcpy(n->boot, s->boot);
	n->boot_ns = s->boot_ns;
	return true;
}

static bool put_failed(struct cpx_reg_past *n, void *ctx)
{
	const char *boot = ctx;

	if (!strcmp(n->failed_boot, boot)) /* another job has told */
		return false;
	strcpy(n->failed_boot, boot);
	n->failures.count++;
	return true;
}

int cpx_registry_past(struct cpx_registry *r, struct cpx_reg_past *out, struct cpx_err *err)
{
	if (r->ops->past_get)
		return r->ops->past_get(r->be, out, err);
	memset(out, 0, sizeof(*out));
	return 0;
}

int cpx_registry_past_seen(struct cpx_registry *r, const char *boot, int64_t boot_ns,
			   struct cpx_err *err)
{
	struct sight s = { .boot = boot, .boot_ns = boot_ns };
	struct cpx_reg_past now;

	if (strlen(boot) >= CPX_BOOT_ID)
		return cpx_err_set(err, CPX_E_INVAL, "that is no boot id");
	if (!r->ops->past_change)
		return 0;
	/* asked often, written seldom */
	if (r->ops->past_get(r->be, &now, NULL) >= 0 && !put_seen(&now, &s))
		return 0;
	return r->ops->past_change(r->be, put_seen, &s, err);
}

int cpx_registry_past_failed(struct cpx_registry *r, const char *boot, struct cpx_err *err)
{
	if (strlen(boot) >= CPX_BOOT_ID)
		return cpx_err_set(err, CPX_E_INVAL, "that is no boot id");
	if (!r->ops->past_change)
		return 0;
	return r->ops->past_change(r->be, put_failed, (void *)boot, err);
}
