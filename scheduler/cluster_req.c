/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is asked of the registry: put together in the loop, done in the worker's thread, taken
 * apart in the loop. A request that waited until nobody wants its answer is not begun.
 */
#include <stdlib.h>
#include <string.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/err.h"
#include "../chpox/base/log.h"
#include "cluster.h"

#define WAIT_NS 1000000000LL /* the core's patience with a request */

/* --- GET, SWAP, ELECT ---------------------------------------------------------------- */

struct request {
	struct cpxd_work w;
	struct cpxd_cluster *c;
	struct cpx_core_req q;
	char alive[CPX_JOB_NAME_MAX], gone[CPX_JOB_NAME_MAX];
	struct cpx_reg_job job; /* SWAP: as it shall be; after that as it is (version 0: not) */
	int64_t placer;
	uint64_t rev;
	enum cpx_core_result result;
};

static enum cpx_core_result result_of(int r)
{
	if (r >= 0)
		return CPX_ANS_OK;
	if (r == CPX_E_CONFLICT || r == CPX_E_EXIST || r == CPX_E_GONE)
		return CPX_ANS_CONFLICT;
	return r == CPX_E_NOENT ? CPX_ANS_GONE : CPX_ANS_FAILED;
}

static void read_it(struct request *q, struct cpx_registry *reg)
{
	struct cpx_reg_job now;
	int r = cpx_registry_get(reg, q->job.name, &now, NULL);

	if (r >= 0)
		q->job = now;
	else
		q->job.version = 0;
	if (r < 0)
		q->result = result_of(r);
}

static void run_request(struct cpxd_work *w, struct cpx_registry *reg)
{
	struct request *q = (struct request *)w;
	const struct cpx_reg_cond cond = {
		.alive_node = *q->alive ? q->alive : NULL,
		.alive_lease = (int64_t)q->q.alive,
		.gone_node = *q->gone ? q->gone : NULL,
		.gone_lease = (int64_t)q->q.gone,
	};

	switch (q->q.kind) {
	case CPX_REQ_ELECT:
		q->result = result_of(cpx_registry_elect(reg, q->alive, (int64_t)q->q.alive,
							 &q->placer, &q->rev, NULL));
		break;
	case CPX_REQ_SWAP:
		q->result = result_of(cpx_registry_swap_if(reg, &q->job, &cond, NULL));
		if (q->result != CPX_ANS_OK && q->result != CPX_ANS_FAILED)
			read_it(q, reg);
		break;
	default:
		q->result = CPX_ANS_OK;
		read_it(q, reg);
		break;
	}
}

static void done_request(struct cpxd_work *w)
{
	struct request *q = (struct request *)w;
	struct cpxd_cluster *c = q->c;
	struct cpx_core_event ev = {
		.kind = CPX_EV_ANSWER,
		.id = q->q.id,
		.job = q->q.rec.job,
		.result = w->ran ? q->result : CPX_ANS_FAILED,
		.lease = (uint64_t)q->placer,
		.rev = q->rev,
	};
	struct cpx_core_rec rec;

	if (q->q.kind != CPX_REQ_ELECT && ev.result != CPX_ANS_FAILED && q->job.version) {
		if (c->jobs[ev.job]->rec.version < q->job.version)
			c->jobs[ev.job]->rec = q->job;
		if (cluster_to_core(c, ev.job, &q->job, &rec))
			ev.rec = &rec;
		else
			cluster_number(c);
	}
	/* without a record it would say that there is none */
	if (q->q.kind != CPX_REQ_ELECT && !ev.rec && ev.result != CPX_ANS_GONE)
		ev.result = CPX_ANS_FAILED;
	cluster_feed(c, &ev);
	free(q);
}

