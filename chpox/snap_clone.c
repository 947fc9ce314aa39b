/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snap_clone.c - a copy-on-write clone of a parked address space that is never a second job.
 *
 * Happy path, for a process T: in T clone a helper H that shares T's memory (exit signal 0, so
 * no plain wait sees it); H leaves session and group and empties a descriptor table of its
 * own; in H fork the snapshot G; kill H and reap it in T. G now belongs to the reaper, holds no
 * descriptor, never ran an instruction, and dies with us (EXITKILL). Its branch of
 * the code leads to exit. Dropping: SIGKILL, and its reaper reaps.
 *
 * T notices nothing but RUSAGE_CHILDREN (its own peak memory, the fork's time).
 *
 * Failure modes: where G would become a child of the job (PID 1 of a namespace, subreapers),
 * where its reaper does not reap, where no process or too little memory is to be had, there
 * is no clone: what was made is undone and the caller stops and copies instead.
 */
#include "snap_clone.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "cap_mem.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif

#define UNSHARE_TABLE 2u /* CLOSE_RANGE_UNSHARE */
#define WATCH_FLOOR (64u << 20)
#define LEFT_ZOMBIES 12 /* a reaper whose newest children are all dead does not reap */
#define TEXT_MAX (1u << 20)

/* --- head-room ---------------------------------------------------------------------------- */

/* The number after @key in @text, or @missing. */
static uint64_t number_after(const char *text, const char *key, uint64_t missing)
{
	const char *p = text ? strstr(text, key) : NULL;

	return p ? strtoull(p + strlen(key), NULL, 10) : missing;
}

static uint64_t file_number(const char *dir, const char *name)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[4200];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0 || *text < '0' || *text > '9')
		return UINT64_MAX;
	return strtoull(text, NULL, 10);
}

/* What one memory cgroup can still give; page cache that is not in use counts. */
static uint64_t cgroup_room(const char *dir, bool v2)
{
	uint64_t limit = file_number(dir, v2 ? "memory.max" : "memory.limit_in_bytes"), used;
	CPX_AUTO_FREE char *stat = NULL;
	char path[4200];

	if (limit >= UINT64_MAX / 4)
		return UINT64_MAX;
	used = file_number(dir, v2 ? "memory.current" : "memory.usage_in_bytes");
	if (used == UINT64_MAX)
		return UINT64_MAX;
	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	if (cpx_read_file(AT_FDCWD, path, TEXT_MAX, &stat, NULL) >= 0) {
		uint64_t cache = number_after(
			stat, v2 ? "\ninactive_file " : "\ntotal_inactive_file ", 0);

		used = used > cache ? used - cache : 0;
	}
	return limit > used ? limit - used : 0;
}

/* The tightest of a cgroup and those above it. */
static uint64_t cgroups_room(const char *mount, const char *rel, bool v2)
{
	uint64_t room = UINT64_MAX, one;
	size_t root = strlen(mount);
	char dir[4096], *slash;

	if (snprintf(dir, sizeof(dir), "%s%s", mount, rel) >= (int)sizeof(dir))
		return room;
	for (;;) {
		one = cgroup_room(dir, v2);
		if (one < room)
			room = one;
		slash = strrchr(dir, '/');
		if (!slash || (size_t)(slash - dir) < root)
			return room;
		*slash = 0;
	}
}

