/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * worker.h - registry calls that the loop of chpoxd does not wait for: a thread with a queue
 * and a registry of its own. What is put in is done in order, one at a time.
 */
#ifndef CPX_SCHEDULER_WORKER_H
#define CPX_SCHEDULER_WORKER_H

#include <stdint.h>
#include <uv.h>

#include "registry.h"

struct cpx_err;
struct cpxd_worker;

/* One piece of work; the first member of whatever the caller needs beside it. */
struct cpxd_work {
	struct cpxd_work *next;
	/* In the thread; not called where @until (CLOCK_BOOTTIME, ns; 0: no limit) is over. */
	void (*run)(struct cpxd_work *w, struct cpx_registry *reg);
	/* In the loop, afterwards; frees @w. */
	void (*done)(struct cpxd_work *w);
	int64_t until;
	bool ran;
};

int cpxd_worker_open(uv_loop_t *loop, const struct cpx_reg_conf *conf, struct cpxd_worker **out,
		     struct cpx_err *err);
void cpxd_worker_put(struct cpxd_worker *w, struct cpxd_work *work);
/* Ends the thread after what it does just now; nothing is called any more. */
void cpxd_worker_close(struct cpxd_worker *w);

#endif
