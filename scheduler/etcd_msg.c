/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "etcd_msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

#define KVS_MAX 100000

static int nonsense(struct cpx_err *err, const char *what)
{
	return cpx_err_set(err, CPX_E_FORMAT, "etcd's answer makes no sense: %s", what);
}

/* --- base64 and numbers -------------------------------------------------------------- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static json_t *b64(const void *p, size_t n)
{
	const unsigned char *u = p;
	CPX_AUTO_FREE char *out = n > CPX_ETCD_VALUE_MAX ? NULL : malloc(4 * (n / 3 + 1) + 1);
	size_t k = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)u[i] << 16;

		v |= i + 1 < n ? (unsigned)u[i + 1] << 8 : 0;
		v |= i + 2 < n ? u[i + 2] : 0;
		out[k++] = digits[v >> 18];
		out[k++] = digits[v >> 12 & 63];
		out[k++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
		out[k++] = i + 2 < n ? digits[v & 63] : '=';
	}
	return json_stringn(out, k);
}

/* @n: how many bytes. Return: malloc'ed, NUL behind; NULL when it is no base64 or too long. */
static char *unb64(const json_t *j, size_t max, size_t *n)
{
	const char *s = json_string_value(j);
	size_t len = json_string_length(j), pad, k = 0;
	CPX_AUTO_FREE char *out = NULL;

	if (!s || len % 4 || len / 4 * 3 > max + 2)
		return NULL;
	pad = len - strspn(s, digits);
	if (pad > 2 || (pad && s[len - 1] != '=') || (pad == 2 && s[len - 2] != '='))
		return NULL;
	out = malloc(len / 4 * 3 + 1);
	if (!out)
		return NULL;
	for (size_t i = 0; i < len; i += 4) {
		unsigned v = 0;

		for (size_t c = i; c < i + 4; c++)
			v = v << 6 |
			    (c < len - pad ? (unsigned)(strchr(digits, s[c]) - digits) : 0);
		out[k++] = (char)(v >> 16);
		out[k++] = (char)(v >> 8);
		out[k++] = (char)v;
	}
	*n = k - pad;
	out[*n] = 0;
	return cpx_steal_ptr(&out);
}

static json_t *num(int64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)v);
	return json_string(text);
}

/* A number >= 0, quoted or not; absent is 0. Clears *@ok when it is none. */
static int64_t take_num(const json_t *j, const char *key, bool *ok)
{
	const json_t *v = json_object_get(j, key);
	const char *s = json_string_value(v);
	int64_t n = 0;

	if (!v)
		return 0;
	if (json_is_integer(v) && json_integer_value(v) >= 0)
		return json_integer_value(v);
	if (!s || !*s || strlen(s) > 19 || strspn(s, "0123456789") != strlen(s)) {
		*ok = false;
		return 0;
	}
	for (; *s; s++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, *s - '0', &n)) {
			*ok = false;
			return 0;
		}
	return n;
}

static bool take_bool(const json_t *j, const char *key, bool *ok)
{
	const json_t *v = json_object_get(j, key);

	if (v && !json_is_boolean(v))
		*ok = false;
	return json_is_true(v);
}

/* --- requests ------------------------------------------------------------------------ */

static void set(json_t *o, const char *key, json_t *v, bool *ok)
{
	if (json_object_set_new(o, key, v))
		*ok = false;
}

static json_t *finish(json_t *o, bool ok)
{
	if (o && ok)
		return o;
	json_decref(o);
	return NULL;
}

static json_t *make_cmp(const struct cpx_etcd_cmp *c)
{
	static const struct {
		const char *target, *field;
	} names[] = { { "CREATE", "create_revision" },
		      { "MOD", "mod_revision" },
		      { "LEASE", "lease" },
		      { "LEASE", "lease" } };
	json_t *o = json_object();
	bool ok = true;

	set(o, "key", b64(c->key, strlen(c->key)), &ok);
	set(o, "target", json_string(names[c->target].target), &ok);
	set(o, "result", json_string(c->target == CPX_ETCD_NOT_LEASE ? "NOT_EQUAL" : "EQUAL"),
	    &ok);
	set(o, names[c->target].field, num(c->value), &ok);
	return finish(o, ok);
}

static json_t *make_op(const struct cpx_etcd_op *op)
{
	static const char *const names[] = { "requestPut", "requestDeleteRange",
					     "requestRange" };
	json_t *o = json_object(), *in = json_object();
	bool ok = true;

	set(in, "key", b64(op->key, strlen(op->key)), &ok);
	if (op->kind == CPX_ETCD_PUT)
		set(in, "value", b64(op->value, op->len), &ok);
	if (op->kind == CPX_ETCD_PUT && op->lease)
		set(in, "lease", num(op->lease), &ok);
	set(o, names[op->kind], in, &ok);
	return finish(o, ok);
}

