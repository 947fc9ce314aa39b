/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Joining: the node's key read -> absent: a lease granted, key made under it if still absent;
 * ours (same boot, same state directory): its lease renewed; another's: waited for.
 *
 * Renewing: every TTL/5 -> answered with a TTL: deadline moves. No answer: again after a
 * moment, elsewhere. Answered without TTL: the lease is gone, the key with it; joined anew.
 */
#include "node_lease.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "etcd_http.h"
#include "proto.h"

#define RENEWALS 5 /* a TTL */
#define TIMEOUT_NS (CPX_ETCD_TIMEOUT_MS * 1000000LL)
#define JOIN_EXTRA_NS 5000000000LL
#define JOIN_NAP_NS 250000000LL
#define RETRY_NS 200000000LL
#define SEC 1000000000LL
#define SLACK_NS SEC /* for cpx_node_poke() to come first */

struct cpx_node_lease {
	struct cpx_etcd_conn *conn;
	struct cpx_cluster_key key;
	struct cpx_reg_node me;
	char path[CPX_ETCD_KEY_MAX];
	int64_t ttl_ns, guard_ns, slack_ns;
	void (*changed)(void *ctx);
	void *ctx;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t wake;
	bool stop, poked;
	struct cpx_lease_view view;
};

int cpx_lease_check(int64_t ttl_ns, int64_t guard_ns, struct cpx_err *err)
{
	int64_t need;

	if (guard_ns < 0 || guard_ns > 600 * SEC || ttl_ns < 0 || ttl_ns > 3600 * SEC)
		return cpx_err_set(err, CPX_E_INVAL, "a lease is for an hour at most");
	need = (guard_ns + CPX_LEASE_STOP_NS + TIMEOUT_NS + CPX_LEASE_ELECTION_NS) * 3 / 2;
	if (ttl_ns < need)
		return cpx_err_set(err, CPX_E_INVAL,
				   "a lease of %.1f s is too short for a guard of %.1f s; at "
				   "least %.1f s are needed",
				   (double)ttl_ns / 1e9, (double)guard_ns / 1e9,
				   (double)need / 1e9);
	return 0;
}

/* --- the record ---------------------------------------------------------------------- */

char *cpx_node_record_make(const struct cpx_cluster_key *key, const char *path,
			   const struct cpx_reg_node *n)
{
	json_t *j =
		json_pack("{s:i, s:s, s:s, s:s, s:I}", "format", 1, "name", n->name, "boot",
			  n->boot, "place", n->place, "joined_ns", (json_int_t)n->joined_ns);
	CPX_AUTO_FREE char *body = j ? json_dumps(j, JSON_COMPACT) : NULL;
	char nonce[CPX_SEAL_NONCE];

	json_decref(j);
	if (!body || cpx_seal_nonce(nonce) < 0)
		return NULL;
	return cpx_seal_make(key, path, nonce, body);
}

static bool take_text(const json_t *j, const char *name, char *out, size_t size)
{
	const char *s = cpx_proto_str(j, name);

	if (!s || strlen(s) >= size)
		return false;
	strcpy(out, s);
	return true;
}

int cpx_node_record_open(const struct cpx_cluster_key *key, const struct cpx_etcd_kv *kv,
			 const char *name, struct cpx_reg_node *out, struct cpx_err *err)
{
	struct cpx_reg_node n = { .lease = kv->lease };
	char nonce[CPX_SEAL_NONCE];
	const char *body;
	json_t *j;
	bool ok;
	int r = cpx_seal_open(key, kv->key, kv->value, kv->value_len, nonce, &body, err);

	if (r >= 0)
		r = cpx_proto_decode(body, (size_t)r, &j, err);
	if (r < 0)
		return r;
	ok = take_text(j, "name", n.name, sizeof(n.name)) &&
	     take_text(j, "boot", n.boot, sizeof(n.boot)) &&
	     take_text(j, "place", n.place, sizeof(n.place)) &&
	     cpx_proto_int(j, "format", 0) == 1 && !strcmp(n.name, name);
	n.joined_ns = cpx_proto_int(j, "joined_ns", 0);
	json_decref(j);
	if (!ok)
		return cpx_err_set(err, CPX_E_FORMAT, "record of node '%s' makes no sense",
				   name);
	*out = n;
	return 0;
}

