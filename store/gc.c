/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc.c - what nothing needs any more goes.
 *
 * Happy path: names of the job's directory; manifests of the kept generations, each read and
 * checked; dead is what is below the head, is no kept manifest, and no pack that a kept
 * manifest refers to. Manifests go first, durably, then packs.
 *
 * Why that is safe whoever does it and however late: a manifest refers only to packs of its own
 * and of the head it replaces, and a generation that left the record never comes back into it.
 * So what is unreferenced by what a record kept, and below the head it had, stays so; a
 * generation that is being written is above the head. A kept manifest that cannot be read may
 * refer to anything: then no pack goes.
 */
#include "store_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

struct file {
	char path[CPX_NAME_MAX];
	enum cpx_name_kind kind;
	uint64_t size;
	bool dead, of_head;
};

struct gc {
	struct cpx_store *s;
	const struct cpx_gen_id *kept;
	size_t nkept;
	char dir[CPX_NAME_MAX];
	struct file *v;
	size_t n, cap;
};

static bool is_kept(const struct gc *g, const struct cpx_gen_id *id)
{
	for (size_t i = 0; i < g->nkept; i++)
		if (cpx_gen_compare(&g->kept[i], id) == 0)
			return true;
	return false;
}

static bool is_below(const struct cpx_gen_id *id, const struct cpx_gen_id *head)
{
	return id->epoch != head->epoch ? id->epoch < head->epoch : id->seq < head->seq;
}

static int add_file(void *ctx, const char *name)
{
	struct gc *g = ctx;
	struct file *f;
	struct cpx_gen_id id;
	uint32_t k;
	enum cpx_name_kind kind = cpx_name_parse(name, &id, &k);

	if (kind == CPX_NAME_OTHER)
		return 0;
	if (g->n == g->cap) {
		size_t cap = g->cap ? g->cap * 2 : 64;
		void *v = realloc(g->v, cap * sizeof(*g->v));

		if (!v)
			return CPX_E_NOMEM;
		g->v = v;
		g->cap = cap;
	}
	f = &g->v[g->n++];
	memset(f, 0, sizeof(*f));
	f->kind = kind;
	if ((size_t)snprintf(f->path, sizeof(f->path), "%s/%s", g->dir, name) >=
	    sizeof(f->path))
		g->n--;
	else
		f->dead = g->nkept && is_below(&id, &g->kept[0]) &&
			  !(kind == CPX_NAME_MANIFEST && is_kept(g, &id));
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static struct file *find(const struct gc *g, const char *path)
{
	struct file key;

	snprintf(key.path, sizeof(key.path), "%s", path);
	return g->n ? bsearch(&key, g->v, g->n, sizeof(*g->v), by_path) : NULL;
}

/* What a kept generation refers to lives. */
static int spare(struct gc *g, size_t i, struct cpx_err *err)
{
	struct cpx_manifest m;
	char path[CPX_NAME_MAX];
	struct file *f;
	size_t len;
	int rc = cpx_image_load_manifest(g->s, &g->kept[i], false, &m, &len, err);

	if (rc < 0)
		return rc;
	for (uint32_t k = 0; k < m.npacks; k++) {
		const struct cpx_pack_info *p = &m.packs[k];

		cpx_name_pack(m.id.job, p->epoch, p->seq, p->nonce, p->k, path);
		f = find(g, path);
		if (f) {
			f->dead = false;
			f->of_head |= i == 0;
		}
	}
	cpx_name_manifest(&g->kept[i], false, path);
	f = find(g, path);
	if (f)
		f->of_head |= i == 0;
	cpx_manifest_free(&m);
	return 0;
}

/* Return: 0, or the error for which no pack may go. */
static int spare_kept(struct gc *g, struct cpx_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < g->nkept; i++) {
		int got = spare(g, i, rc < 0 ? NULL : err);

		rc = rc < 0 ? rc : got;
	}
	for (size_t i = 0; rc < 0 && i < g->n; i++)
		g->v[i].dead &= g->v[i].kind != CPX_NAME_PACK;
	return rc;
}

