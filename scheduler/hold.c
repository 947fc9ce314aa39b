/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this node does about a job: a table of (copy here) x (what the newest record says).
 *
 * Happy path of a job: placed here -> acquire (owner, lease, epoch + 1) -> START -> it runs ->
 * it ends -> the end is written. Of a move: the record names another place -> HOLD: last
 * checkpoint, frozen -> release (no owner) -> the copy is killed. When a request is not
 * answered the record is read (doubt), and judged again. After a release that may still be
 * under way a copy is not thawed by reading alone: a swap first makes the old version, and so
 * that release, worthless. A lease that ended: the copy is frozen by its keeper; with the new
 * lease the record is swapped at the same epoch, and the copy adopted; where the epoch has
 * moved on, it is killed.
 */
#include "core_impl.h"

#define S 1000000000ll
#define BACKOFF_MAX (10 * S)

enum relation {
	OTHER = 0, /* another's, ended, not there, or for nobody yet */
	FOR_ME,	   /* placed here, without owner */
	MINE,	   /* under this lease, and the copy knows */
	LEAVE,	   /* mine, and wanted elsewhere or stopped */
	STALE,	   /* was mine at this epoch under an earlier lease, and nobody has it */
	RELATIONS,
};

static enum relation relation(const struct cpx_core *c, const struct job *j)
{
	const struct cpx_core_rec *r = &j->rec;
	bool leave = (r->place && r->place != c->cfg.self) || r->halt;

	if (!r->version || core_over(r))
		return OTHER;
	if (j->copy != COPY_NONE) {
		if (r->epoch != j->epoch)
			return OTHER;
		if (r->owner != c->cfg.self && (r->owner || r->state != CPX_CORE_RECOVERING))
			return OTHER;
		if (r->owner && r->lease == c->lease && j->lease == c->lease)
			return leave ? LEAVE : MINE;
		return STALE;
	}
	if (r->owner == c->cfg.self && r->lease == c->lease)
		return leave ? LEAVE : MINE;
	return !r->owner && r->place == c->cfg.self && !r->halt ? FOR_ME : OTHER;
}

static void later(struct cpx_core *c, struct job *j)
{
	j->backoff = j->backoff ? j->backoff * 2 : S / 20;
	if (j->backoff > BACKOFF_MAX)
		j->backoff = BACKOFF_MAX;
	j->retry_at = c->now + j->backoff / 2 + (int64_t)(core_draw(c) % (uint64_t)j->backoff);
}

bool hold_free(struct cpx_core *c, struct job *j)
{
	if (j->req && c->now >= j->req_until) {
		j->req = 0;
		j->doubt = true;
		later(c, j);
	}
	return !j->req && c->now >= j->retry_at;
}

static struct cpx_core_req *ask(struct cpx_core *c, struct job *j, enum cpx_core_req_kind kind,
				enum purpose purpose)
{
	struct cpx_core_act *a = core_emit(c, CPX_ACT_REQUEST);

	a->req.id = j->req = ++c->next_id;
	a->req.kind = kind;
	a->job = j->rec.job;
	j->purpose = purpose;
	j->req_until = c->now + c->cfg.times.timeout;
	core_activate(c, j->rec.job);
	return &a->req;
}

void hold_swap(struct cpx_core *c, struct job *j, const struct cpx_core_rec *rec,
	       uint64_t alive, uint64_t gone, enum purpose purpose)
{
	struct cpx_core_req *r = ask(c, j, CPX_REQ_SWAP, purpose);

	r->rec = *rec;
	r->alive = alive;
	r->gone = gone;
}

void hold_get(struct cpx_core *c, struct job *j)
{
	ask(c, j, CPX_REQ_GET, FOR_GET)->rec.job = j->rec.job;
}

static void acquire(struct cpx_core *c, struct job *j)
{
	struct cpx_core_rec r = j->rec;

	if (!core_lease_ok(c))
		return;
	r.state = CPX_CORE_RUNNING;
	r.owner = c->cfg.self;
	r.lease = c->lease;
	r.epoch++;
	r.place = 0;
	hold_swap(c, j, &r, c->lease, 0, FOR_START);
}

static void take_again(struct cpx_core *c, struct job *j, enum purpose purpose)
{
	struct cpx_core_rec r = j->rec;

	if (!core_lease_ok(c))
		return;
	r.state = CPX_CORE_RUNNING;
	r.owner = c->cfg.self;
	r.lease = c->lease;
	if (r.place == c->cfg.self || j->rec.state == CPX_CORE_RECOVERING)
		r.place = 0;
	hold_swap(c, j, &r, c->lease, 0, purpose);
}

static void adopt(struct cpx_core *c, struct job *j)
{
	take_again(c, j, FOR_ADOPT);
}

