/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See gossip.h. Figures lie close together, so that a second costs what is known, not how many
 * nodes there are; what is remembered of every sender is its last sequence number alone. */
#include "gossip.h"

#include <stdlib.h>
#include <string.h>

#include "../chpox/base/err.h"

static const uint8_t magic[8] = { 'c', 'p', 'x', 'g', 's', 'p', 0, 1 };

#define KEEP_LEAST 2 /* its own figures, and another's */

int cpx_gossip_init(struct cpx_gossip *g, uint32_t self, uint32_t keep)
{
	*g = (struct cpx_gossip){ .self = self, .keep = keep ? keep : CPX_NODES_MAX };
	if (g->keep < KEEP_LEAST)
		g->keep = KEEP_LEAST;
	return self && self <= CPX_NODES_MAX ? 0 : CPX_E_INVAL;
}

void cpx_gossip_free(struct cpx_gossip *g)
{
	free(g->e);
	free(g->at);
	free(g->heard);
	*g = (struct cpx_gossip){ 0 };
}

/* The arrays by node number reach to @node. */
static int reach(struct cpx_gossip *g, uint32_t node)
{
	uint32_t n = (node + 16) & ~15u;
	void *at, *heard;

	if (node < g->nodes)
		return 0;
	at = realloc(g->at, n * sizeof(*g->at));
	if (!at)
		return CPX_E_NOMEM;
	g->at = at;
	heard = realloc(g->heard, n * sizeof(*g->heard));
	if (!heard)
		return CPX_E_NOMEM;
	g->heard = heard;
	memset(g->at + g->nodes, 0, (n - g->nodes) * sizeof(*g->at));
	memset(g->heard + g->nodes, 0, (n - g->nodes) * sizeof(*g->heard));
	g->nodes = n;
	return 0;
}

static struct cpx_gossip_entry *find(const struct cpx_gossip *g, uint32_t node)
{
	return node < g->nodes && g->at[node] ? &g->e[g->at[node] - 1] : NULL;
}

/* Those of another node that are older than all; NULL: there is no other. */
static struct cpx_gossip_entry *oldest(struct cpx_gossip *g)
{
	struct cpx_gossip_entry *e, *old = NULL;

	for (e = g->e; e < g->e + g->n; e++)
		if (e->node != g->self && (!old || e->at_ms < old->at_ms))
			old = e;
	return old;
}

/* A place for the figures of a node of which nothing is known; NULL: no memory. */
static struct cpx_gossip_entry *add(struct cpx_gossip *g)
{
	uint32_t room = g->room ? g->room * 2 : 16;
	void *e;

	if (g->n < g->room)
		return &g->e[g->n++];
	if (room > g->keep)
		room = g->keep;
	e = realloc(g->e, room * sizeof(*g->e));
	if (!e)
		return NULL;
	g->e = e;
	g->room = room;
	return &g->e[g->n++];
}

static int put_new(struct cpx_gossip *g, const struct cpx_gossip_entry *new)
{
	struct cpx_gossip_entry *e;

	if (g->n < g->keep) {
		e = add(g);
		if (!e)
			return CPX_E_NOMEM;
	} else {
		e = oldest(g);
		if (new->node != g->self && e->at_ms >= new->at_ms)
			return 0;
		g->at[e->node] = 0;
	}
	*e = *new;
	g->at[e->node] = (uint16_t)(e - g->e + 1);
	return 1;
}

/* Lives are leases, and those of one node only ever grow. */
static bool newer(const struct cpx_gossip_entry *a, const struct cpx_gossip_entry *b)
{
	return a->life != b->life ? a->life > b->life : a->at_ms > b->at_ms;
}

static int take_one(struct cpx_gossip *g, const struct cpx_gossip_entry *e)
{
	struct cpx_gossip_entry *old;

	if (reach(g, e->node) < 0)
		return CPX_E_NOMEM;
	old = find(g, e->node);
	if (!old)
		return put_new(g, e);
	if (!newer(e, old))
		return 0;
	*old = *e;
	return 1;
}

int cpx_gossip_own(struct cpx_gossip *g, uint64_t life, const struct cpx_load_figures *f,
		   int64_t now_ms)
{
	struct cpx_gossip_entry e = { .node = g->self, .life = life, .at_ms = now_ms, .f = *f };
	struct cpx_gossip_entry *own;

	if (reach(g, g->self) < 0)
		return CPX_E_NOMEM;
	own = find(g, g->self);
	if (!own)
		return put_new(g, &e) < 0 ? CPX_E_NOMEM : 0;
	*own = e;
	return 0;
}

