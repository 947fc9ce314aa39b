/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_task.c - what a process and its threads are: names, limits, identity, scheduling.
 *
 * Nearly all is read from /proc or asked by calls that take a thread id; the engine tells what
 * nobody outside can see.
 */
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/proc_task.h"
#include "engine.h"

#define PROC_TEXT_MAX (1u << 20)
#define SECCOMP_FILTERS_MAX 256
#define AFFINITY_BYTES 1024

#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
#endif

struct attr { /* struct sched_attr of the kernel */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

static int code_of(const struct cpx_err *err)
{
	return err ? err->code : CPX_E_SYS;
}

static int read_text(const struct cpx_cap_task *t, const char *path, char **text,
		     struct cpx_err *err)
{
	if (cpx_read_file(t->proc_fd, path, PROC_TEXT_MAX, text, err) >= 0)
		return 0;
	cpx_err_wrap(err, "process %d", t->pid);
	return code_of(err);
}

/* A small file with one number; @fallback where this kernel does not have it. */
static int64_t read_number(const struct cpx_cap_task *t, const char *path, int base,
			   int64_t fallback)
{
	CPX_AUTO_FREE char *text = NULL;
	char *end;
	int64_t v;

	if (cpx_read_file(t->proc_fd, path, 4096, &text, NULL) <= 0)
		return fallback;
	v = strtoll(text, &end, base);
	return end == text ? fallback : v;
}

static int read_comm(struct cpx_cap *c, const struct cpx_cap_task *t, const char *path,
		     const char **out, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	size_t n;
	int rc = read_text(t, path, &text, err);

	if (rc < 0)
		return rc;
	n = strlen(text);
	if (n && text[n - 1] == '\n')
		text[n - 1] = 0;
	*out = cpx_state_str(c->st, text);
	return *out ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory for names");
}

/* --- seccomp ------------------------------------------------------------------------------ */

/* The seccomp record with these bytes, made when there is none. Return: index or an error. */
static int filter_record(struct cpx_cap *c, const void *bytes, size_t n, uint32_t flags,
			 struct cpx_err *err)
{
	struct cpx_rec_seccomp *rec;

	cpx_state_each(c->st, seccomp, have)
		if (have->flags == flags && have->filter.n == n &&
		    memcmp(have->filter.p, bytes, n) == 0)
			return (int)i_have;
	rec = cpx_state_new_rec(c->st, seccomp);
	if (!rec)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for seccomp filters");
	rec->flags = flags;
	rec->filter = cpx_state_blob(c->st, bytes, n);
	if (!rec->filter.p)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for seccomp filters");
	return (int)cpx_state_count(c->st, CPX_REC_seccomp) - 1;
}

/* Filter @i of the thread, the oldest first. Return: index of its record or an error. */
static int one_filter(struct cpx_cap *c, struct cpx_cap_task *t, pid_t tid, uint32_t i,
		      struct cpx_err *err)
{
	struct sock_filter insns[BPF_MAXINSNS];
	struct {
		uint64_t filter_off, flags;
	} meta = { .filter_off = i };
	long n = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void *)(uintptr_t)i, NULL);

	if (n <= 0 || n > BPF_MAXINSNS ||
	    ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void *)(uintptr_t)i, insns) != n)
		return cpx_cap_refuse(c, t, err, "its seccomp filter %u cannot be read: %s", i,
				      strerror(errno));
	if (ptrace(PTRACE_SECCOMP_GET_METADATA, tid, (void *)sizeof(meta), &meta) < 0)
		meta.flags = 0;
	return filter_record(c, insns, (size_t)n * sizeof(insns[0]), (uint32_t)meta.flags, err);
}

static int capture_seccomp(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
			   const struct cpx_proc_status *s, struct cpx_err *err)
{
	uint32_t list[SECCOMP_FILTERS_MAX], n = 0;
	uint32_t *kept;

	th->rec->seccomp = s->seccomp;
	if (s->seccomp == 1)
		return cpx_cap_refuse(
			c, t, err,
			"it is in seccomp strict mode, which lets nobody look inside");
	if (s->seccomp == 0 || c->dry_run)
		return 0;
	for (; n < SECCOMP_FILTERS_MAX; n++) {
		int rc;

		errno = 0;
		if (ptrace(PTRACE_SECCOMP_GET_FILTER, th->t.tid, (void *)(uintptr_t)n, NULL) <
			    0 &&
		    errno == ENOENT)
			break;
		rc = one_filter(c, t, th->t.tid, n, err);
		if (rc < 0)
			return rc;
		list[n] = (uint32_t)rc;
	}
	if (n == SECCOMP_FILTERS_MAX)
		return cpx_cap_refuse(c, t, err, "it has more than %d seccomp filters",
				      SECCOMP_FILTERS_MAX);
	kept = cpx_state_alloc(c->st, (n + 1) * sizeof(*kept));
	if (!kept)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for seccomp filters");
	memcpy(kept, list, n * sizeof(*kept));
	th->rec->seccomp_filters = (struct cpx_u32s){ .v = kept, .n = n };
	return 0;
}

