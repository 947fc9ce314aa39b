/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an etcd may answer, records in it, its URL and the key file, from any bytes: nothing but
 * an error or something within limits.
 */
#include <stdlib.h>
#include <string.h>

#include "../../scheduler/etcd_msg.h"
#include "../../scheduler/node_lease.h"
#include "../../scheduler/registry_seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct cpx_cluster_key key = { { 7 } };

static void check_kvs(const struct cpx_etcd_kvs *k)
{
	for (size_t i = 0; i < k->n; i++) {
		char nonce[CPX_SEAL_NONCE];
		struct cpx_reg_node node;
		const char *body;

		if (strlen(k->kv[i].key) != k->kv[i].key_len ||
		    k->kv[i].value[k->kv[i].value_len])
			abort();
		/* nobody can guess a tag */
		if (cpx_seal_open(&key, k->kv[i].key, k->kv[i].value, k->kv[i].value_len, nonce,
				  &body, NULL) >= 0 ||
		    cpx_node_record_open(&key, &k->kv[i], "n", &node, NULL) >= 0)
			abort();
	}
}

static void try_answer(const json_t *j)
{
	struct cpx_etcd_kvs k;
	struct cpx_etcd_outcome o;
	struct cpx_etcd_events e;
	const char *text = NULL;
	int64_t id = 0;

	if (cpx_etcd_error_code(j, &text) && !text)
		abort();
	if (cpx_etcd_take_range(j, &k, NULL) >= 0) {
		check_kvs(&k);
		cpx_etcd_kvs_free(&k);
	}
	if (cpx_etcd_take_txn(j, &o, NULL) >= 0) {
		for (size_t i = 0; i < o.n; i++)
			check_kvs(&o.got[i]);
		cpx_etcd_outcome_free(&o);
	}
	if (cpx_etcd_take_lease(j, &id, NULL) > 0 && id < 1)
		abort();
	cpx_etcd_take_events(j, &e, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *j = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	char *text = malloc(size + 1), nonce[CPX_SEAL_NONCE];
	struct cpx_cluster_key k;
	struct cpx_etcd_where w;
	const char *body;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	if (j)
		try_answer(j);
	json_decref(j);
	if (cpx_etcd_parse_url(text, &w, NULL) >= 0 &&
	    (!w.n || w.n > CPX_ETCD_ENDPOINTS || w.prefix[0] != '/'))
		abort();
	cpx_key_parse(text, size, &k);
	if (cpx_seal_open(&key, "/c/jobs/a", text, size, nonce, &body, NULL) >= 0)
		abort();
	cpx_etcd_version_good(text);
	free(text);
	return 0;
}
