/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_tree.c - see rst_tree.h.
 *
 * A process inherits session and group from who forks it, so the order matters: children that
 * are in the session that their parent was in before it became a leader are forked
 * first; those whose session leader is a sibling are forked by somebody in that session with
 * CLONE_PARENT; where the leader is dead a helper with its PID leads for a while.
 * Groups are set when everybody exists. Helpers and zombies end last.
 */
#include "rst_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <elf.h>
#include <unistd.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/fault.h"
#include "../chpox/base/fd.h"
#include "rst_call.h"
#include "rst_spawn.h"

#define HELPERS_MAX 1024

/* A process that only lends its PID as leader of a session or group. */
struct helper {
	struct cpx_tracee t;
	struct cpx_home home;
	int mem_fd;
	uint32_t pid; /* inner */
	uint32_t sid;
	struct cpx_rst_task *parent; /* who must reap it */
};

struct tree {
	struct cpx_rst *r;
	struct helper *helpers;
	size_t nhelpers;
	uint32_t outer_sid,
		outer_pgid; /* of the image's outside, inherited from the conductor */
};

/* --- one process -----------------------------------------------------------------------------
 */

static int adopt(struct cpx_rst *r, struct cpx_tracee *t, struct cpx_home *home, int *mem_fd,
		 pid_t pid, struct cpx_err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	*mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (*mem_fd < 0)
		return cpx_err_sys(err, errno, "open memory of new process %d", pid);
	cpx_home_bare(r->home_page, r->home_size, home);
	*t = (struct cpx_tracee){ .pid = pid, .tid = pid, .mem_fd = *mem_fd, .home = home };
	return cpx_tracee_save(t, err);
}

static int wait_stop(pid_t pid, struct cpx_err *err)
{
	int status;

	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return cpx_err_sys(err, errno, "wait for new process %d", pid);
	if (!WIFSTOPPED(status))
		return cpx_err_set(err, CPX_E_GONE, "new process %d died", pid);
	return 0;
}

/* The empty child has done what it has to do, and is in poll(). */
static int until_asleep(pid_t pid, struct cpx_err *err)
{
	int64_t end = cpx_mono_ns() + 5000000000ll;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	for (;;) {
		CPX_AUTO_FREE char *text = NULL;
		ssize_t n = cpx_read_file(AT_FDCWD, path, 4096, &text, err);

		if (n < 0)
			return cpx_err_wrap(err, "new process %d", pid);
		if (atoi(text) == SYS_poll && text[0] == '7')
			return 0;
		if (cpx_mono_ns() > end)
			return cpx_err_set(err, CPX_E_TIMEOUT,
					   "new process %d does not come up", pid);
		usleep(20);
	}
}

/*
 * Take over the empty child: it sleeps in pause(), so two bytes before its ip stands a system
 * call instruction, and below its stack pointer is room. That maps the home page.
 */
static int take_root(struct cpx_rst *r, struct cpx_rst_task *t, pid_t pid, struct cpx_err *err)
{
	uintptr_t opts = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK |
			 PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_SUSPEND_SECCOMP;
	struct cpx_tracee *tr = &t->threads[0].t;
	struct cpx_home borrowed;
	const void *code;
	int64_t ret;
	size_t len;
	int rc = until_asleep(pid, err);

	if (rc < 0)
		return rc;
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)opts) < 0)
		return cpx_err_sys(err, errno, "seize new process %d", pid);
	ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	rc = wait_stop(pid, err);
	if (rc == 0)
		rc = adopt(r, tr, &t->home, &t->mem_fd, pid, err);
	if (rc < 0)
		return rc;
	cpx_home_bare((tr->regs.rsp - 32768) & ~4095ull, 8192, &borrowed);
	borrowed.code = tr->regs.rip - 2;
	tr->home = &borrowed;
	rc = cpx_tok(tr, &ret, err, "map the home page", SYS_mmap, r->home_page, r->home_size,
		     PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1ull, 0);
	tr->home = &t->home;
	t->home.user = tr;
	if (rc < 0)
		return rc;
	if ((uint64_t)ret != r->home_page)
		return cpx_err_set(err, CPX_E_SYS, "the home page is not where it should be");
	code = cpx_home_code(&len);
	rc = cpx_tracee_write(tr, r->home_page, code, len, err);
	if (rc < 0)
		return rc;
	return cpx_tok(tr, NULL, err, "clear the parent-death signal", SYS_prctl,
		       PR_SET_PDEATHSIG, 0);
}

