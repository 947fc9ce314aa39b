/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"

#define OUT_MAX (16u << 20) /* a client that reads nothing is dropped */
#define CONNS_PER_USER 256

static void on_poll(uv_poll_t *h, int status, int events);

static void on_closed(uv_handle_t *h)
{
	struct cpxd_conn *c = h->data;

	close(c->fd);
	cpx_proto_in_free(&c->in);
	free(c->out);
	free(c);
}

void cpxd_close(struct cpxd_conn *c)
{
	struct cpxd_conn **p = &c->d->conns;

	if (c->closing)
		return;
	c->closing = true;
	while (*p && *p != c)
		p = &(*p)->next;
	if (*p)
		*p = c->next;
	if (c->keeper)
		cpxd_keeper_gone(c);
	else
		cpxd_client_left(c);
	uv_close((uv_handle_t *)&c->poll, on_closed);
}

static void watch(struct cpxd_conn *c)
{
	if (!c->closing)
		uv_poll_start(&c->poll, UV_READABLE | (c->out_len ? UV_WRITABLE : 0), on_poll);
}

struct cpxd_conn *cpxd_conn_add(struct cpxd *d, int fd)
{
	struct cpxd_conn *c = calloc(1, sizeof(*c));

	if (!c || fcntl(fd, F_SETFL, O_NONBLOCK) || uv_poll_init(&d->loop, &c->poll, fd)) {
		free(c);
		close(fd);
		return NULL;
	}
	c->d = d;
	c->fd = fd;
	c->poll.data = c;
	c->next = d->conns;
	d->conns = c;
	watch(c);
	return c;
}

/* Send what can be sent. Return: false when the connection is dead. */
static bool flush(struct cpxd_conn *c)
{
	while (c->out_len) {
		ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		memmove(c->out, c->out + n, c->out_len - (size_t)n);
		c->out_len -= (size_t)n;
	}
	return true;
}

void cpxd_answer_fd(struct cpxd_conn *c, json_t *msg, const int *fds, size_t n)
{
	CPX_AUTO_FREE uint8_t *frame = NULL;
	ssize_t len = cpx_proto_encode(msg, &frame, NULL);
	size_t sent = 0;
	uint8_t *q;

	json_decref(msg);
	if (c->closing)
		return;
	if (len < 0 || c->out_len + (size_t)len > OUT_MAX) {
		cpxd_close(c);
		return;
	}
	/* descriptors go with the first byte; nothing else can be under way on this connection
	 */
	if (n) {
		if (c->out_len || cpx_send_fds(c->fd, frame, 1, fds, n) < 0) {
			cpxd_close(c);
			return;
		}
		sent = 1;
	}
	q = realloc(c->out, c->out_len + (size_t)len);
	if (!q) {
		cpxd_close(c);
		return;
	}
	memcpy(q + c->out_len, frame + sent, (size_t)len - sent);
	c->out = q;
	c->out_len += (size_t)len - sent;
	if (!flush(c))
		cpxd_close(c);
	else
		watch(c);
}

void cpxd_answer(struct cpxd_conn *c, json_t *msg)
{
	cpxd_answer_fd(c, msg, NULL, 0);
}

void cpxd_fail(struct cpxd_conn *c, const struct cpx_err *err)
{
	cpxd_answer(c, cpx_proto_fail(err));
}

/* A keeper introduces itself on a fresh connection; only root may. */
static bool introduce(struct cpxd_conn *c, const json_t *m)
{
	const char *op = cpx_proto_str(m, "op"), *job = cpx_proto_str(m, "job");
	struct cpxd_conn *old;

	if (!op || strcmp(op, "keeper") || !job || c->uid != 0 || !cpx_job_name_ok(job))
		return false;
	old = cpxd_keeper_of(c->d, job);
	if (old && old != c && !c->epoch &&
	    (uint64_t)cpx_proto_int(m, "epoch", 0) < old->epoch) {
		/* late, of a copy that has been replaced: the new keeper ends it by its lock */
		cpxd_close(c);
		return true;
	}
	if (old && old != c)
		cpxd_close(old);
	c->keeper = true;
	c->starting = !cpx_proto_bool(m, "started");
	strcpy(c->job, job);
	if (!c->epoch) {
		/* an earlier daemon's */
		c->epoch = (uint64_t)cpx_proto_int(m, "epoch", 0);
		c->lease = cpx_proto_int(m, "lease", 0);
		if (!c->starting)
			cpxd_cluster_up(c->d, c->job, c->epoch, c->lease);
	}
	return true;
}

static void serve(struct cpxd_conn *c)
{
	struct cpx_err err = { 0 };
	json_t *m;
	int r = cpx_proto_feed(&c->in, c->fd, &err);

	while (r >= 0 && !c->closing) {
		r = cpx_proto_next(&c->in, &m, &err);
		if (r != 1)
			break;
		if (introduce(c, m))
			;
		else if (c->keeper)
			cpxd_keeper_says(c, m);
		else
			cpxd_request(c, m);
		/* descriptors belong to the message they came with */
		for (size_t i = 0; i < c->in.nfds; i++)
			close(c->in.fds[i]);
		c->in.nfds = 0;
		json_decref(m);
	}
	if (r >= 0)
		return;
	if (r != CPX_E_GONE && !c->keeper)
		cpxd_fail(c, &err);
	cpxd_close(c);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct cpxd_conn *c = h->data;

	if (status < 0 || ((events & UV_WRITABLE) && !flush(c))) {
		cpxd_close(c);
		return;
	}
	if (events & UV_READABLE)
		serve(c);
	watch(c);
}

static unsigned conns_of(const struct cpxd *d, uid_t uid)
{
	unsigned n = 0;

	for (const struct cpxd_conn *c = d->conns; c; c = c->next)
		n += c->uid == uid;
	return n;
}

static void on_connect(uv_poll_t *h, int status, int events)
{
	struct cpxd *d = h->data;
	struct cpxd_conn *c;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int fd;

	(void)events;
	if (status < 0)
		return;
	fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) ||
	    (cred.uid != 0 && conns_of(d, cred.uid) >= CONNS_PER_USER)) {
		close(fd);
		return;
	}
	c = cpxd_conn_add(d, fd);
	if (!c)
		return;
	c->uid = cred.uid;
	c->gid = cred.gid;
	c->pid = cred.pid;
}

int cpxd_listen(struct cpxd *d, struct cpx_err *err)
{
	d->listen_fd = cpx_proto_listen(d->dir, CPX_PROTO_SOCKET, SOCK_STREAM, 0666, err);
	if (d->listen_fd < 0)
		return d->listen_fd;
	d->listen.data = d;
	if (uv_poll_init(&d->loop, &d->listen, d->listen_fd) ||
	    uv_poll_start(&d->listen, UV_READABLE, on_connect))
		return cpx_err_set(err, CPX_E_SYS, "cannot watch the socket");
	return 0;
}

struct cpxd_conn *cpxd_keeper_of(struct cpxd *d, const char *job)
{
	for (struct cpxd_conn *c = d->conns; c; c = c->next)
		if (c->keeper && !strcmp(c->job, job))
			return c;
	return NULL;
}

void cpxd_each_waiter(struct cpxd *d, const char *job, void (*fn)(struct cpxd_conn *c))
{
	/* an answer may close a connection, and with it change the list */
	for (bool again = true; again;) {
		again = false;
		for (struct cpxd_conn *c = d->conns; c && !again; c = c->next)
			if (c->waits && !c->keeper && !strcmp(c->job, job)) {
				c->waits = false;
				fn(c);
				again = true;
			}
	}
}
