/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes wrong, what users ask for, and whether all is well once nothing goes wrong any
 * more. */
#include "sim.h"

enum what {
	RUN_JOB,
	CRASH,
	DAEMON_CRASH,
	DAEMON_HANG,
	PAUSE,
	PAUSE_CLOCK,
	CUT,
	CUT_HALF,
	REG_DOWN,
	STORE_DOWN,
	CLOCK,
	KEEPER_LOST,
	MIGRATE,
	HALT,
	DRAIN,
	REMOVE,
	WHATS,
	HEAL = 0x100,
};

static void plan(struct sim *s, int64_t at, enum what what, uint32_t node, uint64_t tag)
{
	struct event *e = sim_post(s, at, EV_FAULT, node);

	e->arg = what;
	e->tag = tag;
}

void faults_plan(struct sim *s)
{
	uint64_t i, jobs = s->nnodes > 10 ? s->nnodes : 2 + sim_below(s, 5);
	uint64_t faults = (s->nnodes > 10 ? s->nnodes / 3 : 3) + sim_below(s, 9);

	s->njobs = (uint32_t)jobs;
	s->fault_end = sim_between(s, 25 * SEC, 60 * SEC);
	s->limit = s->fault_end + 900 * SEC;
	for (i = 0; i < jobs; i++) {
		s->truth[i].work = sim_between(s, 5 * SEC, 60 * SEC);
		plan(s, sim_between(s, SEC, s->fault_end / 2), RUN_JOB, 0, i);
	}
	for (i = 0; i < faults; i++)
		plan(s, sim_between(s, 2 * SEC, s->fault_end),
		     (enum what)(CRASH + sim_below(s, WHATS - CRASH)), 0, 0);
	for (i = 1; i <= s->nnodes; i++)
		if (sim_chance(s, 0.5))
			machine_rate(s, (uint32_t)i, 0.96 + (double)sim_below(s, 81) / 1000);
	sim_post(s, s->fault_end, EV_CHECK, 0);
}

static uint32_t any_node(struct sim *s)
{
	return 1 + (uint32_t)sim_below(s, s->nnodes);
}

/* A user's wish, at some daemon that listens. */
static void wish(struct sim *s, struct cpx_core_event *ev)
{
	struct machine *m;
	uint32_t i, at = any_node(s);

	for (i = 0; i < s->nnodes; i++, at = at % s->nnodes + 1)
		if (s->m[at].core && !s->m[at].hung && !s->m[at].paused)
			break;
	if (i == s->nnodes || s->next_wish + 1 >= 4096)
		return;
	m = &s->m[at];
	ev->id = ++s->next_wish;
	s->wish_node[ev->id] = at;
	s->wish_life[ev->id] = m->dlife;
	s->wish_until[ev->id] = s->now + 65 * SEC;
	sim_say(s, "node %u: wish %lu: kind %d job %u node %u", at, ev->id, ev->kind, ev->job,
		ev->node);
	daemon_step(s, m, ev);
}

static void run_job(struct sim *s, uint32_t job)
{
	struct cpx_core_rec r = { .job = job, .need = { 100, 100, 100 } };
	struct cpx_core_event ev = { .kind = CPX_EV_RUN, .job = job, .rec = &r };

	r.need.mem = (uint32_t)sim_between(s, 10, 3000);
	r.needs = sim_chance(s, 0.2) ? 2 : 0;
	s->truth[job].asked = true;
	wish(s, &ev);
}

static void cut_half(struct sim *s, bool cut)
{
	uint32_t i;

	for (i = 1; i <= s->nnodes; i++)
		s->m[i].cut = cut && sim_chance(s, 0.5);
	sim_say(s, "half of the nodes are %s the registry", cut ? "cut from" : "back at");
}

static void lose_keeper(struct sim *s, uint32_t node)
{
	struct machine *m = &s->m[node];
	uint32_t i;

	for (i = 0; i < SIM_COPIES; i++)
		if (m->copies[i].used && !m->copies[i].exited && !m->paused) {
			keeper_lost(s, m, &m->copies[i]);
			return;
		}
}

static void heal(struct sim *s, enum what what, uint32_t node)
{
	switch (what) {
	case CRASH:
		machine_boot(s, node, false);
		break;
	case DAEMON_CRASH:
		daemon_start(s, node);
		break;
	case DAEMON_HANG:
		daemon_hang(s, node, false);
		break;
	case PAUSE:
	case PAUSE_CLOCK:
		machine_resume(s, node);
		break;
	case CUT:
		s->m[node].cut = false;
		break;
	case CUT_HALF:
		cut_half(s, false);
		break;
	case REG_DOWN:
		if (s->reg_down) {
			s->reg_down = false;
			sim_say(s, "registry answers again");
			reg_rearm(s);
		}
		break;
	case STORE_DOWN:
		s->store_down = false;
		break;
	case DRAIN:
		reg_flags(s, node, 0);
		break;
	default:
		break;
	}
}

