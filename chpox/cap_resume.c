/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_resume.c - system calls in progress (chpox/base/timed.h tells how the kernel treats
 * them).
 *
 * Happy path: before the stop, each thread's call and the kernel's list of sleep timers are
 * noted. After it, the timers that have gone belong to the stopped threads: that gives the
 * deadlines, which nothing else tells. The image gets (call, time left). Threads that go on are
 * put back into calls that the stop ended with EINTR, with what is left of their time.
 *
 * A time-out in the job's memory is changed for the moment between release and the
 * thread's next sleep, and put back by compare: bytes that are not what we wrote are left
 * alone. If we die in between, that one structure keeps the shorter time.
 */
#include "cap_resume.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/patch.h"
#include "base/timed.h"
#include "capture.h"
#include "engine.h"
#include "park.h"
#include "base/proc_task.h"

#define PROC_TEXT_MAX (16u << 20)
#define CODE_BYTES 16
#define CPUS_MAX 1024

/* What a thread did before the stop. */
struct seen {
	pid_t tid;
	long nr;	    /* -1: no call, or not known */
	int64_t blocked_ns; /* -1: not known */
	int32_t cpu;	    /* where it ran last, -1: not known */
	bool timed;	    /* it may have a timer in the kernel's list */
	char wchan[40];
};

struct ctx {
	struct seen *seen; /* ascending by tid */
	size_t nseen;
	struct cpx_timed_sleep *before, *after;
	size_t nbefore, nafter;
	int64_t after_ns; /* when after was read */
	bool compared;	  /* after is there */
	struct cpx_patches patches;
};

/* --- before the stop ------------------------------------------------------------------------
 */

static int read_timers(struct cpx_timed_sleep **out, size_t *n)
{
	CPX_AUTO_FREE char *text = NULL;
	struct cpx_sleep_timer *list = NULL;
	int64_t now;
	int count;

	if (cpx_read_file(AT_FDCWD, "/proc/timer_list", PROC_TEXT_MAX, &text, NULL) <= 0)
		return -1;
	count = cpx_proc_timer_list_parse(text, &list, &now, NULL);
	if (count < 0)
		return -1;
	/* the two structs have one layout; the parser may not know of the matcher */
	_Static_assert(sizeof(struct cpx_sleep_timer) == sizeof(struct cpx_timed_sleep),
		       "layout");
	*out = (struct cpx_timed_sleep *)list;
	*n = (size_t)count;
	return 0;
}

static int read_path(char **out, const char *fmt, pid_t pid, pid_t tid)
{
	char path[80];

	snprintf(path, sizeof(path), fmt, pid, tid);
	return cpx_read_file(AT_FDCWD, path, 65536, out, NULL) < 0 ? -1 : 0;
}

static int64_t exec_start(pid_t pid, pid_t tid)
{
	CPX_AUTO_FREE char *text = NULL;
	int64_t v;

	if (read_path(&text, "/proc/%d/task/%d/sched", pid, tid) < 0 ||
	    cpx_proc_exec_start_parse(text, &v, NULL) < 0)
		return -1;
	return v;
}

/*
 * exec_start is on the clock of the CPU where the thread ran last, and those clocks differ by
 * what each CPU lost to interrupts and its host. So our own is read on that CPU, once for each.
 */
struct clocks {
	struct {
		bool known;
		int64_t offset; /* to be added to get CLOCK_MONOTONIC */
	} cpu[CPUS_MAX];
	cpu_set_t own; /* our own affinity, to be set again */
	bool moved;
};

static int64_t clock_offset(struct clocks *k, int cpu)
{
	struct timespec nap = { .tv_nsec = 1000 };
	cpu_set_t one;
	int64_t start;

	if (cpu < 0 || cpu >= CPUS_MAX)
		return 0;
	if (k->cpu[cpu].known)
		return k->cpu[cpu].offset;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (!k->moved)
		sched_getaffinity(0, sizeof(k->own), &k->own);
	k->moved = true;
	if (sched_setaffinity(0, sizeof(one), &one) < 0)
		cpx_log_debug("cannot look at the clock of CPU %d", cpu);
	nanosleep(&nap, NULL); /* it is brought up to date when we are put on the CPU */
	start = exec_start(getpid(), (pid_t)syscall(SYS_gettid));
	k->cpu[cpu].offset = start < 0 ? 0 : cpx_mono_ns() - start;
	k->cpu[cpu].known = true;
	return k->cpu[cpu].offset;
}

