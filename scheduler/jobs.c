/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests. Each is checked completely before anything is done; a job of another user does not
 * exist for who asks, unless he is root.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../chpox/base/cgroup.h"
#include "../chpox/base/clock.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "server.h"

#define ARGS_MAX 100000
#define NAME_TRIES 100000
#define TREE_MAX 4096
#define KILL_TIMEOUT_MS 2000
#define EVERY_MIN_NS 10000000LL
#define EVERY_MAX_NS (366 * 86400 * 1000000000LL)

/* --- finding and checking ------------------------------------------------------------ */

int cpxd_find_any(struct cpxd_conn *c, const json_t *m, struct cpx_reg_job *job,
		  struct cpx_err *err)
{
	const char *name = cpx_proto_str(m, "job");
	int r;

	if (!name)
		return cpx_err_set(err, CPX_E_FORMAT, "no job was named");
	r = cpx_registry_get(c->d->reg, name, job, err);
	if (r < 0)
		return r;
	if (c->uid != 0 && c->uid != job->uid)
		return cpx_err_set(err, CPX_E_NOENT, "there is no job '%s'", name);
	return 0;
}

/* One that this node has to do with. */
int cpxd_find_job(struct cpxd_conn *c, const json_t *m, struct cpx_reg_job *job,
		  struct cpx_err *err)
{
	int r = cpxd_find_any(c, m, job, err);

	if (r >= 0 && cpxd_elsewhere(c->d, job))
		return cpx_err_set(err, CPX_E_GONE, "job '%s' is on node '%s'; ask there",
				   job->name, job->node);
	return r;
}

/* How a job is asked for that does not run. */
int cpxd_not_running(const struct cpx_reg_job *job, struct cpx_err *err)
{
	if (cpxd_lost(job))
		return cpx_err_set(
			err, CPX_E_GONE,
			"job '%s' was lost with its node or keeper; 'chpox_ctl restart %s' "
			"brings it back",
			job->name, job->name);
	if (job->state == CPX_JOB_RUNNING)
		return cpx_err_set(err, CPX_E_BUSY,
				   "the keeper of job '%s' " CPX_PROTO_RETRY "; try again",
				   job->name);
	return cpx_err_set(err, CPX_E_GONE, "job '%s' does not run (%s)", job->name,
			   cpx_job_state_name(job->state));
}

/* The keeper at work on the job: not one that has done it and is about to end. */
struct cpxd_conn *cpxd_working_keeper(struct cpxd *d, const struct cpx_reg_job *job)
{
	struct cpxd_conn *k = cpxd_keeper_of(d, job->name);

	if (k && d->cluster && !k->starting)
		return job->state == CPX_JOB_RUNNING && k->epoch == job->epoch ? k : NULL;
	if (k && !k->starting &&
	    (job->state != CPX_JOB_RUNNING || !cpx_live_check(&job->keeper)))
		return NULL;
	return k;
}

static struct cpxd_conn *keeper_for(struct cpxd_conn *c, const json_t *m,
				    struct cpx_reg_job *job, struct cpx_err *err)
{
	struct cpxd_conn *k;

	if (cpxd_find_job(c, m, job, err) < 0)
		return NULL;
	k = cpxd_working_keeper(c->d, job);
	if (!k || job->state != CPX_JOB_RUNNING) {
		cpxd_not_running(job, err);
		return NULL;
	}
	return k;
}

/* Pass a request on to the job's keeper; its answer goes to @c. */
void cpxd_ask_keeper(struct cpxd_conn *c, struct cpxd_conn *k, json_t *req)
{
	c->pending = ++c->d->last_id;
	c->at = k;
	strcpy(c->job, k->job);
	json_object_set_new(req, "id", json_integer(c->pending));
	cpxd_answer(k, req);
}

static int launch(struct cpxd_conn *c, struct cpxd_launch *l, struct cpx_err *err)
{
	int r;

	c->pending = ++c->d->last_id;
	snprintf(c->job, sizeof(c->job), "%s", l->job);
	l->request = c->pending;
	r = cpxd_launch(c->d, l, err);
	if (r < 0)
		c->pending = 0;
	c->at = r < 0 ? NULL : cpxd_keeper_of(c->d, l->job);
	return r;
}

