/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry in etcd: PREFIX/jobs/NAME, and the nodes of node_lease.c as PREFIX/nodes/NAME.
 *
 * Writing is one transaction: record's modification revision as read (and, for a handle with a
 * fence, the node's key with the node's lease) -> record. A record's version is that revision.
 *
 * No answer: the transaction is sent again, elsewhere; it can be done once, for doing it
 * changes the revision. That it was done although nobody said so is seen by the nonce of the
 * record that is there. Still no answer: CPX_E_TIMEOUT, and nobody knows; the caller has to
 * read again.
 *
 * The answer is a linear read's or a transaction's: never older than what was written before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "node_lease.h"
#include "proto.h"
#include "registry_etcd.h"

#define PAGE 500
#define JOBS_MAX 100000

int cpx_reg_etcd_open(const char *url, const char *key_file, void **be, struct cpx_err *err)
{
	struct cpx_etcd_where w;
	struct etcd *e;
	int r = cpx_etcd_parse_url(url, &w, err);

	if (r < 0)
		return r;
	if (!key_file)
		return cpx_err_set(err, CPX_E_INVAL, "a registry in etcd needs a cluster key");
	e = calloc(1, sizeof(*e));
	if (!e)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	strcpy(e->prefix, w.prefix);
	r = cpx_key_load(key_file, &e->key, err);
	if (r >= 0)
		r = cpx_etcd_open(&w, CPX_ETCD_TIMEOUT_MS, CPX_ETCD_BUDGET_MS, &e->conn, err);
	if (r < 0) {
		free(e);
		return r;
	}
	*be = e;
	return 0;
}

static void etcd_close(void *be)
{
	struct etcd *e = be;

	cpx_etcd_close(e->conn);
	free(e);
}

static void etcd_fence(void *be, const char *node, int64_t lease)
{
	struct etcd *e = be;

	snprintf(e->fence_node, sizeof(e->fence_node), "%s", node);
	e->fence_lease = lease;
}

void etcd_path(const struct etcd *e, const char *kind, const char *name,
	       char out[CPX_ETCD_KEY_MAX])
{
	snprintf(out, CPX_ETCD_KEY_MAX, "%s/%s/%s", e->prefix, kind, name);
}

/* --- reading ------------------------------------------------------------------------- */

int etcd_open_record(const struct etcd *e, const struct cpx_etcd_kv *kv, const char *name,
		     struct cpx_reg_job *out, char nonce[CPX_SEAL_NONCE], struct cpx_err *err)
{
	struct cpx_reg_job job;
	const char *body;
	json_t *j;
	int r = cpx_seal_open(&e->key, kv->key, kv->value, kv->value_len, nonce, &body, err);

	if (r < 0)
		return r;
	r = cpx_proto_decode(body, (size_t)r, &j, err);
	if (r >= 0) {
		r = cpx_reg_decode(j, &job, err);
		json_decref(j);
	}
	if (r >= 0 && strcmp(job.name, name))
		r = cpx_err_set(err, CPX_E_FORMAT, "it is another job's");
	if (r < 0)
		return cpx_err_wrap(err, "record of job '%s'", name);
	job.version = (uint64_t)kv->mod_rev;
	*out = job;
	return 0;
}

int etcd_read(struct etcd *e, json_t *req, struct cpx_etcd_kvs *out, struct cpx_err *err)
{
	json_t *answer;
	int r = cpx_etcd_call(e->conn, "/v3/kv/range", req, &answer, NULL, err);

	if (r < 0)
		return r;
	r = cpx_etcd_take_range(answer, out, err);
	json_decref(answer);
	return r;
}

int etcd_read_key(struct etcd *e, const char *path, struct cpx_etcd_kvs *out,
		  struct cpx_err *err)
{
	int r = etcd_read(e, cpx_etcd_range(path, strlen(path), NULL, 0, 0, false), out, err);

	if (r < 0)
		return r;
	if (out->n <= 1 && (out->n == 0 || !strcmp(out->kv[0].key, path)))
		return (int)out->n;
	cpx_etcd_kvs_free(out);
	return cpx_err_set(err, CPX_E_FORMAT, "etcd answered with another key than %s", path);
}

static int etcd_get(void *be, const char *name, struct cpx_reg_job *out, struct cpx_err *err)
{
	struct etcd *e = be;
	char path[CPX_ETCD_KEY_MAX], nonce[CPX_SEAL_NONCE];
	struct cpx_etcd_kvs kvs;
	int r;

	etcd_path(e, "jobs", name, path);
	r = etcd_read_key(e, path, &kvs, err);
	if (r == 0)
		return cpx_err_set(err, CPX_E_NOENT, "there is no job '%s'", name);
	if (r < 0)
		return r;
	r = etcd_open_record(e, &kvs.kv[0], name, out, nonce, err);
	cpx_etcd_kvs_free(&kvs);
	return r;
}

