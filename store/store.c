/* SPDX-License-Identifier: GPL-2.0-or-later */
/* store.c - a store as a directory: which generations there are, and removing them. */
#include "store_priv.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

#define WORKERS_LIMIT 256u

unsigned cpx_store_workers(unsigned wanted)
{
	cpu_set_t set;
	long n;

	if (!wanted) {
		n = sched_getaffinity(0, sizeof(set), &set) == 0
			    ? CPU_COUNT(&set)
			    : sysconf(_SC_NPROCESSORS_ONLN);
		wanted = n > 0 ? (unsigned)n : 1;
	}
	return wanted < WORKERS_LIMIT ? wanted : WORKERS_LIMIT;
}

static int path_of(const char *url, const char **path, struct cpx_err *err)
{
	const char *scheme = strstr(url, "://");

	*path = url;
	if (scheme &&
	    strspn(url, "abcdefghijklmnopqrstuvwxyz0123456789+.-") == (size_t)(scheme - url)) {
		if (strncmp(url, "file://", 7) != 0)
			return cpx_err_set(
				err, CPX_E_UNSUPPORTED,
				"stores of the kind %.*s:// are not supported; use a "
				"directory",
				(int)(scheme - url), url);
		*path = url + 7;
		if (**path != '/')
			return cpx_err_set(err, CPX_E_INVAL, "%s: file:///DIR is meant", url);
	}
	if (!**path)
		return cpx_err_set(err, CPX_E_INVAL, "an empty path is no store");
	return 0;
}

int cpx_store_open_hooked(const char *url, const struct cpx_store_opts *opts,
			  struct cpx_io_hook hook, struct cpx_store **out, struct cpx_err *err)
{
	const struct cpx_store_opts none = { .uid = (uint32_t)-1, .gid = (uint32_t)-1 };
	struct cpx_store *s;
	const char *path;
	int rc = path_of(url, &path, err);

	if (rc < 0)
		return rc;
	if (!opts)
		opts = &none;
	s = calloc(1, sizeof(*s));
	if (!s)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to open store %s", url);
	rc = cpx_io_init(&s->io, path, opts->create, opts->uid, opts->gid, err);
	if (rc < 0) {
		free(s);
		return rc;
	}
	s->io.hook = hook;
	s->cache = opts->code_cache ? opts->code_cache : &s->own;
	pthread_mutex_init(&s->lock, NULL);
	*out = s;
	return 0;
}

int cpx_store_open(const char *url, const struct cpx_store_opts *opts, struct cpx_store **out,
		   struct cpx_err *err)
{
	return cpx_store_open_hooked(url, opts, (struct cpx_io_hook){ 0 }, out, err);
}

void cpx_store_close(struct cpx_store *s)
{
	if (!s)
		return;
	cpx_code_list_end(s);
	cpx_io_fini(&s->io);
	pthread_mutex_destroy(&s->lock);
	free(s->fresh);
	free(s);
}

void cpx_store_speed(struct cpx_store *s, struct cpx_store_speed *out)
{
	cpx_io_metered(&s->io, &out->bytes, &out->ns);
}

void cpx_store_speed_since(struct cpx_store *s, const struct cpx_store_speed *before,
			   struct cpx_store_speed *out)
{
	cpx_store_speed(s, out);
	out->bytes -= before->bytes;
	out->ns -= before->ns;
}

int cpx_store_make_dir(struct cpx_store *s, const char *job, bool *made, struct cpx_err *err)
{
	char dir[CPX_NAME_MAX];
	int rc = cpx_io_mkdir(&s->io, "jobs", err);

	*made = false;
	if (rc == 1)
		rc = cpx_io_fsync_dir(&s->io, ".", err);
	if (rc < 0)
		return rc;
	cpx_name_job(job, dir);
	rc = cpx_io_mkdir(&s->io, dir, err);
	*made = rc == 1;
	return *made ? cpx_io_fsync_dir(&s->io, "jobs", err) : rc;
}

/* --- listing ------------------------------------------------------------------------ */

struct listing {
	struct cpx_store *s;
	char job[CPX_JOB_NAME_MAX];
	struct cpx_gen_entry *v;
	size_t n, cap;
};

static int add_generation(void *ctx, const char *name)
{
	struct listing *l = ctx;
	struct cpx_gen_entry e = { 0 };
	struct cpx_manifest m;
	size_t len;
	uint32_t k;

	if (cpx_name_parse(name, &e.id, &k) != CPX_NAME_MANIFEST)
		return 0;
	memcpy(e.id.job, l->job, sizeof(e.id.job));
	if (cpx_image_load_manifest(l->s, &e.id, false, &m, &len, NULL) == 0) {
		e.whole = true;
		e.bytes_stored = m.stats.bytes_stored + len;
		e.bytes_memory = m.stats.bytes_memory + m.stats.pages_inherited * CPX_PAGE;
		e.realtime_ns = m.realtime_ns;
		cpx_manifest_free(&m);
	}
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;
		void *v = realloc(l->v, cap * sizeof(*l->v));

		if (!v)
			return CPX_E_NOMEM;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = e;
	return 0;
}

