/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_task.c - what a process and its threads are: names, limits, identity, scheduling.
 *
 * Nearly all is read from /proc or asked by calls that take a thread id; only what nobody
 * outside can see is asked by a call in the thread itself, because each such call costs the
 * job 10 to 15 microseconds of its pause. Further threads are asked for rare things only where
 * the main thread has them.
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
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/proc_task.h"

#define PROC_TEXT_MAX (1u << 20)
#define SECCOMP_FILTERS_MAX 256
#define AFFINITY_BYTES 1024

#define MEMBARRIER_GET 512 /* MEMBARRIER_CMD_GET_REGISTRATIONS */
#define NODE_WORDS 16	   /* of a node mask: 1024 nodes */
#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif
#ifndef PR_GET_MEMORY_MERGE
#define PR_GET_MEMORY_MERGE 68
#endif
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

struct altstack {
	uint64_t sp;
	int32_t flags, pad;
	uint64_t size;
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
	struct __ptrace_rseq_configuration rseq = { 0 };
	void *head = NULL;
	size_t len = 0;

	if (syscall(SYS_get_robust_list, tid, &head, &len) == 0) {
		rec->robust_list = (uintptr_t)head;
		rec->robust_len = len;
	}
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(rseq), &rseq) > 0) {
		rec->rseq_addr = rseq.rseq_abi_pointer;
		rec->rseq_size = rseq.rseq_abi_size;
		rec->rseq_sig = rseq.signature;
	}
}

/* --- one thread from inside -----------------------------------------------------------------
 */

/* prctl(@option) whose answer is its return value; 0 where the kernel does not know it. */
static int ask(struct cpx_cap_thread *th, int option, uint32_t *out, struct cpx_err *err)
{
	int64_t ret;
	int rc = cpx_tcall(&th->t, &ret, err, SYS_prctl, (uint64_t)option);

	if (rc == 0)
		*out = ret > 0 ? (uint32_t)ret : 0;
	return rc;
}

/* prctl(@option, &value) with a value of @size bytes (4 or 8). */
static int ask_at(struct cpx_cap_thread *th, int option, size_t size, uint64_t *out,
		  struct cpx_err *err)
{
	uint64_t zero = 0, value = 0, at;
	int64_t ret;
	int rc;

	cpx_tracee_reset(&th->t);
	at = cpx_tracee_push(&th->t, &zero, sizeof(zero));
	if (!at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call in process %d",
				   th->t.pid);
	rc = cpx_tcall(&th->t, &ret, err, SYS_prctl, (uint64_t)option, at);
	if (rc == 0 && ret >= 0)
		rc = cpx_tracee_read(&th->t, at, &value, size, err);
	if (rc == 0)
		*out = value;
	return rc;
}

static int ask_altstack(struct cpx_cap_thread *th, struct cpx_err *err)
{
	struct altstack ss = { 0 };
	uint64_t at;
	int rc;

	cpx_tracee_reset(&th->t);
	at = cpx_tracee_push(&th->t, &ss, sizeof(ss));
	if (!at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call in process %d",
				   th->t.pid);
	rc = cpx_tok(&th->t, NULL, err, "alternate stack", SYS_sigaltstack, 0, at);
	if (rc == 0)
		rc = cpx_tracee_read(&th->t, at, &ss, sizeof(ss), err);
	if (rc < 0)
		return rc;
	th->rec->altstack_sp = ss.sp;
	th->rec->altstack_size = ss.size;
	th->rec->altstack_flags = (uint32_t)ss.flags;
	return 0;
}

/*
 * Has the thread a memory policy, as far as is seen from outside: the kernel names it for the
 * first mapping, unless that has one of its own.
 */
static bool policy_shown(const struct cpx_cap_task *t, pid_t tid)
{
	char path[64], first[64] = "";
	const char *word;

	snprintf(path, sizeof(path), "task/%d/numa_maps", tid);
	CPX_AUTO_FD fd = openat(t->proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, first, sizeof(first) - 1) <= 0)
		return false;
	word = strchr(first, ' ');
	return word && strncmp(word, " default", 8) != 0;
}

static int ask_policy(struct cpx_cap *c, const struct cpx_cap_task *t,
		      struct cpx_cap_thread *th, struct cpx_err *err)
{
	struct {
		uint32_t mode, unused;
		uint64_t nodes[NODE_WORDS];
	} p = { 0 };
	uint64_t at, *kept;
	uint32_t n = NODE_WORDS;
	int rc;