/* --- run, mark ----------------------------------------------------------------------- */

static int take_retention(const json_t *m, struct cpx_reg_job *job, struct cpx_err *err)
{
	const struct {
		const char *name;
		int64_t min, max, normal;
		uint32_t *to;
	} rules[] = {
		{ "keep", 1, CPX_KEEP_MAX, CPX_KEEP_DEFAULT, &job->keep.last },
		{ "keep-hourly", 0, CPX_KEEP_HOURLY_MAX, 0, &job->keep.hourly },
		{ "keep-daily", 0, CPX_KEEP_DAILY_MAX, 0, &job->keep.daily },
	};

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		int64_t n = cpx_proto_int(m, rules[i].name, rules[i].normal);

		if (n < rules[i].min || n > rules[i].max)
			return cpx_err_set(err, CPX_E_INVAL, "--%s is from %lld to %lld",
					   rules[i].name, (long long)rules[i].min,
					   (long long)rules[i].max);
		*rules[i].to = (uint32_t)n;
	}
	return 0;
}

static bool bad_bound(int64_t ns)
{
	return ns && (ns < EVERY_MIN_NS || ns > EVERY_MAX_NS);
}

static int take_options(const json_t *m, struct cpx_reg_job *job, struct cpx_err *err)
{
	job->every_ns = cpx_proto_int(m, "every_ns", 0);
	if (job->every_ns < -1 || (job->every_ns > 0 && job->every_ns < EVERY_MIN_NS))
		return cpx_err_set(err, CPX_E_INVAL,
				   "checkpoints more often than every 10 ms make no sense");
	job->bounds.min_ns = cpx_proto_int(m, "every_min_ns", 0);
	job->bounds.max_ns = cpx_proto_int(m, "every_max_ns", 0);
	if (bad_bound(job->bounds.min_ns) || bad_bound(job->bounds.max_ns))
		return cpx_err_set(err, CPX_E_INVAL,
				   "bounds of --every auto are from 10 ms to a year");
	if (cpx_tuning_decode(m, &job->tuning, err) < 0)
		return CPX_E_INVAL;
	return take_retention(m, job, err);
}

static void base_name(const char *arg, char *out, size_t size)
{
	const char *slash = strrchr(arg, '/');
	size_t n = 0;

	for (const char *p = slash ? slash + 1 : arg; *p && n + 1 < size; p++) {
		const char one[2] = { *p, 0 };

		if (cpx_job_name_ok(one) || (n && (*p == '-' || *p == '.')))
			out[n++] = *p;
	}
	out[n] = 0;
	if (!cpx_job_name_ok(out))
		snprintf(out, size, "job");
}

/* Reserve the name in the registry: the one asked for, or the first free NAME-N. */
int cpxd_reserve(struct cpxd *d, const json_t *m, const char *from,
		 const struct cpx_reg_cond *cond, struct cpx_reg_job *job, struct cpx_err *err)
{
	const char *name = cpx_proto_str(m, "name");
	char base[32];
	int r = CPX_E_EXIST;

	job->created_ns = cpx_clock_ns(CLOCK_REALTIME);
	strcpy(job->node, d->conf.node);
	if (name) {
		if (!cpx_job_name_ok(name))
			return cpx_err_set(
				err, CPX_E_INVAL,
				"'%.80s' cannot be the name of a job: letters, digits, '_', "
				"'.' and '-', at most %d, are allowed",
				name, CPX_JOB_NAME_MAX - 1);
		strcpy(job->name, name);
		return cpx_registry_swap_if(d->reg, job, cond, err);
	}
	base_name(from, base, sizeof(base));
	for (int i = 1; r == CPX_E_EXIST && i < NAME_TRIES; i++) {
		snprintf(job->name, sizeof(job->name), "%s-%d", base, i);
		r = cpx_registry_swap_if(d->reg, job, cond, err);
	}
	return r;
}

/*
 * In a cluster a job that is to start here is this node's before its keeper begins. Return:
 * @cond filled in, or CPX_E_*.
 */