void cluster_ask(struct cpxd_cluster *c, const struct cpx_core_req *q)
{
	struct request *r = calloc(1, sizeof(*r));
	const struct cluster_job *j;

	if (!r)
		return; /* as if it had not been answered */
	r->w.run = run_request;
	r->w.done = done_request;
	r->w.until = cpx_boot_ns() + WAIT_NS;
	r->c = c;
	r->q = *q;
	if (q->alive)
		strcpy(r->alive, c->d->conf.node);
	if (q->kind != CPX_REQ_ELECT) {
		j = c->jobs[q->rec.job];
		/* what the core has decided by is what is known here, or the swap is worthless
		 */
		r->job = j->rec;
		strcpy(r->job.name, j->name);
		if (q->kind == CPX_REQ_SWAP && j->rec.version == q->rec.version)
			cluster_from_core(c, &q->rec, j->reason, &r->job);
		else if (q->kind == CPX_REQ_SWAP)
			r->q.kind = CPX_REQ_GET;
		if (q->gone)
			strcpy(r->gone, j->rec.node);
	}
	cpxd_worker_put(c->worker, &r->w);
}

/* --- lists --------------------------------------------------------------------------- */

struct list {
	struct cpxd_work w;
	struct cpxd_cluster *c;
	uint64_t id, after, rev;
	struct cpx_reg_nodes nodes;
	struct cpx_reg_job *jobs; /* version 0: it is there, and cannot be read */
	size_t n, room;
	char (*known)[CPX_JOB_NAME_MAX]; /* whole lists: names of the jobs that were known */
	size_t nknown;
	int r;
	struct cpx_err err;
};

static void add_job(const struct cpx_reg_job *job, void *ctx)
{
	struct list *l = ctx;

	if (l->n == l->room) {
		size_t room = l->room ? 2 * l->room : 16;
		struct cpx_reg_job *jobs = realloc(l->jobs, room * sizeof(*jobs));

		if (!jobs) {
			l->r = CPX_E_NOMEM;
			return;
		}
		l->jobs = jobs;
		l->room = room;
	}
	l->jobs[l->n++] = *job;
}

static bool listed(const struct list *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->jobs[i].name, name))
			return true;
	return false;
}

/* A list passes over what cannot be read, which is not gone: its job runs on. */
static void add_unread(struct list *l, struct cpx_registry *reg)
{
	for (size_t i = 0; i < l->nknown; i++) {
		struct cpx_reg_job job;
		struct cpx_err err = { 0 };
		int r;

		if (listed(l, l->known[i]))
			continue;
		r = cpx_registry_get(reg, l->known[i], &job, &err);
		if (r == CPX_E_NOENT)
			continue;
		memset(&job, 0, sizeof(job));
		strcpy(job.name, l->known[i]);
		add_job(&job, l);
	}
}

static void run_list(struct cpxd_work *w, struct cpx_registry *reg)
{
	struct list *l = (struct list *)w;
	int r = cpx_registry_since(reg, l->after, add_job, l, &l->rev, &l->err);

	if (r >= 0)
		add_unread(l, reg);
	/* the nodes last: who is not there then had no lease when the records were read */
	if (r >= 0)
		r = cpx_registry_nodes(reg, &l->nodes, &l->err);
	if (r < 0)
		l->r = r;
}

static void feed_nodes(struct cpxd_cluster *c, const struct list *l)
{
	struct cpx_core_event ev = { .kind = CPX_EV_PLACER,
				     .lease = (uint64_t)l->nodes.placer,
				     .rev = l->nodes.placer_rev };

	cluster_feed(c, &ev);
	for (size_t i = 0; i < l->nodes.n; i++) {
		const struct cpx_reg_node *n = &l->nodes.v[i];

		ev = (struct cpx_core_event){ .kind = CPX_EV_NODE,
					      .node = cluster_node_number(c, n->name),
					      .lease = (uint64_t)n->lease,
					      .flags = n->flags,
					      .rev = l->nodes.rev };
		if (ev.node)
			cluster_feed(c, &ev);
		else
			cluster_number(c);
	}
}

