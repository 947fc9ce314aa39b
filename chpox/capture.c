/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * capture.c - the flow of a checkpoint; see capture.h for the story.
 *
 * Stages are a table. Each stage's failure unwinds the same way: snapshots are dropped, the
 * tree is released with its own registers, the writer aborted. What stops the job
 * holds nothing but ptrace, so that our death lets it go on.
 */
#include "capture.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "cap_resume.h"
#include "cap_precopy.h"
#include "cap_mem.h"
#include "engine.h"
#include "gentle.h"
#include "pace.h"
#include "park.h"
#include "track.h"

#define PARK_TIMEOUT_NS 10000000000ll
#define STATUS_MAX 65536
#define CAPTURE_VERSION 1

static const struct cpx_cap_family *const families[] = {
	&cpx_cap_core, &cpx_cap_sig, &cpx_cap_mem, &cpx_cap_files, &cpx_cap_ipc,
};
#define NFAMILIES (sizeof(families) / sizeof(families[0]))

/* One run of the flow. */
struct run {
	struct cpx_cap c;
	struct cpx_park park;
	bool parked;
	int64_t stop_ns, release_ns;
	struct cpx_capture_result *res;
	struct cpx_pace no_pace; /* where the caller has none */
	size_t begun;		 /* families begun */
};

/* clang-format off */
static const struct { const char *name; enum cpx_snapshot_way way; } ways[] = {
	{ "auto", CPX_SNAP_AUTO }, { "precopy", CPX_SNAP_PRECOPY },
	{ "clone", CPX_SNAP_CLONE }, { "stop", CPX_SNAP_STOP },
};
/* clang-format on */

int cpx_snapshot_parse(const char *name, enum cpx_snapshot_way *out)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(name, ways[i].name)) {
			*out = ways[i].way;
			return 0;
		}
	return CPX_E_INVAL;
}

const char *cpx_snapshot_name(enum cpx_snapshot_way way)
{
	size_t i = 0;

	while (ways[i].way != way)
		i++;
	return ways[i].name;
}

int cpx_cap_refuse(struct cpx_cap *c, const struct cpx_cap_task *t, struct cpx_err *err,
		   const char *fmt, ...)
{
	char line[400], full[480];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	snprintf(full, sizeof(full), "pid %d (%s): %s", t->ns_pid,
		 t->rec && t->rec->comm ? t->rec->comm : "?", line);
	if (c->dry_run) {
		c->obstacles++;
		if (c->why)
			c->why(c->why_ctx, full);
		return 0;
	}
	return cpx_err_set(err, CPX_E_UNSUPPORTED, "%s", full);
}

/* --- /proc/PID/status, the few fields the flow needs ----------------------------------------
 */

/* The last number of a status line such as "NSpid:\t7\t1". Return: it, or -1. */
static long last_number(const char *text, const char *key, unsigned *count)
{
	const char *p = strstr(text, key), *end;
	long v = -1;

	if (!p)
		return -1;
	p += strlen(key);
	end = strchrnul(p, '\n');
	for (unsigned n = 0; p < end;) {
		char *next;
		long x = strtol(p, &next, 10);

		if (next == p || next > end)
			break;
		v = x;
		p = next;
		if (count)
			*count = ++n;
	}
	return v;
}

static int read_status(pid_t pid, pid_t tid, char **text, struct cpx_err *err)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	n = cpx_read_file(AT_FDCWD, path, STATUS_MAX, text, err);
	return n < 0 ? (int)n : 0;
}

/* Fields of /proc/PID/stat from the third on, as numbers; those that are not are 0. */
static int read_stat(pid_t pid, int64_t *f, size_t n, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (cpx_read_file(AT_FDCWD, path, STATUS_MAX, &text, err) < 0)
		return cpx_err_wrap(err, "process %d", pid);
	p = strrchr(text, ')');
	for (size_t i = 3; p && i < n; i++) {
		p = strchr(p + 1, ' ');
		f[i] = p ? strtoll(p, NULL, 10) : 0;
	}
	return 0;
}