/* --- one thread from outside ----------------------------------------------------------------
 */

static int fill_creds(struct cpx_cap *c, struct cpx_rec_thread *rec,
		      const struct cpx_proc_status *s, struct cpx_err *err)
{
	uint32_t *groups = cpx_state_alloc(c->st, (s->ngroups + 1) * sizeof(*groups));

	if (!groups)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for groups");
	if (s->ngroups)
		memcpy(groups, s->groups, s->ngroups * sizeof(*groups));
	rec->groups = (struct cpx_u32s){ .v = groups, .n = s->ngroups };
	rec->uid = s->uid[0];
	rec->euid = s->uid[1];
	rec->suid = s->uid[2];
	rec->fsuid = s->uid[3];
	rec->gid = s->gid[0];
	rec->egid = s->gid[1];
	rec->sgid = s->gid[2];
	rec->fsgid = s->gid[3];
	rec->cap_inheritable = s->cap_inh;
	rec->cap_permitted = s->cap_prm;
	rec->cap_effective = s->cap_eff;
	rec->cap_bounding = s->cap_bnd;
	rec->cap_ambient = s->cap_amb;
	rec->no_new_privs = s->no_new_privs;
	rec->umask = s->umask;
	rec->spec_store = s->spec_store;
	rec->spec_branch = s->spec_branch;
	return 0;
}

static int fill_sched(struct cpx_rec_thread *rec, pid_t tid, struct cpx_err *err)
{
	struct attr a = { .size = sizeof(a) };
	long prio;

	if (syscall(SYS_sched_getattr, tid, &a, sizeof(a), 0) < 0)
		return cpx_err_sys(err, errno, "scheduling of thread %d", tid);
	rec->sched_policy = a.policy;
	rec->sched_flags = (uint32_t)a.flags;
	rec->sched_nice = a.nice;
	rec->sched_prio = a.priority;
	rec->sched_runtime_ns = a.runtime;
	rec->sched_deadline_ns = a.deadline;
	rec->sched_period_ns = a.period;
	prio = syscall(SYS_ioprio_get, 1 /* IOPRIO_WHO_PROCESS */, tid);
	rec->ioprio = prio > 0 ? (uint32_t)prio : 0;
	return 0;
}

/* The CPUs it may use; empty where these are all there are, so that it may use all elsewhere.
 */
static int fill_affinity(struct cpx_cap *c, struct cpx_rec_thread *rec, pid_t tid,
			 struct cpx_err *err)
{
	uint8_t mask[AFFINITY_BYTES] = { 0 };
	long n = syscall(SYS_sched_getaffinity, tid, sizeof(mask), mask);
	int cpus = 0;

	if (n < 0)
		return cpx_err_sys(err, errno, "CPUs of thread %d", tid);
	for (long i = 0; i < n; i++)
		cpus += __builtin_popcount(mask[i]);
	if (cpus >= sysconf(_SC_NPROCESSORS_ONLN))
		return 0;
	while (n > 0 && !mask[n - 1])
		n--;
	rec->affinity = cpx_state_blob(c->st, mask, (size_t)n);
	return rec->affinity.p ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory for CPU sets");
}

static void fill_lists(struct cpx_rec_thread *rec, pid_t tid)
{
	void *head = NULL;
	size_t len = 0;

	if (syscall(SYS_get_robust_list, tid, &head, &len) == 0) {
		rec->robust_list = (uintptr_t)head;
		rec->robust_len = len;
	}
}

/* Calls of ours would be dispatched to the program's own handler. */
static int refuse_dispatch(struct cpx_cap *c, struct cpx_cap_task *t, pid_t tid,
			   struct cpx_err *err)
{
	struct {
		uint64_t mode, selector, offset, len;
	} d = { 0 };

	if (ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, (void *)sizeof(d), &d) < 0 ||
	    !d.mode)
		return 0;
	return cpx_cap_refuse(c, t, err,
			      "its thread %d handles system calls itself "
			      "(PR_SET_SYSCALL_USER_DISPATCH), which cannot be saved",
			      tid);
}

