/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * park.c - see park.h.
 *
 * Happy path: seize and interrupt what is known; wait until all of it is stopped; read
 * children lists deepest first; if they show anybody new, once more.
 *
 * A thread waiting for its vfork child cannot stop before the child execs or exits: such
 * children are let go for a moment and caught again. Any stop other than EVENT_STOP
 * eats a pending INTERRUPT, so it is repeated before the thread is resumed.
 */
#include "park.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"

#define TASKS_MAX 100000
#define PROC_TEXT_MAX (16u << 20)
#define SPIN_ROUNDS 200
#define NAP_NS 50000
#define VFORK_AFTER_NS 3000000 /* unstopped for so long: perhaps a vfork */
#define VFORK_GRACE_NS 2000000
#define RELEASE_NAPS 300 /* of 1 ms */

static long trace(int req, pid_t tid, uintptr_t addr, uintptr_t data)
{
	int sys = cpx_fault("ptrace");

	if (sys) {
		errno = sys;
		return -1;
	}
	return ptrace(req, tid, (void *)addr, (void *)data);
}

/* --- the known set ------------------------------------------------------------------------ */

static struct cpx_park_task *find_task(struct cpx_park *p, pid_t pid)
{
	for (size_t i = 0; i < p->ntasks; i++)
		if (p->tasks[i].pid == pid && !p->tasks[i].gone)
			return &p->tasks[i];
	return NULL;
}

static struct cpx_park_thread *find_thread(struct cpx_park_task *t, pid_t tid)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->threads[i].tid == tid && !t->threads[i].gone)
			return &t->threads[i];
	return NULL;
}

static int add_task(struct cpx_park *p, pid_t pid, pid_t ppid, unsigned depth,
		    struct cpx_err *err)
{
	if (p->ntasks >= TASKS_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "more than %d processes", TASKS_MAX);
	if (p->ntasks == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 16;
		void *n = realloc(p->tasks, cap * sizeof(*p->tasks));

		if (!n)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for the process list");
		p->tasks = n;
		p->cap = cap;
	}
	p->tasks[p->ntasks++] =
		(struct cpx_park_task){ .pid = pid, .ppid = ppid, .depth = depth };
	return 0;
}

static struct cpx_park_thread *add_thread(struct cpx_park_task *t, pid_t tid)
{
	if (t->nthreads == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 4;
		void *n = realloc(t->threads, cap * sizeof(*t->threads));

		if (!n)
			return NULL;
		t->threads = n;
		t->cap = cap;
	}
	t->threads[t->nthreads] = (struct cpx_park_thread){ .tid = tid };
	return &t->threads[t->nthreads++];
}

/* --- /proc -------------------------------------------------------------------------------- */

/* State letter of a process or thread, 0 if it is gone. */
static char state_of(pid_t pid, pid_t tid)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	if (cpx_read_file(AT_FDCWD, path, 65536, &text, NULL) < 0)
		return 0;
	p = strrchr(text, ')');
	return p && p[1] == ' ' ? p[2] : 0;
}

/* A number of /proc/PID/task/TID/status; -1 where it cannot be read. */
static long status_number(pid_t pid, pid_t tid, const char *key)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	if (cpx_read_file(AT_FDCWD, path, 65536, &text, NULL) < 0)
		return -1;
	p = strstr(text, key);
	return p ? strtol(p + strlen(key), NULL, 10) : -1;
}

static bool has_filter(pid_t pid)
{
	return status_number(pid, pid, "\nSeccomp:") == 2;
}

static pid_t tracer_of(pid_t pid, pid_t tid)
{
	return (pid_t)status_number(pid, tid, "\nTracerPid:");
}

/* Why the kernel has refused to attach to a thread with EPERM. */
static int say_untraceable(pid_t pid, pid_t tid, struct cpx_err *err)
{
	pid_t tracer = tracer_of(pid, tid);

	if (pid == getpid())
		return cpx_err_set(err, CPX_E_INVAL,
				   "process %d is the one that makes the checkpoint; start it "
				   "from outside the processes that are to be saved",
				   pid);
	if (tracer > 0)
		return cpx_err_set(
			err, CPX_E_PERM,
			"process %d cannot be stopped: it is being traced by process "
			"%d (strace, gdb?); end that first",
			pid, tracer);
	/* a kernel thread has no memory, and neither has a zombie, which does not come here */
	if (status_number(pid, tid, "\nVmSize:") < 0)
		return cpx_err_set(err, CPX_E_INVAL, "process %d is a thread of the kernel",
				   pid);
	return cpx_err_set(err, CPX_E_PERM,
			   "process %d cannot be stopped: it is not yours, or has rights that "
			   "you have not",
			   pid);
}

