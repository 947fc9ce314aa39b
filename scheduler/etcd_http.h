/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * etcd_http.h - requests to etcd: endpoints, fail-over, TLS, tokens, time-outs.
 *
 * libcurl is loaded when the first connection is opened, and only then. A connection belongs to
 * one thread at a time; each has its own TCP connection, so that none waits behind another.
 *
 * A request is tried at one endpoint after the other, each for at most @timeout_ms, until one
 * has answered or @budget_ms are over. So each request must be one that may be done twice.
 *
 * Errors: CPX_E_IO: no endpoint could be connected to, nothing was done. CPX_E_TIMEOUT: no
 * answer; it may have been done, or be done yet. Others: etcd's own refusal.
 */
#ifndef CPX_SCHEDULER_ETCD_HTTP_H
#define CPX_SCHEDULER_ETCD_HTTP_H

#include "etcd_msg.h"

struct cpx_etcd_conn;

#define CPX_ETCD_TIMEOUT_MS 1000
#define CPX_ETCD_BUDGET_MS 4000 /* an election, and a request before and after it */

int cpx_etcd_open(const struct cpx_etcd_where *w, int timeout_ms, int budget_ms,
		  struct cpx_etcd_conn **out, struct cpx_err *err);
void cpx_etcd_close(struct cpx_etcd_conn *c);

/*
 * cpx_etcd_call() - @path (as "/v3/kv/txn") with body @req, which is freed (NULL: out of
 * memory).
 * @sent_ns: when the attempt that was answered began, CLOCK_BOOTTIME; may be NULL.
 */
int cpx_etcd_call(struct cpx_etcd_conn *c, const char *path, json_t *req, json_t **answer,
		  int64_t *sent_ns, struct cpx_err *err);

/*
 * cpx_etcd_stream() - an answer that does not end, line by line, each given to @line as JSON.
 * Ends when @line returns nonzero, with an error when the connection does, and with
 * CPX_E_TIMEOUT when nothing was received for @silent_ms. One endpoint is tried, the next one
 * at the next call.
 */
typedef int (*cpx_etcd_line)(const json_t *line, void *ctx);
/* @tick: called at least every second; nonzero ends the stream. */
int cpx_etcd_stream(struct cpx_etcd_conn *c, const char *path, json_t *req, int silent_ms,
		    cpx_etcd_line line, int (*tick)(void *ctx), void *ctx, struct cpx_err *err);

#endif
