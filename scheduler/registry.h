/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry.h - what is known about jobs, and who may change it.
 *
 * One record a job. A record is only ever replaced by compare-and-swap on its version. Its
 * owner is the keeper that acquired it at the current epoch: every placement makes the epoch
 * one larger, and a keeper that finds another epoch than its own has lost the job and may not
 * commit.
 *
 * Two back ends: registry_embedded.c for one machine, registry_etcd.c for several (with what
 * nodes know of each other in registry_nodes.h). Any process
 * with access may open the registry; calls may come from several processes at once. Not
 * thread-safe on one handle. All calls block: embedded for a few fsyncs, etcd for at most
 * CPX_ETCD_BUDGET_MS. Errors of etcd: CPX_E_IO when it cannot be reached, CPX_E_TIMEOUT when it
 * did not answer: a write may then have been done, or be done yet.
 */
#ifndef CPX_SCHEDULER_REGISTRY_H
#define CPX_SCHEDULER_REGISTRY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../store/image.h"
#include "interval.h"
#include "live.h"
#include "retention.h"
#include "tuning.h"

struct cpx_err;
struct cpx_registry;

#define CPX_REG_PINS 8 /* readers of one job at a time */
/* generations in a record: what retention keeps, what is pinned, and the newest */
#define CPX_REG_GENS \
	(CPX_KEEP_MAX + CPX_KEEP_HOURLY_MAX + CPX_KEEP_DAILY_MAX + CPX_REG_PINS + 1)

enum cpx_job_state {
	CPX_JOB_QUEUED = 0, /* known, its processes never ran */
	CPX_JOB_RUNNING,
	CPX_JOB_STOPPED,    /* ended by checkpoint --kill; can be restarted */
	CPX_JOB_DONE,	    /* ended by itself, with a status */
	CPX_JOB_FAILED,	    /* killed from outside, or could not be started or restarted */
	CPX_JOB_MOVING,	    /* in a cluster: given up by its owner, for another */
	CPX_JOB_RECOVERING, /* .. its owner is gone, or could not start it */
	CPX_JOB_STATES,
};

/* A committed checkpoint and what it cost. */
struct cpx_reg_gen {
	struct cpx_gen_id id; /* id.job is the job's name */
	int64_t realtime_ns;
	uint64_t bytes_memory, bytes_stored;
	int64_t pause_ns, total_ns;
	uint32_t tasks, threads;
	struct cpx_observed seen; /* what `every auto` learns from; not stored */
};

/* A reader of a generation, which stays as long as this process lives or until it is taken
 * back. */
struct cpx_reg_pin {
	uint64_t epoch, seq; /* of the generation */
	struct cpx_live holder;
	char node[CPX_JOB_NAME_MAX]; /* the holder's, and its lease; "": the only one */
	int64_t lease;
	char why[16]; /* "restore", "export", …; for people */
};

#define CPX_REG_REFUSED 8 /* nodes a record remembers as having failed */

/* What the nodes of a cluster decide by (core.h); all zero with an embedded registry. */
struct cpx_reg_placing {
	char place[CPX_JOB_NAME_MAX]; /* who may acquire it, or whom the owner may leave it for
				       */
	char want[CPX_JOB_NAME_MAX];  /* the node a user asks for */
	bool halt;		      /* a user wants it checkpointed and stopped */
	bool pinned;		      /* not moved to spread load */
	uint32_t skip;		      /* the newest generations that are passed over */
	uint32_t tries, why;	      /* starts that failed; enum cpx_core_why */
	uint64_t needs;		      /* features, all of which a node must have */
	uint32_t nrefused;
	char refused[CPX_REG_REFUSED][CPX_JOB_NAME_MAX];
};

