/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Acquiring a job, and its end.
 *
 * Acquire: the record gets a new epoch with us as keeper; another live keeper is CPX_E_BUSY.
 * End: the status is in the record before anybody is told. A keeper killed in between leaves a
 * record that says "running" and no such processes: the launcher's exit file then tells, or the
 * job counts as lost and recover restarts it.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"

#define KILL_TIMEOUT_MS 5000
#define TREE_MAX 4096
#define LOCK_NAPS 500		     /* of 10 ms */
#define PIDFD_EXIT_KNOWN (1ull << 3) /* PIDFD_INFO_EXIT */

static int open_registry(struct keeper *k, struct cpx_err *err)
{
	int r = cpx_registry_conf_load(k->dir, &k->conf, err);

	if (r >= 0)
		r = cpx_registry_open_conf(&k->conf, &k->reg, err);
	if (r < 0 || !*k->conf.node)
		return r;
	if (!k->own_epoch)
		return cpx_err_set(err, CPX_E_INVAL, "in a cluster the core starts keepers");
	cpx_registry_fence(k->reg, k->conf.node, k->lease);
	return 0;
}

/*
 * One keeper a job and node, whatever daemons have come and gone: an older one, whose copy the
 * registry no longer knows, is killed, and its job dies with it. Held until we end.
 */
