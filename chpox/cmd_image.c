/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dump, restore, inspect: an image in a directory, without daemon and registry. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../restore/restore.h"
#include "../store/image.h"
#include "base/buf.h"
#include "base/cmd.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "box.h"
#include "capture.h"
#include "ctl.h"
#include "engine.h"
#include "gen.h"
#include "image_arg.h"

#define DUMP_JOB CPX_GEN_DUMP_JOB
#define FILE_AS_CALLER ((uint32_t)-1)

static int ways_of(const struct cpx_args *a, struct cpx_capture_opts *o, struct cpx_err *err)
{
	const char *codec = cpx_arg(a, "codec"), *way = cpx_arg(a, "snapshot"),
		   *rate = cpx_arg(a, "rate");

	if (codec && cpx_codec_parse(codec, &o->image.codec) < 0)
		return cpx_err_set(err, CPX_E_INVAL, "--codec cannot be '%s'", codec);
	if (way && cpx_snapshot_parse(way, &o->snapshot) < 0)
		return cpx_err_set(err, CPX_E_INVAL, "--snapshot cannot be '%s'", way);
	if (o->snapshot == CPX_SNAP_PRECOPY)
		return cpx_err_set(err, CPX_E_INVAL,
				   "--snapshot=precopy needs an earlier checkpoint since which "
				   "writes were noted, as jobs have; a dump has none");
	return rate ? cpx_parse_bytes(rate, "rate", &o->rate, err) : 0;
}

static int workers_of(const struct cpx_args *a, unsigned *out, struct cpx_err *err)
{
	const char *s = cpx_arg(a, "workers");
	uint64_t v;

	if (!s)
		return 0;
	if (cpx_parse_u64(s, "number of workers", 256, &v, err) < 0)
		return CPX_E_INVAL;
	*out = (unsigned)v;
	return 0;
}

static int open_dir(const char *dir, bool create, struct cpx_store **out, struct cpx_err *err)
{
	struct cpx_store_opts so = { .create = create,
				     .uid = FILE_AS_CALLER,
				     .gid = FILE_AS_CALLER };

	return cpx_store_open(dir, &so, out, err);
}

static int dump_to(const struct cpx_args *a, struct cpx_capture_opts *o, struct cpx_err *err)
{
	struct cpx_capture_result res;
	struct cpx_progress progress;
	char mem[16], stored[16];
	int r;

	r = cpx_gen_next(o->store, &o->id, err);
	if (r < 0)
		return r;
	cpx_progress_begin(&progress, "dumping");
	o->progress = cpx_progress_step;
	o->progress_ctx = &progress;
	r = cpx_capture_run(o, &res, err);
	cpx_progress_end(&progress);
	if (r < 0)
		return r;
	printf("%s: %u processes, %u threads, %s of memory in %s, pause %.1f ms (%s), %.2f s\n",
	       cpx_arg(a, "to"), res.tasks, res.threads,
	       cpx_human_size(res.image.bytes_memory, mem),
	       cpx_human_size(res.image.bytes_stored, stored), (double)res.pause_ns / 1e6,
	       res.engine, (double)res.total_ns / 1e9);
	return 0;
}

/* A dump that was refused leaves nothing: what is empty goes, also @to itself if we made it. */
static void remove_empty(const char *to, bool ours)
{
	static const char *const sub[] = { "jobs/" DUMP_JOB, "jobs" };
	char path[4096];

	for (size_t i = 0; i < 2; i++)
		if (snprintf(path, sizeof(path), "%s/%s", to, sub[i]) < (int)sizeof(path))
			rmdir(path);
	if (ours)
		rmdir(to);
}

/* Is @pid this process or one that it descends from? Then the tree would hold the tool itself.
 */
static bool holds_us(pid_t pid)
{
	pid_t at = getpid();

	while (at > 1 && at != pid) {
		CPX_AUTO_FREE char *text = NULL;
		char path[32], *p;

		snprintf(path, sizeof(path), "/proc/%d/stat", at);
		if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
			return false;
		p = strrchr(text, ')');
		if (!p || sscanf(p + 1, " %*c %d", &at) != 1)
			return false;
	}
	return at == pid;
}