struct cpx_reg_job {
	char name[CPX_JOB_NAME_MAX];
	uint64_t version; /* 0: not stored yet */
	uint64_t epoch;
	uint32_t uid, gid;
	enum cpx_job_state state;
	bool has_status;
	int status;		     /* as wait() gives it */
	char reason[200];	     /* of FAILED, for people */
	char node[CPX_JOB_NAME_MAX]; /* where it runs or ran last; "": the only one there is */
	int64_t lease; /* that node's, when the job was acquired; 0: it has no owner */
	struct cpx_reg_placing placing;
	bool marked; /* was running when it was marked: no command to start again */
	bool tty;
	int64_t every_ns; /* 0: only when asked for, -1: chosen by cost and failures .. */
	struct cpx_interval_bounds bounds; /* .. within these */
	struct cpx_learned learned;
	struct cpx_retention keep;
	struct cpx_tuning tuning;
	struct cpx_live keeper, init, root; /* pid 0: none */
	uint64_t checkpoints, restarts;
	int64_t created_ns;
	int64_t started_ns; /* last start or restart */
	char command[200];
	uint32_t ngens;
	struct cpx_reg_gen gens[CPX_REG_GENS]; /* [0] is the head, newest first */
	uint32_t npins;
	struct cpx_reg_pin pins[CPX_REG_PINS];
};

/* A node that has joined; gone with its lease. */
struct cpx_reg_node {
	char name[CPX_JOB_NAME_MAX];
	int64_t lease;
	char boot[37];
	char place[40]; /* of its state directory: device and inode */
	int64_t joined_ns;
	uint32_t flags; /* CPX_NODE_*, as cpx_registry_nodes() gives them; else 0 */
};

typedef void (*cpx_reg_each)(const struct cpx_reg_job *job, void *ctx);

/* What is known of the machine that jobs run on. All zero: nothing. */
struct cpx_reg_past {
	struct cpx_failures failures;
	char boot[CPX_BOOT_ID];	       /* boot in which it was seen last .. */
	int64_t boot_ns;	       /* .. at this CLOCK_BOOTTIME */
	char failed_boot[CPX_BOOT_ID]; /* boot that ended in the last failure counted */
};

/* What must hold besides the record's version for a write to be done. */
struct cpx_reg_cond {
	const char *alive_node; /* has just that lease; NULL: any */
	int64_t alive_lease;
	const char *gone_node; /* has not that lease; NULL: any */
	int64_t gone_lease;
	const char *spec; /* a new job's, stored with the record (NULL: none) */
};

struct cpx_reg_ops {
	int (*get)(void *be, const char *name, struct cpx_reg_job *out, struct cpx_err *err);
	int (*swap)(void *be, struct cpx_reg_job *job, const struct cpx_reg_cond *cond,
		    struct cpx_err *err);
	int (*remove)(void *be, const char *name, uint64_t version, struct cpx_err *err);
	int (*list)(void *be, char ***names, struct cpx_err *err);
	int (*each)(void *be, cpx_reg_each fn, void *ctx, struct cpx_err *err); /* or NULL */
	int (*node)(void *be, const char *name, struct cpx_reg_node *out, struct cpx_err *err);
	void (*fence)(void *be, const char *node, int64_t lease);
	/* What a job runs; NULL: not kept here. */
	int (*spec)(void *be, const char *name, char **out, struct cpx_err *err);
	/* This node's past, or both NULL; all zero where there is none. */
	int (*past_get)(void *be, struct cpx_reg_past *out, struct cpx_err *err);
	/* Let @fn change it, alone; it returns whether it did. */
	int (*past_change)(void *be, bool (*fn)(struct cpx_reg_past *past, void *ctx),
			   void *ctx, struct cpx_err *err);
	void (*close)(void *be);
};

/*
 * cpx_registry_open()
 * @where: a directory: the embedded one (made 0700 if it is not there); or etcd://… or
 * etcds://… (etcd_msg.h).
 * @key_file: the cluster key; NULL for the embedded one.
 */
int cpx_registry_open(const char *where, const char *key_file, struct cpx_registry **out,
		      struct cpx_err *err);
void cpx_registry_close(struct cpx_registry *r);

/*
 * What a node has been told about its registry: DIR/node.json of its state directory, written
 * by chpoxd and read by keepers. Without the file: embedded, in DIR/registry.
 */
