/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cleaning of packs, between the checkpoints.
 *
 * Happy path: a checkpoint was committed, too much of what it refers to is dead -> a child
 * writes the head anew, at low priority -> the copy takes the head's place in the registry ->
 * the old one is removed. A checkpoint that is asked for meanwhile waits; one go is short.
 *
 * Failures: the head stays as it is, and the next checkpoint tries again. A copy that came to
 * nothing is as a checkpoint that came to nothing.
 */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "gen.h"
#include "gentle.h"
#include "keeper.h"

static uint64_t count(const json_t *m, const char *key)
{
	int64_t v = cpx_proto_int(m, key, 0);

	return v > 0 ? (uint64_t)v : 0;
}

/* The child. */
static void clean(struct keeper *k, int fd)
{
	struct cpx_clean_stats st;
	struct cpx_store *store;
	struct cpx_err err = { 0 };
	json_t *answer;
	int r;

	cpx_gentle_begin();
	r = keeper_open_store(k, &store, &err);
	if (r >= 0)
		r = cpx_image_clean(store, &k->job.gens[0].id, &k->ckpt.id, CPX_CODEC_LZ4,
				    cpx_space_budget(&k->space), &st, &err);
	if (r < 0)
		answer = cpx_proto_fail(&err);
	else
		answer = json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I}", "ok", 1, "copy",
				   r == 1, "bytes_packs", (json_int_t)st.bytes_packs,
				   "bytes_live", (json_int_t)st.bytes_live, "bytes_written",
				   (json_int_t)st.bytes_written, "pages_stored",
				   (json_int_t)st.pages_stored, "packs", (json_int_t)st.packs);
	cpx_proto_send(fd, answer, NULL, 0, NULL);
}

void keeper_clean_grown(struct keeper *k, const json_t *m)
{
	const struct cpx_image_stats g = { .bytes_stored = count(m, "bytes_stored"),
					   .bytes_packs = count(m, "bytes_packs"),
					   .pages_stored = count(m, "pages_stored"),
					   .packs = (uint32_t)count(m, "packs") };

	cpx_space_grown(&k->space, &g, json_is_true(json_object_get(m, "full")));
}

void keeper_clean_next(struct keeper *k)
{
	struct keeper_ckpt *c = &k->ckpt;
	struct cpx_err err = { 0 };

	if (c->pid || k->nqueue || k->ended || !k->job.ngens || !cpx_space_due(&k->space))
		return;
	c->id = k->job.gens[0].id;
	c->cleaning = true;
	c->req = (struct keeper_request){ .id = -1 };
	if (cpx_gen_nonce(c->id.nonce, &err) < 0 || keeper_ckpt_fork(k, clean, &err) < 0)
		cpx_log_error("%s: packs are not cleaned: %s", k->name, err.msg);
}

void keeper_clean_done(struct keeper *k, const json_t *m)
{
	const struct cpx_clean_stats st = { .bytes_packs = count(m, "bytes_packs"),
					    .bytes_live = count(m, "bytes_live"),
					    .bytes_written = count(m, "bytes_written"),
					    .pages_stored = count(m, "pages_stored"),
					    .packs = (uint32_t)count(m, "packs") };
	struct cpx_gen_id old = k->job.gens[0].id;
	struct cpx_err err = { 0 };
	int r = m ? cpx_proto_result(m, &err)
		  : cpx_err_set(&err, CPX_E_SYS, "the cleaning process was killed");

	/* not at once again */
	k->space.since = 0;
	k->space.more = false;
	if (r >= 0 && json_is_true(json_object_get(m, "copy"))) {
		r = cpx_registry_replace_head(k->reg, k->name, k->job.epoch, &old, &k->ckpt.id,
					      &k->job, &err);
		if (r >= 0)
			keeper_track_renamed(&k->track, &k->ckpt.id);
		if (r >= 0) {
			keeper_discard(k, &old, false);
			keeper_gc(k);
		} else if (r == CPX_E_CONFLICT || r == CPX_E_BUSY) {
			keeper_discard(k, &k->ckpt.id, true);
		}
	}
	if (r >= 0)
		cpx_space_cleaned(&k->space, &st);
	else if (r != CPX_E_BUSY)
		cpx_log_error("%s: packs are not cleaned: %s", k->name, err.msg);
	keeper_ckpt_next(k);
}