#define STAT_EXIT_SIGNAL 38
#define STAT_EXIT_CODE 52
#define PIDFD_OF_THREAD O_EXCL /* PIDFD_THREAD */

/* --- building the task list -----------------------------------------------------------------
 */

static int open_task(struct cpx_cap_task *t, struct cpx_err *err)
{
	char path[64];

	t->pidfd =
		(int)syscall(SYS_pidfd_open, t->live, t->live == t->pid ? 0 : PIDFD_OF_THREAD);
	if (t->pidfd < 0)
		return cpx_err_sys(err, errno, "open process %d%s", t->pid,
				   t->live == t->pid ? "" : ", whose main thread has ended");
	snprintf(path, sizeof(path), "/proc/%d", t->live);
	t->proc_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (t->proc_fd < 0)
		return cpx_err_sys(err, errno, "open %s", path);
	if (t->zombie)
		return 0;
	t->mem_fd = openat(t->proc_fd, "mem", O_RDWR | O_CLOEXEC);
	if (t->mem_fd < 0)
		return cpx_err_sys(err, errno, "open memory of process %d", t->pid);
	return 0;
}

static struct cpx_cap_task *by_host_pid(struct cpx_cap *c, pid_t pid)
{
	for (size_t i = 0; i < c->ntasks; i++)
		if (c->tasks[i]->pid == pid)
			return c->tasks[i];
	return NULL;
}

static int fill_identity(struct cpx_cap *c, struct cpx_cap_task *t, pid_t ppid,
			 const char *status, struct cpx_err *err)
{
	struct cpx_rec_task *rec = t->rec;
	int64_t f[STAT_EXIT_CODE + 1] = { 0 };
	struct cpx_cap_task *parent = by_host_pid(c, ppid);
	const char *name = strstr(status, "Name:\t");
	long group, session;
	char comm[65] = "";

	if (name)
		sscanf(name + 6, "%64[^\n]", comm);
	t->ns_pid = (pid_t)last_number(status, "\nNSpid:", NULL);
	group = last_number(status, "\nNSpgid:", NULL);
	session = last_number(status, "\nNSsid:", NULL);
	if (t->ns_pid <= 0)
		return cpx_err_set(err, CPX_E_GONE, "process %d went away", t->pid);
	if (read_stat(t->pid, f, STAT_EXIT_CODE + 1, err) < 0)
		return err ? err->code : CPX_E_GONE;
	rec->pid = (uint32_t)t->ns_pid;
	rec->ppid = parent && parent != t ? (uint32_t)parent->ns_pid : 0;
	rec->pgid = group > 0 ? (uint32_t)group : 0;
	rec->sid = session > 0 ? (uint32_t)session : 0;
	rec->exit_signal = (uint32_t)f[STAT_EXIT_SIGNAL];
	rec->state = t->zombie ? CPX_TASK_ZOMBIE : CPX_TASK_RUNNING;
	rec->exit_status = t->zombie ? (uint32_t)f[STAT_EXIT_CODE] : 0;
	rec->comm = cpx_state_str(c->st, comm);
	return rec->comm ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory for the task list");
}

static int add_threads(struct cpx_cap *c, struct cpx_cap_task *t,
		       const struct cpx_park_task *pt, struct cpx_err *err)
{
	t->threads = calloc(pt->nthreads, sizeof(*t->threads));
	if (!t->threads)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the thread list");
	for (size_t k = 0; k < pt->nthreads; k++) {
		struct cpx_cap_thread *th = &t->threads[k];
		CPX_AUTO_FREE char *status = NULL;

		th->rec = cpx_state_new_rec(c->st, thread);
		if (!th->rec)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for the thread list");
		th->t = (struct cpx_tracee){ .pid = t->pid,
					     .tid = pt->threads[k].tid,
					     .mem_fd = t->mem_fd,
					     .home = &t->home };
		t->nthreads = k + 1;
		if (read_status(t->pid, th->t.tid, &status, err) < 0)
			return err ? err->code : CPX_E_GONE;
		th->ns_tid = (pid_t)last_number(status, "\nNSpid:", NULL);
		th->rec->pid = (uint32_t)t->ns_pid;
		th->rec->tid = (uint32_t)th->ns_tid;
		if (pt->threads[k].group_stop) {
			t->rec->state = CPX_TASK_STOPPED;
			t->rec->stop_signal = (uint32_t)pt->threads[k].group_stop;
		}
	}
	return 0;
}