uint64_t cpx_mem_head_room(pid_t pid)
{
	CPX_AUTO_FREE char *info = NULL, *groups = NULL;
	uint64_t room = UINT64_MAX, one = UINT64_MAX;
	char path[64], *save = NULL;

	if (cpx_read_file(AT_FDCWD, "/proc/meminfo", 65536, &info, NULL) >= 0)
		room = number_after(info, "MemAvailable:", UINT64_MAX / 1024) * 1024;
	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (cpx_read_file(AT_FDCWD, path, 65536, &groups, NULL) < 0)
		return room;
	for (char *l = strtok_r(groups, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *rel = strchr(l, ':');

		if (!strncmp(l, "0::", 3)) {
			one = cgroups_room("/sys/fs/cgroup", l + 3, true);
			if (one == UINT64_MAX)
				one = cgroups_room("/sys/fs/cgroup/unified", l + 3, true);
		} else if (rel && !strncmp(rel, ":memory:", 8)) {
			one = cgroups_room("/sys/fs/cgroup/memory", rel + 8, false);
		}
		if (one < room)
			room = one;
	}
	return room;
}

uint64_t cpx_mem_private_bytes(pid_t pid)
{
	CPX_AUTO_FREE char *text = NULL;
	uint64_t total, resident = 0, shared = 0;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0 ||
	    sscanf(text, "%lu %lu %lu", &total, &resident, &shared) != 3 || resident <= shared)
		return 0;
	return (resident - shared) * CPX_PAGE;
}

static uint64_t job_size(const struct cpx_mem *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m->nmms; i++)
		sum += cpx_mem_private_bytes(m->mms[i]->t->live);
	return sum;
}

/* --- who would reap ----------------------------------------------------------------------- */

/* State and parent of a process from /proc/PID/stat; 0 where it is gone. */
static char stat_of(pid_t pid, pid_t *parent)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (cpx_read_file(AT_FDCWD, path, 65536, &text, NULL) < 0)
		return 0;
	p = strrchr(text, ')');
	if (!p || !p[1] || !p[2])
		return 0;
	if (parent)
		*parent = (pid_t)strtol(p + 3, NULL, 10);
	return p[2];
}

/* A reaper that let many zombies lie would let ours lie too. Some only look now and then. */
static bool reaps(pid_t reaper)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *p;

	if (reaper <= 0)
		return true;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", reaper, reaper);
	if (cpx_read_file(AT_FDCWD, path, TEXT_MAX, &text, NULL) < 0)
		return true;
	p = text + strlen(text);
	for (int zombies = 0; zombies < LEFT_ZOMBIES; zombies++) {
		while (p > text && p[-1] == ' ')
			*--p = 0;
		while (p > text && p[-1] != ' ')
			p--;
		if (!*p || stat_of((pid_t)atoi(p), NULL) != 'Z')
			return true;
	}
	return false;
}

static const struct cpx_cap_task *task_of(const struct cpx_cap *c, pid_t pid)
{
	for (size_t i = 0; i < c->ntasks; i++)
		if (c->tasks[i]->pid == pid)
			return c->tasks[i];
	return NULL;
}

/* --- making one --------------------------------------------------------------------------- */

static long trace(int req, pid_t tid, uintptr_t data)
{
	int sys = cpx_fault("ptrace");

	if (sys) {
		errno = sys;
		return -1;
	}
	return ptrace(req, tid, NULL, data);
}

static int die_with_us(pid_t pid, const struct cpx_cap_task *t, struct cpx_err *err)
{
	uintptr_t opts = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
			 PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;

	if (t->threads[0].rec->seccomp)
		opts |= PTRACE_O_SUSPEND_SECCOMP;
	if (trace(PTRACE_SETOPTIONS, pid, opts) < 0)
		return cpx_err_sys(err, errno, "hold the snapshot of process %d", t->pid);
	return 0;
}

static void kill_and_wait(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	for (;;) {
		pid_t got = waitpid(pid, &status, __WALL);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || WIFEXITED(status) || WIFSIGNALED(status))
			return;
		/* it was on its way to another stop */
		ptrace(PTRACE_CONT, pid, NULL, NULL);
	}
}