static int last_cpu(pid_t pid, pid_t tid)
{
	CPX_AUTO_FREE char *text = NULL;
	struct cpx_proc_stat st;

	if (read_path(&text, "/proc/%d/task/%d/stat", pid, tid) < 0 ||
	    cpx_proc_stat_parse(text, &st, NULL) < 0)
		return -1;
	return st.processor;
}

static void look(struct seen *s, pid_t pid, pid_t tid, struct clocks *k)
{
	CPX_AUTO_FREE char *text = NULL, *wchan = NULL;
	const struct cpx_timed *d;
	struct cpx_proc_syscall call;
	int64_t start;

	*s = (struct seen){ .tid = tid, .nr = -1, .blocked_ns = -1, .cpu = -1 };
	if (read_path(&text, "/proc/%d/task/%d/syscall", pid, tid) < 0 ||
	    cpx_proc_syscall_parse(text, &call, NULL) < 0 || call.nr < 0)
		return;
	s->nr = call.nr;
	d = cpx_timed_find(call.nr);
	if (call.nr != CPX_NR_RESTART && (!d || !cpx_timed_relative(d, call.args)))
		return;
	s->timed = !d || d->form == CPX_TIMED_MS || d->form == CPX_TIMED_TS;
	if (call.nr == CPX_NR_RESTART &&
	    read_path(&wchan, "/proc/%d/task/%d/wchan", pid, tid) == 0)
		snprintf(s->wchan, sizeof(s->wchan), "%s", wchan);
	s->cpu = last_cpu(pid, tid);
	start = exec_start(pid, tid);
	if (start >= 0)
		s->blocked_ns = start + clock_offset(k, s->cpu);
}

/* Of the timers read first those that are still there now: others' short sleeps are not. */
static void keep_lasting(struct ctx *x)
{
	struct cpx_timed_sleep *now = NULL;
	size_t n = 0, kept = 0;

	if (!x->nbefore || read_timers(&now, &n) < 0)
		return;
	for (size_t i = 0; i < x->nbefore; i++) {
		bool there = false;

		for (size_t k = 0; k < n && !there; k++)
			there = now[k].id == x->before[i].id &&
				now[k].soft_ns == x->before[i].soft_ns;
		if (there)
			x->before[kept++] = x->before[i];
	}
	x->nbefore = kept;
	free(now);
}

static int by_tid(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	return x->tid < y->tid ? -1 : x->tid > y->tid;
}

void cpx_cap_resume_before(struct cpx_cap *c)
{
	struct ctx *x = c->resume = calloc(1, sizeof(*x));
	struct clocks *k = calloc(1, sizeof(*k));
	struct cpx_park tree;
	size_t n = 0;

	if (!x || !k || cpx_park_list(c->opts->root, &tree, NULL) < 0) {
		free(k);
		return;
	}
	if (read_timers(&x->before, &x->nbefore) < 0)
		x->nbefore = 0;
	for (size_t i = 0; i < tree.ntasks; i++)
		n += tree.tasks[i].nthreads;
	x->seen = calloc(n + 1, sizeof(*x->seen));
	for (size_t i = 0; x->seen && i < tree.ntasks; i++)
		for (size_t j = 0; j < tree.tasks[i].nthreads && x->nseen < n; j++)
			look(&x->seen[x->nseen++], tree.tasks[i].pid,
			     tree.tasks[i].threads[j].tid, k);
	cpx_park_free(&tree);
	if (k->moved)
		sched_setaffinity(0, sizeof(k->own), &k->own);
	free(k);
	if (x->nseen)
		qsort(x->seen, x->nseen, sizeof(*x->seen), by_tid);
	keep_lasting(x);
}

