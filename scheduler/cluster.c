/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core's shell. Happy path: own number read -> core opened (once keepers of an earlier
 * daemon had time to connect) -> ticks, lists, keepers' words in -> requests, starts, kills
 * out.
 *
 * The registry does not answer: requests come back as failed, the core asks again; nothing here
 * waits. JOIN and RENEW are answered by the lease's own thread (node_lease.h): with what it has
 * sent since they were asked, so a deadline never counts from later than the sending.
 */
#include "cluster.h"

#include <signal.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../chpox/base/cgroup.h"
#include "../chpox/base/clock.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "live.h"

#define TICK_MS 250
#define KEEPERS_NS 1500000000LL	    /* for living keepers to connect: they try each 250 ms */
#define KEEPERS_MAX_NS 5000000000LL /* those that live and are busy: in a commit, restoring */
#define WATCH_SILENT_MS 60000
#define KILL_AGAIN_NS 3000000000LL /* a keeper that was told and has not done it */
#define LEFT_MS 2000

/* --- actions ------------------------------------------------------------------------- */

static void ask_life(struct cpxd_cluster *c, const struct cpx_core_req *q)
{
	c->lives[c->life].id = q->id;
	c->lives[c->life].lease = q->kind == CPX_REQ_RENEW ? q->alive : 0;
	c->lives[c->life].asked = cpx_boot_ns();
	c->life = (c->life + 1) % CLUSTER_LIVES;
	cpx_node_poke(c->d->lease);
}

static void do_request(struct cpxd_cluster *c, const struct cpx_core_req *q)
{
	if (q->kind == CPX_REQ_JOIN || q->kind == CPX_REQ_RENEW)
		ask_life(c, q);
	else if (q->kind == CPX_REQ_LIST)
		cluster_list(c, q->id);
	else
		cluster_ask(c, q);
}

static void not_started(struct cpxd_cluster *c, uint32_t job, uint64_t epoch,
			enum cpx_core_why why, const char *reason)
{
	struct cluster_job *j = c->jobs[job];
	const struct cpx_core_event ev = {
		.kind = CPX_EV_NOT_STARTED, .job = job, .epoch = epoch, .why = why
	};

	snprintf(j->reason, sizeof(j->reason), "%.199s", reason);
	cluster_feed(c, &ev);
}

/* What is granted may be shorter than what this daemon was told: a lease of the one before. */
static int64_t granted(struct cpxd *d, int64_t deadline)
{
	struct cpx_lease_view v = { .deadline_ns = INT64_MAX };

	if (d->lease)
		cpx_node_look(d->lease, &v);
	return deadline < v.deadline_ns ? deadline : v.deadline_ns;
}

static void do_start(struct cpxd_cluster *c, const struct cpx_core_act *a)
{
	struct cluster_job *j = c->jobs[a->job];
	const struct cpxd_launch l = { .mode = "place",
				       .job = j->name,
				       .stdin_fd = -1,
				       .own_epoch = a->epoch,
				       .lease = (int64_t)a->lease,
				       .deadline_ns = granted(c->d, a->deadline) };
	struct cpx_err err = { 0 };
	int r;

	cpx_log_note("%s: is started here, epoch %llu", j->name, (unsigned long long)a->epoch);
	j->reason[0] = 0;
	r = cpxd_make_dirs(c->d, j->name, j->rec.uid, j->rec.gid, &err);
	if (r >= 0)
		r = cpxd_launch(c->d, &l, &err);
	if (r < 0)
		not_started(c, a->job, a->epoch, CPX_WHY_START, err.msg);
}

static void ended(struct cpxd_cluster *c, uint32_t job, uint64_t epoch)
{
	const struct cpx_core_event ev = { .kind = CPX_EV_ENDED, .job = job, .epoch = epoch };

	cluster_feed(c, &ev);
}

/* Its keeper kills it and ends; one that does not is killed, and the job dies with it. */
static void do_kill(struct cpxd_cluster *c, const struct cpx_core_act *a)
{
	struct cluster_job *j = c->jobs[a->job];
	struct cpxd_conn *k = cpxd_keeper_of(c->d, j->name);
	int64_t now = cpx_boot_ns();

	if (!k) {
		ended(c, a->job, a->epoch);
		return;
	}
	if (j->killing != a->epoch) {
		cpx_log_note("%s: its copy of epoch %llu is ended here", j->name,
			     (unsigned long long)a->epoch);
		j->killing = a->epoch;
		j->killed_at = now;
	}
	if (now - j->killed_at > KILL_AGAIN_NS && k->pid > 1)
		kill(k->pid, SIGKILL);
	cpxd_answer(k, json_pack("{s:s, s:I}", "op", "end", "epoch", (json_int_t)a->epoch));
}