static json_t *make_ops(const struct cpx_etcd_op *op, size_t n)
{
	json_t *list = json_array();
	bool ok = list != NULL;

	for (size_t i = 0; ok && i < n; i++)
		ok = json_array_append_new(list, make_op(&op[i])) == 0;
	return finish(list, ok);
}

json_t *cpx_etcd_txn(const struct cpx_etcd_cmp *cmp, size_t ncmp,
		     const struct cpx_etcd_op *then, size_t nthen,
		     const struct cpx_etcd_op *otherwise, size_t notherwise)
{
	json_t *o = json_object(), *list = json_array();
	bool ok = list != NULL;

	for (size_t i = 0; ok && i < ncmp; i++)
		ok = json_array_append_new(list, make_cmp(&cmp[i])) == 0;
	set(o, "compare", list, &ok);
	set(o, "success", make_ops(then, nthen), &ok);
	set(o, "failure", make_ops(otherwise, notherwise), &ok);
	return finish(o, ok);
}

json_t *cpx_etcd_range(const char *from, size_t from_len, const char *end, int64_t limit,
		       int64_t revision, bool keys_only)
{
	json_t *o = json_object();
	bool ok = true;

	set(o, "key", b64(from, from_len), &ok);
	if (end)
		set(o, "range_end", b64(end, strlen(end)), &ok);
	if (limit)
		set(o, "limit", num(limit), &ok);
	if (revision)
		set(o, "revision", num(revision), &ok);
	if (keys_only)
		set(o, "keys_only", json_true(), &ok);
	return finish(o, ok);
}

json_t *cpx_etcd_range_since(const char *from, const char *end, int64_t after)
{
	json_t *o = cpx_etcd_range(from, strlen(from), end, 0, 0, false);
	bool ok = true;

	if (o)
		set(o, "min_mod_revision", num(after + 1), &ok);
	return finish(o, ok);
}

json_t *cpx_etcd_watch(const char *from, const char *end, int64_t revision)
{
	json_t *o = json_object(), *in = json_object();
	bool ok = true;

	set(in, "key", b64(from, strlen(from)), &ok);
	set(in, "range_end", b64(end, strlen(end)), &ok);
	set(in, "start_revision", num(revision), &ok);
	set(o, "create_request", in, &ok);
	return finish(o, ok);
}

json_t *cpx_etcd_lease(int64_t id)
{
	json_t *o = json_object();
	bool ok = true;

	set(o, "ID", num(id), &ok);
	return finish(o, ok);
}

json_t *cpx_etcd_grant(int64_t ttl_s)
{
	json_t *o = json_object();
	bool ok = true;

	set(o, "TTL", num(ttl_s), &ok);
	return finish(o, ok);
}

json_t *cpx_etcd_login(const char *user, const char *password)
{
	return json_pack("{s:s, s:s}", "name", user, "password", password);
}

void cpx_etcd_prefix_end(const char *prefix, char out[CPX_ETCD_KEY_MAX])
{
	size_t n = strlen(prefix);

	/* ours are ASCII: the last character can always be one larger */
	snprintf(out, CPX_ETCD_KEY_MAX, "%s", prefix);
	if (n && n < CPX_ETCD_KEY_MAX)
		out[n - 1]++;
}

/* --- answers ------------------------------------------------------------------------- */

int cpx_etcd_error_code(const json_t *a, const char **text)
{
	const json_t *in = json_object_get(a, "error"), *code;
	const char *s;

	if (!json_is_object(in))
		in = a; /* not of a stream */
	code = json_object_get(in, "code");
	if (!code)
		code = json_object_get(in, "grpc_code");
	if (!json_is_integer(code) || json_integer_value(code) < 1 ||
	    json_integer_value(code) > 16)
		return 0;
	s = json_string_value(json_object_get(in, "message"));
	*text = s ? s : "";
	return (int)json_integer_value(code);
}

static int64_t revision_of(const json_t *a, bool *ok)
{
	const json_t *h = json_object_get(a, "header");

	if (!json_is_object(h))
		*ok = false;
	return take_num(h, "revision", ok);
}

static int take_kv(const json_t *j, struct cpx_etcd_kv *out)
{
	struct cpx_etcd_kv kv = { 0 };
	const json_t *value = json_object_get(j, "value");
	bool ok = json_is_object(j);

	kv.create_rev = take_num(j, "create_revision", &ok);
	kv.mod_rev = take_num(j, "mod_revision", &ok);
	kv.lease = take_num(j, "lease", &ok);
	kv.key = unb64(json_object_get(j, "key"), CPX_ETCD_KEY_MAX, &kv.key_len);
	if (value)
		kv.value = unb64(value, CPX_ETCD_VALUE_MAX, &kv.value_len);
	else
		kv.value = calloc(1, 1); /* empty, or keys alone were asked for */
	if (!ok || !kv.key || !kv.value || !kv.key_len || strlen(kv.key) != kv.key_len ||
	    kv.mod_rev < 1 || kv.create_rev < 1 || kv.create_rev > kv.mod_rev) {
		free(kv.key);
		free(kv.value);
		return CPX_E_FORMAT;
	}
	*out = kv;
	return 0;
}

