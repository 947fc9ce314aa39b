/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "digest.h"

#include <dlfcn.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#include "err.h"

#define LIBRARY "libcrypto.so.3"

/* clang-format off */
#define FUNCTIONS(F) \
	F(EVP_MD_CTX_new) F(EVP_MD_CTX_free) F(EVP_sha256) F(EVP_DigestInit_ex) \
	F(EVP_DigestUpdate) F(EVP_DigestFinal_ex) F(HMAC)
/* clang-format on */

#define MEMBER(f) __typeof__(f) *f;
#define LOAD(f) all &= (lib.f = (__typeof__(f) *)dlsym(h, #f)) != NULL;

static struct {
	FUNCTIONS(MEMBER)
	bool there;
} lib;

static void load(void)
{
	void *h = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	bool all = h != NULL;

	if (h) {
		FUNCTIONS(LOAD)
	}
	lib.there = all;
}

static int need(struct cpx_err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
	return lib.there ? 0
			 : cpx_err_set(err, CPX_E_UNSUPPORTED,
				       "cannot load " LIBRARY "; install OpenSSL 3");
}

/* The library's own context by another name. */
static EVP_MD_CTX *ctx(struct cpx_sha256 *s)
{
	return (EVP_MD_CTX *)s;
}

int cpx_sha256_new(struct cpx_sha256 **out, struct cpx_err *err)
{
	EVP_MD_CTX *md;
	int rc = need(err);

	if (rc < 0)
		return rc;
	md = lib.EVP_MD_CTX_new();
	if (!md || lib.EVP_DigestInit_ex(md, lib.EVP_sha256(), NULL) != 1) {
		lib.EVP_MD_CTX_free(md);
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for SHA-256");
	}
	*out = (struct cpx_sha256 *)md;
	return 0;
}

int cpx_sha256_add(struct cpx_sha256 *s, const void *data, size_t len, struct cpx_err *err)
{
	return lib.EVP_DigestUpdate(ctx(s), data, len) == 1
		       ? 0
		       : cpx_err_set(err, CPX_E_SYS, "SHA-256 failed");
}

int cpx_sha256_end(struct cpx_sha256 *s, uint8_t out[CPX_SHA256_SIZE], struct cpx_err *err)
{
	return lib.EVP_DigestFinal_ex(ctx(s), out, NULL) == 1
		       ? 0
		       : cpx_err_set(err, CPX_E_SYS, "SHA-256 failed");
}

void cpx_sha256_free(struct cpx_sha256 *s)
{
	if (s)
		lib.EVP_MD_CTX_free(ctx(s));
}

int cpx_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
		    uint8_t out[CPX_SHA256_SIZE], struct cpx_err *err)
{
	int rc = need(err);

	if (rc < 0)
		return rc;
	if (key_len > INT_MAX ||
	    !lib.HMAC(lib.EVP_sha256(), key, (int)key_len, data, len, out, NULL))
		return cpx_err_set(err, CPX_E_SYS, "HMAC-SHA-256 failed");
	return 0;
}