int cpx_ctl_dump(const struct cpx_args *a, struct cpx_err *err)
{
	struct cpx_capture_opts o = { .image.codec = CPX_CODEC_LZ4,
				      .after = CPX_AFTER_KILL,
				      .owner_uid = geteuid(),
				      .owner_gid = getegid() };
	const char *to = cpx_arg(a, "to");
	bool ours;
	int r;

	if (cpx_parse_pid(a->pos[0], &o.root, err) < 0 || ways_of(a, &o, err) < 0 ||
	    (cpx_arg(a, "engine") &&
	     cpx_engine_parse(cpx_arg(a, "engine"), &o.engine, err) < 0) ||
	    workers_of(a, &o.image.workers, err) < 0)
		return CPX_E_INVAL;
	if (!to)
		return cpx_err_set(err, CPX_E_INVAL, "dump: where to? give --to DIR");
	if (kill(o.root, 0) == -1)
		return cpx_err_sys(err, errno, "cannot dump pid %d", o.root);
	if (holds_us(o.root))
		return cpx_err_set(
			err, CPX_E_INVAL,
			"cannot dump pid %d: chpox_ctl itself is one of its children; "
			"call it from outside",
			o.root);
	if (cpx_arg_given(a, "leave-running"))
		o.after = CPX_AFTER_RUN;
	ours = access(to, F_OK) != 0;
	r = open_dir(to, true, &o.store, err);
	if (r >= 0) {
		r = cpx_store_lock(o.store, false, err);
		if (r >= 0)
			r = dump_to(a, &o, err);
		/*
		 * What an earlier dump left that was killed goes now that there is a newer one;
		 * not while another dump is at work here, for what it writes has no name yet.
		 */
		if (r < 0)
			cpx_store_drop_code(o.store);
		else if (cpx_store_lock(o.store, true, NULL) == 0)
			cpx_store_clean(o.store, &o.id, NULL);
		cpx_store_close(o.store);
		if (r < 0)
			remove_empty(to, ours);
	}
	return r < 0 ? cpx_err_wrap(err, "cannot dump pid %d to %s", o.root, to) : 0;
}

/* --- restore ------------------------------------------------------------------------- */

struct restore_job {
	const char *dir, *pidfile;
	bool detach, new_pids;
	struct cpx_restore_opts opts;
	struct cpx_restore_result res;
	struct cpx_box box;
};

static int write_pidfile(const char *path, pid_t pid, struct cpx_err *err)
{
	char tmp[4096], text[16];
	int n = snprintf(text, sizeof(text), "%d\n", pid);
	CPX_AUTO_FD fd = -1;

	/* whole or not at all: others poll for this file */
	if (snprintf(tmp, sizeof(tmp), "%s.%d.tmp", path, getpid()) >= (int)sizeof(tmp))
		return cpx_err_set(err, CPX_E_LIMIT, "path of the pidfile is too long");
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || cpx_write_full(fd, text, (size_t)n) || rename(tmp, path)) {
		int sys = errno;

		unlink(tmp);
		return cpx_err_sys(err, sys, "cannot write pidfile %s", path);
	}
	return 0;
}

static void forward(pid_t pid, int pidfd, int sig)
{
	if (pidfd >= 0)
		syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
	else
		kill(pid, sig);
}

static int exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void block_forwarded(sigset_t *set)
{
	static const int sigs[] = {
		SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD
	};

	sigemptyset(set);
	for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sigaddset(set, sigs[i]);
	sigprocmask(SIG_BLOCK, set, NULL);
}

/* Has the root process ended? Its wait status in *@status. */
static bool ended(struct restore_job *j, int *status, bool box_said)
{
	if (!j->new_pids)
		return waitpid(j->res.root, status, WNOHANG) == j->res.root;
	if (!box_said)
		return false;
	*status = SIGKILL;
	if (cpx_box_read(&j->box, NULL) == 0)
		return false;
	if (j->box.ended)
		*status = j->box.status;
	return true;
}

/* Stay with the job; hand signals on. Return: the exit status for the shell. */
static int stay(struct restore_job *j, int sigfd)
{
	struct signalfd_siginfo si;
	int status;

	for (;;) {
		struct pollfd p[2] = { { .fd = sigfd, .events = POLLIN },
				       { .fd = j->new_pids ? j->box.sock : -1,
					 .events = POLLIN } };

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return 1;
		if (p[0].revents && read(sigfd, &si, sizeof(si)) == sizeof(si) &&
		    si.ssi_signo != SIGCHLD)
			forward(j->res.root, j->box.root_pidfd, (int)si.ssi_signo);
		if (ended(j, &status, p[1].revents != 0))
			return exit_code(status);
	}
}

