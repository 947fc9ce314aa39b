/* SPDX-License-Identifier: GPL-2.0-or-later */
/* core_impl.h - inside the core; included by its files alone. */
#ifndef CPX_SCHEDULER_CORE_IMPL_H
#define CPX_SCHEDULER_CORE_IMPL_H

#include "core.h"

/* The copy of a job on this node. */
enum copy {
	COPY_NONE = 0,
	COPY_STARTING,
	COPY_UP,
	COPY_HOLDING, /* its last checkpoint is being made */
	COPY_HELD,    /* frozen, all of it committed */
	COPY_ENDED,   /* by itself; the registry does not know yet */
	COPY_KILLING,
	COPIES,
};

/* What an answered swap was for, where it matters. */
enum purpose { FOR_NOTHING = 0, FOR_START, FOR_ADOPT, FOR_UNHOLD, FOR_GET };

struct job {
	struct cpx_core_rec rec;
	uint64_t own_rev; /* revision at which its owner's lease surely was there */
	/* the copy here */
	enum copy copy;
	uint64_t epoch, lease;
	int status;
	enum cpx_core_why why;
	bool give_up, no_move; /* to be told the registry */
	/* one request a job at a time */
	uint64_t req;
	enum purpose purpose;
	int64_t req_until, retry_at, backoff;
	bool doubt;    /* a swap was not answered: read before anything else */
	bool active;   /* looked at each tick */
	int64_t up_at; /* when it began to run here */
	/* as its keeper measures it */
	struct cpx_load_need need;
	uint64_t used_ms;
	/* for the placer */
	int64_t gone_at, placed_at, place_retry_at, place_backoff, owned_at;
};

struct node {
	uint64_t lease, rev, features;
	uint32_t flags;
};

struct held {
	struct cpx_load_need need;
	uint32_t jobs, arrivals, leaving;
};

struct wish {
	uint64_t id;
	enum cpx_core_ev_kind kind;
	uint32_t job, node;
	int64_t until;
	bool told; /* the registry knows of it */
	struct cpx_core_rec rec;
};

#define RENEWALS 8

struct cpx_core {
	struct cpx_core_config cfg;
	int64_t now;
	uint64_t random, next_id;
	bool nomem;
	/* this node's life */
	uint64_t lease;
	int64_t deadline, renew_at, join_at, list_at, elect_at;
	uint64_t life_req, list_req, elect_req;
	int64_t life_until, list_until, elect_until;
	struct {
		uint64_t id;
		int64_t sent;
	} renewals[RENEWALS];
	uint32_t renewal;
	uint64_t placer, placer_rev, list_rev;
	/* what is known */
	struct job *jobs;
	uint32_t njobs;
	uint32_t *active, nactive, active_room;
	struct node *nodes;
	uint32_t nnodes,
		placer_node; /* @placer_node: whose lease the placer's is; 0: not known */
	struct cpx_gossip gossip;
	struct cpx_gossip_msg gossip_msg;
	struct cpx_load_figures own;
	struct held *held; /* by node, of the placer alone: reserved, see place.c */
	uint32_t nheld;
	int64_t held_at;
	struct wish *wishes;
	uint32_t nwishes;
	struct cpx_load_candidate *cand;
	uint32_t ncand;
	struct cpx_core_act *acts;
	uint32_t nacts, acts_room;
};

/* Figures that are older say nothing of how busy a node is. */
#define CORE_FRESH_MS 30000

/* core.c */
/* Make @at an index of the array of @n. New members are zero. */
bool core_grow(struct cpx_core *c, void **array, uint32_t *n, size_t size, uint32_t at);
/* The figures of a node's present life, not too old; NULL: none. */
const struct cpx_gossip_entry *core_fresh(const struct cpx_core *c, uint32_t node);
/* The node whose lease the placer's is; 0: not known. */
uint32_t core_placer_node(struct cpx_core *c);
struct cpx_core_act *core_emit(struct cpx_core *c, enum cpx_core_act_kind kind);
struct job *core_job(struct cpx_core *c, uint32_t job);	   /* made; NULL: out of memory */
struct node *core_node(struct cpx_core *c, uint32_t node); /* made; NULL: out of memory */
bool core_alive(const struct cpx_core *c, uint32_t node);
bool core_lease_ok(const struct cpx_core *c);
uint64_t core_draw(struct cpx_core *c);
void core_activate(struct cpx_core *c, uint32_t job);
void core_learn(struct cpx_core *c, const struct cpx_core_rec *rec);
void core_report(struct cpx_core *c, uint64_t id, uint32_t job, enum cpx_core_why why);
static inline bool core_over(const struct cpx_core_rec *r)
{
	return r->state == CPX_CORE_DONE || r->state == CPX_CORE_FAILED ||
	       r->state == CPX_CORE_STOPPED;
}

/* hold.c */
void hold_judge(struct cpx_core *c, struct job *j);
void hold_swap(struct cpx_core *c, struct job *j, const struct cpx_core_rec *rec,
	       uint64_t alive, uint64_t gone, enum purpose purpose);
void hold_get(struct cpx_core *c, struct job *j);
void hold_answer(struct cpx_core *c, const struct cpx_core_event *ev, struct job *j);
void hold_keeper(struct cpx_core *c, const struct cpx_core_event *ev);
/* Time-outs. Return: may a new request be made now? */
bool hold_free(struct cpx_core *c, struct job *j);

/* place.c */
void place_tick(struct cpx_core *c);
void place_offer(struct cpx_core *c, const struct cpx_core_event *ev);

/* balance.c */
void balance_second(struct cpx_core *c);

/* wish.c */
void wish_add(struct cpx_core *c, const struct cpx_core_event *ev);
void wish_tick(struct cpx_core *c);

#endif
