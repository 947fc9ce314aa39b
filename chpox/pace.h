/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pace.h - how long a job will stand still, by each way to a snapshot, from what this job's own
 * checkpoints took on this machine. Pure.
 *
 * Clone: as long as the last one, by the pages that are there. Pre-copy: what reading a page
 * takes, tried out just before the pause, by what copying in a pause took compared with that.
 * Stop-and-copy does in the pause what pre-copy does before it and is never shorter: it is for
 * where nothing else can be had.
 *
 * Slow start: what is copied before the pause is wasted if the job writes it again. So rounds
 * of copying begin with one and become more as long as they pay; when they did not, they are
 * left out for one checkpoint, then for two, four, … So a job that writes faster than it is
 * read costs little, and one that calms down is found.
 */
#ifndef CPX_PACE_H
#define CPX_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define CPX_PACE_ROUNDS_MAX 4
#define CPX_PACE_SKIP_MAX 16

/* What one job's checkpoints have taught. All zero: nothing yet. */
struct cpx_pace {
	int64_t clone_ns; /* the last clone, of so many pages; 0: none yet */
	uint64_t clone_pages;
	int64_t copy_permille; /* copying in a pause by reading before it; 0: not known */
	int64_t read_ns;       /* what reading a page took last; 0: none was read yet */
	int64_t rest_ns;       /* of a pause, besides the snapshot */
	uint32_t rounds;       /* of copying that paid last time; 0: none yet */
	uint32_t skip;	       /* checkpoints for which there are none */
	uint32_t skipped;      /* how many they were last time */
};

/* Rounds of copying before this pause; 0: none. Counts. */
unsigned cpx_pace_rounds(struct cpx_pace *p);
/* Rounds were made: was it worth it? */
void cpx_pace_rounds_paid(struct cpx_pace *p, bool paid);

/* A clone took @ns. */
void cpx_pace_cloned(struct cpx_pace *p, int64_t ns, uint64_t resident_pages);
/* @pages were copied in a pause in @ns; reading one took @read_ns before it, 0: none was. */
void cpx_pace_copied(struct cpx_pace *p, int64_t ns, uint64_t pages, int64_t read_ns);
/* A pause of @pause_ns, @snapshot_ns of them for the snapshot. */
void cpx_pace_paused(struct cpx_pace *p, int64_t pause_ns, int64_t snapshot_ns);

/* Expected; INT64_MAX where nothing is known of a clone. */
int64_t cpx_pace_clone_ns(const struct cpx_pace *p, uint64_t resident_pages);
int64_t cpx_pace_copy_ns(const struct cpx_pace *p, uint64_t pages, int64_t read_ns);

#endif
