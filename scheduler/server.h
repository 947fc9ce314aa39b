/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * server.h - chpoxd inside: one libuv loop, connections of clients and keepers on one socket.
 *
 * A client has one request at a time under way. What a keeper has to answer is passed on with a
 * number; the answer finds its client by it. Nothing that a client or keeper does ends the
 * daemon; what the daemon knows is in the registry, so it may be killed at any moment.
 *
 * Files: main_chpoxd.c start, membership.c the node's lease, server.c connections, jobs.c
 * requests, jobs_view.c how jobs are shown, launch.c keepers.
 */
#ifndef CPX_SCHEDULER_SERVER_H
#define CPX_SCHEDULER_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "node_lease.h"
#include "proto.h"
#include "registry.h"

struct cpxd;
struct cpxd_cluster;
struct cpxd_launch;
struct cpx_core_act;

struct cpxd_conn {
	struct cpxd_conn *next;
	struct cpxd *d;
	int fd;
	uv_poll_t poll;
	struct cpx_proto_in in;
	uint8_t *out; /* not sent yet */
	size_t out_len;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	char job[CPX_JOB_NAME_MAX]; /* keeper: its job; client: the one it waits for */
	bool keeper;
	bool starting;		    /* keeper: it has not said yet how its start went */
	int64_t pending;	    /* client: number of its request at a keeper, 0: none .. */
	const struct cpxd_conn *at; /* .. and that keeper */
	bool waits;		    /* client: for the job's end */
	bool remove_job;	    /* client: if its request fails the new job is removed */
	bool closing;
	uint64_t epoch;			  /* keeper in a cluster: of its copy of the job .. */
	int64_t lease;			  /* .. and the lease under which it is ours */
	bool leaving;			  /* it was told to let its job go */
	bool placed;			  /* keeper: started because the core said so */
	struct cpx_gen_id pinned;	  /* client: while it is connected; job "": none */
	char importing[CPX_JOB_NAME_MAX]; /* client: a job that is not whole yet; "": none */
};

struct cpxd {
	uv_loop_t loop;
	uv_poll_t listen;
	uv_signal_t sigchld, sigterm, sigint;
	uv_timer_t adopt;
	int listen_fd;
	const char *dir;
	char keeper_path[4096];
	struct cpx_registry *reg;
	struct cpx_reg_conf conf;
	struct cpx_node_lease *lease; /* NULL: embedded registry */
	uv_async_t renewed;
	struct cpxd_conn *conns;
	int64_t last_id;
	struct cpxd_cluster *cluster; /* NULL: embedded registry */
	/* GOSSIP and OFFER of the core; NULL: dropped */
	void (*gossip)(struct cpxd *d, const struct cpx_core_act *a);
};

/* server.c */
int cpxd_listen(struct cpxd *d, struct cpx_err *err);
/* Serve @fd; owned. NULL: out of memory (@fd is closed then). */
struct cpxd_conn *cpxd_conn_add(struct cpxd *d, int fd);
void cpxd_answer(struct cpxd_conn *c, json_t *msg); /* @msg is freed */
void cpxd_answer_fd(struct cpxd_conn *c, json_t *msg, const int *fds, size_t n);
void cpxd_fail(struct cpxd_conn *c, const struct cpx_err *err);
void cpxd_close(struct cpxd_conn *c);
struct cpxd_conn *cpxd_keeper_of(struct cpxd *d, const char *job);
void cpxd_each_waiter(struct cpxd *d, const char *job, void (*fn)(struct cpxd_conn *c));

/* jobs.c: a client's request; a keeper's word; a keeper's connection has ended. */
void cpxd_request(struct cpxd_conn *c, const json_t *m);
void cpxd_keeper_says(struct cpxd_conn *c, json_t *m);
void cpxd_keeper_gone(struct cpxd_conn *c);
/* The job may have ended: who waits for that is told. */
void cpxd_tell_waiters(struct cpxd *d, const char *job);

/* jobs.c, for jobs_image.c: the job that @m names, if the client may know of it. */
int cpxd_find_job(struct cpxd_conn *c, const json_t *m, struct cpx_reg_job *job,
		  struct cpx_err *err);
/* The same, also where it is another node's. */
int cpxd_find_any(struct cpxd_conn *c, const json_t *m, struct cpx_reg_job *job,
		  struct cpx_err *err);
