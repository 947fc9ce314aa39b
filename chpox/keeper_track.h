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

struct cpx_gen_id;
struct cpx_track;

struct keeper_track {
	struct cpx_track *track; /* NULL: none */
	int pair[2]; /* { -1, -1 } at first; child writes [1], we read [0]; -1: none */
};

/* Before the fork. */
void keeper_track_prepare(struct keeper_track *t);
/* In the child: the tracker to capture with, NULL where the kernel has none. Owned by @t. */
struct cpx_track *keeper_track_child(struct keeper_track *t);
/* In the child, after success. */
void keeper_track_give(struct keeper_track *t);
void keeper_track_drop(struct keeper_track *t); /* the next one is a full one */
/* In the keeper: after the fork, and when the child has ended. */
void keeper_track_forked(struct keeper_track *t);
void keeper_track_take(struct keeper_track *t, bool committed);
/* The generation it belongs to was written anew under another name. */
void keeper_track_renamed(struct keeper_track *t, const struct cpx_gen_id *copy);

#endif