/* --- seizing ------------------------------------------------------------------------------ */

/* Return: 1 seized, 0 it is gone or a zombie, or an error. */
static int seize(struct cpx_park_task *t, pid_t tid, struct cpx_err *err)
{
	uintptr_t opts = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
			 PTRACE_O_TRACESYSGOOD;
	char state;
	int sys;

	if (t->suspend_seccomp)
		opts |= PTRACE_O_SUSPEND_SECCOMP;
	if (trace(PTRACE_SEIZE, tid, 0, opts) == 0) {
		if (trace(PTRACE_INTERRUPT, tid, 0, 0) < 0 && errno != ESRCH)
			return cpx_err_sys(err, errno, "interrupt thread %d", tid);
		return 1;
	}
	sys = errno;
	state = state_of(t->pid, tid);
	if (sys == ESRCH || state == 0 || state == 'Z' || state == 'X')
		return 0;
	/* made meanwhile by a thread that we have: the kernel attached it, and its stop will
	 * come */
	if (sys == EPERM && tracer_of(t->pid, tid) == getpid())
		return 1;
	if (sys == EPERM)
		return say_untraceable(t->pid, tid, err);
	return cpx_err_sys(err, sys, "stop thread %d", tid);
}

/* Seize the threads of @t that are not known yet. Return: how many, or an error. */
static int seize_threads(struct cpx_park_task *t, struct cpx_err *err)
{
	char path[64];
	struct dirent *d;
	int fresh = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", t->pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		pid_t tid = (pid_t)atoi(d->d_name);
		struct cpx_park_thread *th;
		int rc;

		if (tid <= 0 || find_thread(t, tid))
			continue;
		rc = seize(t, tid, err);
		if (rc < 0) {
			closedir(dir);
			return rc;
		}
		if (rc == 0)
			continue;
		th = add_thread(t, tid);
		if (!th) {
			closedir(dir);
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for the thread list");
		}
		fresh++;
	}
	if (dir)
		closedir(dir);
	return fresh;
}

static int seize_task(struct cpx_park *p, size_t i, struct cpx_err *err)
{
	struct cpx_park_task *t = &p->tasks[i];
	int rc;

	t->suspend_seccomp = has_filter(t->pid);
	rc = seize_threads(t, err);
	if (rc == 0 && t->nthreads == 0) {
		char state = state_of(t->pid, t->pid);

		t->zombie = state == 'Z';
		t->gone = !t->zombie;
	}
	return rc < 0 ? rc : 0;
}

/* Add the children of all threads of task @i that are not known. Return: how many. */
static int scan_children(struct cpx_park *p, size_t i, struct cpx_err *err)
{
	pid_t pid = p->tasks[i].pid;
	char path[64];
	struct dirent *d;
	int fresh = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		CPX_AUTO_FREE char *text = NULL;
		char file[96], *save = NULL;

		if (d->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "/proc/%d/task/%.16s/children", pid, d->d_name);
		if (cpx_read_file(AT_FDCWD, file, PROC_TEXT_MAX, &text, NULL) < 0)
			continue;
		for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
			pid_t child = (pid_t)atoi(w);
			int rc;

			if (child <= 0 || find_task(p, child))
				continue;
			rc = add_task(p, child, pid, p->tasks[i].depth + 1, err);
			if (rc < 0) {
				closedir(dir);
				return rc;
			}
			fresh++;
		}
	}
	if (dir)
		closedir(dir);
	return fresh;
}

/* --- waiting ------------------------------------------------------------------------------ */

/* A new task that the kernel attached for us; its parent is known. */
static int note_child(struct cpx_park *p, struct cpx_park_task *parent, pid_t tid, bool thread,
		      struct cpx_err *err)
{
	struct cpx_park_task *t = parent;

	if (!thread && !find_task(p, tid)) {
		int rc = add_task(p, tid, parent->pid, parent->depth + 1, err);

		if (rc < 0)
			return rc;
		t = &p->tasks[p->ntasks - 1];
	} else if (!thread) {
		t = find_task(p, tid);
	}
	if (find_thread(t, tid) || add_thread(t, tid))
		return 0;
	return cpx_err_set(err, CPX_E_NOMEM, "no memory for the thread list");
}