static int list_job(void *ctx, const char *job)
{
	struct listing *l = ctx;
	char dir[CPX_NAME_MAX];

	if (!cpx_job_name_valid(job))
		return 0;
	memset(l->job, 0, sizeof(l->job));
	memcpy(l->job, job, strlen(job));
	cpx_name_job(job, dir);
	return cpx_io_list(&l->s->io, dir, add_generation, l, NULL);
}

static int newest_first(const void *a, const void *b)
{
	const struct cpx_gen_entry *x = a, *y = b;
	int c = cpx_gen_compare(&y->id, &x->id);

	return c ? c : strcmp(x->id.job, y->id.job);
}

int cpx_store_list(struct cpx_store *s, const char *job, struct cpx_gen_entry **out,
		   struct cpx_err *err)
{
	struct listing l = { .s = s };
	int rc;

	if (job && *job) {
		if (!cpx_job_name_valid(job))
			return cpx_err_set(err, CPX_E_INVAL, "'%s' is not a job's name", job);
		rc = list_job(&l, job);
	} else {
		rc = cpx_io_list(&s->io, "jobs", list_job, &l, NULL);
	}
	if (rc < 0) {
		free(l.v);
		return cpx_err_set(err, rc, "cannot list %s: %s", s->io.shown,
				   cpx_err_name(rc));
	}
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), newest_first);
	*out = l.v;
	return (int)l.n;
}

/* --- removing ----------------------------------------------------------------------- */

struct strings {
	char (*v)[CPX_NAME_MAX];
	size_t n, cap;
};

static int add_string(struct strings *s, const char *text)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;
		void *v = realloc(s->v, cap * sizeof(*s->v));

		if (!v)
			return CPX_E_NOMEM;
		s->v = v;
		s->cap = cap;
	}
	snprintf(s->v[s->n++], sizeof(*s->v), "%s", text);
	return 0;
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int keep_name(void *ctx, const char *name)
{
	return add_string(ctx, name);
}

/* Paths of all packs that manifests of @job refer to, but for that of @except. */
static int referred_packs(struct cpx_store *s, const char *job, const struct cpx_gen_id *except,
			  struct strings *out, struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_gen_entry *v = NULL;
	int n = cpx_store_list(s, job, &v, err);

	for (int i = 0; i < n; i++) {
		struct cpx_manifest m;
		char path[CPX_NAME_MAX];
		size_t len;
		int rc;

		if (except && cpx_gen_compare(&v[i].id, except) == 0)
			continue;
		/* one that cannot be read may refer to anything: then nothing is removed */
		rc = cpx_image_load_manifest(s, &v[i].id, false, &m, &len, err);
		if (rc < 0)
			return rc;
		for (uint32_t k = 0; rc == 0 && k < m.npacks; k++) {
			const struct cpx_pack_info *p = &m.packs[k];

			cpx_name_pack(job, p->epoch, p->seq, p->nonce, p->k, path);
			rc = add_string(out, path);
		}
		cpx_manifest_free(&m);
		if (rc < 0)
			return cpx_err_set(err, rc, "no memory to list packs");
	}
	if (n >= 0 && out->n)
		qsort(out->v, out->n, sizeof(*out->v), compare_strings);
	return n < 0 ? n : 0;
}

/* Return: whether file @name of the job's directory goes. */
static bool is_dead(const char *name, const char *path, const struct cpx_gen_id *below,
		    const struct strings *kept)
{
	struct cpx_gen_id id;
	uint32_t k;
	enum cpx_name_kind kind = cpx_name_parse(name, &id, &k);

	if (kind == CPX_NAME_OTHER || kind == CPX_NAME_MANIFEST)
		return false;
	if (id.epoch > below->epoch || (id.epoch == below->epoch && id.seq >= below->seq))
		return false;
	return !kept->n || !bsearch(path, kept->v, kept->n, sizeof(*kept->v), compare_strings);
}

