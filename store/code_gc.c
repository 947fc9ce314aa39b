/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * code_gc.c - code objects that nothing needs any more go.
 *
 * Nobody holds a lock. Who writes a generation notes an object in the list of that generation
 * (code_list.c) *before* he looks whether the object is there. Who collects takes an object out
 * of its name *before* he reads manifests and lists once more. So of the two at least one sees
 * the other: the writer misses the object and stores it again, or the collector finds it noted
 * and gives it back.
 *
 * Happy path: references -> objects that have none get a name of this collector alone
 * (SHA256.NONCE.gone) -> references once more -> what has some by now gets its name back, the
 * rest is removed.
 *
 * Failures: a manifest that cannot be read may refer to anything, so nothing goes. A crash
 * leaves objects under their .gone names: readers find them there (cpx_code_open()), and the
 * next collector takes them over. Several at once are in nobody's way, for each removes only
 * what it has renamed itself before it read the references.
 */
#include "store_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "container.h"

#define TRIES 8 /* readings of a job that changes while it is read */

struct sums {
	uint8_t (*v)[32];
	size_t n, cap;
};

struct gens {
	struct cpx_gen_id *v;
	size_t n, cap;
};

struct object {
	char name[CPX_NAME_MAX]; /* as it was found */
	uint8_t sum[32];
};

struct code_gc {
	struct cpx_store *s;
	char nonce[17];
	struct object *v;
	size_t n, cap;
	struct sums refs;
	struct cpx_err *err;
};

static int no_memory(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "no memory to look for code objects");
}

/* Room for one more. Return: 0 or CPX_E_NOMEM. */
static int grow(void **v, size_t n, size_t *cap, size_t size)
{
	void *more;

	if (n < *cap)
		return 0;
	more = realloc(*v, (*cap ? *cap * 2 : 64) * size);
	if (!more)
		return CPX_E_NOMEM;
	*v = more;
	*cap = *cap ? *cap * 2 : 64;
	return 0;
}

static int by_sum(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

static int add_sums(struct sums *s, const uint8_t *sums, size_t n, struct cpx_err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (grow((void **)&s->v, s->n, &s->cap, sizeof(*s->v)) < 0)
			return no_memory(err);
		memcpy(s->v[s->n++], sums + i * 32, 32);
	}
	return 0;
}

/* --- references ----------------------------------------------------------------------- */

struct reading {
	struct code_gc *g;
	char job[CPX_JOB_NAME_MAX];
	struct gens *gens;
	enum cpx_name_kind kind; /* what is listed */
};

static int add_gen(void *ctx, const char *name)
{
	struct reading *r = ctx;
	struct cpx_gen_id *id;
	uint32_t k;

	if (grow((void **)&r->gens->v, r->gens->n, &r->gens->cap, sizeof(*r->gens->v)) < 0)
		return no_memory(r->g->err);
	id = &r->gens->v[r->gens->n];
	memset(id, 0, sizeof(*id));
	if (cpx_name_parse(name, id, &k) != r->kind)
		return 0;
	memcpy(id->job, r->job, sizeof(id->job));
	r->gens->n++;
	return 0;
}

static int by_gen(const void *a, const void *b)
{
	return cpx_gen_compare(a, b);
}

/* The generations of a job that have a file of @kind, sorted. */
static int list_gens(struct code_gc *g, const char *job, enum cpx_name_kind kind,
		     struct gens *out)
{
	struct reading r = { .g = g, .gens = out, .kind = kind };
	char dir[CPX_NAME_MAX];
	int rc;

	snprintf(r.job, sizeof(r.job), "%s", job);
	out->n = 0;
	cpx_name_job(job, dir);
	rc = cpx_io_list(&g->s->io, dir, add_gen, &r, g->err);
	if (rc == 0 && out->n)
		qsort(out->v, out->n, sizeof(*out->v), by_gen);
	return rc;
}

static bool same_gens(const struct gens *a, const struct gens *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (cpx_gen_compare(&a->v[i], &b->v[i]) != 0)
			return false;
	return true;
}

/* What a generation that is being written has noted. One that is gone by now is committed, and
 * then its manifest is there, or it is given up. */
static int add_list(struct code_gc *g, const struct cpx_gen_id *id)
{
	CPX_AUTO_FREE uint8_t *sums = NULL;
	int n = cpx_code_list_read(g->s, id, &sums, g->err);

	if (n == CPX_E_NOENT)
		return 0;
	return n < 0 ? n : add_sums(&g->refs, sums, (size_t)n, g->err);
}

static int add_manifest(struct code_gc *g, const struct cpx_gen_id *id)
{
	uint8_t(*sums)[32];
	struct cpx_image *img;
	int rc = cpx_image_load(g->s, id, true, &img, g->err), n;

	if (rc < 0)
		return rc;
	n = cpx_container_code(img->state, &sums, g->err);
	if (n >= 0) {
		rc = add_sums(&g->refs, sums[0], (size_t)n, g->err);
		free(sums);
	}
	cpx_image_close(img);
	return n < 0 ? n : rc;
}

/*
 * Lists first: one that is gone by then has a manifest. Manifests are listed before and after
 * they are read, for a generation may come while another one that has the same objects goes.
 * Return: 0, 1 where they changed meanwhile, or an error.
 */
static int read_job_once(struct code_gc *g, const char *job, struct gens *gens,
			 struct gens *after)
{
	int rc = list_gens(g, job, CPX_NAME_CODE, gens);

