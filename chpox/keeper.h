/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keeper.h - the outer half of a job's keeper: one process a job, one poll loop.
 *
 * It acquires the job in the registry (a new epoch), starts or adopts its processes, makes its
 * checkpoints (in a child of its own each, so that neither a slow disk nor a crash there holds
 * up the loop), takes the exit status, and writes what happened into the registry. It needs
 * chpoxd only to be asked: without it, it goes on and connects again when there is a new one.
 *
 * Files: main_keeper.c start and loop, keeper.c acquiring and the end of a job, keeper_start.c
 * ways to begin, keeper_ckpt.c checkpoints, keeper_tune.c how, keeper_interval.c when,
 * keeper_clean.c cleaning of packs, keeper_link.c chpoxd's requests, keeper_tty.c the terminal,
 * keeper_spec.c what is to be run.
 */
#ifndef CPX_KEEPER_H
#define CPX_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "keeper_track.h"
#include "../scheduler/fence.h"
#include "../scheduler/proto.h"
#include "../scheduler/registry.h"
#include "../store/space.h"
#include "base/cgroup.h"
#include "box.h"
#include "capture.h"
#include "pace.h"

struct rusage;

#define KEEPER_QUEUE 16	  /* checkpoints asked for and not begun */
#define KEEPER_WATCHERS 8 /* terminals attached at once */
#define KEEPER_GROUPS 1024

enum keeper_mode {
	KEEPER_RUN,	/* the command, from its beginning */
	KEEPER_MARK,	/* watch the process that the record names */
	KEEPER_RESTART, /* from a generation */
	KEEPER_RECOVER, /* adopt what lives, else restart, else from the beginning */
	KEEPER_ADOPT,	/* what lives, or nothing */
	KEEPER_PLACE,	/* in a cluster: from a generation, else from the beginning */
};

struct keeper_spec {
	struct cpx_box_cmd cmd; /* pointers belong to the spec */
	gid_t groups[KEEPER_GROUPS];
};

struct keeper_request {
	int64_t id; /* of chpoxd's request; -1: our own */
	enum cpx_after after;
	int64_t deadline_ns;
	struct cpx_tuning tuning; /* for this one; counts before the job's */
};

struct keeper_ckpt {
	pid_t pid; /* of the child that makes it; 0: none */
	int fd;	   /* what it says */
	struct cpx_proto_in in;
	struct keeper_request req;
	struct cpx_gen_id id;
	bool cleaning; /* it writes the head anew; nobody has asked */
};

struct keeper_watcher {
	int fd;
	struct cpx_proto_in in;
};

struct keeper {
	const char *dir, *name; /* borrowed */
	char *jobdir;
	char cgroup[CPX_CGROUP_NAME];
	enum keeper_mode mode;
	uint64_t want_epoch, want_seq; /* RESTART: this generation; 0, 0: the head */
	bool force;
	struct cpx_registry *reg;
	struct cpx_reg_conf conf;
	int64_t lease;		    /* of the node, 0: embedded registry */
	uint64_t own_epoch;	    /* in a cluster: the record is ours already, at this one */
	int64_t own_deadline_ns;    /* .. until then, as we were started */
	struct keeper_fence *fence; /* NULL: nothing to be fenced from */
	struct cpx_reg_job job;	    /* as we stored it last */
	struct keeper_spec spec;
	bool has_spec;
	uint64_t seq; /* of the last checkpoint of this epoch */

	struct cpx_box box;
	bool boxed; /* else root_pidfd, and root is our child if @parent */
	bool parent;
	pid_t root;
	int root_pidfd;
	int cgroup_fd, listen_fd, stdin_fd;

	int link; /* to chpoxd, -1: not now */
	struct cpx_proto_in link_in;
	_Atomic bool fenced_dead; /* the deadline killed the job: it has not ended */
	int64_t start_id; /* the request that started us, to be answered; -1: answered */

	struct keeper_ckpt ckpt;
	void *code_cache; /* of the store, shared with the capturing children; may be NULL */
	struct keeper_track track;
	struct cpx_space space; /* of the job's packs */
	struct cpx_pace pace;	/* of its pauses */
	struct cpx_store_speed speed;
	struct keeper_request queue[KEEPER_QUEUE];
	unsigned nqueue;
	int64_t due_ns;	     /* next periodic checkpoint, CLOCK_MONOTONIC; 0: none */
	int64_t snapshot_ns; /* the last one's, or the job's start; 0: not begun */

	bool ordered_kill; /* the user asked for its death */
	bool restarted;	   /* from a generation, by this keeper */
	bool ended;
	int status; /* wait status; -1: unknown */

	struct keeper_watcher watchers[KEEPER_WATCHERS];
	int typescript; /* what the terminal shows, appended; -1: no terminal */
	json_t *notes;	/* what the user shall read in the answer to start */
};