static int etcd_node(void *be, const char *name, struct cpx_reg_node *out, struct cpx_err *err)
{
	struct etcd *e = be;
	char path[CPX_ETCD_KEY_MAX];
	struct cpx_etcd_kvs kvs;
	int r;

	etcd_path(e, "nodes", name, path);
	r = etcd_read_key(e, path, &kvs, err);
	if (r == 0)
		return cpx_err_set(err, CPX_E_NOENT, "there is no node '%s'", name);
	if (r < 0)
		return r;
	r = cpx_node_record_open(&e->key, &kvs.kv[0], name, out, err);
	cpx_etcd_kvs_free(&kvs);
	return r;
}

/*
 * All below PREFIX/jobs/, page by page, each page as it is when it is read: no page can be
 * compacted away.
 */
static int each_page(struct etcd *e, bool keys_only,
		     int (*fn)(struct etcd *e, const struct cpx_etcd_kv *kv, const char *name,
			       void *ctx, struct cpx_err *err),
		     void *ctx, struct cpx_err *err)
{
	char path[CPX_ETCD_KEY_MAX], end[CPX_ETCD_KEY_MAX], from[CPX_ETCD_KEY_MAX + 1];
	struct cpx_etcd_kvs kvs;
	bool more = true;
	size_t len, skip, n = 0;
	int r = 0;

	etcd_path(e, "jobs", "", path);
	cpx_etcd_prefix_end(path, end);
	skip = len = strlen(path);
	memcpy(from, path, len + 1);
	while (r >= 0 && more) {
		r = etcd_read(e, cpx_etcd_range(from, len, end, PAGE, 0, keys_only), &kvs, err);
		if (r < 0)
			break;
		for (size_t i = 0; r >= 0 && i < kvs.n; i++) {
			const char *key = kvs.kv[i].key;

			/* upwards and within bounds: an etcd that lies must not let us go round
			 */
			if (strncmp(key, path, skip) || strcmp(key, from) < (n ? 1 : 0) ||
			    ++n > JOBS_MAX)
				r = cpx_err_set(err, CPX_E_FORMAT,
						"etcd's list of jobs makes no sense");
			else
				r = fn(e, &kvs.kv[i], key + skip, ctx, err);
			snprintf(from, sizeof(from), "%s", key);
		}
		more = kvs.more;
		len = strlen(from) + 1; /* with the NUL: the next possible key */
		cpx_etcd_kvs_free(&kvs);
	}
	return r;
}

struct names {
	char **v;
	size_t n;
};

static int add_name(struct etcd *e, const struct cpx_etcd_kv *kv, const char *name, void *ctx,
		    struct cpx_err *err)
{
	struct names *s = ctx;
	char **w;

	(void)e;
	(void)kv;
	if (!cpx_job_name_ok(name))
		return 0;
	w = realloc(s->v, (s->n + 2) * sizeof(*w));
	if (!w)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	s->v = w;
	w[s->n] = strdup(name);
	w[s->n + 1] = NULL;
	return w[s->n++] ? 0 : cpx_err_set(err, CPX_E_NOMEM, "out of memory");
}

static int etcd_list(void *be, char ***names, struct cpx_err *err)
{
	struct names s = { .v = calloc(1, sizeof(char *)) };
	int r = s.v ? 0 : cpx_err_set(err, CPX_E_NOMEM, "out of memory");

	if (r >= 0)
		r = each_page(be, true, add_name, &s, err);
	if (r < 0) {
		cpx_proto_strv_free(s.v);
		return r;
	}
	*names = s.v;
	return (int)s.n;
}

struct each {
	cpx_reg_each fn;
	void *ctx;
	int n;
};

static int give(struct etcd *e, const struct cpx_etcd_kv *kv, const char *name, void *ctx,
		struct cpx_err *err)
{
	struct each *each = ctx;
	char nonce[CPX_SEAL_NONCE];
	struct cpx_reg_job job;

	if (!cpx_job_name_ok(name))
		return 0;
	/* one bad record does not hide the others */
	if (etcd_open_record(e, kv, name, &job, nonce, err) < 0) {
		cpx_log_error("%s", err ? err->msg : name);
		return 0;
	}
	each->n++;
	each->fn(&job, each->ctx);
	return 0;
}

