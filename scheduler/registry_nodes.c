/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry_nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "gossip.h"
#include "node_lease.h"
#include "proto.h"
#include "registry_etcd.h"

#define TRIES 100

static struct etcd *etcd_of(struct cpx_registry *r, struct cpx_err *err)
{
	if (r->ops == &cpx_reg_etcd_ops)
		return r->be;
	cpx_err_set(err, CPX_E_UNSUPPORTED,
		    "this node is in no cluster: chpoxd --registry puts it into one");
	return NULL;
}

/* The body of @kv as JSON. */
static int open_json(const struct etcd *e, const struct cpx_etcd_kv *kv, json_t **out,
		     struct cpx_err *err)
{
	char nonce[CPX_SEAL_NONCE];
	const char *body;
	int r = cpx_seal_open(&e->key, kv->key, kv->value, kv->value_len, nonce, &body, err);

	return r < 0 ? r : cpx_proto_decode(body, (size_t)r, out, err);
}

/* Put @body at @path if its revision is @version still. Return: 1 done, 0 changed meanwhile. */
static int put_json(struct etcd *e, const char *path, int64_t version, json_t *j,
		    struct cpx_err *err)
{
	struct cpx_etcd_cmp cmp = { path, version ? CPX_ETCD_MOD : CPX_ETCD_CREATE, version };
	CPX_AUTO_FREE char *body = j ? json_dumps(j, JSON_COMPACT) : NULL;
	CPX_AUTO_FREE char *value = NULL;
	char nonce[CPX_SEAL_NONCE];
	struct cpx_etcd_op put = { .kind = CPX_ETCD_PUT, .key = path };
	struct cpx_etcd_outcome o;
	json_t *answer;
	int r;

	json_decref(j);
	if (body && cpx_seal_nonce(nonce) >= 0)
		value = cpx_seal_make(&e->key, path, nonce, body);
	if (!value)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	put.value = value;
	put.len = strlen(value);
	r = cpx_etcd_call(e->conn, "/v3/kv/txn", cpx_etcd_txn(&cmp, 1, &put, 1, NULL, 0),
			  &answer, NULL, err);
	if (r >= 0) {
		r = cpx_etcd_take_txn(answer, &o, err);
		json_decref(answer);
	}
	if (r < 0)
		return r;
	r = o.succeeded;
	cpx_etcd_outcome_free(&o);
	return r;
}

/* --- nodes --------------------------------------------------------------------------- */

void cpx_registry_nodes_free(struct cpx_reg_nodes *n)
{
	free(n->v);
	memset(n, 0, sizeof(*n));
}

static int read_dir(struct etcd *e, const char *kind, struct cpx_etcd_kvs *out, size_t *skip,
		    struct cpx_err *err)
{
	char path[CPX_ETCD_KEY_MAX], end[CPX_ETCD_KEY_MAX];

	etcd_path(e, kind, "", path);
	cpx_etcd_prefix_end(path, end);
	*skip = strlen(path);
	return etcd_read(e, cpx_etcd_range(path, *skip, end, 0, 0, false), out, err);
}

static const char *name_in(const struct cpx_etcd_kv *kv, size_t skip)
{
	return kv->key_len > skip && cpx_job_name_ok(kv->key + skip) ? kv->key + skip : NULL;
}

static int take_nodes(struct etcd *e, struct cpx_reg_nodes *n, struct cpx_err *err)
{
	struct cpx_etcd_kvs kvs;
	size_t skip;
	int r = read_dir(e, "nodes", &kvs, &skip, err);

	if (r < 0)
		return r;
	n->rev = (uint64_t)kvs.revision;
	n->v = calloc(kvs.n + 1, sizeof(*n->v));
	for (size_t i = 0; n->v && i < kvs.n; i++) {
		const char *name = name_in(&kvs.kv[i], skip);
		struct cpx_err bad = { 0 };

		/* one bad record does not hide the others */
		if (!name)
			continue;
		if (cpx_node_record_open(&e->key, &kvs.kv[i], name, &n->v[n->n], &bad) < 0)
			cpx_log_error("%s", bad.msg);
		else if (n->v[n->n].lease)
			n->n++;
	}
	cpx_etcd_kvs_free(&kvs);
	return n->v ? 0 : cpx_err_set(err, CPX_E_NOMEM, "out of memory");
}

static int take_flags(struct etcd *e, struct cpx_reg_nodes *n, struct cpx_err *err)
{
	struct cpx_etcd_kvs kvs;
	size_t skip;
	int r = read_dir(e, "flags", &kvs, &skip, err);

	for (size_t i = 0; r >= 0 && i < kvs.n; i++) {
		const char *name = name_in(&kvs.kv[i], skip);
		json_t *j;

		if (!name || open_json(e, &kvs.kv[i], &j, NULL) < 0)
			continue;
		for (size_t k = 0; k < n->n; k++)
			if (!strcmp(n->v[k].name, name))
				n->v[k].flags = (uint32_t)cpx_proto_int(j, "flags", 0);
		json_decref(j);
	}
	if (r >= 0)
		cpx_etcd_kvs_free(&kvs);
	return r;
}

