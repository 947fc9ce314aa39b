/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper's connection to chpoxd. It may break at any moment; the job does not care. Answers
 * to requests of a daemon that has gone are dropped: what was done is in the registry.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "keeper.h"
#include "park.h"

#define SEND_TIMEOUT_S 5

static void drop(struct keeper *k)
{
	cpx_close(&k->link);
	cpx_proto_in_free(&k->link_in);
}

void keeper_tell(struct keeper *k, json_t *msg)
{
	if (k->link < 0) {
		json_decref(msg);
		return;
	}
	if (cpx_proto_send(k->link, msg, NULL, 0, NULL) < 0)
		drop(k);
}

void keeper_reply(struct keeper *k, int64_t id, json_t *answer)
{
	if (id >= 0 && answer) {
		json_object_set_new(answer, "id", json_integer(id));
		keeper_tell(k, answer);
	} else {
		json_decref(answer);
	}
}

void keeper_link_open(struct keeper *k)
{
	/* a daemon that hangs must not hang us */
	struct timeval tv = { .tv_sec = SEND_TIMEOUT_S };

	if (k->link < 0)
		k->link = cpx_proto_connect(k->dir, CPX_PROTO_SOCKET, NULL);
	if (k->link < 0) {
		k->link = -1;
		return;
	}
	setsockopt(k->link, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	keeper_tell(k,
		    json_pack("{s:s, s:s, s:i, s:b, s:I, s:I}", "op", "keeper", "job", k->name,
			      "pid", (int)getpid(), "started", k->start_id < 0, "epoch",
			      (json_int_t)k->own_epoch, "lease", (json_int_t)k->lease));
}

static int do_checkpoint(struct keeper *k, const json_t *m, struct cpx_err *err)
{
	const char *after = cpx_proto_str(m, "after");
	struct keeper_request r = { .id = cpx_proto_int(m, "id", -1) };
	int64_t deadline = cpx_proto_int(m, "deadline_ns", 0);

	if (after && !strcmp(after, "kill"))
		r.after = CPX_AFTER_KILL;
	else if (after && !strcmp(after, "stop"))
		r.after = CPX_AFTER_STOP;
	if (deadline > 0)
		r.deadline_ns = cpx_mono_ns() + deadline;
	if (cpx_tuning_decode(m, &r.tuning, err) < 0)
		return CPX_E_INVAL;
	return keeper_ask(k, &r, err);
}

/* A checkpoint with --stop stopped every process: so every one goes on. */
static void continue_all(const struct keeper *k)
{
	struct cpx_park tree;

	if (cpx_park_list(k->root, &tree, NULL) < 0)
		return;
	for (size_t i = 0; i < tree.ntasks; i++)
		kill(tree.tasks[i].pid, SIGCONT);
	cpx_park_free(&tree);
}

static int do_signal(struct keeper *k, const json_t *m, struct cpx_err *err)
{
	int sig = (int)cpx_proto_int(m, "signal", 0);
	int fd = k->root_pidfd >= 0 ? k->root_pidfd : k->box.root_pidfd;

	if (sig < 1 || sig >= NSIG)
		return cpx_err_set(err, CPX_E_INVAL, "there is no signal %d", sig);
	if (fd < 0 || syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0))
		return cpx_err_sys(err, fd < 0 ? ESRCH : errno, "cannot signal job '%s'",
				   k->name);
	if (sig == SIGKILL)
		k->ordered_kill = true;
	if (sig == SIGCONT)
		continue_all(k);
	keeper_reply(k, cpx_proto_int(m, "id", -1), cpx_proto_ok());
	return 0;
}

static int do_kill(struct keeper *k, const json_t *m, struct cpx_err *err)
{
	(void)err;
	k->ordered_kill = true;
	keeper_kill_all(k);
	keeper_reply(k, cpx_proto_int(m, "id", -1), cpx_proto_ok());
	return 0;
}

/* Leave the job alone: it runs on without us. */
static int do_leave(struct keeper *k, const json_t *m, struct cpx_err *err)
{
	if (k->boxed || k->parent)
		return cpx_err_set(
			err, CPX_E_INVAL,
			"job '%s' was started by chpox, which is its parent; end it with "
			"'signal' or 'rm --force'",
			k->name);
	keeper_ckpt_abort(k);
	keeper_reply(k, cpx_proto_int(m, "id", -1), cpx_proto_ok());
	exit(0);
}

