/* SPDX-License-Identifier: GPL-2.0-or-later */
/* registry_etcd.h - between registry_etcd.c and registry_nodes.c; included by them alone. */
#ifndef CPX_SCHEDULER_REGISTRY_ETCD_H
#define CPX_SCHEDULER_REGISTRY_ETCD_H

#include "etcd_http.h"
#include "registry_back.h"
#include "registry_seal.h"

struct etcd {
	struct cpx_etcd_conn *conn;
	struct cpx_cluster_key key;
	char prefix[128];
	char fence_node[CPX_JOB_NAME_MAX]; /* "": none */
	int64_t fence_lease;
};

/* PREFIX/@kind/@name */
void etcd_path(const struct etcd *e, const char *kind, const char *name,
	       char out[CPX_ETCD_KEY_MAX]);
int etcd_read(struct etcd *e, json_t *req, struct cpx_etcd_kvs *out, struct cpx_err *err);
/* The one key @path. Return: 1, 0: it is not there, or CPX_E_*. */
int etcd_read_key(struct etcd *e, const char *path, struct cpx_etcd_kvs *out,
		  struct cpx_err *err);
/* @nonce: the one of its write. */
int etcd_open_record(const struct etcd *e, const struct cpx_etcd_kv *kv, const char *name,
		     struct cpx_reg_job *out, char nonce[CPX_SEAL_NONCE], struct cpx_err *err);

#endif
