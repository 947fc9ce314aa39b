/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * space.h - when a job's packs are to be cleaned, and how much that may write. Pure.
 *
 * Cleaning (cpx_image_clean()) reads the whole page map to know what lives. Between two such
 * measurements this is an estimate: as many bytes live as before, in proportion to the pages
 * that are stored. Budget: three times what the generations wrote; at once so much that who
 * waits for the store does not wait long.
 */
#ifndef CPX_STORE_SPACE_H
#define CPX_STORE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

struct cpx_clean_stats;
struct cpx_image_stats;

#define CPX_CLEAN_TIMES 3	       /* bytes that cleaning may write for each new one */
#define CPX_CLEAN_AT_ONCE (256u << 20) /* and how many in one go */

/* All zero: nothing is known yet. */
struct cpx_space {
	uint64_t written, cleaned; /* by generations, by cleaning */
	uint64_t live, pages;	   /* when it was last measured */
	uint64_t since;		   /* written since then */
	uint64_t size, pages_now;  /* of the packs and pages that the head refers to */
	uint32_t packs;
	bool more; /* the last go was not enough */
};

/* A generation was committed. */
void cpx_space_grown(struct cpx_space *s, const struct cpx_image_stats *g, bool full);
/* Cleaning came to an end, whether there was something to be done or not. */
void cpx_space_cleaned(struct cpx_space *s, const struct cpx_clean_stats *c);
bool cpx_space_due(const struct cpx_space *s);
uint64_t cpx_space_budget(const struct cpx_space *s);

#endif