static int fork_flags(const struct cpx_rst_task *t, const struct cpx_rst_task *from,
		      uint64_t *flags, struct cpx_err *err)
{
	const struct cpx_rst_task *of[] = { t->mm_of, t->files_of, t->fs_of, t->sighand_of };
	static const uint64_t bits[] = { CLONE_VM, CLONE_FILES, CLONE_FS, CLONE_SIGHAND };

	*flags = 0;
	for (size_t i = 0; i < 4; i++) {
		if (of[i] == t)
			continue;
		if (from != t->parent)
			return cpx_err_set(
				err, CPX_E_UNSUPPORTED,
				"process %u shares with its parent but is in another session",
				t->rec->pid);
		*flags |= bits[i];
	}
	return 0;
}

/* Fork task @t from tracee @by. @task_by: the task that @by is, NULL for a helper. */
static int fork_task(struct tree *tr, struct cpx_rst_task *t, struct cpx_tracee *by,
		     const struct cpx_rst_task *task_by, bool clone_parent, struct cpx_err *err)
{
	uint64_t flags;
	pid_t pid, inner;
	int rc = fork_flags(t, task_by, &flags, err);

	if (rc < 0)
		return rc;
	if (clone_parent)
		flags |= CLONE_PARENT;
	rc = cpx_tracee_fork(by, flags, clone_parent ? 0 : (int)t->rec->exit_signal,
			     (pid_t)t->rec->pid, 0, &pid, &inner, err);
	if (rc == CPX_E_EXIST)
		return cpx_err_set(
			err, CPX_E_EXIST,
			"PID %u is in use; end that process or restore with --pids=new",
			t->rec->pid);
	if (rc < 0)
		return rc;
	t->pid = pid;
	t->mem_from = task_by;
	return adopt(tr->r, &t->threads[0].t, &t->home, &t->mem_fd, pid, err);
}

static int make_helper(struct tree *tr, struct cpx_rst_task *parent, struct cpx_tracee *by,
		       uint32_t pid, int exit_signal, struct helper **out, struct cpx_err *err)
{
	struct helper *h;
	pid_t host;
	int rc;

	if (tr->nhelpers == HELPERS_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "more than %d dead leaders", HELPERS_MAX);
	h = &tr->helpers[tr->nhelpers];
	rc = cpx_tracee_fork(by, 0, exit_signal, (pid_t)pid, 0, &host, NULL, err);
	if (rc < 0)
		return cpx_err_wrap(err, "stand in for dead leader %u", pid);
	*h = (struct helper){ .mem_fd = -1, .pid = pid, .parent = parent };
	tr->nhelpers++;
	rc = adopt(tr->r, &h->t, &h->home, &h->mem_fd, host, err);
	*out = h;
	return rc;
}

/* --- sessions
 * --------------------------------------------------------------------------------- */

static struct cpx_rst_task *task_by_pid(struct tree *tr, uint32_t pid)
{
	for (size_t i = 0; i < tr->r->ntasks; i++)
		if (tr->r->tasks[i].rec->pid == pid)
			return &tr->r->tasks[i];
	return NULL;
}

/* A process that the parent of @t has forked and that is in the session of @t. */
static struct cpx_rst_task *sibling_in_session(struct tree *tr, const struct cpx_rst_task *t)
{
	for (size_t i = 0; i < tr->r->ntasks; i++) {
		struct cpx_rst_task *s = &tr->r->tasks[i];

		if (s != t && s->pid && s->parent == t->parent && s->rec->sid == t->rec->sid &&
		    s->rec->state != CPX_TASK_ZOMBIE)
			return s;
	}
	return NULL;
}

static struct cpx_rst_task *member_of(struct tree *tr, uint32_t sid)
{
	for (size_t i = 0; i < tr->r->ntasks; i++) {
		struct cpx_rst_task *s = &tr->r->tasks[i];

		if (s->pid && s->rec->sid == sid && s->rec->state != CPX_TASK_ZOMBIE)
			return s;
	}
	return NULL;
}

/*
 * The true parent of @t died and it went to a reaper: let somebody of its session fork an
 * intermediate that forks it and ends, so that it goes the same way.
 */
