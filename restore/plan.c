/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan.c - from records to an ordered list of tasks. No system call in here.
 *
 * The records come from an image that may have been made by anybody: every number is
 * checked for what it will be used for.
 */
#include "rst_tree.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/user.h>

#include "../chpox/base/fd.h"

#define PID_LIMIT (1u << 22) /* the kernel's PID_MAX_LIMIT */

static struct cpx_rst_task *find(struct cpx_rst *r, uint32_t pid)
{
	for (size_t i = 0; i < r->ntasks; i++)
		if (r->tasks[i].rec->pid == pid)
			return &r->tasks[i];
	return NULL;
}

static int check_task(const struct cpx_rec_task *t, struct cpx_err *err)
{
	if (t->pid == 0 || t->pid >= PID_LIMIT || t->ppid >= PID_LIMIT ||
	    t->pgid >= PID_LIMIT || t->sid >= PID_LIMIT || t->pid == t->ppid)
		return cpx_err_set(err, CPX_E_FORMAT, "task record with PID %u makes no sense",
				   t->pid);
	if (t->state > CPX_TASK_ZOMBIE || t->exit_signal > 64)
		return cpx_err_set(err, CPX_E_FORMAT, "task %u: bad state", t->pid);
	if (t->sid == t->pid && t->pgid != t->pid)
		return cpx_err_set(err, CPX_E_FORMAT, "task %u: session leader in group %u",
				   t->pid, t->pgid);
	return 0;
}

/* Tasks, parents before children; the root is the one whose parent is not in the image. */
static int order_tasks(struct cpx_rst *r, struct cpx_err *err)
{
	size_t n = cpx_state_count(r->st, CPX_REC_task), left = n;
	CPX_AUTO_FREE bool *used = calloc(n ? n : 1, sizeof(bool));

	r->tasks = calloc(n ? n : 1, sizeof(*r->tasks));
	if (!r->tasks || !used)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the process list");
	while (left) {
		bool any = false;

		for (size_t i = 0; i < n; i++) {
			const struct cpx_rec_task *rec = cpx_state_rec(r->st, task, i);
			struct cpx_rst_task *parent = rec->ppid ? find(r, rec->ppid) : NULL;
			int rc;

			if (used[i] || (rec->ppid && !parent))
				continue;
			rc = check_task(rec, err);
			if (rc < 0)
				return rc;
			if (find(r, rec->pid) || (!rec->ppid && r->ntasks) ||
			    (parent && parent->rec->state == CPX_TASK_ZOMBIE))
				return cpx_err_set(err, CPX_E_FORMAT, "task %u: not a tree",
						   rec->pid);
			used[i] = any = true;
			left--;
			r->tasks[r->ntasks++] = (struct cpx_rst_task){
				.rec = rec, .parent = parent, .mem_fd = -1, .self_pidfd = 0
			};
		}
		if (!any)
			return cpx_err_set(err, CPX_E_FORMAT, "the processes are not a tree");
	}
	if (!r->ntasks || r->tasks[0].rec->state == CPX_TASK_ZOMBIE)
		return cpx_err_set(err, CPX_E_FORMAT, "the image holds no process");
	return 0;
}

static int check_thread(const struct cpx_rec_thread *th, struct cpx_err *err)
{
	if (th->tid == 0 || th->tid >= PID_LIMIT ||
	    th->regs.n != sizeof(struct user_regs_struct) || th->xstate.n < 576 ||
	    th->xstate.n > CPX_XSTATE_MAX)
		return cpx_err_set(err, CPX_E_FORMAT, "thread record %u is damaged", th->tid);
	return 0;
}

/* Room for the threads of each task, then the threads, the leader at [0]. */
static int order_threads(struct cpx_rst *r, struct cpx_err *err)
{
	CPX_AUTO_FREE size_t *next = calloc(r->ntasks, sizeof(size_t));

	if (!next)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the thread list");
	cpx_state_each(r->st, thread, th) {
		struct cpx_rst_task *t = find(r, th->pid);
		int rc = check_thread(th, err);

		if (rc < 0)
			return rc;
		if (!t || t->rec->state == CPX_TASK_ZOMBIE)
			return cpx_err_set(err, CPX_E_FORMAT, "thread %u of no process",
					   th->tid);
		t->nthreads++;
	}
	for (size_t i = 0; i < r->ntasks; i++) {
		struct cpx_rst_task *t = &r->tasks[i];

		next[i] = 1;
		if (t->rec->state != CPX_TASK_ZOMBIE && !t->nthreads)
			return cpx_err_set(err, CPX_E_FORMAT, "process %u has no threads",
					   t->rec->pid);
		/* a zombie needs one to be created at all */
		t->threads = calloc(t->nthreads ? t->nthreads : 1, sizeof(*t->threads));
		if (!t->threads)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for the thread list");
	}
	cpx_state_each(r->st, thread, th) {
		struct cpx_rst_task *t = find(r, th->pid);
		size_t k = th->tid == th->pid ? 0 : next[t - r->tasks]++;

		if (k >= t->nthreads || t->threads[k].rec)
			return cpx_err_set(err, CPX_E_FORMAT, "process %u has no main thread",
					   th->pid);
		t->threads[k].rec = th;
		memcpy(&t->threads[k].regs, th->regs.p, sizeof(t->threads[k].regs));
	}
	return 0;
}

/* A task shares with its parent (a clone flag does that) or with nobody before it. */
static int share(struct cpx_rst *r, size_t i, uint32_t id, size_t field,
		 struct cpx_rst_task **of, struct cpx_err *err)
{
	struct cpx_rst_task *t = &r->tasks[i];

	*of = t;
	for (size_t k = 0; k < i; k++) {
		const struct cpx_rec_task *other = r->tasks[k].rec;
		uint32_t theirs;

		memcpy(&theirs, (const char *)other + field, sizeof(theirs));
		if (other->state == CPX_TASK_ZOMBIE || theirs != id)
			continue;
		memcpy(&theirs, (const char *)t->parent->rec + field, sizeof(theirs));
		if (theirs != id)
			return cpx_err_set(err, CPX_E_UNSUPPORTED,
					   "process %u shares with %u, which is not its parent",
					   t->rec->pid, other->pid);
		*of = &r->tasks[k];
		return 0;
	}
	return 0;
}

static int resolve_sharing(struct cpx_rst *r, struct cpx_err *err)
{
	for (size_t i = 0; i < r->ntasks; i++) {
		struct cpx_rst_task *t = &r->tasks[i];
		const struct cpx_rec_task *rec = t->rec;
		int rc = 0;

		t->mm_of = t->files_of = t->fs_of = t->sighand_of = t;
		if (rec->state == CPX_TASK_ZOMBIE)
			continue;
#define SHARE(f)                                                                         \
	(rc == 0 ? (rc = share(r, i, rec->f##_id, offsetof(struct cpx_rec_task, f##_id), \
			       &t->f##_of, err))                                         \
		 : rc)
		SHARE(mm);
		SHARE(files);
		SHARE(fs);
		SHARE(sighand);
#undef SHARE
		if (rc < 0)
			return rc;
		if (t->sighand_of != t && t->mm_of == t)
			return cpx_err_set(err, CPX_E_FORMAT,
					   "process %u shares signal actions but no memory",
					   rec->pid);
	}
	return 0;
}

int cpx_rst_plan(struct cpx_rst *r, struct cpx_err *err)
{
	int rc = order_tasks(r, err);

	if (rc == 0)
		rc = order_threads(r, err);
	if (rc == 0)
		rc = resolve_sharing(r, err);
	return rc;
}
