/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a checkpoint is made: as its request says, else as the job's record does, else as is best
 * for a job that runs on. What was measured in the child that makes it comes back with its
 * answer, for the next one.
 */
#include <string.h>

#include "base/err.h"
#include "keeper.h"

/* Of less it is the fixed costs of a file that would be measured. */
#define SPEED_BYTES_MIN (4u << 20)
#define SPEED_BYTES_MAX (1u << 30)

int keeper_tune(const struct keeper *k, struct cpx_capture_opts *o, struct cpx_err *err)
{
	const struct cpx_tuning t = cpx_tuning_of(&k->ckpt.req.tuning, &k->job.tuning);
	bool hurry = o->after != CPX_AFTER_RUN || o->deadline_ns;

	o->image.codec = CPX_CODEC_LZ4;
	o->image.workers = t.cpus;
	o->image.speed = k->speed;
	if ((t.snapshot[0] && cpx_snapshot_parse(t.snapshot, &o->snapshot) < 0) ||
	    (t.codec[0] && cpx_codec_parse(t.codec, &o->image.codec) < 0))
		return cpx_err_set(err, CPX_E_FORMAT, "job '%s': a record that makes no sense",
				   k->name);
	/* one that cannot wait, or for which the job does, is not held back */
	o->gentle = !hurry;
	o->rate = hurry ? 0 : (uint64_t)t.rate;
	return 0;
}

void keeper_tune_give(const struct cpx_capture_opts *o, const struct cpx_capture_result *res,
		      json_t *answer)
{
	const struct cpx_pace *p = o->pace;

	json_object_set_new(answer, "way", json_string(cpx_snapshot_name(res->way)));
	if (res->predicted_ns)
		json_object_set_new(answer, "expected_pause_ms",
				    json_real((double)res->predicted_ns / 1e6));
	json_object_set_new(answer, "store_bytes",
			    json_integer((json_int_t)res->image.speed.bytes));
	json_object_set_new(answer, "store_ns", json_integer(res->image.speed.ns));
	json_object_set_new(answer, "pace",
			    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "clone_ns",
				      (json_int_t)p->clone_ns, "clone_pages",
				      (json_int_t)p->clone_pages, "copy_permille",
				      (json_int_t)p->copy_permille, "read_ns",
				      (json_int_t)p->read_ns, "rest_ns", (json_int_t)p->rest_ns,
				      "rounds", (json_int_t)p->rounds, "skip",
				      (json_int_t)p->skip, "skipped", (json_int_t)p->skipped));
}

/* Older measurements count half as much each time. */
static void take_speed(struct keeper *k, uint64_t bytes, int64_t ns)
{
	if (bytes < SPEED_BYTES_MIN || bytes > INT64_MAX / 2 || ns <= 0)
		return;
	if (k->speed.bytes > SPEED_BYTES_MAX || ns > INT64_MAX / 2)
		memset(&k->speed, 0, sizeof(k->speed));
	k->speed.bytes = k->speed.bytes / 2 + bytes;
	k->speed.ns = k->speed.ns / 2 + ns;
}

void keeper_tune_take(struct keeper *k, const json_t *answer)
{
	const json_t *p = json_object_get(answer, "pace");

	k->pace = (struct cpx_pace){
		.clone_ns = cpx_proto_int(p, "clone_ns", 0),
		.clone_pages = (uint64_t)cpx_proto_int(p, "clone_pages", 0),
		.copy_permille = cpx_proto_int(p, "copy_permille", 0),
		.read_ns = cpx_proto_int(p, "read_ns", 0),
		.rest_ns = cpx_proto_int(p, "rest_ns", 0),
		.rounds = (uint32_t)cpx_proto_int(p, "rounds", 0),
		.skip = (uint32_t)cpx_proto_int(p, "skip", 0),
		.skipped = (uint32_t)cpx_proto_int(p, "skipped", 0),
	};
	take_speed(k, (uint64_t)cpx_proto_int(answer, "store_bytes", 0),
		   cpx_proto_int(answer, "store_ns", 0));
}