/* Reap a child of @t that is dead, by its own hand. */
static int reap_in(struct cpx_cap_task *t, pid_t inner, struct cpx_err *err)
{
	int64_t ret;

	for (int i = 0; i < 1000; i++) {
		int rc = cpx_tcall(&t->threads[0].t, &ret, err, SYS_wait4, (uint64_t)inner, 0,
				   __WALL | WNOHANG, 0);

		if (rc < 0 || ret != 0)
			return rc;
		usleep(100);
	}
	return cpx_err_set(err, CPX_E_SYS, "process %d: a helper does not go away", t->pid);
}

/* No clone to be had is no failure: tell so. */
static int give_up(int rc, struct cpx_err *err)
{
	if (err->sys == EAGAIN || err->sys == ENOMEM || err->sys == ENOSYS ||
	    err->sys == EPERM) {
		err->code = err->sys == ENOSYS ? CPX_E_UNSUPPORTED : CPX_E_LIMIT;
		return err->code;
	}
	return rc;
}

/* In H: away from the job's session and descriptors, then the fork. */
static int helper_work(struct cpx_tracee *h, const struct cpx_cap_task *t, pid_t *snap,
		       struct cpx_err *err)
{
	int rc = die_with_us(h->tid, t, err);

	if (rc == 0)
		rc = cpx_tok(h, NULL, err, "leave the session", SYS_setsid, 0);
	if (rc == 0)
		rc = cpx_tok(h, NULL, err, "empty the descriptor table", SYS_close_range, 0,
			     UINT32_MAX, UNSHARE_TABLE);
	if (rc == 0)
		rc = cpx_tracee_fork(h, 0, SIGCHLD, 0, 0, snap, NULL, err);
	return rc;
}

static int fork_snapshot(struct cpx_cap_task *t, pid_t *snap, struct cpx_err *err)
{
	struct cpx_tracee *tr = &t->threads[0].t;
	struct cpx_home home = t->home;
	struct cpx_tracee h = {
		.mem_fd = t->mem_fd, .home = &home, .ours = true, .saved = true
	};
	pid_t helper = 0, inner = 0;
	int rc = cpx_tracee_fork(tr, CLONE_VM | CLONE_FILES | CLONE_FS, 0, 0, 0, &helper,
				 &inner, err),
	    rc2;
	struct cpx_err second = { 0 };

	if (rc < 0)
		return give_up(rc, err);
	/* same memory, so same code; a part of the data area that T's own calls leave alone */
	home.frame = 0;
	home.user = NULL;
	home.data += home.data_size / 2;
	home.data_size = home.data_size / 2 - 128;
	h.pid = h.tid = helper;
	h.regs = tr->regs;
	h.sigmask = tr->sigmask;
	rc = helper_work(&h, t, snap, err);
	if (rc < 0)
		rc = give_up(rc, err);
	kill_and_wait(helper);
	rc2 = reap_in(t, inner, &second);
	if (rc == 0 && rc2 < 0) {
		kill_and_wait(*snap);
		*snap = 0;
		*err = second;
		return rc2;
	}
	return rc;
}

/* A snapshot whose parent is one of the job's processes must go, unseen. */
static int check_parent(struct cpx_cap *c, pid_t *snap, pid_t *reaper, struct cpx_err *err)
{
	pid_t parent = 0;
	char state = stat_of(*snap, &parent);
	const struct cpx_cap_task *of = task_of(c, parent);
	CPX_AUTO_FREE char *text = NULL;
	char path[64];
	pid_t inner;
	const char *p;
	int rc;

	*reaper = parent;
	if (!state)
		return cpx_err_set(err, CPX_E_GONE, "the snapshot of process %d went away",
				   *snap);
	if (!of)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/status", *snap);
	if (cpx_read_file(AT_FDCWD, path, 65536, &text, err) < 0)
		return err->code;
	/* its PID in the innermost namespace is the last one */
	p = strstr(text, "\nNSpid:");
	inner = p ? (pid_t)strtol(p + 7, NULL, 10) : *snap;
	for (p = p ? p + 7 : ""; *p && *p != '\n'; p++)
		if (*p == '\t')
			inner = (pid_t)strtol(p + 1, NULL, 10);
	kill_and_wait(*snap);
	*snap = 0;
	rc = reap_in((struct cpx_cap_task *)of, inner, err);
	if (rc < 0)
		return rc;
	return cpx_err_set(err, CPX_E_UNSUPPORTED,
			   "process %d would be the parent of its own snapshot", parent);
}

