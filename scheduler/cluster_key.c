/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making: a temporary file beside it written and fsynced -> linked to its name (which fails
 * where there is one) -> directory fsynced. A crash leaves no key or a whole one.
 */
#include "cluster_key.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../chpox/base/digest.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

#define TEXT_LEN (2 * CPX_KEY_LEN)

static const char digits[] = "0123456789abcdef";

static void to_hex(const uint8_t *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * n] = 0;
}

int cpx_key_parse(const char *text, size_t n, struct cpx_cluster_key *out)
{
	struct cpx_cluster_key key;

	if (n != TEXT_LEN && !(n == TEXT_LEN + 1 && text[TEXT_LEN] == '\n'))
		return CPX_E_FORMAT;
	for (size_t i = 0; i < TEXT_LEN; i++) {
		const char *d = text[i] ? strchr(digits, text[i]) : NULL;

		if (!d)
			return CPX_E_FORMAT;
		key.bytes[i / 2] =
			(uint8_t)(i % 2 ? key.bytes[i / 2] | (d - digits) : (d - digits) << 4);
	}
	*out = key;
	return 0;
}

int cpx_key_load(const char *path, struct cpx_cluster_key *out, struct cpx_err *err)
{
	CPX_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char text[TEXT_LEN + 2];
	struct stat st;
	ssize_t n;
	int r;

	if (fd < 0 && errno == ENOENT)
		return cpx_err_set(err, CPX_E_NOENT,
				   "there is no cluster key at %s; make one with 'chpoxd init' "
				   "on one node and copy it to the others",
				   path);
	if (fd < 0 || fstat(fd, &st))
		return cpx_err_sys(err, errno, "cannot open the cluster key %s", path);
	if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) ||
	    st.st_mode & 077)
		return cpx_err_set(err, CPX_E_PERM,
				   "the cluster key %s must be a file of root that nobody else "
				   "can read (chmod 600)",
				   path);
	n = cpx_read_full(fd, text, sizeof(text));
	r = n < 0 ? CPX_E_FORMAT : cpx_key_parse(text, (size_t)n, out);
	explicit_bzero(text, sizeof(text));
	return r < 0 ? cpx_err_set(err, r, "%s holds no cluster key", path) : 0;
}

static int write_key(const char *path, const char *tmp, const char *dir, struct cpx_err *err)
{
	uint8_t bytes[CPX_KEY_LEN];
	char text[TEXT_LEN + 2];
	CPX_AUTO_FD fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	CPX_AUTO_FD dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int sys = 0;

	if (fd < 0 || dirfd < 0)
		return cpx_err_sys(err, errno, "cannot write %s", tmp);
	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return cpx_err_sys(err, errno, "no random numbers");
	to_hex(bytes, sizeof(bytes), text);
	strcat(text, "\n");
	if (fchmod(fd, 0600) || cpx_write_full(fd, text, strlen(text)) || fsync(fd) ||
	    link(tmp, path) || fsync(dirfd))
		sys = errno;
	explicit_bzero(bytes, sizeof(bytes));
	explicit_bzero(text, sizeof(text));
	if (sys == EEXIST)
		return cpx_err_set(err, CPX_E_EXIST, "there is a cluster key at %s already",
				   path);
	return sys ? cpx_err_sys(err, sys, "cannot write %s", path) : 0;
}

int cpx_key_make(const char *path, struct cpx_err *err)
{
	char tmp[PATH_MAX], dir[PATH_MAX];
	int r;

	if (snprintf(tmp, sizeof(tmp), "%s.%d.tmp", path, getpid()) >= (int)sizeof(tmp))
		return cpx_err_set(err, CPX_E_LIMIT, "path %s is too long", path);
	snprintf(dir, sizeof(dir), "%s", path);
	r = write_key(path, tmp, dirname(dir), err);
	unlink(tmp);
	return r;
}

int cpx_key_mac(const struct cpx_cluster_key *key, const char *label, const void *p, size_t n,
		uint8_t out[CPX_KEY_LEN])
{
	size_t k = strlen(label) + 1;
	CPX_AUTO_FREE uint8_t *all = malloc(k + n);

	if (!all)
		return CPX_E_NOMEM;
	memcpy(all, label, k);
	if (n)
		memcpy(all + k, p, n);
	return cpx_hmac_sha256(key->bytes, CPX_KEY_LEN, all, k + n, out, NULL) < 0 ? CPX_E_NOMEM
										   : 0;
}

int cpx_key_tag(const struct cpx_cluster_key *key, const char *label, const void *p, size_t n,
		char out[CPX_TAG_LEN + 1])
{
	uint8_t md[CPX_SHA256_SIZE];

	if (cpx_key_mac(key, label, p, n, md) < 0)
		return CPX_E_NOMEM;
	to_hex(md, sizeof(md), out);
	return 0;
}

bool cpx_key_check(const struct cpx_cluster_key *key, const char *label, const void *p,
		   size_t n, const char *tag)
{
	char own[CPX_TAG_LEN + 1];
	unsigned differ = 0;

	if (cpx_key_tag(key, label, p, n, own) < 0)
		return false;
	for (size_t i = 0; i < CPX_TAG_LEN; i++)
		differ |= (unsigned char)own[i] ^ (unsigned char)tag[i];
	return differ == 0;
}