/* Jobs that a whole list did not name are gone. */
static void feed_gone(struct cpxd_cluster *c, const struct list *l)
{
	for (uint32_t i = 0; i < c->njobs; i++) {
		struct cluster_job *j = c->jobs[i];
		const struct cpx_core_event ev = { .kind = CPX_EV_RECORD,
						   .job = i,
						   .rev = l->rev };

		if (listed(l, j->name) || !j->rec.version || j->rec.version > l->rev)
			continue;
		memset(&j->rec, 0, sizeof(j->rec));
		cluster_feed(c, &ev);
	}
}

static void done_list(struct cpxd_work *w)
{
	struct list *l = (struct list *)w;
	struct cpxd_cluster *c = l->c;
	struct cpx_core_event ev = { .kind = CPX_EV_LISTED, .id = l->id, .rev = l->nodes.rev };

	c->listing = false;
	if (w->ran && l->r >= 0) {
		for (size_t i = 0; i < l->n; i++)
			if (l->jobs[i].version)
				cluster_learn(c, &l->jobs[i]);
		feed_nodes(c, l);
		if (!l->after)
			feed_gone(c, l);
		c->seen_rev = l->rev;
		cluster_feed(c, &ev);
	} else {
		c->list_again |= !l->id;
		if (l->id) {
			ev.kind = CPX_EV_ANSWER;
			ev.result = CPX_ANS_FAILED;
			cluster_feed(c, &ev);
		}
	}
	cpx_registry_nodes_free(&l->nodes);
	free(l->known);
	free(l->jobs);
	free(l);
}

void cluster_list(struct cpxd_cluster *c, uint64_t id)
{
	struct list *l = calloc(1, sizeof(*l));

	if (!l)
		return;
	l->w.run = run_list;
	l->w.done = done_list;
	l->w.until = cpx_boot_ns() + 2 * WAIT_NS;
	l->c = c;
	l->id = id;
	/* what the core asks for is the whole list, a hint only what is new */
	l->after = id ? 0 : c->seen_rev;
	l->known = l->after ? NULL : calloc(c->njobs + 1, sizeof(*l->known));
	for (uint32_t i = 0; l->known && i < c->njobs; i++)
		if (c->jobs[i]->rec.version)
			strcpy(l->known[l->nknown++], c->jobs[i]->name);
	if (!l->after && !l->known) {
		free(l);
		return; /* as if it had not been answered */
	}
	c->listing = true;
	cpxd_worker_put(c->worker, &l->w);
}

/* --- numbers ------------------------------------------------------------------------- */

struct numbers {
	struct cpxd_work w;
	struct cpxd_cluster *c;
	char **names;
	int n;
	struct cpx_err err;
};

static void run_numbers(struct cpxd_work *w, struct cpx_registry *reg)
{
	struct numbers *n = (struct numbers *)w;

	n->n = cpx_registry_numbers(reg, n->c->d->conf.node, &n->names, &n->err);
}

static void done_numbers(struct cpxd_work *w)
{
	struct numbers *n = (struct numbers *)w;
	struct cpxd_cluster *c = n->c;

	c->numbering = false;
	if (n->n < 0)
		cpx_log_error("nodes cannot be numbered: %s", n->err.msg);
	/* it only grows */
	if (n->n > 0 && (uint32_t)n->n >= c->nnodes) {
		cpx_registry_names_free(c->nodes);
		c->nodes = n->names;
		c->nnodes = (uint32_t)n->n;
		c->self = cluster_node_number(c, c->d->conf.node);
		for (uint32_t i = 0; i < c->njobs; i++)
			cluster_feed_record(c, i);
		cluster_refresh(c);
	} else if (n->n >= 0) {
		cpx_registry_names_free(n->names);
	}
	free(n);
}

void cluster_number(struct cpxd_cluster *c)
{
	struct numbers *n = c->numbering ? NULL : calloc(1, sizeof(*n));

	if (!n)
		return;
	n->w.run = run_numbers;
	n->w.done = done_numbers;
	n->c = c;
	c->numbering = true;
	cpxd_worker_put(c->worker, &n->w);
}