const struct cpx_gossip_entry *cpx_gossip_get(const struct cpx_gossip *g, uint32_t node)
{
	return find(g, node);
}

void cpx_gossip_forget(struct cpx_gossip *g, uint32_t node, uint64_t life)
{
	struct cpx_gossip_entry *e = find(g, node);

	if (e && e->life == life)
		e->at_ms = INT64_MIN; /* the life stays: its late figures are not news */
}

void cpx_gossip_make(struct cpx_gossip *g, struct cpx_gossip_msg *out)
{
	const struct cpx_gossip_entry *e;
	uint32_t at;

	out->from = g->self;
	out->seq = ++g->sent;
	out->n = 1;
	out->e[0] = *find(g, g->self);
	for (e = g->e; e < g->e + g->n; e++) {
		if (e->node == g->self || e->at_ms == INT64_MIN)
			continue;
		if (out->n == CPX_GOSSIP_WINDOW && e->at_ms <= out->e[out->n - 1].at_ms)
			continue;
		if (out->n < CPX_GOSSIP_WINDOW)
			out->n++;
		for (at = out->n - 1; at > 1 && out->e[at - 1].at_ms < e->at_ms; at--)
			out->e[at] = out->e[at - 1];
		out->e[at] = *e;
	}
}

int cpx_gossip_take(struct cpx_gossip *g, const struct cpx_gossip_msg *m)
{
	struct cpx_gossip_heard *heard;
	uint64_t life = m->e[0].life;
	uint32_t i;
	int taken = 0, rc;

	if (reach(g, m->from) < 0)
		return CPX_E_NOMEM;
	heard = &g->heard[m->from];
	if (life < heard->life || (life == heard->life && m->seq <= heard->seq))
		return CPX_E_CONFLICT;
	for (i = 0; i < m->n; i++) {
		if (m->e[i].node == g->self)
			continue; /* nobody knows better */
		rc = take_one(g, &m->e[i]);
		if (rc < 0)
			return rc;
		taken += rc;
	}
	/* take_one() may have moved it */
	g->heard[m->from] = (struct cpx_gossip_heard){ life, m->seq };
	return taken;
}

uint8_t *cpx_gossip_put(uint8_t *p, uint64_t v, int bytes)
{
	while (bytes--) {
		*p++ = (uint8_t)v;
		v >>= 8;
	}
	return p;
}

uint64_t cpx_gossip_get_int(const uint8_t **p, int bytes)
{
	uint64_t v = 0;
	int i;

	for (i = 0; i < bytes; i++)
		v |= (uint64_t)(*p)[i] << (8 * i);
	*p += bytes;
	return v;
}

uint8_t *cpx_gossip_put_entry(uint8_t *p, const struct cpx_gossip_entry *e, int64_t now_ms)
{
	int64_t age = now_ms - e->at_ms;

	age = age < 0 ? 0 : age > CPX_GOSSIP_AGE_MAX_MS ? CPX_GOSSIP_AGE_MAX_MS : age;
	p = cpx_gossip_put(p, e->node, 4);
	p = cpx_gossip_put(p, e->life, 8);
	p = cpx_gossip_put(p, (uint64_t)age, 4);
	p = cpx_gossip_put(p, e->f.mean, 4);
	p = cpx_gossip_put(p, e->f.upper, 4);
	p = cpx_gossip_put(p, e->f.speed, 4);
	p = cpx_gossip_put(p, e->f.ncpus, 4);
	p = cpx_gossip_put(p, e->f.mem_total, 4);
	p = cpx_gossip_put(p, e->f.mem_free, 4);
	p = cpx_gossip_put(p, e->f.fetch_mbps, 4);
	p = cpx_gossip_put(p, e->f.jobs_max, 4);
	p = cpx_gossip_put(p, e->f.load_max, 4);
	return cpx_gossip_put(p, e->f.flags, 4);
}

size_t cpx_gossip_encode(const struct cpx_gossip_msg *m, int64_t now_ms, cpx_gossip_mac mac,
			 void *key, uint8_t out[CPX_GOSSIP_MAX])
{
	uint8_t *p = out;
	uint32_t i;

	memcpy(p, magic, sizeof(magic));
	p = cpx_gossip_put(p + sizeof(magic), m->from, 4);
	p = cpx_gossip_put(p, m->n, 2);
	p = cpx_gossip_put(p, 0, 2);
	p = cpx_gossip_put(p, m->seq, 8);
	for (i = 0; i < m->n; i++)
		p = cpx_gossip_put_entry(p, &m->e[i], now_ms);
	mac(key, out, (size_t)(p - out), p);
	return (size_t)(p - out) + CPX_GOSSIP_TAG;
}