static void unhold(struct cpx_core *c, struct job *j)
{
	take_again(c, j, FOR_UNHOLD);
}

static void hold(struct cpx_core *c, struct job *j)
{
	struct cpx_core_rec r = j->rec;

	if (j->no_move) { /* tell that it stays */
		r.place = r.want = 0;
		r.halt = false;
		r.why = CPX_WHY_NO_STOP;
		hold_swap(c, j, &r, c->lease, 0, FOR_NOTHING);
		return;
	}
	j->copy = COPY_HOLDING;
	core_emit(c, CPX_ACT_HOLD)->job = j->rec.job;
}

static void give_up(struct cpx_core *c, struct job *j, struct cpx_core_rec *r)
{
	r->state = CPX_CORE_RECOVERING;
	r->place = 0;
	r->why = j->why;
	if (j->why == CPX_WHY_DAMAGED && r->skip < r->gens)
		r->skip++; /* that one is no good anywhere */
	else if (r->nrefused < CPX_CORE_REFUSED)
		r->refused[r->nrefused++] = c->cfg.self;
	if (++r->tries >= CPX_CORE_TRIES) {
		r->state = CPX_CORE_FAILED;
		r->why = CPX_WHY_TRIES;
	}
}

static void release(struct cpx_core *c, struct job *j)
{
	struct cpx_core_rec r = j->rec;

	r.owner = 0;
	r.lease = 0;
	if (j->give_up) {
		give_up(c, j, &r);
	} else if (r.halt) {
		r.state = CPX_CORE_STOPPED;
		r.halt = false;
		r.place = r.want = 0;
	} else {
		r.state = CPX_CORE_MOVING;
	}
	hold_swap(c, j, &r, c->lease, 0, FOR_NOTHING);
}

/* Owner, and nothing runs here: it could not be started, or it was lost with its keeper. */
static void empty(struct cpx_core *c, struct job *j)
{
	if (j->give_up)
		release(c, j);
	else
		acquire(c, j);
}

static void write_end(struct cpx_core *c, struct job *j)
{
	struct cpx_core_rec r = j->rec;

	r.state = j->why ? CPX_CORE_FAILED : CPX_CORE_DONE;
	r.status = j->status;
	r.why = j->why;
	r.owner = 0;
	r.lease = 0;
	r.place = r.want = 0;
	r.halt = false;
	/* it ran to its end before its deadline; that nobody took it since, the version says */
	hold_swap(c, j, &r, 0, 0, FOR_NOTHING);
}

static void kill_copy(struct cpx_core *c, struct job *j)
{
	struct cpx_core_act *a = core_emit(c, CPX_ACT_KILL);

	a->job = j->rec.job;
	a->epoch = j->epoch;
	j->copy = COPY_KILLING;
	j->retry_at = c->now + S;
}

static void forget(struct cpx_core *c, struct job *j)
{
	(void)c;
	j->copy = COPY_NONE;
}

/* clang-format off */
static void (*const table[COPIES][RELATIONS])(struct cpx_core *c, struct job *j) = {
	/*                  OTHER      FOR_ME     MINE       LEAVE      STALE */
	[COPY_NONE]     = { NULL,      acquire,   empty,     release,   NULL      },
	[COPY_STARTING] = { kill_copy, kill_copy, NULL,      NULL,      adopt     },
	[COPY_UP]       = { kill_copy, kill_copy, NULL,      hold,      adopt     },
	[COPY_HOLDING]  = { kill_copy, kill_copy, NULL,      NULL,      adopt     },
	[COPY_HELD]     = { kill_copy, kill_copy, unhold,    release,   adopt     },
	[COPY_ENDED]    = { forget,    forget,    write_end, write_end, write_end },
	[COPY_KILLING]  = { kill_copy, kill_copy, kill_copy, kill_copy, kill_copy },
};
/* clang-format on */

void hold_judge(struct cpx_core *c, struct job *j)
{
	enum relation rel;

	if (!hold_free(c, j))
		return;
	if (j->doubt) {
		hold_get(c, j);
		return;
	}
	rel = relation(c, j);
	if (rel != LEAVE)
		j->no_move = false;
	if (rel != MINE && rel != LEAVE && rel != STALE && j->copy == COPY_NONE)
		j->give_up = false;
	if (table[j->copy][rel])
		table[j->copy][rel](c, j);
}

