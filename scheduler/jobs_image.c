/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * jobs_image.c - what clients do with a job's images themselves, as their user: chpoxd keeps
 *the record meanwhile.
 *
 * pin       the generation stays as long as the connection does; it is read there.
 * import    the name is reserved, then the client writes a generation, then says `imported`; a
 *	     connection that ends before takes the job back.
 * gc        what retention and pins keep no longer leaves the record; the client removes it
 *	     from the store.
 * fall-back a head that is damaged makes room for an older generation.
 */
#include <stdio.h>
#include <string.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "server.h"

int cpxd_op_fall_back(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	const char *head = cpx_proto_str(m, "head"), *to = cpx_proto_str(m, "to");
	struct cpx_reg_job job;
	struct cpxd_conn *k;
	int r = cpxd_find_job(c, m, &job, err);

	if (r < 0)
		return r;
	if (!head || !to)
		return cpx_err_set(err, CPX_E_FORMAT, "no generation was named");
	k = cpxd_working_keeper(c->d, &job);
	if (k) {
		cpxd_ask_keeper(c, k,
				json_pack("{s:s, s:s, s:s}", "op", "fall-back", "head", head,
					  "to", to));
		return 0;
	}
	if (job.state == CPX_JOB_RUNNING && !cpxd_lost(&job))
		return cpxd_not_running(&job, err);
	r = cpx_registry_fall_back(c->d->reg, job.name, head, to, NULL, err);
	if (r >= 0)
		cpxd_answer(c, cpx_proto_ok());
	return r;
}

/* --- gc ------------------------------------------------------------------------------- */

int cpxd_op_gc(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct cpx_reg_job job;
	json_t *answer;
	int dropped, r = cpxd_find_any(c, m, &job, err);

	if (r < 0)
		return r;
	/* whether who pins one lives can be told on his node alone */
	if (cpxd_elsewhere(c->d, &job))
		dropped = 0;
	else if (cpx_proto_bool(m, "dry_run"))
		dropped = cpx_reg_retain(c->d->reg, &job, NULL);
	else
		dropped = cpx_registry_drop(c->d->reg, job.name, NULL, &job, err);
	if (dropped < 0)
		return dropped;
	answer = cpx_proto_ok();
	json_object_set_new(answer, "uid", json_integer(job.uid));
	json_object_set_new(answer, "dropped", json_integer(dropped));
	json_object_set_new(answer, "images", cpxd_view_gens(&job));
	cpxd_answer(c, answer);
	return 0;
}

/* --- pins ---------------------------------------------------------------------------- */

int cpxd_op_pin(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	const char *why = cpx_proto_str(m, "why");
	int64_t epoch = cpx_proto_int(m, "epoch", 0), seq = cpx_proto_int(m, "generation", 0);
	struct cpx_reg_gen gen;
	struct cpx_reg_job job;
	int r = cpxd_find_job(c, m, &job, err);

	if (r < 0)
		return r;
	if (c->pinned.job[0])
		return cpx_err_set(err, CPX_E_BUSY, "this connection has a pin already");
	if (epoch < 0 || seq < 0)
		return cpx_err_set(err, CPX_E_FORMAT, "that is no generation");
	r = cpx_registry_pin(c->d->reg, job.name, (uint64_t)epoch, (uint64_t)seq,
			     why && strlen(why) < 16 ? why : "read", &gen, err);
	if (r < 0)
		return r;
	c->pinned = gen.id;
	cpxd_answer(c, cpx_proto_ok());
	return 0;
}

/* --- import -------------------------------------------------------------------------- */

int cpxd_op_import(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	/* like a marked one it has no command to begin again with */
	struct cpx_reg_job job = { .uid = c->uid,
				   .gid = c->gid,
				   .marked = true,
				   .epoch = 1,
				   .state = CPX_JOB_STOPPED,
				   .keep.last = CPX_KEEP_DEFAULT,
				   .reason = "its import has not ended" };
	CPX_AUTO_FREE char *from = cpx_proto_unbytes(json_object_get(m, "from"));
	json_t *answer;
	int r;

	if (c->importing[0])
		return cpx_err_set(err, CPX_E_BUSY, "one import at a time");
	snprintf(job.command, sizeof(job.command), "imported from %s", from ? from : "-");
	r = cpxd_reserve(c->d, m, from ? from : "imported", NULL, &job, err);
	if (r < 0)
		return r;
	r = cpxd_make_dirs(c->d, job.name, job.uid, job.gid, err);
	if (r < 0) {
		cpxd_unmake(c->d, &job);
		return r;
	}
	strcpy(c->importing, job.name);
	answer = cpx_proto_ok();
	json_object_set_new(answer, "job", json_string(job.name));
	json_object_set_new(answer, "uid", json_integer(job.uid));
	cpxd_answer(c, answer);
	return 0;
}

static uint64_t positive(const json_t *m, const char *key)
{
	int64_t v = cpx_proto_int(m, key, 0);

	return v > 0 ? (uint64_t)v : 0;
}

static int put_first(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	if (job->ngens)
		return cpx_err_set(err, CPX_E_CONFLICT, "job '%s' has been changed meanwhile",
				   job->name);
	job->gens[0] = *(const struct cpx_reg_gen *)ctx;
	job->ngens = 1;
	job->reason[0] = 0;
	return 0;
}

int cpxd_op_imported(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	const char *nonce = cpx_proto_str(m, "nonce");
	struct cpx_reg_gen gen = {
		.id = { .epoch = 1, .seq = 1 },
		.realtime_ns = (int64_t)positive(m, "realtime_ns"),
		.bytes_memory = positive(m, "bytes_memory"),
		.bytes_stored = positive(m, "bytes_stored"),
		.tasks = (uint32_t)positive(m, "tasks"),
		.threads = (uint32_t)positive(m, "threads"),
	};
	int r;

	if (!c->importing[0])
		return cpx_err_set(err, CPX_E_INVAL, "there is no import under way");
	if (!nonce || strlen(nonce) != 16 || strspn(nonce, "0123456789abcdef") != 16)
		return cpx_err_set(err, CPX_E_FORMAT, "that is no generation");
	strcpy(gen.id.job, c->importing);
	strcpy(gen.id.nonce, nonce);
	r = cpx_registry_change(c->d->reg, c->importing, put_first, &gen, NULL, err);
	if (r < 0)
		return r;
	c->importing[0] = 0;
	cpxd_answer(c, cpx_proto_ok());
	return 0;
}

void cpxd_client_left(struct cpxd_conn *c)
{
	struct cpx_reg_job job;

	if (c->pinned.job[0])
		cpx_registry_unpin(c->d->reg, c->pinned.job, &c->pinned, NULL);
	if (c->importing[0] && cpx_registry_get(c->d->reg, c->importing, &job, NULL) == 0 &&
	    !job.ngens)
		cpxd_unmake(c->d, &job);
}
