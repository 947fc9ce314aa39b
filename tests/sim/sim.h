/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sim.h - many machines in one process, in virtual time, all from one seed.
 *
 * world.c: the queue of events and what is checked; registry.c: a model of etcd (leases, one
 * history, compare-and-swap, watches that may be lost); machine.c: a node with its daemon (the
 * core under test) and its keepers (the fence under test); faults.c: what goes wrong and when;
 * main.c: histories. Nothing but the seed decides: a failing one replays exactly.
 */
#ifndef CPX_SIM_H
#define CPX_SIM_H

#include "../../scheduler/core.h"

#define SEC 1000000000ll
#define MSEC 1000000ll
#define SIM_NODES 1024
#define SIM_JOBS 4096
#define SIM_COPIES 64 /* a node, at most */

/* Planted bugs: each must be found (sim --bug NAME). */
enum bug {
	BUG_NONE = 0,
	BUG_ANSWER_DEADLINE, /* the deadline counts from the answer */
	BUG_COMMIT_EPOCH,    /* commit without comparing the epoch */
	BUG_CLAIM_COMPARE,   /* acquire without comparing the version */
	BUG_NO_GUARD,	     /* takers do not wait, copies run to the end of the lease */
	BUG_THAW,	     /* a new lease thaws without asking */
	BUG_NO_FREEZE,	     /* a move does not freeze */
	BUG_DAEMON_ONLY,     /* the deadline is kept by the daemon alone */
	BUG_SUSPECT,	     /* a node that was not heard of is taken for dead */
	BUG_JOIN_OVER,	     /* a daemon that starts again replaces a living lease */
	BUG_OLD_HEAD,	     /* a restart takes the generation before the head */
	BUG_NO_REREAD,	     /* what was not answered is never read again */
	BUG_NO_KILL,	     /* a copy that lost its job is left */
	BUG_EARLY_EXPIRY,    /* the registry drops leases early */
	BUGS,
};
extern const char *const bug_names[BUGS];

enum ev {
	EV_TICK,      /* node: daemon's tick */
	EV_FIGURES,   /* node: each second */
	EV_TO_REG,    /* a request arrives at the registry */
	EV_TO_CORE,   /* an event arrives at a daemon */
	EV_COMMIT,    /* a keeper's commit arrives */
	EV_COMMITTED, /* .. and its answer */
	EV_COPY,      /* a keeper's own step */
	EV_EXPIRE,    /* registry: leases */
	EV_FAULT,     /* something breaks, heals, or a user asks */
	EV_CHECK,     /* is all settled? */
};

/* What a keeper has to do next. */
enum copy_step {
	STEP_DEADLINE,
	STEP_STARTED,
	STEP_FROZEN,
	STEP_CAPTURE,
	STEP_STORED,
	STEP_EXIT,
	STEP_GONE,
	STEP_COMMIT_LATE,
	STEP_OVERLAP,
	STEP_WAKE,
};

struct msg {
	struct cpx_core_event ev;
	struct cpx_core_rec rec;
	struct cpx_core_req req;
	struct cpx_gossip_msg *gossip; /* owned */
	struct cpx_load_figures figures;
	bool has_rec;
};

struct event {
	int64_t at;
	uint64_t order;
	enum ev kind;
	uint32_t node, life; /* @life: of the daemon or the machine it is for */
	uint32_t copy, arg;
	uint64_t tag;
	struct msg *msg; /* owned */
};

struct copy_of {
	uint32_t job; /* and .used */
	bool used, dead;
	uint64_t serial, epoch;
	struct cpx_fence fence;
	bool started, runs; /* runs: would execute instructions .. */
	bool exec;	    /* .. and its machine does */
	bool holding, exited, announced;
	int64_t progress, since; /* progress at global time since, in ns of work */
	int64_t frozen_at;	 /* when the freeze under way is done; 0: none */
	int64_t excuse;		 /* overlap is within the stated bounds until then */
	uint64_t seq, hold_seq;	 /* @hold_seq: of its last checkpoint */
	int64_t captured;
	int commits_tried;
};

