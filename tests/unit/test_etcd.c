/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is said to etcd and what it answers, its URL, the cluster key and tags: without etcd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../chpox/base/err.h"
#include "../../scheduler/etcd_msg.h"
#include "../../scheduler/node_lease.h"
#include "../../scheduler/registry_seal.h"

static void good_urls_are_understood(void **state)
{
	struct cpx_etcd_where w;

	(void)state;
	assert_int_equal(cpx_etcd_parse_url("etcd://127.0.0.1", &w, NULL), 0);
	assert_int_equal(w.n, 1);
	assert_string_equal(w.endpoint[0], "127.0.0.1:2379");
	assert_string_equal(w.prefix, "/chpox");
	assert_false(w.tls);
	assert_int_equal(cpx_etcd_parse_url("etcds://a,b.c:1,[fe80::1]:77/x/y/?cert=/c&key=/k"
					    "&ca=/a&user=u&password-file=/p",
					    &w, NULL),
			 0);
	assert_int_equal(w.n, 3);
	assert_string_equal(w.endpoint[0], "a:2379");
	assert_string_equal(w.endpoint[1], "b.c:1");
	assert_string_equal(w.endpoint[2], "[fe80::1]:77");
	assert_string_equal(w.prefix, "/x/y");
	assert_true(w.tls);
	assert_string_equal(w.ca, "/a");
	assert_string_equal(w.user, "u");
	assert_int_equal(cpx_etcd_parse_url("etcd://[::1],localhost/", &w, NULL), 0);
	assert_string_equal(w.endpoint[0], "[::1]:2379");
	assert_string_equal(w.prefix, "/chpox");
}

static void bad_urls_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"etcd://",
		"http://127.0.0.1",
		"etcd://127.0.0.1:0",
		"etcd://127.0.0.1:65536",
		"etcd://127.0.0.1:999999",
		"etcd://127.0.0.1,",
		"etcd://,127.0.0.1",
		"etcd://a b",
		"etcd://127.0.0.1/a b",
		"etcd://127.0.0.1?x=y",
		"etcd://127.0.0.1?ca=/a",
		"etcds://127.0.0.1?cert=/a",
		"etcds://127.0.0.1?user=u",
		"etcds://user@127.0.0.1",
		"etcd://1,1,1,1,1,1,1,1,1,1",
		"etcd://[::1",
		"etcd://[::g]",
	};
	/* without a client certificate: another machine */
	static const char *const far[] = {
		"etcd://10.0.0.1",	    "etcds://10.0.0.1?ca=/a",
		"etcd://127.0.0.1,example", "etcd://127.evil.example:2379",
		"etcd://localhost.evil",    "etcd://[::2]",
	};
	struct cpx_etcd_where w;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (cpx_etcd_parse_url(bad[i], &w, NULL) != CPX_E_INVAL)
			fail_msg("'%s' was accepted", bad[i]);
	for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++)
		if (cpx_etcd_parse_url(far[i], &w, NULL) != CPX_E_PERM)
			fail_msg("'%s' was accepted", far[i]);
}

static void a_transaction_is_what_etcd_wants(void **state)
{
	const struct cpx_etcd_cmp cmp[] = { { "/c/jobs/a", CPX_ETCD_MOD, 7 },
					    { "/c/nodes/n", CPX_ETCD_LEASE,
					      1418811970252329478 } };
	const struct cpx_etcd_op put = { CPX_ETCD_PUT, "/c/jobs/a", "v", 1, 0 };
	const struct cpx_etcd_op get = { CPX_ETCD_GET, "/c/jobs/a", NULL, 0, 0 };
	json_t *j = cpx_etcd_txn(cmp, 2, &put, 1, &get, 1);
	json_t *wanted = json_loads(
		"{\"compare\":[{\"key\":\"L2Mvam9icy9h\",\"target\":\"MOD\",\"result\":"
		"\"EQUAL\","
		"\"mod_revision\":\"7\"},{\"key\":\"L2Mvbm9kZXMvbg==\",\"target\":\"LEASE\","
		"\"result\":\"EQUAL\",\"lease\":\"1418811970252329478\"}],"
		"\"success\":[{\"requestPut\":{\"key\":\"L2Mvam9icy9h\",\"value\":\"dg==\"}}],"
		"\"failure\":[{\"requestRange\":{\"key\":\"L2Mvam9icy9h\"}}]}",
		0, NULL);

	(void)state;
	assert_true(json_equal(j, wanted));
	json_decref(j);
	json_decref(wanted);
}

#define H "\"header\":{\"revision\":\"9\"}"

static int take(const char *text, struct cpx_etcd_kvs *out)
{
	json_t *j = json_loads(text, 0, NULL);
	int r;

	assert_non_null(j);
	r = cpx_etcd_take_range(j, out, NULL);
	json_decref(j);
	return r;
}

