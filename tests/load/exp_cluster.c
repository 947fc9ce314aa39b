/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes with the core that chpoxd runs, a registry that always answers, and keepers that only
 * take their time. The shell of a node passes on the records that name it, that of the placer
 * all of them (a list is one request either way), and numbers its jobs by itself.
 */
#include "exp.h"

#include <stdlib.h>
#include <string.h>

#define SEC 1000000000ll
#define MSEC 1000000ll
#define TICK (SEC / 4)
#define FULL 64	 /* up to so many nodes all are told all */
#define KEPT 512 /* figures kept by others than the placer, of more nodes than that */
#define START_S 0.3
#define MEM_RATE 400.0 /* MiB/s, at each end of a move */
#define BACK_S 60

enum kind { TO_CORE, TO_REG, LISTED, ENDS, STARTED, HELD, ARRIVES };
struct msg {
	struct cpx_core_event ev;
	struct cpx_core_rec rec;
	struct cpx_core_req req;
	struct cpx_gossip_msg gossip;
};
struct event {
	int64_t at;
	uint64_t order, tag;
	enum kind kind;
	uint32_t node, job;
	struct msg *msg; /* owned */
};
enum state { GONE, STARTING, RUNS, HOLDING, STILL };
struct copy {
	uint32_t job;
	enum state state;
	uint64_t epoch, lease;
	int64_t at;
};
struct host {
	struct cpx_core *core;
	struct share cpu;
	struct cpx_load_meter meter;
	uint64_t adder, serial, lease;
	uint32_t looks, *map, nmap, map_room;
	struct copy *copy;
	uint32_t ncopies, copies_room;
};
struct cluster {
	struct exp *x;
	struct exp_cluster *c;
	struct host *h;
	int64_t now;
	struct event *heap;
	uint64_t order, rev;
	uint32_t nheap, heap_room, placer, open;
	struct cpx_core_rec *rec;
	double *left;
	uint32_t *before; /* where a job was moved from last .. */
	int64_t *moved;	  /* .. and when */
};