static void tell_keeper(struct cpxd_cluster *c, const struct cpx_core_act *a, const char *op)
{
	struct cpxd_conn *k = cpxd_keeper_of(c->d, c->jobs[a->job]->name);

	if (!k) {
		ended(c, a->job, a->epoch);
		return;
	}
	k->lease = (int64_t)a->lease;
	cpxd_answer(k, json_pack("{s:s, s:I, s:I, s:I}", "op", op, "epoch",
				 (json_int_t)a->epoch, "lease", (json_int_t)a->lease,
				 "deadline_ns", (json_int_t)granted(c->d, a->deadline)));
}

static void tell_all(struct cpxd_cluster *c, const struct cpx_core_act *a)
{
	/* one that is closed in here stays in memory until the loop goes on */
	for (struct cpxd_conn *k = c->d->conns, *next; k; k = next) {
		next = k->next;
		if (k->keeper && !k->closing)
			cpxd_tell_lease(k, (int64_t)a->lease, granted(c->d, a->deadline));
	}
	cpx_registry_fence(c->d->reg, c->d->conf.node, (int64_t)a->lease);
}

static void no_hold(struct cpxd_cluster *c, const struct cpx_core_act *a)
{
	const struct cpxd_conn *k = cpxd_keeper_of(c->d, c->jobs[a->job]->name);
	const struct cpx_core_event ev = { .kind = CPX_EV_NOT_HELD,
					   .job = a->job,
					   .epoch = k ? k->epoch : 0,
					   .why = CPX_WHY_NO_STOP };

	cluster_feed(c, &ev);
}

static void act(struct cpxd_cluster *c, const struct cpx_core_act *a)
{
	switch (a->kind) {
	case CPX_ACT_REQUEST:
		do_request(c, &a->req);
		break;
	case CPX_ACT_START:
		do_start(c, a);
		break;
	case CPX_ACT_LEASE:
		tell_all(c, a);
		break;
	case CPX_ACT_ADOPT:
		tell_keeper(c, a, "adopt");
		break;
	case CPX_ACT_UNHOLD:
		tell_keeper(c, a, "unhold");
		break;
	case CPX_ACT_HOLD:
		no_hold(c, a);
		break;
	case CPX_ACT_KILL:
		do_kill(c, a);
		break;
	case CPX_ACT_REPORT:
		if (a->job < c->njobs)
			cpxd_tell_waiters(c->d, c->jobs[a->job]->name);
		break;
	case CPX_ACT_GOSSIP:
	case CPX_ACT_OFFER:
		if (c->d->gossip)
			c->d->gossip(c->d, a);
		break;
	}
}

void cluster_feed(struct cpxd_cluster *c, const struct cpx_core_event *ev)
{
	const struct cpx_core_act *acts;
	struct cpx_core_act *todo;
	uint64_t random = 0;
	int n;

	if (!c || !c->core)
		return;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint64_t)cpx_boot_ns();
	n = cpx_core_step(c->core, ev, cpx_boot_ns(), random, &acts);
	if (n <= 0)
		return;
	/* what is done may make the next step, and with it others */
	todo = malloc((size_t)n * sizeof(*todo));
	if (!todo)
		return; /* as if no request had been answered: all is asked again */
	memcpy(todo, acts, (size_t)n * sizeof(*todo));
	for (int i = 0; i < n; i++)
		act(c, &todo[i]);
	free(todo);
}

/* --- what is known ------------------------------------------------------------------- */

void cluster_feed_record(struct cpxd_cluster *c, uint32_t job)
{
	struct cpx_core_event ev = { .kind = CPX_EV_RECORD, .job = job };
	struct cpx_core_rec rec;

	if (!c->jobs[job]->rec.version)
		return;
	if (!cluster_to_core(c, job, &c->jobs[job]->rec, &rec)) {
		cluster_number(c);
		return;
	}
	ev.rec = &rec;
	cluster_feed(c, &ev);
}

void cluster_learn(struct cpxd_cluster *c, const struct cpx_reg_job *rec)
{
	uint32_t job = cluster_job_number(c, rec->name);

	if (job == UINT32_MAX)
		return;
	if (rec->version > c->jobs[job]->rec.version)
		c->jobs[job]->rec = *rec;
	cluster_feed_record(c, job);
}