static int own(struct cpxd *d, struct cpx_reg_job *job, struct cpxd_launch *l,
	       struct cpx_reg_cond *cond, struct cpx_err *err)
{
	if (!d->cluster)
		return 0;
	if (!cpxd_cluster_own(d, job, l, err))
		return CPX_E_BUSY;
	cond->alive_node = d->conf.node;
	cond->alive_lease = l->lease;
	return 0;
}

static void join_command(char *const *argv, char *out, size_t size)
{
	size_t n = 0;

	out[0] = 0;
	for (; *argv && n + 1 < size; argv++)
		n += (size_t)snprintf(out + n, size - n, "%s%s", n ? " " : "", *argv);
}

/* Forget a job that never was. */
void cpxd_unmake(struct cpxd *d, struct cpx_reg_job *job)
{
	cpxd_remove_files(d, job);
	cpx_registry_remove(d->reg, job->name, job->version, NULL);
	cpxd_cluster_forget(d, job);
}

static int op_run(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct cpx_reg_job job = { .uid = c->uid,
				   .gid = c->gid,
				   .tty = cpx_proto_bool(m, "tty") };
	struct cpxd_launch l = { .mode = "run", .stdin_fd = -1 };
	CPX_AUTO_FREE char *spec = cpxd_spec(c, m);
	struct cpx_reg_cond cond = { .spec = spec };
	char **argv = cpx_proto_unstrv(json_object_get(m, "argv"), ARGS_MAX);
	char **env = cpx_proto_unstrv(json_object_get(m, "env"), ARGS_MAX);
	CPX_AUTO_FREE char *cwd = cpx_proto_unbytes(json_object_get(m, "cwd"));
	int r = 0;

	if (!argv || !argv[0] || !env || !cwd || !spec)
		r = cpx_err_set(err, CPX_E_FORMAT, "no command to run");
	if (r >= 0)
		r = take_options(m, &job, err);
	if (r >= 0)
		r = own(c->d, &job, &l, &cond, err);
	if (r >= 0) {
		join_command(argv, job.command, sizeof(job.command));
		r = cpxd_reserve(c->d, m, argv[0], &cond, &job, err);
	}
	cpx_proto_strv_free(argv);
	cpx_proto_strv_free(env);
	if (r < 0)
		return r;
	r = cpxd_make_dirs(c->d, job.name, job.uid, job.gid, err);
	if (r >= 0)
		r = cpxd_write_spec(c->d, job.name, spec, err);
	if (r >= 0) {
		l.job = job.name;
		cpxd_cluster_up(c->d, job.name, l.own_epoch, l.lease);
		if (cpx_proto_bool(m, "stdin") && c->in.nfds == 1)
			l.stdin_fd = c->in.fds[0];
		c->remove_job = true;
		r = launch(c, &l, err);
	}
	if (r < 0)
		cpxd_unmake(c->d, &job);
	return r;
}

/* uid and gid of a process when all four are the same; -1 otherwise. */
static int ids_of(pid_t pid, int64_t *uid, int64_t *gid, char *comm, size_t size)
{
	CPX_AUTO_FREE char *s = NULL;
	unsigned u[4], g[4];
	char path[32], *p, *q;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (cpx_read_file(AT_FDCWD, path, 65536, &s, NULL) < 0)
		return -1;
	p = strstr(s, "\nUid:");
	q = strstr(s, "\nGid:");
	if (!p || !q || sscanf(p + 5, "%u %u %u %u", &u[0], &u[1], &u[2], &u[3]) != 4 ||
	    sscanf(q + 5, "%u %u %u %u", &g[0], &g[1], &g[2], &g[3]) != 4)
		return -1;
	*uid = u[0] == u[1] && u[1] == u[2] && u[2] == u[3] ? (int64_t)u[0] : -1;
	*gid = g[0] == g[1] && g[1] == g[2] && g[2] == g[3] ? (int64_t)g[0] : -1;
	if (comm) {
		const char *name = !strncmp(s, "Name:\t", 6) ? s + 6 : s;
		size_t n = strcspn(name, "\n");

		snprintf(comm, size, "%.*s", (int)(n < size ? n : size - 1), name);
	}
	return 0;
}

