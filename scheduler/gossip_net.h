/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gossip_net.h - datagrams of gossip and offers over UDP, on a libuv loop.
 *
 * Everything goes out and comes in authenticated with the cluster key, each kind under a label
 * of its own. What is not authentic, too long, out of range or an offer that was heard before
 * is dropped without a word and without an answer; nothing is kept of it. Not for threads.
 */
#ifndef CPX_SCHEDULER_GOSSIP_NET_H
#define CPX_SCHEDULER_GOSSIP_NET_H

#include <uv.h>

#include "cluster_key.h"
#include "offer.h"

struct cpx_gossip_net;

/* What is handed on is good until the call returns. Ages are by CLOCK_BOOTTIME in ms. */
struct cpx_gossip_net_ops {
	void (*gossip)(void *ctx, const struct cpx_gossip_msg *m);
	void (*offer)(void *ctx, const struct cpx_offer *o);
};

/* @at: address and port to be heard at; port 0: any. @key: copied. */
int cpx_gossip_net_open(uv_loop_t *loop, const struct cpx_cluster_key *key,
			const struct sockaddr *at, const struct cpx_gossip_net_ops *ops,
			void *ctx, struct cpx_gossip_net **out, struct cpx_err *err);
/* The handle ends in the loop's next turn. NULL is fine. */
void cpx_gossip_net_close(struct cpx_gossip_net *g);
/* The port that is listened on; 0: cannot be told. */
uint16_t cpx_gossip_net_port(const struct cpx_gossip_net *g);

/* One datagram. What cannot be sent now is lost, as any datagram may be: CPX_E_SYS. */
int cpx_gossip_net_send(struct cpx_gossip_net *g, const struct sockaddr *to,
			const struct cpx_gossip_msg *m);
/* The same; its sequence number is given here. */
int cpx_gossip_net_offer(struct cpx_gossip_net *g, const struct sockaddr *to,
			 const struct cpx_offer *o);

struct cpx_gossip_net_count {
	uint64_t sent, heard, refused;
};
struct cpx_gossip_net_count cpx_gossip_net_count(const struct cpx_gossip_net *g);

#endif