static void ranges_are_taken_apart(void **state)
{
	struct cpx_etcd_kvs k;

	(void)state;
	assert_int_equal(take("{" H "}", &k), 0);
	assert_int_equal(k.n, 0);
	assert_int_equal(k.revision, 9);
	assert_int_equal(take("{" H ",\"kvs\":[{\"key\":\"YQ==\",\"create_revision\":\"2\","
			      "\"mod_revision\":5,\"value\":\"AGI=\",\"lease\":\"77\"}]}",
			      &k),
			 0);
	assert_string_equal(k.kv[0].key, "a");
	assert_int_equal(k.kv[0].value_len, 2);
	assert_memory_equal(k.kv[0].value, "\0b", 2);
	assert_int_equal(k.kv[0].mod_rev, 5);
	assert_int_equal(k.kv[0].lease, 77);
	cpx_etcd_kvs_free(&k);
}

static void hostile_ranges_are_refused(void **state)
{
#define KV(x) "{" H ",\"kvs\":[{" x "}]}"
#define REV ",\"create_revision\":\"2\",\"mod_revision\":\"2\""
	static const char *const bad[] = {
		"[]",
		"{}",
		"{\"header\":7}",
		"{\"header\":{\"revision\":\"x\"}}",
		"{\"header\":{\"revision\":\"99999999999999999999\"}}",
		"{\"header\":{\"revision\":-1}}",
		"{" H ",\"kvs\":{}}",
		"{" H ",\"kvs\":[7]}",
		"{" H ",\"more\":true}",
		"{" H ",\"more\":\"yes\"}",
		KV("\"value\":\"AA==\"" REV),
		KV("\"key\":7" REV),
		KV("\"key\":\"\"" REV),
		KV("\"key\":\"YQ\"" REV),
		KV("\"key\":\"Y===\"" REV),
		KV("\"key\":\"=YQ=\"" REV),
		KV("\"key\":\"Y!==\"" REV),
		KV("\"key\":\"YQBi\"" REV), /* a NUL within */
		KV("\"key\":\"YQ==\",\"value\":\"*\"" REV),
		KV("\"key\":\"YQ==\",\"mod_revision\":\"2\""),
		KV("\"key\":\"YQ==\",\"create_revision\":\"3\",\"mod_revision\":\"2\""),
		KV("\"key\":\"YQ==\",\"lease\":{}" REV),
	};
	struct cpx_etcd_kvs k;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (take(bad[i], &k) != CPX_E_FORMAT)
			fail_msg("accepted: %s", bad[i]);
}

static int64_t lease(const char *text)
{
	json_t *j = json_loads(text, 0, NULL);
	int64_t r = cpx_etcd_take_lease(j, NULL, NULL);

	json_decref(j);
	return r;
}

static void a_lease_without_ttl_is_gone(void **state)
{
	(void)state;
	assert_int_equal(lease("{\"result\":{" H ",\"ID\":\"77\",\"TTL\":\"5\"}}"), 5);
	assert_int_equal(lease("{\"result\":{" H ",\"ID\":\"77\"}}"), 0);
	assert_int_equal(lease("{" H ",\"ID\":\"77\",\"TTL\":\"15\"}"), 15);
	assert_int_equal(lease("{\"result\":{}}"), CPX_E_FORMAT);
	assert_int_equal(lease("{\"result\":7}"), CPX_E_FORMAT);
	assert_int_equal(lease("{\"ID\":\"77\",\"TTL\":\"-1\"}"), CPX_E_FORMAT);
	assert_int_equal(lease("{\"ID\":\"77\",\"TTL\":\"9999999999\"}"), CPX_E_FORMAT);
}

static int code(const char *text)
{
	const char *message;
	json_t *j = json_loads(text, 0, NULL);
	int r = cpx_etcd_error_code(j, &message);

	json_decref(j);
	return r;
}

static void errors_of_both_versions_are_known(void **state)
{
	(void)state;
	assert_int_equal(code("{\"error\":\"x\",\"message\":\"x\",\"code\":5}"), 5);
	assert_int_equal(code("{\"code\":14,\"message\":\"x\"}"), 14);
	assert_int_equal(code("{\"error\":{\"grpc_code\":14,\"message\":\"x\"}}"), 14);
	assert_int_equal(code("{\"error\":{\"code\":11}}"), 11);
	assert_int_equal(code("{" H "}"), 0);
	assert_int_equal(code("{\"code\":99}"), 0);
	assert_false(cpx_etcd_version_good("3.4.23"));
	assert_false(cpx_etcd_version_good("3.5.15"));
	assert_true(cpx_etcd_version_good("3.5.16"));
	assert_true(cpx_etcd_version_good("3.6.0"));
	assert_false(cpx_etcd_version_good("x"));
}

static int events(const char *text, struct cpx_etcd_events *e)
{
	json_t *j = json_loads(text, 0, NULL);
	int r = cpx_etcd_take_events(j, e, NULL);

	json_decref(j);
	return r;
}

static void a_watch_says_when_it_was_compacted(void **state)
{
	struct cpx_etcd_events e;

	(void)state;
	assert_int_equal(events("{\"result\":{" H ",\"created\":true}}", &e), 0);
	assert_true(e.created);
	assert_int_equal(events("{\"result\":{" H
				",\"canceled\":true,\"compact_revision\":\"25\"}}",
				&e),
			 0);
	assert_true(e.canceled);
	assert_int_equal(e.compacted, 25);
	assert_int_equal(events("{\"result\":{" H ",\"events\":[{},{}]}}", &e), 0);
	assert_int_equal(e.n, 2);
	assert_int_equal(events("{\"result\":{" H ",\"events\":7}}", &e), CPX_E_FORMAT);
	assert_int_equal(events("{}", &e), CPX_E_FORMAT);
}