void cpx_cap_resume_parked(struct cpx_cap *c)
{
	struct ctx *x = c->resume;
	bool any = false;

	for (size_t i = 0; x && i < x->nseen; i++)
		any = any || x->seen[i].timed;
	if (any && x->nbefore)
		x->compared = read_timers(&x->after, &x->nafter) == 0;
	if (x)
		x->after_ns = cpx_mono_ns();
}

void cpx_cap_resume_free(struct cpx_cap *c)
{
	struct ctx *x = c->resume;

	if (!x)
		return;
	cpx_patches_free(&x->patches);
	free(x->seen);
	free(x->before);
	free(x->after);
	free(x);
	c->resume = NULL;
}

/* --- parked: what is each thread in? --------------------------------------------------------
 */

/* One thread in a timed call whose rest is to be found. */
struct sought {
	struct cpx_cap_task *t;
	struct cpx_cap_thread *th;
	const struct cpx_timed *d;
	struct cpx_timed_want want;
};

struct search {
	struct sought *v;
	size_t n, cap;
};

static const struct seen *seen_of(const struct ctx *x, pid_t tid)
{
	struct seen key = { .tid = tid };

	return x && x->nseen ? bsearch(&key, x->seen, x->nseen, sizeof(key), by_tid) : NULL;
}

static int read_span(const struct cpx_cap_task *t, uint64_t addr, int64_t *ns)
{
	struct timespec ts;

	if (cpx_pread_full(t->mem_fd, &ts, sizeof(ts), addr) != (ssize_t)sizeof(ts) ||
	    ts.tv_nsec < 0 || ts.tv_nsec > 999999999 || ts.tv_sec < 0)
		return -1;
	*ns = ts.tv_sec > 9000000000ll ? INT64_MAX : ts.tv_sec * 1000000000ll + ts.tv_nsec;
	return 0;
}

/* The descriptor's time-out in ns; -1: none, or no socket. */
static int64_t socket_timeout(const struct cpx_cap_task *t, uint64_t fd, int opt)
{
	CPX_AUTO_FD here = (int)syscall(SYS_pidfd_getfd, t->pidfd, (int)fd, 0);
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);

	if (here < 0 || getsockopt(here, SOL_SOCKET, opt, &tv, &len) < 0)
		return -1;
	if (tv.tv_sec == 0 && tv.tv_usec == 0)
		return -1;
	return tv.tv_sec > 9000000000ll ? -1 : tv.tv_sec * 1000000000ll + tv.tv_usec * 1000;
}

/* What the call asked for in ns; -1: no limit, or it cannot be read. */
static int64_t asked_ns(const struct cpx_cap_task *t, const struct cpx_timed *d,
			const uint64_t args[6])
{
	int64_t ns = -1;

	switch (d->form) {
	case CPX_TIMED_MS:
		return (int64_t)(int)args[d->arg] * 1000000;
	case CPX_TIMED_TS:
		return read_span(t, args[d->arg], &ns) < 0 ? -1 : ns;
	case CPX_TIMED_RCV:
		return socket_timeout(t, args[0], SO_RCVTIMEO);
	case CPX_TIMED_SND:
		return socket_timeout(t, args[0], SO_SNDTIMEO);
	default:
		return -1;
	}
}

static int seek(struct search *s, struct cpx_cap_task *t, struct cpx_cap_thread *th,
		const struct cpx_timed *d, int64_t asked, const struct seen *seen)
{
	struct sought *v;

	if (s->n == s->cap) {
		v = realloc(s->v, (s->cap = s->cap ? 2 * s->cap : 16) * sizeof(*v));
		if (!v)
			return CPX_E_NOMEM;
		s->v = v;
	}
	v = &s->v[s->n++];
	*v = (struct sought){ .t = t, .th = th, .d = d };
	v->want = (struct cpx_timed_want){
		.asked_ns = asked,
		.blocked_ns = seen ? seen->blocked_ns : -1,
		.first = th->t.regs.orig_rax != CPX_NR_RESTART,
		.wide = d->nr == SYS_poll || d->nr == SYS_epoll_wait ||
			d->nr == SYS_epoll_pwait || d->nr == SYS_epoll_pwait2,
		.slack_ns = (int64_t)th->rec->timerslack_ns,
		.cpu = seen ? seen->cpu : -1,
	};
	return 0;
}