static int capture_thread(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
			  struct cpx_err *err)
{
	struct cpx_proc_status s __attribute__((cleanup(cpx_proc_status_free))) = { 0 };
	CPX_AUTO_FREE char *text = NULL;
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "task/%d/status", th->t.tid);
	rc = read_text(t, path, &text, err);
	if (rc == 0)
		rc = cpx_proc_status_parse(text, &s, err);
	if (rc == 0 && s.shadow_stack)
		rc = cpx_cap_refuse(c, t, err, "it uses a shadow stack; start it without CET");
	if (rc == 0)
		rc = fill_creds(c, th->rec, &s, err);
	if (rc == 0)
		rc = capture_seccomp(c, t, th, &s, err);
	snprintf(path, sizeof(path), "task/%d/comm", th->t.tid);
	if (rc == 0)
		rc = read_comm(c, t, path, &th->rec->comm, err);
	if (rc == 0)
		rc = fill_sched(th->rec, th->t.tid, err);
	if (rc == 0)
		rc = fill_affinity(c, th->rec, th->t.tid, err);
	if (rc < 0)
		return rc;
	snprintf(path, sizeof(path), "/proc/%d/timerslack_ns", th->t.tid);
	th->rec->timerslack_ns = (uint64_t)read_number(t, path, 10, 50000);
	if (c->dry_run)
		return 0;
	rc = refuse_dispatch(c, t, th->t.tid, err);
	if (rc < 0)
		return rc;
	fill_lists(th->rec, th->t.tid);
	return c->engine->thread(c, t, th, err);
}

/* --- the process ----------------------------------------------------------------------------
 */

static int fill_limits(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	uint64_t *pairs = cpx_state_alloc(c->st, 2 * CPX_RLIMITS * sizeof(*pairs));
	int rc = read_text(t, "limits", &text, err);

	if (!pairs)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for limits");
	if (rc == 0)
		rc = cpx_proc_limits_parse(text, pairs, err);
	if (rc == 0)
		t->rec->rlimits = (struct cpx_u64s){ .v = pairs, .n = 2 * CPX_RLIMITS };
	return rc;
}

static int fill_stat(struct cpx_cap_task *t, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	struct cpx_proc_stat s;
	uint64_t tick = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
	int rc = read_text(t, "stat", &text, err);

	if (rc == 0)
		rc = cpx_proc_stat_parse(text, &s, err);
	if (rc < 0)
		return rc;
	t->rec->utime_ns = s.utime * tick;
	t->rec->stime_ns = s.stime * tick;
	t->rec->stop_waited = t->rec->state == CPX_TASK_STOPPED && s.exit_code == 0;
	t->rec->has_execed = !(s.flags & CPX_PF_FORKNOEXEC);
	return 0;
}

static int fill_status(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	struct cpx_proc_status s __attribute__((cleanup(cpx_proc_status_free))) = { 0 };
	CPX_AUTO_FREE char *text = NULL;
	int rc = read_text(t, "status", &text, err);

	if (rc == 0)
		rc = cpx_proc_status_parse(text, &s, err);
	if (rc < 0)
		return rc;
	t->rec->umask = s.umask;
	t->rec->thp_disable = !s.thp_enabled;
	if ((c->dry_run || !c->engine->injects) && s.tracer)
		return cpx_cap_refuse(c, t, err, "it is being traced by process %d", s.tracer);
	return 0;
}

/*
 * The main thread has ended while others live on. It has to be made again, for it is what the
 * process is known by; it ends again before the others are let go.
 */
static int add_ended_leader(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	struct cpx_rec_thread *rec = cpx_state_new_rec(c->st, thread);

	if (!rec)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the thread list");
	*rec = *t->threads[0].rec;
	rec->tid = t->rec->pid;
	rec->comm = t->rec->comm;
	rec->ended = 1;
	rec->resume = CPX_RESUME_NONE;
	rec->robust_list = rec->clear_tid = rec->rseq_addr = rec->altstack_size = 0;
	rec->pdeathsig = 0;
	return 0;
}

static int core_task(struct cpx_cap *c, void *priv, struct cpx_cap_task *t, struct cpx_err *err)
{
	char path[64];
	int rc;

	(void)priv;
	if (t->zombie)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/comm", t->pid);
	rc = read_comm(c, t, path, &t->rec->comm, err);
	if (rc == 0)
		rc = cpx_cap_namespaces(c, t, err);
	if (rc == 0)
		rc = fill_limits(c, t, err);
	if (rc == 0)
		rc = fill_stat(t, err);
	if (rc == 0)
		rc = fill_status(c, t, err);
	if (rc < 0)
		return rc;
	t->rec->personality = (uint32_t)read_number(t, "personality", 16, 0);
	t->rec->oom_score_adj = (int32_t)read_number(t, "oom_score_adj", 10, 0);
	t->rec->coredump_filter = (uint32_t)read_number(t, "coredump_filter", 16, 0x33);
	for (size_t i = 0; i < t->nthreads && rc == 0; i++)
		rc = capture_thread(c, t, &t->threads[i], err);
	if (rc == 0 && !c->dry_run)
		rc = c->engine->process(c, t, err);
	if (rc == 0 && t->nthreads && t->live != t->pid)
		rc = add_ended_leader(c, t, err);
	return rc;
}

static int core_late(struct cpx_cap *c, void *priv, struct cpx_err *err)
{
	(void)priv;
	return cpx_cap_ns_threads(c, err);
}

const struct cpx_cap_family cpx_cap_core = {
	.name = "core",
	.task = core_task,
	.late = core_late,
};