void cpxd_cluster_forget(struct cpxd *d, const struct cpx_reg_job *job)
{
	struct cpxd_cluster *c = d->cluster;
	struct cpx_core_event ev = { .kind = CPX_EV_RECORD, .rev = job->version + 1 };

	if (!c)
		return;
	ev.job = cluster_job_number(c, job->name);
	if (ev.job == UINT32_MAX)
		return;
	memset(&c->jobs[ev.job]->rec, 0, sizeof(c->jobs[ev.job]->rec));
	cluster_feed(c, &ev);
}

void cluster_refresh(struct cpxd_cluster *c)
{
	if (c->listing)
		c->list_again = true;
	else if (c->seen_rev) /* before that the core lists by itself */
		cluster_list(c, 0);
}

static void on_changed(uv_async_t *h)
{
	cluster_refresh(h->data);
}

static void hint(void *ctx)
{
	uv_async_send(ctx);
}

/* --- the lease ----------------------------------------------------------------------- */

void cpxd_cluster_lease(struct cpxd *d)
{
	struct cpxd_cluster *c = d->cluster;
	struct cpx_lease_view v;

	if (!c || !d->lease)
		return;
	cpx_node_look(d->lease, &v);
	for (uint32_t i = 0; i < CLUSTER_LIVES; i++) {
		struct cpx_core_event ev = { .kind = CPX_EV_ANSWER, .id = c->lives[i].id };
		uint64_t lease = c->lives[i].lease;

		if (!ev.id)
			continue;
		ev.lease = lease ? lease : (uint64_t)v.lease;
		if (lease && (uint64_t)v.lease != lease)
			ev.result = CPX_ANS_GONE;
		else if (!v.lease || v.sent_ns < c->lives[i].asked)
			continue;
		c->lives[i].id = 0;
		cluster_feed(c, &ev);
	}
}

bool cpxd_cluster_own(struct cpxd *d, struct cpx_reg_job *job, struct cpxd_launch *l,
		      struct cpx_err *err)
{
	int64_t deadline = INT64_MIN;
	uint64_t lease = d->cluster->core ? cpx_core_lease(d->cluster->core, &deadline) : 0;

	deadline = granted(d, deadline);
	if (!lease || cpx_boot_ns() >= deadline) {
		cpx_err_set(err, CPX_E_BUSY,
			    "the registry " CPX_PROTO_RETRY
			    ": this node has no lease; try again");
		return false;
	}
	job->epoch++;
	job->state = CPX_JOB_RUNNING;
	job->has_status = false;
	job->reason[0] = 0;
	memset(&job->placing, 0, sizeof(job->placing));
	memset(&job->keeper, 0, sizeof(job->keeper));
	memset(&job->init, 0, sizeof(job->init));
	strcpy(job->node, d->conf.node);
	job->lease = (int64_t)lease;
	l->own_epoch = job->epoch;
	l->lease = (int64_t)lease;
	l->deadline_ns = deadline;
	return true;
}

/* --- keepers ------------------------------------------------------------------------- */

void cpxd_cluster_up(struct cpxd *d, const char *name, uint64_t epoch, int64_t lease)
{
	struct cpx_core_event ev = { .kind = CPX_EV_STARTED,
				     .epoch = epoch,
				     .lease = (uint64_t)lease };

	if (!d->cluster)
		return;
	ev.job = cluster_job_number(d->cluster, name);
	if (ev.job != UINT32_MAX)
		cluster_feed(d->cluster, &ev);
}

void cpxd_cluster_started(struct cpxd_conn *k, const json_t *m)
{
	struct cpxd_cluster *c = k->d->cluster;
	const char *why = cpx_proto_str(m, "error");
	uint32_t job;

	if (!c || !k->placed)
		return;
	job = cluster_job_number(c, k->job);
	if (job == UINT32_MAX)
		return;
	if (cpx_proto_bool(m, "ok"))
		cpxd_cluster_up(k->d, k->job, k->epoch, k->lease);
	else
		/* damaged generations were passed over by the keeper already */
		not_started(c, job, k->epoch, CPX_WHY_START, why ? why : "");
}

