/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The URL of an etcd cluster taken apart. Pure. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "etcd_msg.h"

#define PLAIN "etcd://"
#define TLS "etcds://"
#define DEFAULT_PREFIX "/chpox"
#define DEFAULT_PORT 2379

bool cpx_etcd_is_url(const char *s)
{
	return !strncmp(s, PLAIN, strlen(PLAIN)) || !strncmp(s, TLS, strlen(TLS));
}

static bool host_ok(const char *s, size_t n)
{
	static const char ok[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_";

	if (n > 2 && s[0] == '[')
		return s[n - 1] == ']' && strspn(s + 1, "0123456789abcdefABCDEF:.") == n - 2;
	return n > 0 && n < 254 && strspn(s, ok) >= n;
}

/* "HOST" or "HOST:PORT" of @n bytes -> "HOST:PORT" */
static int take_endpoint(const char *s, size_t n, char out[272])
{
	size_t host = n;
	unsigned port = DEFAULT_PORT;

	while (host > 0 && s[host - 1] >= '0' && s[host - 1] <= '9')
		host--;
	if (host > 0 && host < n && s[host - 1] == ':' &&
	    (s[0] != '[' || (host > 1 && s[host - 2] == ']'))) {
		port = n - host > 5 ? 0 : (unsigned)strtoul(s + host, NULL, 10);
		host--;
	} else {
		host = n;
	}
	if (!host_ok(s, host) || port < 1 || port > 65535)
		return CPX_E_INVAL;
	snprintf(out, 272, "%.*s:%u", (int)host, s, port);
	return 0;
}

static int take_option(const char *s, size_t n, struct cpx_etcd_where *w)
{
	const struct {
		const char *name;
		char *out;
		size_t size;
	} opts[] = {
		{ "ca", w->ca, sizeof(w->ca) },
		{ "cert", w->cert, sizeof(w->cert) },
		{ "key", w->key, sizeof(w->key) },
		{ "user", w->user, sizeof(w->user) },
		{ "password-file", w->password_file, sizeof(w->password_file) },
	};

	for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
		size_t k = strlen(opts[i].name);

		if (n <= k + 1 || strncmp(s, opts[i].name, k) || s[k] != '=')
			continue;
		if (n - k - 1 >= opts[i].size)
			return CPX_E_INVAL;
		snprintf(opts[i].out, opts[i].size, "%.*s", (int)(n - k - 1), s + k + 1);
		return 0;
	}
	return CPX_E_INVAL;
}

static bool on_loopback(const char *endpoint)
{
	/* a name may begin like an address */
	bool numeric = endpoint[strspn(endpoint, "0123456789.")] == ':';

	return (numeric && !strncmp(endpoint, "127.", 4)) || !strncmp(endpoint, "[::1]:", 6) ||
	       !strncmp(endpoint, "localhost:", 10);
}

static int take_all(const char *s, struct cpx_etcd_where *w)
{
	const char *opts = s + strcspn(s, "?"), *hosts = s + strcspn(s, "/?");
	int r = 0;

	for (const char *p = s; r >= 0; p++) {
		size_t n = strcspn(p, ",/?");

		r = w->n == CPX_ETCD_ENDPOINTS ? CPX_E_INVAL
					       : take_endpoint(p, n, w->endpoint[w->n++]);
		p += n;
		if (p >= hosts)
			break;
	}
	snprintf(w->prefix, sizeof(w->prefix), "%s", DEFAULT_PREFIX);
	if (r >= 0 && opts - hosts > 1) {
		size_t n = (size_t)(opts - hosts);

		while (n > 1 && hosts[n - 1] == '/')
			n--;
		if (n >= sizeof(w->prefix))
			return CPX_E_INVAL;
		if (n > 1)
			snprintf(w->prefix, sizeof(w->prefix), "%.*s", (int)n, hosts);
	}
	for (const char *c = w->prefix; *c; c++)
		if (*c <= ' ' || *c >= 127)
			return CPX_E_INVAL;
	while (r >= 0 && *opts) {
		size_t n = strcspn(opts + 1, "&");

		r = take_option(opts + 1, n, w);
		opts += 1 + n;
	}
	return r;
}

int cpx_etcd_parse_url(const char *url, struct cpx_etcd_where *out, struct cpx_err *err)
{
	struct cpx_etcd_where w = { .tls = !strncmp(url, TLS, strlen(TLS)) };

	if (!cpx_etcd_is_url(url) || take_all(url + strlen(w.tls ? TLS : PLAIN), &w) < 0)
		return cpx_err_set(err, CPX_E_INVAL,
				   "'%.200s' is no registry; "
				   "etcd://HOST:PORT,HOST:PORT/PREFIX or etcds://…?ca=FILE&"
				   "cert=FILE&key=FILE is",
				   url);
	if (!w.tls && (*w.ca || *w.cert || *w.key))
		return cpx_err_set(err, CPX_E_INVAL,
				   "certificates are for etcds://, not for etcd://");
	if (!*w.cert != !*w.key)
		return cpx_err_set(err, CPX_E_INVAL, "cert= and key= go together");
	if (!*w.user != !*w.password_file)
		return cpx_err_set(err, CPX_E_INVAL, "user= and password-file= go together");
	for (size_t i = 0; !*w.cert && i < w.n; i++)
		if (!on_loopback(w.endpoint[i]))
			return cpx_err_set(
				err, CPX_E_PERM,
				"etcd at %s needs a client certificate "
				"(etcds://…?ca=FILE&cert=FILE&key=FILE); without one "
				"only this machine's own is used",
				w.endpoint[i]);
	*out = w;
	return 0;
}
