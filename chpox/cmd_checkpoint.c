/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checkpoint: one job, or all of them.
 *
 * --all: the jobs that run, most work at risk first (ckpt_order.h), a few under way at once,
 * each with what is left of the deadline. One that fails or is late does not hold up the
 * others; each is told of, and the exit status is 1 where one has no new checkpoint.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../scheduler/proto.h"
#include "base/clock.h"
#include "base/cmd.h"
#include "base/err.h"
#include "base/fd.h"
#include "ckpt_order.h"
#include "ctl.h"
#include "job_client.h"

#define AT_ONCE 4
#define GRACE_NS 3000000000LL /* for an answer, after the deadline */

struct all {
	const struct cpx_args *a;
	int64_t start_ns, deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	struct cpx_ckpt_order *jobs;
	size_t n, next, done, failed;
	struct {
		int sock;
		size_t job;
	} busy[AT_ONCE];
	json_t *report; /* --json; else NULL */
};

static double real(const json_t *j, const char *key)
{
	return json_number_value(json_object_get(j, key));
}

static void show_one(const char *job, const json_t *m)
{
	const char *way = cpx_proto_str(m, "way");
	char mem[16], stored[16];

	printf("%s: generation %lld, %s of memory in %s, pause %.1f ms (%s), %.2f s\n", job,
	       (long long)cpx_proto_int(m, "generation", 0),
	       cpx_human_size((uint64_t)cpx_proto_int(m, "bytes_memory", 0), mem),
	       cpx_human_size((uint64_t)cpx_proto_int(m, "bytes_stored", 0), stored),
	       real(m, "pause_ms"), way ? way : "?", real(m, "total_ms") / 1000);
}

static json_t *make_request(const struct cpx_args *a, const char *job, int64_t deadline_ns,
			    struct cpx_err *err)
{
	const char *after = cpx_arg_given(a, "kill")   ? "kill"
			    : cpx_arg_given(a, "stop") ? "stop"
						       : "run";
	json_t *req =
		json_pack("{s:s, s:s, s:s}", "op", "checkpoint", "job", job, "after", after);

	if (req && cpx_ctl_tuning(a, req, err) < 0) {
		json_decref(req);
		return NULL;
	}
	if (req && deadline_ns > 0)
		json_object_set_new(req, "deadline_ns", json_integer(deadline_ns));
	return req;
}

/* --- all of them --------------------------------------------------------------------- */

/* One is done: @m is its answer, or NULL and @err says why there is none. */
static void tell(struct all *w, const struct cpx_ckpt_order *o, json_t *m,
		 const struct cpx_err *err)
{
	w->done++;
	if (!m)
		w->failed++;
	if (w->report) {
		json_t *r = m ? json_deep_copy(m) : cpx_proto_fail(err);

		json_object_set_new(r, "job", json_string(o->job));
		json_object_set_new(r, "at_risk_s", json_real(o->at_risk_s));
		json_array_append_new(w->report, r);
	} else if (m) {
		show_one(o->job, m);
	} else {
		fprintf(stderr, "chpox_ctl: %s: %s; %.0f s of work are at risk\n", o->job,
			err->msg, o->at_risk_s);
	}
}

static int64_t left_ns(const struct all *w)
{
	return w->deadline_ns ? w->deadline_ns - cpx_mono_ns() : INT64_MAX;
}

/* Ask for the next job's in @slot. One that cannot be asked for is told of. */
static void begin(struct all *w, unsigned slot)
{
	const struct cpx_ckpt_order *o = &w->jobs[w->next];
	int64_t left = left_ns(w);
	struct cpx_err err = { 0 };
	int r, sock = -1;

	w->busy[slot].job = w->next++;
	if (left <= 0)
		r = cpx_err_set(&err, CPX_E_TIMEOUT, "not begun before the deadline");
	else
		r = sock = cpx_client_open(w->a->ctx, &err);
	if (r >= 0)
		r = cpx_proto_send(sock,
				   make_request(w->a, o->job, w->deadline_ns ? left : 0, NULL),
				   NULL, 0, &err);
	if (r < 0) {
		cpx_close(&sock);
		sock = -1;
		tell(w, o, NULL, &err);
	}
	w->busy[slot].sock = sock;
}

/* Something has come from @slot's job. */
static void take(struct all *w, unsigned slot)
{
	const struct cpx_ckpt_order *o = &w->jobs[w->busy[slot].job];
	int fds[CPX_PROTO_FDS], r;
	struct cpx_err err = { 0 };
	json_t *m = NULL;
	size_t nfds;

	r = cpx_proto_recv(w->busy[slot].sock, &m, fds, &nfds, &err);
	for (size_t i = 0; i < nfds; i++)
		close(fds[i]);
	if (r >= 0 && json_object_get(m, "progress")) {
		json_decref(m);
		return;
	}
	if (r == CPX_E_GONE)
		cpx_err_set(&err, r, "chpoxd has gone");
	else if (r >= 0)
		r = cpx_proto_result(m, &err);
	tell(w, o, r < 0 ? NULL : m, &err);
	json_decref(m);
	cpx_close(&w->busy[slot].sock);
}

/* Nobody has answered until well after the deadline. */
static void give_up(struct all *w)
{
	struct cpx_err err = { 0 };

	cpx_err_set(&err, CPX_E_TIMEOUT, "no answer before the deadline");
	for (unsigned i = 0; i < AT_ONCE; i++) {
		if (w->busy[i].sock < 0)
			continue;
		tell(w, &w->jobs[w->busy[i].job], NULL, &err);
		cpx_close(&w->busy[i].sock);
	}
}

