/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_owner.h - for a while, touch files as the job's owner.
 *
 * cpx_rst_owner_enter() gives the calling thread the owner's file system user, groups and
 * no effective capabilities; cpx_rst_owner_leave() takes that back. Raw system calls: only
 * this thread changes. For root's own jobs, and for a conductor that is not root, nothing
 * changes.
 */
#ifndef CPX_RST_OWNER_H
#define CPX_RST_OWNER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_err;

struct cpx_rst_owner {
	uint32_t uid, gid;
	gid_t *groups; /* owner's; malloc'ed on first use */
	size_t ngroups;
	gid_t *own_groups; /* the conductor's, while inside */
	size_t nown;
	uint32_t effective[2];
	bool inside;
};

int cpx_rst_owner_enter(struct cpx_rst_owner *o, struct cpx_err *err);
/* A thread that cannot get its rights back is of no use: this ends the process then. */
void cpx_rst_owner_leave(struct cpx_rst_owner *o);
void cpx_rst_owner_free(struct cpx_rst_owner *o);

#endif
