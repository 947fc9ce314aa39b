/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ckpt_order.h - which job is checkpointed first when all are, before a deadline. Pure. */
#ifndef CPX_CKPT_ORDER_H
#define CPX_CKPT_ORDER_H

#include <stdbool.h>
#include <stddef.h>

struct cpx_ckpt_order {
	const char *job;
	double at_risk_s; /* work that would be lost now: since the last checkpoint or the start
			   */
	double takes_s;	  /* what the last one took; 0: not known */
	bool late;	  /* it took longer than there is time */
};

/*
 * cpx_ckpt_order() - sort: most work at risk first; those that took longer than @deadline_s
 * (0: none) the last time after all others, so that they take no job's time that fits.
 */
void cpx_ckpt_order(struct cpx_ckpt_order *v, size_t n, double deadline_s);

#endif