/* A marked job has no cgroup before its first restart: its root, which runs on, is ended. */
static void end_root(const struct cpx_reg_job *r, uint64_t epoch)
{
	CPX_AUTO_FD pidfd = -1;

	if (r->epoch != epoch || !r->marked || r->state != CPX_JOB_RUNNING || r->init.pid ||
	    r->root.pid <= 1)
		return;
	pidfd = (int)syscall(SYS_pidfd_open, r->root.pid, 0);
	if (pidfd >= 0 && cpx_live_check(&r->root))
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

void cpxd_cluster_gone(struct cpxd_conn *k)
{
	struct cpxd_cluster *c = k->d->cluster;
	char group[CPX_CGROUP_NAME];
	uint32_t job = c ? cluster_job_number(c, k->job) : UINT32_MAX;

	if (job == UINT32_MAX)
		return;
	/* it dies with its keeper; what may be left of it is ended before it is started again
	 */
	if (cpx_cgroup_job(k->d->dir, k->job, group, NULL) >= 0)
		cpx_cgroup_kill(group, LEFT_MS, NULL);
	if (!k->leaving)
		end_root(&c->jobs[job]->rec, k->epoch);
	cluster_refresh(c);
	ended(c, job, k->epoch);
}

/* --- life ---------------------------------------------------------------------------- */

static void open_core(struct cpxd_cluster *c)
{
	struct cpx_core_config cfg = CPX_CORE_DEFAULTS;
	struct cpx_err err = { 0 };

	cfg.self = c->self;
	cfg.times.ttl = c->d->conf.ttl_ns;
	cfg.times.guard = c->d->conf.guard_ns;
	if (cpx_core_open(&cfg, &c->core, &err) < 0) {
		cpx_log_error("%s", err.msg);
		return;
	}
	for (const struct cpxd_conn *k = c->d->conns; k; k = k->next)
		if (k->keeper && !k->starting)
			cpxd_cluster_up(c->d, k->job, k->epoch, k->lease);
	for (uint32_t i = 0; i < c->njobs; i++)
		cluster_feed_record(c, i);
}

/* A keeper of this node lives and has not connected: to take it for dead would end its job. */
static bool keepers_missing(const struct cpxd_cluster *c)
{
	for (uint32_t i = 0; i < c->njobs; i++) {
		const struct cpx_reg_job *r = &c->jobs[i]->rec;

		if (r->version && !c->jobs[i]->gone && r->state == CPX_JOB_RUNNING &&
		    !strcmp(r->node, c->d->conf.node) && cpx_live_check(&r->keeper) &&
		    !cpxd_keeper_of(c->d, r->name))
			return true;
	}
	return false;
}

static bool keepers_awaited(const struct cpxd_cluster *c)
{
	int64_t over = cpx_boot_ns() - c->keepers_until;

	return over < 0 || (over < KEEPERS_MAX_NS - KEEPERS_NS && keepers_missing(c));
}

static void on_tick(uv_timer_t *t)
{
	struct cpxd_cluster *c = t->data;
	const struct cpx_core_event ev = { .kind = CPX_EV_TICK };

	if (!c->self)
		cluster_number(c);
	else if (!c->core && !keepers_awaited(c))
		open_core(c);
	cluster_feed(c, &ev);
	cpxd_cluster_lease(c->d);
	if (c->list_again && !c->listing) {
		c->list_again = false;
		cluster_refresh(c);
	}
}

int cpxd_cluster_open(struct cpxd *d, struct cpx_err *err)
{
	struct cpxd_cluster *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	c->d = d;
	r = cpxd_worker_open(&d->loop, &d->conf, &c->worker, err);
	if (r < 0) {
		free(c);
		return r;
	}
	c->changed.data = c->tick.data = c;
	if (uv_async_init(&d->loop, &c->changed, on_changed) ||
	    uv_timer_init(&d->loop, &c->tick) ||
	    uv_timer_start(&c->tick, on_tick, TICK_MS, TICK_MS))
		return cpx_err_set(err, CPX_E_SYS, "cannot start the event loop");
	c->keepers_until = cpx_boot_ns() + KEEPERS_NS;
	r = cpx_registry_watch(d->conf.registry, WATCH_SILENT_MS, hint, &c->changed, &c->watch,
			       err);
	if (r < 0)
		return r;
	d->cluster = c;
	return 0;
}

void cpxd_cluster_close(struct cpxd *d)
{
	struct cpxd_cluster *c = d->cluster;

	if (!c)
		return;
	cpx_registry_unwatch(c->watch);
	cpxd_worker_close(c->worker);
	cpx_core_close(c->core);
	d->cluster = NULL;
}