static void placer_path(const struct etcd *e, char path[CPX_ETCD_KEY_MAX])
{
	snprintf(path, CPX_ETCD_KEY_MAX, "%s/placer", e->prefix);
}

/* Before the nodes: whose lease it is must be known at that revision or a later one. */
static int take_placer(struct etcd *e, struct cpx_reg_nodes *n, struct cpx_err *err)
{
	char path[CPX_ETCD_KEY_MAX];
	struct cpx_etcd_kvs kvs;
	json_t *j;
	int r;

	placer_path(e, path);
	r = etcd_read_key(e, path, &kvs, err);
	if (r < 0)
		return r;
	n->placer_rev = (uint64_t)kvs.revision;
	if (kvs.n && open_json(e, &kvs.kv[0], &j, NULL) >= 0) {
		n->placer = kvs.kv[0].lease;
		json_decref(j);
	}
	cpx_etcd_kvs_free(&kvs);
	return 0;
}

int cpx_registry_nodes(struct cpx_registry *reg, struct cpx_reg_nodes *out, struct cpx_err *err)
{
	struct cpx_reg_nodes n = { 0 };
	struct etcd *e = etcd_of(reg, err);
	int r = e ? 0 : CPX_E_UNSUPPORTED;

	if (!e)
		return r;
	r = take_placer(e, &n, err);
	if (r >= 0)
		r = take_nodes(e, &n, err);
	if (r >= 0)
		r = take_flags(e, &n, err);
	if (r < 0)
		cpx_registry_nodes_free(&n);
	else
		*out = n;
	return r;
}

int cpx_registry_elect(struct cpx_registry *reg, const char *node, int64_t lease,
		       int64_t *placer, uint64_t *rev, struct cpx_err *err)
{
	char path[CPX_ETCD_KEY_MAX], key[CPX_ETCD_KEY_MAX], nonce[CPX_SEAL_NONCE];
	const struct cpx_etcd_cmp cmp[2] = { { path, CPX_ETCD_CREATE, 0 },
					     { key, CPX_ETCD_LEASE, lease } };
	const struct cpx_etcd_op get = { .kind = CPX_ETCD_GET, .key = path };
	struct cpx_etcd_op put = { .kind = CPX_ETCD_PUT, .key = path, .lease = lease };
	CPX_AUTO_FREE char *value = NULL;
	struct cpx_etcd_outcome o;
	struct etcd *e = etcd_of(reg, err);
	json_t *answer;
	int r = e ? 0 : CPX_E_UNSUPPORTED;

	if (!e)
		return r;
	placer_path(e, path);
	etcd_path(e, "nodes", node, key);
	if (cpx_seal_nonce(nonce) >= 0)
		value = cpx_seal_make(&e->key, path, nonce, "{}");
	if (!value)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	put.value = value;
	put.len = strlen(value);
	r = cpx_etcd_call(e->conn, "/v3/kv/txn", cpx_etcd_txn(cmp, 2, &put, 1, &get, 1),
			  &answer, NULL, err);
	if (r >= 0) {
		r = cpx_etcd_take_txn(answer, &o, err);
		json_decref(answer);
	}
	if (r < 0)
		return r;
	*rev = (uint64_t)o.revision;
	*placer = o.succeeded ? lease : o.n && o.got[0].n ? o.got[0].kv[0].lease : 0;
	cpx_etcd_outcome_free(&o);
	return 0;
}

int cpx_registry_flags(struct cpx_registry *reg, const char *node, uint32_t set, uint32_t clear,
		       struct cpx_err *err)
{
	char path[CPX_ETCD_KEY_MAX];
	struct etcd *e = etcd_of(reg, err);
	int r = e ? 0 : CPX_E_UNSUPPORTED;

	if (!e)
		return r;
	if (!cpx_job_name_ok(node))
		r = cpx_err_set(err, CPX_E_INVAL, "'%.80s' cannot be the name of a node", node);
	if (r >= 0)
		etcd_path(e, "flags", node, path);
	for (int i = 0, done = 0; r >= 0 && !done && i < TRIES; i++) {
		struct cpx_etcd_kvs kvs;
		int64_t version = 0, flags = 0;
		json_t *j;

		r = etcd_read_key(e, path, &kvs, err);
		if (r < 0)
			return r;
		if (r == 1) {
			version = kvs.kv[0].mod_rev;
			r = open_json(e, &kvs.kv[0], &j, err);
			if (r >= 0) {
				flags = cpx_proto_int(j, "flags", 0);
				json_decref(j);
			}
		}
		cpx_etcd_kvs_free(&kvs);
		flags = (flags | set) & ~(int64_t)clear;
		if (r >= 0)
			r = done = put_json(e, path, version,
					    json_pack("{s:I}", "flags", flags), err);
	}
	return r < 0 ? r : 0;
}

