/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The placer: one node, elected, writes where jobs run next. Nothing here is needed for safety:
 * each write is a compare-and-swap, so two nodes that both believe to be it only lose races.
 *
 * A job without owner goes to the node where it costs least, the largest jobs first; what was
 * given to a node and does not show in its figures yet is reserved there. A node that does not
 * acquire in time is passed over. A job whose owner's lease is known to have ended is taken
 * from it after the guard: known means that the owner's key was seen without that lease at a
 * revision at which the record already named it (lost()), never that nothing was heard.
 */
#include "core_impl.h"

#include <stdlib.h>
#include <string.h>

#define S 1000000000ll
#define RECOUNT_NS (S / 4)
#define NO_ROOM_NS (2 * S) /* where no node has room, one may have it soon */
#define BACKOFF_MAX (300 * S)

static void reserve(struct held *h, const struct cpx_load_need *n)
{
	h->need.load += n->load;
	h->need.mem += n->mem;
}

/* Does the job show in what is known of its owner's load? A node counts what it has acquired
 * from that moment on (promised() in core.c). */
static bool shows(const struct cpx_core *c, const struct job *j)
{
	const struct cpx_gossip_entry *e = core_fresh(c, j->rec.owner);

	return e && e->at_ms > j->owned_at / 1000000;
}

/* What each node has been given. Return: false: no memory. */
static bool count_held(struct cpx_core *c)
{
	uint32_t i;

	if (!core_grow(c, (void **)&c->held, &c->nheld, sizeof(*c->held), c->nnodes) ||
	    !core_grow(c, (void **)&c->cand, &c->ncand, sizeof(*c->cand), c->nnodes))
		return false;
	c->held_at = c->now;
	memset(c->held, 0, c->nheld * sizeof(*c->held));
	for (i = 0; i < c->njobs; i++) {
		const struct job *j = &c->jobs[i];
		const struct cpx_core_rec *r = &j->rec;

		if (!r->version || core_over(r))
			continue;
		if (r->owner && r->owner < c->nnodes) {
			c->held[r->owner].jobs++;
			if (!shows(c, j)) {
				reserve(&c->held[r->owner], &r->need);
				c->held[r->owner].arrivals++;
			}
		}
		if (r->place && r->place < c->nnodes) {
			c->held[r->place].jobs++;
			c->held[r->place].arrivals++;
			reserve(&c->held[r->place], &r->need);
			if (r->owner && r->owner < c->nnodes)
				c->held[r->owner].leaving++;
		}
	}
	return true;
}

/* The owner's lease has ended, for sure. */
static bool lost(const struct cpx_core *c, const struct job *j)
{
	const struct node *n;

	if (j->rec.owner >= c->nnodes)
		return false;
	n = &c->nodes[j->rec.owner];
	return n->lease != j->rec.lease && n->rev >= j->own_rev;
}

static bool refused(const struct cpx_core_rec *r, uint32_t node)
{
	uint32_t i;

	for (i = 0; i < r->nrefused; i++)
		if (r->refused[i] == node)
			return true;
	return false;
}

/* Of a node that has not been heard of lately, what it has been given is all that is known: it
 * does not show(), so it is reserved there. */
static struct cpx_load_figures figures_of(const struct cpx_core *c, uint32_t node)
{
	const struct cpx_gossip_entry *e = cpx_gossip_get(&c->gossip, node);
	struct cpx_load_figures f = { .speed = CPX_LOAD_STD_SPEED,
				      .ncpus = 1,
				      .mem_total = UINT32_MAX / 2,
				      .mem_free = UINT32_MAX / 2 };

	if (e && e->life == c->nodes[node].lease) {
		f = e->f;
		if (!core_fresh(c, node)) {
			f.mean = f.upper = 0;
			f.mem_free = f.mem_total;
		}
	}
	return f;
}

static bool takes(const struct cpx_core *c, const struct cpx_core_rec *r, uint32_t node)
{
	const struct node *n = &c->nodes[node];
	struct cpx_load_figures f;

	if (!core_alive(c, node))
		return false;
	f = figures_of(c, node);
	return !(n->flags & (CPX_NODE_BLOCK | CPX_NODE_DRAIN)) &&
	       !(f.flags & (CPX_NODE_BLOCK | CPX_NODE_DRAIN)) && !(r->needs & ~n->features) &&
	       !(f.jobs_max && c->held[node].jobs >= f.jobs_max);
}