uint64_t cpx_store_file_bytes(struct cpx_store *s, const char *path)
{
	CPX_AUTO_FD fd = cpx_io_open(&s->io, path, NULL);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static void count(struct gc *g, struct cpx_gc *out)
{
	for (size_t i = 0; i < g->n; i++) {
		struct file *f = &g->v[i];

		f->size = cpx_store_file_bytes(g->s, f->path);
		out->bytes += f->size;
		out->bytes_head += f->of_head ? f->size : 0;
		out->dead_files += f->dead;
		out->dead_bytes += f->dead ? f->size : 0;
	}
}

/* All dead files that are manifests, or all others. */
static int remove_dead(struct gc *g, bool manifests, struct cpx_err *err)
{
	bool any = false;
	int rc = 0;

	for (size_t i = 0; i < g->n; i++) {
		struct cpx_err one;
		int got;

		if (!g->v[i].dead || (g->v[i].kind == CPX_NAME_MANIFEST) != manifests)
			continue;
		got = cpx_io_unlink(&g->s->io, g->v[i].path, &one);
		any |= got == 0;
		/* somebody else may be at it, too */
		if (got < 0 && got != CPX_E_NOENT && rc == 0) {
			rc = got;
			if (err)
				*err = one;
		}
	}
	if (any && rc == 0)
		rc = cpx_io_fsync_dir(&g->s->io, g->dir, err);
	return rc;
}

int cpx_store_gc(struct cpx_store *s, const char *job, const struct cpx_gen_id *kept, size_t n,
		 bool dry_run, struct cpx_gc *out, struct cpx_err *err)
{
	struct gc g = { .s = s, .kept = kept, .nkept = n };
	int rc, blocked;

	if (!cpx_job_name_valid(job))
		return cpx_err_set(err, CPX_E_INVAL, "'%s' is not a job's name", job);
	for (size_t i = 0; i < n; i++)
		if (strcmp(kept[i].job, job) != 0 || (i && is_below(&kept[0], &kept[i])))
			return cpx_err_set(err, CPX_E_INVAL, "job '%s': not its generations",
					   job);
	memset(out, 0, sizeof(*out));
	cpx_name_job(job, g.dir);
	rc = cpx_io_list(&s->io, g.dir, add_file, &g, err);
	if (rc < 0) {
		free(g.v);
		return rc;
	}
	if (g.n)
		qsort(g.v, g.n, sizeof(*g.v), by_path);
	blocked = spare_kept(&g, err);
	count(&g, out);
	if (!dry_run)
		rc = remove_dead(&g, true, err);
	if (!dry_run && rc == 0)
		rc = remove_dead(&g, false, err);
	free(g.v);
	return rc < 0 ? rc : blocked;
}

/* --- one generation that came to nothing ---------------------------------------------- */

struct discard {
	struct cpx_store *s;
	const struct cpx_gen_id *id;
	char dir[CPX_NAME_MAX];
	bool manifest;
	int rc;
};

static int discard_one(void *ctx, const char *name)
{
	struct discard *d = ctx;
	char path[CPX_NAME_MAX * 2 + 2];
	struct cpx_gen_id id;
	uint32_t k;
	enum cpx_name_kind kind = cpx_name_parse(name, &id, &k);
	int rc;

	if (kind == CPX_NAME_OTHER || cpx_gen_compare(&id, d->id) != 0 ||
	    (kind == CPX_NAME_MANIFEST) != d->manifest)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", d->dir, name);
	rc = cpx_io_unlink(&d->s->io, path, NULL);
	if (rc < 0 && rc != CPX_E_NOENT)
		d->rc = rc;
	return 0;
}

int cpx_store_discard(struct cpx_store *s, const struct cpx_gen_id *id, bool packs,
		      struct cpx_err *err)
{
	struct discard d = { .s = s, .id = id, .manifest = true };
	int rc;

	cpx_name_job(id->job, d.dir);
	rc = cpx_io_list(&s->io, d.dir, discard_one, &d, err);
	if (rc == 0 && d.rc == 0)
		rc = cpx_io_fsync_dir(&s->io, d.dir, err);
	d.manifest = false;
	if (rc == 0 && d.rc == 0 && packs)
		rc = cpx_io_list(&s->io, d.dir, discard_one, &d, err);
	if (rc == 0 && d.rc < 0)
		rc = cpx_err_set(err, d.rc, "cannot remove a generation of job '%s'", id->job);
	return rc;
}
