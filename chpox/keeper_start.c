/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ways a keeper begins.
 *
 * RUN      box -> exec.                      Fails: the job is FAILED, nothing runs.
 * MARK     watch by pidfd.                   Fails: the process is another one by now.
 * RESTART  generation by generation: box -> a child restores into it. One that is damaged, or
 *	    whose files have become shorter, is passed over and the user told; any other failure
 *	    ends the attempt. Marked jobs get their PIDs on the host where they are free.
 * ADOPT    the launcher's socket (or the marked process) -> as if we had always been there.
 * RECOVER  ADOPT; where nothing lives: the launcher's exit file says how it ended; else
 *	    RESTART; else, without a generation, the command anew, its old output moved aside.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../restore/restore.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "gen.h"
#include "keeper.h"

#define OLD_TIMEOUT_MS 5000
#define PROGRESS_NS 200000000LL
#define ZOMBIE_NAPS 500 /* of 10 ms */

/* --- boxes and runs ------------------------------------------------------------------ */

/*
 * In a cluster: the deadline has not passed while there was nothing to freeze. Renewals that
 * wait to be read count.
 */
static int still_ours(struct keeper *k, struct cpx_err *err)
{
	struct pollfd p = { .fd = k->fence ? k->link : -1, .events = POLLIN };

	while (p.fd >= 0 && k->link >= 0 && poll(&p, 1, 0) > 0)
		keeper_link_event(k);
	return keeper_fence_shut(k)
		       ? cpx_err_set(err, CPX_E_BUSY,
				     "this node's lease ended while the job was started")
		       : 0;
}

static int make_box(struct keeper *k, const struct cpx_box_cmd *cmd, struct cpx_err *err)
{
	CPX_AUTO_FREE char *exit_path = NULL;
	struct cpx_box_opts o = {
		.cgroup_fd = -1, .tty = k->job.tty, .tty_uid = k->job.uid, .cmd = cmd
	};
	int r;

	if (asprintf(&exit_path, "%s/exit", k->jobdir) < 0)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	r = still_ours(k, err);
	if (r < 0)
		return r;
	unlink("exit");
	cpx_close(&k->cgroup_fd);
	r = cpx_cgroup_make(k->cgroup, NULL);
	k->cgroup_fd = r < 0 ? -1 : r;
	cpx_close(&k->listen_fd);
	r = cpx_proto_listen(".", "inner", SOCK_SEQPACKET, 0600, err);
	if (r < 0)
		return r;
	k->listen_fd = r;
	o.listen_fd = r;
	o.exit_path = exit_path;
	o.cgroup_fd = k->cgroup_fd;
	o.bound = k->own_epoch != 0;
	r = cpx_box_make(&o, &k->box, err);
	cpx_close(&k->listen_fd);
	k->boxed = r >= 0;
	return r;
}

static void drop_box(struct keeper *k)
{
	if (!k->boxed)
		return;
	keeper_lock();
	cpx_box_kill(&k->box);
	cpx_box_close(&k->box);
	k->box = (struct cpx_box)CPX_BOX_NONE;
	k->boxed = false;
	keeper_unlock();
}

/* Streams of a batch job: files in its directory, the `append` rule keeps them right. */
static int open_streams(struct keeper *k, int stdio[3], struct cpx_err *err)
{
	stdio[0] = k->stdin_fd;
	stdio[1] = keeper_open_out(k, "stdout", err);
	if (stdio[1] < 0)
		return stdio[1];
	stdio[2] = keeper_open_out(k, "stderr", err);
	return stdio[2] < 0 ? stdio[2] : 0;
}

static void close_streams(struct keeper *k, int stdio[3])
{
	k->stdin_fd = -1;
	for (int i = 0; i < 3; i++)
		cpx_close(&stdio[i]);
}

static int start_run(struct keeper *k, struct cpx_err *err)
{
	int *stdio = k->spec.cmd.stdio, r = 0;

	if (!k->job.tty)
		r = open_streams(k, stdio, err);
	if (r >= 0)
		r = make_box(k, &k->spec.cmd, err);
	if (r >= 0) {
		r = cpx_box_exec(&k->box, err);
		if (r < 0)
			drop_box(k);
	}
	close_streams(k, stdio);
	if (r < 0)
		return cpx_err_wrap(err, "cannot run '%s'", k->spec.cmd.argv[0]);
	k->root = k->box.root;
	return 0;
}