struct machine {
	uint32_t id;
	bool up, paused, cut; /* @cut: from the registry */
	bool hung;	      /* its daemon */
	uint32_t life;	      /* of the machine; grows at each crash */
	uint32_t dlife;	      /* of the daemon */
	int64_t base, from;   /* local clock: base + (now - from) * rate */
	double rate;
	struct cpx_core *core;
	uint64_t kept_lease; /* what the daemon has on its disk */
	struct copy_of copies[SIM_COPIES];
	struct event *held; /* what arrived while it could not listen */
	uint32_t nheld, held_room;
	uint32_t flags, mem, jobs_max; /* its figures */
	int64_t excuse;		       /* after it stood still: see copy_of */
	bool stopped_clock;
};

struct reg_node {
	uint64_t lease, rev, features;
	int64_t expires;
	uint32_t flags;
};

struct truth {
	bool known; /* a user was told that it exists */
	bool asked;
	int64_t work;
	uint64_t epoch;		   /* of the last accepted acquisition */
	int64_t committed, before; /* progress of the head and of the one before */
	uint64_t head_epoch, head_seq;
	uint32_t running; /* copies that run now */
};

struct sim {
	uint64_t seed, rng, order, events, serial;
	int64_t now, fault_end, limit;
	enum bug bug;
	bool trace, failed, quiet, measure;
	char what[256];
	struct event *heap;
	uint32_t nheap, heap_room;
	/* registry */
	uint64_t rev, next_lease, placer, placer_rev;
	struct cpx_core_rec recs[SIM_JOBS];
	struct reg_node reg[SIM_NODES];
	bool reg_down, store_down;
	int64_t expire_at;
	/* the rest */
	struct cpx_fence_times times;
	struct machine *m;
	uint32_t nnodes, njobs;
	struct truth truth[SIM_JOBS];
	double loss, slow;
	uint64_t next_wish;
	int64_t wish_until[4096];
	uint32_t wish_node[4096], wish_life[4096];
	uint64_t moves, recoveries, starts, commits, requests;
};

/* world.c */
uint64_t sim_draw(struct sim *s);
uint64_t sim_below(struct sim *s, uint64_t n);
bool sim_chance(struct sim *s, double p);
int64_t sim_between(struct sim *s, int64_t lo, int64_t hi);
struct event *sim_post(struct sim *s, int64_t at, enum ev kind, uint32_t node);
bool sim_next(struct sim *s, struct event *out);
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_say(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int64_t sim_delay(struct sim *s);
bool sim_lost(struct sim *s);
struct sim *sim_open(uint64_t seed, enum bug bug, bool trace, uint32_t nodes);
void sim_run(struct sim *s);
void sim_close(struct sim *s);

/* registry.c */
void reg_request(struct sim *s, const struct event *e);
void reg_commit(struct sim *s, const struct event *e);
void reg_expire(struct sim *s);
void reg_rearm(struct sim *s);
void reg_flags(struct sim *s, uint32_t node, uint32_t flags);
void reg_remove(struct sim *s, uint32_t job); /* a job that has ended */

/* machine.c */
int64_t machine_clock(const struct sim *s, const struct machine *m);
void machine_boot(struct sim *s, uint32_t node, bool first);
void machine_crash(struct sim *s, uint32_t node);
void machine_pause(struct sim *s, uint32_t node, bool clock_too);
void machine_resume(struct sim *s, uint32_t node);
void machine_rate(struct sim *s, uint32_t node, double rate);
void daemon_start(struct sim *s, uint32_t node);
void daemon_crash(struct sim *s, uint32_t node);
void daemon_hang(struct sim *s, uint32_t node, bool hang);
void daemon_event(struct sim *s, struct event *e);
void daemon_step(struct sim *s, struct machine *m, const struct cpx_core_event *ev);
/* keeper.c */
void keeper_do(struct sim *s, struct machine *m, const struct cpx_core_act *a);
void keeper_step(struct sim *s, const struct event *e);
void keeper_committed(struct sim *s, const struct event *e);
void keeper_announce(struct sim *s, struct machine *m);
void keeper_clock(struct sim *s, struct machine *m); /* its clock or state changed */
void keeper_paused(struct sim *s, struct machine *m, bool paused);
void keeper_sweep(struct sim *s, struct machine *m); /* those that have ended are let go */
void keeper_lost(struct sim *s, struct machine *m, struct copy_of *c);

/* faults.c */
void faults_plan(struct sim *s);
void faults_do(struct sim *s, const struct event *e);

#endif
