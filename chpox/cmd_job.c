/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on jobs: each is a request to chpoxd, and its answer for people or as JSON. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../scheduler/proto.h"
#include "base/clock.h"
#include "base/cmd.h"
#include "base/err.h"
#include "base/fd.h"
#include "ctl.h"
#include "every.h"
#include "job_client.h"

#define AT_ONCE 4 /* requests of --all that are under way together */
#define NAP_NS 100000000

static int simple(const struct cpx_args *a, json_t *req, json_t **answer, struct cpx_err *err)
{
	return cpx_client_call(a->ctx, req, NULL, 0, answer, NULL, err);
}

static json_t *request(const char *op, const char *job)
{
	return job ? json_pack("{s:s, s:s}", "op", op, "job", job)
		   : json_pack("{s:s}", "op", op);
}

static int need(json_t *req, struct cpx_err *err)
{
	return req ? 0
		   : cpx_err_set(err, CPX_E_INVAL,
				 "that name is no text; letters, digits, '.', '_' "
				 "and '-' make a name");
}

static void print_notes(const json_t *answer)
{
	const json_t *notes = json_object_get(answer, "notes");

	for (size_t i = 0; i < json_array_size(notes); i++) {
		CPX_AUTO_FREE char *s = cpx_proto_unbytes(json_array_get(notes, i));

		if (s)
			fprintf(stderr, "chpox_ctl: %s: %s\n", cpx_proto_str(answer, "job"), s);
	}
}

/* --- run, mark ----------------------------------------------------------------------- */

static int retention_options(const struct cpx_args *a, json_t *req, struct cpx_err *err)
{
	static const char *const names[] = { "keep", "keep-hourly", "keep-daily" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *given = cpx_arg(a, names[i]);
		uint64_t n;

		/* the daemon knows the limits */
		if (!given)
			continue;
		if (cpx_parse_u64(given, "number of generations", 1000000, &n, err) < 0)
			return CPX_E_INVAL;
		json_object_set_new(req, names[i], json_integer((json_int_t)n));
	}
	return 0;
}

int cpx_ctl_tuning(const struct cpx_args *a, json_t *req, struct cpx_err *err)
{
	static const char *const words[] = { "snapshot", "codec" };
	const char *cpus = cpx_arg(a, "cpus"), *rate = cpx_arg(a, "rate");
	uint64_t n;

	for (size_t i = 0; i < 2; i++)
		if (cpx_arg_given(a, words[i]) &&
		    json_object_set_new(req, words[i], json_string(cpx_arg(a, words[i]))))
			return cpx_err_set(err, CPX_E_INVAL, "--%s is no text", words[i]);
	if (cpus && cpx_parse_u64(cpus, "number of processors", 1000000, &n, err) < 0)
		return CPX_E_INVAL;
	if (cpus)
		json_object_set_new(req, "cpus", json_integer((json_int_t)n));
	if (rate && cpx_parse_bytes(rate, "rate", &n, err) < 0)
		return CPX_E_INVAL;
	if (rate)
		json_object_set_new(req, "rate", json_integer((json_int_t)n));
	return 0;
}

/* The options that run and mark share. @otherwise: --every where it is not given. */
static int common_options(const struct cpx_args *a, json_t *req, const char *otherwise,
			  struct cpx_err *err)
{
	const char *name = cpx_arg(a, "name"), *given = cpx_arg(a, "every");
	struct cpx_every every;

	if (cpx_parse_every(given ? given : otherwise, &every, err) < 0)
		return CPX_E_INVAL;
	json_object_set_new(req, "every_ns", json_integer(every.ns));
	json_object_set_new(req, "every_min_ns", json_integer(every.min_ns));
	json_object_set_new(req, "every_max_ns", json_integer(every.max_ns));
	if (retention_options(a, req, err) < 0 || cpx_ctl_tuning(a, req, err) < 0)
		return CPX_E_INVAL;
	if (name && json_object_set_new(req, "name", json_string(name)))
		return need(NULL, err);
	return 0;
}

static void print_job_name(const json_t *answer)
{
	const char *name = cpx_proto_str(answer, "job");

	printf("%s\n", name ? name : "?");
}

static mode_t my_umask(void)
{
	mode_t m = umask(0);

	umask(m);
	return m;
}

