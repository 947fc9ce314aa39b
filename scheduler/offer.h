/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * offer.h - a busy node's word to the placer that it would like to be rid of a job.
 *
 * Pure. Datagram, little endian: 8 bytes magic, u32 sender, u32 target, u64 life of the sender,
 * u64 sequence, u64 epoch, u64 used ms, u32 load, memory and image of the job, u32 length of
 * its name, the sender's figures (an entry of gossip), the name, CPX_GOSSIP_TAG bytes of
 * authentication. Jobs' numbers are a node's own, so the name crosses the wire.
 */
#ifndef CPX_SCHEDULER_OFFER_H
#define CPX_SCHEDULER_OFFER_H

#include "../store/image.h"
#include "gossip.h"

#define CPX_OFFER_HEAD 64
#define CPX_OFFER_MAX \
	(CPX_OFFER_HEAD + CPX_GOSSIP_ENTRY + CPX_JOB_NAME_MAX - 1 + CPX_GOSSIP_TAG)

struct cpx_offer {
	struct cpx_gossip_entry from; /* .node, .life, .f; .at_ms: now */
	uint32_t target;
	uint64_t seq, epoch, used_ms;
	struct cpx_load_need need;
	char job[CPX_JOB_NAME_MAX];
};

/* Return: bytes. */
size_t cpx_offer_encode(const struct cpx_offer *o, cpx_gossip_mac mac, void *key,
			uint8_t out[CPX_OFFER_MAX]);
/* Total. Return: 0, CPX_E_CHECKSUM: not authentic, CPX_E_FORMAT. */
int cpx_offer_decode(const uint8_t *data, size_t len, int64_t now_ms, cpx_gossip_mac mac,
		     void *key, struct cpx_offer *out, struct cpx_err *err);

#endif
