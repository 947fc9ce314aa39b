/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Happy path: connected -> "created" -> hint -> events -> hints.
 *
 * Failures: refused, ended by etcd (no leader), canceled (compacted, no permission), silent:
 * another endpoint after a short pause, from now on, with a hint once it is created.
 */
#include "registry_watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../chpox/base/err.h"
#include "etcd_http.h"

#define PAUSE_NS 300000000L
#define ENDED 1

struct cpx_registry_watch {
	struct cpx_etcd_conn *conn;
	char prefix[CPX_ETCD_KEY_MAX], end[CPX_ETCD_KEY_MAX];
	int silent_ms;
	void (*changed)(void *ctx);
	void *ctx;
	atomic_bool stop;
	pthread_t thread;
};

static int on_line(const json_t *line, void *ctx)
{
	struct cpx_registry_watch *w = ctx;
	struct cpx_etcd_events e;

	/* an error of the stream, or nonsense: begin anew */
	if (cpx_etcd_take_events(line, &e, NULL) < 0 || e.canceled)
		return ENDED;
	if (e.created || e.n)
		w->changed(w->ctx);
	return 0;
}

static int on_tick(void *ctx)
{
	struct cpx_registry_watch *w = ctx;

	return atomic_load(&w->stop) ? ENDED : 0;
}

static void *watching(void *arg)
{
	struct cpx_registry_watch *w = arg;

	while (!atomic_load(&w->stop)) {
		struct timespec nap = { .tv_nsec = PAUSE_NS };

		cpx_etcd_stream(w->conn, "/v3/watch", cpx_etcd_watch(w->prefix, w->end, 0),
				w->silent_ms, on_line, on_tick, w, NULL);
		if (!atomic_load(&w->stop))
			nanosleep(&nap, NULL);
	}
	return NULL;
}

int cpx_registry_watch(const char *url, int silent_ms, void (*changed)(void *ctx), void *ctx,
		       struct cpx_registry_watch **out, struct cpx_err *err)
{
	struct cpx_registry_watch *w;
	struct cpx_etcd_where where;
	int r = cpx_etcd_parse_url(url, &where, err);

	if (r < 0)
		return r;
	w = calloc(1, sizeof(*w));
	if (!w)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	w->silent_ms = silent_ms;
	w->changed = changed;
	w->ctx = ctx;
	atomic_init(&w->stop, false);
	/* a '/' at the end: not those whose prefix begins with ours */
	snprintf(w->prefix, sizeof(w->prefix), "%s/", where.prefix);
	cpx_etcd_prefix_end(w->prefix, w->end);
	r = cpx_etcd_open(&where, CPX_ETCD_TIMEOUT_MS, CPX_ETCD_BUDGET_MS, &w->conn, err);
	if (r >= 0 && pthread_create(&w->thread, NULL, watching, w)) {
		cpx_etcd_close(w->conn);
		r = cpx_err_set(err, CPX_E_SYS, "cannot start a thread");
	}
	if (r < 0) {
		free(w);
		return r;
	}
	*out = w;
	return 0;
}

void cpx_registry_unwatch(struct cpx_registry_watch *w)
{
	if (!w)
		return;
	atomic_store(&w->stop, true);
	pthread_join(w->thread, NULL);
	cpx_etcd_close(w->conn);
	free(w);
}
