/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See offer.h. */
#include "offer.h"

#include <string.h>

#include "../chpox/base/err.h"
#include "../store/format.h"

static const uint8_t magic[8] = { 'c', 'p', 'x', 'o', 'f', 'r', 0, 1 };

size_t cpx_offer_encode(const struct cpx_offer *o, cpx_gossip_mac mac, void *key,
			uint8_t out[CPX_OFFER_MAX])
{
	uint32_t len = (uint32_t)strlen(o->job);
	uint8_t *p = out;

	memcpy(p, magic, sizeof(magic));
	p = cpx_gossip_put(p + sizeof(magic), o->from.node, 4);
	p = cpx_gossip_put(p, o->target, 4);
	p = cpx_gossip_put(p, o->from.life, 8);
	p = cpx_gossip_put(p, o->seq, 8);
	p = cpx_gossip_put(p, o->epoch, 8);
	p = cpx_gossip_put(p, o->used_ms, 8);
	p = cpx_gossip_put(p, o->need.load, 4);
	p = cpx_gossip_put(p, o->need.mem, 4);
	p = cpx_gossip_put(p, o->need.image, 4);
	p = cpx_gossip_put(p, len, 4);
	p = cpx_gossip_put_entry(p, &o->from, o->from.at_ms);
	memcpy(p, o->job, len);
	p += len;
	mac(key, out, (size_t)(p - out), p);
	return (size_t)(p - out) + CPX_GOSSIP_TAG;
}

static bool get(const uint8_t *p, size_t name, int64_t now_ms, struct cpx_offer *o)
{
	uint32_t from = (uint32_t)cpx_gossip_get_int(&p, 4);
	uint64_t life;

	o->target = (uint32_t)cpx_gossip_get_int(&p, 4);
	life = cpx_gossip_get_int(&p, 8);
	o->seq = cpx_gossip_get_int(&p, 8);
	o->epoch = cpx_gossip_get_int(&p, 8);
	o->used_ms = cpx_gossip_get_int(&p, 8);
	o->need.load = (uint32_t)cpx_gossip_get_int(&p, 4);
	o->need.mem = (uint32_t)cpx_gossip_get_int(&p, 4);
	o->need.image = (uint32_t)cpx_gossip_get_int(&p, 4);
	if (cpx_gossip_get_int(&p, 4) != name || name >= CPX_JOB_NAME_MAX ||
	    !cpx_gossip_get_entry(&p, &o->from, now_ms))
		return false;
	memcpy(o->job, p, name);
	return o->from.node == from && o->from.life == life && o->target &&
	       o->target <= CPX_NODES_MAX && o->epoch && o->need.load <= CPX_LOAD_MAX &&
	       strlen(o->job) == name && cpx_job_name_valid(o->job);
}

int cpx_offer_decode(const uint8_t *data, size_t len, int64_t now_ms, cpx_gossip_mac mac,
		     void *key, struct cpx_offer *out, struct cpx_err *err)
{
	const size_t least = CPX_OFFER_HEAD + CPX_GOSSIP_ENTRY + CPX_GOSSIP_TAG;
	struct cpx_offer o = { 0 };

	if (len <= least || len > CPX_OFFER_MAX || memcmp(data, magic, sizeof(magic)))
		return cpx_err_set(err, CPX_E_FORMAT, "no offer");
	if (!cpx_gossip_authentic(data, len, mac, key))
		return cpx_err_set(err, CPX_E_CHECKSUM, "an offer that is not of this cluster");
	if (!get(data + sizeof(magic), len - least, now_ms, &o))
		return cpx_err_set(err, CPX_E_FORMAT, "an offer with a figure out of range");
	*out = o;
	return 0;
}