/* --- numbers ------------------------------------------------------------------------- */

static int has_name(char *const *names, const char *name)
{
	int i = 0;

	while (names && names[i] && strcmp(names[i], name))
		i++;
	return names && names[i] != NULL;
}

/* Return: how many. */
static int read_numbers(struct etcd *e, const char *path, char ***names, int64_t *version,
			struct cpx_err *err)
{
	struct cpx_etcd_kvs kvs;
	json_t *j = NULL;
	int r = etcd_read_key(e, path, &kvs, err), n;

	*names = NULL;
	*version = 0;
	if (r < 0)
		return r;
	if (r == 1) {
		*version = kvs.kv[0].mod_rev;
		r = open_json(e, &kvs.kv[0], &j, err);
	}
	cpx_etcd_kvs_free(&kvs);
	if (r < 0)
		return r;
	*names = j ? cpx_proto_unstrv(json_object_get(j, "names"), CPX_NODES_MAX)
		   : calloc(1, sizeof(char *));
	json_decref(j);
	if (!*names)
		return cpx_err_set(err, CPX_E_FORMAT, "the list of nodes makes no sense");
	for (n = 0; (*names)[n]; n++)
		if (!cpx_job_name_ok((*names)[n]))
			r = CPX_E_FORMAT;
	if (r >= 0)
		return n;
	cpx_registry_names_free(*names);
	*names = NULL;
	return cpx_err_set(err, CPX_E_FORMAT, "the list of nodes makes no sense");
}

int cpx_registry_numbers(struct cpx_registry *reg, const char *add, char ***out,
			 struct cpx_err *err)
{
	char path[CPX_ETCD_KEY_MAX];
	struct etcd *e = etcd_of(reg, err);
	int r = e ? 0 : CPX_E_UNSUPPORTED;

	if (!e)
		return r;
	snprintf(path, sizeof(path), "%s/numbers", e->prefix);
	for (int i = 0; i < TRIES; i++) {
		char **names;
		int64_t version;
		json_t *list;
		int n = read_numbers(e, path, &names, &version, err);

		if (n < 0)
			return n;
		if (!add || has_name(names, add)) {
			*out = names;
			return n;
		}
		list = cpx_proto_strv(names);
		cpx_registry_names_free(names);
		if (n >= CPX_NODES_MAX) {
			json_decref(list);
			return cpx_err_set(err, CPX_E_LIMIT, "there are %d nodes already", n);
		}
		json_array_append_new(list, json_string(add));
		r = put_json(e, path, version, json_pack("{s:o}", "names", list), err);
		if (r < 0)
			return r;
	}
	return cpx_err_set(err, CPX_E_BUSY, "too many nodes join at once; try again");
}

/* --- jobs ---------------------------------------------------------------------------- */

int cpx_registry_since(struct cpx_registry *reg, uint64_t after, cpx_reg_each fn, void *ctx,
		       uint64_t *rev, struct cpx_err *err)
{
	char path[CPX_ETCD_KEY_MAX], end[CPX_ETCD_KEY_MAX], nonce[CPX_SEAL_NONCE];
	struct cpx_etcd_kvs kvs;
	struct cpx_reg_job job;
	size_t skip;
	struct etcd *e = etcd_of(reg, err);
	int r = e ? 0 : CPX_E_UNSUPPORTED, n = 0;

	if (!e)
		return r;
	etcd_path(e, "jobs", "", path);
	cpx_etcd_prefix_end(path, end);
	skip = strlen(path);
	if (!after) {
		/* the revision first: what is written while pages are read is given or later */
		r = etcd_read(e, cpx_etcd_range(path, skip, NULL, 1, 0, true), &kvs, err);
		if (r < 0)
			return r;
		*rev = (uint64_t)kvs.revision;
		cpx_etcd_kvs_free(&kvs);
		return cpx_registry_each(reg, fn, ctx, err);
	}
	r = etcd_read(e, cpx_etcd_range_since(path, end, (int64_t)after), &kvs, err);
	if (r < 0)
		return r;
	*rev = (uint64_t)kvs.revision;
	for (size_t i = 0; i < kvs.n; i++) {
		const char *name = name_in(&kvs.kv[i], skip);
		struct cpx_err bad = { 0 };

		if (!name)
			continue;
		if (etcd_open_record(e, &kvs.kv[i], name, &job, nonce, &bad) < 0) {
			cpx_log_error("%s", bad.msg);
			continue;
		}
		fn(&job, ctx);
		n++;
	}
	cpx_etcd_kvs_free(&kvs);
	return n;
}