static long call_of(const struct ctx *x, const struct cpx_cap_task *t,
		    const struct cpx_cap_thread *th, const uint64_t args[6])
{
	const struct seen *seen = seen_of(x, th->t.tid);
	uint8_t code[CODE_BYTES];
	uint64_t at = th->t.regs.rip - 2 - CODE_BYTES;
	long nr = (long)th->t.regs.orig_rax;

	if (nr != CPX_NR_RESTART)
		return nr;
	if (cpx_pread_full(t->mem_fd, code, sizeof(code), at) != (ssize_t)sizeof(code))
		return cpx_timed_guess(args, NULL, 0, seen ? seen->wchan : NULL);
	return cpx_timed_guess(args, code, sizeof(code), seen ? seen->wchan : NULL);
}

static int note_thread(struct cpx_cap *c, struct search *s, struct cpx_cap_task *t,
		       struct cpx_cap_thread *th)
{
	struct ctx *x = c->resume;
	const struct user_regs_struct *r = &th->t.regs;
	struct cpx_rec_thread *rec = th->rec;
	const struct cpx_timed *d;
	uint64_t args[6];
	int64_t ns;
	long nr;

	if ((int64_t)r->orig_rax < 0)
		return 0;
	if ((int64_t)r->rax != -CPX_ERESTART_RESTARTBLOCK && (int64_t)r->rax != -EINTR)
		return 0;
	cpx_timed_args(r, args);
	nr = call_of(x, t, th, args);
	d = nr < 0 ? NULL : cpx_timed_find(nr);
	if (!d && (int64_t)r->rax == -CPX_ERESTART_RESTARTBLOCK)
		cpx_log_note(
			"thread %d: it cannot be told which call waits there; a restart ends "
			"it with EINTR",
			th->ns_tid);
	if (!d)
		return 0;
	rec->resume = CPX_RESUME_REISSUE;
	rec->sys_nr = (uint32_t)nr;
	rec->sys_left_ns = -1;
	if (!cpx_timed_relative(d, args))
		return 0;
	if (c->engine->time_left && c->engine->time_left(c, th, &ns)) {
		rec->resume = ns < 0 ? CPX_RESUME_REISSUE : CPX_RESUME_TIMED;
		rec->sys_left_ns = ns;
		return 0;
	}
	if (d->rem >= 0 && args[d->rem] && d->cls == CPX_TIMED_BLOCK) {
		/* the kernel itself wrote the rest there when the stop came */
		if (read_span(t, args[d->rem], &ns) == 0) {
			rec->resume = CPX_RESUME_TIMED;
			rec->sys_left_ns = ns;
			return 0;
		}
	}
	ns = asked_ns(t, d, args);
	return ns < 0 ? 0 : seek(s, t, th, d, ns, seen_of(x, th->t.tid));
}

/* Time left when no timer was found: from the moment it blocked, else all it asked for. */
static int64_t estimate(const struct cpx_timed_want *w, int64_t now)
{
	int64_t gone = w->first && w->blocked_ns >= 0 ? now - w->blocked_ns : 0;

	if (gone < 0)
		gone = 0;
	return gone >= w->asked_ns ? 0 : w->asked_ns - gone;
}

