/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "space.h"

#include "image.h"

#define MEASURE_SHARE \
	10 /* after so much of the whole was written the estimate is not trusted */

void cpx_space_grown(struct cpx_space *s, const struct cpx_image_stats *g, bool full)
{
	s->size = g->bytes_packs;
	s->pages_now = g->pages_stored;
	s->packs = g->packs;
	s->written += g->bytes_stored;
	s->since += g->bytes_stored;
	if (full) {
		s->live = g->bytes_packs;
		s->pages = g->pages_stored;
		s->since = 0;
	}
}

static bool is_low(const struct cpx_space *s)
{
	double live = (double)s->live;

	if (s->pages)
		live *= (double)s->pages_now / (double)s->pages;
	return live < CPX_LIVE_SHARE * (double)s->size;
}

void cpx_space_cleaned(struct cpx_space *s, const struct cpx_clean_stats *c)
{
	s->cleaned += c->bytes_written;
	s->size = c->bytes_packs;
	s->live = c->bytes_live;
	s->pages = s->pages_now = c->pages_stored;
	s->packs = c->packs;
	s->since = 0;
	s->more = c->bytes_written && is_low(s);
}

bool cpx_space_due(const struct cpx_space *s)
{
	if (!s->since)
		return s->more;
	return is_low(s) || s->since > s->size / MEASURE_SHARE || s->packs > CPX_SMALL_PACKS;
}

uint64_t cpx_space_budget(const struct cpx_space *s)
{
	uint64_t may = s->written * CPX_CLEAN_TIMES;

	may = may > s->cleaned ? may - s->cleaned : 0;
	return may < CPX_CLEAN_AT_ONCE ? may : CPX_CLEAN_AT_ONCE;
}
