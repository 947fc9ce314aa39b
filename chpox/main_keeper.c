/* SPDX-License-Identifier: GPL-2.0-or-later */
/* chpox_keeper - one job's keeper. Started by chpoxd, never by hand. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cmd.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "keeper.h"

#define LINK_FD 3
#define STDIN_FD 4
#define RECONNECT_MS 250

static int run(const struct cpx_args *a, struct cpx_err *err);

/* clang-format off */
static const struct cpx_opt opts[] = {
	{ "dir", 0, "DIR", "state directory" },
	{ "epoch", 0, "N", "restart: this generation's epoch" },
	{ "seq", 0, "N", "restart: this generation's number" },
	{ "force", 0, NULL, "restart although files have changed" },
	{ "own", 0, "N", "the job is this node's at this epoch" },
	{ "lease", 0, "N", "under this lease" },
	{ "deadline", 0, "NS", "until this CLOCK_BOOTTIME" },
	{ "request", 0, "N", "the request to answer when the job runs" },
	{ "stdin", 0, NULL, "descriptor 4 is the job's standard input" },
	{ 0 }
};
static const struct cpx_cmd commands[] = {
	{ "run", "JOB", "start the job's command", opts, 1, 1, false, run },
	{ "mark", "JOB", "watch a running process", opts, 1, 1, false, run },
	{ "restart", "JOB", "restart from a checkpoint", opts, 1, 1, false, run },
	{ "recover", "JOB", "adopt, restart or begin anew", opts, 1, 1, false, run },
	{ "adopt", "JOB", "take over from a keeper that died", opts, 1, 1, false, run },
	{ "place", "JOB", "run it for a cluster", opts, 1, 1, false, run },
	{ 0 }
};
/* clang-format on */

static enum keeper_mode mode_of(const char *name)
{
	for (int i = 0; commands[i].name; i++)
		if (!strcmp(commands[i].name, name))
			return (enum keeper_mode)i;
	return KEEPER_ADOPT;
}

static int timeout_ms(const struct keeper *k)
{
	int ms = k->link < 0 ? RECONNECT_MS : -1;
	int64_t left;

	if (!k->due_ns || k->ckpt.pid)
		return ms;
	left = (k->due_ns - cpx_mono_ns() + 999999) / 1000000;
	if (left < 0)
		left = 0;
	return ms < 0 || left < ms ? (int)(left > 3600000 ? 3600000 : left) : ms;
}

static void periodic(struct keeper *k)
{
	const struct keeper_request r = { .id = -1, .after = CPX_AFTER_RUN };
	struct cpx_err err = { 0 };

	if (k->link < 0)
		keeper_link_open(k);
	if (!k->due_ns || k->ckpt.pid || cpx_mono_ns() < k->due_ns)
		return;
	k->due_ns = 0; /* set again when it is made */
	if (keeper_ask(k, &r, &err) < 0)
		keeper_schedule(k);
}

/* The job has ended: with a checkpoint that was to end it under way, that has the last word. */
static void finish(struct keeper *k)
{
	while (k->ckpt.pid && k->ckpt.req.after == CPX_AFTER_KILL)
		keeper_ckpt_event(k);
	keeper_ckpt_abort(k);
	keeper_tty_close(k);
	keeper_finish(k, false);
}

static void loop(struct keeper *k)
{
	while (!k->ended) {
		struct pollfd p[4 + KEEPER_WATCHERS] = {
			{ .fd = k->boxed ? k->box.sock : k->root_pidfd, .events = POLLIN },
			{ .fd = k->link, .events = POLLIN },
			{ .fd = k->ckpt.pid ? k->ckpt.fd : -1, .events = POLLIN },
			{ .fd = k->box.tty_master, .events = POLLIN },
		};

		for (int i = 0; i < KEEPER_WATCHERS; i++)
			p[4 + i] = (struct pollfd){ .fd = k->watchers[i].fd, .events = POLLIN };
		if (poll(p, 4 + KEEPER_WATCHERS, timeout_ms(k)) < 0 && errno != EINTR)
			break;
		if (p[3].revents)
			keeper_tty_output(k);
		if (p[2].revents)
			keeper_ckpt_event(k);
		if (p[0].revents && keeper_look(k))
			break;
		if (p[1].revents)
			keeper_link_event(k);
		for (int i = 0; i < KEEPER_WATCHERS; i++)
			if (p[4 + i].revents && k->watchers[i].fd >= 0)
				keeper_tty_input(k, &k->watchers[i]);
		periodic(k);
	}
}