/* keeper.c */
int keeper_open(struct keeper *k, struct cpx_err *err);
/* Become the owner: a new epoch with ourselves as keeper. */
int keeper_acquire(struct keeper *k, struct cpx_err *err);
/* The processes run: store that. */
int keeper_running(struct keeper *k, struct cpx_err *err);
/* The job could not be started or restarted: store that. */
void keeper_failed(struct keeper *k, const struct cpx_err *why);
/* The job has ended (k->ended, k->status): store it, clean up. */
void keeper_finish(struct keeper *k, bool by_checkpoint);
void keeper_note(struct keeper *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int keeper_open_store(const struct keeper *k, struct cpx_store **out, struct cpx_err *err);
/* Kill the job's processes, all of them. */
void keeper_kill_all(struct keeper *k);
/* Held while the job's box or the checkpoint's process goes: the fence's thread kills both. */
void keeper_lock(void);
void keeper_unlock(void);
/* Wait status of what the loop found ended; sets ended and status. Return: true if it has. */
bool keeper_look(struct keeper *k);

/* keeper_start.c */
int keeper_start(struct keeper *k, struct cpx_err *err);

/* keeper_spec.c */
int keeper_spec_load(struct keeper *k, struct cpx_err *err);
void keeper_spec_free(struct keeper_spec *s);
/* A file in the job's out/ directory, opened as the job's owner. */
int keeper_open_out(struct keeper *k, const char *name, struct cpx_err *err);
/* Move what a run left in out/ aside, before the job begins anew. */
int keeper_move_out(struct keeper *k, struct cpx_err *err);

/* keeper_ckpt.c */
int keeper_ask(struct keeper *k, const struct keeper_request *r, struct cpx_err *err);
void keeper_ckpt_next(struct keeper *k);  /* begin one if there is one to begin */
void keeper_ckpt_event(struct keeper *k); /* its descriptor is readable */
void keeper_ckpt_abort(struct keeper *k); /* the job has ended */
void keeper_ckpt_kill(struct keeper *k);  /* the one under way fails; of any thread */

/* keeper_tune.c: how one is made, and what it teaches the next. */
int keeper_tune(const struct keeper *k, struct cpx_capture_opts *o, struct cpx_err *err);
void keeper_tune_give(const struct cpx_capture_opts *o, const struct cpx_capture_result *res,
		      json_t *answer);
void keeper_tune_take(struct keeper *k, const json_t *answer);

/* keeper_interval.c */
void keeper_schedule(struct keeper *k);
/* A checkpoint has just become durable: @bytes of memory were written, @use: of the child. */
void keeper_seen(struct keeper *k, int64_t pause_ns, int64_t total_ns, uint64_t bytes,
		 bool full, const struct rusage *use, struct cpx_observed *out);
bool keeper_had_failed(const struct cpx_reg_job *job);
/* This node is up; it went down with the job of that keeper on it (if in another boot). */
void keeper_node_seen(struct keeper *k);
void keeper_node_failed(struct keeper *k, const struct cpx_live *old);

void keeper_gc(struct keeper *k); /* what the record names no more goes */
/* A generation that the record does not name and never will: cpx_store_discard(). */
void keeper_discard(struct keeper *k, const struct cpx_gen_id *id, bool packs);
/* Fork a child into k->ckpt; @child says one thing on its descriptor and ends. */
int keeper_ckpt_fork(struct keeper *k, void (*child)(struct keeper *k, int fd),
		     struct cpx_err *err);

/* keeper_clean.c */
void keeper_clean_grown(struct keeper *k,
			const json_t *result); /* a generation was committed */
void keeper_clean_next(
	struct keeper *k); /* begin, if it is due and nothing else is to be done */
void keeper_clean_done(struct keeper *k, const json_t *m);

/* keeper_link.c */
void keeper_link_open(struct keeper *k);
void keeper_link_event(struct keeper *k);
void keeper_reply(struct keeper *k, int64_t id, json_t *answer); /* @answer is freed */
void keeper_tell(struct keeper *k, json_t *msg);

/*
 * keeper_fence.c: the deadline of fence.h, kept by a thread: whatever the loop waits for, the
 * job is frozen in time. Without a fence: never frozen.
 */
int keeper_fence_open(struct keeper *k, int64_t deadline_ns, struct cpx_err *err);
/* The registry's word, by chpoxd: lease and deadline. */
void keeper_fence_step(struct keeper *k, enum cpx_fence_event ev, int64_t lease,
		       int64_t deadline_ns);
bool keeper_fenced(const struct keeper *k);
bool keeper_fence_shut(const struct keeper *k); /* nothing may be started */

/* keeper_tty.c */
void keeper_tty_open(struct keeper *k);
void keeper_tty_attach(struct keeper *k, int fd);
void keeper_tty_output(struct keeper *k);
void keeper_tty_input(struct keeper *k, struct keeper_watcher *w);
void keeper_tty_close(struct keeper *k);

#endif