	/* where there is no choice, the main thread tells whether anybody cares */
	if (th != &t->threads[0] && !t->threads[0].rec->mem_policy &&
	    access("/sys/devices/system/node/node1", F_OK) < 0)
		return 0;
	if (!policy_shown(t, th->t.tid))
		return 0;
	cpx_tracee_reset(&th->t);
	at = cpx_tracee_push(&th->t, &p, sizeof(p));
	if (!at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call in process %d",
				   th->t.pid);
	rc = cpx_tok(&th->t, NULL, err, "memory policy", SYS_get_mempolicy, at,
		     at + offsetof(__typeof__(p), nodes), NODE_WORDS * 64, 0, 0);
	if (rc == 0)
		rc = cpx_tracee_read(&th->t, at, &p, sizeof(p), err);
	if (rc < 0 || !p.mode)
		return rc;
	while (n && !p.nodes[n - 1])
		n--;
	kept = cpx_state_alloc(c->st, (n + 1) * sizeof(*kept));
	if (!kept)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for memory policies");
	memcpy(kept, p.nodes, n * sizeof(*kept));
	th->rec->mem_policy = p.mode;
	th->rec->mem_nodes = (struct cpx_u64s){ .v = kept, .n = n };
	return 0;
}

static int ask_rare(struct cpx_cap_task *t, struct cpx_cap_thread *th, struct cpx_err *err)
{
	const struct cpx_rec_thread *lead = t->threads[0].rec;
	bool leader = th == &t->threads[0];
	struct cpx_rec_thread *rec = th->rec;
	uint64_t v = 0;
	int rc = 0;

	rec->tsc_mode = PR_TSC_ENABLE;
	rec->mce_kill = PR_MCE_KILL_DEFAULT;
	if (rc == 0 && (leader || lead->pdeathsig)) {
		rc = ask_at(th, PR_GET_PDEATHSIG, 4, &v, err);
		rec->pdeathsig = (uint32_t)v;
	}
	if (rc == 0 &&
	    (leader || lead->securebits || rec->cap_permitted != lead->cap_permitted))
		rc = ask(th, PR_GET_SECUREBITS, &rec->securebits, err);
	if (rc == 0 && (leader || lead->tsc_mode != PR_TSC_ENABLE)) {
		v = PR_TSC_ENABLE;
		rc = ask_at(th, PR_GET_TSC, 4, &v, err);
		rec->tsc_mode = (uint32_t)v;
	}
	if (rc == 0 && (leader || lead->mce_kill != PR_MCE_KILL_DEFAULT))
		rc = ask(th, PR_MCE_KILL_GET, &rec->mce_kill, err);
	return rc;
}

/*
 * The C library's thread descriptor has the thread's id 16 bytes before its robust list, and
 * the kernel clears it there when the thread ends. Where that is so, nobody needs to be asked.
 */
static bool known_clear_tid(const struct cpx_cap_task *t, struct cpx_cap_thread *th)
{
	uint64_t at = th->rec->robust_list - 16;
	struct {
		uint32_t tid, unused;
		uint64_t prev, head;
	} d;

	if (!th->rec->robust_list ||
	    cpx_pread_full(t->mem_fd, &d, sizeof(d), at) != (ssize_t)sizeof(d) ||
	    d.tid != (uint32_t)th->ns_tid)
		return false;
	th->rec->clear_tid = at;
	return true;
}

static int ask_thread(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
		      struct cpx_err *err)
{
	int rc = ask_altstack(th, err);

	if (rc == 0 && (th == &t->threads[0] || !known_clear_tid(t, th)))
		rc = ask_at(th, PR_GET_TID_ADDRESS, 8, &th->rec->clear_tid, err);
	if (rc == 0)
		rc = ask_rare(t, th, err);
	if (rc == 0)
		rc = ask_policy(c, t, th, err);
	return rc;
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
	return ask_thread(c, t, th, err);
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
	if (c->dry_run && s.tracer)
		return cpx_cap_refuse(c, t, err, "it is being traced by process %d", s.tracer);
	return 0;
}

