/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Happy path: handle kept open -> POST -> whole answer -> JSON.
 *
 * Failures: not connected, no answer in time, "unavailable" (an election, a member without
 * leader): the next endpoint, with a fresh handle, after a short pause when all were tried.
 * Token refused: a new one is asked for, once. An answer that is too long or no JSON counts as
 * none.
 */
#include "etcd_http.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

#define PAUSE_MS 50
#define PASSWORD_MAX 1024
#define LINE_MAX_BYTES (4u << 20)
#define GRPC_DEADLINE 4
#define GRPC_UNAVAILABLE 14
#define GRPC_UNAUTHENTICATED 16

/* --- libcurl, loaded late ------------------------------------------------------------ */

struct curl_api {
	CURLcode (*global_init)(long flags);
	CURL *(*easy_init)(void);
	CURLcode (*setopt)(CURL *h, CURLoption o, ...);
	CURLcode (*perform)(CURL *h);
	CURLcode (*getinfo)(CURL *h, CURLINFO i, ...);
	void (*cleanup)(CURL *h);
	struct curl_slist *(*slist_append)(struct curl_slist *l, const char *s);
	void (*slist_free_all)(struct curl_slist *l);
	const char *(*strerror)(CURLcode c);
};

static struct curl_api api; /* written once, by load() */
static const char *load_error;

static void load(void)
{
	/* clang-format off */
	const struct { const char *name; void *at; } syms[] = {
		{ "curl_global_init", &api.global_init },
		{ "curl_easy_init", &api.easy_init },
		{ "curl_easy_setopt", &api.setopt },
		{ "curl_easy_perform", &api.perform },
		{ "curl_easy_getinfo", &api.getinfo },
		{ "curl_easy_cleanup", &api.cleanup },
		{ "curl_slist_append", &api.slist_append },
		{ "curl_slist_free_all", &api.slist_free_all },
		{ "curl_easy_strerror", &api.strerror },
	};
	/* clang-format on */
	void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);

	if (!lib) {
		load_error = "libcurl (libcurl.so.4) is not installed; etcd needs it";
		return;
	}
	for (size_t i = 0; i < sizeof(syms) / sizeof(syms[0]); i++) {
		void *f = dlsym(lib, syms[i].name);

		if (!f) {
			load_error = "this libcurl lacks what etcd needs";
			return;
		}
		memcpy(syms[i].at, &f, sizeof(f));
	}
	if (api.global_init(CURL_GLOBAL_DEFAULT))
		load_error = "libcurl cannot be used";
}

/* --- connections --------------------------------------------------------------------- */

struct cpx_etcd_conn {
	struct cpx_etcd_where where;
	int timeout_ms, budget_ms;
	size_t at; /* endpoint */
	CURL *curl;
	struct curl_slist *headers;
	char token[512];
	char *body; /* of the answer under way */
	size_t len, cap;
	/* streams */
	cpx_etcd_line line;
	int (*tick)(void *ctx);
	void *ctx;
	int line_result;
	int silent_ms;
	int64_t heard_ns;
	char why[CURL_ERROR_SIZE];
};

/* Not inherited by what is started; a peer that has gone silent is noticed. */
static int on_socket(void *ctx, curl_socket_t fd, curlsocktype purpose)
{
	int on = 1, secs = 2, count = 3, user_ms = 8000;

	(void)ctx;
	(void)purpose;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &secs, sizeof(secs));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &secs, sizeof(secs));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof(user_ms));
	return CURL_SOCKOPT_OK;
}

static bool keep(struct cpx_etcd_conn *c, const char *p, size_t n, size_t max)
{
	if (n > max - c->len)
		return false;
	if (c->len + n > c->cap) {
		size_t cap = c->cap ? c->cap : 4096;
		char *q;

		while (cap < c->len + n)
			cap *= 2;
		q = realloc(c->body, cap);
		if (!q)
			return false;
		c->body = q;
		c->cap = cap;
	}
	memcpy(c->body + c->len, p, n);
	c->len += n;
	return true;
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
	return keep(ctx, p, size * n, CPX_ETCD_ANSWER_MAX) ? size * n : 0;
}

static void drop(struct cpx_etcd_conn *c)
{
	if (c->curl)
		api.cleanup(c->curl);
	c->curl = NULL;
	api.slist_free_all(c->headers);
	c->headers = NULL;
}

static bool add_header(struct cpx_etcd_conn *c, const char *text)
{
	struct curl_slist *l = api.slist_append(c->headers, text);

	if (l)
		c->headers = l;
	return l != NULL;
}