/* A swap that went through, and what it was for. */
static void swapped(struct cpx_core *c, struct job *j, enum purpose purpose)
{
	struct cpx_core_act *a;

	if (purpose == FOR_START) {
		a = core_emit(c, CPX_ACT_START);
		j->copy = COPY_STARTING;
		j->give_up = j->no_move = false;
		j->why = CPX_WHY_NONE;
		j->need = j->rec.need;
	} else if (purpose == FOR_ADOPT || purpose == FOR_UNHOLD) {
		a = core_emit(c, purpose == FOR_ADOPT ? CPX_ACT_ADOPT : CPX_ACT_UNHOLD);
		if (purpose == FOR_UNHOLD)
			j->copy = COPY_UP;
	} else {
		return;
	}
	j->epoch = j->rec.epoch;
	j->lease = c->lease;
	a->job = j->rec.job;
	a->epoch = j->epoch;
	a->rec = j->rec;
}

void hold_answer(struct cpx_core *c, const struct cpx_core_event *ev, struct job *j)
{
	enum purpose purpose = j->purpose;
	bool late = !core_lease_ok(c) && purpose == FOR_START && ev->result == CPX_ANS_OK;
	bool ours = !late && ev->result == CPX_ANS_OK && ev->rec &&
		    ev->rec->lease == c->lease && ev->rec->version >= j->rec.version &&
		    c->lease;

	if (ev->result == CPX_ANS_FAILED) {
		j->req_until = c->now; /* as if it had not been answered */
		hold_free(c, j);
		return;
	}
	if (ours && (purpose == FOR_START || purpose == FOR_ADOPT || purpose == FOR_UNHOLD)) {
		/* the copy may have changed meanwhile: only what still waits for it is told */
		bool fits = purpose == FOR_START ? j->copy == COPY_NONE
			    : purpose == FOR_ADOPT
				    ? j->copy != COPY_NONE && j->copy != COPY_KILLING &&
					      j->copy != COPY_ENDED &&
					      j->epoch == ev->rec->epoch
				    : j->copy == COPY_HELD;

		core_learn(c, ev->rec);
		if (fits)
			swapped(c, j, purpose);
	}
	j->req = 0;
	/* an answer that comes after the lease's deadline says nothing about now */
	j->doubt = ev->result == CPX_ANS_GONE ? false : !ev->rec || late;
	j->retry_at = 0;
	if (ev->result == CPX_ANS_OK || purpose == FOR_GET)
		j->backoff = 0;
	else
		later(c, j);
	if (ev->rec)
		core_learn(c, ev->rec);
	hold_judge(c, j);
}

/* clang-format off */
/* What a keeper's word makes of the copy; COPIES: not heard. */
static const enum copy heard[COPIES][5] = {
	/*                  STARTED   NOT_STARTED HELD       NOT_HELD  EXITED */
	[COPY_NONE]     = { COPY_UP,  COPIES,     COPY_HELD, COPIES,   COPIES     },
	[COPY_STARTING] = { COPY_UP,  COPY_NONE,  COPIES,    COPIES,   COPY_ENDED },
	[COPY_UP]       = { COPIES,   COPY_NONE,  COPIES,    COPIES,   COPY_ENDED },
	[COPY_HOLDING]  = { COPIES,   COPY_NONE,  COPY_HELD, COPY_UP,  COPY_ENDED },
	[COPY_HELD]     = { COPIES,   COPY_NONE,  COPIES,    COPIES,   COPIES     },
	[COPY_ENDED]    = { COPIES,   COPIES,     COPIES,    COPIES,   COPIES     },
	[COPY_KILLING]  = { COPIES,   COPY_NONE,  COPIES,    COPIES,   COPIES     },
};
/* clang-format on */

void hold_keeper(struct cpx_core *c, const struct cpx_core_event *ev)
{
	struct job *j = core_job(c, ev->job);
	enum copy to;

	if (!j || (j->copy != COPY_NONE && ev->epoch != j->epoch))
		return;
	if (ev->kind == CPX_EV_ENDED) {
		to = COPY_NONE; /* killed, or lost with its keeper: from its head again */
	} else {
		to = heard[j->copy][ev->kind - CPX_EV_STARTED];
		if (to == COPIES)
			return;
	}
	if (j->copy == COPY_NONE && to != COPY_NONE) { /* an earlier daemon's */
		j->epoch = ev->epoch;
		j->lease = ev->lease;
		j->doubt = true;
	}
	if (ev->kind == CPX_EV_NOT_STARTED && j->copy != COPY_KILLING) {
		j->give_up = true;
		j->why = ev->why;
	}
	if (ev->kind == CPX_EV_NOT_HELD)
		j->no_move = true;
	if (ev->kind == CPX_EV_EXITED) {
		j->status = ev->status;
		j->why = ev->why;
	}
	if (to == COPY_UP && j->copy != COPY_HOLDING)
		j->up_at = c->now;
	j->copy = to;
	core_activate(c, ev->job);
	if (j->copy == COPY_NONE && !j->req)
		j->retry_at = 0;
	hold_judge(c, j);
}
