/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verify: every byte of an image is read and checked. With --repair what is damaged gets out of
 * the way: the newest whole generation takes its place, as the head in the job's record, or as
 * the newest in a directory, where the manifests of the damaged ones are renamed. Nothing is
 * changed when none is whole, and nothing is ever deleted.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cmd.h"
#include "base/err.h"
#include "base/fd.h"
#include "ctl.h"
#include "image_arg.h"
#include "job_client.h"

struct verdict {
	struct cpx_image_arg a;
	struct cpx_err *why; /* for each generation; code 0: whole, or not looked at */
	int whole;	     /* index of the newest whole one; -1: none was found */
	int looked;	     /* how many were looked at */
	bool repaired;
};

static int verify_one(struct cpx_store *store, const struct cpx_gen_id *id, struct cpx_err *err)
{
	struct cpx_image *img;
	int r = cpx_image_open(store, id, &img, err);

	if (r < 0)
		return r;
	r = cpx_image_verify(img, 0, err);
	cpx_image_close(img);
	return r;
}

/* Newest first, until one is whole. */
static int look(struct verdict *v, bool all, struct cpx_err *err)
{
	int n = all ? v->a.ngens : 1;

	v->whole = -1;
	v->why = calloc((size_t)n, sizeof(*v->why));
	if (!v->why)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	while (v->looked < n && v->whole < 0) {
		int i = v->looked++;

		if (verify_one(v->a.store, &v->a.gens[i].id, &v->why[i]) >= 0)
			v->whole = i;
		else if (v->why[i].code == CPX_E_NOMEM) /* says nothing about the image */
			return cpx_err_set(err, CPX_E_NOMEM, "%s", v->why[i].msg);
	}
	return 0;
}

static int repair(const struct cpx_args *args, struct verdict *v, struct cpx_err *err)
{
	const struct cpx_gen_id *to = &v->a.gens[v->whole].id;
	CPX_AUTO_FREE struct cpx_gen_id *bad = NULL;
	int r;

	if (!v->a.is_dir) {
		r = cpx_client_call(args->ctx,
				    json_pack("{s:s, s:s, s:s, s:s}", "op", "fall-back", "job",
					      v->a.job, "head", v->a.gens[0].id.nonce, "to",
					      to->nonce),
				    NULL, 0, NULL, NULL, err);
		v->repaired = r >= 0;
		return r;
	}
	bad = calloc((size_t)v->whole, sizeof(*bad));
	if (!bad)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	for (int i = 0; i < v->whole; i++)
		bad[i] = v->a.gens[i].id;
	r = cpx_store_lock(v->a.store, true, err);
	if (r >= 0)
		r = cpx_store_set_aside(v->a.store, bad, (size_t)v->whole, err);
	v->repaired = r >= 0;
	return r;
}

/* --- saying it ----------------------------------------------------------------------- */

static void print_json(const struct verdict *v)
{
	json_t *list = json_array(), *j;

	for (int i = 0; i < v->looked; i++) {
		const struct cpx_gen_id *id = &v->a.gens[i].id;
		json_t *g = json_pack("{s:I, s:I, s:s, s:b}", "generation", (json_int_t)id->seq,
				      "epoch", (json_int_t)id->epoch, "nonce", id->nonce,
				      "whole", v->why[i].code == 0);

		if (v->why[i].code)
			json_object_set_new(g, "reason", json_string(v->why[i].msg));
		json_array_append_new(list, g);
	}
	j = json_pack("{s:b, s:b, s:o}", "whole", v->whole == 0, "repaired", v->repaired,
		      "generations", list);
	json_dumpf(j, stdout, JSON_INDENT(1));
	putchar('\n');
	json_decref(j);
}

static unsigned long long seq_of(const struct verdict *v, int i)
{
	return (unsigned long long)v->a.gens[i].id.seq;
}

static void print_text(const struct verdict *v)
{
	for (int i = 0; v->repaired && i < v->whole; i++)
		printf("%s: generation %llu is damaged%s: %s\n", v->a.name, seq_of(v, i),
		       v->a.is_dir ? " and set aside" : "", v->why[i].msg);
	if (v->repaired)
		printf("%s: went back to generation %llu, which is whole\n", v->a.name,
		       seq_of(v, v->whole));
	else if (v->whole == 0)
		printf("%s: generation %llu is whole\n", v->a.name, seq_of(v, 0));
}

static int not_whole(const struct verdict *v, struct cpx_err *err)
{
	const struct cpx_err *why = &v->why[0];

	if (v->looked < v->a.ngens)
		return cpx_err_set(err, why->code,
				   "generation %llu: %.300s; 'verify --repair %s' goes back to "
				   "the newest that is whole",
				   seq_of(v, 0), why->msg, v->a.name);
	if (v->a.one)
		return cpx_err_set(err, why->code, "generation %llu: %s", seq_of(v, 0),
				   why->msg);
	return cpx_err_set(err, why->code, "there is no whole image: generation %llu: %s",
			   seq_of(v, 0), why->msg);
}

static int judge(const struct cpx_args *a, struct verdict *v, struct cpx_err *err)
{
	bool mend = cpx_arg_given(a, "repair");
	int r;

	if (mend && v->a.one)
		return cpx_err_set(err, CPX_E_INVAL,
				   "--repair chooses the generation by itself; leave @%llu out",
				   seq_of(v, 0));
	r = look(v, mend, err);
	if (r < 0)
		return r;
	if (v->whole > 0) {
		r = repair(a, v, err);
		if (r < 0)
			return r;
	}
	if (cpx_arg_given(a, "json"))
		print_json(v);
	else
		print_text(v);
	return v->whole < 0 ? not_whole(v, err) : 0;
}

int cpx_ctl_verify(const struct cpx_args *a, struct cpx_err *err)
{
	struct verdict v = { 0 };
	int r = cpx_image_arg_open(a->ctx, a->pos[0], &v.a, err);

	if (r >= 0) {
		r = judge(a, &v, err);
		cpx_image_arg_close(&v.a);
	}
	free(v.why);
	return r < 0 ? cpx_err_wrap(err, "%s does not verify", a->pos[0]) : 0;
}