static int etcd_each(void *be, cpx_reg_each fn, void *ctx, struct cpx_err *err)
{
	struct each each = { .fn = fn, .ctx = ctx };
	struct cpx_err own;
	int r = each_page(be, false, give, &each, err ? err : &own);

	return r < 0 ? r : each.n;
}

/* --- writing ------------------------------------------------------------------------- */

static int no_lease(const char *node, struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_GONE, "node '%s' has lost its lease: it may not write",
			   node);
}

/* A write under way: its conditions, and what is read where they do not hold. */
struct write {
	const char *name; /* of the job */
	uint64_t version;
	struct cpx_reg_cond cond;
	char path[CPX_ETCD_KEY_MAX], spec[CPX_ETCD_KEY_MAX];
	char alive[CPX_ETCD_KEY_MAX], gone[CPX_ETCD_KEY_MAX];
	struct cpx_etcd_cmp cmp[3];
	size_t ncmp;
};

static void begin_write(const struct etcd *e, const char *name, uint64_t version,
			const struct cpx_reg_cond *cond, struct write *w)
{
	memset(w, 0, sizeof(*w));
	w->name = name;
	w->version = version;
	etcd_path(e, "jobs", name, w->path);
	etcd_path(e, "specs", name, w->spec);
	if (cond) {
		w->cond = *cond;
	} else if (*e->fence_node) {
		w->cond.alive_node = e->fence_node;
		w->cond.alive_lease = e->fence_lease;
	}
	w->cmp[w->ncmp++] =
		(struct cpx_etcd_cmp){ w->path, version ? CPX_ETCD_MOD : CPX_ETCD_CREATE,
				       (int64_t)version };
	if (w->cond.alive_node) {
		etcd_path(e, "nodes", w->cond.alive_node, w->alive);
		w->cmp[w->ncmp++] =
			(struct cpx_etcd_cmp){ w->alive, CPX_ETCD_LEASE, w->cond.alive_lease };
	}
	if (w->cond.gone_node) {
		etcd_path(e, "nodes", w->cond.gone_node, w->gone);
		w->cmp[w->ncmp++] = (struct cpx_etcd_cmp){ w->gone, CPX_ETCD_NOT_LEASE,
							   w->cond.gone_lease };
	}
}

/* Why a write was not done: @o holds the record, and the keys of the nodes in its conditions.
 */
static int refused(const struct write *w, const struct cpx_etcd_outcome *o, struct cpx_err *err)
{
	const struct cpx_etcd_kvs *rec = &o->got[0], *node = &o->got[1];
	uint64_t now = rec->n ? (uint64_t)rec->kv[0].mod_rev : 0;

	if (now != w->version && !now)
		return cpx_err_set(err, CPX_E_NOENT, "there is no job '%s'", w->name);
	if (now != w->version && !w->version)
		return cpx_err_set(err, CPX_E_EXIST, "there is a job '%s' already", w->name);
	if (now != w->version)
		return cpx_err_set(err, CPX_E_CONFLICT, "job '%s' was changed meanwhile",
				   w->name);
	if (w->cond.alive_node && (!node->n || node->kv[0].lease != w->cond.alive_lease))
		return no_lease(w->cond.alive_node, err);
	if (w->cond.gone_node)
		return cpx_err_set(err, CPX_E_GONE, "node '%s' has its lease still",
				   w->cond.gone_node);
	return cpx_err_set(err, CPX_E_FORMAT, "etcd refuses a write and does not say why");
}

/* Return: outcome, @then done or the keys of the conditions read. */
static int transact(struct etcd *e, const struct write *w, const struct cpx_etcd_op *then,
		    size_t nthen, struct cpx_etcd_outcome *o, struct cpx_err *err)
{
	const struct cpx_etcd_op reads[3] = {
		{ .kind = CPX_ETCD_GET, .key = w->path },
		{ .kind = CPX_ETCD_GET, .key = w->ncmp > 1 ? w->cmp[1].key : NULL },
		{ .kind = CPX_ETCD_GET, .key = w->gone },
	};
	json_t *answer;
	int r;

	/* to etcd a key that is not there has lease 0 */
	if (w->cond.alive_node && !w->cond.alive_lease)
		return no_lease(w->cond.alive_node, err);
	r = cpx_etcd_call(e->conn, "/v3/kv/txn",
			  cpx_etcd_txn(w->cmp, w->ncmp, then, nthen, reads, w->ncmp), &answer,
			  NULL, err);
	if (r < 0)
		return r;
	r = cpx_etcd_take_txn(answer, o, err);
	json_decref(answer);
	if (r >= 0 && !o->succeeded && o->n != w->ncmp) {
		cpx_etcd_outcome_free(o);
		r = CPX_E_FORMAT;
	}
	/* it may have been done */
	if (r == CPX_E_FORMAT)
		r = cpx_err_set(err, CPX_E_TIMEOUT, "etcd's answer makes no sense");
	return r;
}

