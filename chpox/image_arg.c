/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image_arg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../restore/restore.h"
#include "base/cmd.h"
#include "base/err.h"
#include "base/fd.h"
#include "ctl.h"
#include "base/log.h"
#include "gen.h"
#include "job_client.h"

static int open_store(const char *dir, struct cpx_store **out, struct cpx_err *err)
{
	const struct cpx_store_opts so = { .uid = (uint32_t)-1, .gid = (uint32_t)-1 };

	return cpx_store_open(dir, &so, out, err);
}

static int find_dir(struct cpx_image_arg *a, struct cpx_err *err)
{
	int r;

	a->dir = strdup(a->name);
	if (!a->dir)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	r = open_store(a->dir, &a->store, err);
	if (r >= 0)
		r = a->ngens = cpx_gen_candidates(a->store, &a->gens, err);
	return r < 0 ? r : 0;
}

static int find_job(const struct cpx_ctl *ctl, struct cpx_image_arg *a, struct cpx_err *err)
{
	size_t len = strcspn(a->name, "@");
	uint64_t gen = 0;
	int r;

	if (len >= sizeof(a->job))
		return cpx_err_set(err, CPX_E_NOENT, "there is no job '%s'", a->name);
	memcpy(a->job, a->name, len);
	a->one = a->name[len] == '@';
	if (a->one && cpx_parse_u64(a->name + len + 1, "generation", INT64_MAX, &gen, err) < 0)
		return CPX_E_INVAL;
	r = cpx_client_images(ctl, a->job, &a->gens, &a->uid, &a->gid, err);
	if (r < 0)
		return r;
	a->ngens = r;
	for (int i = 0; a->one && i < a->ngens; i++) {
		if (a->gens[i].id.seq == gen) {
			a->gens[0] = a->gens[i];
			a->ngens = 1;
		}
	}
	if (a->one && a->gens[0].id.seq != gen)
		return cpx_err_set(err, CPX_E_NOENT,
				   "job '%s' has no such generation; 'images' lists them",
				   a->job);
	if (asprintf(&a->dir, "%s/store/%u", ctl->dir, a->uid) < 0) {
		a->dir = NULL;
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	}
	return open_store(a->dir, &a->store, err);
}

int cpx_image_arg_open(const struct cpx_ctl *ctl, const char *name, struct cpx_image_arg *out,
		       struct cpx_err *err)
{
	struct cpx_image_arg a = { .name = name };
	int r;

	a.is_dir = strchr(name, '/') || access(name, F_OK) == 0;
	r = a.is_dir ? find_dir(&a, err) : find_job(ctl, &a, err);
	if (r < 0)
		cpx_image_arg_close(&a);
	else
		*out = a;
	return r;
}

void cpx_image_arg_close(struct cpx_image_arg *a)
{
	cpx_store_close(a->store);
	free(a->gens);
	free(a->dir);
}

int cpx_image_arg_pick(const struct cpx_image_arg *a, struct cpx_gen_id *id, unsigned *bad,
		       struct cpx_err *err)
{
	unsigned n = 0;

	if (!a->is_dir) {
		*id = a->gens[0].id;
		return 0;
	}
	while ((int)n < a->ngens && !a->gens[n].whole)
		n++;
	if ((int)n == a->ngens) /* it says what is wrong */
		return cpx_gen_newest(a->store, NULL, id, NULL, err);
	*id = a->gens[n].id;
	if (bad)
		*bad = n;
	return 0;
}

int cpx_image_rights(const char *dir, struct cpx_restore_opts *o, struct cpx_err *err)
{
	int r;

	o->owner_uid = geteuid();
	o->owner_gid = getegid();
	if (geteuid() != 0)
		return 0;
	r = cpx_gen_trust(dir, &o->owner_uid, &o->owner_gid, err);
	if (r < 0)
		return r;
	o->trusted = r;
	if (!r && o->owner_uid == 0)
		return cpx_err_set(
			err, CPX_E_PERM,
			"others may write in %s or above it, so what it holds cannot be "
			"trusted with root's rights; chmod go-w it, if you know it is good",
			dir);
	if (!r)
		cpx_log_note("%s: user %u may write there, so his rights are given, not more",
			     dir, o->owner_uid);
	return 0;
}