/* --- joining ------------------------------------------------------------------------- */

static void set_view(struct cpx_node_lease *l, int64_t lease, int64_t sent_ns, int64_t ttl_s)
{
	/* what etcd gives may be more than was asked for: that is not counted on */
	int64_t ttl = ttl_s * SEC < l->ttl_ns ? ttl_s * SEC : l->ttl_ns;

	pthread_mutex_lock(&l->lock);
	if (!lease && l->view.lease)
		l->view.lost++;
	l->view.lease = lease;
	if (lease) {
		l->view.deadline_ns = sent_ns + ttl - l->guard_ns;
		l->view.sent_ns = sent_ns;
		l->view.renewals++;
	}
	pthread_mutex_unlock(&l->lock);
	if (l->changed)
		l->changed(l->ctx);
}

/* Return: seconds it has still, 0: it is gone, or CPX_E_*. */
static int64_t renew(struct cpx_node_lease *l, int64_t lease, int64_t *sent,
		     struct cpx_err *err)
{
	json_t *answer;
	int64_t r = cpx_etcd_call(l->conn, "/v3/lease/keepalive", cpx_etcd_lease(lease),
				  &answer, sent, err);

	if (r < 0)
		return r;
	r = cpx_etcd_take_lease(answer, NULL, err);
	json_decref(answer);
	return r;
}

/* The node's key, absent so far, under a new lease. Return: 1, 0: another was faster. */
static int make_key(struct cpx_node_lease *l, struct cpx_err *err)
{
	struct cpx_etcd_cmp absent = { l->path, CPX_ETCD_CREATE, 0 };
	struct cpx_etcd_op put = { .kind = CPX_ETCD_PUT, .key = l->path };
	struct cpx_etcd_outcome o;
	CPX_AUTO_FREE char *value = NULL;
	json_t *answer;
	int64_t ttl, sent, lease;
	int r = cpx_etcd_call(l->conn, "/v3/lease/grant",
			      cpx_etcd_grant((l->ttl_ns + SEC - 1) / SEC), &answer, &sent, err);

	if (r < 0)
		return r;
	ttl = cpx_etcd_take_lease(answer, &lease, err);
	json_decref(answer);
	if (ttl <= 0)
		return ttl < 0 ? (int)ttl
			       : cpx_err_set(err, CPX_E_FORMAT, "etcd granted no lease");
	l->me.joined_ns = cpx_clock_ns(CLOCK_REALTIME);
	value = cpx_node_record_make(&l->key, l->path, &l->me);
	if (!value)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	put.value = value;
	put.len = strlen(value);
	put.lease = lease;
	r = cpx_etcd_call(l->conn, "/v3/kv/txn", cpx_etcd_txn(&absent, 1, &put, 1, NULL, 0),
			  &answer, NULL, err);
	if (r < 0)
		return r; /* if it was done we find it, with our name on it */
	r = cpx_etcd_take_txn(answer, &o, err);
	json_decref(answer);
	if (r < 0)
		return r;
	r = o.succeeded;
	cpx_etcd_outcome_free(&o);
	if (r)
		set_view(l, lease, sent, ttl);
	return r;
}

static int look_up(struct cpx_node_lease *l, struct cpx_reg_node *now, struct cpx_err *err)
{
	struct cpx_etcd_kvs kvs;
	json_t *answer;
	int r = cpx_etcd_call(l->conn, "/v3/kv/range",
			      cpx_etcd_range(l->path, strlen(l->path), NULL, 0, 0, false),
			      &answer, NULL, err);

	if (r < 0)
		return r;
	r = cpx_etcd_take_range(answer, &kvs, err);
	json_decref(answer);
	if (r < 0)
		return r;
	if (kvs.n) {
		r = strcmp(kvs.kv[0].key, l->path)
			    ? cpx_err_set(err, CPX_E_FORMAT, "etcd answered another key")
			    : cpx_node_record_open(&l->key, &kvs.kv[0], l->me.name, now, err);
		if (r >= 0)
			r = 1;
	}
	cpx_etcd_kvs_free(&kvs);
	return r;
}

