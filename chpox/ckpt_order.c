/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ckpt_order.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	const struct cpx_ckpt_order *x = a, *y = b;

	if (x->late != y->late)
		return x->late ? 1 : -1;
	if (x->at_risk_s != y->at_risk_s)
		return x->at_risk_s < y->at_risk_s ? 1 : -1;
	return strcmp(x->job, y->job);
}

void cpx_ckpt_order(struct cpx_ckpt_order *v, size_t n, double deadline_s)
{
	for (size_t i = 0; i < n; i++)
		v[i].late = deadline_s > 0 && v[i].takes_s > deadline_s;
	qsort(v, n, sizeof(*v), compare);
}
