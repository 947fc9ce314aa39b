/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * core.h - what a node of the cluster decides: step(state, event, now, random) -> actions.
 *
 * Pure: no I/O, no clock. The same core runs in chpoxd and in the simulator. Times are ns of
 * CLOCK_BOOTTIME. Jobs and nodes are small numbers: the shell around the core gives jobs theirs
 * (they never leave the node), the registry nodes theirs. Leases are the registry's; one names
 * one life of one node and is never used again.
 *
 * Every request may be lost, its answer may be, and it may be done long after it was given up.
 * So nothing is concluded from silence: the core reads the record again and acts by what it
 * says
 * ("judge", core.c). The record is only changed by compare-and-swap on its version.
 *
 * Files: core.c the step and the node's lease, hold.c what this node does about a job, wish.c
 * what users ask for,
 * place.c the placer, balance.c load and offers.
 */
#ifndef CPX_SCHEDULER_CORE_H
#define CPX_SCHEDULER_CORE_H

#include "fence.h"
#include "gossip.h"

#define CPX_CORE_REFUSED 8 /* nodes a record remembers as having failed */
#define CPX_CORE_TRIES 24  /* starts that fail before a job is given up */
#define CPX_CORE_JOBS_MAX 1000000
#define CPX_CORE_ARRIVALS 2 /* moves to a node before its own load shows them */
#define CPX_CORE_LEAVING 2  /* moves away from a drained node at one time */

enum cpx_core_state {
	CPX_CORE_QUEUED = 0, /* never ran */
	CPX_CORE_RUNNING,
	CPX_CORE_MOVING,     /* given up by its owner, for another */
	CPX_CORE_RECOVERING, /* its owner is gone, or could not start it */
	CPX_CORE_DONE,
	CPX_CORE_FAILED,
	CPX_CORE_STOPPED,
	CPX_CORE_STATES,
};

enum cpx_core_why {
	CPX_WHY_NONE = 0,
	CPX_WHY_NO_NODE, /* no node is there that it fits */
	CPX_WHY_START,	 /* the last start failed */
	CPX_WHY_DAMAGED, /* a generation did not verify */
	CPX_WHY_NO_STOP, /* could not be checkpointed, so it was not moved */
	CPX_WHY_TRIES,	 /* too many starts failed */
	CPX_WHY_TIME,	 /* not done in time */
	CPX_WHY_GONE,	 /* there is no such job, or it has ended */
};

/* What the registry holds of a job, as far as the core decides by it. */
struct cpx_core_rec {
	uint32_t job;
	uint64_t version; /* the registry's revision at its last change; 0: there is none */
	uint64_t epoch;
	enum cpx_core_state state;
	uint32_t owner; /* 0: none */
	uint64_t lease; /* the owner's, when it acquired */
	uint32_t place; /* the node that may acquire, or the owner may leave for; 0: none */
	uint32_t want;	/* the node a user asks for */
	bool halt;	/* a user wants it checkpointed and stopped */
	bool pinned;
	uint64_t head_epoch, head_seq; /* 0: no generation */
	uint32_t gens, skip;	       /* kept; the newest @skip of them are passed over */
	int status;
	enum cpx_core_why why;
	uint32_t tries, nrefused, refused[CPX_CORE_REFUSED];
	uint64_t needs; /* features, all of which a node must have */
	struct cpx_load_need need;
};

enum cpx_core_req_kind {
	CPX_REQ_JOIN = 1, /* grant a lease, put the node's key under it */
	CPX_REQ_RENEW,
	CPX_REQ_ELECT, /* create the placer's key under the lease, if there is none */
	CPX_REQ_GET,
	CPX_REQ_SWAP, /* @rec for the record of version rec.version (0: none) ... */
	CPX_REQ_LIST, /* jobs, nodes and placer at one revision, linearizable */
};
struct cpx_core_req {
	uint64_t id;
	enum cpx_core_req_kind kind;
	uint64_t alive;		 /* ... where this lease is there (0: any) ... */
	uint64_t gone;		 /* ... and this one is not */
	uint64_t features;	 /* of JOIN */
	struct cpx_core_rec rec; /* of GET: only .job */
};

enum cpx_core_result { CPX_ANS_OK = 0, CPX_ANS_CONFLICT, CPX_ANS_GONE, CPX_ANS_FAILED };

