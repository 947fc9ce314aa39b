/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See gossip_net.h. A datagram is read into a buffer one byte longer than any may be, so that
 * one that was cut is seen to be too long.
 */
#include "gossip_net.h"

#include <stdlib.h>
#include <string.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/err.h"

#define LABEL_GOSSIP "gossip"
#define LABEL_OFFER "offer"

struct heard {
	uint64_t life, seq;
};

struct cpx_gossip_net {
	uv_udp_t udp;
	struct cpx_cluster_key key;
	struct cpx_gossip_net_ops ops;
	void *ctx;
	uint8_t in[CPX_GOSSIP_MAX + 1];
	struct heard *heard; /* last offer of each node */
	uint32_t nheard;
	uint64_t offers;
	struct cpx_gossip_net_count count;
};

/* A tag that cannot be made fits nothing: it is no HMAC of anything. */
static void mac(void *key, const char *label, const uint8_t *data, size_t len, uint8_t *tag)
{
	static const uint8_t zero[CPX_GOSSIP_TAG];

	if (cpx_key_mac(key, label, data, len, tag) < 0)
		memcpy(tag, zero, sizeof(zero));
}

static void mac_gossip(void *key, const uint8_t *data, size_t len, uint8_t *tag)
{
	mac(key, LABEL_GOSSIP, data, len, tag);
}

static void mac_offer(void *key, const uint8_t *data, size_t len, uint8_t *tag)
{
	mac(key, LABEL_OFFER, data, len, tag);
}

static int64_t now_ms(void)
{
	return cpx_boot_ns() / 1000000;
}

/* Has this offer, or a later one of the node, been heard? */
static bool again(struct cpx_gossip_net *g, const struct cpx_offer *o)
{
	uint32_t node = o->from.node, n = (node + 16) & ~15u;
	struct heard *h;

	if (node >= g->nheard) {
		h = realloc(g->heard, n * sizeof(*h));
		if (!h)
			return true;
		memset(h + g->nheard, 0, (n - g->nheard) * sizeof(*h));
		g->heard = h;
		g->nheard = n;
	}
	h = &g->heard[node];
	if (o->from.life < h->life || (o->from.life == h->life && o->seq <= h->seq))
		return true;
	*h = (struct heard){ o->from.life, o->seq };
	return false;
}

static bool take(struct cpx_gossip_net *g, size_t len)
{
	struct cpx_gossip_msg m;
	struct cpx_offer o;

	if (cpx_gossip_decode(g->in, len, now_ms(), mac_gossip, &g->key, &m, NULL) == 0) {
		g->ops.gossip(g->ctx, &m);
		return true;
	}
	if (cpx_offer_decode(g->in, len, now_ms(), mac_offer, &g->key, &o, NULL) == 0 &&
	    !again(g, &o)) {
		g->ops.offer(g->ctx, &o);
		return true;
	}
	return false;
}

static void on_room(uv_handle_t *h, size_t size, uv_buf_t *buf)
{
	struct cpx_gossip_net *g = h->data;

	(void)size;
	*buf = uv_buf_init((char *)g->in, sizeof(g->in));
}

static void on_datagram(uv_udp_t *udp, ssize_t n, const uv_buf_t *buf,
			const struct sockaddr *from, unsigned int flags)
{
	struct cpx_gossip_net *g = udp->data;

	(void)buf;
	if (n <= 0 || !from)
		return; /* nothing more, or an error of an earlier datagram that was sent */
	if (!(flags & UV_UDP_PARTIAL) && take(g, (size_t)n))
		g->count.heard++;
	else
		g->count.refused++;
}

static void on_closed(uv_handle_t *h)
{
	struct cpx_gossip_net *g = h->data;

	explicit_bzero(&g->key, sizeof(g->key));
	free(g->heard);
	free(g);
}

void cpx_gossip_net_close(struct cpx_gossip_net *g)
{
	if (g)
		uv_close((uv_handle_t *)&g->udp, on_closed);
}

int cpx_gossip_net_open(uv_loop_t *loop, const struct cpx_cluster_key *key,
			const struct sockaddr *at, const struct cpx_gossip_net_ops *ops,
			void *ctx, struct cpx_gossip_net **out, struct cpx_err *err)
{
	struct cpx_gossip_net *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	g->key = *key;
	g->ops = *ops;
	g->ctx = ctx;
	r = uv_udp_init(loop, &g->udp);
	if (r < 0) {
		free(g);
		return cpx_err_set(err, CPX_E_SYS, "no socket for gossip: %s", uv_strerror(r));
	}
	g->udp.data = g;
	r = uv_udp_bind(&g->udp, at, 0);
	if (r >= 0)
		r = uv_udp_recv_start(&g->udp, on_room, on_datagram);
	if (r < 0) {
		cpx_gossip_net_close(g);
		return cpx_err_set(err, CPX_E_SYS, "cannot listen for gossip: %s",
				   uv_strerror(r));
	}
	*out = g;
	return 0;
}

uint16_t cpx_gossip_net_port(const struct cpx_gossip_net *g)
{
	struct sockaddr_storage at;
	int len = sizeof(at);

	if (uv_udp_getsockname(&g->udp, (struct sockaddr *)&at, &len) < 0)
		return 0;
	return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
					      : ((struct sockaddr_in *)&at)->sin_port);
}

static int send_to(struct cpx_gossip_net *g, const struct sockaddr *to, uint8_t *data,
		   size_t len)
{
	uv_buf_t buf = uv_buf_init((char *)data, (unsigned int)len);

	if (uv_udp_try_send(&g->udp, &buf, 1, to) < 0)
		return CPX_E_SYS;
	g->count.sent++;
	return 0;
}

int cpx_gossip_net_send(struct cpx_gossip_net *g, const struct sockaddr *to,
			const struct cpx_gossip_msg *m)
{
	uint8_t out[CPX_GOSSIP_MAX];

	return send_to(g, to, out, cpx_gossip_encode(m, now_ms(), mac_gossip, &g->key, out));
}

int cpx_gossip_net_offer(struct cpx_gossip_net *g, const struct sockaddr *to,
			 const struct cpx_offer *o)
{
	struct cpx_offer numbered = *o;
	uint8_t out[CPX_OFFER_MAX];

	numbered.seq = ++g->offers;
	return send_to(g, to, out, cpx_offer_encode(&numbered, mac_offer, &g->key, out));
}

struct cpx_gossip_net_count cpx_gossip_net_count(const struct cpx_gossip_net *g)
{
	return g->count;
}