static int do_attach(struct keeper *k, const json_t *m, struct cpx_err *err)
{
	(void)m;
	if (k->link_in.nfds != 1)
		return cpx_err_set(err, CPX_E_FORMAT, "no terminal came along");
	k->link_in.nfds = 0;
	keeper_tty_attach(k, k->link_in.fds[0]);
	return 0;
}

/* The head is damaged: an older one takes its place, and nothing is inherited from it. */
static int do_fall_back(struct keeper *k, const json_t *m, struct cpx_err *err)
{
	const char *head = cpx_proto_str(m, "head"), *to = cpx_proto_str(m, "to");
	int r;

	if (k->ckpt.pid)
		return cpx_err_set(err, CPX_E_BUSY,
				   "a checkpoint of job '%s' is under way; try again when it "
				   "is done",
				   k->name);
	r = cpx_registry_fall_back(k->reg, k->name, head ? head : "", to ? to : "", &k->job,
				   err);
	if (r < 0)
		return r;
	keeper_track_drop(&k->track);
	keeper_reply(k, cpx_proto_int(m, "id", -1), cpx_proto_ok());
	return 0;
}

/* The node's lease, at each renewal; another lease than ours says nothing to us. */
static int do_lease(struct keeper *k, const json_t *m, struct cpx_err *err)
{
	(void)err;
	keeper_fence_step(k, CPX_FENCE_RENEWED, cpx_proto_int(m, "lease", 0),
			  cpx_proto_int(m, "deadline_ns", 0));
	keeper_ckpt_next(k);
	return 0;
}

/* The registry has taken the job over again for this node, at our epoch, under a new lease. */
static int do_adopt(struct keeper *k, const json_t *m, struct cpx_err *err)
{
	int64_t lease = cpx_proto_int(m, "lease", 0);

	if (cpx_proto_int(m, "epoch", 0) != (int64_t)k->own_epoch || lease <= 0)
		return cpx_err_set(err, CPX_E_CONFLICT, "that is another copy");
	k->lease = lease;
	cpx_registry_fence(k->reg, k->conf.node, lease);
	keeper_fence_step(k, CPX_FENCE_ADOPTED, lease, cpx_proto_int(m, "deadline_ns", 0));
	keeper_ckpt_next(k);
	return 0;
}

/* The job is another's by now: nothing of it may be left here, nor written about it. */
static int do_end(struct keeper *k, const json_t *m, struct cpx_err *err)
{
	if (cpx_proto_int(m, "epoch", 0) != (int64_t)k->own_epoch)
		return cpx_err_set(err, CPX_E_CONFLICT, "that is another copy");
	cpx_log_note("%s: ended here, the job is not this node's any more", k->name);
	keeper_ckpt_abort(k);
	keeper_kill_all(k);
	exit(0);
}

/* clang-format off */
static const struct {
	const char *op;
	int (*fn)(struct keeper *k, const json_t *m, struct cpx_err *err);
	bool early; /* also before the job runs */
} ops[] = {
	{ "checkpoint", do_checkpoint, false },
	{ "signal", do_signal, false },
	{ "kill", do_kill, true },
	{ "leave", do_leave, false },
	{ "attach", do_attach, false },
	{ "lease", do_lease, true },
	{ "adopt", do_adopt, true },
	{ "end", do_end, true },
	{ "fall-back", do_fall_back, false },
};
/* clang-format on */

static void serve(struct keeper *k, const json_t *m)
{
	const char *op = cpx_proto_str(m, "op");
	struct cpx_err err = { 0 };
	int r = cpx_err_set(&err, CPX_E_UNSUPPORTED, "unknown request");

	for (size_t i = 0; op && i < sizeof(ops) / sizeof(ops[0]); i++)
		if (!strcmp(op, ops[i].op))
			r = ops[i].early || k->start_id < 0
				    ? ops[i].fn(k, m, &err)
				    : cpx_err_set(&err, CPX_E_BUSY,
						  "job '%s' is being started; try again",
						  k->name);
	if (r < 0)
		keeper_reply(k, cpx_proto_int(m, "id", -1), cpx_proto_fail(&err));
}

void keeper_link_event(struct keeper *k)
{
	int r = cpx_proto_feed(&k->link_in, k->link, NULL);
	json_t *m;

	while (r >= 0 && k->link >= 0) {
		r = cpx_proto_next(&k->link_in, &m, NULL);
		if (r != 1)
			break;
		serve(k, m);
		json_decref(m);
	}
	if (r < 0)
		drop(k);
}
