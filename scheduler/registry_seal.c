/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry_seal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

#define LABEL "registry"
#define MAGIC "chpox1 "
#define MAGIC_LEN 7
#define HEAD_LEN (MAGIC_LEN + CPX_TAG_LEN + 1 + (CPX_SEAL_NONCE - 1) + 1)
#define BODY_MAX (1u << 20)

int cpx_seal_nonce(char out[CPX_SEAL_NONCE])
{
	uint64_t v;

	if (getrandom(&v, sizeof(v), 0) != sizeof(v))
		return CPX_E_SYS;
	snprintf(out, CPX_SEAL_NONCE, "%016llx", (unsigned long long)v);
	return 0;
}

/* What the tag is over. */
static char *tagged(const char *path, const char *nonce, const char *body, size_t n,
		    size_t *len)
{
	size_t k = strlen(path) + 1 + (CPX_SEAL_NONCE - 1) + 1;
	char *all = malloc(k + n + 1);

	if (!all)
		return NULL;
	snprintf(all, k + 1, "%s\n%s\n", path, nonce);
	memcpy(all + k, body, n);
	*len = k + n;
	return all;
}

char *cpx_seal_make(const struct cpx_cluster_key *key, const char *path, const char *nonce,
		    const char *body)
{
	char tag[CPX_TAG_LEN + 1], *out;
	size_t len;
	CPX_AUTO_FREE char *all = tagged(path, nonce, body, strlen(body), &len);

	if (!all || cpx_key_tag(key, LABEL, all, len, tag) < 0 ||
	    asprintf(&out, MAGIC "%s %s\n%s", tag, nonce, body) < 0)
		return NULL;
	return out;
}

int cpx_seal_open(const struct cpx_cluster_key *key, const char *path, const char *value,
		  size_t n, char nonce[CPX_SEAL_NONCE], const char **body, struct cpx_err *err)
{
	const char *tag = value + MAGIC_LEN, *at = tag + CPX_TAG_LEN + 1;
	char own[CPX_SEAL_NONCE] = "";
	CPX_AUTO_FREE char *all = NULL;
	size_t len;

	if (n < HEAD_LEN || n - HEAD_LEN > BODY_MAX || memchr(value, 0, n) ||
	    memcmp(value, MAGIC, MAGIC_LEN) || tag[CPX_TAG_LEN] != ' ' ||
	    at[CPX_SEAL_NONCE - 1] != '\n')
		return cpx_err_set(err, CPX_E_FORMAT,
				   "%s in the registry was not written by chpox", path);
	memcpy(own, at, CPX_SEAL_NONCE - 1);
	all = tagged(path, own, value + HEAD_LEN, n - HEAD_LEN, &len);
	if (!all)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	if (!cpx_key_check(key, LABEL, all, len, tag))
		return cpx_err_set(
			err, CPX_E_CHECKSUM,
			"%s in the registry does not bear this cluster's tag: it was written "
			"with another cluster key, or by a stranger",
			path);
	memcpy(nonce, own, sizeof(own));
	*body = value + HEAD_LEN;
	return (int)(n - HEAD_LEN);
}