static bool make_headers(struct cpx_etcd_conn *c)
{
	char auth[sizeof(c->token) + 32];

	api.slist_free_all(c->headers);
	c->headers = NULL;
	snprintf(auth, sizeof(auth), "Authorization: %s", c->token);
	/* a member without leader says so instead of being silent */
	return add_header(c, "Content-Type: application/json") && add_header(c, "Expect:") &&
	       add_header(c, "Grpc-Metadata-hasleader: true") &&
	       (!*c->token || add_header(c, auth));
}

static void set_tls(struct cpx_etcd_conn *c)
{
	const struct cpx_etcd_where *w = &c->where;

	if (*w->ca)
		api.setopt(c->curl, CURLOPT_CAINFO, w->ca);
	if (*w->cert) {
		api.setopt(c->curl, CURLOPT_SSLCERT, w->cert);
		api.setopt(c->curl, CURLOPT_SSLKEY, w->key);
	}
	api.setopt(c->curl, CURLOPT_SSL_VERIFYPEER, 1L);
	api.setopt(c->curl, CURLOPT_SSL_VERIFYHOST, 2L);
	api.setopt(c->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
}

static bool ready(struct cpx_etcd_conn *c)
{
	if (c->curl)
		return true;
	c->curl = api.easy_init();
	if (!c->curl || !make_headers(c))
		return false;
	api.setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	api.setopt(c->curl, CURLOPT_PROXY, "");
	api.setopt(c->curl, CURLOPT_PROTOCOLS_STR, c->where.tls ? "https" : "http");
	api.setopt(c->curl, CURLOPT_FOLLOWLOCATION, 0L);
	/* 1.1: one connection for each handle, never shared with a stream */
	api.setopt(c->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	api.setopt(c->curl, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
	api.setopt(c->curl, CURLOPT_SOCKOPTFUNCTION, on_socket);
	api.setopt(c->curl, CURLOPT_ERRORBUFFER, c->why);
	if (c->where.tls)
		set_tls(c);
	return true;
}

int cpx_etcd_open(const struct cpx_etcd_where *w, int timeout_ms, int budget_ms,
		  struct cpx_etcd_conn **out, struct cpx_err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct cpx_etcd_conn *c;

	pthread_once(&once, load);
	if (load_error)
		return cpx_err_set(err, CPX_E_UNSUPPORTED, "%s", load_error);
	c = calloc(1, sizeof(*c));
	if (!c)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	c->where = *w;
	c->timeout_ms = timeout_ms;
	c->budget_ms = budget_ms;
	*out = c;
	return 0;
}

void cpx_etcd_close(struct cpx_etcd_conn *c)
{
	if (!c)
		return;
	drop(c);
	free(c->body);
	free(c);
}

/* --- one attempt --------------------------------------------------------------------- */

static void prepare(struct cpx_etcd_conn *c, const char *path, const char *body)
{
	char url[512];

	snprintf(url, sizeof(url), "%s://%s%s", c->where.tls ? "https" : "http",
		 c->where.endpoint[c->at], path);
	c->len = 0;
	c->why[0] = 0;
	api.setopt(c->curl, CURLOPT_URL, url);
	api.setopt(c->curl, CURLOPT_HTTPHEADER, c->headers);
	api.setopt(c->curl, CURLOPT_POSTFIELDS, body);
	api.setopt(c->curl, CURLOPT_WRITEDATA, c);
}

static int failed(struct cpx_etcd_conn *c, CURLcode rc, struct cpx_err *err)
{
	const char *why = *c->why ? c->why : api.strerror(rc);
	/* before a request can have left us */
	bool nothing_done = rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST ||
			    rc == CURLE_SSL_CONNECT_ERROR ||
			    rc == CURLE_PEER_FAILED_VERIFICATION ||
			    rc == CURLE_SSL_CERTPROBLEM || rc == CURLE_SSL_CACERT_BADFILE;

	return cpx_err_set(err, nothing_done ? CPX_E_IO : CPX_E_TIMEOUT, "etcd at %s: %s",
			   c->where.endpoint[c->at], why);
}

static int etcd_says(struct cpx_etcd_conn *c, int code, const char *text, struct cpx_err *err)
{
	static const int codes[17] = {
		[3] = CPX_E_INVAL,
		[5] = CPX_E_NOENT,
		[7] = CPX_E_PERM,
		[8] = CPX_E_NOSPC,
		[11] = CPX_E_GONE,
		[GRPC_DEADLINE] = CPX_E_TIMEOUT,
		[12] = CPX_E_INVAL,
		[GRPC_UNAVAILABLE] = CPX_E_TIMEOUT,
		[GRPC_UNAUTHENTICATED] = CPX_E_PERM,
	};

	return cpx_err_set(err, codes[code] ? codes[code] : CPX_E_SYS,
			   "etcd at %s says: %.200s", c->where.endpoint[c->at], text);
}

/* @grpc: etcd's code, 0: none. */
static int attempt(struct cpx_etcd_conn *c, const char *path, const char *body, int timeout_ms,
		   json_t **answer, int *grpc, struct cpx_err *err)
{
	const char *text = "";
	json_error_t je;
	long http = 0;
	CURLcode rc;
	json_t *j;

	*grpc = 0;
	if (!ready(c))
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	prepare(c, path, body);
	api.setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
	api.setopt(c->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
	api.setopt(c->curl, CURLOPT_XFERINFOFUNCTION, NULL);
	api.setopt(c->curl, CURLOPT_NOPROGRESS, 1L);
	rc = api.perform(c->curl);
	if (rc)
		return failed(c, rc, err);
	api.getinfo(c->curl, CURLINFO_RESPONSE_CODE, &http);
	j = json_loadb(c->body ? c->body : "", c->len,
		       JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &je);
	if (!json_is_object(j)) {
		json_decref(j);
		return cpx_err_set(err, CPX_E_TIMEOUT, "%s answered with what is no etcd's",
				   c->where.endpoint[c->at]);
	}
	*grpc = cpx_etcd_error_code(j, &text);
	if (*grpc || http != 200) {
		int r = *grpc ? etcd_says(c, *grpc, text, err)
			      : cpx_err_set(err, CPX_E_TIMEOUT, "etcd at %s: HTTP status %ld",
					    c->where.endpoint[c->at], http);

		json_decref(j);
		return r;
	}
	*answer = j;
	return 0;
}

/* --- tokens -------------------------------------------------------------------------- */

static int log_in(struct cpx_etcd_conn *c, struct cpx_err *err)
{
	CPX_AUTO_FREE char *password = NULL;
	CPX_AUTO_FREE char *body = NULL;
	json_t *req, *answer = NULL;
	const char *token;
	int grpc, r;

	if (cpx_read_file(AT_FDCWD, c->where.password_file, PASSWORD_MAX, &password, err) < 0)
		return cpx_err_wrap(err, "password of etcd's user '%s'", c->where.user);
	password[strcspn(password, "\n")] = 0;
	req = cpx_etcd_login(c->where.user, password);
	body = req ? json_dumps(req, JSON_COMPACT) : NULL;
	json_decref(req);
	if (!body)
		return cpx_err_set(err, CPX_E_FORMAT, "%s holds no password",
				   c->where.password_file);
	c->token[0] = 0;
	drop(c);
	r = attempt(c, "/v3/auth/authenticate", body, c->timeout_ms, &answer, &grpc, err);
	memset(body, 0, strlen(body));
	memset(password, 0, strlen(password));
	if (r < 0)
		return r;
	token = json_string_value(json_object_get(answer, "token"));
	if (!token || strlen(token) >= sizeof(c->token) || strpbrk(token, "\r\n"))
		r = cpx_err_set(err, CPX_E_FORMAT, "etcd at %s gave no token",
				c->where.endpoint[c->at]);
	else
		strcpy(c->token, token);
	json_decref(answer);
	drop(c);
	return r;
}

/* --- requests ------------------------------------------------------------------------ */

static void next_endpoint(struct cpx_etcd_conn *c)
{
	c->at = (c->at + 1) % c->where.n;
	drop(c);
}

int cpx_etcd_call(struct cpx_etcd_conn *c, const char *path, json_t *req, json_t **answer,
		  int64_t *sent_ns, struct cpx_err *err)
{
	CPX_AUTO_FREE char *body = req ? json_dumps(req, JSON_COMPACT) : NULL;
	int64_t end = cpx_boot_ns() + c->budget_ms * 1000000LL;
	bool unsure = false, fresh = false;
	struct cpx_err why = { 0 };
	int r, grpc;

	json_decref(req);
	if (!body)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	for (unsigned i = 1;; i++) {
		struct timespec nap = { .tv_nsec = PAUSE_MS * 1000000L };
		int64_t left, now;

		r = *c->where.user && !*c->token ? log_in(c, err) : 0;
		now = cpx_boot_ns();
		left = (end - now) / 1000000;
		if (r >= 0)
			r = attempt(c, path, body,
				    left < c->timeout_ms ? (left > 1 ? (int)left : 1)
							 : c->timeout_ms,
				    answer, &grpc, err);
		else
			grpc = 0;
		if (r >= 0 && sent_ns)
			*sent_ns = now;
		if (r >= 0)
			return 0;
		if (grpc == GRPC_UNAUTHENTICATED && *c->where.user && !fresh) {
			fresh = true;
			c->token[0] = 0;
			continue;
		}
		unsure |= r == CPX_E_TIMEOUT;
		if (r != CPX_E_TIMEOUT && r != CPX_E_IO)
			return r;
		/* that the last try's short time was over says less than what came before it */
		if (err && left < c->timeout_ms && why.code)
			*err = why;
		else if (err)
			why = *err;
		next_endpoint(c);
		if (cpx_boot_ns() + PAUSE_MS * 1000000LL >= end)
			break;
		if (i % c->where.n == 0)
			nanosleep(&nap, NULL);
	}
	if (err)
		err->code = unsure ? CPX_E_TIMEOUT : CPX_E_IO;
	cpx_err_wrap(err, "the registry cannot be reached");
	return unsure ? CPX_E_TIMEOUT : CPX_E_IO;
}

/* --- streams ------------------------------------------------------------------------- */

static bool take_lines(struct cpx_etcd_conn *c)
{
	char *p = c->body, *end = c->body + c->len, *nl;

	while ((nl = memchr(p, '\n', (size_t)(end - p)))) {
		json_t *j = json_loadb(p, (size_t)(nl - p), JSON_REJECT_DUPLICATES, NULL);

		c->line_result = j ? c->line(j, c->ctx) : CPX_E_FORMAT;
		json_decref(j);
		if (c->line_result)
			return false;
		p = nl + 1;
	}
	c->len = (size_t)(end - p);
	memmove(c->body, p, c->len);
	return true;
}

static size_t on_stream(char *p, size_t size, size_t n, void *ctx)
{
	struct cpx_etcd_conn *c = ctx;

	c->heard_ns = cpx_boot_ns();
	return keep(c, p, size * n, LINE_MAX_BYTES) && take_lines(c) ? size * n : 0;
}

static int on_tick(void *ctx, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
	struct cpx_etcd_conn *c = ctx;

	(void)a;
	(void)b;
	(void)d;
	(void)e;
	if (cpx_boot_ns() - c->heard_ns > c->silent_ms * 1000000LL)
		return 1;
	c->line_result = c->tick(c->ctx);
	return c->line_result != 0;
}

int cpx_etcd_stream(struct cpx_etcd_conn *c, const char *path, json_t *req, int silent_ms,
		    cpx_etcd_line line, int (*tick)(void *ctx), void *ctx, struct cpx_err *err)
{
	CPX_AUTO_FREE char *body = req ? json_dumps(req, JSON_COMPACT) : NULL;
	CURLcode rc;
	int r = 0;

	json_decref(req);
	if (*c->where.user && !*c->token)
		r = log_in(c, err);
	if (r < 0 || !body || !ready(c)) {
		next_endpoint(c);
		return r < 0 ? r : cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	}
	c->line = line;
	c->tick = tick;
	c->ctx = ctx;
	c->line_result = 0;
	c->silent_ms = silent_ms;
	c->heard_ns = cpx_boot_ns();
	prepare(c, path, body);
	api.setopt(c->curl, CURLOPT_WRITEFUNCTION, on_stream);
	api.setopt(c->curl, CURLOPT_TIMEOUT_MS, 0L);
	api.setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)c->timeout_ms);
	api.setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_tick);
	api.setopt(c->curl, CURLOPT_XFERINFODATA, c);
	api.setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
	rc = api.perform(c->curl);
	r = c->line_result;
	if (r < 0)
		cpx_err_set(err, r, "etcd at %s ended a watch", c->where.endpoint[c->at]);
	else if (!r && rc == CURLE_ABORTED_BY_CALLBACK)
		r = cpx_err_set(err, CPX_E_TIMEOUT, "etcd at %s is silent",
				c->where.endpoint[c->at]);
	else if (!r)
		r = failed(c, rc, err);
	c->token[0] = 0; /* it may have run out meanwhile */
	next_endpoint(c);
	return r;
}
