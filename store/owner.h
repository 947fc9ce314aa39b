/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owner.h - doing file system calls with the rights of a job's owner.
 *
 * Linux keeps credentials per thread: cpx_owner_enter() gives the calling thread the
 * owner's fsuid, fsgid and groups and takes its effective capabilities away until
 * cpx_owner_leave(). Nothing changes for other threads; the process is not dumpable from
 * then on. Both are cheap (µs).
 */
#ifndef CPX_STORE_OWNER_H
#define CPX_STORE_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_err;

struct cpx_owner {
	bool set; /* false: enter and leave do nothing */
	uint32_t uid, gid;
	gid_t *groups; /* owned */
	size_t ngroups;
};

struct cpx_owner_saved {
	bool active;
	uint32_t uid, gid;
	uint32_t cap_effective[2], cap_permitted[2], cap_inheritable[2];
	gid_t *groups; /* owned until leave */
	int ngroups;
	int pdeathsig;
};

/* @uid == (uid_t)-1: as the caller is. Looks up the user's groups. */
int cpx_owner_init(struct cpx_owner *o, uint32_t uid, uint32_t gid, struct cpx_err *err);
void cpx_owner_free(struct cpx_owner *o);

/* Return: 0, or -1 with errno and nothing changed. */
int cpx_owner_enter(const struct cpx_owner *o, struct cpx_owner_saved *s);
/* Keeps errno. */
void cpx_owner_leave(struct cpx_owner_saved *s);

#endif