static int add_one(struct cpx_cap *c, const struct cpx_park_task *pt, struct cpx_err *err)
{
	CPX_AUTO_FREE char *status = NULL;
	struct cpx_cap_task *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the task list");
	c->tasks[c->ntasks++] = t;
	*t = (struct cpx_cap_task){ .pid = pt->pid,
				    .live = pt->nthreads ? pt->threads[0].tid : pt->pid,
				    .pidfd = -1,
				    .proc_fd = -1,
				    .mem_fd = -1,
				    .clone_mem_fd = -1,
				    .zombie = pt->zombie };
	t->mm_of = t->files_of = t->fs_of = t->sighand_of = t;
	t->rec = cpx_state_new_rec(c->st, task);
	if (!t->rec)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the task list");
	rc = open_task(t, err);
	if (rc == 0)
		rc = read_status(t->pid, t->pid, &status, err);
	if (rc == 0)
		rc = fill_identity(c, t, pt->ppid, status, err);
	if (rc == 0 && !t->zombie)
		rc = add_threads(c, t, pt, err);
	return rc;
}

static int build_tasks(struct cpx_cap *c, const struct cpx_park *park, struct cpx_err *err)
{
	c->tasks = calloc(park->ntasks, sizeof(struct cpx_cap_task *));
	if (!c->tasks)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the task list");
	for (size_t i = 0; i < park->ntasks; i++) {
		int rc = add_one(c, &park->tasks[i], err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- what is shared between tasks ------------------------------------------------------------
 */

static int kcmp(pid_t a, pid_t b, int type)
{
	return (int)syscall(SYS_kcmp, a, b, type, 0, 0);
}

/*
 * Find the task among @reps (kept in the kernel's order) that shares the object with @t, or
 * insert @t. kcmp orders by address: 0 equal, 1 less, 2 greater.
 */
static struct cpx_cap_task *find_sharer(struct cpx_cap_task **reps, size_t *n,
					struct cpx_cap_task *t, int type)
{
	size_t lo = 0, hi = *n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int order = kcmp(t->live, reps[mid]->live, type);

		if (order == 0)
			return reps[mid];
		if (order == 1)
			hi = mid;
		else
			lo = mid + 1;
	}
	memmove(&reps[lo + 1], &reps[lo], (*n - lo) * sizeof(struct cpx_cap_task *));
	reps[lo] = t;
	(*n)++;
	return t;
}

static int find_shared(struct cpx_cap *c, struct cpx_err *err)
{
	static const int types[] = { KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND };
	CPX_AUTO_FREE struct cpx_cap_task **reps =
		calloc(c->ntasks + 1, sizeof(struct cpx_cap_task *));

	if (!reps)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the task list");
	for (size_t k = 0; k < 4; k++) {
		size_t n = 0;

		for (size_t i = 0; i < c->ntasks; i++) {
			struct cpx_cap_task *t = c->tasks[i], *of;

			if (t->zombie)
				continue;
			of = find_sharer(reps, &n, t, types[k]);
			if (k == 0)
				t->mm_of = of;
			else if (k == 1)
				t->files_of = of;
			else if (k == 2)
				t->fs_of = of;
			else
				t->sighand_of = of;
		}
	}
	for (size_t i = 0; i < c->ntasks; i++) {
		struct cpx_cap_task *t = c->tasks[i];

		/* an id is the PID of the first task that has it */
		t->rec->mm_id = t->mm_of->rec->pid;
		t->rec->files_id = t->files_of->rec->pid;
		t->rec->fs_id = t->fs_of->rec->pid;
		t->rec->sighand_id = t->sighand_of->rec->pid;
	}
	return 0;
}

/* --- host record -----------------------------------------------------------------------------
 */

static struct cpx_blob cpu_words(struct cpx_state *st)
{
	uint32_t w[16] = { 0 };

	__cpuid_count(1, 0, w[0], w[1], w[2], w[3]);
	w[1] = 0; /* the local APIC's number is in there */
	__cpuid_count(7, 0, w[4], w[5], w[6], w[7]);
	__cpuid_count(7, 1, w[8], w[9], w[10], w[11]);
	__cpuid_count(0xd, 1, w[12], w[13], w[14], w[15]);
	return cpx_state_blob(st, w, sizeof(w));
}

static uint64_t xcr0(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

/* The job's own clocks: in a time namespace they are offset from ours. */
static void job_clocks(const struct cpx_cap_task *root, struct cpx_rec_host *h)
{
	CPX_AUTO_FREE char *text = NULL;
	long long s, ns;
	const char *p;

	h->monotonic_ns = cpx_mono_ns();
	h->boottime_ns = cpx_boot_ns();
	if (cpx_read_file(root->proc_fd, "timens_offsets", 4096, &text, NULL) < 0)
		return;
	p = strstr(text, "monotonic");
	if (p && sscanf(p + 9, "%lld %lld", &s, &ns) == 2)
		h->monotonic_ns += s * 1000000000 + ns;
	p = strstr(text, "boottime");
	if (p && sscanf(p + 8, "%lld %lld", &s, &ns) == 2)
		h->boottime_ns += s * 1000000000 + ns;
}

static int host_record(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_rec_host *h = cpx_state_new_rec(c->st, host);
	CPX_AUTO_FREE char *status = NULL, *boot = NULL;
	unsigned levels = 1;
	struct utsname u;

	if (!h)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for records");
	if (read_status(c->tasks[0]->pid, c->tasks[0]->pid, &status, err) < 0)
		return err ? err->code : CPX_E_GONE;
	last_number(status, "\nNSpid:", &levels);
	uname(&u);
	h->version = CAPTURE_VERSION;
	h->page_size = CPX_PAGE;
	h->kernel = cpx_state_str(c->st, u.release);
	h->node = cpx_state_str(c->st, u.nodename);
	h->machine = cpx_state_str(c->st, u.machine);
	if (cpx_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 256, &boot, NULL) > 0) {
		boot[strcspn(boot, "\n")] = 0;
		h->boot_id = cpx_state_str(c->st, boot);
	}
	h->realtime_ns = cpx_clock_ns(CLOCK_REALTIME);
	job_clocks(c->tasks[0], h);
	h->xfeatures = xcr0();
	h->cpu = cpu_words(c->st);
	h->root_pid = (uint32_t)c->tasks[0]->ns_pid;
	h->pidns_level = levels - 1;
	h->owner_uid = c->opts->owner_uid;
	h->owner_gid = c->opts->owner_gid;
	return 0;
}

/* --- stages ----------------------------------------------------------------------------------
 */

static int stage_create(struct run *r, struct cpx_err *err)
{
	const struct cpx_capture_opts *o = r->c.opts;
	struct cpx_image_opts image = o->image;

	if (o->track)
		image.base = cpx_track_base(o->track);
	r->c.incremental = image.base != NULL;
	if (!image.base)
		return cpx_image_create(o->store, &o->id, &image, &r->c.writer, err);
	if (cpx_image_create(o->store, &o->id, &image, &r->c.writer, NULL) == 0)
		return 0;
	/* the base is gone or damaged: a full one, then */
	image.base = NULL;
	r->c.incremental = false;
	return cpx_image_create(o->store, &o->id, &image, &r->c.writer, err);
}

/* While the job still runs: what was written since the base. */
static int stage_precopy(struct run *r, struct cpx_err *err)
{
	const struct cpx_capture_opts *o = r->c.opts;

	if (!r->c.incremental || o->after != CPX_AFTER_RUN ||
	    cpx_track_way(o->track) != CPX_TRACK_WP ||
	    (o->snapshot != CPX_SNAP_AUTO && o->snapshot != CPX_SNAP_PRECOPY) ||
	    /* the module copies in the stop itself */
	    (o->snapshot == CPX_SNAP_AUTO && !r->c.engine->injects))
		return 0;
	return cpx_precopy_run(&r->c, &r->c.precopy, err);
}

static int stage_park(struct run *r, struct cpx_err *err)
{
	int64_t timeout = r->c.opts->park_timeout_ns;
	int rc;

	cpx_cap_resume_before(&r->c);
	rc = cpx_engine_park(&r->c, &r->park, timeout ? timeout : PARK_TIMEOUT_NS, err);
	if (rc < 0)
		return rc;
	r->parked = true;
	cpx_cap_resume_parked(&r->c);
	r->stop_ns = r->c.stop_ns = r->park.first_stop_ns;
	return build_tasks(&r->c, &r->park, err);
}

static int stage_registers(struct run *r, struct cpx_err *err)
{
	struct cpx_cap *c = &r->c;

	for (size_t i = 0; i < c->ntasks; i++) {
		struct cpx_cap_task *t = c->tasks[i];

		for (size_t k = 0; k < t->nthreads; k++) {
			struct cpx_cap_thread *th = &t->threads[k];
			int rc = c->engine->registers(c, th, err);

			if (rc == CPX_E_UNSUPPORTED)
				return cpx_cap_refuse(c, t, err, "%s", "it runs 32-bit code");
			if (rc < 0)
				return rc;
			th->rec->regs = cpx_state_blob(c->st, &th->t.regs, sizeof(th->t.regs));
			th->rec->xstate = cpx_state_blob(c->st, th->t.xstate, th->t.xstate_len);
			th->rec->sigmask = th->t.sigmask;
			if (!th->rec->regs.p || !th->rec->xstate.p)
				return cpx_err_set(err, CPX_E_NOMEM, "no memory for registers");
		}
	}
	return find_shared(c, err);
}

/* Homes are needed by whoever shares no address space with an earlier task. */
static int stage_homes(struct run *r, struct cpx_err *err)
{
	struct cpx_cap *c = &r->c;

	for (size_t i = 0; i < c->ntasks; i++) {
		struct cpx_cap_task *t = c->tasks[i];
		int rc;

		if (t->zombie)
			continue;
		if (t->mm_of != t) {
			for (size_t k = 0; k < t->nthreads; k++)
				t->threads[k].t.home = &t->mm_of->home;
			continue;
		}
		cpx_track_parked(c->opts->track, t->pid);
		rc = c->engine->settle(c, t, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int each_task(struct run *r, size_t f, struct cpx_err *err)
{
	for (size_t i = 0; families[f]->task && i < r->c.ntasks; i++) {
		int rc;

		if (r->c.tasks[i]->zombie)
			continue;
		rc = families[f]->task(&r->c, r->c.family[f], r->c.tasks[i], err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int stage_families(struct run *r, struct cpx_err *err)
{
	int rc = 0;

	/* all begin before the first task: families call each other for shared records */
	for (size_t f = 0; f < NFAMILIES && rc >= 0; f++) {
		if (families[f]->begin)
			rc = families[f]->begin(&r->c, &r->c.family[f], err);
		r->begun = f + 1;
	}
	for (size_t f = 0; f < NFAMILIES && rc >= 0; f++)
		rc = each_task(r, f, err);
	return rc < 0 ? rc : 0;
}

static int stage_finish(struct run *r, struct cpx_err *err)
{
	int rc = host_record(&r->c, err);

	for (size_t f = 0; f < NFAMILIES && rc >= 0; f++)
		if (families[f]->finish)
			rc = families[f]->finish(&r->c, r->c.family[f], err);
	return rc < 0 ? rc : 0;
}

static bool fits(const struct cpx_precopy *p)
{
	return p->left * CPX_PAGE <= CPX_MEM_STASH_MAX;
}

/* Is copying what is left expected to be shorter than a clone? */
static bool copy_is_shorter(struct run *r)
{
	const struct cpx_precopy *p = r->c.precopy;
	int64_t clone = cpx_pace_clone_ns(r->c.pace, p->resident),
		copy = cpx_pace_copy_ns(r->c.pace, p->left, p->read_ns);

	cpx_log_debug("checkpoint: %llu pages left: %.3f ms to copy, %.3f ms to clone",
		      (unsigned long long)p->left, (double)copy / 1e6, (double)clone / 1e6);
	if (!fits(p) || copy >= clone)
		return false;
	r->res->predicted_ns = r->c.pace->rest_ns + copy;
	return true;
}

static int take_clone(struct run *r, struct cpx_err *err)
{
	int64_t start = cpx_mono_ns();
	int rc = r->c.engine->snapshot(&r->c, err);

	if (rc < 0)
		return rc;
	r->c.way = CPX_SNAP_CLONE;
	r->c.snapshot_ns = cpx_mono_ns() - start;
	if (r->c.pace->clone_ns)
		r->res->predicted_ns = r->c.pace->rest_ns + r->c.pace->clone_ns;
	return 0;
}

/* What this one took: for the next. */
static void learn(struct run *r)
{
	const struct cpx_precopy *p = r->c.precopy;

	if (r->c.opts->after != CPX_AFTER_RUN)
		return;
	if (r->c.way == CPX_SNAP_CLONE)
		cpx_pace_cloned(r->c.pace, r->c.snapshot_ns, cpx_mem_resident(&r->c));
	if (r->c.way == CPX_SNAP_PRECOPY)
		cpx_pace_copied(r->c.pace, r->c.snapshot_ns, p->left, p->read_ns);
	if (r->c.way != CPX_SNAP_STOP)
		cpx_pace_paused(r->c.pace, r->release_ns - r->stop_ns, r->c.snapshot_ns);
}

/* The way taken is settled here: the shortest that is wanted and can be had. */
static int stage_snapshot(struct run *r, struct cpx_err *err)
{
	const struct cpx_capture_opts *o = r->c.opts;
	bool run_on = o->after == CPX_AFTER_RUN;
	const struct cpx_precopy *p = r->c.precopy;
	int rc = p && run_on ? cpx_mem_left(&r->c, err) : 0;

	r->c.way = CPX_SNAP_STOP;
	if (rc < 0 || !run_on || o->snapshot == CPX_SNAP_STOP)
		return rc;
	if (p && (copy_is_shorter(r) || o->snapshot == CPX_SNAP_PRECOPY))
		r->c.way = CPX_SNAP_PRECOPY;
	if (p && p->rounds)
		cpx_pace_rounds_paid(r->c.pace, r->c.way == CPX_SNAP_PRECOPY);
	if (r->c.way == CPX_SNAP_PRECOPY)
		return 0;
	rc = take_clone(r, err);
	if ((rc != CPX_E_UNSUPPORTED && rc != CPX_E_LIMIT) || o->snapshot == CPX_SNAP_CLONE)
		return rc;
	if (p && fits(p))
		r->c.way = CPX_SNAP_PRECOPY;
	return 0;
}

/* Give each thread its own registers and put the homes away; the threads are still held. */
static int give_back(struct run *r, struct cpx_err *err)
{
	struct cpx_cap *c = &r->c;
	struct cpx_err first = { 0 };
	int rc = 0;

	for (size_t i = 0; i < c->ntasks; i++) {
		struct cpx_cap_task *t = c->tasks[i];

		for (size_t k = 0; k < t->nthreads; k++) {
			if (!t->threads[k].t.saved)
				continue;
			if (c->engine->give_back(c, &t->threads[k], &first) < 0)
				rc = first.code;
			if (cpx_cap_resume_running(c, t, &t->threads[k], &first) < 0)
				rc = first.code;
		}
	}
	for (size_t i = 0; i < c->ntasks; i++)
		if (c->engine->leave(c, c->tasks[i], &first) < 0)
			rc = first.code;
	if (rc < 0 && err)
		*err = first;
	return rc;
}

static int release(struct run *r, struct cpx_err *err)
{
	struct cpx_cap *c = &r->c;
	int rc, rc2;

	if (!r->parked)
		return 0;
	rc = give_back(r, err);
	rc2 = c->engine->release(c, &r->park, false, rc < 0 ? NULL : err);
	r->parked = false;
	r->release_ns = cpx_mono_ns();
	cpx_cap_resume_released(c);
	return rc < 0 ? rc : rc2;
}

static int stage_release(struct run *r, struct cpx_err *err)
{
	const struct cpx_capture_opts *o = r->c.opts;
	int rc;

	if (o->after != CPX_AFTER_RUN)
		return 0;
	rc = release(r, err);
	if (rc == 0 && o->gentle)
		cpx_gentle_begin();
	if (rc == 0)
		cpx_image_throttle(r->c.writer, o->rate);
	return rc;
}

static int stage_late(struct run *r, struct cpx_err *err)
{
	int rc = 0;

	for (size_t f = 0; f < NFAMILIES && rc >= 0; f++)
		if (families[f]->late)
			rc = families[f]->late(&r->c, r->c.family[f], err);
	return rc < 0 ? rc : 0;
}

static int stage_commit(struct run *r, struct cpx_err *err)
{
	struct cpx_image_writer *w = r->c.writer;
	int64_t deadline = r->c.opts->deadline_ns;
	int rc;

	if (deadline && cpx_mono_ns() > deadline)
		return cpx_err_set(err, CPX_E_TIMEOUT, "not finished before the deadline");
	rc = cpx_image_drain(w, err);
	if (rc == 0 && r->parked && r->c.engine->held)
		rc = r->c.engine->held(&r->c, err);
	if (rc < 0)
		return rc;
	r->c.engine->drop(&r->c);
	r->c.writer = NULL;
	rc = cpx_image_commit(w, r->c.st, r->c.opts->note, &r->res->image, err);
	if (rc == 0 && r->c.opts->track) {
		cpx_track_set_base(r->c.opts->track, &r->c.opts->id);
		cpx_track_sweep(r->c.opts->track);
	}
	return rc;
}

static int stage_after(struct run *r, struct cpx_err *err)
{
	(void)err;
	if (r->c.opts->after == CPX_AFTER_KILL) {
		for (size_t f = 0; f < NFAMILIES; f++)
			if (families[f]->before_kill)
				families[f]->before_kill(&r->c, r->c.family[f]);
		r->c.engine->kill(&r->c, &r->park);
	}
	if (r->c.opts->after == CPX_AFTER_STOP) {
		give_back(r, NULL);
		r->c.engine->release(&r->c, &r->park, true, NULL);
	}
	if (r->parked)
		r->release_ns = cpx_mono_ns();
	r->parked = false;
	return 0;
}

static const struct stage {
	const char *name; /* also the fault point "capture.NAME" */
	int (*run)(struct run *r, struct cpx_err *err);
} stages[] = {
	{ "create", stage_create },	{ "precopy", stage_precopy },
	{ "park", stage_park },		{ "registers", stage_registers },
	{ "homes", stage_homes },	{ "families", stage_families },
	{ "snapshot", stage_snapshot }, { "finish", stage_finish },
	{ "release", stage_release },	{ "late", stage_late },
	{ "commit", stage_commit },	{ "after", stage_after },
};

static int run_stages(struct run *r, struct cpx_err *err)
{
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		int64_t begun = cpx_mono_ns();
		char point[64];
		int rc;

		snprintf(point, sizeof(point), "capture.%s", stages[i].name);
		rc = cpx_fault(point);
		if (rc)
			rc = cpx_err_sys(err, rc, "stage %s", stages[i].name);
		else
			rc = stages[i].run(r, err);
		cpx_log_debug("checkpoint: %s %.3f ms", stages[i].name,
			      (double)(cpx_mono_ns() - begun) / 1e6);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void free_task(struct cpx_cap_task *t)
{
	for (size_t k = 0; k < t->nthreads; k++)
		cpx_tracee_free(&t->threads[k].t);
	cpx_home_free(&t->home);
	cpx_close(&t->pidfd);
	cpx_close(&t->proc_fd);
	cpx_close(&t->mem_fd);
	free(t->threads);
	free(t);
}

static void clean_up(struct run *r)
{
	/* first: its workers read what the others free */
	cpx_image_abort(r->c.writer);
	cpx_precopy_free(r->c.precopy);
	r->c.writer = NULL;
	r->c.engine->drop(&r->c);
	release(r, NULL);
	for (size_t f = r->begun; f-- > 0;)
		if (families[f]->end)
			families[f]->end(&r->c, r->c.family[f]);
	for (size_t i = 0; i < r->c.ntasks; i++)
		free_task(r->c.tasks[i]);
	free(r->c.tasks);
	cpx_cap_resume_free(&r->c);
	if (r->c.engine->end)
		r->c.engine->end(&r->c);
	cpx_park_free(&r->park);
	cpx_state_free(r->c.st);
}

static int run_once(const struct cpx_capture_opts *opts, struct cpx_capture_result *res,
		    bool *unsettled, struct cpx_err *err)
{
	struct cpx_capture_result result = { .id = opts->id };
	struct run r = { .c = { .opts = opts }, .res = &result };
	int64_t start = cpx_mono_ns();
	int rc;

	r.c.pace = opts->pace ? opts->pace : &r.no_pace;
	r.c.st = cpx_state_new();
	if (!r.c.st)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a checkpoint");
	rc = cpx_engine_choose(&r.c, opts->engine, err);
	if (rc < 0) {
		cpx_state_free(r.c.st);
		return rc;
	}
	rc = run_stages(&r, err);
	if (rc == 0) {
		result.engine = r.c.engine->name;
		result.way = r.c.way;
		result.incremental = r.c.incremental;
		result.tasks = (uint32_t)r.c.ntasks;
		for (size_t i = 0; i < r.c.ntasks; i++)
			result.threads += (uint32_t)r.c.tasks[i]->nthreads;
		result.pause_ns = r.release_ns - r.stop_ns;
		result.total_ns = cpx_mono_ns() - start;
		learn(&r);
		*res = result;
	}
	*unsettled = rc == CPX_E_BUSY && r.c.way == CPX_SNAP_PRECOPY;
	clean_up(&r);
	return rc;
}

/*
 * A job that changed its mappings' flags around a short pause leaves open which it had in it:
 * then once more, with a clone, in full.
 */
int cpx_capture_run(const struct cpx_capture_opts *opts, struct cpx_capture_result *res,
		    struct cpx_err *err)
{
	struct cpx_capture_opts again = *opts;
	bool unsettled;
	int rc = run_once(opts, res, &unsettled, err);

	if (rc == 0 || !unsettled)
		return rc;
	cpx_track_clear(opts->track);
	if (opts->gentle)
		cpx_gentle_end();
	again.snapshot = CPX_SNAP_CLONE;
	return run_once(&again, res, &unsettled, err);
}

int cpx_capture_why(pid_t root, cpx_why_line line, void *ctx, struct cpx_err *err)
{
	struct cpx_capture_opts opts = { .root = root };
	struct run r = { .c = { .opts = &opts,
				.engine = &cpx_engine_ptrace,
				.dry_run = true,
				.why = line,
				.why_ctx = ctx } };
	int rc;

	r.c.st = cpx_state_new();
	if (!r.c.st)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to look at process %d", root);
	rc = cpx_park_list(root, &r.park, err);
	if (rc == 0)
		rc = build_tasks(&r.c, &r.park, err);
	if (rc == 0)
		rc = find_shared(&r.c, err);
	if (rc == 0)
		rc = stage_families(&r, err);
	for (size_t f = 0; f < NFAMILIES && rc >= 0; f++)
		if (families[f]->finish)
			rc = families[f]->finish(&r.c, r.c.family[f], err);
	clean_up(&r);
	return rc < 0 ? rc : r.c.obstacles;
}