static void answer_start(struct keeper *k, json_t *answer)
{
	json_object_set_new(answer, "job", json_string(k->name));
	json_object_set_new(answer, "pid", json_integer(k->root));
	if (k->notes)
		json_object_set_new(answer, "notes", k->notes);
	k->notes = NULL;
	keeper_reply(k, k->start_id, answer);
	k->start_id = -1;
}

static int begin(struct keeper *k, struct cpx_err *err)
{
	int r = keeper_open(k, err);

	if (r >= 0 && k->own_epoch)
		r = keeper_fence_open(k, k->own_deadline_ns, err);
	if (r >= 0)
		r = keeper_acquire(k, err);
	if (r < 0)
		return r;
	k->seq = k->job.ngens ? k->job.gens[0].id.seq : 0;
	r = keeper_start(k, err);
	if (r < 0) {
		/* what is alive and could not be reached is not failed */
		if (k->mode != KEEPER_ADOPT)
			keeper_failed(k, err);
		return r;
	}
	if (k->ended)
		return 0;
	r = keeper_running(k, err);
	if (r >= 0 && k->fenced_dead)
		r = cpx_err_set(err, CPX_E_BUSY, "this node's lease has ended");
	if (r < 0)
		keeper_kill_all(k);
	return r;
}

static int parse(const struct cpx_args *a, struct keeper *k, struct cpx_err *err)
{
	const char *epoch = cpx_arg(a, "epoch"), *seq = cpx_arg(a, "seq");
	const char *request = cpx_arg(a, "request");
	const char *own = cpx_arg(a, "own"), *lease = cpx_arg(a, "lease");
	const char *until = cpx_arg(a, "deadline");
	uint64_t id = 0, deadline = 0;

	k->dir = cpx_arg(a, "dir");
	k->name = a->pos[0];
	k->mode = mode_of(a->cmd->name);
	k->force = cpx_arg_given(a, "force");
	k->stdin_fd = cpx_arg_given(a, "stdin") ? STDIN_FD : -1;
	if (!k->dir || !cpx_job_name_ok(k->name))
		return cpx_err_set(err, CPX_E_INVAL, "chpox_keeper is started by chpoxd");
	if ((epoch && cpx_parse_u64(epoch, "epoch", INT64_MAX, &k->want_epoch, err) < 0) ||
	    (seq && cpx_parse_u64(seq, "generation", INT64_MAX, &k->want_seq, err) < 0) ||
	    (request && cpx_parse_u64(request, "request", INT64_MAX, &id, err) < 0))
		return CPX_E_INVAL;
	k->start_id = request ? (int64_t)id : -1;
	if (!own)
		return 0;
	if (cpx_parse_u64(own, "epoch", INT64_MAX, &k->own_epoch, err) < 0 || !lease ||
	    cpx_parse_u64(lease, "lease", INT64_MAX, &id, err) < 0 || !until ||
	    cpx_parse_u64(until, "deadline", INT64_MAX, &deadline, err) < 0)
		return CPX_E_INVAL;
	k->lease = (int64_t)id;
	k->own_deadline_ns = (int64_t)deadline;
	return 0;
}

static int run(const struct cpx_args *a, struct cpx_err *err)
{
	struct keeper k = { .box = CPX_BOX_NONE,
			    .root_pidfd = -1,
			    .cgroup_fd = -1,
			    .listen_fd = -1,
			    .link = -1,
			    .track = { .pair = { -1, -1 } } };
	int r = parse(a, &k, err);

	if (r < 0)
		return r;
	if (fcntl(LINK_FD, F_SETFD, FD_CLOEXEC) == 0)
		k.link = LINK_FD;
	if (k.stdin_fd >= 0)
		fcntl(k.stdin_fd, F_SETFD, FD_CLOEXEC);
	keeper_link_open(&k);
	r = begin(&k, err);
	if (r < 0) {
		json_t *fail = cpx_proto_fail(err);

		answer_start(&k, fail);
		return r;
	}
	keeper_tty_open(&k);
	answer_start(&k, cpx_proto_ok());
	keeper_gc(&k);
	keeper_schedule(&k);
	loop(&k);
	finish(&k);
	return 0;
}

int main(int argc, char **argv)
{
	const struct cpx_prog prog = {
		.name = "chpox_keeper",
		.summary = "keeps one job; started by chpoxd",
		.cmds = commands,
	};
	struct rlimit files;

	cpx_log_init("chpox_keeper");
	cpx_fault_init();
	setsid();
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	return cpx_cmd_main(&prog, argc, argv);
}
