/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DIR/node.json. Written whole: temporary file, fsync, rename, fsync of the directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "node_lease.h"
#include "proto.h"

#define NAME "node.json"
#define TMP "node.json.tmp"
#define CONF_MAX 65536

static bool take(const json_t *j, const char *key, char *out, size_t size)
{
	CPX_AUTO_FREE char *s = cpx_proto_unbytes(json_object_get(j, key));

	if (!s || strlen(s) >= size)
		return false;
	strcpy(out, s);
	return true;
}

static int decode(const char *text, size_t n, struct cpx_reg_conf *out, struct cpx_err *err)
{
	struct cpx_reg_conf c = { .registry = "" };
	json_t *j;
	bool ok;
	int r = cpx_proto_decode(text, n, &j, err);

	if (r < 0)
		return r;
	ok = take(j, "registry", c.registry, sizeof(c.registry)) &&
	     take(j, "node", c.node, sizeof(c.node)) &&
	     take(j, "key", c.key_file, sizeof(c.key_file)) && cpx_job_name_ok(c.node);
	c.ttl_ns = cpx_proto_int(j, "ttl_ns", -1);
	c.guard_ns = cpx_proto_int(j, "guard_ns", -1);
	json_decref(j);
	if (!ok || cpx_lease_check(c.ttl_ns, c.guard_ns, NULL) < 0)
		return cpx_err_set(err, CPX_E_FORMAT, "it makes no sense");
	*out = c;
	return 0;
}

int cpx_registry_conf_load(const char *dir, struct cpx_reg_conf *out, struct cpx_err *err)
{
	struct cpx_reg_conf none = { .ttl_ns = CPX_LEASE_TTL_NS,
				     .guard_ns = CPX_LEASE_GUARD_NS };
	CPX_AUTO_FD dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CPX_AUTO_FREE char *text = NULL;
	ssize_t n;

	if (dirfd < 0)
		return cpx_err_sys(err, errno, "cannot open %s", dir);
	if (faccessat(dirfd, NAME, F_OK, 0) && errno == ENOENT) {
		if (snprintf(none.registry, sizeof(none.registry), "%s/registry", dir) >=
		    (int)sizeof(none.registry))
			return cpx_err_set(err, CPX_E_LIMIT, "path %s is too long", dir);
		*out = none;
		return 0;
	}
	n = cpx_read_file(dirfd, NAME, CONF_MAX, &text, err);
	if (n >= 0)
		n = decode(text, (size_t)n, out, err);
	return n < 0 ? cpx_err_wrap(err, "%s/" NAME, dir) : 0;
}

int cpx_registry_conf_save(const char *dir, const struct cpx_reg_conf *c, struct cpx_err *err)
{
	CPX_AUTO_FD dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	json_t *j =
		json_pack("{s:o, s:s, s:o, s:I, s:I}", "registry", cpx_proto_bytes(c->registry),
			  "node", c->node, "key", cpx_proto_bytes(c->key_file), "ttl_ns",
			  (json_int_t)c->ttl_ns, "guard_ns", (json_int_t)c->guard_ns);
	CPX_AUTO_FREE char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
	CPX_AUTO_FD fd = -1;

	json_decref(j);
	if (!text)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	fd = dirfd < 0 ? -1
		       : openat(dirfd, TMP, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || cpx_write_full(fd, text, strlen(text)) || fsync(fd) ||
	    renameat(dirfd, TMP, dirfd, NAME) || fsync(dirfd))
		return cpx_err_sys(err, errno, "cannot write %s/" NAME, dir);
	return 0;
}

int cpx_registry_open_conf(const struct cpx_reg_conf *c, struct cpx_registry **out,
			   struct cpx_err *err)
{
	return cpx_registry_open(c->registry, *c->node ? c->key_file : NULL, out, err);
}
