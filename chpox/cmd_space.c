/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc, du: what images take, and removing what nothing needs.
 *
 * chpoxd says which generations a job's record keeps (and, for gc, takes out of it what
 * retention and pins keep no longer); the files are looked at and removed here, as the job's
 * owner. So a user reaches what is his, and root all. Removal is safe whatever happens
 * meanwhile (store/gc.c, store/code_gc.c). What cannot be done for one job or store is said,
 * and the rest is done.
 */
#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../scheduler/proto.h"
#include "../store/image.h"
#include "base/cmd.h"
#include "base/err.h"
#include "base/fd.h"
#include "ctl.h"
#include "job_client.h"

#define TRIES 5 /* where the head is replaced while it is looked at */

/* One run of either command. */
struct space {
	const struct cpx_args *a;
	bool dry_run; /* du is one, too */
	json_t *jobs, *code;
	unsigned done, failed;
	struct cpx_err alone; /* why the one job that was named failed */
};

static const struct cpx_ctl *ctl_of(const struct space *s)
{
	return s->a->ctx;
}

/* One that failed is told of, in the report or on the spot. */
static json_t *failed(struct space *s, const char *what, const struct cpx_err *err)
{
	s->failed++;
	if (s->a->npos)
		s->alone = *err;
	else if (!cpx_arg_given(s->a, "json"))
		fprintf(stderr, "chpox_ctl: %s: %s\n", what, err->msg);
	return json_pack("{s:s}", "error", err->msg);
}

/* --- stores --------------------------------------------------------------------------- */

/* The store of user @uid, as that user. CPX_E_NOENT: he has none. */
static int open_store(const struct cpx_ctl *ctl, uid_t uid, struct cpx_store **out,
		      struct cpx_err *err)
{
	struct cpx_store_opts o = { .uid = (uint32_t)-1, .gid = (uint32_t)-1 };
	CPX_AUTO_FREE char *dir = NULL;
	struct stat st;

	if (asprintf(&dir, "%s/store/%u", ctl->dir, uid) < 0) {
		dir = NULL;
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	}
	if (stat(dir, &st) < 0)
		return cpx_err_sys(err, errno, "%s", dir);
	if (st.st_uid != uid)
		return cpx_err_set(err, CPX_E_PERM, "%s belongs to user %u", dir, st.st_uid);
	if (geteuid() == 0) {
		o.uid = st.st_uid;
		o.gid = st.st_gid;
	}
	return cpx_store_open(dir, &o, out, err);
}

static void one_code(struct space *s, uid_t uid)
{
	struct cpx_code_gc gc = { 0 };
	struct cpx_store *store;
	struct cpx_err err = { 0 };
	json_t *j = NULL;
	char what[40];
	int r = open_store(ctl_of(s), uid, &store, &err);

	if (r == CPX_E_NOENT)
		return;
	if (r >= 0) {
		r = cpx_store_gc_code(store, s->dry_run, &gc, &err);
		cpx_store_close(store);
	}
	s->done++;
	snprintf(what, sizeof(what), "programs of user %u", uid);
	j = r < 0 ? failed(s, what, &err) : json_object();
	json_object_set_new(j, "uid", json_integer(uid));
	json_object_set_new(j, "files", json_integer((json_int_t)gc.files));
	json_object_set_new(j, "bytes", json_integer((json_int_t)gc.bytes));
	json_object_set_new(j, "dead_files", json_integer((json_int_t)gc.dead_files));
	json_object_set_new(j, "dead_bytes", json_integer((json_int_t)gc.dead_bytes));
	json_array_append_new(s->code, j);
}

/* Programs and libraries: those of the caller; root's: of all who have a store. */
static int all_code(struct space *s, struct cpx_err *err)
{
	CPX_AUTO_FREE char *path = NULL;
	struct dirent *e;
	DIR *dir;

	if (geteuid() != 0) {
		one_code(s, geteuid());
		return 0;
	}
	if (asprintf(&path, "%s/store", ctl_of(s)->dir) < 0) {
		path = NULL;
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	}
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : cpx_err_sys(err, errno, "cannot list %s", path);
	while ((e = readdir(dir))) {
		uint64_t uid;

		if (cpx_parse_u64(e->d_name, "user", UINT32_MAX - 1, &uid, NULL) == 0)
			one_code(s, (uid_t)uid);
	}
	closedir(dir);
	return 0;
}

