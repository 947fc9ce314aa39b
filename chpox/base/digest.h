/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * digest.h - SHA-256 by OpenSSL, which is loaded at the first use: loading it takes longer than
 * all else that a small program does to start, and most commands hash nothing.
 */
#ifndef CPX_BASE_DIGEST_H
#define CPX_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

struct cpx_err;
struct cpx_sha256;

#define CPX_SHA256_SIZE 32u

/* Return: 0, CPX_E_UNSUPPORTED where OpenSSL 3 is not installed, CPX_E_NOMEM. */
int cpx_sha256_new(struct cpx_sha256 **out, struct cpx_err *err);
int cpx_sha256_add(struct cpx_sha256 *s, const void *data, size_t len, struct cpx_err *err);
/* Once, after the last byte. */
int cpx_sha256_end(struct cpx_sha256 *s, uint8_t out[CPX_SHA256_SIZE], struct cpx_err *err);
void cpx_sha256_free(struct cpx_sha256 *s);

/* HMAC-SHA-256 of @data under @key, both of any length. Threads: any. */
int cpx_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
		    uint8_t out[CPX_SHA256_SIZE], struct cpx_err *err);

#endif