/* Return: the node, 0: none. @not: one that is out for now. */
static uint32_t pick(struct cpx_core *c, const struct cpx_core_rec *r, uint32_t not )
{
	uint32_t i, n = 0;
	int at;

	for (i = 1; i < c->nnodes; i++) {
		struct cpx_load_figures f;

		if (i == not || !takes(c, r, i) || refused(r, i))
			continue;
		f = figures_of(c, i);
		c->cand[n].node = i;
		c->cand[n].cost = cpx_load_cost(&f, &r->need, &c->held[i].need, c->nnodes);
		c->cand[n].future = f.upper + cpx_load_add(c->held[i].need.load + r->need.load,
							   f.ncpus, f.speed);
		n++;
	}
	at = cpx_load_choose(c->cand, n, core_draw(c));
	if (at < 0)
		return 0;
	i = c->cand[at].node;
	reserve(&c->held[i], &r->need);
	c->held[i].jobs++;
	c->held[i].arrivals++;
	return i;
}

static void put(struct cpx_core *c, struct job *j, struct cpx_core_rec *r, uint64_t gone)
{
	hold_swap(c, j, r, c->lease, gone, FOR_NOTHING);
}

static void no_node(struct cpx_core *c, struct job *j, struct cpx_core_rec *r, bool told)
{
	j->place_backoff = r->nrefused && j->place_backoff ? j->place_backoff * 2 : NO_ROOM_NS;
	if (j->place_backoff > BACKOFF_MAX)
		j->place_backoff = BACKOFF_MAX;
	j->place_retry_at = c->now + j->place_backoff;
	if (!told && r->why == CPX_WHY_NONE) {
		r->why = CPX_WHY_NO_NODE;
		put(c, j, r, 0);
	} else if (r->nrefused) { /* all have refused it: once more, from the first */
		r->nrefused = 0;
		put(c, j, r, 0);
	}
}

/* Nobody has it. */
static void place_free(struct cpx_core *c, struct job *j)
{
	struct cpx_core_rec r = j->rec;

	if (r.halt) {
		r.state = CPX_CORE_STOPPED;
		r.halt = false;
		r.place = r.want = 0;
		put(c, j, &r, 0);
		return;
	}
	if (r.place && core_alive(c, r.place) && c->now < j->placed_at + c->cfg.place_ns)
		return;
	r.place = r.want && takes(c, &r, r.want) ? r.want : pick(c, &r, j->rec.place);
	if (!r.place && takes(c, &r, j->rec.place) && !refused(&r, j->rec.place))
		r.place = j->rec.place; /* slow, but there is no other */
	r.want = 0;
	if (!r.place) {
		no_node(c, j, &r, r.why != CPX_WHY_NONE);
		return;
	}
	if (r.place == j->rec.place) {
		j->placed_at = c->now;
		return;
	}
	if (r.why == CPX_WHY_NO_NODE)
		r.why = CPX_WHY_NONE;
	j->place_backoff = 0;
	put(c, j, &r, 0);
}

/* Its owner is gone: nothing but the guard stands between it and the next. */
static void place_lost(struct cpx_core *c, struct job *j)
{
	struct cpx_core_rec r = j->rec;

	if (!j->gone_at)
		j->gone_at = c->now;
	if (c->now - j->gone_at < c->cfg.times.guard)
		return;
	r.state = CPX_CORE_RECOVERING;
	r.owner = 0;
	r.lease = 0;
	r.place = pick(c, &r, 0);
	put(c, j, &r, j->rec.lease);
}

static void cancel(struct cpx_core *c, struct job *j)
{
	struct cpx_core_rec r = j->rec;

	r.place = r.want = 0;
	r.why = CPX_WHY_TIME;
	j->place_retry_at = c->now + 10 * S;
	put(c, j, &r, 0);
}

/* It runs: does anybody want it elsewhere? */
static void place_running(struct cpx_core *c, struct job *j)
{
	struct cpx_core_rec r = j->rec;
	struct held *h = &c->held[r.owner];

	if (r.place) {
		if (!core_alive(c, r.place) || c->now > j->placed_at + c->cfg.move_ns)
			cancel(c, j);
		return;
	}
	if (r.want) {
		r.why = CPX_WHY_NONE;
		if (r.want != r.owner && r.want < c->nnodes && takes(c, &r, r.want))
			r.place = r.want;
		else if (r.want != r.owner)
			r.why = CPX_WHY_NO_NODE;
		r.want = 0;
		put(c, j, &r, 0);
		return;
	}
	if (!(c->nodes[r.owner].flags & CPX_NODE_DRAIN) || h->leaving >= CPX_CORE_LEAVING)
		return;
	r.place = pick(c, &r, r.owner);
	if (!r.place) {
		no_node(c, j, &r, r.why != CPX_WHY_NONE);
		return;
	}
	if (r.why == CPX_WHY_NO_NODE)
		r.why = CPX_WHY_NONE;
	h->leaving++;
	j->place_retry_at = c->now + 5 * S; /* where that fails: not at once again */
	put(c, j, &r, 0);
}

