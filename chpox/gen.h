/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gen.h - naming generations, and who may trust a directory of images. */
#ifndef CPX_GEN_H
#define CPX_GEN_H

#include <stdbool.h>
#include <stdint.h>

struct cpx_err;
struct cpx_gen_entry;
struct cpx_gen_id;
struct cpx_store;

/* 16 hex digits from the kernel's random source. */
int cpx_gen_nonce(char out[17], struct cpx_err *err);

/*
 * cpx_gen_newest() - the newest whole generation in @store of @job (NULL: of any).
 * @skipped: newer ones that are not whole are counted there; may be NULL.
 * Return: 0, or CPX_E_NOENT.
 */
int cpx_gen_newest(struct cpx_store *store, const char *job, struct cpx_gen_id *out,
		   unsigned *skipped, struct cpx_err *err);

/*
 * cpx_gen_candidates() - the generations that a directory offers, newest first, whole or not:
 * those of the job whose newest whole one is the newest of all.
 * Return: their number; *@out is malloc'ed. CPX_E_NOENT: there is none.
 */
int cpx_gen_candidates(struct cpx_store *store, struct cpx_gen_entry **out,
		       struct cpx_err *err);

#define CPX_GEN_DUMP_JOB "dump" /* what the job in a directory is called */

/* A name for the next generation in a directory: behind all that are there. */
int cpx_gen_next(struct cpx_store *store, struct cpx_gen_id *out, struct cpx_err *err);

/* Does this failure of a restore speak against the image, so that an older one may do? */
bool cpx_gen_is_bad(int code);

/*
 * cpx_gen_trust() - may root restore what is in @dir with the rights it records?
 * Only where root alone can write along the whole path and in it (a sticky directory of root,
 * as /tmp, lets nobody else replace what is there). Return: 1 yes; 0 no, and *@uid, *@gid tell
 * to whom the directory belongs; or CPX_E_*.
 */
int cpx_gen_trust(const char *dir, uint32_t *uid, uint32_t *gid, struct cpx_err *err);

#endif
