/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xattr.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "fd.h"

#define NAMES_MAX 65536
#define VALUE_MAX 65536
#define TOTAL_MAX (1u << 20)

static bool starts(const char *name, const char *with)
{
	return strncmp(name, with, strlen(with)) == 0;
}

static bool gives_rights(const char *name)
{
	return starts(name, "trusted.") || strcmp(name, "security.capability") == 0;
}

static bool is_kept(const char *name)
{
	return starts(name, "user.") || starts(name, "system.posix_acl_") || gives_rights(name);
}

/* A name of the file that also an O_PATH descriptor has. */
static const char *link_of(int fd, char buf[32])
{
	snprintf(buf, 32, "/proc/self/fd/%d", fd);
	return buf;
}

static int append(uint8_t **out, size_t *len, const char *name, const void *value, uint32_t n)
{
	size_t k = strlen(name) + 1, all = *len + k + 4 + n;
	uint8_t *p = all > TOTAL_MAX ? NULL : realloc(*out, all);

	if (!p) {
		errno = all > TOTAL_MAX ? E2BIG : ENOMEM;
		return -1;
	}
	*out = p;
	p += *len;
	memcpy(p, name, k);
	for (int i = 0; i < 4; i++)
		p[k + (size_t)i] = (uint8_t)(n >> (8 * i));
	if (n)
		memcpy(p + k + 4, value, n);
	*len = all;
	return 0;
}

int cpx_xattrs_get(int fd, uint8_t **out, size_t *len)
{
	CPX_AUTO_FREE char *names = malloc(NAMES_MAX);
	CPX_AUTO_FREE uint8_t *value = malloc(VALUE_MAX), *all = NULL;
	char link[32];
	size_t total = 0;
	ssize_t n;

	if (!names || !value)
		return -1;
	n = listxattr(link_of(fd, link), names, NAMES_MAX);
	if (n < 0 && errno != ENOTSUP)
		return -1;
	for (const char *name = names; n > 0 && name < names + n; name += strlen(name) + 1) {
		ssize_t k = is_kept(name) ? getxattr(link, name, value, VALUE_MAX) : -1;

		/* one that is gone, or not for us */
		if (k >= 0 && append(&all, &total, name, value, (uint32_t)k) < 0)
			return -1;
	}
	*out = cpx_steal_ptr(&all);
	*len = total;
	return 0;
}

int cpx_xattrs_set(int fd, const void *p, size_t len, bool all)
{
	const uint8_t *at = p, *end = at + len;
	char link[32];
	int failed = 0;

	link_of(fd, link);
	while (at < end) {
		const char *name = (const char *)at;
		const uint8_t *nul = memchr(at, 0, (size_t)(end - at));
		uint32_t n;

		if (!nul || end - nul < 5)
			return -1;
		n = nul[1] | (uint32_t)nul[2] << 8 | (uint32_t)nul[3] << 16 |
		    (uint32_t)nul[4] << 24;
		if (n > (size_t)(end - nul - 5) || !is_kept(name))
			return -1;
		if ((all || !gives_rights(name)) && setxattr(link, name, nul + 5, n, 0) < 0)
			failed++;
		at = nul + 5 + n;
	}
	return failed;
}
