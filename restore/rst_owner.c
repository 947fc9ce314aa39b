/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rst_owner.h"

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GROUPS_MAX 65536

static int cap_get(struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return (int)syscall(SYS_capget, &h, data);
}

static int set_effective(const uint32_t effective[2])
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (cap_get(data) < 0)
		return -1;
	data[0].effective = effective[0];
	data[1].effective = effective[1];
	return (int)syscall(SYS_capset, &h, data);
}

/* The groups that the owner has on this node; without an entry, the primary one alone. */
static int find_groups(struct cpx_rst_owner *o, struct cpx_err *err)
{
	const struct passwd *pw = getpwuid(o->uid);
	int n = 64;

	if (o->groups)
		return 0;
	for (;;) {
		gid_t *p = realloc(o->groups, (size_t)n * sizeof(*p));

		if (!p)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for groups");
		o->groups = p;
		if (!pw || getgrouplist(pw->pw_name, o->gid, p, &n) >= 0 || n > GROUPS_MAX)
			break;
	}
	if (!pw) {
		o->groups[0] = o->gid;
		n = 1;
	}
	o->ngroups = (size_t)n;
	return 0;
}

static int save_groups(struct cpx_rst_owner *o, struct cpx_err *err)
{
	int n = getgroups(0, NULL);

	free(o->own_groups);
	o->own_groups = calloc((size_t)(n > 0 ? n : 1), sizeof(gid_t));
	if (!o->own_groups)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for groups");
	n = n > 0 ? getgroups(n, o->own_groups) : 0;
	o->nown = n > 0 ? (size_t)n : 0;
	return 0;
}

int cpx_rst_owner_enter(struct cpx_rst_owner *o, struct cpx_err *err)
{
	static const uint32_t none[2] = { 0, 0 };
	struct __user_cap_data_struct caps[2];
	int rc;

	if (o->inside || o->uid == 0 || geteuid() != 0)
		return 0;
	rc = find_groups(o, err);
	if (rc == 0)
		rc = save_groups(o, err);
	if (rc < 0)
		return rc;
	if (cap_get(caps) < 0)
		return cpx_err_sys(err, errno, "read own capabilities");
	o->effective[0] = caps[0].effective;
	o->effective[1] = caps[1].effective;
	o->inside = true;
	if (syscall(SYS_setgroups, o->ngroups, o->groups) < 0) {
		rc = cpx_err_sys(err, errno, "take the groups of user %u", o->uid);
		o->inside = false;
		return rc;
	}
	/* these two return the old value, whatever happens: the second call tells */
	syscall(SYS_setfsgid, o->gid);
	syscall(SYS_setfsuid, o->uid);
	if (syscall(SYS_setfsgid, -1) != (long)o->gid ||
	    syscall(SYS_setfsuid, -1) != (long)o->uid || set_effective(none) < 0) {
		cpx_rst_owner_leave(o);
		return cpx_err_set(err, CPX_E_PERM, "cannot act as user %u", o->uid);
	}
	return 0;
}

void cpx_rst_owner_leave(struct cpx_rst_owner *o)
{
	int keep = errno;

	if (!o->inside)
		return;
	if (set_effective(o->effective) < 0)
		abort();
	syscall(SYS_setfsuid, 0);
	syscall(SYS_setfsgid, 0);
	/* setfsuid() puts the file capabilities back as a side effect, not beyond what was
	 * there */
	if (syscall(SYS_setgroups, o->nown, o->own_groups) < 0 ||
	    set_effective(o->effective) < 0 || syscall(SYS_setfsuid, -1) != 0)
		abort();
	o->inside = false;
	errno = keep;
}

void cpx_rst_owner_free(struct cpx_rst_owner *o)
{
	free(o->groups);
	free(o->own_groups);
	memset(o, 0, sizeof(*o));
}
