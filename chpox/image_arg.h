/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_arg.h - what DIR|JOB[@GENERATION] on the command line means: a store and the
 * generations in it that are offered. What has a '/' in it or is there is a directory; all else
 * is a job, whose head and older generations chpoxd is asked for.
 */
#ifndef CPX_IMAGE_ARG_H
#define CPX_IMAGE_ARG_H

#include <stdbool.h>
#include <stdint.h>

#include "../store/image.h"

struct cpx_ctl;
struct cpx_err;
struct cpx_restore_opts;

struct cpx_image_arg {
	const char *name; /* as given; borrowed */
	bool is_dir;
	bool one;		    /* a generation was named */
	char job[CPX_JOB_NAME_MAX]; /* empty for a directory */
	uint32_t uid, gid;	    /* of the job's owner */
	char *dir;		    /* the store's */
	struct cpx_store *store;    /* as the caller is */
	struct cpx_gen_entry *gens; /* newest first; at least one */
	int ngens;
};

/* Return: 0; on failure nothing is to be closed. */
int cpx_image_arg_open(const struct cpx_ctl *ctl, const char *name, struct cpx_image_arg *out,
		       struct cpx_err *err);
void cpx_image_arg_close(struct cpx_image_arg *a);

/*
 * The generation to be looked at: of a directory the newest with a whole manifest (*@bad: how
 * many newer ones have none; may be NULL), of a job what was named or its head.
 */
int cpx_image_arg_pick(const struct cpx_image_arg *a, struct cpx_gen_id *id, unsigned *bad,
		       struct cpx_err *err);

/*
 * With whose rights a directory's image is restored: the caller's; root's only where root alone
 * could have written it, else the owner's.
 */
int cpx_image_rights(const char *dir, struct cpx_restore_opts *o, struct cpx_err *err);

#endif