static int fork_orphan(struct tree *tr, struct cpx_rst_task *t, struct cpx_rst_task *member,
		       struct cpx_err *err)
{
	struct helper mid = { .mem_fd = -1 };
	pid_t host;
	int64_t ret;
	int rc = cpx_tracee_fork(&member->threads[0].t, 0, 0, 0, 0, &host, NULL, err);

	if (rc < 0)
		return rc;
	rc = adopt(tr->r, &mid.t, &mid.home, &mid.mem_fd, host, err);
	if (rc == 0 && t->parent->rec->subreaper)
		rc = cpx_tok(&t->parent->threads[0].t, NULL, err, "become a subreaper",
			     SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
	if (rc == 0)
		rc = fork_task(tr, t, &mid.t, NULL, false, err);
	if (rc == 0)
		rc = cpx_tracee_exit(&mid.t, 0, err);
	if (rc == 0)
		rc = cpx_tok(&member->threads[0].t, &ret, err, "reap", SYS_wait4, -1ull, 0,
			     WNOHANG | __WALL);
	cpx_tracee_free(&mid.t);
	cpx_close(&mid.mem_fd);
	return rc;
}

/* @t is in a session that its parent is not and was not in. */
static int create_foreign(struct tree *tr, struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_rst_task *sibling = sibling_in_session(tr, t);
	struct cpx_rst_task *member = member_of(tr, t->rec->sid);
	struct helper *h = NULL;
	int rc;

	if (sibling)
		return fork_task(tr, t, &sibling->threads[0].t, NULL, true, err);
	if (member)
		return fork_orphan(tr, t, member, err);
	for (size_t i = 0; i < tr->nhelpers; i++)
		if (tr->helpers[i].sid == t->rec->sid && tr->helpers[i].parent == t->parent)
			h = &tr->helpers[i];
	if (!h) {
		if (task_by_pid(tr, t->rec->sid))
			return cpx_err_set(
				err, CPX_E_UNSUPPORTED,
				"process %u is in the session of %u, which comes after it",
				t->rec->pid, t->rec->sid);
		/* what is cloned as its sibling gets its exit signal */
		rc = make_helper(tr, t->parent, &t->parent->threads[0].t, t->rec->sid,
				 (int)t->rec->exit_signal, &h, err);
		if (rc == 0)
			rc = cpx_tok(&h->t, NULL, err, "setsid", SYS_setsid, 0);
		if (rc < 0)
			return rc;
		h->sid = t->rec->sid;
	}
	return fork_task(tr, t, &h->t, NULL, true, err);
}

enum when { BEFORE_SETSID, AFTER_SETSID, FOREIGN };

/* When the parent, which was born in session @born, forks child @k. */
static enum when when_to_fork(const struct tree *tr, const struct cpx_rst_task *k,
			      uint32_t born)
{
	uint32_t sid = k->rec->sid ? k->rec->sid : tr->outer_sid;
	uint32_t mine = k->parent->rec->sid ? k->parent->rec->sid : tr->outer_sid;

	if (k->rec->sid == k->rec->pid || sid == mine)
		return AFTER_SETSID;
	return sid == born ? BEFORE_SETSID : FOREIGN;
}

static int grow(struct tree *tr, struct cpx_rst_task *t, uint32_t born, struct cpx_err *err);

static int fork_children(struct tree *tr, struct cpx_rst_task *t, uint32_t born, enum when when,
			 struct cpx_err *err)
{
	for (size_t i = 0; i < tr->r->ntasks; i++) {
		struct cpx_rst_task *k = &tr->r->tasks[i];
		uint32_t sid = when == BEFORE_SETSID ? born
			       : t->rec->sid	     ? t->rec->sid
						     : tr->outer_sid;
		int rc;

		if (k->parent != t || k->pid || when_to_fork(tr, k, born) != when)
			continue;
		if (when == FOREIGN) {
			rc = create_foreign(tr, k, err);
			sid = k->rec->sid;
		} else {
			rc = fork_task(tr, k, &t->threads[0].t, t, false, err);
		}
		if (rc == 0)
			rc = grow(tr, k, sid, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Task @t has just been made, in session @born: its memory, its children, its session. */
static int grow(struct tree *tr, struct cpx_rst_task *t, uint32_t born, struct cpx_err *err)
{
	bool leads = t->rec->sid == t->rec->pid;
	int rc = 0;

	if (t->rec->state != CPX_TASK_ZOMBIE && t->mm_of == t)
		rc = cpx_rst_mem_fill(tr->r, t, err);
	if (rc == 0)
		rc = fork_children(tr, t, born, BEFORE_SETSID, err);
	if (rc == 0 && leads)
		rc = cpx_tok(&t->threads[0].t, NULL, err, "setsid", SYS_setsid, 0);
	if (rc == 0 && leads)
		rc = cpx_rst_tty_leader(tr->r, t, err);
	if (rc == 0)
		rc = fork_children(tr, t, born, AFTER_SETSID, err);
	if (rc == 0)
		rc = fork_children(tr, t, born, FOREIGN, err);
	return rc;
}

/* --- groups
 * ------------------------------------------------------------------------------------ */

/* A leader for group @pgid, whose own leader is dead: a child of @t while it is needed. */
static int stand_in(struct tree *tr, struct cpx_rst_task *t, uint32_t pgid, struct cpx_err *err)
{
	struct helper *h;
	int rc;

	for (size_t i = 0; i < tr->nhelpers; i++)
		if (tr->helpers[i].pid == pgid)
			return 0;
	rc = make_helper(tr, t, &t->threads[0].t, pgid, 0, &h, err);
	if (rc == 0)
		rc = cpx_tok(&h->t, NULL, err, "setpgid", SYS_setpgid, 0, 0);
	return rc;
}

static int set_groups(struct tree *tr, struct cpx_err *err)
{
	struct cpx_rst *r = tr->r;
	int rc = 0;

	for (size_t i = 0; i < r->ntasks && rc == 0; i++) {
		struct cpx_rst_task *t = &r->tasks[i];

		if (t->rec->pgid == t->rec->pid && t->rec->sid != t->rec->pid)
			rc = cpx_tok(&t->threads[0].t, NULL, err, "setpgid", SYS_setpgid, 0, 0);
	}
	for (size_t i = 0; i < r->ntasks && rc == 0; i++) {
		struct cpx_rst_task *t = &r->tasks[i];
		uint32_t pgid = t->rec->pgid;

		if (!pgid || pgid == t->rec->pid || pgid == tr->outer_pgid)
			continue;
		if (!task_by_pid(tr, pgid))
			rc = stand_in(tr, t, pgid, err);
		if (rc == 0)
			rc = cpx_tok(&t->threads[0].t, NULL, err, "setpgid", SYS_setpgid, 0,
				     pgid);
	}
	return rc;
}

static int end_helpers(struct tree *tr, struct cpx_err *err)
{
	for (size_t i = tr->nhelpers; i-- > 0;) {
		struct helper *h = &tr->helpers[i];
		int rc = cpx_tracee_exit(&h->t, 0, err);

		if (rc == 0)
			rc = cpx_tok(&h->parent->threads[0].t, NULL, err, "reap", SYS_wait4,
				     h->pid, 0, __WALL);
		cpx_tracee_free(&h->t);
		cpx_close(&h->mem_fd);
		tr->nhelpers = i;
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int end_zombies(struct tree *tr, struct cpx_err *err)
{
	for (size_t i = 0; i < tr->r->ntasks; i++) {
		struct cpx_rst_task *t = &tr->r->tasks[i];
		struct cpx_tracee *th = &t->threads[0].t;
		uint64_t lim[2] = { 0, 0 };
		uint64_t at;
		int rc;

		if (t->rec->state != CPX_TASK_ZOMBIE)
			continue;
		/* its name is all that is left to be seen; and no core file of ours */
		cpx_tracee_reset(th);
		at = cpx_tracee_push(th, t->rec->comm ? t->rec->comm : "", 16);
		rc = cpx_tok(th, NULL, err, "name", SYS_prctl, PR_SET_NAME, at);
		at = cpx_tracee_push(th, lim, sizeof(lim));
		if (rc == 0)
			rc = cpx_tok(th, NULL, err, "core limit", SYS_prlimit64, 0, 4, at, 0);
		if (rc == 0)
			rc = cpx_tracee_exit(th, (int)t->rec->exit_status, err);
		cpx_tracee_free(th);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int cpx_rst_tree(struct cpx_rst *r, struct cpx_err *err)
{
	struct cpx_rst_task *root = &r->tasks[0];
	struct tree tr = { .r = r };
	pid_t pid;
	int rc;

	tr.outer_sid = root->rec->sid == root->rec->pid ? 0 : root->rec->sid;
	tr.outer_pgid = root->rec->pgid == root->rec->pid ? 0 : root->rec->pgid;
	tr.helpers = calloc(HELPERS_MAX, sizeof(*tr.helpers));
	if (!tr.helpers)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the process list");
	pid = cpx_rst_spawn(r, err);
	rc = pid < 0 ? pid : 0;
	if (rc == 0) {
		root->pid = pid;
		cpx_rst_cpu_join(r, pid);
		rc = take_root(r, root, pid, err);
	}
	if (rc == 0)
		rc = cpx_rst_mounts(r, root, err);
	if (rc == 0)
		rc = grow(&tr, root, tr.outer_sid, err);
	if (rc == 0)
		rc = set_groups(&tr, err);
	if (rc == 0)
		rc = end_helpers(&tr, err);
	if (rc == 0)
		rc = end_zombies(&tr, err);
	for (size_t i = 0; i < tr.nhelpers; i++) {
		kill(tr.helpers[i].t.pid, SIGKILL);
		waitpid(tr.helpers[i].t.pid, NULL, __WALL);
		cpx_tracee_free(&tr.helpers[i].t);
		cpx_close(&tr.helpers[i].mem_fd);
	}
	free(tr.helpers);
	return rc;
}

/* --- threads
 * ------------------------------------------------------------------------------------ */

int cpx_rst_threads(struct cpx_rst *r, struct cpx_err *err)
{
	const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
			       CLONE_THREAD | CLONE_SYSVSEM;

	for (size_t i = 0; i < r->ntasks; i++) {
		struct cpx_rst_task *t = &r->tasks[i];

		for (size_t k = 1; k < t->nthreads; k++) {
			struct cpx_rst_thread *th = &t->threads[k];
			pid_t tid;
			int rc = cpx_tracee_fork(&t->threads[0].t, flags, 0,
						 (pid_t)th->rec->tid, 0, &tid, NULL, err);

			if (rc < 0)
				return cpx_err_wrap(err, "thread %u", th->rec->tid);
			th->t = (struct cpx_tracee){
				.pid = t->pid, .tid = tid, .mem_fd = t->mem_fd, .home = &t->home
			};
			rc = cpx_tracee_save(&th->t, err);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

/* --- release
 * ------------------------------------------------------------------------------------- */

/* The thread's own registers and extended state; it stays in PTRACE_EVENT_STOP. */
static int load_thread(struct cpx_rst_thread *th, struct cpx_err *err)
{
	struct cpx_tracee *t = &th->t;
	struct iovec xs = { .iov_base = (void *)th->rec->xstate.p,
			    .iov_len = th->rec->xstate.n };

	if (ptrace(PTRACE_SETREGSET, t->tid, NT_X86_XSTATE, &xs) < 0)
		return cpx_err_sys(err, errno, "set extended state of thread %u", th->rec->tid);
	t->regs = th->regs;
	t->sigmask = th->rec->sigmask;
	t->borrowed = true;
	return cpx_tracee_unborrow(t, err);
}

static bool is_ended(const struct cpx_rst_task *t, size_t k)
{
	return k == 0 && t->nthreads > 1 && t->threads[0].rec->ended;
}

/*
 * A main thread that had ended before the others ends again. Nobody can wait for that; our own
 * death must not kill the others through it any more, but it does through them.
 */
static int end_leader(struct cpx_rst_task *t, struct cpx_err *err)
{
	struct cpx_tracee *lead = &t->threads[0].t;
	struct user_regs_struct regs = lead->regs;
	struct iovec iov = { .iov_base = &regs, .iov_len = sizeof(regs) };
	struct timespec nap = { .tv_nsec = 100000 };
	int64_t ret;
	int rc = cpx_tcall(lead, &ret, err, SYS_getpid, 0); /* mask and registers are ours */

	if (rc < 0)
		return rc;
	regs.rip = lead->home->code;
	regs.rsp = lead->home->data + lead->home->data_size + 64;
	regs.orig_rax = (uint64_t)-1;
	regs.rax = SYS_exit;
	regs.rdi = 0;
	if (ptrace(PTRACE_SETOPTIONS, lead->tid, NULL, NULL) < 0 ||
	    ptrace(PTRACE_SETREGSET, lead->tid, (void *)NT_PRSTATUS, &iov) < 0 ||
	    ptrace(PTRACE_CONT, lead->tid, NULL, NULL) < 0)
		return cpx_err_sys(err, errno, "end the main thread of process %u",
				   t->rec->pid);
	lead->borrowed = false;
	lead->home->user = NULL;
	for (int i = 0; i < 20000; i++) {
		CPX_AUTO_FREE char *text = NULL;
		char path[64], *p;
		int status;

		/* it may still hold the INTERRUPT of an earlier stop */
		if (waitpid(lead->tid, &status, __WALL | WNOHANG) > 0 && WIFSTOPPED(status))
			ptrace(PTRACE_CONT, lead->tid, NULL, NULL);
		snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", t->pid, lead->tid);
		if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
			break;
		p = strrchr(text, ')');
		if (p && p[1] == ' ' && p[2] == 'Z')
			return 0;
		nanosleep(&nap, NULL);
	}
	return cpx_err_set(err, CPX_E_TIMEOUT, "the main thread of process %u does not end",
			   t->rec->pid);
}

static int end_leaders(struct cpx_rst *r, struct cpx_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < r->ntasks && rc == 0; i++)
		if (r->tasks[i].rec->state != CPX_TASK_ZOMBIE && is_ended(&r->tasks[i], 0))
			rc = end_leader(&r->tasks[i], err);
	return rc;
}

static int unmap_home(struct cpx_rst *r, struct cpx_err *err)
{
	/* last task of an address space first: the others still need it */
	for (size_t i = r->ntasks; i-- > 0;) {
		struct cpx_rst_task *t = &r->tasks[i];
		int rc;

		if (t->rec->state == CPX_TASK_ZOMBIE || t->mm_of != t)
			continue;
		rc = cpx_tok(&t->threads[is_ended(t, 0) ? 1 : 0].t, NULL, err,
			     "unmap the home page", SYS_munmap, r->home_page, r->home_size);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int load_all(struct cpx_rst *r, struct cpx_err *err)
{
	for (size_t i = 0; i < r->ntasks; i++) {
		struct cpx_rst_task *t = &r->tasks[i];

		for (size_t k = 0; t->rec->state != CPX_TASK_ZOMBIE && k < t->nthreads; k++) {
			int rc = is_ended(t, k) ? 0 : load_thread(&t->threads[k], err);

			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

/* From the first PTRACE_SETOPTIONS on nothing can fail any more but by death of the process. */
static void let_go(struct cpx_rst *r)
{
	for (size_t i = r->ntasks; i-- > 0;) {
		struct cpx_rst_task *t = &r->tasks[i];

		for (size_t k = 0; t->rec->state != CPX_TASK_ZOMBIE && k < t->nthreads; k++)
			ptrace(PTRACE_SETOPTIONS, t->threads[k].t.tid, NULL, NULL);
	}
	for (size_t i = r->ntasks; i-- > 0;) {
		struct cpx_rst_task *t = &r->tasks[i];

		if (t->rec->state == CPX_TASK_ZOMBIE)
			continue;
		if (t->rec->state != CPX_TASK_STOPPED && r->opts->stopped)
			kill(t->pid, SIGSTOP);
		for (size_t k = t->nthreads; k-- > 0;)
			ptrace(PTRACE_DETACH, t->threads[k].t.tid, NULL, NULL);
	}
}

int cpx_rst_release(struct cpx_rst *r, struct cpx_err *err)
{
	int rc = end_leaders(r, err);

	if (rc == 0)
		rc = unmap_home(r, err);
	if (rc == 0)
		rc = load_all(r, err);
	if (rc == 0)
		let_go(r);
	return rc;
}

void cpx_rst_undo(struct cpx_rst *r)
{
	for (size_t i = 0; i < r->ntasks; i++)
		if (r->tasks[i].pid && r->tasks[i].rec->state != CPX_TASK_ZOMBIE)
			kill(r->tasks[i].pid, SIGKILL);
	for (size_t i = r->ntasks; i-- > 0;) {
		struct cpx_rst_task *t = &r->tasks[i];

		if (!t->pid || t->rec->state == CPX_TASK_ZOMBIE)
			continue;
		for (size_t k = t->nthreads; k-- > 1;)
			if (t->threads[k].t.tid)
				waitpid(t->threads[k].t.tid, NULL, __WALL);
		waitpid(t->pid, NULL, __WALL);
	}
}
