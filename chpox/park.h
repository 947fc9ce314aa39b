/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * park.h - stopping a whole process tree with ptrace, without missing anybody.
 *
 * cpx_park() returns when every thread of every live process from @root down is in
 * PTRACE_EVENT_STOP. Stopping is borrowed: if we die, the kernel detaches all and the tree
 * runs on. All calls come from one thread, the tracer.
 *
 * Why nobody is missed: known tasks are stopped and cannot fork, so an unknown live one has
 * a topmost unknown ancestor in the children list of a known task; lists grow only by
 * reparenting, which goes to an ancestor, and ancestors are read after their descendants.
 */
#ifndef CPX_PARK_H
#define CPX_PARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_err;

struct cpx_park_thread {
	pid_t tid;
	bool stopped; /* in PTRACE_EVENT_STOP */
	bool gone;
	int group_stop; /* the stop signal, when the job itself was stopped; else 0 */
};

struct cpx_park_task {
	pid_t pid, ppid;
	unsigned depth;
	bool zombie, gone, suspend_seccomp;
	struct cpx_park_thread *threads; /* [0] the leader */
	size_t nthreads, cap;
};

struct cpx_park {
	struct cpx_park_task *tasks; /* root first, parents before children */
	size_t ntasks, cap;
	int64_t first_stop_ns; /* CLOCK_MONOTONIC, when the first was asked to stop */
};

/*
 * cpx_park() - seize and stop the tree.
 * @timeout_ns: CPX_E_TIMEOUT after that (a vfork or uninterruptible sleep that does not end).
 * On failure everything is released again.
 */
int cpx_park(pid_t root, int64_t timeout_ns, struct cpx_park *park, struct cpx_err *err);

/* List the tree without touching it, in the same form (nothing stopped). */
int cpx_park_list(pid_t root, struct cpx_park *park, struct cpx_err *err);

/* Let everything go on that is still held. @stop: leave it stopped by SIGSTOP. */
void cpx_park_release(struct cpx_park *park, bool stop);

/* SIGKILL all, reap what the tracer must reap. */
void cpx_park_kill(struct cpx_park *park);
void cpx_park_free(struct cpx_park *park);

#endif