/* --- what runs already --------------------------------------------------------------- */

static void why_note(void *ctx, const char *line)
{
	keeper_note(ctx, "%s", line);
}

static int watch(struct keeper *k, pid_t pid, struct cpx_err *err)
{
	CPX_AUTO_FD fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return cpx_err_sys(err, errno, "cannot watch pid %d", pid);
	k->root = pid;
	cpx_close(&k->root_pidfd);
	k->root_pidfd = cpx_steal_fd(&fd);
	return 0;
}

static int start_mark(struct keeper *k, struct cpx_err *err)
{
	int r = watch(k, k->job.root.pid, err);

	if (r < 0)
		return r;
	/* only now is the PID known to be held by that process */
	if (!cpx_live_check(&k->job.root))
		return cpx_err_set(err, CPX_E_GONE, "pid %d has ended", k->job.root.pid);
	if (cpx_capture_why(k->root, why_note, k, err) < 0) {
		keeper_note(k, "%s", err->msg);
		memset(err, 0, sizeof(*err));
	}
	return 0;
}

/* Return: 1 adopted, 0 there is nothing to adopt, or CPX_E_*. */
static int start_adopt(struct keeper *k, struct cpx_err *err)
{
	int r;

	if (cpx_live_check(&k->job.init)) {
		r = cpx_box_adopt("inner", k->job.init.pid, &k->box, err);
		/* it may end while we knock */
		if (r < 0)
			return cpx_live_check(&k->job.init) ? r : 0;
		k->boxed = true;
		k->root = k->box.root;
		r = cpx_cgroup_make(k->cgroup, NULL);
		k->cgroup_fd = r < 0 ? -1 : r;
		return 1;
	}
	if (k->job.init.pid || !cpx_live_check(&k->job.root))
		return 0;
	r = watch(k, k->job.root.pid, err);
	return r < 0 ? r : 1;
}

/* --- restart ------------------------------------------------------------------------- */

static bool is_alive(pid_t pid)
{
	struct cpx_live l;

	return cpx_live_of(pid, &l, NULL) == 0;
}

/* On the host: a child of the keeper, which is the parent of the restoring process. */
static pid_t spawn_sibling(void *ctx, pid_t want, int conductor_pidfd,
			   const struct cpx_rec_host *host, struct cpx_err *err)
{
	struct keeper *k = ctx;
	struct clone_args ca = {
		.flags = CLONE_PARENT,
		.set_tid = (uintptr_t)&want,
		.set_tid_size = 1,
	};
	struct timespec nap = { .tv_nsec = 10000000 };
	pid_t pid;
	int old, sys;

	if (k->cgroup_fd >= 0) {
		ca.flags |= CLONE_INTO_CGROUP;
		ca.cgroup = (uint64_t)k->cgroup_fd;
	}
	cpx_restore_clocks(host->monotonic_ns, host->boottime_ns, &old);
	pid = (pid_t)syscall(SYS_clone3, &ca, sizeof(ca));
	/* the old one may be a zombie still; a live process in its place is not waited for */
	for (int i = 0; pid < 0 && errno == EEXIST && i < ZOMBIE_NAPS && !is_alive(want); i++) {
		nanosleep(&nap, NULL);
		pid = (pid_t)syscall(SYS_clone3, &ca, sizeof(ca));
	}
	if (pid == 0)
		cpx_restore_child(conductor_pidfd);
	sys = errno;
	cpx_restore_clocks_back(&old);
	if (pid < 0)
		return cpx_err_sys(err, sys, "cannot make a process with PID %d", want);
	return pid;
}

struct teller {
	int fd;
	int64_t last_ns;
};

static void tell_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct teller *t = ctx;
	int64_t now = cpx_mono_ns();

	if (now - t->last_ns < PROGRESS_NS)
		return;
	t->last_ns = now;
	cpx_proto_send(t->fd,
		       json_pack("{s:b, s:I, s:I}", "progress", 1, "done", (json_int_t)done,
				 "total", (json_int_t)total),
		       NULL, 0, NULL);
}