struct cpx_reg_conf {
	char registry[1024];	     /* for cpx_registry_open() */
	char node[CPX_JOB_NAME_MAX]; /* "": embedded */
	char key_file[512];
	int64_t ttl_ns, guard_ns;
};
int cpx_registry_conf_load(const char *dir, struct cpx_reg_conf *out, struct cpx_err *err);
int cpx_registry_conf_save(const char *dir, const struct cpx_reg_conf *c, struct cpx_err *err);
int cpx_registry_open_conf(const struct cpx_reg_conf *c, struct cpx_registry **out,
			   struct cpx_err *err);

/*
 * cpx_registry_fence() - from now on nothing is written through this handle but while @node has
 * that @lease: CPX_E_GONE otherwise. Embedded: nothing.
 */
void cpx_registry_fence(struct cpx_registry *r, const char *node, int64_t lease);

/* A node that is there. CPX_E_NOENT: it is not, or nodes do not join this registry. */
int cpx_registry_node(struct cpx_registry *r, const char *name, struct cpx_reg_node *out,
		      struct cpx_err *err);

int cpx_registry_get(struct cpx_registry *r, const char *name, struct cpx_reg_job *out,
		     struct cpx_err *err);

/*
 * cpx_registry_swap() - store @job in place of the record with its version (0: there must be
 * none). On success it has a new, larger version. Return: 0, CPX_E_CONFLICT, CPX_E_EXIST, …
 */
int cpx_registry_swap(struct cpx_registry *r, struct cpx_reg_job *job, struct cpx_err *err);
/*
 * cpx_registry_swap_if() - the same, if @cond holds as well (not with the embedded one).
 * CPX_E_GONE: it does not. The handle's fence is not looked at.
 */
int cpx_registry_swap_if(struct cpx_registry *r, struct cpx_reg_job *job,
			 const struct cpx_reg_cond *cond, struct cpx_err *err);
int cpx_registry_remove(struct cpx_registry *r, const char *name, uint64_t version,
			struct cpx_err *err);

/*
 * cpx_registry_spec() - what the job runs, as it was given with its first record; the caller
 * frees it. CPX_E_NOENT: the job has none, or this registry keeps none.
 */
int cpx_registry_spec(struct cpx_registry *r, const char *name, char **out,
		      struct cpx_err *err);

/* Names of all jobs, sorted. Return: number; free with cpx_registry_names_free(). */
int cpx_registry_list(struct cpx_registry *r, char ***names, struct cpx_err *err);
void cpx_registry_names_free(char **names);
/* All records that can be read, sorted by name. Return: their number. */
int cpx_registry_each(struct cpx_registry *r, cpx_reg_each fn, void *ctx, struct cpx_err *err);

/*
 * cpx_registry_change() - get, let @fn change the copy, swap; again when another was faster.
 * @fn: returns 0 to store, < 0 (with @err set) to give up.
 * @out: the record as stored; may be NULL.
 */
typedef int (*cpx_reg_change)(struct cpx_reg_job *job, void *ctx, struct cpx_err *err);
int cpx_registry_change(struct cpx_registry *r, const char *name, cpx_reg_change fn, void *ctx,
			struct cpx_reg_job *out, struct cpx_err *err);

/*
 * The node's past. cpx_registry_past_seen(): it is up (@boot: its boot id, @boot_ns:
 * CLOCK_BOOTTIME) and jobs run on it; writes every few minutes at most.
 * cpx_registry_past_failed(): it went down, in boot @boot, with a job on it. A back end that
 * keeps none gives nothing known, and takes nothing.
 */
int cpx_registry_past(struct cpx_registry *r, struct cpx_reg_past *out, struct cpx_err *err);
int cpx_registry_past_seen(struct cpx_registry *r, const char *boot, int64_t boot_ns,
			   struct cpx_err *err);
int cpx_registry_past_failed(struct cpx_registry *r, const char *boot, struct cpx_err *err);