	for (size_t i = 0; i < gens->n && rc == 0; i++)
		rc = add_list(g, &gens->v[i]);
	if (rc == 0)
		rc = list_gens(g, job, CPX_NAME_MANIFEST, gens);
	for (size_t i = 0; i < gens->n && rc == 0; i++)
		rc = add_manifest(g, &gens->v[i]);
	if (rc == CPX_E_NOENT)
		return 1;
	if (rc == 0)
		rc = list_gens(g, job, CPX_NAME_MANIFEST, after);
	return rc < 0 ? rc : !same_gens(gens, after);
}

static int read_job(void *ctx, const char *job)
{
	struct code_gc *g = ctx;
	struct gens gens = { 0 }, after = { 0 };
	int rc = cpx_job_name_valid(job) ? 1 : 0;

	for (int i = 0; i < TRIES && rc == 1; i++)
		rc = read_job_once(g, job, &gens, &after);
	free(gens.v);
	free(after.v);
	if (rc == 1)
		rc = cpx_err_set(g->err, CPX_E_BUSY,
				 "job '%s' changes too fast to tell which programs it needs",
				 job);
	return rc;
}

static int read_references(struct code_gc *g)
{
	int rc;

	g->refs.n = 0;
	rc = cpx_io_list(&g->s->io, "jobs", read_job, g, g->err);
	if (rc == 0 && g->refs.n)
		qsort(g->refs.v, g->refs.n, sizeof(*g->refs.v), by_sum);
	return rc;
}

static bool is_needed(const struct code_gc *g, const uint8_t sum[32])
{
	return g->refs.n && bsearch(sum, g->refs.v, g->refs.n, sizeof(*g->refs.v), by_sum);
}

/* --- objects -------------------------------------------------------------------------- */

static int add_object(void *ctx, const char *name)
{
	struct code_gc *g = ctx;
	struct object *o;

	if (grow((void **)&g->v, g->n, &g->cap, sizeof(*g->v)) < 0)
		return no_memory(g->err);
	o = &g->v[g->n];
	if (cpx_name_code_parse(name, o->sum))
		snprintf(g->v[g->n++].name, sizeof(o->name), "code/%s", name);
	return 0;
}

static void gone_name(const struct code_gc *g, const struct object *o, char out[CPX_NAME_MAX])
{
	char name[CPX_NAME_MAX];

	cpx_name_code(o->sum, name);
	snprintf(out, CPX_NAME_MAX, "%.*s.%s.gone", CPX_NAME_MAX - 24, name, g->nonce);
}

/* Keep in the list what nothing refers to, under a name of ours. */
static int take_out(struct code_gc *g, bool dry_run, struct cpx_code_gc *out)
{
	size_t n = 0;
	int rc = 0;

	for (size_t i = 0; i < g->n; i++) {
		struct object *o = &g->v[i];
		uint64_t bytes = cpx_store_file_bytes(g->s, o->name);
		char to[CPX_NAME_MAX];

		out->files++;
		out->bytes += bytes;
		if (is_needed(g, o->sum) && strlen(o->name) == sizeof("code/") - 1 + 64)
			continue;
		out->dead_files += !is_needed(g, o->sum);
		out->dead_bytes += is_needed(g, o->sum) ? 0 : bytes;
		if (dry_run || rc < 0)
			continue;
		gone_name(g, o, to);
		rc = cpx_io_rename(&g->s->io, o->name, to, g->err);
		if (rc == 0) {
			strcpy(o->name, to);
			g->v[n++] = *o;
		} else if (rc == CPX_E_NOENT || rc == CPX_E_EXIST) {
			rc = 0; /* another collector was quicker */
		}
	}
	g->n = n;
	return rc;
}

static int remove_one(struct code_gc *g, const char *name)
{
	int rc = cpx_io_unlink(&g->s->io, name, g->err);

	return rc == CPX_E_NOENT ? 0 : rc;
}

/* @keep: all of it. */
static int put_back_or_remove(struct code_gc *g, bool keep)
{
	char name[CPX_NAME_MAX];
	int rc = 0;

	for (size_t i = 0; i < g->n; i++) {
		const struct object *o = &g->v[i];
		int got;

		if (!keep && !is_needed(g, o->sum)) {
			got = remove_one(g, o->name);
		} else {
			cpx_name_code(o->sum, name);
			got = cpx_io_rename(&g->s->io, o->name, name, g->err);
			if (got == CPX_E_EXIST) /* stored again meanwhile */
				got = remove_one(g, o->name);
			else if (got == CPX_E_NOENT)
				got = 0;
		}
		rc = rc < 0 ? rc : got;
	}
	return rc;
}

static int collect(struct code_gc *g, struct cpx_code_gc *out)
{
	int rc = take_out(g, false, out), done;

	if (g->n == 0)
		return rc;
	if (rc == 0)
		rc = read_references(g);
	done = put_back_or_remove(g, rc < 0);
	rc = rc < 0 ? rc : done;
	return rc < 0 ? rc : cpx_io_fsync_dir(&g->s->io, "code", g->err);
}

int cpx_store_gc_code(struct cpx_store *s, bool dry_run, struct cpx_code_gc *out,
		      struct cpx_err *err)
{
	struct code_gc g = { .s = s, .err = err };
	uint64_t nonce;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce))
		return cpx_err_sys(err, errno, "getrandom");
	snprintf(g.nonce, sizeof(g.nonce), "%016llx", (unsigned long long)nonce);
	if (!dry_run)
		rc = cpx_store_clean_code(s, err);
	if (rc >= 0)
		rc = cpx_io_list(&s->io, "code", add_object, &g, err);
	if (rc == 0 && g.n)
		rc = read_references(&g);
	if (rc == 0)
		rc = dry_run ? take_out(&g, true, out) : collect(&g, out);
	free(g.v);
	free(g.refs.v);
	return rc;
}