static int run_restore(struct restore_job *j, struct cpx_err *err)
{
	struct cpx_box_opts bo = { .cgroup_fd = -1, .listen_fd = -1 };
	struct cpx_progress progress;
	int r;

	if (j->new_pids) {
		r = cpx_box_make(&bo, &j->box, err);
		if (r < 0)
			return r;
		j->opts.spawn = cpx_box_spawn;
		j->opts.spawn_ctx = &j->box;
	}
	cpx_progress_begin(&progress, "restoring");
	j->opts.progress = cpx_progress_step;
	j->opts.progress_ctx = &progress;
	r = cpx_restore_run(&j->opts, &j->res, err);
	cpx_progress_end(&progress);
	if (r < 0 && j->new_pids) {
		cpx_box_kill(&j->box);
		cpx_box_close(&j->box);
		j->box = (struct cpx_box)CPX_BOX_NONE;
	}
	return r;
}

/* The newest generation that can be used, and a word about the newer ones. */
static int restore_newest(struct restore_job *j, struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_gen_entry *gens = NULL;
	int n = cpx_gen_candidates(j->opts.store, &gens, err), r = n;

	for (int i = 0; i < n; i++) {
		const unsigned long long seq = gens[i].id.seq;

		j->opts.id = gens[i].id;
		r = run_restore(j, err);
		if (r >= 0 && i)
			cpx_log_note("%s: went back to generation %llu", j->dir, seq);
		if (r >= 0 || !cpx_gen_is_bad(r))
			break;
		if (i + 1 < n)
			cpx_log_note("%s: generation %llu cannot be used: %s", j->dir, seq,
				     err->msg);
	}
	return r;
}

static int restore_from(struct restore_job *j, struct cpx_err *err)
{
	CPX_AUTO_FD sigfd = -1;
	sigset_t set, before;
	int r = cpx_image_rights(j->dir, &j->opts, err);

	if (r < 0)
		return r;
	/* before the job exists, so that nothing that it or the user does is missed */
	sigprocmask(SIG_SETMASK, NULL, &before);
	block_forwarded(&set);
	sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sigfd < 0)
		return cpx_err_sys(err, errno, "cannot make a signal descriptor");
	r = restore_newest(j, err);
	if (r < 0)
		return r;
	if (j->pidfile && write_pidfile(j->pidfile, j->res.root, err) < 0) {
		forward(j->res.root, j->box.root_pidfd, SIGKILL);
		return CPX_E_IO;
	}
	return j->detach ? 0 : stay(j, sigfd);
}

int cpx_ctl_restore(const struct cpx_args *a, struct cpx_err *err)
{
	struct restore_job j = {
		.dir = a->pos[0],
		.pidfile = cpx_arg(a, "pidfile"),
		.detach = cpx_arg_given(a, "detach"),
		.opts = { .force = cpx_arg_given(a, "force"),
			  .stopped = cpx_arg_given(a, "stopped"),
			  .stdio = { 0, 1, 2 } },
		.box = CPX_BOX_NONE,
	};
	const char *pids = cpx_arg(a, "pids");
	int r;

	if (pids && strcmp(pids, "same") && strcmp(pids, "new"))
		return cpx_err_set(err, CPX_E_INVAL, "--pids cannot be '%s'; it is same or new",
				   pids);
	j.new_pids = pids && !strcmp(pids, "new");
	if (workers_of(a, &j.opts.workers, err) < 0)
		return CPX_E_INVAL;
	r = open_dir(j.dir, false, &j.opts.store, err);
	if (r >= 0) {
		r = restore_from(&j, err);
		cpx_store_close(j.opts.store);
	}
	cpx_box_close(&j.box);
	return r < 0 ? cpx_err_wrap(err, "cannot restore %s", j.dir) : r;
}

/* --- inspect ------------------------------------------------------------------------- */

static int print_image(struct cpx_image *img, bool json, struct cpx_err *err)
{
	struct cpx_buf out = { 0 };
	int r = cpx_image_print(img, json, &out, err);

	if (r >= 0 && out.failed)
		r = cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	if (r >= 0)
		fwrite(out.data, 1, out.len, stdout);
	cpx_buf_free(&out);
	return r;
}

int cpx_ctl_inspect(const struct cpx_args *a, struct cpx_err *err)
{
	struct cpx_image_arg arg;
	struct cpx_image *img;
	struct cpx_gen_id id;
	int r = cpx_image_arg_open(a->ctx, a->pos[0], &arg, err);

	if (r >= 0) {
		r = cpx_image_arg_pick(&arg, &id, NULL, err);
		if (r >= 0)
			r = cpx_image_open(arg.store, &id, &img, err);
		if (r >= 0) {
			r = print_image(img, cpx_arg_given(a, "json"), err);
			cpx_image_close(img);
		}
		cpx_image_arg_close(&arg);
	}
	return r < 0 ? cpx_err_wrap(err, "cannot inspect %s", a->pos[0]) : 0;
}
