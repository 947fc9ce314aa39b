/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cgroup.h - one cgroup (v2) a job, in which its whole tree is from the start on, so that it
 * can be killed and waited for as one. Where no writable v2 hierarchy is mounted all of this
 * answers CPX_E_UNSUPPORTED and jobs do without.
 */
#ifndef CPX_BASE_CGROUP_H
#define CPX_BASE_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

struct cpx_err;

#define CPX_CGROUP_PATH 512
#define CPX_CGROUP_NAME 128

/* The group of job @job of state directory @dir: several directories may have jobs of one name.
 */
int cpx_cgroup_job(const char *dir, const char *job, char name[CPX_CGROUP_NAME],
		   struct cpx_err *err);

/* Where cgroup v2 is mounted, if we may make groups there. */
int cpx_cgroup_base(char path[CPX_CGROUP_PATH]);

/* Make (or find) the group @name. Return: a descriptor of its directory. */
int cpx_cgroup_make(const char *name, struct cpx_err *err);
/* Move a process and, as they are now, nobody else. */
int cpx_cgroup_add(int cgroup_fd, pid_t pid, struct cpx_err *err);
/*
 * cpx_cgroup_freeze() - stop all in the group, or let them go on. Stopping waits until none of
 * them runs any more: CPX_E_TIMEOUT after @timeout_ms. CPX_E_NOENT: there is no such group.
 */
int cpx_cgroup_freeze(const char *name, bool freeze, int timeout_ms, struct cpx_err *err);
/*
 * cpx_cgroup_kill() - kill all in the group, wait until it is empty, @timeout_ms at most, and
 * remove it. No group: nothing. A killed group is not used again: some kernels then kill at
 * once what is cloned into it.
 */
int cpx_cgroup_kill(const char *name, int timeout_ms, struct cpx_err *err);

#endif