static bool same_group(pid_t pid, pid_t tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d", pid, tid);
	return access(path, F_OK) == 0;
}

/* One wait status of thread @k of task @i. */
static int handle(struct cpx_park *p, size_t i, size_t k, int status, struct cpx_err *err)
{
	struct cpx_park_task *t = &p->tasks[i];
	struct cpx_park_thread *th = &t->threads[k];
	int event = status >> 16, sig = WSTOPSIG(status);
	pid_t tid = th->tid;
	unsigned long msg = 0;
	int rc = 0;

	if (!WIFSTOPPED(status)) {
		th->gone = true;
		return 0;
	}
	if (event == PTRACE_EVENT_STOP) {
		th->stopped = true;
		th->group_stop = sig == SIGTRAP ? 0 : sig;
		return 0;
	}
	if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK ||
	    event == PTRACE_EVENT_CLONE) {
		if (trace(PTRACE_GETEVENTMSG, tid, 0, (uintptr_t)&msg) == 0 && msg)
			rc = note_child(p, t, (pid_t)msg, same_group(t->pid, (pid_t)msg), err);
		sig = 0;
	} else if (event || sig == (SIGTRAP | 0x80)) {
		sig = 0;
	}
	if (rc < 0)
		return rc;
	if (trace(PTRACE_INTERRUPT, tid, 0, 0) < 0 && errno != ESRCH)
		return cpx_err_sys(err, errno, "interrupt thread %d", tid);
	if (trace(PTRACE_CONT, tid, 0, (uintptr_t)sig) < 0 && errno != ESRCH)
		return cpx_err_sys(err, errno, "resume thread %d", tid);
	return 0;
}

/* Take what has happened so far. Return: threads that are not stopped yet, or an error. */
static int poll_all(struct cpx_park *p, struct cpx_err *err)
{
	int waiting = 0;

	for (size_t i = 0; i < p->ntasks; i++) {
		for (size_t k = 0; k < p->tasks[i].nthreads; k++) {
			struct cpx_park_thread *th = &p->tasks[i].threads[k];
			int status, rc;
			pid_t got;

			if (th->stopped || th->gone)
				continue;
			got = waitpid(th->tid, &status, __WALL | WNOHANG);
			if (got < 0 && errno == ECHILD)
				th->gone = true;
			if (got > 0) {
				rc = handle(p, i, k, status, err);
				if (rc < 0)
					return rc;
			}
			th = &p->tasks[i].threads[k];
			waiting += !th->stopped && !th->gone;
		}
	}
	return waiting;
}

static bool parent_waits(struct cpx_park *p, const struct cpx_park_task *t)
{
	struct cpx_park_task *parent = find_task(p, t->ppid);

	for (size_t k = 0; parent && k < parent->nthreads; k++)
		if (!parent->threads[k].stopped && !parent->threads[k].gone)
			return true;
	return false;
}

/* Let the children of tasks that cannot stop run for a moment: one may be their vfork child. */
static void let_vfork_go_on(struct cpx_park *p)
{
	struct timespec nap = { .tv_nsec = VFORK_GRACE_NS };
	bool any = false;

	for (size_t i = 0; i < p->ntasks; i++) {
		if (!parent_waits(p, &p->tasks[i]))
			continue;
		for (size_t k = 0; k < p->tasks[i].nthreads; k++) {
			struct cpx_park_thread *th = &p->tasks[i].threads[k];

			if (th->stopped && !th->group_stop &&
			    trace(PTRACE_CONT, th->tid, 0, 0) == 0) {
				th->stopped = false;
				any = true;
			}
		}
	}
	nanosleep(&nap, NULL);
	for (size_t i = 0; any && i < p->ntasks; i++)
		for (size_t k = 0; k < p->tasks[i].nthreads; k++)
			if (!p->tasks[i].threads[k].stopped && !p->tasks[i].threads[k].gone)
				trace(PTRACE_INTERRUPT, p->tasks[i].threads[k].tid, 0, 0);
}

static int wait_all(struct cpx_park *p, int64_t deadline, struct cpx_err *err)
{
	struct timespec nap = { .tv_nsec = NAP_NS };
	int64_t start = cpx_mono_ns(), now, last_vfork = start;

	for (unsigned round = 0;; round++) {
		int waiting = poll_all(p, err);

		if (waiting <= 0)
			return waiting;
		now = cpx_mono_ns();
		if (now > deadline)
			return cpx_err_set(err, CPX_E_TIMEOUT,
					   "%d threads cannot be stopped (a vfork or a wait "
					   "for a device that "
					   "does not end); try again later",
					   waiting);
		if (now - start > VFORK_AFTER_NS && now - last_vfork > VFORK_AFTER_NS) {
			let_vfork_go_on(p);
			last_vfork = cpx_mono_ns();
		}
		if (round < SPIN_ROUNDS)
			sched_yield();
		else
			nanosleep(&nap, NULL);
	}
}