/* Whose is the tree? The user of all its processes, or root where they differ. */
static int owner_of_tree(pid_t root, int64_t *uid, int64_t *gid, struct cpx_err *err)
{
	pid_t pids[TREE_MAX];
	size_t n = 1;

	pids[0] = root;
	if (ids_of(root, uid, gid, NULL, 0))
		return cpx_err_set(err, CPX_E_NOENT, "there is no process %d", root);
	for (size_t i = 0; i < n; i++) {
		CPX_AUTO_FREE char *s = NULL;
		int64_t u, g;
		char path[64];

		if (ids_of(pids[i], &u, &g, NULL, 0) == 0 && (u != *uid || g != *gid))
			*uid = *gid = -1;
		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pids[i], pids[i]);
		if (cpx_read_file(AT_FDCWD, path, 1 << 20, &s, NULL) < 0)
			continue;
		for (char *p = s, *end; n < TREE_MAX; p = end) {
			pid_t pid = (pid_t)strtol(p, &end, 10);

			if (end == p)
				break;
			pids[n++] = pid;
		}
	}
	return 0;
}

static int mark_owner(struct cpxd_conn *c, pid_t pid, struct cpx_reg_job *job,
		      struct cpx_err *err)
{
	int64_t uid, gid;
	int r = owner_of_tree(pid, &uid, &gid, err);

	if (r < 0)
		return r;
	if (c->uid != 0 && (uid != (int64_t)c->uid || gid < 0))
		return cpx_err_set(
			err, CPX_E_PERM,
			"pid %d and its children are not all yours; only root can mark them",
			pid);
	job->uid = uid < 0 ? 0 : (uint32_t)uid;
	job->gid = uid < 0 || gid < 0 ? 0 : (uint32_t)gid;
	return 0;
}

