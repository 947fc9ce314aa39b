/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * track.h - which pages of a job were written since its last checkpoint.
 *
 * Three ways, the first that the kernel has (tried out, not guessed from its version):
 *
 * write protection  A userfaultfd is made inside each process (Linux binds it to the address
 *		     space), taken out, and its number in the process closed again; from then on
 *		     the kernel notes first writes without telling or stopping anybody, and
 *		     PAGEMAP_SCAN lists and re-arms. Linux 6.7.
 * soft-dirty bits   The kernel notes writes in its page tables; they are read and cleared in
 *		     the pause. Anybody may clear them: a witness tells (track.c).
 * content	     All is read and compared with hashes of what it was (known.h).
 *
 * Shared memory objects are told by their content with each way: they may be written without
 * a mapping, and by processes that are not the job's.
 *
 * What is tracked belongs to an address space and a range of it. Whatever was not covered
 * when it was last collected (new maps, mremap, another program after exec, a forked
 * child) answers so, and all of it counts as written. So a lost or stale tracker costs time,
 * never correctness.
 *
 * A tracker holds descriptors alone and may be handed to another process (export, import). It
 * belongs to one generation: collecting consumes what was noted, so after a checkpoint that
 * failed it must be freed and the next one is full.
 */
#ifndef CPX_TRACK_H
#define CPX_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../store/image.h"

struct cpx_err;
struct cpx_known;
struct cpx_mem_ranges;
struct cpx_tracee;
struct cpx_track;
struct cpx_track_mm;
struct cpx_vma_words;

#define CPX_TRACK_MMS_MAX 240 /* address spaces and shared objects; more are not tracked */
#define CPX_TRACK_FDS_MAX (CPX_TRACK_MMS_MAX + 1)
#define CPX_TRACK_EXPORT_MAX 16384 /* bytes of a description */

enum cpx_track_way { CPX_TRACK_WP = 0, CPX_TRACK_SOFT, CPX_TRACK_CONTENT };

/* What this machine has; @say: which, and why none before it. */
enum cpx_track_way cpx_track_probe(char *say, size_t size);

/* Return: 0 or CPX_E_NOMEM. */
int cpx_track_new(struct cpx_track **out, struct cpx_err *err);
enum cpx_track_way cpx_track_way(const struct cpx_track *tr);
void cpx_track_free(struct cpx_track *tr);

/* The generation that the noted writes are relative to; NULL: none, the next one is full. */
const struct cpx_gen_id *cpx_track_base(const struct cpx_track *tr);
void cpx_track_set_base(struct cpx_track *tr, const struct cpx_gen_id *id);

/*
 * cpx_track_find() - the tracked address space of process @pid; NULL if it is not tracked.
 * cpx_track_start() - track it from now on; @leader: its first thread, stopped, its home
 *   written; NULL where no calls can be run in it: CPX_E_UNSUPPORTED with write protection.
 * A space number of its own comes with it, the same in each generation.
 */
struct cpx_track_mm *cpx_track_find(struct cpx_track *tr, pid_t pid);
int cpx_track_start(struct cpx_track *tr, pid_t pid, struct cpx_tracee *leader,
		    struct cpx_track_mm **out, struct cpx_err *err);
/* A tracker that has nothing yet is to do without calls in processes, where that can be had. */
void cpx_track_from_outside(struct cpx_track *tr);
uint32_t cpx_track_space(const struct cpx_track_mm *mm);
void cpx_track_drop(struct cpx_track *tr, struct cpx_track_mm *mm);
/* Forget address spaces that were not found since the last call. */
void cpx_track_sweep(struct cpx_track *tr);

/*
 * cpx_track_object() - the tracked shared memory object; made if it is not there. NULL: no
 * room for it.
 * cpx_track_known() - the table to compare content with (CONTENT, and all objects), or NULL.
 */
struct cpx_track_mm *cpx_track_object(struct cpx_track *tr, uint64_t dev, uint64_t ino);
struct cpx_known *cpx_track_known(const struct cpx_track_mm *mm);

/*
 * A process was parked and nothing written into it yet: cpx_track_parked(). Later collect each
 * mapping, then cpx_track_arm(). @tr: may be NULL.
 * @witness: a page that is written after that and before the process goes on (SOFT).
 */
void cpx_track_parked(struct cpx_track *tr, pid_t pid);
int cpx_track_arm(struct cpx_track_mm *mm, uint64_t witness, struct cpx_err *err);

/*
 * cpx_track_collect() - pages of [@start, @end), one mapping, written since it was last
 * collected; they are armed again in the same step.
 * @pagemap_fd: of the process, opened for this checkpoint.
 * Return: 0 and ranges appended to @dirty; 1 if the mapping was not covered (all of it counts
 * as written; it is covered from now on where that can be had); or an error.
 */
int cpx_track_collect(struct cpx_track_mm *mm, int pagemap_fd, uint64_t start, uint64_t end,
		      struct cpx_mem_ranges *dirty, struct cpx_err *err);

/*
 * The same without covering what is not covered; while the job runs (WP alone). 1: not
 * covered, or gone.
 */
int cpx_track_peek(int pagemap_fd, uint64_t start, uint64_t end, struct cpx_mem_ranges *dirty,
		   struct cpx_err *err);
/* All address spaces (no objects), CPX_TRACK_MMS_MAX at most. Return: how many. */
size_t cpx_track_list(const struct cpx_track *tr, struct cpx_track_mm **mms, pid_t *pids);
/* Forget everything: the next generation is full. */
void cpx_track_clear(struct cpx_track *tr);

/* What reads flags of mappings; it goes along with the tracker. NULL: not on this kernel. */
struct cpx_vma_words *cpx_track_words(struct cpx_track *tr);

/*
 * Hand over: descriptors to pass on (borrowed, at most CPX_TRACK_FDS_MAX) and a description
 * that import reads. Import takes the descriptors over, also on failure.
 */
int cpx_track_export(const struct cpx_track *tr, void *buf, size_t size, size_t *len, int *fds,
		     size_t *nfds, struct cpx_err *err);
int cpx_track_import(const void *buf, size_t len, const int *fds, size_t nfds,
		     struct cpx_track **out, struct cpx_err *err);

#endif