/* --- the loop ----------------------------------------------------------------------------- */

static int by_depth_down(const void *a, const void *b)
{
	const struct cpx_park_task *const *x = a, *const *y = b;

	return (x[0]->depth < y[0]->depth) - (x[0]->depth > y[0]->depth);
}

/* All children lists and thread lists, deepest task first. Return: how many are new. */
static int look_again(struct cpx_park *p, bool touch, struct cpx_err *err)
{
	size_t n = p->ntasks;
	CPX_AUTO_FREE struct cpx_park_task **order = calloc(n, sizeof(struct cpx_park_task *));
	CPX_AUTO_FREE size_t *index = calloc(n, sizeof(size_t));
	int fresh = 0;

	if (!order || !index)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the process list");
	for (size_t i = 0; i < n; i++)
		order[i] = &p->tasks[i];
	qsort(order, n, sizeof(order[0]), by_depth_down);
	for (size_t i = 0; i < n; i++)
		index[i] = (size_t)(order[i] - p->tasks);
	for (size_t i = 0; i < n; i++) {
		int rc;

		if (p->tasks[index[i]].zombie || p->tasks[index[i]].gone)
			continue;
		if (touch) {
			rc = seize_threads(&p->tasks[index[i]], err);
			if (rc < 0)
				return rc;
			fresh += rc;
		}
		rc = scan_children(p, index[i], err);
		if (rc < 0)
			return rc;
		fresh += rc;
	}
	for (size_t i = n; touch && i < p->ntasks; i++) {
		int rc = seize_task(p, i, err);

		if (rc < 0)
			return rc;
	}
	return fresh;
}

static pid_t parent_now(pid_t pid)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (cpx_read_file(AT_FDCWD, path, 65536, &text, NULL) < 0)
		return 0;
	p = strrchr(text, ')');
	return p && strlen(p) > 4 ? (pid_t)atoi(p + 4) : 0;
}

/* Drop what is gone, the leader first among threads, parents before children. */
static void tidy(struct cpx_park *p)
{
	size_t n = 0, done = 0;
	struct cpx_park_task tmp;

	for (size_t i = 0; i < p->ntasks; i++) {
		struct cpx_park_task *t = &p->tasks[i];
		size_t m = 0;

		for (size_t k = 0; k < t->nthreads; k++)
			if (!t->threads[k].gone)
				t->threads[m++] = t->threads[k];
		t->nthreads = m;
		for (size_t k = 1; k < m; k++) {
			if (t->threads[k].tid == t->pid) {
				struct cpx_park_thread th = t->threads[k];

				t->threads[k] = t->threads[0];
				t->threads[0] = th;
			}
		}
		if (!m && !t->zombie)
			t->zombie = state_of(t->pid, t->pid) == 'Z';
		if (!m && !t->zombie) {
			free(t->threads);
			continue;
		}
		t->ppid = i ? parent_now(t->pid) : t->ppid;
		p->tasks[n++] = *t;
	}
	p->ntasks = n;
	/* parents first: repeatedly take a task whose parent has been placed */
	for (done = n ? 1 : 0; done < n; done++) {
		size_t pick = done;

		for (size_t i = done; i < n; i++) {
			size_t j = 0;

			while (j < done && p->tasks[j].pid != p->tasks[i].ppid)
				j++;
			if (j < done) {
				pick = i;
				break;
			}
		}
		tmp = p->tasks[done];
		p->tasks[done] = p->tasks[pick];
		p->tasks[pick] = tmp;
	}
}