static int run_request(const struct cpx_args *a, json_t *req, struct cpx_err *err)
{
	CPX_AUTO_FREE char *cwd = getcwd(NULL, 0);

	if (!cwd)
		return cpx_err_sys(err, errno, "cannot tell the working directory");
	json_object_set_new(req, "argv", cpx_proto_strv(a->pos));
	json_object_set_new(req, "env", cpx_proto_strv(environ));
	json_object_set_new(req, "cwd", cpx_proto_bytes(cwd));
	json_object_set_new(req, "umask", json_integer(my_umask()));
	json_object_set_new(req, "tty", json_boolean(cpx_arg_given(a, "tty")));
	json_object_set_new(req, "stdin", json_boolean(cpx_arg_given(a, "interactive")));
	return common_options(a, req, "auto", err);
}

int cpx_ctl_run(const struct cpx_args *a, struct cpx_err *err)
{
	const bool keep_stdin = cpx_arg_given(a, "interactive");
	json_t *req = request("run", NULL), *answer;
	const int in = STDIN_FILENO;
	int r;

	if (keep_stdin && cpx_arg_given(a, "tty")) {
		json_decref(req);
		return cpx_err_set(err, CPX_E_INVAL, "run: either -i or -t, not both");
	}
	r = run_request(a, req, err);
	if (r < 0) {
		json_decref(req);
		return r;
	}
	r = cpx_client_call(a->ctx, req, &in, keep_stdin ? 1 : 0, &answer, NULL, err);
	if (r < 0)
		return r;
	print_notes(answer);
	print_job_name(answer);
	json_decref(answer);
	return 0;
}

int cpx_ctl_mark(const struct cpx_args *a, struct cpx_err *err)
{
	json_t *req, *answer;
	pid_t pid;
	int r = cpx_parse_pid(a->pos[0], &pid, err);

	if (r < 0)
		return r;
	req = json_pack("{s:s, s:i}", "op", "mark", "pid", pid);
	r = common_options(a, req, "never", err);
	if (r < 0) {
		json_decref(req);
		return r;
	}
	r = simple(a, req, &answer, err);
	if (r < 0)
		return cpx_err_wrap(err, "cannot mark pid %d", pid);
	print_notes(answer);
	print_job_name(answer);
	json_decref(answer);
	return 0;
}

static int just_do(const struct cpx_args *a, const char *op, struct cpx_err *err)
{
	json_t *req = request(op, a->pos[0]);
	int r = need(req, err);

	if (r < 0)
		return r;
	if (cpx_arg_given(a, "force"))
		json_object_set_new(req, "force", json_true());
	return simple(a, req, NULL, err);
}

/* With a job go the programs that no other one of its user needs. */
static int take_away(const struct cpx_args *a, const char *op, struct cpx_err *err)
{
	json_t *answer = NULL;
	int64_t uid = -1;
	int r = simple(a, request("show", a->pos[0]), &answer, NULL);

	if (r >= 0)
		uid = cpx_proto_int(json_object_get(answer, "job"), "uid", -1);
	json_decref(answer);
	r = just_do(a, op, err);
	if (r >= 0 && uid >= 0)
		cpx_ctl_collect_code(a->ctx, (uint32_t)uid);
	return r;
}

int cpx_ctl_unmark(const struct cpx_args *a, struct cpx_err *err)
{
	return take_away(a, "unmark", err);
}

int cpx_ctl_rm(const struct cpx_args *a, struct cpx_err *err)
{
	return take_away(a, "rm", err);
}

/* --- one or all ---------------------------------------------------------------------- */

/* A request for each of several jobs, a few at once. */
struct many {
	const struct cpx_args *a;
	json_t *(*make)(const struct cpx_args *a, const char *job);
	void (*show)(const char *job, const json_t *answer);
	const char *what;
	int failed;
};

static void finish_one(struct many *m, int sock, const char *job)
{
	struct cpx_err err = { 0 };
	json_t *answer = NULL;

	if (cpx_client_answer(sock, m->what, &answer, NULL, &err) < 0) {
		fprintf(stderr, "chpox_ctl: %s: %s\n", job, err.msg);
		m->failed++;
	} else {
		print_notes(answer);
		m->show(job, answer);
		json_decref(answer);
	}
	close(sock);
}

static int do_many(struct many *m, const char *const *jobs, size_t n, struct cpx_err *err)
{
	int socks[AT_ONCE];

	for (size_t i = 0; i < n; i += AT_ONCE) {
		size_t k = n - i < AT_ONCE ? n - i : AT_ONCE;

		for (size_t j = 0; j < k; j++) {
			socks[j] = cpx_client_open(m->a->ctx, err);
			if (socks[j] < 0)
				return socks[j];
			/* a connection that breaks is found out when the answer is read */
			cpx_proto_send(socks[j], m->make(m->a, jobs[i + j]), NULL, 0, NULL);
		}
		for (size_t j = 0; j < k; j++)
			finish_one(m, socks[j], jobs[i + j]);
	}
	if (m->failed)
		return cpx_err_set(err, CPX_E_SYS, "%d of %zu jobs failed", m->failed, n);
	return 0;
}

