/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * restore.c - the conductor: stages from an open image to a running tree.
 *
 * Until the last stage every process built is held with PTRACE_O_EXITKILL; a failed stage
 * kills and reaps what there is and leaves nothing.
 */
#include "restore.h"

#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/fault.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "rst_mem.h"
#include "rst_spawn.h"
#include "rst_tree.h"

#define GHOSTS_NS 10000000000ll

static const struct cpx_rst_family *const families[] = {
	&cpx_rst_core, &cpx_rst_mem, &cpx_rst_files, &cpx_rst_ipc, &cpx_rst_sig,
};
#define NFAMILIES (sizeof(families) / sizeof(families[0]))

#define ZOMBIE_NAPS 300 /* of 10 ms */

struct run {
	struct cpx_rst r;
	struct cpx_restore_result *res;
	size_t prepared;
};

/* --- the empty child ------------------------------------------------------------------------
 */

void cpx_restore_child(int conductor_pidfd)
{
	struct pollfd conductor = { .fd = 0, .events = POLLIN };
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int sig = 1; sig <= 64; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* the kernel must not write to the C library's areas once they are gone */
	syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, 32, 1, RSEQ_SIG);
	syscall(SYS_set_tid_address, NULL);
	syscall(SYS_set_robust_list, NULL, 24);
	if (conductor_pidfd != 0)
		dup2(conductor_pidfd, 0);
	close_range(1, ~0u, 0);
	/* until it is taken over, nobody else ends it when the conductor is no more */
	while (poll(&conductor, 1, -1) != 1)
		;
	_exit(1);
}

/* A zombie that holds the PID we want goes as soon as its parent looks: wait for that a little.
 */
static bool is_zombie(pid_t pid)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (cpx_read_file(AT_FDCWD, path, 65536, &text, NULL) < 0)
		return true; /* gone meanwhile */
	p = strrchr(text, ')');
	return p && (p[2] == 'Z' || p[2] == 'X');
}

/* PID 1 there is once a namespace: the job was started in one of its own, and leads it. */
uint64_t cpx_restore_spawn_flags(pid_t want)
{
	return want == 1 ? CLONE_NEWPID : 0;
}

static pid_t spawn_here(pid_t want, int pidfd, struct cpx_err *err)
{
	struct timespec nap = { .tv_nsec = 10000000 };
	struct clone_args ca = {
		.flags = cpx_restore_spawn_flags(want),
		.exit_signal = SIGCHLD,
		.set_tid = (uint64_t)(uintptr_t)&want,
		.set_tid_size = 1,
	};
	long pid = syscall(SYS_clone3, &ca, sizeof(ca));

	for (int i = 0; pid < 0 && errno == EEXIST && i < ZOMBIE_NAPS && is_zombie(want); i++) {
		nanosleep(&nap, NULL);
		pid = syscall(SYS_clone3, &ca, sizeof(ca));
	}
	if (pid == 0)
		cpx_restore_child(pidfd);
	if (pid < 0 && errno == EEXIST)
		return cpx_err_set(
			err, CPX_E_EXIST,
			"PID %d is in use; end that process or restore with --pids=new", want);
	if (pid < 0)
		return cpx_err_sys(err, errno, "make process %d", want);
	return (pid_t)pid;
}

/*
 * The same for the PIDs of all others, while nothing exists yet: what was killed a moment ago
 * may not be reaped by whoever inherited it.
 */
static void await_zombies(const struct cpx_rst *r)
{
	struct timespec nap = { .tv_nsec = 10000000 };
	int naps = 0;

	cpx_state_each(r->st, thread, th) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%u", th->tid);
		while (naps < ZOMBIE_NAPS && access(path, F_OK) == 0 &&
		       is_zombie((pid_t)th->tid)) {
			nanosleep(&nap, NULL);
			naps++;
		}
	}
}

pid_t cpx_rst_spawn(struct cpx_rst *r, struct cpx_err *err)
{
	pid_t want = (pid_t)r->tasks[0].rec->pid;
	CPX_AUTO_FD self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	const struct cpx_rec_host *host = cpx_state_rec(r->st, host, 0);
	int old;
	pid_t pid;

	if (self < 0)
		return cpx_err_sys(err, errno, "open own process");
	if (r->opts->spawn)
		return r->opts->spawn(r->opts->spawn_ctx, want, self, host, err);
	if (want != 1)
		await_zombies(r);
	cpx_restore_clocks(host->monotonic_ns, host->boottime_ns, &old);
	pid = spawn_here(want, self, err);
	cpx_restore_clocks_back(&old);
	return pid;
}

/* --- checks ----------------------------------------------------------------------------------
 */