static void ask(struct sim *s, enum what what, uint32_t node)
{
	struct cpx_core_event ev = { .job = (uint32_t)sim_below(s, s->njobs), .node = node };

	if (what != DRAIN && !s->truth[ev.job].asked)
		return;
	ev.kind = what == MIGRATE ? CPX_EV_MIGRATE : what == HALT ? CPX_EV_HALT : CPX_EV_DRAIN;
	if (what == DRAIN)
		reg_flags(s, node, CPX_NODE_DRAIN);
	wish(s, &ev);
}

static void strike(struct sim *s, enum what what, uint32_t node)
{
	switch (what) {
	case CRASH:
		machine_crash(s, node);
		break;
	case DAEMON_CRASH:
		daemon_crash(s, node);
		break;
	case DAEMON_HANG:
		daemon_hang(s, node, true);
		break;
	case PAUSE:
		machine_pause(s, node, false);
		break;
	case PAUSE_CLOCK:
		machine_pause(s, node, true);
		break;
	case CUT:
		s->m[node].cut = true;
		sim_say(s, "node %u: cut", node);
		break;
	case CUT_HALF:
		cut_half(s, true);
		break;
	case REG_DOWN:
		s->reg_down = true;
		sim_say(s, "registry is silent");
		break;
	case STORE_DOWN:
		s->store_down = true;
		sim_say(s, "store fails");
		break;
	case CLOCK:
		machine_rate(s, node, 0.96 + (double)sim_below(s, 81) / 1000);
		break;
	case KEEPER_LOST:
		lose_keeper(s, node);
		break;
	case REMOVE:
		reg_remove(s, (uint32_t)sim_below(s, s->njobs));
		break;
	default:
		ask(s, what, node);
		break;
	}
}

static bool over(const struct cpx_core_rec *r)
{
	return r->state >= CPX_CORE_DONE;
}

static uint32_t copies_of(const struct sim *s, uint32_t job, uint32_t node, bool running)
{
	uint32_t i, k, n = 0;

	for (i = 1; i <= s->nnodes; i++)
		for (k = 0; k < SIM_COPIES; k++) {
			const struct copy_of *c = &s->m[i].copies[k];

			n += c->used && !c->exited && c->job == job && (!node || i == node) &&
			     (!running || c->exec);
		}
	return n;
}

/* What is still to be done? NULL: nothing. */
static const char *unsettled(struct sim *s, uint32_t *which)
{
	uint32_t i;

	for (i = 0; i < s->njobs; i++) {
		const struct cpx_core_rec *r = &s->recs[i];

		*which = i;
		if (s->truth[i].known && !r->version)
			return "is forgotten";
		if (!r->version)
			continue;
		if (over(r) ? copies_of(s, i, 0, false) > 0
			    : copies_of(s, i, 0, false) != 1 ||
				      copies_of(s, i, r->owner, true) != 1)
			return over(r) ? "is over, and a copy is left"
				       : "neither runs at its owner alone nor is over";
		if (r->halt || r->place || r->want)
			return "is wanted elsewhere, and stays";
	}
	for (i = 1; i <= s->next_wish; i++) {
		*which = i;
		if (s->wish_until[i] && s->wish_until[i] < s->now)
			return "(a wish) was never answered";
	}
	return NULL;
}

static void check(struct sim *s)
{
	const char *what;
	uint32_t i, which = 0;
	enum what k;

	if (!s->quiet) {
		s->quiet = true;
		for (i = 1; i <= s->nnodes; i++)
			for (k = CRASH; k < WHATS; k++)
				heal(s, k, i);
	}
	what = unsettled(s, &which);
	if (!what && s->now > s->fault_end + 5 * SEC) {
		s->limit = s->now;
		return;
	}
	if (s->now >= s->limit - 5 * SEC)
		sim_fail(s, "job %u %s", which, what ? what : "?");
	sim_post(s, s->now + 2 * SEC, EV_CHECK, 0);
}

void faults_do(struct sim *s, const struct event *e)
{
	enum what what = e->arg & 0xff;
	uint32_t node = e->node ? e->node : any_node(s);

	if (e->kind == EV_CHECK) {
		check(s);
	} else if (what == RUN_JOB) {
		run_job(s, (uint32_t)e->tag);
	} else if (e->arg & HEAL) {
		if (!s->quiet)
			heal(s, what, node);
	} else if (!s->quiet) {
		strike(s, what, node);
		plan(s,
		     s->now +
			     sim_between(s, 50 * MSEC, sim_chance(s, 0.5) ? 3 * SEC : 25 * SEC),
		     HEAL | what, node, 0);
	}
}
