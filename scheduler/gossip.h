/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gossip.h - who is how busy: one datagram a node a second.
 *
 * Pure. Every node keeps the newest figures of all others and sends its own and the freshest of
 * the rest to one node at random. Nobody is asked, nothing is answered. Ages cross the wire,
 * not times, so clocks need not agree. A node is known by its number and its life (its lease);
 * the figures of a newer life replace those of an older one whatever their age.
 *
 * Datagram, little endian: 8 bytes magic, u32 sender, u16 entries, u16 zero, u64 sequence
 * (grows within a life: an old datagram sent again is dropped), entries of CPX_GOSSIP_ENTRY
 * bytes, CPX_GOSSIP_TAG bytes of authentication over all before. What is refused changes
 * nothing.
 */
#ifndef CPX_SCHEDULER_GOSSIP_H
#define CPX_SCHEDULER_GOSSIP_H

#include "load.h"

struct cpx_err;

#define CPX_GOSSIP_MAX 1200 /* bytes of a datagram */
#define CPX_GOSSIP_HEAD 24
#define CPX_GOSSIP_ENTRY 56
#define CPX_GOSSIP_TAG 32
#define CPX_GOSSIP_WINDOW 20 /* entries a datagram */
#define CPX_GOSSIP_AGE_MAX_MS 600000
#define CPX_NODES_MAX 16384

/* @tag: CPX_GOSSIP_TAG bytes out. */
typedef void (*cpx_gossip_mac)(void *key, const uint8_t *data, size_t len, uint8_t *tag);

struct cpx_gossip_entry {
	uint32_t node; /* 1..CPX_NODES_MAX */
	uint64_t life;
	int64_t at_ms; /* local time that the figures are of */
	struct cpx_load_figures f;
};

struct cpx_gossip_msg {
	uint32_t from;
	uint64_t seq;
	uint32_t n;
	struct cpx_gossip_entry e[CPX_GOSSIP_WINDOW]; /* [0] is the sender's own */
};

/* The last datagram heard from a sender. */
struct cpx_gossip_heard {
	uint64_t life, seq;
};

struct cpx_gossip {
	struct cpx_gossip_entry *e; /* n of them, in no order */
	uint16_t *at;		    /* by node number: 1 + index in e; 0: nothing known */
	struct cpx_gossip_heard *heard;
	uint32_t n, room, nodes, self, keep;
	uint64_t sent;
};

/* @keep: so many nodes' figures at most, the oldest give way; 0: all. */
int cpx_gossip_init(struct cpx_gossip *g, uint32_t self, uint32_t keep);
void cpx_gossip_free(struct cpx_gossip *g);
/* The figures of this node, as of now. */
int cpx_gossip_own(struct cpx_gossip *g, uint64_t life, const struct cpx_load_figures *f,
		   int64_t now_ms);
/* NULL: nothing known. */
const struct cpx_gossip_entry *cpx_gossip_get(const struct cpx_gossip *g, uint32_t node);
/* That life of the node is over: its figures are forgotten. */
void cpx_gossip_forget(struct cpx_gossip *g, uint32_t node, uint64_t life);
/* Next message: own figures and the freshest others. */
void cpx_gossip_make(struct cpx_gossip *g, struct cpx_gossip_msg *out);
/* Take over what is newer. Return: figures taken, CPX_E_NOMEM, CPX_E_CONFLICT: seen before. */
int cpx_gossip_take(struct cpx_gossip *g, const struct cpx_gossip_msg *m);

/* Return: bytes, at most CPX_GOSSIP_MAX. */
size_t cpx_gossip_encode(const struct cpx_gossip_msg *m, int64_t now_ms, cpx_gossip_mac mac,
			 void *key, uint8_t out[CPX_GOSSIP_MAX]);
/* Total. Return: 0, CPX_E_CHECKSUM: not authentic, CPX_E_FORMAT. */
int cpx_gossip_decode(const uint8_t *data, size_t len, int64_t now_ms, cpx_gossip_mac mac,
		      void *key, struct cpx_gossip_msg *out, struct cpx_err *err);

/* For offer.c: its pieces. cpx_gossip_authentic(): @len is at least CPX_GOSSIP_TAG. */
uint8_t *cpx_gossip_put(uint8_t *p, uint64_t v, int bytes);
uint64_t cpx_gossip_get_int(const uint8_t **p, int bytes);
uint8_t *cpx_gossip_put_entry(uint8_t *p, const struct cpx_gossip_entry *e, int64_t now_ms);
bool cpx_gossip_get_entry(const uint8_t **p, struct cpx_gossip_entry *e, int64_t now_ms);
bool cpx_gossip_authentic(const uint8_t *data, size_t len, cpx_gossip_mac mac, void *key);

#endif