bool cpx_gossip_get_entry(const uint8_t **p, struct cpx_gossip_entry *e, int64_t now_ms)
{
	struct cpx_load_figures *f = &e->f;
	uint32_t age;

	e->node = (uint32_t)cpx_gossip_get_int(p, 4);
	e->life = cpx_gossip_get_int(p, 8);
	age = (uint32_t)cpx_gossip_get_int(p, 4);
	e->at_ms = now_ms - age;
	f->mean = (uint32_t)cpx_gossip_get_int(p, 4);
	f->upper = (uint32_t)cpx_gossip_get_int(p, 4);
	f->speed = (uint32_t)cpx_gossip_get_int(p, 4);
	f->ncpus = (uint32_t)cpx_gossip_get_int(p, 4);
	f->mem_total = (uint32_t)cpx_gossip_get_int(p, 4);
	f->mem_free = (uint32_t)cpx_gossip_get_int(p, 4);
	f->fetch_mbps = (uint32_t)cpx_gossip_get_int(p, 4);
	f->jobs_max = (uint32_t)cpx_gossip_get_int(p, 4);
	f->load_max = (uint32_t)cpx_gossip_get_int(p, 4);
	f->flags = (uint32_t)cpx_gossip_get_int(p, 4);
	return e->node && e->node <= CPX_NODES_MAX && e->life && age <= CPX_GOSSIP_AGE_MAX_MS &&
	       f->mean <= CPX_LOAD_MAX && f->upper <= CPX_LOAD_MAX && f->speed && f->ncpus &&
	       f->speed <= CPX_LOAD_MAX && f->ncpus <= 65536 && f->mem_free <= f->mem_total &&
	       f->load_max <= CPX_LOAD_MAX && !(f->flags & ~CPX_NODE_FLAGS);
}

/* In constant time: how much of a tag was right is nobody's business. */
static bool same_tag(const uint8_t *a, const uint8_t *b)
{
	uint8_t d = 0;
	int i;

	for (i = 0; i < CPX_GOSSIP_TAG; i++)
		d |= a[i] ^ b[i];
	return !d;
}

bool cpx_gossip_authentic(const uint8_t *data, size_t len, cpx_gossip_mac mac, void *key)
{
	uint8_t tag[CPX_GOSSIP_TAG];

	mac(key, data, len - CPX_GOSSIP_TAG, tag);
	return same_tag(tag, data + len - CPX_GOSSIP_TAG);
}

int cpx_gossip_decode(const uint8_t *data, size_t len, int64_t now_ms, cpx_gossip_mac mac,
		      void *key, struct cpx_gossip_msg *out, struct cpx_err *err)
{
	struct cpx_gossip_msg m = { 0 };
	const uint8_t *p = data + sizeof(magic);
	uint32_t i;

	if (len < CPX_GOSSIP_HEAD + CPX_GOSSIP_ENTRY + CPX_GOSSIP_TAG || len > CPX_GOSSIP_MAX ||
	    memcmp(data, magic, sizeof(magic)))
		return cpx_err_set(err, CPX_E_FORMAT, "no gossip");
	if (!cpx_gossip_authentic(data, len, mac, key))
		return cpx_err_set(err, CPX_E_CHECKSUM, "gossip that is not of this cluster");
	m.from = (uint32_t)cpx_gossip_get_int(&p, 4);
	m.n = (uint32_t)cpx_gossip_get_int(&p, 2);
	if (cpx_gossip_get_int(&p, 2) || !m.n || m.n > CPX_GOSSIP_WINDOW ||
	    len != CPX_GOSSIP_HEAD + m.n * CPX_GOSSIP_ENTRY + CPX_GOSSIP_TAG)
		return cpx_err_set(err, CPX_E_FORMAT, "gossip of a wrong length");
	m.seq = cpx_gossip_get_int(&p, 8);
	for (i = 0; i < m.n; i++)
		if (!cpx_gossip_get_entry(&p, &m.e[i], now_ms))
			return cpx_err_set(err, CPX_E_FORMAT,
					   "gossip with a figure out of range");
	if (m.e[0].node != m.from)
		return cpx_err_set(err, CPX_E_FORMAT, "gossip whose sender is another");
	*out = m;
	return 0;
}
