/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkpoints of the keeper's job.
 *
 * Happy path: asked (by chpoxd or by the clock) -> a child runs the capture and sends what it
 * cost -> head moved in the registry -> answered -> generations that are kept no longer
 * removed.
 *
 * Failures: the child says why, or dies: the job runs on (whatever it injected gives way by
 * itself), the asker is told, the schedule goes on. A head that cannot be moved leaves the
 * generation without a name: it is removed. The job's end ends a checkpoint under way.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "gen.h"
#include "keeper.h"

#define PROGRESS_NS 100000000LL

struct speaker {
	int fd;
	int64_t last_ns;
};

static void say_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct speaker *s = ctx;
	int64_t now = cpx_mono_ns();

	if (now - s->last_ns < PROGRESS_NS)
		return;
	s->last_ns = now;
	cpx_proto_send(s->fd,
		       json_pack("{s:b, s:I, s:I}", "progress", 1, "done", (json_int_t)done,
				 "total", (json_int_t)total),
		       NULL, 0, NULL);
}

static json_t *result_json(const struct cpx_capture_result *res)
{
	uint64_t inherited = res->image.pages_inherited * CPX_PAGE;

	return json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "ok", 1,
			 "full", !res->incremental, "bytes_memory",
			 (json_int_t)(res->image.bytes_memory + inherited), "bytes_stored",
			 (json_int_t)res->image.bytes_stored, "pause_ns",
			 (json_int_t)res->pause_ns, "total_ns", (json_int_t)res->total_ns,
			 "tasks", (json_int_t)res->tasks, "threads", (json_int_t)res->threads,
			 "bytes_packs", (json_int_t)res->image.bytes_packs, "pages_stored",
			 (json_int_t)res->image.pages_stored, "packs",
			 (json_int_t)res->image.packs);
}

/* The child. */
static void capture(struct keeper *k, int fd)
{
	struct speaker speaker = { .fd = fd };
	struct cpx_capture_opts o = {
		.root = k->root,
		.after = k->ckpt.req.after,
		.id = k->ckpt.id,
		.owner_uid = k->job.uid,
		.owner_gid = k->job.gid,
		.progress = say_progress,
		.progress_ctx = &speaker,
		.note = k->job.command,
		.deadline_ns = k->ckpt.req.deadline_ns,
	};
	struct cpx_capture_result res;
	struct cpx_err err = { 0 };
	json_t *answer;
	int r;

	o.track = keeper_track_child(&k->track);
	o.pace = &k->pace;
	r = keeper_tune(k, &o, &err);
	if (r >= 0)
		r = keeper_open_store(k, &o.store, &err);
	if (r >= 0)
		r = cpx_capture_run(&o, &res, &err);
	if (r >= 0)
		keeper_track_give(&k->track);
	answer = r < 0 ? cpx_proto_fail(&err) : result_json(&res);
	if (r >= 0)
		keeper_tune_give(&o, &res, answer);
	cpx_proto_send(fd, answer, NULL, 0, NULL);
}

int keeper_ckpt_fork(struct keeper *k, void (*child)(struct keeper *k, int fd),
		     struct cpx_err *err)
{
	struct keeper_ckpt *c = &k->ckpt;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return cpx_err_sys(err, errno, "cannot make a socket");
	c->pid = fork();
	if (c->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		child(k, pair[1]);
		_exit(0);
	}
	close(pair[1]);
	if (c->pid < 0) {
		int sys = errno;

		c->pid = 0;
		close(pair[0]);
		return cpx_err_sys(err, sys, "cannot fork");
	}
	c->fd = pair[0];
	return 0;
}

static int begin(struct keeper *k, struct cpx_err *err)
{
	struct keeper_ckpt *c = &k->ckpt;
	int r;

	if (cpx_gen_nonce(c->id.nonce, err) < 0)
		return CPX_E_SYS;
	snprintf(c->id.job, sizeof(c->id.job), "%s", k->name);
	c->id.epoch = k->job.epoch;
	c->id.seq = ++k->seq;
	c->cleaning = false;
	keeper_track_prepare(&k->track);
	r = keeper_ckpt_fork(k, capture, err);
	keeper_track_forked(&k->track);
	return r;
}