static void place_job(struct cpx_core *c, struct job *j)
{
	const struct cpx_core_rec *r = &j->rec;

	if (!hold_free(c, j))
		return;
	if (j->doubt) {
		hold_get(c, j);
		return;
	}
	if (!r->owner)
		place_free(c, j);
	else if (lost(c, j))
		place_lost(c, j);
	else if (core_alive(c, r->owner))
		place_running(c, j);
}

struct todo {
	uint32_t job, mem;
};

static int largest_first(const void *a, const void *b)
{
	const struct todo *x = a, *y = b;

	if (x->mem != y->mem)
		return x->mem < y->mem ? 1 : -1;
	return x->job < y->job ? -1 : 1;
}

/* Is there anything to be thought about? What just runs is passed by quickly. */
static bool wanted(const struct cpx_core *c, struct job *j)
{
	const struct cpx_core_rec *r = &j->rec;

	if (!r->version || core_over(r))
		return false;
	if (r->owner && r->owner < c->nnodes && c->nodes[r->owner].lease == r->lease)
		j->gone_at = 0;
	if (r->owner && c->now < j->place_retry_at && !lost(c, j))
		return false;
	if (!r->owner && c->now < j->place_retry_at)
		return false;
	return !r->owner || r->place || r->want || lost(c, j) ||
	       (core_alive(c, r->owner) && c->nodes[r->owner].flags & CPX_NODE_DRAIN);
}

void place_tick(struct cpx_core *c)
{
	struct todo *todo;
	uint32_t i, n = 0;

	for (i = 0; i < c->njobs; i++)
		n += wanted(c, &c->jobs[i]);
	if (!n)
		return;
	todo = calloc(n, sizeof(*todo));
	if (!todo) {
		c->nomem = true;
		return;
	}
	for (i = n = 0; i < c->njobs; i++)
		if (wanted(c, &c->jobs[i]))
			todo[n++] = (struct todo){ i, c->jobs[i].rec.need.mem };
	qsort(todo, n, sizeof(*todo), largest_first);
	if (!count_held(c))
		n = 0;
	for (i = 0; i < n; i++)
		place_job(c, &c->jobs[todo[i].job]);
	free(todo);
}

/* Is it worth it, by what the node that offers it says of itself and what is reserved there? */
static bool worth(const struct cpx_core *c, const struct cpx_core_event *ev)
{
	const struct held *h = &c->held[ev->node];
	struct cpx_load_figures there = figures_of(c, ev->node);

	if (cpx_load_mem_short(ev->figures))
		return cpx_load_cost(&there, &ev->need, &h->need, c->nnodes) >= 0;
	return cpx_load_worth_moving(ev->figures, &there, &ev->need, &h->need, c->nnodes,
				     ev->used_ms, c->cfg.move_ms);
}

/* A busy node would like to be rid of a job. The placer alone knows what else is under way. */
void place_offer(struct cpx_core *c, const struct cpx_core_event *ev)
{
	struct cpx_core_rec r;
	struct held *h;
	struct job *j;

	if (!cpx_core_is_placer(c) || ev->job >= c->njobs || !core_alive(c, ev->node))
		return;
	j = &c->jobs[ev->job];
	r = j->rec;
	if (!hold_free(c, j) || j->doubt || c->now < j->place_retry_at || !r.owner || r.place ||
	    r.want || r.halt || r.pinned || r.epoch != ev->epoch || r.owner == ev->node ||
	    lost(c, j))
		return;
	if ((c->now >= c->held_at + RECOUNT_NS || ev->node >= c->nheld) && !count_held(c))
		return;
	h = &c->held[ev->node];
	if (!takes(c, &r, ev->node) || refused(&r, ev->node) ||
	    h->arrivals >= CPX_CORE_ARRIVALS || !worth(c, ev))
		return;
	h->jobs++;
	h->arrivals++;
	reserve(h, &ev->need);
	r.place = ev->node;
	put(c, j, &r, 0);
}
