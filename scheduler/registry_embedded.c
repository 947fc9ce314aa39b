/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry of one machine: a directory with a file a job and one for the node, replaced
 * whole.
 *
 * Writing: lock -> read and compare the version -> NAME.tmp written and fsynced -> renamed over
 * NAME.json -> directory fsynced -> unlock. A crash before the rename leaves the old record and
 * a .tmp that the next write replaces; one after it the new record. When the fsync of the
 * directory fails the caller is told, though a reader may already see the new record: it has a
 * new version, so nobody can mistake it for the old one.
 *
 * The lock is flock on the directory: gone with its holder, however that ends.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fault.h"
#include "../chpox/base/fd.h"
#include "proto.h"
#include "registry_back.h"

#define RECORD_MAX (1u << 20)
#define JOBS_MAX 100000
#define SUFFIX ".json"
#define NODE ".node" /* no job is called so */

struct embedded {
	int dir;
};

static void file_name(const char *job, const char *suffix, char out[CPX_JOB_NAME_MAX + 8])
{
	snprintf(out, CPX_JOB_NAME_MAX + 8, "%.63s%s", job, suffix);
}

int cpx_reg_embedded_open(const char *dir, void **be, struct cpx_err *err)
{
	struct embedded *e;
	CPX_AUTO_FD fd = -1;

	if (mkdir(dir, 0700) && errno != EEXIST)
		return cpx_err_sys(err, errno, "cannot make registry %s", dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return cpx_err_sys(err, errno, "cannot open registry %s", dir);
	e = calloc(1, sizeof(*e));
	if (!e)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	e->dir = cpx_steal_fd(&fd);
	*be = e;
	return 0;
}

static void embedded_close(void *be)
{
	struct embedded *e = be;

	cpx_close(&e->dir);
	free(e);
}

/* A descriptor of its own for each holder: flock belongs to the open file description. */
static int lock(struct embedded *e, struct cpx_err *err)
{
	CPX_AUTO_FD fd = openat(e->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return cpx_err_sys(err, errno, "cannot open the registry");
	while (flock(fd, LOCK_EX))
		if (errno != EINTR)
			return cpx_err_sys(err, errno, "cannot lock the registry");
	return cpx_steal_fd(&fd);
}

static int embedded_get(void *be, const char *name, struct cpx_reg_job *out,
			struct cpx_err *err)
{
	struct embedded *e = be;
	char file[CPX_JOB_NAME_MAX + 8];
	CPX_AUTO_FREE char *text = NULL;
	json_t *j;
	ssize_t n;
	int r;

	file_name(name, SUFFIX, file);
	if (faccessat(e->dir, file, F_OK, 0))
		return cpx_err_set(err, CPX_E_NOENT, "there is no job '%s'", name);
	n = cpx_read_file(e->dir, file, RECORD_MAX, &text, err);
	if (n < 0)
		return (int)n;
	r = cpx_proto_decode(text, (size_t)n, &j, err);
	if (r >= 0) {
		r = cpx_reg_decode(j, out, err);
		json_decref(j);
	}
	if (r >= 0 && strcmp(out->name, name))
		r = cpx_err_set(err, CPX_E_FORMAT, "it is another job's");
	return r < 0 ? cpx_err_wrap(err, "record of job '%s'", name) : 0;
}

/* Replace @name.json whole. @j is freed. Return: 0 or an errno value. */
static int replace(struct embedded *e, const char *name, json_t *j)
{
	char file[CPX_JOB_NAME_MAX + 8], tmp[CPX_JOB_NAME_MAX + 8];
	CPX_AUTO_FREE char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
	CPX_AUTO_FD fd = -1;
	int sys;

	json_decref(j);
	if (!text)
		return ENOMEM;
	file_name(name, SUFFIX, file);
	file_name(name, ".tmp", tmp);
	fd = openat(e->dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	sys = fd < 0 ? errno : cpx_fault("registry-write");
	if (!sys && (cpx_write_full(fd, text, strlen(text)) || fsync(fd)))
		sys = errno;
	if (!sys)
		sys = cpx_fault("registry-rename");
	if (!sys && renameat(e->dir, tmp, e->dir, file))
		sys = errno;
	if (sys)
		unlinkat(e->dir, tmp, 0);
	else if (fsync(e->dir))
		sys = errno;
	return sys;
}

static int write_record(struct embedded *e, const struct cpx_reg_job *job, struct cpx_err *err)
{
	int sys = replace(e, job->name, cpx_reg_encode(job));

	return sys ? cpx_err_sys(err, sys, "cannot write the record of job '%s'", job->name)
		   : 0;
}

static int embedded_swap(void *be, struct cpx_reg_job *job, const struct cpx_reg_cond *cond,
			 struct cpx_err *err)
{
	struct embedded *e = be;
	CPX_AUTO_FD held = lock(e, err);
	struct cpx_reg_job now;
	int r;

	(void)cond;
	if (held < 0)
		return held;
	r = embedded_get(e, job->name, &now, err);
	if (r == CPX_E_NOENT && job->version == 0)
		r = 0;
	else if (r >= 0 && job->version == 0)
		return cpx_err_set(err, CPX_E_EXIST, "there is a job '%s' already", job->name);
	else if (r >= 0 && job->version != now.version)
		return cpx_err_set(err, CPX_E_CONFLICT, "job '%s' was changed meanwhile",
				   job->name);
	if (r < 0)
		return r;
	job->version++;
	r = write_record(e, job, err);
	if (r < 0)
		job->version--;
	return r;
}

static int embedded_remove(void *be, const char *name, uint64_t version, struct cpx_err *err)
{
	struct embedded *e = be;
	CPX_AUTO_FD held = lock(e, err);
	char file[CPX_JOB_NAME_MAX + 8];
	struct cpx_reg_job now;
	int r;

	if (held < 0)
		return held;
	r = embedded_get(e, name, &now, err);
	if (r < 0)
		return r;
	if (now.version != version)
		return cpx_err_set(err, CPX_E_CONFLICT, "job '%s' was changed meanwhile", name);
	file_name(name, SUFFIX, file);
	if (unlinkat(e->dir, file, 0) || fsync(e->dir))
		return cpx_err_sys(err, errno, "cannot remove job '%s'", name);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "NAME.json" -> NAME, malloc'ed; NULL for other files. */
static char *job_of(const char *file)
{
	size_t n = strlen(file), k = strlen(SUFFIX);
	char *s;

	if (n <= k || strcmp(file + n - k, SUFFIX))
		return NULL;
	s = strndup(file, n - k);
	if (s && !cpx_job_name_ok(s)) {
		free(s);
		return NULL;
	}
	return s;
}

static int embedded_list(void *be, char ***names, struct cpx_err *err)
{
	struct embedded *e = be;
	int fd = openat(e->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	char **v = NULL;
	struct dirent *de;
	size_t n = 0;

	if (!d)
		return cpx_err_sys(err, errno, "cannot list the registry");
	v = calloc(1, sizeof(*v));
	while (v && n < JOBS_MAX && (de = readdir(d))) {
		char *s = job_of(de->d_name);
		char **w;

		if (!s)
			continue;
		w = realloc(v, (n + 2) * sizeof(*v));
		if (!w) {
			free(s);
			cpx_proto_strv_free(v);
			v = NULL;
			break;
		}
		v = w;
		v[n++] = s;
		v[n] = NULL;
	}
	closedir(d);
	if (!v)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	qsort(v, n, sizeof(*v), by_name);
	*names = v;
	return (int)n;
}

static int embedded_past_get(void *be, struct cpx_reg_past *out, struct cpx_err *err)
{
	struct embedded *e = be;
	CPX_AUTO_FREE char *text = NULL;
	json_t *j;
	ssize_t n;
	int r;

	if (faccessat(e->dir, NODE SUFFIX, F_OK, 0)) {
		memset(out, 0, sizeof(*out));
		return 0;
	}
	n = cpx_read_file(e->dir, NODE SUFFIX, RECORD_MAX, &text, err);
	r = n < 0 ? (int)n : cpx_proto_decode(text, (size_t)n, &j, err);
	if (r < 0)
		return r;
	r = cpx_reg_past_decode(j, out, err);
	json_decref(j);
	return r;
}

/* A record that makes no sense is begun anew: it only holds experience. */
static int embedded_past_change(void *be, bool (*fn)(struct cpx_reg_past *node, void *ctx),
				void *ctx, struct cpx_err *err)
{
	struct embedded *e = be;
	CPX_AUTO_FD held = lock(e, err);
	struct cpx_reg_past node;
	int r, sys;

	if (held < 0)
		return held;
	r = embedded_past_get(e, &node, err);
	if (r == CPX_E_FORMAT)
		memset(&node, 0, sizeof(node));
	else if (r < 0)
		return r;
	if (!fn(&node, ctx))
		return 0;
	sys = replace(e, NODE, cpx_reg_past_encode(&node));
	return sys ? cpx_err_sys(err, sys, "cannot write the record of the node") : 0;
}

const struct cpx_reg_ops cpx_reg_embedded_ops = {
	.get = embedded_get,
	.swap = embedded_swap,
	.remove = embedded_remove,
	.list = embedded_list,
	.past_get = embedded_past_get,
	.past_change = embedded_past_change,
	.close = embedded_close,
};