void keeper_ckpt_next(struct keeper *k)
{
	struct cpx_err err = { 0 };

	while (!k->ckpt.pid && k->nqueue && !k->ended && !keeper_fenced(k)) {
		k->ckpt.req = k->queue[0];
		memmove(k->queue, k->queue + 1, --k->nqueue * sizeof(k->queue[0]));
		if (begin(k, &err) >= 0)
			return;
		keeper_reply(k, k->ckpt.req.id, cpx_proto_fail(&err));
	}
	if (!keeper_fenced(k))
		keeper_clean_next(k);
}

int keeper_ask(struct keeper *k, const struct keeper_request *r, struct cpx_err *err)
{
	if (k->nqueue == KEEPER_QUEUE)
		return cpx_err_set(err, CPX_E_BUSY,
				   "%d checkpoints of job '%s' are waiting; try again later",
				   KEEPER_QUEUE, k->name);
	k->queue[k->nqueue++] = *r;
	keeper_ckpt_next(k);
	return 0;
}

/* What the record names no more, and what crashes left; only below the head. */
void keeper_gc(struct keeper *k)
{
	struct cpx_gen_id kept[CPX_REG_GENS];
	struct cpx_reg_job job;
	struct cpx_store *store;
	struct cpx_err err = { 0 };
	struct cpx_gc gc;
	int r = cpx_registry_get(k->reg, k->name, &job, &err);

	for (uint32_t i = 0; r >= 0 && i < job.ngens; i++)
		kept[i] = job.gens[i].id;
	if (r >= 0)
		r = keeper_open_store(k, &store, &err);
	if (r >= 0) {
		r = cpx_store_gc(store, k->name, kept, job.ngens, false, &gc, &err);
		cpx_store_close(store);
	}
	if (r < 0)
		cpx_log_error("%s: old generations stay: %s", k->name, err.msg);
}

void keeper_discard(struct keeper *k, const struct cpx_gen_id *id, bool packs)
{
	struct cpx_store *store;
	struct cpx_err err = { 0 };
	int r = keeper_open_store(k, &store, &err);

	if (r >= 0) {
		r = cpx_store_discard(store, id, packs, &err);
		cpx_store_close(store);
	}
	if (r < 0)
		cpx_log_error("%s: %s", k->name, err.msg);
}

/* @m: what the child said. */
static json_t *gen_answer(const struct cpx_reg_gen *g, const json_t *m)
{
	json_t *j = json_pack("{s:b, s:I, s:I, s:I, s:I, s:f, s:f}", "ok", 1, "epoch",
			      (json_int_t)g->id.epoch, "generation", (json_int_t)g->id.seq,
			      "bytes_memory", (json_int_t)g->bytes_memory, "bytes_stored",
			      (json_int_t)g->bytes_stored, "pause_ms",
			      (double)g->pause_ns / 1e6, "total_ms", (double)g->total_ns / 1e6);

	json_object_set(j, "way", json_object_get(m, "way"));
	json_object_set(j, "expected_pause_ms", json_object_get(m, "expected_pause_ms"));
	json_object_set(j, "full", json_object_get(m, "full"));
	return j;
}

static uint64_t positive(const json_t *m, const char *key)
{
	int64_t v = cpx_proto_int(m, key, 0);

	return v > 0 ? (uint64_t)v : 0;
}

static int commit(struct keeper *k, const json_t *m, const struct rusage *use,
		  struct cpx_err *err)
{
	struct cpx_reg_gen g = {
		.id = k->ckpt.id,
		.realtime_ns = cpx_clock_ns(CLOCK_REALTIME),
		.bytes_memory = positive(m, "bytes_memory"),
		.bytes_stored = positive(m, "bytes_stored"),
		.pause_ns = (int64_t)positive(m, "pause_ns"),
		.total_ns = (int64_t)positive(m, "total_ns"),
		.tasks = (uint32_t)positive(m, "tasks"),
		.threads = (uint32_t)positive(m, "threads"),
	};
	struct cpx_gen_id dead[CPX_REG_GENS];
	int n;