/* Do it with all jobs that @pick chooses. Return: their number or CPX_E_*. */
static int do_all(struct many *m, bool (*pick)(const json_t *job), struct cpx_err *err)
{
	json_t *answer, *list;
	const char **jobs;
	size_t n = 0;
	int r = simple(m->a, request("list", NULL), &answer, err);

	if (r < 0)
		return r;
	list = json_object_get(answer, "jobs");
	jobs = calloc(json_array_size(list) + 1, sizeof(*jobs));
	for (size_t i = 0; jobs && i < json_array_size(list); i++) {
		const json_t *job = json_array_get(list, i);

		if (pick(job))
			jobs[n++] = cpx_proto_str(job, "job");
	}
	r = jobs ? do_many(m, jobs, n, err) : CPX_E_NOMEM;
	free(jobs);
	json_decref(answer);
	return r < 0 ? r : (int)n;
}

static bool is_running(const json_t *job)
{
	const char *s = cpx_proto_str(job, "state");

	return s && !strcmp(s, "RUNNING");
}

static bool is_recoverable(const json_t *job)
{
	return cpx_proto_bool(job, "recoverable");
}

static double real(const json_t *j, const char *key)
{
	return json_number_value(json_object_get(j, key));
}

/* Either a job or --all. */
static int one_or_all(const struct cpx_args *a, struct cpx_err *err)
{
	bool all = cpx_arg_given(a, "all");

	if (all == (a->npos == 1))
		return cpx_err_set(err, CPX_E_INVAL, "%s: name a job, or give --all",
				   a->cmd->name);
	return all || !need(json_string(a->pos[0]), err) ? 0 : CPX_E_INVAL;
}

static void show_restart(const char *job, const json_t *m)
{
	printf("%s: runs again, pid %lld\n", job, (long long)cpx_proto_int(m, "pid", 0));
}

static int restart_one(const struct cpx_args *a, struct cpx_err *err)
{
	char *at = strchr(a->pos[0], '@');
	json_t *req, *answer;
	uint64_t gen = 0;
	int r;

	if (at) {
		*at = 0;
		if (cpx_parse_u64(at + 1, "generation", INT64_MAX, &gen, err) < 0 || gen == 0)
			return cpx_err_set(
				err, CPX_E_INVAL,
				"restart: '%s' is no generation; 'images %s' lists them",
				at + 1, a->pos[0]);
	}
	req = request("restart", a->pos[0]);
	r = need(req, err);
	if (r < 0)
		return r;
	json_object_set_new(req, "generation", json_integer((json_int_t)gen));
	json_object_set_new(req, "force", json_boolean(cpx_arg_given(a, "force")));
	r = simple(a, req, &answer, err);
	if (r < 0)
		return r;
	print_notes(answer);
	show_restart(a->pos[0], answer);
	json_decref(answer);
	return 0;
}

static json_t *make_restart(const struct cpx_args *a, const char *job)
{
	json_t *req = request("restart", job);

	json_object_set_new(req, "force", json_boolean(cpx_arg_given(a, "force")));
	return req;
}

static bool is_restartable(const json_t *job)
{
	return cpx_proto_bool(job, "restartable");
}

int cpx_ctl_restart(const struct cpx_args *a, struct cpx_err *err)
{
	struct many m = {
		.a = a, .make = make_restart, .show = show_restart, .what = "restarting"
	};
	int r = one_or_all(a, err);

	if (r < 0)
		return r;
	if (a->npos)
		return restart_one(a, err);
	r = do_all(&m, is_restartable, err);
	if (r == 0)
		printf("nothing to restart\n");
	return r < 0 ? r : 0;
}

static json_t *make_recover(const struct cpx_args *a, const char *job)
{
	json_t *req = request("restart", job);

	json_object_set_new(req, "recover", json_true());
	json_object_set_new(req, "force", json_boolean(cpx_arg_given(a, "force")));
	return req;
}

int cpx_ctl_recover(const struct cpx_args *a, struct cpx_err *err)
{
	struct many m = {
		.a = a, .make = make_recover, .show = show_restart, .what = "recovering"
	};
	const char *one = a->pos[0];
	int r = one_or_all(a, err);

	if (r < 0)
		return r;
	if (one)
		return do_many(&m, &one, 1, err);
	r = do_all(&m, is_recoverable, err);
	if (r == 0)
		printf("nothing to recover\n");
	return r < 0 ? r : 0;
}