static bool sooner(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void post(struct cluster *k, struct event e)
{
	uint32_t i;

	if (k->nheap == k->heap_room) {
		k->heap_room = k->heap_room * 2 + 1024;
		k->heap = exp_need(realloc(k->heap, k->heap_room * sizeof(*k->heap)));
	}
	e.order = k->order++;
	for (i = k->nheap++; i && sooner(&e, &k->heap[(i - 1) / 2]); i = (i - 1) / 2)
		k->heap[i] = k->heap[(i - 1) / 2];
	k->heap[i] = e;
}

static struct event take(struct cluster *k)
{
	struct event out = k->heap[0], last = k->heap[--k->nheap];
	uint32_t i = 0, child;

	while ((child = 2 * i + 1) < k->nheap) {
		if (child + 1 < k->nheap && sooner(&k->heap[child + 1], &k->heap[child]))
			child++;
		if (!sooner(&k->heap[child], &last))
			break;
		k->heap[i] = k->heap[child];
		i = child;
	}
	if (k->nheap)
		k->heap[i] = last;
	return out;
}

static double seconds(const struct cluster *k)
{
	return (double)k->now / 1e9;
}

static int64_t wire(struct cluster *k)
{
	return k->now + MSEC + (int64_t)(exp_draw(k->x) % (2 * MSEC));
}

static struct msg *message(enum cpx_core_ev_kind kind)
{
	struct msg *m = exp_need(calloc(1, sizeof(*m)));

	m->ev.kind = kind;
	return m;
}

static void to_core(struct cluster *k, uint32_t node, struct msg *m)
{
	post(k, (struct event){ wire(k), 0, 0, TO_CORE, node, 0, m });
}

/* The node's own number of a job, and back. */
static bool knows_all(const struct cluster *k, uint32_t node)
{
	return k->x->nnodes <= FULL || node == k->placer;
}

static uint32_t local(struct cluster *k, uint32_t node, uint32_t job)
{
	struct host *h = &k->h[node];
	uint32_t i;

	if (knows_all(k, node))
		return job;
	for (i = h->nmap; i--;)
		if (h->map[i] == job)
			return i;
	if (h->nmap == h->map_room) {
		h->map_room = h->map_room * 2 + 8;
		h->map = exp_need(realloc(h->map, h->map_room * sizeof(*h->map)));
	}
	h->map[h->nmap] = job;
	return h->nmap++;
}

static uint32_t global(const struct cluster *k, uint32_t node, uint32_t job)
{
	return knows_all(k, node) ? job : k->h[node].map[job];
}

static void set_rec(struct cluster *k, struct msg *m, uint32_t node, uint32_t job)
{
	m->rec = k->rec[job];
	m->rec.job = m->ev.job = local(k, node, job);
}

static void next_end(struct cluster *k, uint32_t node)
{
	struct host *h = &k->h[node];
	uint32_t job = 0;
	double at = share_next(&h->cpu, &job);

	h->serial++;
	if (at >= 0 && at < 1e8)
		post(k, (struct event){ (int64_t)(at * 1e9), 0, h->serial, ENDS, node, job,
					NULL });
}

static struct copy *find(struct cluster *k, uint32_t node, uint32_t job)
{
	struct host *h = &k->h[node];
	uint32_t i;

	for (i = 0; i < h->ncopies; i++)
		if (h->copy[i].job == job)
			return &h->copy[i];
	return NULL;
}

static void runs(struct cluster *k, uint32_t node, struct copy *c, bool on)
{
	struct host *h = &k->h[node];

	share_to(&h->cpu, seconds(k));
	if (on)
		share_add(&h->cpu, c->job, k->left[c->job]);
	else if (c->state == RUNS)
		k->left[c->job] = share_remove(&h->cpu, c->job);
	c->state = on ? RUNS : STILL;
	next_end(k, node);
}

static void let_go(struct cluster *k, uint32_t node, struct copy *c)
{
	struct host *h = &k->h[node];

	runs(k, node, c, false);
	share_mem(&h->cpu, -(int64_t)k->x->job[c->job].mem);
	*c = h->copy[--h->ncopies];
	next_end(k, node);
}

static void keeper_says(struct cluster *k, uint32_t node, const struct copy *c,
			enum cpx_core_ev_kind kind)
{
	struct msg *m = message(kind);

	m->ev.job = local(k, node, c->job);
	m->ev.epoch = c->epoch;
	m->ev.lease = c->lease;
	to_core(k, node, m);
}

static double mem_time(const struct cluster *k, uint32_t job)
{
	return k->x->job[job].mem / MEM_RATE;
}

/* A job that was moved is here: was that of any use? */
static void judge(struct cluster *k, uint32_t node, uint32_t job)
{
	uint32_t from = k->before[job];
	double sa = k->x->node[from].speed, sb = k->x->node[node].speed;
	double na = k->h[from].ncopies + 1, nb = k->h[node].ncopies;
	bool no_faster = nb / sb >= na / sa;
	bool no_less = (2 * nb - 1) / sb >= (2 * na - 1) / sa;

	if (seconds(k) >= k->c->from)
		k->c->needless += no_faster && no_less;
}

static void start(struct cluster *k, uint32_t node, uint32_t job, uint64_t epoch)
{
	struct host *h = &k->h[node];
	struct copy *c;

	if (h->ncopies == h->copies_room) {
		h->copies_room = h->copies_room * 2 + 8;
		h->copy = exp_need(realloc(h->copy, h->copies_room * sizeof(*h->copy)));
	}
	c = &h->copy[h->ncopies++];
	*c = (struct copy){ job, STARTING, epoch, h->lease, k->now };
	share_to(&h->cpu, seconds(k));
	share_mem(&h->cpu, k->x->job[job].mem);
	next_end(k, node);
	if (k->before[job])
		judge(k, node, job);
	post(k,
	     (struct event){
		     k->now + (int64_t)((START_S + (epoch > 1 ? mem_time(k, job) : 0)) * 1e9),
		     0, epoch, STARTED, node, job, NULL });
	k->c->last_start = seconds(k);
}

static void keeper(struct cluster *k, uint32_t node, const struct cpx_core_act *a)
{
	uint32_t job = global(k, node, a->job);
	struct copy *c = find(k, node, job);

	if (a->kind == CPX_ACT_START) {
		start(k, node, job, a->epoch);
	} else if (!c) {
		struct copy none = { .job = job, .epoch = a->epoch };

		keeper_says(k, node, &none, CPX_EV_ENDED);
	} else if (a->kind == CPX_ACT_HOLD) {
		runs(k, node, c, false);
		c->state = HOLDING;
		post(k, (struct event){ k->now + (int64_t)((START_S + mem_time(k, job)) * 1e9),
					0, c->epoch, HELD, node, job, NULL });
	} else if (a->kind == CPX_ACT_UNHOLD) {
		runs(k, node, c, true);
	} else if (a->kind == CPX_ACT_KILL) {
		keeper_says(k, node, c, CPX_EV_ENDED);
		let_go(k, node, c);
	}
}

static void step(struct cluster *k, uint32_t node, const struct cpx_core_event *ev);

static void offer(struct cluster *k, uint32_t node, const struct cpx_core_act *a)
{
	struct msg *m = message(CPX_EV_OFFER);

	m->ev.job = global(k, node, a->job);
	m->ev.node = a->target;
	m->ev.epoch = a->epoch;
	m->ev.need = a->need;
	m->ev.used_ms = a->used_ms;
	m->gossip.e[0].f = a->figures;
	to_core(k, a->node, m);
}

static void act(struct cluster *k, uint32_t node, const struct cpx_core_act *a)
{
	struct msg *m;

	switch (a->kind) {
	case CPX_ACT_REQUEST:
		m = message(0);
		m->req = a->req;
		if (a->req.kind == CPX_REQ_SWAP || a->req.kind == CPX_REQ_GET)
			m->req.rec.job = global(k, node, a->req.rec.job);
		post(k, (struct event){ wire(k), 0, 0, TO_REG, node, 0, m });
		break;
	case CPX_ACT_GOSSIP:
		m = message(CPX_EV_GOSSIP);
		m->gossip = *a->gossip;
		to_core(k, a->node, m);
		break;
	case CPX_ACT_OFFER:
		offer(k, node, a);
		break;
	case CPX_ACT_LEASE:
	case CPX_ACT_REPORT:
		break;
	default:
		keeper(k, node, a);
		break;
	}
}

static void step(struct cluster *k, uint32_t node, const struct cpx_core_event *ev)
{
	const struct cpx_core_act *acts;
	int i, n;

	if (!k->h[node].core)
		return;
	k->c->steps++;
	n = cpx_core_step(k->h[node].core, ev, k->now, exp_draw(k->x), &acts);
	for (i = 0; i < n; i++)
		act(k, node, &acts[i]);
}

/* The registry. */
static void tell_node(struct cluster *k, uint32_t about, uint32_t to)
{
	struct msg *m = message(CPX_EV_NODE);

	m->ev.node = about;
	m->ev.lease = k->h[about].lease;
	m->ev.rev = k->rev;
	to_core(k, to, m);
}

static void tell_rec(struct cluster *k, uint32_t job, const struct cpx_core_rec *old)
{
	const struct cpx_core_rec *r = &k->rec[job];
	uint32_t i, n = k->x->nnodes,
		    to[5] = { k->placer, r->owner, r->place, old->owner, old->place };

	for (i = 0; n <= FULL && i < n; i++) {
		struct msg *m = message(CPX_EV_RECORD);

		set_rec(k, m, i + 1, job);
		to_core(k, i + 1, m);
	}
	for (i = 0; n > FULL && i < 5; i++) {
		struct msg *m;

		if (!to[i] || (i && to[i] == to[i - 1]))
			continue;
		m = message(CPX_EV_RECORD);
		set_rec(k, m, to[i], job);
		to_core(k, to[i], m);
	}
}

/* A move is decided: how many are on their way there that the placer does not see yet? */
static void decided(struct cluster *k, const struct cpx_core_rec *r)
{
	const struct cpx_gossip_entry *e =
		cpx_gossip_get(cpx_core_gossip(k->h[k->placer].core), r->place);
	const struct host *h = &k->h[r->place];
	uint32_t i, unseen = 0;

	for (i = 0; i < k->x->njobs; i++)
		unseen += k->rec[i].place == r->place && k->rec[i].state < CPX_CORE_DONE;
	for (i = 0; i < h->ncopies; i++)
		unseen += !e || h->copy[i].at / MSEC > e->at_ms;
	if (unseen > k->c->unseen)
		k->c->unseen = unseen;
}

static void moving(struct cluster *k, const struct cpx_core_rec *old,
		   const struct cpx_core_rec *r)
{
	bool counts = seconds(k) >= k->c->from;

	if (r->owner && r->epoch > 1 && old->state == CPX_CORE_MOVING) {
		k->c->moves += counts;
		if (r->owner == k->before[r->job] && k->now < k->moved[r->job] + BACK_S * SEC)
			k->c->needless += counts;
		k->c->last_move = seconds(k);
	}
	if (old->owner && !r->owner && r->state == CPX_CORE_MOVING) {
		k->before[r->job] = old->owner;
		k->moved[r->job] = k->now;
	}
}

static void swap(struct cluster *k, const struct cpx_core_req *q, struct msg *m)
{
	struct cpx_core_rec old = k->rec[q->rec.job], *r = &k->rec[q->rec.job];

	if (r->version != q->rec.version) {
		m->ev.result = CPX_ANS_CONFLICT;
		return;
	}
	*r = q->rec;
	r->version = ++k->rev;
	moving(k, &old, r);
	if (old.owner && r->place && !old.place)
		decided(k, r);
	tell_rec(k, r->job, &old);
}

static void elect(struct cluster *k, uint32_t node, struct msg *m)
{
	uint32_t i;

	for (i = 1; !k->placer && i <= k->x->nnodes; i++) {
		struct msg *to = message(CPX_EV_PLACER);

		to->ev.lease = k->h[node].lease;
		to->ev.rev = k->rev + 1;
		to_core(k, i, to);
	}
	if (!k->placer) {
		k->placer = node;
		k->rev++;
	}
	m->ev.lease = k->h[k->placer].lease;
	m->ev.rev = k->rev;
}

static void request(struct cluster *k, const struct event *e)
{
	const struct cpx_core_req *q = &e->msg->req;
	struct msg *m = message(CPX_EV_ANSWER);
	struct host *h = &k->h[e->node];
	bool counts = seconds(k) >= k->c->from;
	uint32_t i;

	m->ev.id = q->id;
	k->c->requests += counts;
	switch (q->kind) {
	case CPX_REQ_JOIN:
		h->lease = m->ev.lease = 1000 + e->node;
		k->rev++;
		for (i = 1; k->now > SEC && i <= k->x->nnodes; i++)
			tell_node(k, e->node, i);
		break;
	case CPX_REQ_RENEW:
		k->c->renewals += counts;
		m->ev.lease = q->alive;
		break;
	case CPX_REQ_ELECT:
		elect(k, e->node, m);
		break;
	case CPX_REQ_LIST:
		k->c->lists += counts;
		m->ev.kind = CPX_EV_LISTED;
		/* the first ones wait until all are there */
		post(k, (struct event){ k->now < SEC ? SEC : wire(k), 0, 0, LISTED, e->node, 0,
					m });
		return;
	case CPX_REQ_SWAP:
		swap(k, q, m);
		/* fall through */
	case CPX_REQ_GET:
		set_rec(k, m, e->node, q->rec.job);
		m->ev.rec = &m->rec;
		break;
	}
	to_core(k, e->node, m);
}

static void hear_list(struct cluster *k, uint32_t node, const struct msg *m)
{
	struct cpx_core_event ev = { .kind = CPX_EV_NODE, .rev = k->rev };
	uint32_t i;

	for (i = 1; i <= k->x->nnodes; i++) {
		ev.node = i;
		ev.lease = k->h[i].lease;
		step(k, node, &ev);
	}
	ev = (struct cpx_core_event){ .kind = CPX_EV_RECORD };
	for (i = 0; i < k->x->njobs; i++) {
		struct cpx_core_rec r = k->rec[i];

		if (!r.version || (!knows_all(k, node) && r.owner != node && r.place != node))
			continue;
		r.job = ev.job = local(k, node, i);
		ev.rec = &r;
		step(k, node, &ev);
	}
	ev = (struct cpx_core_event){ .kind = CPX_EV_LISTED, .rev = k->rev, .id = m->ev.id };
	step(k, node, &ev);
}

static void arrives(struct cluster *k, uint32_t job)
{
	const struct exp_job *j = &k->x->job[job];
	struct cpx_core_rec r = { .need = { CPX_LOAD_ONE, j->mem, 0 }, .want = j->want };
	struct cpx_core_event ev = { .kind = CPX_EV_RUN, .id = 1 + job, .rec = &r };

	r.job = ev.job = local(k, j->from, job);
	step(k, j->from, &ev);
}

static void ends(struct cluster *k, const struct event *e)
{
	struct copy *c = find(k, e->node, e->job);

	if (!c || c->state != RUNS || e->tag != k->h[e->node].serial)
		return;
	keeper_says(k, e->node, c, CPX_EV_EXITED);
	k->x->job[e->job].end = seconds(k);
	k->open--;
	let_go(k, e->node, c);
}

static void one(struct cluster *k, struct event *e)
{
	struct copy *c;

	switch (e->kind) {
	case TO_CORE:
		if (e->msg->ev.kind == CPX_EV_RECORD)
			e->msg->ev.rec = &e->msg->rec;
		e->msg->ev.gossip = &e->msg->gossip;
		e->msg->ev.figures = &e->msg->gossip.e[0].f;
		step(k, e->node, &e->msg->ev);
		break;
	case TO_REG:
		request(k, e);
		break;
	case LISTED:
		hear_list(k, e->node, e->msg);
		break;
	case ENDS:
		ends(k, e);
		break;
	case STARTED:
		c = find(k, e->node, e->job);
		if (c && c->epoch == e->tag && c->state == STARTING) {
			runs(k, e->node, c, true);
			keeper_says(k, e->node, c, CPX_EV_STARTED);
		}
		break;
	case HELD:
		c = find(k, e->node, e->job);
		if (c && c->epoch == e->tag && c->state == HOLDING) {
			c->state = STILL;
			keeper_says(k, e->node, c, CPX_EV_HELD);
		}
		break;
	case ARRIVES:
		arrives(k, e->job);
		break;
	}
	free(e->msg);
}

static void measure(struct cluster *k, uint32_t node)
{
	struct host *h = &k->h[node];
	struct cpx_load_figures f = { .speed = h->cpu.speed,
				      .ncpus = 1,
				      .mem_total = h->cpu.mem_total };
	uint32_t i;

	cpx_load_second(&h->meter, h->adder, h->looks);
	h->adder = h->looks = 0;
	f.mean = cpx_load_mean(&h->meter);
	f.upper = cpx_load_upper(&h->meter);
	f.mem_free = h->cpu.mem < f.mem_total ? f.mem_total - (uint32_t)h->cpu.mem : 0;
	share_to(&h->cpu, seconds(k));
	for (i = 0; i < h->cpu.n; i++) {
		const struct exp_job *j = &k->x->job[h->cpu.job[i]];
		struct cpx_core_event ev = { .kind = CPX_EV_USED,
					     .job = local(k, node, h->cpu.job[i]),
					     .need = { CPX_LOAD_ONE, j->mem, 0 } };

		ev.used_ms = (uint64_t)(((j->work < 0 ? 1e9 : j->work) - h->cpu.left[i]) * 1e3);
		step(k, node, &ev);
	}
	step(k, node, &(struct cpx_core_event){ .kind = CPX_EV_FIGURES, .figures = &f });
}

static void tick(struct cluster *k, uint32_t node, uint64_t turn)
{
	struct host *h = &k->h[node];

	if (seconds(k) < k->x->node[node].joins)
		return;
	h->adder += h->cpu.n;
	h->looks++;
	step(k, node, &(struct cpx_core_event){ .kind = CPX_EV_TICK });
	if (turn % 4 == 0)
		measure(k, node);
}

static void boot(struct cluster *k)
{
	struct cpx_core_config cfg = CPX_CORE_DEFAULTS;
	uint32_t i;

	for (i = 1; i <= k->x->nnodes; i++) {
		struct host *h = &k->h[i];

		cfg.self = i;
		cfg.move_ms = 3000;
		cfg.figures_kept = i > 1 && k->x->nnodes > KEPT ? KEPT : 0;
		if (cpx_core_open(&cfg, &h->core, NULL) < 0)
			exp_need(NULL);
		h->cpu.speed = k->x->node[i].speed;
		h->cpu.mem_total = k->x->node[i].mem;
		cpx_load_meter_init(&h->meter, 1, h->cpu.speed);
	}
	for (i = 0; i < k->x->njobs; i++) {
		struct exp_job *j = &k->x->job[i];

		k->left[i] = j->work < 0 ? 1e9 : j->work;
		post(k,
		     (struct event){ (int64_t)(j->at * 1e9), 0, 0, ARRIVES, j->from, i, NULL });
		j->end = -1;
	}
}

static void close_all(struct cluster *k)
{
	uint32_t i;

	for (i = 1; i <= k->x->nnodes; i++) {
		struct host *h = &k->h[i];

		if (k->c->at_node)
			k->c->at_node[i] = h->ncopies;
		cpx_core_close(h->core);
		free(h->cpu.job);
		free(h->cpu.left);
		free(h->map);
		free(h->copy);
	}
	for (i = 0; i < k->nheap; i++)
		free(k->heap[i].msg);
	free(k->heap);
	free(k->h);
	free(k->rec);
	free(k->left);
	free(k->before);
	free(k->moved);
}

void cluster_run(struct exp *x, struct exp_cluster *c)
{
	struct cluster k = { .x = x, .c = c, .rev = 1, .open = x->njobs };
	uint64_t turn;
	uint32_t i;

	k.h = exp_need(calloc(x->nnodes + 1, sizeof(*k.h)));
	k.rec = exp_need(calloc(x->njobs, sizeof(*k.rec)));
	k.left = exp_need(calloc(x->njobs, sizeof(*k.left)));
	k.before = exp_need(calloc(x->njobs, sizeof(*k.before)));
	k.moved = exp_need(calloc(x->njobs, sizeof(*k.moved)));
	boot(&k);
	/* each node ticks at its own moment of a quarter of a second, node 1 first of all */
	for (turn = 0; seconds(&k) < c->until && (k.open || c->quiet); turn++)
		for (i = 1; i <= x->nnodes; i++) {
			int64_t at = (int64_t)turn * TICK + TICK * (i - 1) / x->nnodes;

			while (k.nheap && k.heap[0].at <= at) {
				struct event e = take(&k);

				k.now = e.at;
				one(&k, &e);
			}
			k.now = at;
			tick(&k, i, turn);
		}
	close_all(&k);
}