static const struct cpx_cluster_key key = { { 1, 2, 3 } }, other = { { 1, 2, 4 } };

static void only_what_bears_the_tag_is_believed(void **state)
{
	char nonce[CPX_SEAL_NONCE] = "0123456789abcdef", got[CPX_SEAL_NONCE];
	char *v = cpx_seal_make(&key, "/c/jobs/a", nonce, "{}");
	size_t n = strlen(v);
	const char *body;

	(void)state;
	assert_int_equal(cpx_seal_open(&key, "/c/jobs/a", v, n, got, &body, NULL), 2);
	assert_memory_equal(body, "{}", 2);
	assert_string_equal(got, nonce);
	assert_int_equal(cpx_seal_open(&other, "/c/jobs/a", v, n, got, &body, NULL),
			 CPX_E_CHECKSUM);
	/* in another's place */
	assert_int_equal(cpx_seal_open(&key, "/c/jobs/b", v, n, got, &body, NULL),
			 CPX_E_CHECKSUM);
	for (size_t i = 0; i < n; i++) {
		v[i] ^= 1;
		assert_true(cpx_seal_open(&key, "/c/jobs/a", v, n, got, &body, NULL) < 0);
		v[i] ^= 1;
	}
	for (size_t i = 0; i < n; i++)
		assert_true(cpx_seal_open(&key, "/c/jobs/a", v, i, got, &body, NULL) < 0);
	free(v);
}

static void a_tag_is_hmac_sha256(void **state)
{
	char tag[CPX_TAG_LEN + 1];

	(void)state;
	/* python: hmac.new(bytes([1,2,3]+29*[0]), b"l\0text", "sha256").hexdigest() */
	assert_int_equal(cpx_key_tag(&key, "l", "text", 4, tag), 0);
	assert_string_equal(tag,
			    "8a1097e5df69d958ab120d208c713a2dfa9bb743c1c2db3ce77402431d5319a0");
	assert_true(cpx_key_check(&key, "l", "text", 4, tag));
	assert_false(cpx_key_check(&key, "m", "text", 4, tag));
}

static void a_key_is_made_once_and_read_with_care(void **state)
{
	char dir[] = "/tmp/cpx-key.XXXXXX", path[64], link_path[64];
	struct cpx_cluster_key a, b;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/k", dir);
	snprintf(link_path, sizeof(link_path), "%s/l", dir);
	assert_int_equal(cpx_key_load(path, &a, NULL), CPX_E_NOENT);
	assert_int_equal(cpx_key_make(path, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(cpx_key_load(path, &a, NULL), 0);
	assert_int_equal(cpx_key_make(path, NULL), CPX_E_EXIST);
	assert_int_equal(cpx_key_load(path, &b, NULL), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(symlink(path, link_path), 0);
	assert_true(cpx_key_load(link_path, &b, NULL) < 0);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(cpx_key_load(path, &b, NULL), CPX_E_PERM);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(truncate(path, 60), 0);
	assert_int_equal(cpx_key_load(path, &b, NULL), CPX_E_FORMAT);
	unlink(link_path);
	unlink(path);
	assert_int_equal(rmdir(dir), 0); /* nothing else was left */
}

static void a_lease_that_is_too_short_is_refused(void **state)
{
	const int64_t s = 1000000000;

	(void)state;
	assert_int_equal(cpx_lease_check(CPX_LEASE_TTL_NS, CPX_LEASE_GUARD_NS, NULL), 0);
	assert_int_equal(cpx_lease_check(8 * s, 2 * s, NULL), CPX_E_INVAL);
	assert_int_equal(cpx_lease_check(9 * s, 2 * s, NULL), 0);
	assert_int_equal(cpx_lease_check(-1, 2 * s, NULL), CPX_E_INVAL);
	assert_int_equal(cpx_lease_check(INT64_MAX, 2 * s, NULL), CPX_E_INVAL);
	assert_int_equal(cpx_lease_check(9 * s, INT64_MAX, NULL), CPX_E_INVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_urls_are_understood),
		cmocka_unit_test(bad_urls_are_refused),
		cmocka_unit_test(a_transaction_is_what_etcd_wants),
		cmocka_unit_test(ranges_are_taken_apart),
		cmocka_unit_test(hostile_ranges_are_refused),
		cmocka_unit_test(a_lease_without_ttl_is_gone),
		cmocka_unit_test(errors_of_both_versions_are_known),
		cmocka_unit_test(a_watch_says_when_it_was_compacted),
		cmocka_unit_test(only_what_bears_the_tag_is_believed),
		cmocka_unit_test(a_tag_is_hmac_sha256),
		cmocka_unit_test(a_key_is_made_once_and_read_with_care),
		cmocka_unit_test(a_lease_that_is_too_short_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