static int find_deadlines(struct cpx_cap *c, struct search *s, struct cpx_err *err)
{
	struct ctx *x = c->resume;
	CPX_AUTO_FREE struct cpx_timed_want *want = calloc(s->n + 1, sizeof(*want));
	size_t n = 0;
	int64_t now = c->stop_ns ? c->stop_ns : cpx_mono_ns();

	if (!want)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for time-outs");
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].d->form == CPX_TIMED_MS || s->v[i].d->form == CPX_TIMED_TS)
			want[n++] = s->v[i].want;
	if (n && x && x->compared)
		cpx_timed_match(x->before, x->nbefore, x->after, x->nafter, now, x->after_ns,
				want, n);
	else
		for (size_t i = 0; i < n; i++)
			want[i].deadline_ns = -1;
	for (size_t i = 0, k = 0; i < s->n; i++) {
		struct cpx_rec_thread *rec = s->v[i].th->rec;
		int64_t deadline = -1;

		if (s->v[i].d->form == CPX_TIMED_MS || s->v[i].d->form == CPX_TIMED_TS)
			deadline = want[k++].deadline_ns;
		rec->resume = CPX_RESUME_TIMED;
		rec->sys_left_ns = deadline < 0 ? estimate(&s->v[i].want, now) : deadline - now;
		if (rec->sys_left_ns < 0)
			rec->sys_left_ns = 0;
		cpx_log_debug(
			"thread %u: call %u, asked %lld us, asleep for %lld us on CPU %d: "
			"%lld us left%s",
			rec->tid, rec->sys_nr, (long long)s->v[i].want.asked_ns / 1000,
			(long long)(now - s->v[i].want.blocked_ns) / 1000, s->v[i].want.cpu,
			(long long)rec->sys_left_ns / 1000,
			deadline < 0 ? " (no timer found)" : "");
	}
	return 0;
}

int cpx_cap_resume_note(struct cpx_cap *c, struct cpx_err *err)
{
	struct search s = { 0 };
	int rc = 0;

	for (size_t i = 0; i < c->ntasks && rc == 0; i++)
		for (size_t k = 0; k < c->tasks[i]->nthreads && rc == 0; k++)
			rc = note_thread(c, &s, c->tasks[i], &c->tasks[i]->threads[k]);
	if (rc < 0)
		rc = cpx_err_set(err, rc, "no memory for time-outs");
	else if (s.n)
		rc = find_deadlines(c, &s, err);
	free(s.v);
	return rc;
}

/* --- going on --------------------------------------------------------------------------------
 */

/* The rest of its time for a call that is issued again, where that is not in a register. */
static void shorten(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
		    const struct cpx_timed *d, const uint64_t args[6], int64_t left)
{
	struct ctx *x = c->resume;
	int opt = d->form == CPX_TIMED_RCV ? SO_RCVTIMEO : SO_SNDTIMEO;

	/* a stopped job: nobody knows when it will read its time-out */
	if (!x || t->rec->state == CPX_TASK_STOPPED)
		return;
	if (d->form == CPX_TIMED_TS)
		cpx_patch_memory(&x->patches, t->pid, th->t.tid, d->nr, t->mem_fd, args[d->arg],
				 left);
	else
		cpx_patch_socket(&x->patches, t->pid, th->t.tid, d->nr, t->pidfd, (int)args[0],
				 opt, left);
}

int cpx_cap_resume_running(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
			   struct cpx_err *err)
{
	struct user_regs_struct regs = th->t.regs;
	const struct cpx_timed *d;
	uint64_t args[6];
	int64_t left;
	int arg = -1;

	if ((int64_t)regs.orig_rax < 0 || (int64_t)regs.rax != -EINTR)
		return 0;
	d = cpx_timed_find((long)regs.orig_rax);
	if (!d || d->cls != CPX_TIMED_EINTR)
		return 0;
	cpx_timed_args(&regs, args);
	regs.rax = (uint64_t)-CPX_ERESTARTNOHAND;
	left = th->rec->sys_left_ns - (cpx_mono_ns() - c->stop_ns);
	if (left < 0)
		left = 0;
	if (th->rec->resume == CPX_RESUME_TIMED && d->form == CPX_TIMED_MS) {
		arg = (int)d->arg;
		cpx_timed_set_arg(&regs, d->arg, (uint64_t)cpx_timed_ms(left));
	} else if (th->rec->resume == CPX_RESUME_TIMED) {
		shorten(c, t, th, d, args, left);
	}
	return c->engine->again(c, th, &regs, arg, err);
}

void cpx_cap_resume_released(struct cpx_cap *c)
{
	struct ctx *x = c->resume;

	if (x)
		cpx_patches_put_back(&x->patches);
}
