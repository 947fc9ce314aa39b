/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One processor, shared equally; a tenth of that while more memory is taken than there is. */
#include "exp.h"

#include <stdlib.h>

#define THRASHING 10

static void set_rate(struct share *s)
{
	s->rate = s->n ? (double)s->speed / CPX_LOAD_STD_SPEED / s->n : 0;
	if (s->mem > s->mem_total)
		s->rate /= THRASHING;
}

void share_to(struct share *s, double now)
{
	uint32_t i;

	for (i = 0; i < s->n; i++)
		s->left[i] -= (now - s->now) * s->rate;
	s->now = now;
}

void share_add(struct share *s, uint32_t job, double left)
{
	if (s->n == s->room) {
		s->room = s->room * 2 + 8;
		s->job = exp_need(realloc(s->job, s->room * sizeof(*s->job)));
		s->left = exp_need(realloc(s->left, s->room * sizeof(*s->left)));
	}
	s->job[s->n] = job;
	s->left[s->n++] = left;
	set_rate(s);
}

double share_remove(struct share *s, uint32_t job)
{
	double left = 0;
	uint32_t i;

	for (i = 0; i < s->n && s->job[i] != job; i++)
		;
	if (i < s->n) {
		left = s->left[i];
		s->job[i] = s->job[--s->n];
		s->left[i] = s->left[s->n];
		set_rate(s);
	}
	return left;
}

double share_next(const struct share *s, uint32_t *job)
{
	double least = 1e18;
	uint32_t i;

	for (i = 0; i < s->n; i++)
		if (s->left[i] < least) {
			least = s->left[i];
			*job = s->job[i];
		}
	return least < 1e17 ? s->now + (least > 0 ? least / s->rate : 0) : -1;
}

void share_mem(struct share *s, int64_t more)
{
	s->mem = (uint64_t)((int64_t)s->mem + more);
	set_rate(s);
}