int cpxd_not_running(const struct cpx_reg_job *job, struct cpx_err *err);
struct cpxd_conn *cpxd_working_keeper(struct cpxd *d, const struct cpx_reg_job *job);
/* Pass @req on; the keeper's answer goes to @c. */
void cpxd_ask_keeper(struct cpxd_conn *c, struct cpxd_conn *k, json_t *req);
/* Reserve the name that @m has, or the first free one made from @from. */
int cpxd_reserve(struct cpxd *d, const json_t *m, const char *from,
		 const struct cpx_reg_cond *cond, struct cpx_reg_job *job, struct cpx_err *err);
/* Forget a job that never was. */
void cpxd_unmake(struct cpxd *d, struct cpx_reg_job *job);

/* jobs_image.c */
int cpxd_op_fall_back(struct cpxd_conn *c, const json_t *m, struct cpx_err *err);
int cpxd_op_gc(struct cpxd_conn *c, const json_t *m, struct cpx_err *err);
int cpxd_op_pin(struct cpxd_conn *c, const json_t *m, struct cpx_err *err);
int cpxd_op_import(struct cpxd_conn *c, const json_t *m, struct cpx_err *err);
int cpxd_op_imported(struct cpxd_conn *c, const json_t *m, struct cpx_err *err);
/* Its connection has ended: what it held goes. */
void cpxd_client_left(struct cpxd_conn *c);

/* membership.c: the node's lease, when the registry is etcd's. */
int cpxd_join(struct cpxd *d, struct cpx_err *err);
void cpxd_leave(struct cpxd *d);
/* Tell a keeper until when its job may run. */
void cpxd_tell_lease(struct cpxd_conn *keeper, int64_t lease, int64_t deadline_ns);

/*
 * cluster.c: the core, where nodes join their registry; each does nothing elsewhere.
 * cpxd_cluster_own(): @job, before it is stored, becomes this node's at the next epoch, and @l
 * says so to its keeper. Return: false, with @err set: it may not be now.
 */
int cpxd_cluster_open(struct cpxd *d, struct cpx_err *err);
void cpxd_cluster_close(struct cpxd *d);
void cpxd_cluster_lease(struct cpxd *d); /* it has been renewed, or lost */
bool cpxd_cluster_own(struct cpxd *d, struct cpx_reg_job *job, struct cpxd_launch *l,
		      struct cpx_err *err);
/* A copy runs, or is about to by a user's wish. */
void cpxd_cluster_up(struct cpxd *d, const char *name, uint64_t epoch, int64_t lease);
/* A keeper's answer to its start; its connection has ended; the job's record was removed. */
void cpxd_cluster_started(struct cpxd_conn *k, const json_t *m);
void cpxd_cluster_gone(struct cpxd_conn *k);
void cpxd_cluster_forget(struct cpxd *d, const struct cpx_reg_job *job);

/* launch.c */
struct cpxd_launch {
	const char *mode; /* run, mark, restart, recover, adopt, place */
	const char *job;
	int64_t request; /* to be answered, 0: none */
	uint64_t epoch, seq;
	bool force;
	int stdin_fd; /* -1: none */
	/* in a cluster: the record is ours already, at this epoch; 0: not */
	uint64_t own_epoch;
	int64_t lease, deadline_ns;
};
int cpxd_launch(struct cpxd *d, const struct cpxd_launch *l, struct cpx_err *err);
/* Adopt the jobs whose keeper has died and whose processes live. < 0: the registry did not
 * answer.
 */
int cpxd_adopt_all(struct cpxd *d);

/* jobs_files.c: what a job has on disk besides images. */
int cpxd_make_dirs(struct cpxd *d, const char *job, uid_t uid, gid_t gid, struct cpx_err *err);
/* What the client @c wants to be run, malloc'ed. */
char *cpxd_spec(const struct cpxd_conn *c, const json_t *m);
int cpxd_write_spec(struct cpxd *d, const char *job, const char *spec, struct cpx_err *err);
void cpxd_remove_files(struct cpxd *d, const struct cpx_reg_job *job);
/* Open a file in the job's out/ for reading, as its owner. Return: descriptor or CPX_E_*. */
int cpxd_open_out(struct cpxd *d, const struct cpx_reg_job *job, const char *name,
		  struct cpx_err *err);

/* jobs_view.c */
json_t *cpxd_view(const struct cpxd *d, const struct cpx_reg_job *job,
		  const struct cpx_failures *node);
json_t *cpxd_view_gens(const struct cpx_reg_job *job);
/* Is the job another node's? What this node sees of its processes then means nothing. */
bool cpxd_elsewhere(const struct cpxd *d, const struct cpx_reg_job *job);
/* One of this node, RUNNING, and neither its keeper nor its processes are there. */
bool cpxd_lost(const struct cpx_reg_job *job);

#endif