	keeper_seen(k, g.pause_ns, g.total_ns, positive(m, "pages_stored") * CPX_PAGE,
		    cpx_proto_bool(m, "full"), use, &g.seen);
	n = cpx_registry_commit(k->reg, k->name, k->job.epoch, k->lease, &g, dead, &k->job,
				err);
	/* no answer: it may be the head, so it stays; the next keeper's sweep knows */
	if (n == CPX_E_TIMEOUT)
		return cpx_err_wrap(err, "nobody knows whether the checkpoint counts");
	if (n < 0) {
		/* else the record may name it all the same, or yet */
		if (n == CPX_E_CONFLICT)
			keeper_discard(k, &g.id, true);
		return cpx_err_wrap(err, "the checkpoint is not kept");
	}
	if (k->ckpt.req.after == CPX_AFTER_KILL) {
		k->ended = true;
		k->status = -1;
		keeper_gc(k);
		keeper_finish(k, true);
		keeper_reply(k, k->ckpt.req.id, gen_answer(&g, m));
		exit(0);
	}
	keeper_reply(k, k->ckpt.req.id, gen_answer(&g, m));
	keeper_node_seen(k);
	keeper_gc(k);
	return 0;
}

/* The child has said its last word (@m), or died without one (NULL). */
static void done(struct keeper *k, const json_t *m)
{
	struct keeper_ckpt *c = &k->ckpt;
	struct cpx_err err = { 0 };
	struct rusage use = { 0 };
	int status = 0, r;

	cpx_close(&c->fd);
	cpx_proto_in_free(&c->in);
	keeper_lock();
	wait4(c->pid, &status, 0, &use);
	c->pid = 0;
	keeper_unlock();
	if (c->cleaning) {
		keeper_clean_done(k, m);
		return;
	}
	if (m)
		r = cpx_proto_result(m, &err);
	else
		r = cpx_err_set(&err, CPX_E_SYS,
				"the capturing process was killed by signal %d",
				WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	if (r >= 0)
		r = commit(k, m, &use, &err);
	keeper_track_take(&k->track, r >= 0);
	if (r >= 0) {
		keeper_tune_take(k, m);
		keeper_clean_grown(k, m);
	}
	if (r < 0) {
		cpx_err_wrap(&err, "cannot checkpoint '%s' (pid %d)", k->name, k->root);
		if (c->req.id < 0)
			cpx_log_error("%s", err.msg);
		keeper_reply(k, c->req.id, cpx_proto_fail(&err));
	}
	keeper_schedule(k);
	keeper_ckpt_next(k);
}

void keeper_ckpt_event(struct keeper *k)
{
	struct keeper_ckpt *c = &k->ckpt;
	json_t *m = NULL;
	int r = cpx_proto_feed(&c->in, c->fd, NULL);

	while (r >= 0 && c->pid) {
		r = cpx_proto_next(&c->in, &m, NULL);
		if (r != 1)
			break;
		if (!json_object_get(m, "progress")) {
			done(k, m);
			json_decref(m);
			return;
		}
		if (c->req.id >= 0) {
			json_object_set_new(m, "id", json_integer(c->req.id));
			keeper_tell(k, json_incref(m));
		}
		json_decref(m);
	}
	if (r < 0)
		done(k, NULL);
}

void keeper_ckpt_kill(struct keeper *k)
{
	keeper_lock();
	if (k->ckpt.pid > 0)
		kill(k->ckpt.pid, SIGKILL);
	keeper_unlock();
}

void keeper_ckpt_abort(struct keeper *k)
{
	struct cpx_err err = { 0 };

	cpx_err_set(&err, CPX_E_GONE, "job '%s' has ended", k->name);
	if (k->ckpt.pid) {
		keeper_ckpt_kill(k);
		keeper_lock();
		waitpid(k->ckpt.pid, NULL, 0);
		k->ckpt.pid = 0;
		keeper_unlock();
		cpx_close(&k->ckpt.fd);
		if (!k->ckpt.cleaning)
			keeper_reply(k, k->ckpt.req.id, cpx_proto_fail(&err));
	}
	for (unsigned i = 0; i < k->nqueue; i++)
		keeper_reply(k, k->queue[i].id, cpx_proto_fail(&err));
	k->nqueue = 0;
}