int cpx_ctl_signal(const struct cpx_args *a, struct cpx_err *err)
{
	json_t *req;
	int sig, r = cpx_parse_signal(a->pos[1], &sig, err);

	if (r < 0)
		return r;
	req = request("signal", a->pos[0]);
	r = need(req, err);
	if (r < 0)
		return r;
	json_object_set_new(req, "signal", json_integer(sig));
	return simple(a, req, NULL, err);
}

/* --- looking
 * ----------------------------------------------------------------------------------- */

static int print_json(json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
	printf("\n");
	return 0;
}

static const char *age(double since, char buf[16])
{
	double s = (double)cpx_clock_ns(CLOCK_REALTIME) / 1e9 - since;

	if (since <= 0)
		snprintf(buf, 16, "-");
	else if (s < 120)
		snprintf(buf, 16, "%.0fs", s < 0 ? 0 : s);
	else if (s < 7200)
		snprintf(buf, 16, "%.0fm", s / 60);
	else if (s < 172800)
		snprintf(buf, 16, "%.0fh", s / 3600);
	else
		snprintf(buf, 16, "%.0fd", s / 86400);
	return buf;
}

static const char *state_text(const json_t *job, char buf[24])
{
	const json_t *status = json_object_get(job, "status");
	const char *state = cpx_proto_str(job, "state");

	if (json_is_integer(status))
		snprintf(buf, 24, "%s(%d)", state, (int)json_integer_value(status));
	else
		snprintf(buf, 24, "%s", state ? state : "?");
	return buf;
}

static const char *user_of(const json_t *job, char buf[24])
{
	uid_t uid = (uid_t)cpx_proto_int(job, "uid", 0);
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		snprintf(buf, 24, "%s", pw->pw_name);
	else
		snprintf(buf, 24, "%u", uid);
	return buf;
}

static void print_row(const json_t *job)
{
	char st[24], user[24], ago[16], mem[16], stored[16];
	CPX_AUTO_FREE char *cmd = cpx_proto_unbytes(json_object_get(job, "command"));

	printf("%-16s %-11s %-8s %7lld %5lld %6s %9.1f %9s %9s  %.60s\n",
	       cpx_proto_str(job, "job"), state_text(job, st), user_of(job, user),
	       (long long)cpx_proto_int(job, "pid", 0),
	       (long long)cpx_proto_int(job, "checkpoints", 0),
	       age(real(job, "checkpoint_time"), ago), real(job, "pause_ms"),
	       cpx_human_size((uint64_t)cpx_proto_int(job, "bytes_memory", 0), mem),
	       cpx_human_size((uint64_t)cpx_proto_int(job, "bytes_stored", 0), stored),
	       cmd ? cmd : "");
}

int cpx_ctl_ps(const struct cpx_args *a, struct cpx_err *err)
{
	json_t *answer, *list;
	int r = simple(a, request("list", NULL), &answer, err);

	if (r < 0)
		return r;
	list = json_object_get(answer, "jobs");
	if (cpx_arg_given(a, "json")) {
		print_json(list);
	} else {
		printf("%-16s %-11s %-8s %7s %5s %6s %9s %9s %9s  %s\n", "JOB", "STATE", "USER",
		       "PID", "CKPTS", "AGE", "PAUSE/ms", "MEMORY", "STORED", "COMMAND");
		for (size_t i = 0; i < json_array_size(list); i++)
			print_row(json_array_get(list, i));
	}
	json_decref(answer);
	return 0;
}

static int show(const struct cpx_args *a, json_t **answer, struct cpx_err *err)
{
	json_t *req = request("show", a->pos[0]);
	int r = need(req, err);

	return r < 0 ? r : simple(a, req, answer, err);
}

static void print_field(const char *key, const json_t *v)
{
	if (json_is_string(v)) {
		CPX_AUTO_FREE char *s = cpx_proto_unbytes(v);

		if (s && *s)
			printf("%-16s %s\n", key, s);
	} else if (json_is_integer(v)) {
		printf("%-16s %lld\n", key, (long long)json_integer_value(v));
	} else if (json_is_real(v)) {
		printf("%-16s %.3f\n", key, json_real_value(v));
	} else if (json_is_boolean(v)) {
		printf("%-16s %s\n", key, json_is_true(v) ? "yes" : "no");
	}
}

int cpx_ctl_show(const struct cpx_args *a, struct cpx_err *err)
{
	json_t *answer, *job, *v;
	const char *key;
	int r = show(a, &answer, err);

	if (r < 0)
		return r;
	job = json_object_get(answer, "job");
	if (cpx_arg_given(a, "json")) {
		json_object_set(job, "images", json_object_get(answer, "images"));
		print_json(job);
	} else {
		json_object_foreach(job, key, v) print_field(key, v);
	}
	json_decref(answer);
	return 0;
}