static int lock_job(struct cpx_err *err)
{
	struct timespec nap = { .tv_nsec = 10000000 };
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	/* of this process alone, not of those it forks; as long as the file is not closed */
	int fd = open("keeper.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return cpx_err_sys(err, errno, "cannot open the job's lock");
	for (int i = 0; fcntl(fd, F_SETLK, &l); i++) {
		struct flock old = l, same = l;

		if ((errno != EAGAIN && errno != EACCES) || i == LOCK_NAPS) {
			close(fd);
			return cpx_err_set(err, CPX_E_BUSY, "an older keeper of the job stays");
		}
		if (fcntl(fd, F_GETLK, &old) == 0 && old.l_type != F_UNLCK && old.l_pid > 1) {
			CPX_AUTO_FD pidfd = (int)syscall(SYS_pidfd_open, old.l_pid, 0);

			/* who holds it now is who was opened */
			if (pidfd >= 0 && fcntl(fd, F_GETLK, &same) == 0 &&
			    same.l_type != F_UNLCK && same.l_pid == old.l_pid)
				syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		}
		nanosleep(&nap, NULL);
	}
	return 0;
}

int keeper_open(struct keeper *k, struct cpx_err *err)
{
	int r;

	if (asprintf(&k->jobdir, "%s/jobs/%s", k->dir, k->name) < 0)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	if (chdir(k->jobdir))
		return cpx_err_sys(err, errno, "%s", k->jobdir);
	r = cpx_cgroup_job(k->dir, k->name, k->cgroup, err);
	if (r < 0)
		return r;
	if (k->own_epoch && (r = lock_job(err)) < 0)
		return r;
	r = open_registry(k, err);
	if (r < 0)
		return r;
	k->code_cache = mmap(NULL, cpx_code_cache_size(), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (k->code_cache == MAP_FAILED)
		k->code_cache = NULL; /* slower, no worse */
	return cpx_registry_get(k->reg, k->name, &k->job, err);
}

struct taking {
	const struct keeper *k;
	struct cpx_live me, old;
	bool failed;
};

static int take_over(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	struct taking *t = ctx;
	const struct keeper *k = t->k;

	/* in a cluster the core has acquired it */
	if (k->own_epoch && (job->epoch != k->own_epoch || job->lease != k->lease ||
			     strcmp(job->node, k->conf.node) != 0))
		return cpx_err_set(err, CPX_E_CONFLICT, "job '%s' has been placed anew",
				   job->name);
	if (!k->own_epoch && cpx_live_check(&job->keeper))
		return cpx_err_set(err, CPX_E_BUSY, "job '%s' has a keeper (pid %d)", job->name,
				   job->keeper.pid);
	t->failed = (k->mode == KEEPER_RESTART || k->mode == KEEPER_RECOVER) &&
		    keeper_had_failed(job);
	if (t->failed && job->learned.failures.count < INT64_MAX)
		job->learned.failures.count++;
	t->old = job->keeper;
	job->keeper = t->me;
	if (!k->own_epoch)
		job->epoch++;
	return 0;
}

int keeper_acquire(struct keeper *k, struct cpx_err *err)
{
	struct taking t = { .k = k };
	int r = cpx_live_of(getpid(), &t.me, err);

	if (r >= 0)
		r = cpx_registry_change(k->reg, k->name, take_over, &t, &k->job, err);
	if (r >= 0 && t.failed)
		keeper_node_failed(k, &t.old);
	return r;
}

static int mine(const struct keeper *k, const struct cpx_reg_job *job, struct cpx_err *err)
{
	return job->epoch == k->job.epoch
		       ? 0
		       : cpx_err_set(err, CPX_E_CONFLICT, "job '%s' has been placed anew",
				     job->name);
}

static int put_running(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	struct keeper *k = ctx;

	if (mine(k, job, err) < 0)
		return CPX_E_CONFLICT;
	if (k->own_epoch && job->lease != k->lease)
		return cpx_err_set(err, CPX_E_CONFLICT, "job '%s' has been placed anew",
				   job->name);
	job->state = CPX_JOB_RUNNING;
	job->has_status = false;
	job->reason[0] = 0;
	job->restarts += k->restarted;
	memset(&job->init, 0, sizeof(job->init));
	memset(&job->root, 0, sizeof(job->root));
	/* what has ended already is found so by the loop */
	cpx_live_of(k->root, &job->root, NULL);
	if (k->boxed)
		cpx_live_of(k->box.init, &job->init, NULL);
	if (k->mode != KEEPER_ADOPT)
		job->started_ns = cpx_clock_ns(CLOCK_REALTIME);
	return 0;
}

int keeper_running(struct keeper *k, struct cpx_err *err)
{
	return cpx_registry_change(k->reg, k->name, put_running, k, &k->job, err);
}

struct ending {
	struct keeper *k;
	enum cpx_job_state state;
	const char *reason;
};

static int put_end(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	struct ending *e = ctx;

	if (mine(e->k, job, err) < 0)
		return CPX_E_CONFLICT;
	job->state = e->state;
	job->has_status = e->k->ended && e->k->status >= 0 && e->state != CPX_JOB_STOPPED;
	job->status = job->has_status ? e->k->status : 0;
	snprintf(job->reason, sizeof(job->reason), "%s", e->reason);
	job->lease = 0; /* nobody's */
	job->placing.halt = false;
	job->placing.place[0] = job->placing.want[0] = 0;
	memset(&job->keeper, 0, sizeof(job->keeper));
	memset(&job->init, 0, sizeof(job->init));
	memset(&job->root, 0, sizeof(job->root));
	return 0;
}

static void store_end(struct keeper *k, enum cpx_job_state state, const char *reason)
{
	struct ending e = { .k = k, .state = state, .reason = reason };
	struct cpx_err err = { 0 };

	int r;

	/* it ended before its deadline; that nobody took it since, the epoch says */
	cpx_registry_fence(k->reg, "", 0);
	do {
		r = cpx_registry_change(k->reg, k->name, put_end, &e, &k->job, &err);
		if (r < 0)
			cpx_log_error("%s: %s", k->name, err.msg);
		/* an end that nobody knows would be done again: told until it is heard */
	} while (k->own_epoch && (r == CPX_E_IO || r == CPX_E_TIMEOUT) && !sleep(1));
}

void keeper_failed(struct keeper *k, const struct cpx_err *why)
{
	cpx_cgroup_kill(k->cgroup, KILL_TIMEOUT_MS, NULL);
	if (k->mode == KEEPER_PLACE)
		return; /* the core tries elsewhere */
	store_end(k, CPX_JOB_FAILED, why->msg);
}

/* Pids below @root, @root first. Return: their number. */
static size_t tree(pid_t root, pid_t *out, size_t max)
{
	size_t n = 1;

	out[0] = root;
	for (size_t i = 0; i < n; i++) {
		char path[64];
		CPX_AUTO_FREE char *s = NULL;

		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", out[i], out[i]);
		if (cpx_read_file(AT_FDCWD, path, 1 << 20, &s, NULL) < 0)
			continue;
		for (char *p = s, *end; n < max; p = end) {
			pid_t pid = (pid_t)strtol(p, &end, 10);

			if (end == p)
				break;
			out[n++] = pid;
		}
	}
	return n;
}

static pthread_mutex_t hands = PTHREAD_MUTEX_INITIALIZER;

void keeper_lock(void)
{
	pthread_mutex_lock(&hands);
}

void keeper_unlock(void)
{
	pthread_mutex_unlock(&hands);
}

void keeper_kill_all(struct keeper *k)
{
	struct cpx_err err = { 0 };
	pid_t pids[TREE_MAX];

	keeper_lock();
	if (k->boxed) {
		cpx_box_kill(&k->box);
	} else if (k->root_pidfd >= 0 && !k->ended) {
		/* the root is held by its pidfd; its children are listed while it is stopped */
		size_t n;

		syscall(SYS_pidfd_send_signal, k->root_pidfd, SIGSTOP, NULL, 0);
		n = tree(k->root, pids, TREE_MAX);
		syscall(SYS_pidfd_send_signal, k->root_pidfd, SIGKILL, NULL, 0);
		for (size_t i = 1; i < n; i++)
			kill(pids[i], SIGKILL);
	}
	if (cpx_cgroup_kill(k->cgroup, KILL_TIMEOUT_MS, &err) < 0)
		cpx_log_error("%s: %s", k->name, err.msg);
	keeper_unlock();
}

/* A zombie's wait status is in its stat file. Return: -1 when it is none any more. */
static int zombie_status(pid_t pid)
{
	CPX_AUTO_FREE char *s = NULL;
	char path[32], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (cpx_read_file(AT_FDCWD, path, 4096, &s, NULL) < 0)
		return -1;
	p = strrchr(s, ')');
	if (!p || p[1] != ' ' || p[2] != 'Z')
		return -1;
	p = strrchr(s, ' '); /* the last field */
	return p ? (int)strtol(p, NULL, 10) & 0xffff : -1;
}

/* The status of a process that was reaped by another, from its pidfd (newer kernels). Or -1. */
static int reaped_status(int pidfd)
{
	struct {
		uint64_t mask, cgroupid;
		uint32_t ids[11];
		int32_t exit_code;
	} info = { .mask = PIDFD_EXIT_KNOWN };

	if (ioctl(pidfd, _IOWR(0xff, 11, info), &info) || !(info.mask & PIDFD_EXIT_KNOWN))
		return -1;
	return info.exit_code & 0xffff;
}

/* What the launcher left when nobody listened. Return: wait status or -1. */
static int exit_file(void)
{
	CPX_AUTO_FREE char *s = NULL;

	if (cpx_read_file(AT_FDCWD, "exit", 64, &s, NULL) <= 0)
		return -1;
	return (int)strtol(s, NULL, 10);
}

bool keeper_look(struct keeper *k)
{
	struct pollfd p = { .fd = k->root_pidfd, .events = POLLIN };
	int status = -1;

	if (k->ended)
		return true;
	if (k->boxed) {
		int r = cpx_box_read(&k->box, NULL);

		if (r == 0)
			return false;
		/* the launcher gone without a word: all in the box are killed with it */
		status = r == 1 ? k->box.status : exit_file();
		if (status < 0)
			status = SIGKILL;
	} else if (k->parent) {
		if (waitpid(k->root, &status, WNOHANG) != k->root)
			return false;
	} else {
		if (poll(&p, 1, 0) != 1)
			return false;
		status = zombie_status(k->root);
		if (status < 0)
			status = reaped_status(k->root_pidfd);
	}
	k->ended = true;
	k->status = status;
	return true;
}

void keeper_finish(struct keeper *k, bool by_checkpoint)
{
	bool killed =
		k->status >= 0 && WIFSIGNALED(k->status) && WTERMSIG(k->status) == SIGKILL;

	/* the record last: from then on another keeper may begin here */
	keeper_kill_all(k);
	unlink("inner");
	if (k->fenced_dead && !by_checkpoint)
		exit(0); /* the core starts it again from its head */
	if (by_checkpoint)
		store_end(k, CPX_JOB_STOPPED, "");
	else if (killed && !k->ordered_kill)
		store_end(k, CPX_JOB_FAILED, "killed by SIGKILL");
	else
		store_end(k, CPX_JOB_DONE, k->status < 0 ? "its status is not known" : "");
	keeper_tell(k, json_pack("{s:s}", "op", "ended"));
}

void keeper_note(struct keeper *k, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cpx_log_note("%s: %s", k->name, text);
	if (!k->notes)
		k->notes = json_array();
	json_array_append_new(k->notes, cpx_proto_bytes(text));
}

int keeper_open_store(const struct keeper *k, struct cpx_store **out, struct cpx_err *err)
{
	struct cpx_store_opts so = {
		.create = true,
		.uid = k->job.uid,
		.gid = k->job.gid,
		.code_cache = k->code_cache,
	};
	char *path;
	int r;

	if (asprintf(&path, "%s/store/%u", k->dir, k->job.uid) < 0)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	r = cpx_store_open(path, &so, out, err);
	free(path);
	return r;
}