static int seal(struct etcd *e, const char *path, const char *nonce, const char *body,
		struct cpx_etcd_op *put, char **value, struct cpx_err *err)
{
	*value = body ? cpx_seal_make(&e->key, path, nonce, body) : NULL;
	if (!*value)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	*put = (struct cpx_etcd_op){
		.kind = CPX_ETCD_PUT, .key = path, .value = *value, .len = strlen(*value)
	};
	if (put->len > CPX_ETCD_VALUE_MAX)
		return cpx_err_set(err, CPX_E_LIMIT,
				   "arguments and environment are too long for the registry: "
				   "%zu bytes, %u are allowed",
				   put->len, CPX_ETCD_VALUE_MAX);
	return 0;
}

static int etcd_swap(void *be, struct cpx_reg_job *job, const struct cpx_reg_cond *cond,
		     struct cpx_err *err)
{
	struct etcd *e = be;
	char nonce[CPX_SEAL_NONCE], found[CPX_SEAL_NONCE];
	json_t *j = cpx_reg_encode(job);
	CPX_AUTO_FREE char *body = j ? json_dumps(j, JSON_COMPACT) : NULL;
	CPX_AUTO_FREE char *value = NULL;
	CPX_AUTO_FREE char *spec = NULL;
	struct cpx_etcd_op put[2];
	struct cpx_etcd_outcome o;
	struct cpx_reg_job now;
	struct write w;
	bool two = cond && cond->spec;
	int r;

	json_decref(j);
	begin_write(e, job->name, job->version, cond, &w);
	if (cpx_seal_nonce(nonce) < 0)
		return cpx_err_set(err, CPX_E_SYS, "no random numbers");
	r = seal(e, w.path, nonce, body, &put[0], &value, err);
	if (r >= 0 && two)
		r = seal(e, w.spec, nonce, cond->spec, &put[1], &spec, err);
	if (r >= 0)
		r = transact(e, &w, put, two ? 2 : 1, &o, err);
	if (r < 0)
		return r;
	if (o.succeeded)
		job->version = (uint64_t)o.revision;
	else if (o.got[0].n &&
		 etcd_open_record(e, &o.got[0].kv[0], job->name, &now, found, NULL) >= 0 &&
		 !strcmp(found, nonce))
		job->version = now.version; /* an attempt that got no answer */
	else
		r = refused(&w, &o, err);
	cpx_etcd_outcome_free(&o);
	return r;
}

static int etcd_remove(void *be, const char *name, uint64_t version, struct cpx_err *err)
{
	struct write w;
	const struct cpx_etcd_op del[2] = { { .kind = CPX_ETCD_DELETE, .key = w.path },
					    { .kind = CPX_ETCD_DELETE, .key = w.spec } };
	struct cpx_etcd_outcome o;
	int r;

	begin_write(be, name, version, NULL, &w);
	r = transact(be, &w, del, 2, &o, err);
	if (r < 0)
		return r;
	/* not there: perhaps by an attempt of ours that got no answer */
	if (!o.succeeded && o.got[0].n)
		r = refused(&w, &o, err);
	cpx_etcd_outcome_free(&o);
	return r;
}

static int etcd_spec(void *be, const char *name, char **out, struct cpx_err *err)
{
	struct etcd *e = be;
	char path[CPX_ETCD_KEY_MAX], nonce[CPX_SEAL_NONCE];
	struct cpx_etcd_kvs kvs;
	const char *body;
	int r;

	etcd_path(e, "specs", name, path);
	r = etcd_read_key(e, path, &kvs, err);
	if (r == 0)
		return cpx_err_set(err, CPX_E_NOENT, "job '%s' has no specification", name);
	if (r < 0)
		return r;
	r = cpx_seal_open(&e->key, kvs.kv[0].key, kvs.kv[0].value, kvs.kv[0].value_len, nonce,
			  &body, err);
	if (r >= 0) {
		*out = strndup(body, (size_t)r);
		r = *out ? 0 : cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	}
	cpx_etcd_kvs_free(&kvs);
	return r;
}

const struct cpx_reg_ops cpx_reg_etcd_ops = {
	.get = etcd_get,
	.swap = etcd_swap,
	.remove = etcd_remove,
	.list = etcd_list,
	.each = etcd_each,
	.node = etcd_node,
	.fence = etcd_fence,
	.spec = etcd_spec,
	.close = etcd_close,
};
