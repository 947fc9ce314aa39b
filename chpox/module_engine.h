/* SPDX-License-Identifier: GPL-2.0-or-later */
/* module_engine.h - the parts of the module engine; engine.h says what each does. */
#ifndef CPX_MODULE_ENGINE_H
#define CPX_MODULE_ENGINE_H

#include <pthread.h>

#include "engine.h"
#include "module_records.h"

/* c->engine_priv, from park() to end(). */
struct cpx_module {
	int fd; /* the session: closing it lets the tree go on */
	struct cpx_mod_stream records;
	bool copied;	   /* snapshots were made */
	pthread_t renewer; /* holds on while memory is read from the parked tree itself */
	int stop_fd;	   /* ends it; -1: it does not run */
};

static inline struct cpx_module *cpx_module_of(const struct cpx_cap *c)
{
	return c->engine_priv;
}

/* --- module_state.c: records of the kernel to records of the image ----------------------- */

int cpx_module_registers(struct cpx_cap *c, struct cpx_cap_thread *th, struct cpx_err *err);
int cpx_module_thread(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_cap_thread *th,
		      struct cpx_err *err);
int cpx_module_process(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err);
int cpx_module_signals(struct cpx_cap *c, struct cpx_cap_task *t,
		       const struct cpx_proc_status *s, struct cpx_err *err);
int cpx_module_space(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_rec_mm *rec,
		     bool locked, struct cpx_err *err);
bool cpx_module_time_left(const struct cpx_cap *c, const struct cpx_cap_thread *th,
			  int64_t *ns);
/* What another engine must do, and what none can: 0, CPX_E_UNSUPPORTED or CPX_E_PERM. */
int cpx_module_judge(const struct cpx_mod_stream *s, struct cpx_err *err);

#endif
