/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cluster_key.h - the secret that the nodes of a cluster share, and tags made with it.
 *
 * The file holds 64 hex digits and a newline, belongs to root (or to who reads it) and is
 * readable by nobody else. A tag is HMAC-SHA256 over a label, which says what kind of thing is
 * tagged, and the bytes; so no tag of one kind passes as one of another.
 */
#ifndef CPX_SCHEDULER_CLUSTER_KEY_H
#define CPX_SCHEDULER_CLUSTER_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpx_err;

#define CPX_KEY_LEN 32
#define CPX_TAG_LEN 64 /* hex digits */

struct cpx_cluster_key {
	uint8_t bytes[CPX_KEY_LEN];
};

/* Make a new key file at @path; CPX_E_EXIST where there is one, which is left as it is. */
int cpx_key_make(const char *path, struct cpx_err *err);
int cpx_key_load(const char *path, struct cpx_cluster_key *out, struct cpx_err *err);

/* Pure: from the text of a key file. Return: 0 or CPX_E_FORMAT. */
int cpx_key_parse(const char *text, size_t n, struct cpx_cluster_key *out);

/* Tag of @n bytes under @label. Return: 0, or CPX_E_NOMEM. */
int cpx_key_tag(const struct cpx_cluster_key *key, const char *label, const void *p, size_t n,
		char out[CPX_TAG_LEN + 1]);
/* The same as bytes. */
int cpx_key_mac(const struct cpx_cluster_key *key, const char *label, const void *p, size_t n,
		uint8_t out[CPX_KEY_LEN]);
/* In constant time. @tag: CPX_TAG_LEN characters, no NUL needed. */
bool cpx_key_check(const struct cpx_cluster_key *key, const char *label, const void *p,
		   size_t n, const char *tag);

#endif
