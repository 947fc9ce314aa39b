/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_task.c - processes and threads as they were: names, limits, scheduling, prctl state.
 *
 * Most is set from outside with the conductor's rights; only what a thread alone can set is
 * a call in it. Limits come in the last stage, since a low one would stop the building, and
 * just before the main thread gives up its identity. What this node cannot give (a CPU that is
 * not here, a lower oom_score_adj) is said and left.
 */
#include "rst_call.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "../chpox/base/proc_task.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif
#define NODE_WORDS 1024				    /* of a node mask: more than kernels have */
#define MEMBARRIER_REGISTER (4u | 16u | 64u | 256u) /* the MEMBARRIER_CMD_REGISTER_… */
#define SS_AUTODISARM_FLAG 0x80000000u
#define SCHED_FLAGS_KEPT 7u /* reset on fork, reclaim, overrun signal */
#define CPUS_BYTES 1024	    /* of a CPU set: more than kernels have */
#define ROBUST_HEAD 24
#define IOPRIO_REAL_TIME 1u /* IOPRIO_CLASS_RT */

struct attr { /* struct sched_attr of the kernel, first version */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/* --- checks
 * ------------------------------------------------------------------------------------- */

/* A soft limit above what we may give would change what the program can do: refused. */
static int check_limits(const struct cpx_rst *r, const struct cpx_rec_task *t,
			struct cpx_err *err)
{
	if (t->state == CPX_TASK_ZOMBIE)
		return 0;
	if (t->rlimits.n != 2 * CPX_RLIMITS)
		return cpx_err_set(err, CPX_E_FORMAT, "process %u has no limits", t->pid);
	for (uint32_t i = 0; i < CPX_RLIMITS; i++) {
		uint64_t soft = t->rlimits.v[2 * i], hard = t->rlimits.v[2 * i + 1];
		struct rlimit own;

		if (soft > hard)
			return cpx_err_set(err, CPX_E_FORMAT, "process %u: limit %u", t->pid,
					   i);
		if (getrlimit((__rlimit_resource_t)i, &own) < 0 || soft <= own.rlim_max ||
		    r->opts->force)
			continue;
		if (r->opts->trusted && setrlimit((__rlimit_resource_t)i,
						  &(struct rlimit){ own.rlim_cur, hard }) == 0)
			continue;
		return cpx_err_set(
			err, CPX_E_PERM,
			"process %u needs limit %u at %llu, this node allows %llu; raise "
			"the hard limit or use --force",
			t->pid, i, (unsigned long long)soft, (unsigned long long)own.rlim_max);
	}
	return 0;
}

static int core_prepare(struct cpx_rst *r, void **priv, struct cpx_err *err)
{
	(void)priv;
	cpx_state_each(r->st, task, t) {
		int rc = check_limits(r, t, err);

		if (rc < 0)
			return rc;
	}
	cpx_state_each(r->st, thread, th)
		if (th->affinity.n > 65536 ||
		    (th->robust_list && th->robust_len != ROBUST_HEAD) || th->pdeathsig > 64 ||
		    th->mem_nodes.n > NODE_WORDS / 64)
			return cpx_err_set(err, CPX_E_FORMAT, "thread %u is damaged", th->tid);
	if (cpx_rst_ns_check(r, err) < 0)
		return CPX_E_FORMAT;
	return cpx_rst_creds_check(r, err);
}

/* --- before the threads exist
 * ------------------------------------------------------------------- */

static int core_task(struct cpx_rst *r, void *priv, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_tracee *lead = &t->threads[0].t;
	int rc = 0;

	(void)priv;
	/* threads inherit it */
	if (t->rec->personality != (uint32_t)personality(0xffffffff))
		rc = cpx_tok(lead, NULL, err, "personality", SYS_personality,
			     t->rec->personality);
	if (rc == 0 && t->fs_of == t)
		rc = cpx_tok(lead, NULL, err, "umask", SYS_umask, t->rec->umask & 0777);
	if (rc == 0)
		rc = cpx_rst_ns_enter(r, t, err);
	/* while it is alone in its memory this takes no time */
	for (uint32_t bit = 1; bit && rc == 0 && t->mm_of == t; bit <<= 1)
		if (t->rec->membarrier & MEMBARRIER_REGISTER & bit)
			rc = cpx_tok(lead, NULL, err, "membarrier", SYS_membarrier, bit, 0);
	return rc < 0 ? rc : cpx_rst_filters_common(r, t, err);
}

/* --- one thread
 * --------------------------------------------------------------------------------- */

static int set_areas(struct cpx_rst_thread *th, struct cpx_err *err)
{
	const struct cpx_rec_thread *rec = th->rec;
	const struct {
		uint64_t sp;
		uint32_t flags, pad;
		uint64_t size;
	} ss = { rec->altstack_sp, rec->altstack_flags & SS_AUTODISARM_FLAG, 0,
		 rec->altstack_size };
	uint64_t at;
	int rc = 0;

	cpx_tracee_reset(&th->t);
	at = cpx_tracee_push(&th->t, &ss, sizeof(ss));
	if (!at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call");
	if (!(rec->altstack_flags & SS_DISABLE) && rec->altstack_size)
		rc = cpx_tok(&th->t, NULL, err, "alternate stack", SYS_sigaltstack, at, 0);
	if (rc == 0 && rec->robust_list)
		rc = cpx_tok(&th->t, NULL, err, "robust list", SYS_set_robust_list,
			     rec->robust_list, rec->robust_len);
	if (rc == 0 && rec->clear_tid)
		rc = cpx_tok(&th->t, NULL, err, "clear_tid address", SYS_set_tid_address,
			     rec->clear_tid);
	if (rc == 0 && rec->rseq_addr)
		rc = cpx_tok(&th->t, NULL, err, "rseq", SYS_rseq, rec->rseq_addr,
			     rec->rseq_size, 0, rec->rseq_sig);
	return rc;
}

/* Switching it off needs no right; where the CPU has no such switch, nothing is to be done. */
static int set_speculation(struct cpx_rst_thread *th, struct cpx_err *err)
{
	const struct {
		uint32_t which, value;
	} all[] = { { PR_SPEC_STORE_BYPASS, th->rec->spec_store },
		    { PR_SPEC_INDIRECT_BRANCH, th->rec->spec_branch } };
	int rc = 0;

	for (size_t i = 0; i < sizeof(all) / sizeof(*all) && rc == 0; i++) {
		int64_t ret = 0;

		if (!(all[i].value & (PR_SPEC_DISABLE | PR_SPEC_FORCE_DISABLE)))
			continue;
		rc = cpx_tcall(&th->t, &ret, err, SYS_prctl, PR_SET_SPECULATION_CTRL,
			       all[i].which, all[i].value);
		if (rc == 0 && ret < 0)
			cpx_log_note("thread %u: speculation %u cannot be switched off here: "
				     "%s",
				     th->rec->tid, all[i].which, strerror((int)-ret));
	}
	return rc;
}

static int set_prctls(struct cpx_rst_thread *th, struct cpx_err *err)
{
	const struct cpx_rec_thread *rec = th->rec;
	char name[16] = "";
	uint64_t at;
	int rc = 0;

	strncpy(name, rec->comm ? rec->comm : "", sizeof(name) - 1);
	cpx_tracee_reset(&th->t);
	at = cpx_tracee_push(&th->t, name, sizeof(name));
	if (!at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call");
	rc = cpx_tok(&th->t, NULL, err, "name", SYS_prctl, PR_SET_NAME, at);
	if (rc == 0 && rec->timerslack_ns)
		rc = cpx_tok(&th->t, NULL, err, "timer slack", SYS_prctl, PR_SET_TIMERSLACK,
			     rec->timerslack_ns);
	if (rc == 0 && rec->tsc_mode == PR_TSC_SIGSEGV)
		rc = cpx_tok(&th->t, NULL, err, "time stamp mode", SYS_prctl, PR_SET_TSC,
			     PR_TSC_SIGSEGV);
	if (rc == 0 && rec->mce_kill < PR_MCE_KILL_DEFAULT)
		rc = cpx_tok(&th->t, NULL, err, "machine check policy", SYS_prctl, PR_MCE_KILL,
			     PR_MCE_KILL_SET, rec->mce_kill);
	return rc < 0 ? rc : set_speculation(th, err);
}

/* Memory that is there already lies where it lies; the policy is for what comes. */
static int set_policy(struct cpx_rst_thread *th, struct cpx_err *err)
{
	const struct cpx_rec_thread *rec = th->rec;
	struct cpx_rst_bytes b;
	int64_t ret;
	int rc;

	if (!rec->mem_policy)
		return 0;
	rc = cpx_rst_bytes_put(&th->t, rec->mem_nodes.v, rec->mem_nodes.n * sizeof(uint64_t),
			       &b, err);
	/* the kernel takes one bit less than it is told */
	if (rc == 0)
		rc = cpx_tcall(&th->t, &ret, err, SYS_set_mempolicy, rec->mem_policy,
			       rec->mem_nodes.n ? b.addr : 0,
			       rec->mem_nodes.n ? rec->mem_nodes.n * 64 + 1 : 0);
	if (rc == 0 && ret < 0)
		cpx_log_note("thread %u: its memory policy cannot be had here: %s", rec->tid,
			     strerror((int)-ret));
	return rc < 0 ? rc : cpx_rst_bytes_drop(&th->t, &b, err);
}

/* What a user's image asks for and a user may not have without more rights: not given. */
static void clamp_sched(const struct cpx_rst_thread *th, struct attr *a)
{
	struct rlimit rt = { 0 }, nice = { 0 };

	getrlimit(RLIMIT_RTPRIO, &rt);
	getrlimit(RLIMIT_NICE, &nice);
	if (a->policy == SCHED_DEADLINE ||
	    ((a->policy == SCHED_FIFO || a->policy == SCHED_RR) && a->priority > rt.rlim_cur)) {
		cpx_log_note("thread %u: real-time scheduling is only for root's own image",
			     th->rec->tid);
		a->policy = SCHED_OTHER;
		a->priority = 0;
	}
	if (a->nice < 0 && (nice.rlim_cur > 40 ? 40 : (int)nice.rlim_cur) < 20 - a->nice)
		a->nice = 0;
}

/* It was built on one CPU (rst_cpu.c). */
static void set_cpus(const struct cpx_rst_thread *th)
{
	const struct cpx_rec_thread *rec = th->rec;
	uint8_t all[CPUS_BYTES];

	if (rec->affinity.n &&
	    syscall(SYS_sched_setaffinity, th->t.tid, rec->affinity.n, rec->affinity.p) == 0)
		return;
	if (rec->affinity.n)
		cpx_log_note("thread %u: none of its CPUs is here, it may use all: %s",
			     rec->tid, strerror(errno));
	memset(all, 0xff, sizeof(all));
	syscall(SYS_sched_setaffinity, th->t.tid, sizeof(all), all);
}

static int set_sched(struct cpx_rst *r, struct cpx_rst_thread *th, struct cpx_err *err)
{
	const struct cpx_rec_thread *rec = th->rec;
	struct attr a = { .size = sizeof(a),
			  .policy = rec->sched_policy,
			  .flags = rec->sched_flags & SCHED_FLAGS_KEPT,
			  .nice = rec->sched_nice,
			  .priority = rec->sched_prio,
			  .runtime = rec->sched_runtime_ns,
			  .deadline = rec->sched_deadline_ns,
			  .period = rec->sched_period_ns };
	struct attr now = { .size = sizeof(now) };

	set_cpus(th);
	if (!r->opts->trusted)
		clamp_sched(th, &a);
	if (a.policy != SCHED_DEADLINE)
		a.runtime = a.deadline = a.period = 0;
	if (syscall(SYS_sched_getattr, th->t.tid, &now, sizeof(now), 0) == 0 &&
	    now.policy == a.policy && now.nice == a.nice && now.priority == a.priority &&
	    now.flags == a.flags && a.policy != SCHED_DEADLINE)
		return 0;
	if (syscall(SYS_sched_setattr, th->t.tid, &a, 0) < 0)
		return cpx_err_sys(err, errno, "scheduling policy %u of thread %u", a.policy,
				   rec->tid);
	return 0;
}

static int set_ioprio(struct cpx_rst *r, struct cpx_rst_thread *th)
{
	bool may = r->opts->trusted || th->rec->ioprio >> 13 != IOPRIO_REAL_TIME;

	if (th->rec->ioprio && may &&
	    syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, th->t.tid, th->rec->ioprio) < 0)
		cpx_log_note("thread %u: I/O priority: %s", th->rec->tid, strerror(errno));
	return 0;
}

/* --- the process, with its main thread
 * ------------------------------------------------------------ */

static void set_one_limit(const struct cpx_rst *r, const struct cpx_rst_task *t, uint32_t i)
{
	struct rlimit own, want = { t->rec->rlimits.v[2 * i], t->rec->rlimits.v[2 * i + 1] };

	/* a user's image gets no higher than we are, whatever root might do */
	if (!r->opts->trusted && getrlimit((__rlimit_resource_t)i, &own) == 0) {
		if (want.rlim_max > own.rlim_max)
			want.rlim_max = own.rlim_max;
		if (want.rlim_cur > want.rlim_max)
			want.rlim_cur = want.rlim_max;
	}
	if (prlimit(t->pid, (__rlimit_resource_t)i, &want, &own) == 0)
		return;
	if (prlimit(t->pid, (__rlimit_resource_t)i, NULL, &own) < 0)
		return;
	cpx_log_note("process %u: hard limit %u stays at %llu instead of %llu", t->rec->pid, i,
		     (unsigned long long)own.rlim_max, (unsigned long long)want.rlim_max);
	want.rlim_max = own.rlim_max;
	if (want.rlim_cur > want.rlim_max)
		want.rlim_cur = want.rlim_max;
	prlimit(t->pid, (__rlimit_resource_t)i, &want, NULL);
}

static void write_proc(const struct cpx_rst_task *t, const char *file, const char *fmt,
		       long value)
{
	char path[64], text[32];
	CPX_AUTO_FD fd = -1;
	int n = snprintf(text, sizeof(text), fmt, value);

	snprintf(path, sizeof(path), "/proc/%d/%s", t->pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, (size_t)n) != n)
		cpx_log_note("process %u: %s cannot be set to %s here: %s", t->rec->pid, file,
			     text, strerror(errno));
}

/* Our own, which a user's process may not get below. */
static long own_oom_score_adj(void)
{
	CPX_AUTO_FREE char *text = NULL;

	if (cpx_read_file(AT_FDCWD, "/proc/self/oom_score_adj", 64, &text, NULL) <= 0)
		return 0;
	return strtol(text, NULL, 10);
}

static void set_process_outside(const struct cpx_rst *r, const struct cpx_rst_task *t)
{
	long least = r->opts->trusted ? -1000 : own_oom_score_adj();

	if (t->rec->oom_score_adj >= least && t->rec->oom_score_adj <= 1000)
		write_proc(t, "oom_score_adj", "%ld", t->rec->oom_score_adj);
	if (t->mm_of == t && t->rec->coredump_filter)
		write_proc(t, "coredump_filter", "0x%lx", (long)t->rec->coredump_filter);
	for (uint32_t i = 0; i < CPX_RLIMITS; i++)
		set_one_limit(r, t, i);
}

static int set_merge(struct cpx_rst_task *t, struct cpx_err *err)
{
	int64_t ret;
	int rc = cpx_tcall(&t->threads[0].t, &ret, err, SYS_prctl, PR_SET_MEMORY_MERGE, 1);

	if (rc == 0 && ret < 0)
		cpx_log_note("process %u: this kernel does not merge its memory: %s",
			     t->rec->pid, strerror((int)-ret));
	return rc;
}

static int set_process_inside(struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_tracee *lead = &t->threads[0].t;
	int rc = cpx_tok(lead, NULL, err, "subreaper", SYS_prctl, PR_SET_CHILD_SUBREAPER,
			 t->rec->subreaper != 0);

	if (rc == 0 && t->rec->thp_disable)
		rc = cpx_tok(lead, NULL, err, "huge page switch", SYS_prctl, PR_SET_THP_DISABLE,
			     1);
	/* giving up an identity changed it; 2 is what only the kernel sets */
	if (rc == 0)
		rc = cpx_tok(lead, NULL, err, "dumpable", SYS_prctl, PR_SET_DUMPABLE,
			     t->rec->dumpable == 1);
	if (rc == 0 && t->rec->memory_merge && t->mm_of == t)
		rc = set_merge(t, err);
	if (rc == 0 && t->rec->mdwe)
		rc = cpx_tok(lead, NULL, err, "memory-deny-write-execute", SYS_prctl,
			     PR_SET_MDWE, t->rec->mdwe);
	return rc;
}

static int core_thread(struct cpx_rst *r, void *priv, struct cpx_rst_task *t,
		       struct cpx_rst_thread *th, struct cpx_err *err)
{
	bool leader = th == &t->threads[0];
	int rc = set_areas(th, err);

	(void)priv;
	if (rc == 0)
		rc = set_prctls(th, err);
	if (rc == 0)
		rc = set_policy(th, err);
	if (rc == 0)
		rc = set_sched(r, th, err);
	if (rc == 0)
		rc = set_ioprio(r, th);
	if (rc == 0 && leader)
		set_process_outside(r, t);
	if (rc == 0)
		rc = cpx_rst_creds_set(r, t, th, err);
	if (rc == 0 && leader)
		rc = set_process_inside(t, err);
	return rc;
}

static int core_late(struct cpx_rst *r, void *priv, struct cpx_rst_task *t, struct cpx_err *err)
{
	int rc;

	(void)r;
	(void)priv;
	if (t->rec->state != CPX_TASK_STOPPED && !t->rec->continued)
		return 0;
	rc = cpx_rst_stop(t, err);
	if (rc == 0 && t->rec->state != CPX_TASK_STOPPED && kill(t->pid, SIGCONT) < 0)
		rc = cpx_err_sys(err, errno, "continue process %u", t->rec->pid);
	return rc;
}

const struct cpx_rst_family cpx_rst_core = {
	.name = "core",
	.prepare = core_prepare,
	.task = core_task,
	.late = core_late,
	.thread = core_thread,
};
