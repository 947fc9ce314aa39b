/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ptrace_task.c - what only a thread itself can tell, asked by calls in it.
 *
 * Each call costs the job 10 to 15 microseconds of its pause. Further threads are asked for
 * rare things only where the main thread has them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "capture.h"
#include "ptrace_engine.h"

#define MEMBARRIER_GET 512 /* MEMBARRIER_CMD_GET_REGISTRATIONS */
#define NODE_WORDS 16	   /* of a node mask: 1024 nodes */
#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif
#ifndef PR_GET_MEMORY_MERGE
#define PR_GET_MEMORY_MERGE 68
#endif
struct altstack {
	uint64_t sp;
	int32_t flags, pad;
	uint64_t size;
};

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

static void fill_rseq(struct cpx_rec_thread *rec, pid_t tid)
{
	struct __ptrace_rseq_configuration rseq = { 0 };

	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(rseq), &rseq) > 0) {
		rec->rseq_addr = rseq.rseq_abi_pointer;
		rec->rseq_size = rseq.rseq_abi_size;
		rec->rseq_sig = rseq.signature;
	}
}

int cpx_ptrace_thread(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
		      struct cpx_err *err)
{
	int rc = ask_altstack(th, err);

	fill_rseq(th->rec, th->t.tid);

	if (rc == 0 && (th == &t->threads[0] || !known_clear_tid(t, th)))
		rc = ask_at(th, PR_GET_TID_ADDRESS, 8, &th->rec->clear_tid, err);
	if (rc == 0)
		rc = ask_rare(t, th, err);
	if (rc == 0)
		rc = ask_policy(c, t, th, err);
	return rc;
}

/* --- the process ----------------------------------------------------------------------------
 */

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

int cpx_ptrace_process(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
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