void cpx_etcd_kvs_free(struct cpx_etcd_kvs *k)
{
	for (size_t i = 0; i < k->n; i++) {
		free(k->kv[i].key);
		free(k->kv[i].value);
	}
	free(k->kv);
	memset(k, 0, sizeof(*k));
}

static int take_kvs(const json_t *a, struct cpx_etcd_kvs *out, struct cpx_err *err)
{
	const json_t *list = json_object_get(a, "kvs");
	size_t n = json_array_size(list);
	struct cpx_etcd_kvs k = { 0 };
	bool ok = json_is_object(a);

	k.more = take_bool(a, "more", &ok);
	if ((list && !json_is_array(list)) || n > KVS_MAX)
		ok = false;
	if (ok && n) {
		k.kv = calloc(n, sizeof(*k.kv));
		if (!k.kv)
			return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	}
	while (ok && k.n < n && take_kv(json_array_get(list, k.n), &k.kv[k.n]) == 0)
		k.n++;
	if (!ok || k.n < n || (k.more && !n)) {
		cpx_etcd_kvs_free(&k);
		return nonsense(err, "keys and values");
	}
	*out = k;
	return 0;
}

int cpx_etcd_take_range(const json_t *a, struct cpx_etcd_kvs *out, struct cpx_err *err)
{
	bool ok = true;
	int64_t revision = revision_of(a, &ok);
	int r = ok ? take_kvs(a, out, err) : nonsense(err, "no revision");

	if (r >= 0)
		out->revision = revision;
	return r;
}

void cpx_etcd_outcome_free(struct cpx_etcd_outcome *o)
{
	for (size_t i = 0; i < o->n; i++)
		cpx_etcd_kvs_free(&o->got[i]);
	memset(o, 0, sizeof(*o));
}

int cpx_etcd_take_txn(const json_t *a, struct cpx_etcd_outcome *out, struct cpx_err *err)
{
	const json_t *list = json_object_get(a, "responses");
	struct cpx_etcd_outcome o = { 0 };
	bool ok = true;
	int r = 0;

	o.revision = revision_of(a, &ok);
	o.succeeded = take_bool(a, "succeeded", &ok);
	if (list && !json_is_array(list))
		ok = false;
	for (size_t i = 0; ok && r >= 0 && i < json_array_size(list); i++) {
		const json_t *got = json_object_get(json_array_get(list, i), "response_range");

		if (!got)
			continue;
		if (o.n == CPX_ETCD_RANGES)
			ok = false;
		else
			r = take_kvs(got, &o.got[o.n], err);
		if (ok && r >= 0)
			o.n++;
	}
	if (!ok || r < 0) {
		cpx_etcd_outcome_free(&o);
		return ok ? r : nonsense(err, "a transaction");
	}
	*out = o;
	return 0;
}

int64_t cpx_etcd_take_lease(const json_t *a, int64_t *id, struct cpx_err *err)
{
	const json_t *in = json_object_get(a, "result");
	bool ok = true;
	int64_t ttl, got;

	if (!in)
		in = a;
	ok = json_is_object(in);
	got = take_num(in, "ID", &ok);
	ttl = take_num(in, "TTL", &ok);
	if (!ok || got < 1 || ttl > INT32_MAX)
		return nonsense(err, "a lease");
	if (id)
		*id = got;
	return ttl;
}

int cpx_etcd_take_events(const json_t *a, struct cpx_etcd_events *out, struct cpx_err *err)
{
	const json_t *in = json_object_get(a, "result"), *list = json_object_get(in, "events");
	struct cpx_etcd_events e = { 0 };
	bool ok = json_is_object(in) && (!list || json_is_array(list));

	e.revision = revision_of(in, &ok);
	e.created = take_bool(in, "created", &ok);
	e.canceled = take_bool(in, "canceled", &ok);
	e.compacted = take_num(in, "compact_revision", &ok);
	e.n = json_array_size(list);
	if (!ok)
		return nonsense(err, "what a watch saw");
	*out = e;
	return 0;
}

bool cpx_etcd_version_good(const char *version)
{
	unsigned a, b, c;

	if (sscanf(version, "%u.%u.%u", &a, &b, &c) != 3)
		return false;
	if (a != 3)
		return a > 3;
	return b != 5 ? b > 5 : c >= 16;
}