/* What we wrote into T to run calls is in G as well; put back what was there. */
static int clean_clone(const struct cpx_cap_task *t, int mem_fd, struct cpx_err *err)
{
	struct cpx_home copy = t->home;
	size_t len = copy.frame + copy.frame_size - copy.data;

	if (!copy.data_was)
		return 0;
	copy.data_was = malloc(len);
	if (!copy.data_was)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a snapshot");
	memcpy(copy.data_was, t->home.data_was, len);
	int rc = cpx_home_erase(mem_fd, &copy, err);

	cpx_home_free(&copy);
	return rc;
}

static int make_one(struct cpx_cap *c, struct cpx_cap_task *t, bool *looked,
		    struct cpx_err *err)
{
	pid_t snap = 0, reaper = 0;
	char path[64];
	int rc = fork_snapshot(t, &snap, err);

	if (rc < 0)
		return rc;
	rc = die_with_us(snap, t, err);
	if (rc == 0)
		rc = check_parent(c, &snap, &reaper, err);
	if (rc == 0 && !*looked && reaper != getpid() && !reaps(reaper))
		rc = cpx_err_set(err, CPX_E_UNSUPPORTED,
				 "process %d does not reap its children", reaper);
	*looked = true;
	if (rc < 0) {
		if (snap)
			kill_and_wait(snap);
		return rc;
	}
	t->clone_pid = snap;
	snprintf(path, sizeof(path), "/proc/%d/mem", snap);
	t->clone_mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (t->clone_mem_fd < 0)
		return cpx_err_sys(err, errno, "open memory of the snapshot of process %d",
				   t->pid);
	return clean_clone(t, t->clone_mem_fd, err);
}

/* What can be known before anything is made. */
static int in_the_way(struct cpx_cap *c, struct cpx_err *err)
{
	uint64_t size = job_size(c->mem), room;

	for (size_t i = 0; i < c->ntasks; i++) {
		const struct cpx_cap_task *t = c->tasks[i];

		if (t->zombie)
			continue;
		if (t->ns_pid == 1 || t->rec->subreaper)
			return cpx_err_set(
				err, CPX_E_UNSUPPORTED,
				"process %d adopts orphans, so a snapshot would be seen",
				t->ns_pid);
	}
	room = cpx_mem_head_room(c->tasks[0]->pid);
	if (room < size)
		return cpx_err_set(err, CPX_E_LIMIT,
				   "%llu MiB free are too little for a snapshot of %llu MiB",
				   (unsigned long long)room >> 20,
				   (unsigned long long)size >> 20);
	c->mem->watch_floor = room / 4 < WATCH_FLOOR ? room / 4 : WATCH_FLOOR;
	return 0;
}

int cpx_snap_take(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_err mine = { 0 };
	bool looked = false;
	int rc = in_the_way(c, &mine);

	for (size_t i = 0; i < c->mem->nmms && rc == 0; i++)
		rc = make_one(c, c->mem->mms[i]->t, &looked, &mine);
	if (rc < 0) {
		cpx_snap_drop(c);
		if (err)
			*err = mine;
	}
	return rc;
}

void cpx_snap_drop(struct cpx_cap *c)
{
	for (size_t i = 0; i < c->ntasks; i++) {
		struct cpx_cap_task *t = c->tasks[i];

		if (!t || !t->clone_pid)
			continue;
		kill_and_wait(t->clone_pid);
		cpx_close(&t->clone_mem_fd);
		t->clone_pid = 0;
	}
}