/* Once. Return: 1 joined, 0 not yet, or CPX_E_*. */
static int try_join(struct cpx_node_lease *l, struct cpx_err *err)
{
	struct cpx_reg_node now;
	int64_t ttl, sent;
	int r = look_up(l, &now, err);

	if (r == 0)
		return make_key(l, err);
	if (r < 0)
		return r;
	if (strcmp(now.boot, l->me.boot) || strcmp(now.place, l->me.place))
		return 0;
	if (!now.lease)
		return cpx_err_set(err, CPX_E_FORMAT, "node '%s' is there without a lease",
				   l->me.name);
	ttl = renew(l, now.lease, &sent, err);
	if (ttl > 0)
		set_view(l, now.lease, sent, ttl);
	return ttl < 0 ? (int)ttl : ttl > 0;
}

static int first_join(struct cpx_node_lease *l, struct cpx_err *err)
{
	int64_t end = cpx_boot_ns() + l->ttl_ns + JOIN_EXTRA_NS;
	struct timespec nap = { .tv_nsec = JOIN_NAP_NS };
	int r = try_join(l, err);

	while (r == 0 && cpx_boot_ns() < end) {
		nanosleep(&nap, NULL);
		r = try_join(l, err);
	}
	if (r == 0)
		return cpx_err_set(err, CPX_E_EXIST,
				   "there is a node '%s' already, and it is not this one; give "
				   "one of them another name with --node",
				   l->me.name);
	return r;
}

/* --- the thread ---------------------------------------------------------------------- */

/* Sleep. Return: false when it is time to end. */
static bool rest(struct cpx_node_lease *l, int64_t ns)
{
	struct timespec ts;
	bool go_on;

	ns += cpx_mono_ns();
	ts.tv_sec = ns / SEC;
	ts.tv_nsec = ns % SEC;
	pthread_mutex_lock(&l->lock);
	while (!l->stop && !l->poked && cpx_mono_ns() < ns)
		pthread_cond_timedwait(&l->wake, &l->lock, &ts);
	go_on = !l->stop;
	l->poked = false;
	pthread_mutex_unlock(&l->lock);
	return go_on;
}

static void *renewing(void *arg)
{
	struct cpx_node_lease *l = arg;
	int64_t wait_ns = l->ttl_ns / RENEWALS;
	bool told = false;

	while (rest(l, wait_ns)) {
		struct cpx_err err = { 0 };
		int64_t lease = l->view.lease; /* written by this thread alone */
		int64_t ttl = 0, sent;

		if (lease)
			ttl = renew(l, lease, &sent, &err);
		else
			ttl = try_join(l, &err);
		if (lease && ttl > 0)
			set_view(l, lease, sent, ttl);
		if (lease && ttl == 0) {
			cpx_log_error("node '%s' has lost its lease", l->me.name);
			set_view(l, 0, 0, 0);
		}
		if (ttl < 0 && !told)
			cpx_log_error("cannot renew the lease of node '%s': %s", l->me.name,
				      err.msg);
		if (ttl > 0 && told)
			cpx_log_note("the registry answers again");
		told = ttl < 0;
		wait_ns = ttl > 0 ? l->ttl_ns / RENEWALS + l->slack_ns : RETRY_NS;
	}
	return NULL;
}

/* --- outside ------------------------------------------------------------------------- */

static int who_am_i(struct cpx_node_lease *l, const struct cpx_node_opts *o,
		    struct cpx_err *err)
{
	struct cpx_live self;
	struct stat st;
	int r = cpx_live_of(getpid(), &self, err);