static uint64_t xcr0(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

/* Every instruction-set bit that the job could see must be here. */
static int check_cpu(const struct cpx_rec_host *h, struct cpx_err *err)
{
	static const struct {
		uint32_t leaf, sub, word;
	} regs[] = { { 1, 0, 0 }, { 7, 0, 4 }, { 7, 1, 8 } };
	uint32_t was[16], now[4];

	if (h->xfeatures & ~xcr0())
		return cpx_err_set(
			err, CPX_E_UNSUPPORTED,
			"the job uses extended CPU state (0x%llx) that this CPU lacks",
			(unsigned long long)(h->xfeatures & ~xcr0()));
	if (h->cpu.n != sizeof(was))
		return 0;
	memcpy(was, h->cpu.p, sizeof(was));
	for (size_t i = 0; i < 3; i++) {
		uint32_t lost;

		__cpuid_count(regs[i].leaf, regs[i].sub, now[0], now[1], now[2], now[3]);
		/* of leaf 1 ecx and edx are features; of leaf 7.0 ebx, ecx, edx; of leaf 7.1
		 * eax */
		for (size_t k = 0; k < 4; k++) {
			bool used = regs[i].leaf == 1  ? k >= 2
				    : regs[i].sub == 0 ? k >= 1
						       : k == 0;

			lost = was[regs[i].word + k] & ~now[k];
			if (regs[i].leaf == 1 && k == 2)
				lost &= ~(1u << 27 | 1u << 31); /* OSXSAVE, hypervisor */
			if (used && lost)
				return cpx_err_set(
					err, CPX_E_UNSUPPORTED,
					"this CPU lacks features that the job could see "
					"(CPUID leaf %u.%u word %zu: 0x%x)",
					regs[i].leaf, regs[i].sub, k, lost);
		}
	}
	return 0;
}

static int stage_open(struct run *u, struct cpx_err *err)
{
	struct cpx_rst *r = &u->r;
	const struct cpx_rec_host *h;
	int rc = cpx_image_open(r->opts->store, &r->opts->id, &r->img, err);

	if (rc < 0)
		return rc;
	r->st = cpx_image_state(r->img);
	h = cpx_state_rec(r->st, host, 0);
	if (!h || h->page_size != CPX_PAGE || !h->machine || strcmp(h->machine, "x86_64") != 0)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "the image is of another kind of machine");
	rc = check_cpu(h, err);
	return rc < 0 && r->opts->force ? 0 : rc;
}

/* Packs and map; from here on only the bytes of blocks can be damaged. */
static int stage_check(struct run *u, struct cpx_err *err)
{
	return cpx_image_check(u->r.img, err);
}

static int stage_plan(struct run *u, struct cpx_err *err)
{
	int rc = cpx_rst_plan(&u->r, err);

	return rc < 0 ? rc : cpx_rst_mem_pick_home(&u->r, err);
}

