/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * track_ways.h - how the kernel tells which pages of a process were written: probes, and the
 * two ways in which it notes writes itself. Private to track.c, which holds the state.
 */
#ifndef CPX_TRACK_WAYS_H
#define CPX_TRACK_WAYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_err;
struct cpx_mem_ranges;

/* --- asynchronous write protection ------------------------------------------------------ */

/* Return: 0, or -1 with errno. */
int cpx_wp_set_up(int uffd);
int cpx_wp_register(int uffd, uint64_t start, uint64_t end);
/* List what was written and arm it again. Return: 0, 1 not covered, or an error. */
int cpx_wp_scan(int pagemap_fd, uint64_t start, uint64_t end, struct cpx_mem_ranges *dirty,
		struct cpx_err *err);

/* --- soft-dirty bits ---------------------------------------------------------------------- */

/*
 * cpx_soft_scan() - pages of [@start, @end) that were written since the bits were cleared, and
 * those of which that cannot be told. Not for huge pages of a pool: the kernel keeps no bits
 * of those. Return: 0 or an error.
 */
int cpx_soft_scan(int pagemap_fd, uint64_t start, uint64_t end, struct cpx_mem_ranges *dirty,
		  struct cpx_err *err);
/* Is the page at @at there, and its bit set? */
int cpx_soft_is_set(int pagemap_fd, uint64_t at);
/* Clear the bits of a whole process, for everybody who looks at them. */
int cpx_soft_clear(pid_t pid, struct cpx_err *err);

/* --- probes ------------------------------------------------------------------------------- */

/* Return: 0 it works here, or -1 with why not in @why. */
int cpx_wp_probe(char *why, size_t size);
int cpx_soft_probe(char *why, size_t size);

#endif