/* The child that restores. */
static void __attribute__((noreturn))
conduct(struct keeper *k, const struct cpx_gen_id *id, const int stdio[3], int fd)
{
	struct teller teller = { .fd = fd };
	struct cpx_restore_opts o = {
		.id = *id,
		.owner_uid = k->job.uid,
		.owner_gid = k->job.gid,
		.trusted = k->job.uid == 0,
		.force = k->force,
		.spawn = k->boxed ? cpx_box_spawn : spawn_sibling,
		.spawn_ctx = k->boxed ? (void *)&k->box : (void *)k,
		.stdio = { stdio[0], stdio[1], stdio[2] },
		.progress = tell_progress,
		.progress_ctx = &teller,
	};
	struct cpx_restore_result res;
	struct cpx_err err = { 0 };
	int r = keeper_open_store(k, &o.store, &err);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (r >= 0)
		r = cpx_restore_run(&o, &res, &err);
	cpx_proto_send(fd,
		       r < 0 ? cpx_proto_fail(&err)
			     : json_pack("{s:b, s:i}", "ok", 1, "root", res.root),
		       NULL, 0, NULL);
	_exit(0);
}

static int await_conductor(struct keeper *k, pid_t pid, int fd, pid_t *root,
			   struct cpx_err *err)
{
	int fds[CPX_PROTO_FDS], status, r;
	json_t *m = NULL;
	size_t nfds;

	for (;;) {
		struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
				       { .fd = k->fence ? k->link : -1, .events = POLLIN } };

