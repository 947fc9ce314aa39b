/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What users ask for. A wish is first told the registry, again and again until it is known to
 * be there; then it is watched. It ends with exactly one report: done, why not, or not in time.
 */
#include "core_impl.h"

#include <stdlib.h>
#include <string.h>

void wish_add(struct cpx_core *c, const struct cpx_core_event *ev)
{
	struct wish *w = realloc(c->wishes, (c->nwishes + 1) * sizeof(*w));

	if (w)
		c->wishes = w;
	if (!w || (ev->kind != CPX_EV_DRAIN && !core_job(c, ev->job)) ||
	    (ev->kind == CPX_EV_DRAIN && !core_node(c, ev->node))) {
		core_report(c, ev->id, ev->job, CPX_WHY_GONE);
		return;
	}
	w += c->nwishes++;
	*w = (struct wish){ .id = ev->id,
			    .kind = ev->kind,
			    .job = ev->job,
			    .node = ev->node,
			    .until = c->now + c->cfg.wish_ns };
	if (ev->kind == CPX_EV_RUN) {
		w->rec = *ev->rec;
		w->rec.version = 0;
	}
}

static bool run_done(struct cpx_core *c, struct wish *w, struct job *j)
{
	if (j->rec.version) {
		core_report(c, w->id, w->job, CPX_WHY_NONE);
		return true;
	}
	if (!hold_free(c, j))
		return false;
	if (j->doubt)
		hold_get(c, j);
	else
		hold_swap(c, j, &w->rec, c->lease, 0, FOR_NOTHING);
	return false;
}

/* Put the wish into the record. */
static void tell(struct cpx_core *c, struct wish *w, struct job *j)
{
	struct cpx_core_rec r = j->rec;

	if (w->kind == CPX_EV_MIGRATE ? r.want == w->node || r.place == w->node : r.halt) {
		w->told = true;
		return;
	}
	if (!hold_free(c, j))
		return;
	if (j->doubt) {
		hold_get(c, j);
		return;
	}
	if (w->kind == CPX_EV_MIGRATE)
		r.want = w->node;
	else
		r.halt = true;
	r.why = CPX_WHY_NONE;
	hold_swap(c, j, &r, c->lease, 0, FOR_NOTHING);
}

static bool job_done(struct cpx_core *c, struct wish *w, struct job *j)
{
	bool gone = !j->rec.version || core_over(&j->rec);

	if (w->kind == CPX_EV_HALT ? j->rec.version && core_over(&j->rec)
				   : !gone && j->rec.owner == w->node)
		core_report(c, w->id, w->job, CPX_WHY_NONE);
	else if (gone)
		core_report(c, w->id, w->job, CPX_WHY_GONE);
	else if (w->told && !j->rec.want && !j->rec.place && !j->rec.halt && !j->req)
		core_report(c, w->id, w->job, j->rec.why ? j->rec.why : CPX_WHY_TIME);
	else
		return false;
	return true;
}

static bool drain_done(struct cpx_core *c, struct wish *w)
{
	uint32_t i;

	for (i = 0; i < c->njobs; i++) {
		const struct cpx_core_rec *r = &c->jobs[i].rec;

		if (r->version && !core_over(r) && (r->owner == w->node || r->place == w->node))
			return false;
	}
	core_report(c, w->id, UINT32_MAX, CPX_WHY_NONE);
	return true;
}

static bool done(struct cpx_core *c, struct wish *w)
{
	struct job *j = w->kind == CPX_EV_DRAIN ? NULL : core_job(c, w->job);
	bool known = c->list_rev > 0; /* who has not read anything knows nothing */

	if (c->now >= w->until) {
		core_report(c, w->id, w->job, CPX_WHY_TIME);
		return true;
	}
	if (!known)
		return false;
	if (w->kind == CPX_EV_DRAIN)
		return drain_done(c, w);
	if (w->kind == CPX_EV_RUN)
		return run_done(c, w, j);
	if (job_done(c, w, j))
		return true;
	if (!w->told)
		tell(c, w, j);
	return false;
}

void wish_tick(struct cpx_core *c)
{
	uint32_t i;

	for (i = 0; i < c->nwishes;) {
		struct wish w = c->wishes[i];

		if (done(c, &w))
			c->wishes[i] = c->wishes[--c->nwishes];
		else
			c->wishes[i++].told = w.told;
	}
}