int cpx_store_clean(struct cpx_store *s, const struct cpx_gen_id *below, struct cpx_err *err)
{
	struct strings kept = { 0 }, names = { 0 };
	char dir[CPX_NAME_MAX], path[CPX_NAME_MAX * 2 + 2];
	int removed = 0, rc;

	if (!cpx_job_name_valid(below->job))
		return cpx_err_set(err, CPX_E_INVAL, "not a job's name");
	cpx_name_job(below->job, dir);
	/* names first, manifests then: what a manifest that appears meanwhile refers to is kept
	 */
	rc = cpx_io_list(&s->io, dir, keep_name, &names, err);
	if (rc == 0)
		rc = referred_packs(s, below->job, NULL, &kept, err);
	for (size_t i = 0; rc == 0 && i < names.n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names.v[i]);
		if (!is_dead(names.v[i], path, below, &kept))
			continue;
		rc = cpx_io_unlink(&s->io, path, err);
		removed += rc == 0;
	}
	if (rc == 0 && removed)
		rc = cpx_io_fsync_dir(&s->io, dir, err);
	free(kept.v);
	free(names.v);
	if (rc == 0)
		rc = cpx_store_clean_code(s, err);
	return rc < 0 ? rc : removed + rc;
}

/* The packs of @m that nobody in @kept refers to. */
static int remove_packs(struct cpx_store *s, const struct cpx_manifest *m,
			const struct strings *kept, struct cpx_err *err)
{
	char path[CPX_NAME_MAX];
	int rc = 0;

	for (uint32_t i = 0; i < m->npacks; i++) {
		const struct cpx_pack_info *p = &m->packs[i];
		struct cpx_err one;
		int got;

		cpx_name_pack(m->id.job, p->epoch, p->seq, p->nonce, p->k, path);
		if (kept->n &&
		    bsearch(path, kept->v, kept->n, sizeof(*kept->v), compare_strings))
			continue;
		got = cpx_io_unlink(&s->io, path, &one);
		if (got < 0 && got != CPX_E_NOENT && rc == 0) {
			rc = got;
			if (err)
				*err = one;
		}
	}
	return rc;
}

int cpx_store_remove(struct cpx_store *s, const struct cpx_gen_id *id, struct cpx_err *err)
{
	struct cpx_manifest m = { 0 };
	struct strings kept = { 0 };
	char path[CPX_NAME_MAX], dir[CPX_NAME_MAX];
	bool readable;
	size_t len;
	int rc;

	if (!cpx_gen_valid(id))
		return cpx_err_set(err, CPX_E_INVAL, "not a generation's name");
	cpx_name_manifest(id, false, path);
	cpx_name_job(id->job, dir);
	rc = cpx_image_load_manifest(s, id, false, &m, &len, err);
	if (rc == CPX_E_NOENT)
		return rc;
	readable = rc == 0;
	/* a damaged one goes, too; its packs are left to cpx_store_clean() */
	rc = readable ? referred_packs(s, id->job, id, &kept, err) : 0;
	if (rc == 0)
		rc = cpx_io_unlink(&s->io, path, err);
	/* the packs only after the manifest is gone for good */
	if (rc == 0)
		rc = cpx_io_fsync_dir(&s->io, dir, err);
	if (rc == 0 && readable)
		rc = remove_packs(s, &m, &kept, err);
	/* the last one takes the directory along; others keep it alive */
	if (rc == 0)
		cpx_io_rmdir(&s->io, dir, NULL);
	free(kept.v);
	cpx_manifest_free(&m);
	return rc;
}

/* Remove the files of @kind among @names. */
static int remove_kind(struct cpx_store *s, const char *dir, const struct strings *names,
		       bool manifests, struct cpx_err *err)
{
	char path[CPX_NAME_MAX * 2 + 2];
	struct cpx_gen_id id;
	int rc = 0;
	uint32_t k;

	for (size_t i = 0; rc == 0 && i < names->n; i++) {
		enum cpx_name_kind kind = cpx_name_parse(names->v[i], &id, &k);

		if (kind == CPX_NAME_OTHER || (kind == CPX_NAME_MANIFEST) != manifests)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, names->v[i]);
		rc = cpx_io_unlink(&s->io, path, err);
		if (rc == CPX_E_NOENT)
			rc = 0;
	}
	return rc;
}

int cpx_store_remove_job(struct cpx_store *s, const char *job, struct cpx_err *err)
{
	struct strings names = { 0 };
	char dir[CPX_NAME_MAX];
	int rc;

	if (!cpx_job_name_valid(job))
		return cpx_err_set(err, CPX_E_INVAL, "'%s' is not a job's name", job);
	cpx_name_job(job, dir);
	rc = cpx_io_list(&s->io, dir, keep_name, &names, err);
	if (rc == 0)
		rc = remove_kind(s, dir, &names, true, err);
	/* packs only after the manifests are gone for good */
	if (rc == 0 && names.n)
		rc = cpx_io_fsync_dir(&s->io, dir, err);
	if (rc == 0)
		rc = remove_kind(s, dir, &names, false, err);
	if (rc == 0 && names.n)
		cpx_io_rmdir(&s->io, dir, NULL);
	free(names.v);
	return rc;
}