enum cpx_core_ev_kind {
	CPX_EV_TICK = 1,    /* every 250 ms */
	CPX_EV_ANSWER,	    /* to a request; with the record as it is now, for GET and SWAP */
	CPX_EV_RECORD,	    /* watch or list: a job's record; version 0: removed at .rev */
	CPX_EV_NODE,	    /* watch or list: a node; lease 0: gone */
	CPX_EV_PLACER,	    /* watch or list: who it is; lease 0: nobody */
	CPX_EV_LISTED,	    /* the list of .rev is whole */
	CPX_EV_STARTED,	    /* keeper: the copy of .epoch runs; one of an earlier daemon: under
			       .lease */
	CPX_EV_NOT_STARTED, /* keeper: .why, nothing is left of it */
	CPX_EV_HELD,	    /* keeper: last checkpoint committed, frozen */
	CPX_EV_NOT_HELD,    /* keeper: no checkpoint, it runs on */
	CPX_EV_EXITED,	    /* keeper: .status */
	CPX_EV_ENDED,	    /* keeper: the copy was killed and is gone */
	CPX_EV_USED,	    /* keeper: .need, and .used_ms since the job was first started, by
			       standard speed; each second */
	CPX_EV_FIGURES,	    /* this node's, each second */
	CPX_EV_GOSSIP,	    /* a datagram, decoded */
	CPX_EV_OFFER,	/* another node, of .figures, would like to be rid of .job at .epoch,
			   with .need and .used_ms, to .node */
	CPX_EV_RUN,	/* user: .rec is a new job */
	CPX_EV_MIGRATE, /* user: .job to .node */
	CPX_EV_HALT,	/* user: .job */
	CPX_EV_DRAIN,	/* user: .node's flags are .flags: wait until it is empty */
};
struct cpx_core_event {
	enum cpx_core_ev_kind kind;
	uint64_t id; /* of the request; of a user's wish */
	enum cpx_core_result result;
	uint32_t job, node;
	uint64_t lease, rev, features, epoch, used_ms;
	uint32_t flags;
	int status;
	enum cpx_core_why why;
	struct cpx_load_need need;
	const struct cpx_core_rec *rec;
	const struct cpx_load_figures *figures;
	const struct cpx_gossip_msg *gossip;
};

enum cpx_core_act_kind {
	CPX_ACT_REQUEST = 1,
	CPX_ACT_START,	/* .rec, at .epoch under .lease until .deadline; from scratch or a
			   generation */
	CPX_ACT_LEASE,	/* every copy here: .lease is good until .deadline */
	CPX_ACT_ADOPT,	/* .job, .epoch: the job is ours again under .lease until .deadline */
	CPX_ACT_HOLD,	/* .job: last checkpoint, then frozen */
	CPX_ACT_UNHOLD, /* .job: run on, under .lease until .deadline */
	CPX_ACT_KILL,	/* .job, .epoch */
	CPX_ACT_GOSSIP, /* to .node */
	CPX_ACT_OFFER,	/* .job at .epoch, .need and .used_ms, to be moved to .target, and this
			   node's .figures; to the placer on .node */
	CPX_ACT_REPORT, /* a user's wish .id: .why (NONE: done), or a job's change, id 0 */
};
struct cpx_core_act {
	enum cpx_core_act_kind kind;
	uint64_t id, epoch, lease;
	int64_t deadline;
	uint32_t job, node, target;
	enum cpx_core_why why;
	struct cpx_core_req req;	     /* of REQUEST */
	struct cpx_core_rec rec;	     /* of START, REPORT */
	const struct cpx_gossip_msg *gossip; /* of GOSSIP; the core's */
	struct cpx_load_need need;	     /* of OFFER, as these */
	uint64_t used_ms;
	struct cpx_load_figures figures;
};

struct cpx_core_config {
	uint32_t self;
	uint64_t lease; /* of an earlier daemon whose keepers may live; 0: none */
	uint64_t features;
	struct cpx_fence_times times;
	int64_t place_ns;      /* for a node to acquire: 3 s */
	int64_t move_ns;       /* for an owner to let go: 120 s */
	int64_t wish_ns;       /* for a user's wish: 300 s */
	uint64_t move_ms;      /* what a move costs, as measured */
	uint32_t figures_kept; /* of how many nodes at most; 0: all (the placer needs them) */
	bool balance;
};
#define CPX_CORE_DEFAULTS                                                                     \
	(struct cpx_core_config)                                                              \
	{                                                                                     \
		.times = CPX_FENCE_DEFAULTS, .place_ns = 3000000000, .move_ns = 120000000000, \
		.wish_ns = 300000000000, .move_ms = 2000, .balance = true                     \
	}

struct cpx_core;
/* Return: 0, CPX_E_INVAL, CPX_E_NOMEM. */
int cpx_core_open(const struct cpx_core_config *cfg, struct cpx_core **out,
		  struct cpx_err *err);
void cpx_core_close(struct cpx_core *c);
/*
 * cpx_core_step() - one event.
 * @acts: what is to be done, in this order; owned by the core, good until the next step.
 * Return: their number, CPX_E_NOMEM (nothing was lost: what is not known is read again).
 */
int cpx_core_step(struct cpx_core *c, const struct cpx_core_event *ev, int64_t now,
		  uint64_t random, const struct cpx_core_act **acts);

/* For ps, nodes and tests. NULL, false, 0: not known. */
const struct cpx_core_rec *cpx_core_record(const struct cpx_core *c, uint32_t job);
bool cpx_core_is_placer(const struct cpx_core *c);
uint64_t cpx_core_lease(const struct cpx_core *c, int64_t *deadline);
const struct cpx_gossip *cpx_core_gossip(const struct cpx_core *c);

#endif