/*
 * cpx_registry_commit() - make @gen the head, as the owner at @epoch under @lease (0:
 * embedded), and learn from what it cost. What was written down of failed starts is over. Twice
 * is once.
 * @dead: generations that are kept no longer, to be removed from the store by the caller;
 * room for CPX_REG_GENS. Return: their number, CPX_E_CONFLICT where the epoch has moved on,
 * CPX_E_TIMEOUT where @gen may be the head or not: it must be kept.
 */
int cpx_registry_commit(struct cpx_registry *r, const char *name, uint64_t epoch, int64_t lease,
			const struct cpx_reg_gen *gen, struct cpx_gen_id *dead,
			struct cpx_reg_job *out, struct cpx_err *err);

/*
 * cpx_registry_replace_head() - the head was written anew as @copy (cpx_image_clean()), by the
 * owner at @epoch. Return: 0; CPX_E_CONFLICT where the epoch or the head has moved on,
 * CPX_E_BUSY where somebody reads the head: then the old one stays, and the copy is to be
 * removed.
 */
int cpx_registry_replace_head(struct cpx_registry *r, const char *name, uint64_t epoch,
			      const struct cpx_gen_id *old, const struct cpx_gen_id *copy,
			      struct cpx_reg_job *out, struct cpx_err *err);

/*
 * cpx_registry_pin() - nothing that generation (@epoch, @seq) of @name needs is removed while
 * this process lives, or until cpx_registry_unpin(). 0, 0: the head. Taken before the first
 * byte is read; may be taken several times. @why: a word for people. @out: the generation; may
 * be NULL. Return: 0; CPX_E_NOENT where the record does not name it (any more); CPX_E_BUSY
 * where there are CPX_REG_PINS readers.
 */
int cpx_registry_pin(struct cpx_registry *r, const char *name, uint64_t epoch, uint64_t seq,
		     const char *why, struct cpx_reg_gen *out, struct cpx_err *err);
/* Take one pin of this process back; the generation goes with the next commit or `gc`. */
int cpx_registry_unpin(struct cpx_registry *r, const char *name, const struct cpx_gen_id *gen,
		       struct cpx_err *err);

/*
 * cpx_registry_drop() - take generations that neither retention nor a living pin keeps out of
 * the record. @dead: as in cpx_registry_commit(); may be NULL. Return: their number.
 */
int cpx_registry_drop(struct cpx_registry *r, const char *name, struct cpx_gen_id *dead,
		      struct cpx_reg_job *out, struct cpx_err *err);

/*
 * cpx_registry_fall_back() - the generation with nonce @to becomes the head in place of @head:
 * the newer ones cannot be used. CPX_E_CONFLICT where the head is another one by now.
 */
int cpx_registry_fall_back(struct cpx_registry *r, const char *name, const char *head,
			   const char *to, struct cpx_reg_job *out, struct cpx_err *err);

/* Pure: [A-Za-z0-9._-], not starting with '.' or '-', shorter than CPX_JOB_NAME_MAX. */
bool cpx_job_name_ok(const char *name);
const char *cpx_job_state_name(enum cpx_job_state s);

/*
 * cpx_reg_retain() - take out of @job what neither retention nor a living pin keeps; nothing is
 * stored. @dead: as in cpx_registry_commit(); may be NULL. Return: how many.
 */
int cpx_reg_retain(struct cpx_registry *r, struct cpx_reg_job *job, struct cpx_gen_id *dead);

/* Pure: bounds of `every auto`, the defaults where the record has none. */
struct cpx_interval_bounds cpx_reg_bounds(const struct cpx_reg_job *job);

/* Pure: the record as JSON and back; decoding is total. */
json_t *cpx_reg_encode(const struct cpx_reg_job *job);
int cpx_reg_decode(const json_t *j, struct cpx_reg_job *out, struct cpx_err *err);
json_t *cpx_reg_past_encode(const struct cpx_reg_past *past);
int cpx_reg_past_decode(const json_t *j, struct cpx_reg_past *out, struct cpx_err *err);

#endif