void cpx_ctl_collect_code(const struct cpx_ctl *ctl, uint32_t uid)
{
	struct cpx_code_gc gc;
	struct cpx_store *store;

	if (open_store(ctl, uid, &store, NULL) < 0)
		return;
	cpx_store_gc_code(store, false, &gc, NULL);
	cpx_store_close(store);
}

/* --- jobs ----------------------------------------------------------------------------- */

/* What the record keeps: *@kept is malloc'ed. Return: how many. */
static int ask(struct space *s, const char *job, struct cpx_gen_id **kept, json_t **answer,
	       struct cpx_err *err)
{
	json_t *req =
		json_pack("{s:s, s:s, s:b}", "op", "gc", "job", job, "dry_run", s->dry_run);
	CPX_AUTO_FREE struct cpx_gen_id *v = NULL;
	json_t *list;
	size_t n;
	int r = cpx_client_call(ctl_of(s), req, NULL, 0, answer, NULL, err);

	if (r < 0)
		return r;
	list = json_object_get(*answer, "images");
	n = json_array_size(list);
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		r = cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	for (size_t i = 0; i < n && r >= 0; i++)
		r = cpx_client_image(json_array_get(list, i), job, &v[i], err);
	if (r < 0) {
		json_decref(*answer);
		return r;
	}
	*kept = cpx_steal_ptr(&v);
	return (int)n;
}

static int try_job(struct space *s, const char *job, json_t *j, struct cpx_gc *gc,
		   struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_gen_id *kept = NULL;
	struct cpx_store *store;
	json_t *answer = NULL;
	int n = ask(s, job, &kept, &answer, err), r;

	if (n < 0)
		return n;
	r = open_store(ctl_of(s), (uid_t)cpx_proto_int(answer, "uid", -1), &store, err);
	if (r >= 0) {
		r = cpx_store_gc(store, job, kept, (size_t)n, s->dry_run, gc, err);
		cpx_store_close(store);
	}
	json_object_set(j, "uid", json_object_get(answer, "uid"));
	json_object_set_new(j, "generations", json_integer(n));
	/* taken out of the record now, or by an earlier try */
	json_object_set_new(j, "dropped",
			    json_integer(cpx_proto_int(j, "dropped", 0) +
					 cpx_proto_int(answer, "dropped", 0)));
	json_decref(answer);
	return r;
}

static void one_job(struct space *s, const char *job)
{
	struct cpx_gc gc = { 0 };
	struct cpx_err err = { 0 };
	json_t *j = json_object();
	int r = CPX_E_NOENT;

	/* a head that was written anew meanwhile is not where the record said */
	for (int i = 0; i < TRIES && r == CPX_E_NOENT; i++)
		r = try_job(s, job, j, &gc, &err);
	s->done++;
	if (r < 0) {
		json_t *why = failed(s, job, &err);

		json_object_update(j, why);
		json_decref(why);
	}
	json_object_set_new(j, "job", json_string(job));
	json_object_set_new(j, "bytes", json_integer((json_int_t)gc.bytes));
	json_object_set_new(j, "bytes_head", json_integer((json_int_t)gc.bytes_head));
	json_object_set_new(j, "dead_files", json_integer((json_int_t)gc.dead_files));
	json_object_set_new(j, "dead_bytes", json_integer((json_int_t)gc.dead_bytes));
	json_array_append_new(s->jobs, j);
}

static int all_jobs(struct space *s, struct cpx_err *err)
{
	json_t *answer, *list;
	int r = cpx_client_call(ctl_of(s), json_pack("{s:s}", "op", "list"), NULL, 0, &answer,
				NULL, err);

	if (r < 0)
		return r;
	list = json_object_get(answer, "jobs");
	for (size_t i = 0; i < json_array_size(list); i++)
		one_job(s, cpx_proto_str(json_array_get(list, i), "job"));
	json_decref(answer);
	return all_code(s, err);
}

/* --- saying it ------------------------------------------------------------------------ */

static uint64_t number(const json_t *j, const char *key)
{
	return (uint64_t)cpx_proto_int(j, key, 0);
}

static const char *user_of(const json_t *j, char buf[24])
{
	const uid_t uid = (uid_t)number(j, "uid");
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		snprintf(buf, 24, "%s", pw->pw_name);
	else
		snprintf(buf, 24, "%u", uid);
	return buf;
}