/* What its memory is registered for with membarrier(); kernels before 6.3 only show by use. */
static int ask_membarrier(struct cpx_cap_task *t, struct cpx_err *err)
{
	static const struct {
		uint64_t use;
		uint32_t registration;
	} all[] = { { 8, 16 }, { 32, 64 }, { 128, 256 } }; /* expedited, core, rseq */
	struct cpx_cap_thread *lead = &t->threads[0];
	int64_t ret;
	int rc = cpx_tcall(&lead->t, &ret, err, SYS_membarrier, MEMBARRIER_GET, 0, 0);

	if (rc < 0 || ret >= 0 || ret == -ENOSYS) {
		t->rec->membarrier = rc == 0 && ret > 0 ? (uint32_t)ret : 0;
		return rc;
	}
	for (size_t i = 0; i < sizeof(all) / sizeof(*all) && rc == 0; i++) {
		rc = cpx_tcall(&lead->t, &ret, err, SYS_membarrier, all[i].use, 0, 0);
		if (rc == 0 && ret == 0)
			t->rec->membarrier |= all[i].registration;
	}
	return rc;
}

/* Newer kernels tell without a call. */
static int ask_merge(struct cpx_cap_task *t, struct cpx_err *err)
{
	static const char key[] = "ksm_merge_any:";
	CPX_AUTO_FREE char *text = NULL;
	const char *p = NULL;

	if (cpx_read_file(t->proc_fd, "ksm_stat", 4096, &text, NULL) > 0)
		p = strstr(text, key);
	if (!p)
		return ask(&t->threads[0], PR_GET_MEMORY_MERGE, &t->rec->memory_merge, err);
	p += strlen(key);
	t->rec->memory_merge = strncmp(p + strspn(p, " "), "yes", 3) == 0;
	return 0;
}

static const struct cpx_cap_task *has_child(const struct cpx_cap *c,
					    const struct cpx_cap_task *t)
{
	for (size_t i = 0; i < c->ntasks; i++)
		if (c->tasks[i]->rec->ppid == t->rec->pid && !c->tasks[i]->zombie)
			return c->tasks[i];
	return NULL;
}

/* waitid() for a child that was continued, without taking the news. *@pid: 0 if there is none.
 */
static int peek_continued(struct cpx_cap_thread *th, int type, pid_t id, pid_t *pid,
			  struct cpx_err *err)
{
	siginfo_t info = { 0 };
	uint64_t at;
	int64_t ret;
	int rc;

	cpx_tracee_reset(&th->t);
	at = cpx_tracee_push(&th->t, &info, sizeof(info));
	if (!at)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call in process %d",
				   th->t.pid);
	rc = cpx_tcall(&th->t, &ret, err, SYS_waitid, (uint64_t)type, (uint64_t)id, at,
		       WCONTINUED | WNOHANG | WNOWAIT | __WALL, 0);
	if (rc == 0 && ret == 0)
		rc = cpx_tracee_read(&th->t, at, &info, sizeof(info), err);
	*pid = rc == 0 && ret == 0 ? info.si_pid : 0;
	return rc;
}

/* Which of its children were continued, and it has not been told yet. */
static int ask_continued(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	pid_t pid = 0;
	int rc;

	if (!has_child(c, t))
		return 0;
	rc = peek_continued(&t->threads[0], P_ALL, 0, &pid, err);
	for (size_t i = 0; i < c->ntasks && rc == 0 && pid; i++) {
		const struct cpx_cap_task *k = c->tasks[i];
		pid_t told = 0;

		if (k->zombie || k->rec->ppid != t->rec->pid)
			continue;
		rc = peek_continued(&t->threads[0], P_PID, k->ns_pid, &told, err);
		k->rec->continued = told != 0;
	}
	return rc;
}

static int ask_process(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	struct cpx_cap_thread *lead = &t->threads[0];
	uint64_t v = 0;
	int rc = ask(lead, PR_GET_DUMPABLE, &t->rec->dumpable, err);

	if (rc == 0)
		rc = ask_at(lead, PR_GET_CHILD_SUBREAPER, 4, &v, err);
	t->rec->subreaper = v != 0;
	if (rc == 0)
		rc = ask(lead, PR_GET_MDWE, &t->rec->mdwe, err);
	if (rc == 0 && t->mm_of == t)
		rc = ask_membarrier(t, err);
	if (rc == 0 && t->mm_of == t)
		rc = ask_merge(t, err);
	return rc < 0 ? rc : ask_continued(c, t, err);
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
		rc = ask_process(c, t, err);
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
