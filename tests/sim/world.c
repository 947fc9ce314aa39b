/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time, chance, and the queue. See sim.h. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t sim_draw(struct sim *s)
{
	uint64_t z = (s->rng += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

uint64_t sim_below(struct sim *s, uint64_t n)
{
	return sim_draw(s) % n;
}

bool sim_chance(struct sim *s, double p)
{
	return (double)(sim_draw(s) >> 11) / 9007199254740992.0 < p;
}

int64_t sim_between(struct sim *s, int64_t lo, int64_t hi)
{
	return lo + (int64_t)(sim_draw(s) % (uint64_t)(hi - lo + 1));
}

static void *need(void *p)
{
	if (!p) {
		fputs("sim: out of memory\n", stderr);
		exit(2);
	}
	return p;
}

static bool before(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

/* The event is to be filled in before the next is posted; its place in the queue is settled. */
struct event *sim_post(struct sim *s, int64_t at, enum ev kind, uint32_t node)
{
	struct event e = {
		.at = at < s->now ? s->now : at, .order = s->order++, .kind = kind, .node = node
	};
	uint32_t i;

	if (s->nheap == s->heap_room) {
		s->heap_room = s->heap_room ? s->heap_room * 2 : 256;
		s->heap = need(realloc(s->heap, s->heap_room * sizeof(*s->heap)));
	}
	for (i = s->nheap++; i && before(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = e;
	return &s->heap[i];
}

bool sim_next(struct sim *s, struct event *out)
{
	struct event last;
	uint32_t i = 0, child;

	if (!s->nheap)
		return false;
	*out = s->heap[0];
	last = s->heap[--s->nheap];
	while ((child = 2 * i + 1) < s->nheap) {
		if (child + 1 < s->nheap && before(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (!before(&s->heap[child], &last))
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	if (s->nheap)
		s->heap[i] = last;
	s->now = out->at;
	return true;
}

void sim_fail(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->failed)
		return;
	s->failed = true;
	va_start(ap, fmt);
	vsnprintf(s->what, sizeof(s->what), fmt, ap);
	va_end(ap);
	sim_say(s, "VIOLATION: %s", s->what);
}

void sim_say(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->trace)
		return;
	printf("%10.4f ", (double)s->now / 1e9);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* Most messages are quick, some slow, a few far slower than any time-out. */
int64_t sim_delay(struct sim *s)
{
	if (!s->quiet && sim_chance(s, s->slow))
		return sim_between(s, 50 * MSEC, sim_chance(s, 0.2) ? 8 * SEC : SEC);
	return sim_between(s, 200000, 3 * MSEC);
}

bool sim_lost(struct sim *s)
{
	return !s->quiet && sim_chance(s, s->loss);
}

struct sim *sim_open(uint64_t seed, enum bug bug, bool trace, uint32_t nodes)
{
	struct sim *s = need(calloc(1, sizeof(*s)));
	uint32_t i;

	s->seed = s->rng = seed;
	s->bug = bug;
	s->trace = trace;
	s->nnodes = nodes ? nodes : (uint32_t)sim_between(s, 3, 7);
	s->m = need(calloc(s->nnodes + 1, sizeof(*s->m)));
	s->rev = 1;
	s->next_lease = 1000;
	s->times = CPX_FENCE_DEFAULTS;
	if (sim_chance(s, 0.7))
		s->times = (struct cpx_fence_times){ 5 * SEC, 800 * MSEC, 300 * MSEC,
						     500 * MSEC, 500 * MSEC };
	s->loss = (double)sim_below(s, 4) * 0.03;
	s->slow = (double)sim_below(s, 4) * 0.04;
	for (i = 1; i <= s->nnodes; i++) {
		s->m[i].rate = 1;
		machine_boot(s, i, true);
	}
	faults_plan(s);
	return s;
}

static void one(struct sim *s, struct event *e)
{
	switch (e->kind) {
	case EV_TICK:
	case EV_FIGURES:
	case EV_TO_CORE:
		daemon_event(s, e);
		break;
	case EV_TO_REG:
		reg_request(s, e);
		break;
	case EV_COMMIT:
		reg_commit(s, e);
		break;
	case EV_COMMITTED:
		keeper_committed(s, e);
		break;
	case EV_COPY:
		keeper_step(s, e);
		break;
	case EV_EXPIRE:
		reg_expire(s);
		break;
	case EV_FAULT:
	case EV_CHECK:
		faults_do(s, e);
		break;
	}
}

static void drop(struct msg *m)
{
	if (m)
		free(m->gossip);
	free(m);
}

void sim_run(struct sim *s)
{
	struct event e;

	while (!s->failed && s->now < s->limit && sim_next(s, &e)) {
		s->events++;
		one(s, &e);
		drop(e.msg);
	}
}

void sim_close(struct sim *s)
{
	uint32_t i, k;

	for (i = 0; i < s->nheap; i++)
		drop(s->heap[i].msg);
	for (i = 1; i <= s->nnodes; i++) {
		cpx_core_close(s->m[i].core);
		for (k = 0; k < s->m[i].nheld; k++)
			drop(s->m[i].held[k].msg);
		free(s->m[i].held);
	}
	free(s->heap);
	free(s->m);
	free(s);
}