static void du_row(const char *name, const json_t *j)
{
	char user[24], head[16], older[16], dead[16], all[16];
	const uint64_t bytes = number(j, "bytes"), gone = number(j, "dead_bytes");
	const bool is_job = json_object_get(j, "bytes_head") != NULL;
	const uint64_t needed = is_job ? number(j, "bytes_head") : bytes - gone;

	if (json_object_get(j, "error"))
		return;
	printf("%-16s %-8s %5llu %9s %9s %9s %9s\n", name, user_of(j, user),
	       (unsigned long long)number(j, is_job ? "generations" : "files"),
	       cpx_human_size(needed, head), cpx_human_size(bytes - gone - needed, older),
	       cpx_human_size(gone, dead), cpx_human_size(bytes, all));
}

static void print_du(const struct space *s)
{
	printf("%-16s %-8s %5s %9s %9s %9s %9s\n", "JOB", "USER", "KEPT", "HEAD", "OLDER",
	       "DEAD", "ALL");
	for (size_t i = 0; i < json_array_size(s->jobs); i++) {
		const json_t *j = json_array_get(s->jobs, i);

		du_row(cpx_proto_str(j, "job"), j);
	}
	for (size_t i = 0; i < json_array_size(s->code); i++)
		du_row("(programs)", json_array_get(s->code, i));
}

static void gc_row(const struct space *s, const char *name, const json_t *j)
{
	const uint64_t files = number(j, "dead_files"), dropped = number(j, "dropped");
	char size[16], gens[48] = "";

	if (json_object_get(j, "error") || (!files && !dropped))
		return;
	if (dropped)
		snprintf(gens, sizeof(gens), "%llu generations, ", (unsigned long long)dropped);
	printf("%s: %s%llu files, %s %s\n", name, gens, (unsigned long long)files,
	       cpx_human_size(number(j, "dead_bytes"), size),
	       s->dry_run ? "would be removed" : "removed");
}

static void print_gc(const struct space *s)
{
	uint64_t sum = 0;
	char size[16], name[40], user[24];

	for (size_t i = 0; i < json_array_size(s->jobs); i++) {
		const json_t *j = json_array_get(s->jobs, i);

		gc_row(s, cpx_proto_str(j, "job"), j);
		sum += number(j, "dead_bytes");
	}
	for (size_t i = 0; i < json_array_size(s->code); i++) {
		const json_t *j = json_array_get(s->code, i);

		snprintf(name, sizeof(name), "programs of %s", user_of(j, user));
		gc_row(s, name, j);
		sum += number(j, "dead_bytes");
	}
	printf("%s %s\n", cpx_human_size(sum, size),
	       s->dry_run ? "would be removed" : "removed");
}

static int run(struct space *s, void (*print)(const struct space *s), struct cpx_err *err)
{
	int r = 0;

	s->jobs = json_array();
	s->code = json_array();
	if (!s->jobs || !s->code)
		r = cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	else if (s->a->npos)
		one_job(s, s->a->pos[0]);
	else
		r = all_jobs(s, err);
	if (r >= 0 && cpx_arg_given(s->a, "json")) {
		json_t *j = json_pack("{s:b, s:O, s:O}", "dry_run", s->dry_run, "jobs", s->jobs,
				      "code", s->code);

		json_dumpf(j, stdout, JSON_INDENT(1));
		putchar('\n');
		json_decref(j);
	} else if (r >= 0 && !s->alone.code) {
		print(s);
	}
	json_decref(s->jobs);
	json_decref(s->code);
	if (r >= 0 && s->alone.code) {
		*err = s->alone;
		return err->code;
	}
	if (r >= 0 && s->failed)
		r = cpx_err_set(err, CPX_E_SYS, "%s: %u of %u failed", s->a->cmd->name,
				s->failed, s->done);
	return r < 0 ? r : 0;
}

int cpx_ctl_gc(const struct cpx_args *a, struct cpx_err *err)
{
	struct space s = { .a = a, .dry_run = cpx_arg_given(a, "dry-run") };

	return run(&s, print_gc, err);
}

int cpx_ctl_du(const struct cpx_args *a, struct cpx_err *err)
{
	struct space s = { .a = a, .dry_run = true };

	return run(&s, print_du, err);
}
