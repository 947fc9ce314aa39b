/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * meter.h - what a node measures of itself for load.h.
 *
 * cpx_meter_look() is called some times a second, cpx_meter_second() once. What /proc says is
 * hostile until checked: the two parsers are pure and total.
 */
#ifndef CPX_SCHEDULER_METER_H
#define CPX_SCHEDULER_METER_H

#include "load.h"

struct cpx_err;

struct cpx_meter {
	struct cpx_load_meter load;
	uint64_t adder;
	uint32_t looks;
};

/* @speed: CPX_LOAD_STD_SPEED is a standard processor; 0: measured by cpx_meter_speed(). */
void cpx_meter_init(struct cpx_meter *m, uint32_t speed);
/* How many processes want a processor now, this one not counted. */
int cpx_meter_look(struct cpx_meter *m, struct cpx_err *err);
/* Speed, processors, load and memory into @f; its other members stay. */
int cpx_meter_second(struct cpx_meter *m, struct cpx_load_figures *f, struct cpx_err *err);

/*
 * cpx_meter_speed() - one processor against the standard one, which does 200 million rounds of
 * a fixed chain of multiplications a second. The best of five tries of this thread's processor
 * time, 20 ms in all, so that other load hardly counts.
 */
uint32_t cpx_meter_speed(void);

/* /proc/loadavg: those that want a processor. Return: 0, CPX_E_FORMAT. */
int cpx_meter_runnable(const char *text, uint32_t *out);
/* /proc/meminfo: MiB. Return: 0, CPX_E_FORMAT. */
int cpx_meter_memory(const char *text, uint32_t *total, uint32_t *available);

#endif