static int stage_prepare(struct run *u, struct cpx_err *err)
{
	for (size_t f = 0; f < NFAMILIES; f++) {
		int rc = 0;

		u->prepared = f + 1;
		if (families[f]->prepare)
			rc = families[f]->prepare(&u->r, &u->r.family[f], err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Dead, but its parent (init, after a dump that kills) has not taken its status yet. */
static bool is_ghost(uint32_t pid)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64];
	const char *p;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return false;
	p = strrchr(text, ')');
	return p && (strncmp(p, ") Z", 3) == 0 || strncmp(p, ") X", 3) == 0);
}

/* Some init processes reap every few seconds only: give them time to free the job's PIDs. */
static void let_ghosts_go(const struct cpx_rst *r)
{
	int64_t end = cpx_mono_ns() + GHOSTS_NS;

	cpx_state_each(r->st, thread, th)
		while (is_ghost(th->tid) && cpx_mono_ns() < end)
			usleep(2000);
	cpx_state_each(r->st, task, t)
		while (is_ghost(t->pid) && cpx_mono_ns() < end)
			usleep(2000);
}

static int stage_tree(struct run *u, struct cpx_err *err)
{
	if (!u->r.opts->spawn && u->r.tasks[0].rec->pid != 1)
		let_ghosts_go(&u->r);
	return cpx_rst_tree(&u->r, err);
}

typedef int (*task_hook)(struct cpx_rst *r, void *priv, struct cpx_rst_task *t,
			 struct cpx_err *err);

static int each_task(struct run *u, size_t f, task_hook hook, struct cpx_err *err)
{
	for (size_t i = 0; hook && i < u->r.ntasks; i++) {
		struct cpx_rst_task *t = &u->r.tasks[i];
		int rc = 0;

		if (t->rec->state != CPX_TASK_ZOMBIE)
			rc = hook(&u->r, u->r.family[f], t, err);
		if (rc < 0)
			return cpx_err_wrap(err, "%s of process %u", families[f]->name,
					    t->rec->pid);
	}
	return 0;
}

static int stage_tasks(struct run *u, struct cpx_err *err)
{
	int rc = 0;

	for (size_t f = 0; f < NFAMILIES && rc == 0; f++)
		rc = each_task(u, f, families[f]->task, err);
	return rc;
}

static int stage_threads(struct run *u, struct cpx_err *err)
{
	return cpx_rst_threads(&u->r, err);
}

static int stage_late(struct run *u, struct cpx_err *err)
{
	int rc = 0;

	for (size_t f = 0; f < NFAMILIES && rc == 0; f++)
		rc = each_task(u, f, families[f]->late, err);
	return rc;
}

static int each_thread(struct run *u, struct cpx_rst_task *t, struct cpx_err *err)
{
	for (size_t f = 0; f < NFAMILIES; f++) {
		for (size_t k = t->nthreads; families[f]->thread && k-- > 0;) {
			int rc = families[f]->thread(&u->r, u->r.family[f], t, &t->threads[k],
						     err);

			if (rc < 0)
				return cpx_err_wrap(err, "%s of thread %u", families[f]->name,
						    t->threads[k].rec->tid);
		}
	}
	return 0;
}

static int stage_each_thread(struct run *u, struct cpx_err *err)
{
	/* calls in progress are begun again from here on, and may write times that are left */
	if (u->r.opts->rehearse) {
		int rc = cpx_rst_mem_compare(&u->r, &u->res->bytes_memory, err);

		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < u->r.ntasks; i++) {
		int rc = u->r.tasks[i].rec->state == CPX_TASK_ZOMBIE
				 ? 0
				 : each_thread(u, &u->r.tasks[i], err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Instead of letting it go: is all of it there? */
static int look(struct run *u, struct cpx_err *err)
{
	for (size_t i = 0; i < u->r.ntasks; i++) {
		const struct cpx_rst_task *t = &u->r.tasks[i];
		char path[64];

		for (size_t k = 0; t->rec->state != CPX_TASK_ZOMBIE && k < t->nthreads; k++) {
			snprintf(path, sizeof(path), "/proc/%d/task/%d", t->pid,
				 t->threads[k].t.tid);
			if (access(path, F_OK) < 0)
				return cpx_err_set(err, CPX_E_GONE,
						   "thread %u of process %u is not there",
						   t->threads[k].rec->tid, t->rec->pid);
		}
	}
	return 0;
}

static int stage_release(struct run *u, struct cpx_err *err)
{
	int rc = u->r.opts->rehearse ? look(u, err) : cpx_rst_release(&u->r, err);

	if (u->r.opts->rehearse)
		return rc;

	for (size_t f = 0; f < NFAMILIES && rc == 0; f++)
		if (families[f]->released)
			families[f]->released(&u->r, u->r.family[f]);
	return rc;
}

static const struct stage {
	const char *name; /* also the fault point "restore.NAME" */
	int (*run)(struct run *u, struct cpx_err *err);
} stages[] = {
	{ "open", stage_open },	      { "check", stage_check }, { "plan", stage_plan },
	{ "prepare", stage_prepare }, { "tree", stage_tree },	{ "tasks", stage_tasks },
	{ "threads", stage_threads }, { "late", stage_late },	{ "each", stage_each_thread },
	{ "release", stage_release },
};

static int run_stages(struct run *u, struct cpx_err *err)
{
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		int64_t begun = cpx_mono_ns();
		char point[64];
		int rc;

		snprintf(point, sizeof(point), "restore.%s", stages[i].name);
		rc = cpx_fault(point);
		rc = rc ? cpx_err_sys(err, rc, "stage %s", stages[i].name)
			: stages[i].run(u, err);
		cpx_log_debug("restart: %s %.3f ms", stages[i].name,
			      (double)(cpx_mono_ns() - begun) / 1e6);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void clean_up(struct run *u, bool failed)
{
	struct cpx_rst *r = &u->r;

	cpx_rst_cpu_leave(r);
	if (failed)
		cpx_rst_undo(r);
	for (size_t f = u->prepared; f-- > 0;)
		if (families[f]->end)
			families[f]->end(r, r->family[f]);
	for (size_t i = 0; i < r->ntasks; i++) {
		for (size_t k = 0; r->tasks[i].threads && k < r->tasks[i].nthreads; k++)
			cpx_tracee_free(&r->tasks[i].threads[k].t);
		free(r->tasks[i].threads);
		cpx_close(&r->tasks[i].mem_fd);
	}
	free(r->tasks);
	cpx_image_close(r->img);
}

int cpx_restore_run(const struct cpx_restore_opts *opts, struct cpx_restore_result *res,
		    struct cpx_err *err)
{
	struct cpx_restore_result result = { 0 };
	struct run u = { .r = { .opts = opts }, .res = &result };
	int64_t start = cpx_mono_ns();
	struct cpx_err local;
	int rc;

	if (!err)
		err = &local;
	rc = run_stages(&u, err);
	if (rc == 0) {
		result.root = u.r.tasks[0].pid;
		result.tasks = (uint32_t)u.r.ntasks;
		for (size_t i = 0; i < u.r.ntasks; i++)
			result.threads += (uint32_t)u.r.tasks[i].nthreads;
		result.total_ns = cpx_mono_ns() - start;
		*res = result;
	}
	clean_up(&u, rc < 0 || opts->rehearse);
	return rc;
}