/* "newest daily pin:export", or what will become of it. */
static void print_kept(const json_t *by)
{
	for (size_t i = 0; i < json_array_size(by); i++)
		printf("%s%s", i ? " " : "", json_string_value(json_array_get(by, i)));
	printf("%s\n", json_array_size(by) ? "" : "goes with the next");
}

static void print_image(const json_t *g)
{
	time_t when = (time_t)real(g, "time");
	char mem[16], stored[16], text[32] = "";
	struct tm tm;

	if (localtime_r(&when, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%10lld %6lld  %-19s %9.1f %9.2f %9s %9s  ",
	       (long long)cpx_proto_int(g, "generation", 0),
	       (long long)cpx_proto_int(g, "epoch", 0), text, real(g, "pause_ms"),
	       real(g, "total_ms") / 1000,
	       cpx_human_size((uint64_t)cpx_proto_int(g, "bytes_memory", 0), mem),
	       cpx_human_size((uint64_t)cpx_proto_int(g, "bytes_stored", 0), stored));
	print_kept(json_object_get(g, "kept_by"));
}

int cpx_ctl_images(const struct cpx_args *a, struct cpx_err *err)
{
	json_t *answer, *list;
	int r = show(a, &answer, err);

	if (r < 0)
		return r;
	list = json_object_get(answer, "images");
	if (cpx_arg_given(a, "json")) {
		print_json(list);
	} else {
		printf("%10s %6s  %-19s %9s %9s %9s %9s  %s\n", "GENERATION", "EPOCH", "TIME",
		       "PAUSE/ms", "TOTAL/s", "MEMORY", "STORED", "KEPT BY");
		for (size_t i = 0; i < json_array_size(list); i++)
			print_image(json_array_get(list, i));
	}
	json_decref(answer);
	return 0;
}

int cpx_ctl_wait(const struct cpx_args *a, struct cpx_err *err)
{
	struct timespec nap = { .tv_nsec = NAP_NS };
	json_t *answer, *req;
	int r;

	/* the daemon may be replaced while we wait */
	for (;;) {
		req = request("wait", a->pos[0]);
		r = need(req, err);
		if (r < 0)
			return r;
		r = simple(a, req, &answer, err);
		if (r != CPX_E_GONE || !strstr(err->msg, "chpoxd has gone"))
			break;
		nanosleep(&nap, NULL);
	}
	if (r < 0)
		return r;
	r = (int)cpx_proto_int(json_object_get(answer, "job"), "status", 1);
	json_decref(answer);
	return r;
}

/* --- logs
 * ---------------------------------------------------------------------------------------- */

/* What is new in the file. A restart cuts it back: then go on from its new end. */
static int copy_new(int fd, off_t *pos, struct cpx_err *err)
{
	char buf[65536];
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) == 0 && st.st_size < *pos)
		*pos = st.st_size;
	while ((n = pread(fd, buf, sizeof(buf), *pos)) > 0) {
		if (cpx_write_full(STDOUT_FILENO, buf, (size_t)n))
			return cpx_err_sys(err, errno, "cannot write the output");
		*pos += n;
	}
	return n < 0 ? cpx_err_sys(err, errno, "cannot read the job's output") : 0;
}

static bool still_runs(const struct cpx_args *a)
{
	json_t *answer;
	bool runs;

	if (show(a, &answer, NULL) < 0)
		return false;
	runs = is_running(json_object_get(answer, "job"));
	json_decref(answer);
	return runs;
}

int cpx_ctl_logs(const struct cpx_args *a, struct cpx_err *err)
{
	struct timespec nap = { .tv_nsec = NAP_NS };
	json_t *req = request("logs", a->pos[0]);
	CPX_AUTO_FD fd = -1;
	off_t pos = 0;
	bool runs;
	int r = need(req, err);

	if (r < 0)
		return r;
	json_object_set_new(req, "stderr", json_boolean(cpx_arg_given(a, "stderr")));
	r = cpx_client_call(a->ctx, req, NULL, 0, NULL, &fd, err);
	if (r < 0)
		return r;
	if (fd < 0)
		return cpx_err_set(err, CPX_E_NOENT, "job '%s' has no output", a->pos[0]);
	do {
		/* asked first, so that its last words are read after its end */
		runs = cpx_arg_given(a, "follow") && still_runs(a);
		r = copy_new(fd, &pos, err);
		if (runs)
			nanosleep(&nap, NULL);
	} while (r >= 0 && runs);
	return r;
}
