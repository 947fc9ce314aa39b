/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cluster.h - the core (core.h) in chpoxd: what it is told, and what is done of what it says.
 *
 * cluster.c the loop's side: ticks, the node's lease, lists and watches, keepers; cluster_req.c
 * what is asked of the registry, in a thread; cluster_rec.c records and numbers. Only where
 * nodes join their registry; d->cluster is NULL else.
 */
#ifndef CPX_SCHEDULER_CLUSTER_H
#define CPX_SCHEDULER_CLUSTER_H

#include "core.h"
#include "registry_nodes.h"
#include "registry_watch.h"
#include "server.h"
#include "worker.h"

#define CLUSTER_LIVES 8

struct cluster_job {
	char name[CPX_JOB_NAME_MAX];
	struct cpx_reg_job rec; /* as it was at its version; 0: not known */
	bool gone;		/* removed at @gone_rev */
	char reason[200];	/* why its last start here failed */
	uint64_t killing;	/* epoch of a copy that was told to end */
	int64_t killed_at;
};

struct cpxd_cluster {
	struct cpxd *d;
	struct cpx_core *core; /* NULL: this node's number is not known yet */
	struct cpxd_worker *worker;
	struct cpx_registry_watch *watch;
	uv_timer_t tick;
	uv_async_t changed;
	struct cluster_job **jobs; /* by number */
	uint32_t njobs;
	char **nodes; /* names; number N is nodes[N - 1] */
	uint32_t nnodes, self;
	bool numbering, listing, list_again;
	uint64_t seen_rev; /* records up to here are known */
	int64_t keepers_until;
	struct {
		uint64_t id, lease;
		int64_t asked;
	} lives[CLUSTER_LIVES]; /* JOIN and RENEW that wait for the lease's thread */
	uint32_t life;
};

/* cluster.c */
void cluster_feed(struct cpxd_cluster *c, const struct cpx_core_event *ev);
/* A record that was read or written; kept where it is newer, and told the core. */
void cluster_learn(struct cpxd_cluster *c, const struct cpx_reg_job *rec);
void cluster_refresh(struct cpxd_cluster *c);
void cluster_feed_record(struct cpxd_cluster *c, uint32_t job);

/* cluster_rec.c */
uint32_t cluster_job_number(struct cpxd_cluster *c, const char *name); /* UINT32_MAX: memory */
uint32_t cluster_node_number(const struct cpxd_cluster *c, const char *name); /* 0: unknown */
const char *cluster_node_name(const struct cpxd_cluster *c, uint32_t node);   /* "": none */
/* Return: false while a node in it has no number here. */
bool cluster_to_core(const struct cpxd_cluster *c, uint32_t job, const struct cpx_reg_job *rec,
		     struct cpx_core_rec *out);
/* What the core has decided, into the record that it was decided by. */
void cluster_from_core(const struct cpxd_cluster *c, const struct cpx_core_rec *r,
		       const char *reason, struct cpx_reg_job *job);

/* cluster_req.c */
void cluster_ask(struct cpxd_cluster *c, const struct cpx_core_req *q);
void cluster_list(struct cpxd_cluster *c, uint64_t id); /* @id: the core's request, 0: none */
void cluster_number(struct cpxd_cluster *c);

#endif
