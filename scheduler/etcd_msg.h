/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * etcd_msg.h - etcd's JSON gateway: requests made, answers taken apart. Pure.
 *
 * The gateway writes 64-bit numbers as quoted strings, leaves out what is zero or false, and
 * puts keys and values into base64. Answers are hostile until decoded: each decoder checks
 * everything, has a limit for every length, and writes its output on success alone.
 *
 * Makers of requests return a new reference, or NULL when memory is out.
 */
#ifndef CPX_SCHEDULER_ETCD_MSG_H
#define CPX_SCHEDULER_ETCD_MSG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpx_err;

#define CPX_ETCD_KEY_MAX 512
#define CPX_ETCD_VALUE_MAX (1u << 20)
#define CPX_ETCD_ANSWER_MAX (16u << 20) /* bytes of one answer */
#define CPX_ETCD_RANGES 4		/* answers of one transaction */
#define CPX_ETCD_ENDPOINTS 9

/* --- where --------------------------------------------------------------------------- */

/*
 * etcd://HOST[:PORT],HOST[:PORT]/PREFIX?OPTION=VALUE&OPTION=VALUE; etcds:// for TLS. Options:
 * ca, cert, key (files), user, password-file. IPv6 addresses in brackets.
 */
struct cpx_etcd_where {
	bool tls;
	size_t n;
	char endpoint[CPX_ETCD_ENDPOINTS][272]; /* HOST:PORT */
	char prefix[128];			/* "/chpox": no '/' at its end */
	char ca[256], cert[256], key[256], user[64], password_file[256];
};

/* Without a client certificate all endpoints must be this machine's own. */
int cpx_etcd_parse_url(const char *url, struct cpx_etcd_where *out, struct cpx_err *err);
bool cpx_etcd_is_url(const char *s);

/* --- requests ------------------------------------------------------------------------ */

enum cpx_etcd_target { CPX_ETCD_CREATE, CPX_ETCD_MOD, CPX_ETCD_LEASE, CPX_ETCD_NOT_LEASE };

/* The condition that a key's create revision, modification revision or lease is @value; or that
 * its lease is not.
 */
struct cpx_etcd_cmp {
	const char *key;
	enum cpx_etcd_target target;
	int64_t value; /* revision 0: there is no such key */
};

enum cpx_etcd_opkind { CPX_ETCD_PUT, CPX_ETCD_DELETE, CPX_ETCD_GET };

struct cpx_etcd_op {
	enum cpx_etcd_opkind kind;
	const char *key;
	const void *value; /* PUT */
	size_t len;
	int64_t lease; /* PUT; 0: none */
};

json_t *cpx_etcd_txn(const struct cpx_etcd_cmp *cmp, size_t ncmp,
		     const struct cpx_etcd_op *then, size_t nthen,
		     const struct cpx_etcd_op *otherwise, size_t notherwise);
/*
 * Keys from @from on (below @end; NULL: that key alone), @limit at most; at @revision (0: now).
 */
json_t *cpx_etcd_range(const char *from, size_t from_len, const char *end, int64_t limit,
		       int64_t revision, bool keys_only);
/* The same, all of them, but only what was changed after revision @after. */
json_t *cpx_etcd_range_since(const char *from, const char *end, int64_t after);
json_t *cpx_etcd_watch(const char *from, const char *end, int64_t revision);
json_t *cpx_etcd_lease(int64_t id); /* for keepalive and revoke */
json_t *cpx_etcd_grant(int64_t ttl_s);
json_t *cpx_etcd_login(const char *user, const char *password);

/* The end of the range of all keys that begin with @prefix. */
void cpx_etcd_prefix_end(const char *prefix, char out[CPX_ETCD_KEY_MAX]);

/* --- answers ------------------------------------------------------------------------- */

struct cpx_etcd_kv {
	char *key; /* NUL behind both; key_len and value_len do not count it */
	char *value;
	size_t key_len, value_len;
	int64_t create_rev, mod_rev, lease;
};

struct cpx_etcd_kvs {
	struct cpx_etcd_kv *kv;
	size_t n;
	bool more;
	int64_t revision; /* of the whole store */
};

struct cpx_etcd_outcome {
	bool succeeded;
	int64_t revision;
	size_t n;
	struct cpx_etcd_kvs got[CPX_ETCD_RANGES]; /* of the GETs, in order */
};

struct cpx_etcd_events {
	bool created, canceled;
	int64_t compacted; /* canceled because of that; 0: not */
	int64_t revision;
	size_t n;
};

int cpx_etcd_take_range(const json_t *a, struct cpx_etcd_kvs *out, struct cpx_err *err);
void cpx_etcd_kvs_free(struct cpx_etcd_kvs *k);
int cpx_etcd_take_txn(const json_t *a, struct cpx_etcd_outcome *out, struct cpx_err *err);
void cpx_etcd_outcome_free(struct cpx_etcd_outcome *o);
/* Seconds the lease has still, 0: it is gone. @id: NULL, or where a grant's id is put. */
int64_t cpx_etcd_take_lease(const json_t *a, int64_t *id, struct cpx_err *err);
int cpx_etcd_take_events(const json_t *a, struct cpx_etcd_events *out, struct cpx_err *err);
/* The gRPC code in an answer that is an error (@text: its message, or ""); 0: it is none. */
int cpx_etcd_error_code(const json_t *a, const char **text);
/* Is the version (as maintenance/status says it) at least 3.5.16? */
bool cpx_etcd_version_good(const char *version);

#endif
