/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * engine.h - what stops a tree, tells what only the kernel or the process itself knows, copies
 * memory copy-on-write, and lets the tree go on. The flow (capture.c) and the families are the
 * same for each engine.
 *
 * ptrace  anywhere; what nobody outside can see is asked by calls run in the job's threads.
 * module  /dev/chpox (docs/kernel-abi.md): no ptrace and no code in the job.
 *
 * All calls come from the thread that parked. Functions of the table return 0 or CPX_E_*, and
 * have the tree parked, unless they say otherwise.
 */
#ifndef CPX_ENGINE_H
#define CPX_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "capture.h"

struct cpx_park;
struct cpx_proc_status;
struct user_regs_struct;

struct cpx_engine {
	const char *name;
	bool injects; /* it runs calls in the job's threads: th->t is held by ptrace */

	/*
	 * Stop the tree and list it; c->tasks is not there yet. CPX_E_UNSUPPORTED: nothing is
	 * stopped, and another engine may do better.
	 */
	int (*park)(struct cpx_cap *c, struct cpx_park *park, int64_t timeout_ns,
		    struct cpx_err *err);
	/* Fill th->t: registers, extended state, signal mask. CPX_E_UNSUPPORTED: 32-bit code.
	 */
	int (*registers)(struct cpx_cap *c, struct cpx_cap_thread *th, struct cpx_err *err);
	/* Each task with an address space of its own, before the families. */
	int (*settle)(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err);

	/* Fill th->rec: alternate stack, clear_tid, rseq, and what prctl() tells a thread. */
	int (*thread)(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
		      struct cpx_err *err);
	/* Fill t->rec: dumpable, subreaper, mdwe, membarrier. */
	int (*process)(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err);
	/* Records of actions, timers and queued signals. @s: /proc/PID/status. */
	int (*signals)(struct cpx_cap *c, struct cpx_cap_task *t,
		       const struct cpx_proc_status *s, struct cpx_err *err);
	/* Fill brk and mlock_future, and make pkeys exact where it can. @locked: some of it is
	 * locked. */
	int (*space)(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_rec_mm *rec,
		     bool locked, struct cpx_err *err);
	/* What is left of the sleep that @th is in; -1: it has no end. NULL, false: not known.
	 */
	bool (*time_left)(const struct cpx_cap *c, const struct cpx_cap_thread *th,
			  int64_t *ns);

	/* As cpx_snap_take() says; and undone, also after a failure of it. */
	int (*snapshot)(struct cpx_cap *c, struct cpx_err *err);
	void (*drop)(struct cpx_cap *c);

	/* The thread's own registers are in place again. */
	int (*give_back)(struct cpx_cap *c, struct cpx_cap_thread *th, struct cpx_err *err);
	/*
	 * It is to call again what the stop would end with EINTR: @regs are its registers for
	 * that; where @arg is not negative, argument @arg was changed in them.
	 */
	int (*again)(struct cpx_cap *c, struct cpx_cap_thread *th,
		     const struct user_regs_struct *regs, int arg, struct cpx_err *err);
	/* Undo settle(). Each task. */
	int (*leave)(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err);
	/* It is still held, and will be for what a commit takes. NULL: it always is. */
	int (*held)(struct cpx_cap *c, struct cpx_err *err);
	/* Let all go on, or stay stopped by SIGSTOP. CPX_E_TIMEOUT: it went on before. */
	int (*release)(struct cpx_cap *c, struct cpx_park *park, bool stop,
		       struct cpx_err *err);
	void (*kill)(struct cpx_cap *c, struct cpx_park *park);
	/* Always, last. May be NULL. */
	void (*end)(struct cpx_cap *c);
};

extern const struct cpx_engine cpx_engine_ptrace, cpx_engine_module;

/* What @which comes to for this checkpoint; an error where a demand cannot be met. */
int cpx_engine_choose(struct cpx_cap *c, enum cpx_engine_kind which, struct cpx_err *err);
/* c->engine's park(); with AUTO the ptrace engine's where the module's cannot. */
int cpx_engine_park(struct cpx_cap *c, struct cpx_park *park, int64_t timeout_ns,
		    struct cpx_err *err);
/* What AUTO comes to here, and why, for people. Return: is it the module? */
bool cpx_engine_say(char *say, size_t size);
/* Return: 0 and *@out, or CPX_E_INVAL. @name: auto, module, ptrace. */
int cpx_engine_parse(const char *name, enum cpx_engine_kind *out, struct cpx_err *err);

/* module_engine.c: can it be used here? Return: 0, or CPX_E_UNSUPPORTED with why. */
int cpx_module_usable(struct cpx_err *err);

#endif
