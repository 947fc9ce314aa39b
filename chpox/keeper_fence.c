/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Happy path: renewals move the deadline on -> nothing happens.
 *
 * At the deadline the job's cgroup is frozen, and a checkpoint under way is ended; a job that
 * has no cgroup, or does not stand still in time, is killed: it goes on from its head. It is
 * thawed by a later deadline of the same lease, or because the registry has taken the job over
 * again under a new one.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "keeper.h"

#define STOP_MS 500
#define SEC 1000000000LL

struct keeper_fence {
	struct keeper *k;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t wake;
	struct cpx_fence f;
	bool frozen;
};

static void freeze(struct keeper_fence *f)
{
	struct cpx_err err = { 0 };

	if (cpx_cgroup_freeze(f->k->cgroup, true, STOP_MS, &err) >= 0) {
		f->frozen = true;
		cpx_log_note("%s: frozen: the node's lease is not renewed", f->k->name);
	} else {
		cpx_log_error("%s: killed, for it cannot be frozen: %s", f->k->name, err.msg);
		f->f.state = CPX_FENCE_DEAD;
		f->k->fenced_dead = true;
		keeper_kill_all(f->k);
	}
	keeper_ckpt_kill(f->k);
}

static void apply(struct keeper_fence *f, enum cpx_fence_act act)
{
	if (act == CPX_FENCE_FREEZE)
		freeze(f);
	if (act != CPX_FENCE_THAW || !f->frozen)
		return;
	f->frozen = false;
	cpx_cgroup_freeze(f->k->cgroup, false, 0, NULL);
	cpx_log_note("%s: goes on", f->k->name);
}

static void *watching(void *arg)
{
	struct keeper_fence *f = arg;

	pthread_mutex_lock(&f->lock);
	for (;;) {
		int64_t left = f->f.deadline - cpx_boot_ns(), until;
		struct timespec ts;

		if (left <= 0)
			apply(f, cpx_fence_step(&f->f, CPX_FENCE_TIME, 0, 0, cpx_boot_ns()));
		/* the clock of a wait stands still with the machine, so none is long */
		if (left <= 0 || left > SEC / 10)
			left = SEC / 10;
		until = cpx_mono_ns() + left;
		ts.tv_sec = until / SEC;
		ts.tv_nsec = until % SEC;
		pthread_cond_timedwait(&f->wake, &f->lock, &ts);
	}
	return NULL;
}

int keeper_fence_open(struct keeper *k, int64_t deadline_ns, struct cpx_err *err)
{
	struct keeper_fence *f = calloc(1, sizeof(*f));
	pthread_condattr_t attr;

	if (!f)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	f->k = k;
	f->f = (struct cpx_fence){ .lease = (uint64_t)k->lease, .deadline = deadline_ns };
	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->wake, &attr);
	if (pthread_create(&f->thread, NULL, watching, f)) {
		free(f);
		return cpx_err_set(err, CPX_E_SYS, "cannot start a thread");
	}
	k->fence = f;
	return 0;
}

void keeper_fence_step(struct keeper *k, enum cpx_fence_event ev, int64_t lease,
		       int64_t deadline_ns)
{
	struct keeper_fence *f = k->fence;

	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	apply(f, cpx_fence_step(&f->f, ev, (uint64_t)lease, deadline_ns, cpx_boot_ns()));
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

bool keeper_fence_shut(const struct keeper *k)
{
	bool shut;

	if (!k->fence)
		return false;
	pthread_mutex_lock(&k->fence->lock);
	shut = k->fence->f.state != CPX_FENCE_RUN;
	pthread_mutex_unlock(&k->fence->lock);
	return shut;
}

bool keeper_fenced(const struct keeper *k)
{
	bool frozen;

	if (!k->fence)
		return false;
	pthread_mutex_lock(&k->fence->lock);
	frozen = k->fence->frozen;
	pthread_mutex_unlock(&k->fence->lock);
	return frozen;
}