int cpx_park(pid_t root, int64_t timeout_ns, struct cpx_park *park, struct cpx_err *err)
{
	int64_t deadline = cpx_mono_ns() + timeout_ns;
	int rc;

	memset(park, 0, sizeof(*park));
	rc = add_task(park, root, 0, 0, err);
	if (rc < 0)
		return rc;
	park->first_stop_ns = cpx_mono_ns();
	rc = seize_task(park, 0, err);
	while (rc >= 0) {
		rc = wait_all(park, deadline, err);
		if (rc < 0)
			break;
		rc = look_again(park, true, err);
		if (rc == 0)
			break;
		if (rc > 0 && cpx_mono_ns() > deadline)
			rc = cpx_err_set(err, CPX_E_TIMEOUT,
					 "the tree grows faster than it can be stopped");
	}
	if (rc >= 0) {
		tidy(park);
		if (park->ntasks && park->tasks[0].pid == root && !park->tasks[0].zombie)
			return 0;
		rc = cpx_err_set(err, CPX_E_NOENT, "process %d does not exist or has ended",
				 root);
	}
	cpx_park_release(park, false);
	cpx_park_free(park);
	return rc;
}

int cpx_park_list(pid_t root, struct cpx_park *park, struct cpx_err *err)
{
	int rc;

	memset(park, 0, sizeof(*park));
	rc = add_task(park, root, 0, 0, err);
	for (int pass = 0; rc >= 0 && pass < 16; pass++) {
		rc = look_again(park, false, err);
		if (rc == 0)
			break;
	}
	for (size_t i = 0; rc >= 0 && i < park->ntasks; i++) {
		struct cpx_park_task *t = &park->tasks[i];
		char path[64];
		struct dirent *d;
		DIR *dir;

		snprintf(path, sizeof(path), "/proc/%d/task", t->pid);
		dir = opendir(path);
		while (dir && (d = readdir(dir))) {
			pid_t tid = (pid_t)atoi(d->d_name);

			/* of a process whose main thread has ended the others count */
			if (tid > 0 && state_of(t->pid, tid) != 'Z')
				add_thread(t, tid);
		}
		t->zombie = !t->nthreads && state_of(t->pid, t->pid) == 'Z';
		if (dir)
			closedir(dir);
	}
	if (rc < 0) {
		cpx_park_free(park);
		return rc;
	}
	tidy(park);
	if (park->ntasks && park->tasks[0].pid == root && !park->tasks[0].zombie)
		return 0;
	cpx_park_free(park);
	return cpx_err_set(err, CPX_E_NOENT, "process %d does not exist or has ended", root);
}

/* Who waits for a vfork child cannot be caught: the kernel lets go of it when we end. */
static bool wait_a_little(pid_t tid, int *status)
{
	const struct timespec nap = { .tv_nsec = 1000000 };

	for (int i = 0; i < RELEASE_NAPS; i++) {
		pid_t got = waitpid(tid, status, __WALL | WNOHANG);

		if (got)
			return got == tid;
		nanosleep(&nap, NULL);
	}
	return false;
}

void cpx_park_release(struct cpx_park *p, bool stop)
{
	/* children first: a parent that runs would see them stopped */
	for (size_t i = p->ntasks; i-- > 0;) {
		struct cpx_park_task *t = &p->tasks[i];

		if (stop && !t->zombie && !t->gone)
			kill(t->pid, SIGSTOP);
		for (size_t k = 0; k < t->nthreads; k++) {
			pid_t tid = t->threads[k].tid;
			int status;

			if (t->threads[k].gone)
				continue;
			if (trace(PTRACE_DETACH, tid, 0, 0) == 0 || errno != ESRCH)
				continue;
			/* not in a stop (we failed half-way): catch it first */
			trace(PTRACE_INTERRUPT, tid, 0, 0);
			if (wait_a_little(tid, &status) && WIFSTOPPED(status)) {
				int sig = status >> 16 ? 0 : WSTOPSIG(status);

				trace(PTRACE_DETACH, tid, 0,
				      (uintptr_t)(sig == (SIGTRAP | 0x80) ? 0 : sig));
			}
		}
	}
}

void cpx_park_kill(struct cpx_park *p)
{
	for (size_t i = 0; i < p->ntasks; i++)
		if (!p->tasks[i].zombie)
			kill(p->tasks[i].pid, SIGKILL);
	for (size_t i = 0; i < p->ntasks; i++) {
		struct cpx_park_task *t = &p->tasks[i];
		int status;

		/* the other threads first: a leader is reported after them */
		for (size_t k = t->nthreads; k-- > 0;)
			while (waitpid(t->threads[k].tid, &status, __WALL) >= 0 &&
			       WIFSTOPPED(status))
				;
	}
}

void cpx_park_free(struct cpx_park *p)
{
	for (size_t i = 0; i < p->ntasks; i++)
		free(p->tasks[i].threads);
	free(p->tasks);
	memset(p, 0, sizeof(*p));
}