static void command_of(pid_t pid, char *out, size_t size)
{
	CPX_AUTO_FREE char *s = NULL;
	char path[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	n = cpx_read_file(AT_FDCWD, path, 1 << 20, &s, NULL);
	for (ssize_t i = 0; i + 1 < n; i++)
		if (!s[i])
			s[i] = ' ';
	snprintf(out, size, "%s", n > 0 ? s : "");
}

struct marked {
	struct cpxd *d;
	pid_t pid;
	char name[CPX_JOB_NAME_MAX];
};

static void compare_root(const struct cpx_reg_job *job, void *ctx)
{
	struct marked *k = ctx;

	if (!cpxd_elsewhere(k->d, job) && job->state == CPX_JOB_RUNNING &&
	    job->root.pid == k->pid && cpx_live_check(&job->root))
		strcpy(k->name, job->name);
}

static int already_marked(struct cpxd *d, pid_t pid, struct cpx_err *err)
{
	struct marked k = { .d = d, .pid = pid };
	int n = cpx_registry_each(d->reg, compare_root, &k, err);

	if (n >= 0 && *k.name)
		return cpx_err_set(err, CPX_E_EXIST, "pid %d is job '%s' already", pid, k.name);
	return n < 0 ? n : 0;
}

static int op_mark(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct cpx_reg_job job = { .marked = true, .state = CPX_JOB_RUNNING };
	struct cpxd_launch l = { .mode = "mark", .stdin_fd = -1 };
	struct cpx_reg_cond cond = { 0 };
	int64_t pid = cpx_proto_int(m, "pid", 0), uid, gid;
	char comm[64] = "job";
	int r;

	if (pid < 2 || pid > INT32_MAX)
		return cpx_err_set(err, CPX_E_INVAL, "that is no PID");
	r = cpx_live_of((pid_t)pid, &job.root, err);
	if (r >= 0)
		r = mark_owner(c, (pid_t)pid, &job, err);
	if (r >= 0)
		r = take_options(m, &job, err);
	if (r >= 0)
		r = already_marked(c->d, (pid_t)pid, err);
	if (r < 0)
		return r;
	ids_of((pid_t)pid, &uid, &gid, comm, sizeof(comm));
	command_of((pid_t)pid, job.command, sizeof(job.command));
	r = own(c->d, &job, &l, &cond, err);
	if (r >= 0)
		r = cpxd_reserve(c->d, m, comm, &cond, &job, err);
	if (r < 0)
		return r;
	r = cpxd_make_dirs(c->d, job.name, job.uid, job.gid, err);
	if (r >= 0) {
		l.job = job.name;
		cpxd_cluster_up(c->d, job.name, l.own_epoch, l.lease);
		c->remove_job = true;
		r = launch(c, &l, err);
	}
	if (r < 0)
		cpxd_unmake(c->d, &job);
	return r;
}

/* --- what a job's keeper does
 * ------------------------------------------------------------------ */

static int op_checkpoint(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	const char *after = cpx_proto_str(m, "after");
	struct cpx_tuning tuning;
	struct cpx_reg_job job;
	struct cpxd_conn *k = keeper_for(c, m, &job, err);
	json_t *req;
	int r;

	if (!k)
		return err->code;
	r = cpx_tuning_decode(m, &tuning, err);
	if (r < 0)
		return r;
	req = json_pack("{s:s, s:s, s:I}", "op", "checkpoint", "after", after ? after : "run",
			"deadline_ns", (json_int_t)cpx_proto_int(m, "deadline_ns", 0));
	cpx_tuning_encode(&tuning, req);
	cpxd_ask_keeper(c, k, req);
	return 0;
}

static int op_signal(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct cpx_reg_job job;
	struct cpxd_conn *k = keeper_for(c, m, &job, err);

	if (!k)
		return err->code;
	cpxd_ask_keeper(c, k,
			json_pack("{s:s, s:I}", "op", "signal", "signal",
				  (json_int_t)cpx_proto_int(m, "signal", 0)));
	return 0;
}

static int op_unmark(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct cpx_reg_job job;
	struct cpxd_conn *k = keeper_for(c, m, &job, err);

	if (!k)
		return err->code;
	c->remove_job = true; /* see keeper_answered() */
	k->leaving = true;
	cpxd_ask_keeper(c, k, json_pack("{s:s}", "op", "leave"));
	return 0;
}

static int op_attach(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct cpx_reg_job job;
	struct cpxd_conn *k = keeper_for(c, m, &job, err);

	if (!k)
		return err->code;
	/* from here on the keeper and the client talk to each other alone */
	cpxd_answer_fd(k, json_pack("{s:s}", "op", "attach"), &c->fd, 1);
	cpxd_close(c);
	return 0;
}

static int may_start(struct cpxd *d, const struct cpx_reg_job *job, bool recover,
		     struct cpx_err *err)
{
	struct cpxd_conn *k = cpxd_working_keeper(d, job);

	if (k || (job->state == CPX_JOB_RUNNING && cpx_live_check(&job->keeper)))
		return cpx_err_set(
			err, CPX_E_BUSY,
			"job '%s' runs; 'checkpoint --kill' or 'signal %s KILL' ends "
			"it first",
			job->name, job->name);
	k = cpxd_keeper_of(d, job->name);
	if (k)
		cpxd_close(k);
	if (recover)
		return 0;
	if (!cpxd_lost(job) && job->state == CPX_JOB_RUNNING)
		return cpx_err_set(err, CPX_E_BUSY,
				   "job '%s' is about to be taken over; try again", job->name);
	if (!job->ngens)
		return cpx_err_set(err, CPX_E_NOENT,
				   "job '%s' has no checkpoint to be restarted from",
				   job->name);
	return 0;
}

static int op_restart(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	bool recover = cpx_proto_bool(m, "recover");
	struct cpxd_launch l = { .mode = recover ? "recover" : "restart",
				 .stdin_fd = -1,
				 .force = cpx_proto_bool(m, "force") };
	int64_t gen = cpx_proto_int(m, "generation", 0);
	struct cpx_reg_cond cond = { 0 };
	struct cpx_reg_job job;
	int r = cpxd_find_job(c, m, &job, err);

	if (r >= 0)
		r = may_start(c->d, &job, recover, err);
	if (r < 0)
		return r;
	if (gen > 0) {
		uint32_t i = 0;

		while (i < job.ngens && job.gens[i].id.seq != (uint64_t)gen)
			i++;
		if (i == job.ngens)
			return cpx_err_set(
				err, CPX_E_NOENT,
				"job '%s' has no generation %lld; 'images %s' lists them",
				job.name, (long long)gen, job.name);
		l.seq = job.gens[i].id.seq;
		l.epoch = job.gens[i].id.epoch;
	}
	l.job = job.name;
	if (c->d->cluster) {
		r = own(c->d, &job, &l, &cond, err);
		if (r >= 0)
			r = cpx_registry_swap_if(c->d->reg, &job, &cond, err);
		if (r >= 0)
			r = cpxd_make_dirs(c->d, job.name, job.uid, job.gid, err);
		if (r < 0)
			return r;
		cpxd_cluster_up(c->d, job.name, l.own_epoch, l.lease);
	}
	return launch(c, &l, err);
}

/* --- looking ------------------------------------------------------------------------- */

/* Is this what `recover` brings back: lost, or killed from outside? */
static bool recoverable(const struct cpx_reg_job *job)
{
	return cpxd_lost(job) || job->state == CPX_JOB_QUEUED ||
	       (job->state == CPX_JOB_FAILED && (!job->has_status || WIFSIGNALED(job->status)));
}

static struct cpx_failures node_failures(struct cpxd *d)
{
	struct cpx_reg_past node = { 0 };

	/* without it the default counts */
	if (cpx_registry_past(d->reg, &node, NULL) < 0)
		memset(&node, 0, sizeof(node));
	return node.failures;
}

static json_t *view(struct cpxd *d, const struct cpx_reg_job *job)
{
	const struct cpx_failures node = node_failures(d);

	return cpxd_view(d, job, &node);
}

/* Is this what `restart --all` brings back: ended by a checkpoint? What was imported never ran.
 */
static bool restartable(const struct cpx_reg_job *job)
{
	return job->state == CPX_JOB_STOPPED && job->ngens && job->started_ns;
}

struct listing {
	struct cpxd_conn *c;
	json_t *list;
	struct cpx_failures node;
};

static void list_one(const struct cpx_reg_job *job, void *ctx)
{
	struct listing *l = ctx;
	struct cpxd *d = l->c->d;
	bool idle;
	json_t *v;

	if (l->c->uid != 0 && l->c->uid != job->uid)
		return;
	idle = !cpxd_elsewhere(d, job) && !cpxd_working_keeper(d, job);
	v = cpxd_view(d, job, &l->node);
	json_object_set_new(v, "recoverable", json_boolean(idle && recoverable(job)));
	json_object_set_new(v, "restartable", json_boolean(idle && restartable(job)));
	json_array_append_new(l->list, v);
}

static int op_list(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct listing l = { .c = c, .list = json_array(), .node = node_failures(c->d) };
	json_t *answer;
	int n = cpx_registry_each(c->d->reg, list_one, &l, err);

	(void)m;
	if (n < 0) {
		json_decref(l.list);
		return n;
	}
	answer = cpx_proto_ok();
	json_object_set_new(answer, "jobs", l.list);
	cpxd_answer(c, answer);
	return 0;
}

static int op_show(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct cpx_reg_job job;
	json_t *answer;
	int r = cpxd_find_any(c, m, &job, err);

	if (r < 0)
		return r;
	answer = cpx_proto_ok();
	json_object_set_new(answer, "job", view(c->d, &job));
	json_object_set_new(answer, "images", cpxd_view_gens(&job));
	cpxd_answer(c, answer);
	return 0;
}

/* Tell a client that waits how the job ended; or go on waiting. */
static void tell_waiter(struct cpxd_conn *c)
{
	struct cpx_reg_job job;
	struct cpx_err err = { 0 };
	json_t *answer;

	if (cpx_registry_get(c->d->reg, c->job, &job, &err) < 0) {
		cpxd_fail(c, &err);
		return;
	}
	if (job.state == CPX_JOB_QUEUED || job.state == CPX_JOB_MOVING ||
	    job.state == CPX_JOB_RECOVERING ||
	    (job.state == CPX_JOB_RUNNING && !cpxd_lost(&job))) {
		c->waits = true;
		return;
	}
	if (!job.has_status) {
		if (job.state == CPX_JOB_DONE)
			cpx_err_set(&err, CPX_E_UNSUPPORTED,
				    "job '%s' has ended, but not as our child: its status is "
				    "not known",
				    job.name);
		else if (job.state == CPX_JOB_STOPPED)
			cpx_err_set(
				&err, CPX_E_GONE,
				"job '%s' was stopped by a checkpoint; 'restart' lets it go on",
				job.name);
		else if (job.state == CPX_JOB_FAILED)
			cpx_err_set(&err, CPX_E_GONE, "job '%s' failed: %s", job.name,
				    job.reason);
		else
			cpxd_not_running(&job, &err);
		cpxd_fail(c, &err);
		return;
	}
	answer = cpx_proto_ok();
	json_object_set_new(answer, "job", view(c->d, &job));
	cpxd_answer(c, answer);
}

void cpxd_tell_waiters(struct cpxd *d, const char *job)
{
	cpxd_each_waiter(d, job, tell_waiter);
}

/* Wherever it is: the core tells of changes of all jobs. */
static int op_wait(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct cpx_reg_job job;
	int r = cpxd_find_any(c, m, &job, err);

	if (r < 0)
		return r;
	strcpy(c->job, job.name);
	tell_waiter(c);
	/* what tell_waiter() set again is for later */
	return 0;
}

static int op_logs(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct cpx_reg_job job;
	json_t *answer;
	int fds[2], r = cpxd_find_job(c, m, &job, err);

	if (r < 0)
		return r;
	fds[0] = cpxd_open_out(c->d, &job, cpx_proto_bool(m, "stderr") ? "stderr" : "stdout",
			       err);
	if (fds[0] == CPX_E_NOENT)
		return cpx_err_set(
			err, CPX_E_NOENT,
			job.marked ? "job '%s' was marked: its output goes where it went "
				     "before"
				   : "job '%s' has no output",
			job.name);
	if (fds[0] < 0)
		return fds[0];
	answer = cpx_proto_ok();
	json_object_set_new(answer, "job", view(c->d, &job));
	cpxd_answer_fd(c, answer, fds, 1);
	close(fds[0]);
	return 0;
}

static int remove_job(struct cpxd *d, const char *name, struct cpx_err *err)
{
	struct cpx_reg_job job;
	char group[CPX_CGROUP_NAME];
	int r = cpx_registry_get(d->reg, name, &job, err);

	if (r < 0)
		return r;
	/* what may be left of a lost job, then its files; the record last: until then it can be
	 * done again */
	r = cpx_cgroup_job(d->dir, name, group, err);
	if (r >= 0)
		r = cpx_cgroup_kill(group, KILL_TIMEOUT_MS, err);
	if (r < 0)
		return r;
	if (!d->cluster)
		cpxd_remove_files(d, &job);
	r = cpx_registry_remove(d->reg, name, job.version, err);
	if (r < 0 || !d->cluster)
		return r;
	/* here another node may have begun with it meanwhile: then its files stay */
	cpxd_cluster_forget(d, &job);
	cpxd_remove_files(d, &job);
	return 0;
}

static int op_rm(struct cpxd_conn *c, const json_t *m, struct cpx_err *err)
{
	struct cpx_reg_job job;
	struct cpxd_conn *k;
	int r = cpxd_find_job(c, m, &job, err);

	if (r < 0)
		return r;
	k = cpxd_working_keeper(c->d, &job);
	if (!k && (job.state == CPX_JOB_RECOVERING || job.state == CPX_JOB_MOVING) &&
	    !cpx_proto_bool(m, "force"))
		return cpx_err_set(
			err, CPX_E_BUSY,
			"job '%s' is about to go on on a node; 'rm --force' removes it",
			job.name);
	if (!k && (job.state != CPX_JOB_RUNNING || cpxd_lost(&job))) {
		r = remove_job(c->d, job.name, err);
		if (r >= 0)
			cpxd_answer(c, cpx_proto_ok());
		return r;
	}
	if (!k)
		return cpxd_not_running(&job, err);
	if (!cpx_proto_bool(m, "force"))
		return cpx_err_set(
			err, CPX_E_BUSY,
			"job '%s' runs; 'rm --force' kills it first, 'unmark' lets a marked "
			"one run on",
			job.name);
	c->remove_job = true;
	cpxd_ask_keeper(c, k, json_pack("{s:s}", "op", "kill"));
	return 0;
}

/* clang-format off */
static const struct {
	const char *op;
	int (*fn)(struct cpxd_conn *c, const json_t *m, struct cpx_err *err);
} ops[] = {
	{ "run", op_run },
	{ "mark", op_mark },
	{ "unmark", op_unmark },
	{ "checkpoint", op_checkpoint },
	{ "restart", op_restart },
	{ "signal", op_signal },
	{ "attach", op_attach },
	{ "list", op_list },
	{ "show", op_show },
	{ "wait", op_wait },
	{ "logs", op_logs },
	{ "rm", op_rm },
	{ "fall-back", cpxd_op_fall_back },
	{ "gc", cpxd_op_gc },
	{ "pin", cpxd_op_pin },
	{ "import", cpxd_op_import },
	{ "imported", cpxd_op_imported },
};
/* clang-format on */

void cpxd_request(struct cpxd_conn *c, const json_t *m)
{
	const char *op = cpx_proto_str(m, "op");
	struct cpx_err err = { 0 };
	int r = cpx_err_set(&err, CPX_E_UNSUPPORTED, "chpoxd does not know this request");

	if (c->pending || c->waits)
		r = cpx_err_set(&err, CPX_E_BUSY, "one request at a time");
	else
		for (size_t i = 0; op && i < sizeof(ops) / sizeof(ops[0]); i++)
			if (!strcmp(op, ops[i].op))
				r = ops[i].fn(c, m, &err);
	if (r < 0) {
		c->remove_job = false;
		cpxd_fail(c, &err);
	}
}

/* --- answers of keepers
 * ------------------------------------------------------------------------ */

static struct cpxd_conn *client_of(struct cpxd *d, int64_t id)
{
	for (struct cpxd_conn *c = d->conns; c; c = c->next)
		if (!c->keeper && id > 0 && c->pending == id)
			return c;
	return NULL;
}

void cpxd_keeper_says(struct cpxd_conn *k, json_t *m)
{
	struct cpxd_conn *c = client_of(k->d, cpx_proto_int(m, "id", 0));
	const char *op = cpx_proto_str(m, "op");
	struct cpx_err err = { 0 };
	bool remove;

	if (op && !strcmp(op, "ended")) {
		cpxd_each_waiter(k->d, k->job, tell_waiter);
		return;
	}
	if (json_object_get(m, "progress")) {
		if (c)
			cpxd_answer(c, json_incref(m));
		return;
	}
	if (k->starting && json_object_get(m, "job")) { /* how its start went, nothing else */
		cpxd_cluster_started(k, m);
		k->starting = false;
	}
	if (!c)
		return;
	/*
	 * run, mark: a job that could not be started is no job. unmark, rm --force: the keeper
	 * is about to leave; the client is answered when it has, by cpxd_keeper_gone().
	 */
	remove = c->remove_job;
	if (remove && !json_object_get(m, "job") && cpx_proto_bool(m, "ok"))
		return;
	c->pending = 0;
	c->remove_job = false;
	if (remove && json_object_get(m, "job") && !cpx_proto_bool(m, "ok"))
		remove_job(k->d, k->job, &err);
	json_object_del(m, "id");
	cpxd_answer(c, json_incref(m));
}

void cpxd_keeper_gone(struct cpxd_conn *k)
{
	struct cpxd *d = k->d;
	struct cpx_err err = { 0 };

	for (bool again = true; again;) {
		again = false;
		for (struct cpxd_conn *c = d->conns; c && !again; c = c->next) {
			if (c->keeper || !c->pending || c->at != k)
				continue;
			c->pending = 0;
			again = true;
			if (c->remove_job && !k->starting) {
				c->remove_job = false;
				if (remove_job(d, k->job, &err) < 0)
					cpxd_fail(c, &err);
				else
					cpxd_answer(c, cpx_proto_ok());
				continue;
			}
			c->remove_job = false;
			cpx_err_set(&err, CPX_E_GONE, "the keeper of job '%s' has died",
				    k->job);
			cpxd_fail(c, &err);
		}
	}
	cpxd_each_waiter(d, k->job, tell_waiter);
	cpxd_cluster_gone(k);
	if (!d->cluster)
		uv_timer_again(&d->adopt);
}
