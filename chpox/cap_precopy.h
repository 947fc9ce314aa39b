/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_precopy.h - the short pause: what was written since the last generation is copied while
 * the job runs, round by round; in the pause only what was written during the last round.
 *
 * It needs write tracking with a base (track.h). No clone is made, so nothing is forked and no
 * page is copied twice. Chosen when the pages left to copy in the pause cost less than a fork
 * of the page tables would, as pace.h predicts.
 */
#ifndef CPX_CAP_PRECOPY_H
#define CPX_CAP_PRECOPY_H

#include "cap_mem.h"

struct cpx_precopy_mm {
	struct cpx_track_mm *track;
	pid_t pid;
	struct cpx_maps maps; /* before the pause; of smaps where flags_fd is -1 */
	int flags_fd;	      /* reads the flags of mappings once (vma_flags.h), or -1 */
	struct cpx_mem_ranges copied; /* put in this generation already; ascending, disjoint */
	struct cpx_mem_ranges lost; /* scans that failed half-way: what they armed is unknown */
	int mem_fd;
};

struct cpx_precopy {
	struct cpx_precopy_mm *v;
	size_t n;
	bool rounds;	   /* some were made */
	int64_t read_ns;   /* what reading a page took; 0: none was read */
	uint64_t left;	   /* pages to copy in the pause: cpx_mem_left() */
	uint64_t resident; /* pages that there are */
};

/* Before the pause: the rounds. Return: 0 with *@out (NULL: not worth it), or an error. */
int cpx_precopy_run(struct cpx_cap *c, struct cpx_precopy **out, struct cpx_err *err);
void cpx_precopy_free(struct cpx_precopy *p);
struct cpx_precopy_mm *cpx_precopy_find(struct cpx_precopy *p, pid_t pid);

/*
 * cpx_precopy_lost() - was a scan in there refused? Where a mapping had changed into several of
 * which not all are covered, the kernel arms the first ones and lists none: all of it counts
 * as written then. @mm: may be NULL.
 */
bool cpx_precopy_lost(const struct cpx_precopy_mm *mm, uint64_t start, uint64_t end);

/*
 * cpx_precopy_flags() - after the pause: the flags of a mapping, if they were the same before
 * it and now. Return: 0 and *@flags_of (borrowed from either list), CPX_E_BUSY if they changed.
 */
int cpx_precopy_flags(const struct cpx_maps *before, const struct cpx_maps *after,
		      uint64_t start, uint64_t end, const struct cpx_map **flags_of);

#endif