static int wait_ms(const struct all *w)
{
	int64_t left = left_ns(w);

	if (!w->deadline_ns)
		return -1;
	left = (left + GRACE_NS) / 1000000;
	return left < 0 ? 0 : left > 3600000 ? 3600000 : (int)left + 1;
}

static void run_all(struct all *w)
{
	for (unsigned i = 0; i < AT_ONCE; i++)
		w->busy[i].sock = -1;
	while (w->done < w->n) {
		struct pollfd p[AT_ONCE];
		unsigned waiting = 0;

		for (unsigned i = 0; i < AT_ONCE; i++) {
			while (w->busy[i].sock < 0 && w->next < w->n)
				begin(w, i);
			p[i] = (struct pollfd){ .fd = w->busy[i].sock, .events = POLLIN };
			waiting += w->busy[i].sock >= 0;
		}
		if (!waiting)
			break;
		if (poll(p, AT_ONCE, wait_ms(w)) < 0 && errno != EINTR)
			break;
		for (unsigned i = 0; i < AT_ONCE; i++)
			if (p[i].fd >= 0 && p[i].revents)
				take(w, i);
		if (w->deadline_ns && left_ns(w) < -GRACE_NS)
			give_up(w);
	}
}

/* The jobs that run, from chpoxd's list; names belong to @list. */
static int pick(struct all *w, const json_t *list, struct cpx_err *err)
{
	double now = (double)cpx_clock_ns(CLOCK_REALTIME) / 1e9;

	w->jobs = calloc(json_array_size(list) + 1, sizeof(*w->jobs));
	if (!w->jobs)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *j = json_array_get(list, i);
		const char *name = cpx_proto_str(j, "job"), *state = cpx_proto_str(j, "state");
		double since = real(j, "checkpoint_time"), started = real(j, "started");

		if (!name || !state || strcmp(state, "RUNNING"))
			continue;
		if (started > since)
			since = started;
		w->jobs[w->n++] = (struct cpx_ckpt_order){
			.job = name,
			.at_risk_s = now > since ? now - since : 0,
			.takes_s = real(j, "total_ms") / 1000,
		};
	}
	return 0;
}

static void announce(const struct all *w, double deadline_s)
{
	for (size_t i = 0; i < w->n && !w->report; i++)
		if (w->jobs[i].late)
			fprintf(stderr,
				"chpox_ctl: %s: the last one took %.0f s, which does not fit "
				"into %.0f s: it comes last\n",
				w->jobs[i].job, w->jobs[i].takes_s, deadline_s);
}

static void sum_up(const struct all *w)
{
	double took = (double)(cpx_mono_ns() - w->start_ns) / 1e9;

	if (w->report) {
		json_dumpf(w->report, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
		printf("\n");
	} else {
		printf("%zu of %zu jobs checkpointed in %.1f s\n", w->n - w->failed, w->n,
		       took);
	}
}

static int checkpoint_all(const struct cpx_args *a, int64_t deadline_ns, struct cpx_err *err)
{
	struct all w = { .a = a, .start_ns = cpx_mono_ns() };
	json_t *answer;
	int r = cpx_client_call(a->ctx, json_pack("{s:s}", "op", "list"), NULL, 0, &answer,
				NULL, err);

	if (r < 0)
		return r;
	if (deadline_ns)
		w.deadline_ns = w.start_ns + deadline_ns;
	if (cpx_arg_given(a, "json"))
		w.report = json_array();
	r = pick(&w, json_object_get(answer, "jobs"), err);
	if (r >= 0) {
		cpx_ckpt_order(w.jobs, w.n, (double)deadline_ns / 1e9);
		announce(&w, (double)deadline_ns / 1e9);
		run_all(&w);
		sum_up(&w);
	}
	if (w.failed)
		r = cpx_err_set(err, CPX_E_SYS, "%zu of %zu jobs have no new checkpoint",
				w.failed, w.n);
	free(w.jobs);
	json_decref(w.report);
	json_decref(answer);
	return r;
}

/* --- the command --------------------------------------------------------------------- */

static int check(const struct cpx_args *a, int64_t *deadline_ns, struct cpx_err *err)
{
	const char *deadline = cpx_arg(a, "deadline");
	json_t *req;

	if (cpx_arg_given(a, "all") == (a->npos == 1))
		return cpx_err_set(err, CPX_E_INVAL, "checkpoint: name a job, or give --all");
	if (cpx_arg_given(a, "kill") && cpx_arg_given(a, "stop"))
		return cpx_err_set(err, CPX_E_INVAL,
				   "checkpoint: either --kill or --stop, not both");
	req = make_request(a, "check", 0, err);
	if (!req)
		return CPX_E_INVAL;
	json_decref(req);
	*deadline_ns = 0;
	return deadline ? cpx_parse_duration(deadline, "deadline", deadline_ns, err) : 0;
}

int cpx_ctl_checkpoint(const struct cpx_args *a, struct cpx_err *err)
{
	int64_t deadline_ns;
	json_t *req, *answer;
	int r = check(a, &deadline_ns, err);

	if (r < 0)
		return r;
	if (a->npos == 0)
		return checkpoint_all(a, deadline_ns, err);
	req = make_request(a, a->pos[0], deadline_ns, NULL);
	if (!req)
		return cpx_err_set(err, CPX_E_INVAL,
				   "that name is no text; letters, digits, '.', '_' and '-' "
				   "make a name");
	r = cpx_client_call(a->ctx, req, NULL, 0, &answer, NULL, err);
	if (r < 0)
		return r;
	if (cpx_arg_given(a, "json"))
		json_dumpf(answer, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
	else
		show_one(a->pos[0], answer);
	if (cpx_arg_given(a, "json"))
		printf("\n");
	json_decref(answer);
	return 0;
}