		/* a long restore must not outlive its lease for want of listening */
		if (poll(p, 2, -1) > 0 && p[1].revents)
			keeper_link_event(k);
		if (!p[0].revents)
			continue;
		r = cpx_proto_recv(fd, &m, fds, &nfds, err);
		if (r < 0 || !json_object_get(m, "progress"))
			break;
		keeper_reply(k, k->start_id, m);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return cpx_err_set(err, CPX_E_SYS,
				   "the restoring process was killed by signal %d",
				   WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	r = cpx_proto_result(m, err);
	if (r >= 0)
		*root = (pid_t)cpx_proto_int(m, "root", 0);
	json_decref(m);
	return r;
}

static int restore_into(struct keeper *k, const struct cpx_gen_id *id, struct cpx_err *err)
{
	int stdio[3] = { -1, -1, -1 }, pair[2], r = 0;
	pid_t pid, root = 0;

	if (k->job.tty)
		stdio[0] = stdio[1] = stdio[2] = k->box.tty_slave;
	else if (k->job.marked)
		r = open_streams(k, stdio, err);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return cpx_err_sys(err, errno, "cannot make a socket");
	pid = fork();
	if (pid == 0)
		conduct(k, id, stdio, pair[1]);
	close(pair[1]);
	r = pid < 0 ? cpx_err_sys(err, errno, "cannot fork")
		    : await_conductor(k, pid, pair[0], &root, err);
	close(pair[0]);
	if (!k->job.tty)
		close_streams(k, stdio);
	if (r >= 0)
		r = watch(k, root, err);
	k->parent = r >= 0 && !k->boxed;
	/* the empty child that a failed restore leaves to us */
	while (!k->boxed && r < 0 && waitpid(-1, NULL, WNOHANG) > 0)
		;
	return r;
}

static int restore_one(struct keeper *k, const struct cpx_gen_id *id, struct cpx_err *err)
{
	int r;

	if (k->job.marked) {
		cpx_close(&k->cgroup_fd);
		r = cpx_cgroup_make(k->cgroup, NULL);
		k->cgroup_fd = r < 0 ? -1 : r;
		r = restore_into(k, id, err);
		if (r != CPX_E_EXIST)
			return r;
		keeper_note(k, "its PIDs are taken on this host; it runs in a PID namespace");
		memset(err, 0, sizeof(*err));
	}
	r = make_box(k, k->has_spec ? &k->spec.cmd : NULL, err);
	if (r >= 0)
		r = restore_into(k, id, err);
	if (r < 0)
		drop_box(k);
	return r;
}

static bool wanted(const struct keeper *k, const struct cpx_gen_id *id)
{
	if (!k->want_seq)
		return true;
	return id->seq == k->want_seq && (!k->want_epoch || id->epoch == k->want_epoch);
}

static int start_restart(struct keeper *k, struct cpx_err *err)
{
	int r = CPX_E_NOENT;
	bool fell_back = false;

	cpx_err_set(err, CPX_E_NOENT,
		    k->want_seq ? "job '%s' has no such generation"
				: "job '%s' has no checkpoint",
		    k->name);
	/* what an earlier keeper left of it must not run beside it */
	if (cpx_live_check(&k->job.init))
		kill(k->job.init.pid, SIGKILL);
	if (cpx_cgroup_kill(k->cgroup, OLD_TIMEOUT_MS, err) < 0)
		return CPX_E_BUSY;
	for (uint32_t i = k->want_seq ? 0 : k->job.placing.skip; i < k->job.ngens; i++) {
		struct cpx_gen_id id = k->job.gens[i].id;

		if (!wanted(k, &id))
			continue;
		r = restore_one(k, &id, err);
		if (r >= 0 && fell_back) {
			keeper_note(k, "went back to generation %llu.%llu",
				    (unsigned long long)id.epoch, (unsigned long long)id.seq);
			cpx_registry_fall_back(k->reg, k->name, k->job.gens[0].id.nonce,
					       id.nonce, &k->job, err);
		}
		k->restarted = r >= 0;
		if (r >= 0)
			return 0;
		if (!cpx_gen_is_bad(r))
			break;
		fell_back = true;
		keeper_note(k, "generation %llu.%llu cannot be used: %s",
			    (unsigned long long)id.epoch, (unsigned long long)id.seq, err->msg);
	}
	return cpx_err_wrap(err, "cannot restart '%s'", k->name);
}

static int start_recover(struct keeper *k, struct cpx_err *err)
{
	/* in a cluster nothing lives that has no keeper */
	int r = k->own_epoch ? 0 : start_adopt(k, err);

	if (r < 0)
		return cpx_err_wrap(err, "cannot adopt '%s'", k->name);
	if (r) {
		keeper_note(k, "its processes were alive: nothing was lost");
		k->mode = KEEPER_ADOPT;
		return 0;
	}
	if (k->job.ngens)
		return start_restart(k, err);
	if (k->job.marked || k->mode == KEEPER_ADOPT)
		return cpx_err_set(err, CPX_E_NOENT,
				   "cannot recover '%s': it was never checkpointed", k->name);
	keeper_note(k, "it was never checkpointed: it begins anew, its output so far is aside");
	if (cpx_cgroup_kill(k->cgroup, OLD_TIMEOUT_MS, err) < 0)
		return CPX_E_BUSY;
	r = keeper_move_out(k, err);
	return r < 0 ? r : start_run(k, err);
}

/* The box has gone by itself while no keeper was there: how did the job end? */
static bool ended_meanwhile(struct keeper *k)
{
	CPX_AUTO_FREE char *s = NULL;

	if (k->job.state != CPX_JOB_RUNNING || !k->job.init.pid ||
	    cpx_live_check(&k->job.init) || cpx_read_file(AT_FDCWD, "exit", 64, &s, NULL) <= 0)
		return false;
	k->status = (int)strtol(s, NULL, 10);
	/* killed: that is what recovery is for */
	if (WIFSIGNALED(k->status) && WTERMSIG(k->status) == SIGKILL)
		return false;
	k->ended = true;
	return true;
}

int keeper_start(struct keeper *k, struct cpx_err *err)
{
	int r = 0;

	if (!k->job.marked)
		r = keeper_spec_load(k, err);
	if (r < 0)
		return r;
	switch (k->mode) {
	case KEEPER_RUN:
		return start_run(k, err);
	case KEEPER_MARK:
		return start_mark(k, err);
	case KEEPER_RESTART:
		return start_restart(k, err);
	case KEEPER_ADOPT:
	case KEEPER_RECOVER:
		break;
	case KEEPER_PLACE:
		return start_recover(k, err);
	}
	if (!k->own_epoch && ended_meanwhile(k))
		return 0;
	if (k->mode == KEEPER_RECOVER)
		return start_recover(k, err);
	r = start_adopt(k, err);
	return r ? r : cpx_err_set(err, CPX_E_NOENT, "nothing of job '%s' is alive", k->name);
}