	if (r < 0)
		return r;
	if (stat(o->dir, &st))
		return cpx_err_sys(err, errno, "%s", o->dir);
	strcpy(l->me.boot, self.boot);
	snprintf(l->me.place, sizeof(l->me.place), "%llx.%llx", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	strcpy(l->me.name, o->node);
	return 0;
}

static void check_version(struct cpx_node_lease *l)
{
	json_t *answer;
	const char *v;

	if (cpx_etcd_call(l->conn, "/v3/maintenance/status", json_object(), &answer, NULL,
			  NULL) < 0)
		return;
	v = cpx_proto_str(answer, "version");
	if (v && !cpx_etcd_version_good(v))
		cpx_log_note("etcd %.20s may keep a dead node's lease alive after a stalled "
			     "disk (etcd issue 15247); 3.5.16 or newer is recommended",
			     v);
	json_decref(answer);
}

static void destroy(struct cpx_node_lease *l)
{
	cpx_etcd_close(l->conn);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->wake);
	free(l);
}

static int set_up(struct cpx_node_lease *l, const struct cpx_node_opts *o, struct cpx_err *err)
{
	struct cpx_etcd_where w;
	int64_t budget = o->ttl_ns / RENEWALS / 1000000;
	int r = cpx_lease_check(o->ttl_ns, o->guard_ns, err);

	if (r >= 0)
		r = cpx_etcd_parse_url(o->url, &w, err);
	if (r >= 0)
		r = cpx_key_load(o->key_file, &l->key, err);
	if (r >= 0)
		r = who_am_i(l, o, err);
	if (r < 0)
		return r;
	snprintf(l->path, sizeof(l->path), "%s/nodes/%s", w.prefix, o->node);
	return cpx_etcd_open(&w, CPX_ETCD_TIMEOUT_MS, (int)budget, &l->conn, err);
}

int cpx_node_join(const struct cpx_node_opts *o, struct cpx_node_lease **out,
		  struct cpx_err *err)
{
	struct cpx_node_lease *l;
	pthread_condattr_t attr;
	int r;

	if (!cpx_job_name_ok(o->node))
		return cpx_err_set(err, CPX_E_INVAL, "'%.80s' cannot be the name of a node",
				   o->node);
	l = calloc(1, sizeof(*l));
	if (!l)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	l->ttl_ns = o->ttl_ns;
	l->guard_ns = o->guard_ns;
	l->slack_ns = o->patient ? SLACK_NS : 0;
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->wake, &attr);
	pthread_condattr_destroy(&attr);
	r = set_up(l, o, err);
	if (r >= 0)
		r = first_join(l, err);
	if (o->patient && (r == CPX_E_IO || r == CPX_E_TIMEOUT)) {
		cpx_log_error("node '%s' has not joined yet: %s", o->node, err ? err->msg : "");
		r = 0;
	}
	if (r >= 0) {
		check_version(l);
		l->changed = o->changed;
		l->ctx = o->ctx;
		if (pthread_create(&l->thread, NULL, renewing, l))
			r = cpx_err_set(err, CPX_E_SYS, "cannot start a thread");
	}
	if (r < 0) {
		destroy(l);
		return cpx_err_wrap(err, "node '%s' cannot join", o->node);
	}
	*out = l;
	return 0;
}

void cpx_node_poke(struct cpx_node_lease *l)
{
	pthread_mutex_lock(&l->lock);
	l->poked = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
}

void cpx_node_look(struct cpx_node_lease *l, struct cpx_lease_view *out)
{
	pthread_mutex_lock(&l->lock);
	*out = l->view;
	pthread_mutex_unlock(&l->lock);
}

void cpx_node_leave(struct cpx_node_lease *l, bool revoke)
{
	json_t *answer;

	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	if (revoke && l->view.lease &&
	    cpx_etcd_call(l->conn, "/v3/lease/revoke", cpx_etcd_lease(l->view.lease), &answer,
			  NULL, NULL) >= 0)
		json_decref(answer);
	destroy(l);
}
