/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keeper_track.h - the write tracking of a keeper's job, between the children that capture.
 *
 * A child inherits the tracker by fork and sends it back when its generation is whole; a child
 * that fails or dies sends nothing, and the next generation is full, by itself.
 */
#ifndef CPX_KEEPER_TRACK_H
#define CPX_KEEPER_TRACK_H

#include <stdbool.h>
#include <stdint.h>

struct cpx_track;

struct keeper_track {
	struct cpx_track *track; /* NULL: none */
	int pair[2];	      /* { -1, -1 } at first; child writes [1], we read [0]; -1: none */
	uint64_t full_stored; /* bytes that the last full generation wrote */
	uint64_t since_full;  /* bytes written by the incremental ones on it */
};

/* Before the fork. Old generations are cleaned by a full one when too much of them is dead. */
void keeper_track_prepare(struct keeper_track *t);
/* In the child: the tracker to capture with, NULL where the kernel has none. Owned by @t. */
struct cpx_track *keeper_track_child(struct keeper_track *t);
/* In the child, after success. */
void keeper_track_give(struct keeper_track *t);
/* In the keeper: after the fork, and when the child has ended (@stored: bytes, 0: it failed).
 */
void keeper_track_drop(struct keeper_track *t); /* the next one is a full one */
void keeper_track_forked(struct keeper_track *t);
void keeper_track_take(struct keeper_track *t, uint64_t stored, bool full);

#endif
