/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_seal.h - how a record lies in a registry that others can write: with a tag. Pure.
 *
 *	"chpox1 " TAG " " NONCE "\n" BODY
 *
 * The tag is made with the cluster key over the record's key in the registry, the nonce and the
 * body. So nobody without the key can make a record, or put one in the place of another; an
 * older record of the same key can be put back, which epochs and versions make harmless. The
 * nonce is new for each write: by it a writer knows his own.
 */
#ifndef CPX_SCHEDULER_REGISTRY_SEAL_H
#define CPX_SCHEDULER_REGISTRY_SEAL_H

#include "cluster_key.h"

#define CPX_SEAL_NONCE 17 /* 16 hex digits and NUL */

int cpx_seal_nonce(char out[CPX_SEAL_NONCE]);
/* Return: malloc'ed, NUL behind; NULL: out of memory. */
char *cpx_seal_make(const struct cpx_cluster_key *key, const char *path, const char *nonce,
		    const char *body);
/* @body: within @value. Return: length of the body, CPX_E_FORMAT or CPX_E_CHECKSUM. */
int cpx_seal_open(const struct cpx_cluster_key *key, const char *path, const char *value,
		  size_t n, char nonce[CPX_SEAL_NONCE], const char **body, struct cpx_err *err);

#endif
