/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * owner.c - glibc's setgroups() changes all threads, so the raw calls are used.
 *
 * Enter gives up rights last (capset) and leave takes them back first; a leave that
 * fails would leave the thread with fewer rights, never with more.
 */
#include "owner.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

#define GROUPS_MAX 65536

static int sys_groups_get(int n, gid_t *g)
{
	return (int)syscall(SYS_getgroups, n, g);
}

static int sys_groups_set(size_t n, const gid_t *g)
{
	return (int)syscall(SYS_setgroups, n, g);
}

static int look_up_groups(struct cpx_owner *o)
{
	struct passwd pw, *found = NULL;
	char names[4096];
	int n = 32;

	if (getpwuid_r(o->uid, &pw, names, sizeof(names), &found) != 0)
		found = NULL;
	for (;;) {
		gid_t *g = realloc(o->groups, (size_t)n * sizeof(*g));
		int had = n;

		if (!g)
			return -1;
		o->groups = g;
		g[0] = o->gid;
		o->ngroups = 1;
		if (!found)
			return 0;
		if (getgrouplist(pw.pw_name, o->gid, g, &n) >= 0) {
			o->ngroups = (size_t)n;
			return 0;
		}
		if (n <= had || n > GROUPS_MAX)
			return 0;
	}
}

int cpx_owner_init(struct cpx_owner *o, uint32_t uid, uint32_t gid, struct cpx_err *err)
{
	memset(o, 0, sizeof(*o));
	if (uid == (uint32_t)-1 || (uid == 0 && geteuid() == 0))
		return 0;
	if (geteuid() != 0) {
		if (uid == geteuid())
			return 0;
		return cpx_err_set(err, CPX_E_PERM, "only root may act as user %u", uid);
	}
	o->uid = uid;
	o->gid = gid;
	if (look_up_groups(o) < 0) {
		cpx_owner_free(o);
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the groups of user %u",
				   uid);
	}
	o->set = true;
	return 0;
}

void cpx_owner_free(struct cpx_owner *o)
{
	free(o->groups);
	memset(o, 0, sizeof(*o));
}

static int cap_header(struct __user_cap_header_struct *h)
{
	*h = (struct __user_cap_header_struct){ .version = _LINUX_CAPABILITY_VERSION_3 };
	return 0;
}

static int caps_get(struct cpx_owner_saved *s)
{
	struct __user_cap_header_struct h;
	struct __user_cap_data_struct d[2];

	cap_header(&h);
	if (syscall(SYS_capget, &h, d) < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		s->cap_effective[i] = d[i].effective;
		s->cap_permitted[i] = d[i].permitted;
		s->cap_inheritable[i] = d[i].inheritable;
	}
	return 0;
}

static int caps_set(const struct cpx_owner_saved *s, bool effective)
{
	struct __user_cap_header_struct h;
	struct __user_cap_data_struct d[2];

	cap_header(&h);
	for (int i = 0; i < 2; i++) {
		d[i].effective = effective ? s->cap_effective[i] : 0;
		d[i].permitted = s->cap_permitted[i];
		d[i].inheritable = s->cap_inheritable[i];
	}
	return (int)syscall(SYS_capset, &h, d);
}

static int save(struct cpx_owner_saved *s)
{
	int n = sys_groups_get(0, NULL);

	if (n < 0 || caps_get(s) < 0)
		return -1;
	s->groups = calloc((size_t)n + 1, sizeof(*s->groups));
	if (!s->groups)
		return -1;
	s->ngroups = sys_groups_get(n, s->groups);
	if (s->ngroups < 0) {
		cpx_freep(&s->groups);
		return -1;
	}
	return 0;
}

int cpx_owner_enter(const struct cpx_owner *o, struct cpx_owner_saved *s)
{
	memset(s, 0, sizeof(*s));
	if (!o->set)
		return 0;
	if (save(s) < 0)
		return -1;
	/* the kernel forgets it when credentials change */
	prctl(PR_GET_PDEATHSIG, &s->pdeathsig);
	s->active = true;
	s->uid = s->gid = (uint32_t)-1;
	if (sys_groups_set(o->ngroups, o->groups) < 0) {
		cpx_owner_leave(s);
		return -1;
	}
	s->gid = (uint32_t)setfsgid(o->gid);
	s->uid = (uint32_t)setfsuid(o->uid);
	/* setfsuid() reports no failure: ask again */
	if ((uint32_t)setfsuid((uid_t)-1) != o->uid ||
	    (uint32_t)setfsgid((gid_t)-1) != o->gid || caps_set(s, false) < 0) {
		cpx_owner_leave(s);
		errno = EPERM;
		return -1;
	}
	return 0;
}

void cpx_owner_leave(struct cpx_owner_saved *s)
{
	int keep = errno;

	if (!s->active)
		return;
	caps_set(s, true);
	if (s->uid != (uint32_t)-1)
		setfsuid(s->uid);
	if (s->gid != (uint32_t)-1)
		setfsgid(s->gid);
	sys_groups_set((size_t)s->ngroups, s->groups);
	prctl(PR_SET_PDEATHSIG, s->pdeathsig);
	cpx_freep(&s->groups);
	s->active = false;
	errno = keep;
}
