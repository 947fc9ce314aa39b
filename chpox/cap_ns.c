/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_ns.c - namespaces of the job's own.
 *
 * What a keeper or a restart gives a job (PID, mount, time) is not looked at, as long as the
 * whole job is in the same. A UTS namespace is its two names; an IPC namespace is made again if
 * nothing is in it; a network namespace if it is the whole job's and has the loopback device
 * alone. Everything else is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fd.h"
#include "cap_sock.h"

static bool same_ns(int proc_fd, const char *path, const struct cpx_cap_task *other)
{
	struct stat a, b;
	char own[64];

	snprintf(own, sizeof(own), "/proc/thread-self/%s", path);
	return fstatat(proc_fd, path, &a, 0) < 0 ||
	       (other ? fstatat(other->proc_fd, path, &b, 0) : stat(own, &b)) < 0 ||
	       (a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

/* --- what is in one --------------------------------------------------------------------------
 */

/* Run @look in the namespace of @t; nothing may go on in one that is not ours. */
static int inside(const struct cpx_cap_task *t, const char *path, int type,
		  int (*look)(void *to, struct cpx_err *err), void *to, struct cpx_err *err)
{
	CPX_AUTO_FD theirs = openat(t->proc_fd, path, O_RDONLY | O_CLOEXEC);
	char own[64];
	int rc;

	snprintf(own, sizeof(own), "/proc/thread-self/%s", path);
	CPX_AUTO_FD ours = open(own, O_RDONLY | O_CLOEXEC);
	if (theirs < 0 || ours < 0 || setns(theirs, type) < 0)
		return cpx_err_sys(err, errno, "entering %s of process %d", path, t->pid);
	rc = look(to, err);
	if (setns(ours, type) < 0)
		abort();
	return rc;
}

static int look_uts(void *to, struct cpx_err *err)
{
	return uname(to) < 0 ? cpx_err_sys(err, errno, "uname") : 0;
}

/* Each list has a line for its heading. */
static int look_ipc(void *to, struct cpx_err *err)
{
	static const char *const lists[] = { "/proc/sysvipc/shm", "/proc/sysvipc/sem",
					     "/proc/sysvipc/msg" };
	bool *filled = to;

	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
		CPX_AUTO_FREE char *text = NULL;
		const char *end;

		if (cpx_read_file(AT_FDCWD, lists[i], 16u << 20, &text, NULL) <= 0)
			continue;
		end = strchr(text, '\n');
		*filled |= end && end[1];
	}
	(void)err;
	return 0;
}

/* Is there no device but lo, with no address but its own? From /proc/PID/net of the namespace.
 */
static bool loopback_alone(const struct cpx_cap_task *t, int sock)
{
	struct ifreq several[2];
	struct ifconf conf = { .ifc_len = sizeof(several), .ifc_req = several };
	CPX_AUTO_FREE char *text = NULL;
	const char *p;
	int lines = 0;

	if (cpx_read_file(t->proc_fd, "net/dev", 1u << 20, &text, NULL) <= 0)
		return false;
	for (p = text; (p = strchr(p, '\n')); p++)
		lines++;
	if (lines != 3 || !strstr(text, " lo:")) /* two are headings */
		return false;
	return !ioctl(sock, SIOCGIFCONF, &conf) && conf.ifc_len <= (int)sizeof(several[0]);
}

static int cap_uts(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_rec_ns *rec,
		   struct cpx_err *err)
{
	struct utsname u;
	int rc = inside(t, "ns/uts", CLONE_NEWUTS, look_uts, &u, err);

	if (rc < 0)
		return rc;
	rec->host = cpx_state_str(c->st, u.nodename);
	rec->domain = cpx_state_str(c->st, u.domainname);
	return rec->host && rec->domain ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory");
}

static int cap_ipc(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_rec_ns *rec,
		   struct cpx_err *err)
{
	bool filled = false;
	int rc = inside(t, "ns/ipc", CLONE_NEWIPC, look_ipc, &filled, err);

	(void)rec;
	if (rc < 0 || !filled)
		return rc;
	return cpx_cap_refuse(c, t, err,
			      "it is in an IPC namespace of its own with SysV objects in it, "
			      "which cannot be made again");
}

static int cap_net(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_rec_ns *rec,
		   struct cpx_err *err)
{
	struct ifreq lo = { .ifr_name = "lo" };
	CPX_AUTO_FD sock = cpx_sock_in_netns(t, AF_INET, SOCK_DGRAM, 0, err);

	if (sock < 0)
		return sock;
	if (t != c->tasks[0] || !loopback_alone(t, sock) || ioctl(sock, SIOCGIFFLAGS, &lo))
		return cpx_cap_refuse(
			c, t, err,
			"it is in a network namespace of its own, which cannot be "
			"made again%s",
			t == c->tasks[0] ? ": it has more than the loopback device"
					 : "; start the whole job in it");
	rec->lo_up = (lo.ifr_flags & IFF_UP) != 0;
	return 0;
}

/* --- all of them -----------------------------------------------------------------------------
 */

static const struct kind {
	const char *path, *what;
	int type;
	size_t field; /* in the task's record */
	int (*cap)(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_rec_ns *rec,
		   struct cpx_err *err);
	bool may_be_own; /* the whole job's: given by a keeper or a restart */
} kinds[] = {
	{ "ns/uts", "UTS", CLONE_NEWUTS, offsetof(struct cpx_rec_task, uts_ns), cap_uts,
	  false },
	{ "ns/ipc", "IPC", CLONE_NEWIPC, offsetof(struct cpx_rec_task, ipc_ns), cap_ipc,
	  false },
	{ "ns/net", "network", CLONE_NEWNET, offsetof(struct cpx_rec_task, net_ns), cap_net,
	  false },
	{ "ns/user", "user", 0, 0, NULL, false },
	{ "ns/mnt", "mount", 0, 0, NULL, true },
	{ "ns/pid", "PID", 0, 0, NULL, true },
	{ "ns/time", "time", 0, 0, NULL, true },
};

static uint32_t *field_of(struct cpx_cap_task *t, const struct kind *k)
{
	return (uint32_t *)((char *)t->rec + k->field);
}

/* The id of the namespace that @t is in and the host is not. */
static int own_ns(struct cpx_cap *c, struct cpx_cap_task *t, const struct kind *k,
		  struct cpx_err *err)
{
	struct cpx_rec_ns *rec;

	for (size_t i = 0; i < c->ntasks && c->tasks[i] != t; i++) {
		struct cpx_cap_task *o = c->tasks[i];

		if (!o->zombie && *field_of(o, k) && same_ns(t->proc_fd, k->path, o)) {
			*field_of(t, k) = *field_of(o, k);
			return 0;
		}
	}
	rec = cpx_state_new_rec(c->st, ns);
	if (!rec)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for namespaces");
	rec->id = *field_of(t, k) = cpx_cap_id(c);
	rec->type = (uint32_t)k->type;
	return k->cap(c, t, rec, err);
}

/* A thread that has ended meanwhile is none that is in another one. */
static int check_thread(struct cpx_cap *c, struct cpx_cap_task *t, pid_t tid,
			struct cpx_err *err)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct stat own, its;
		char path[64];

		snprintf(path, sizeof(path), "task/%d/%s", tid, kinds[i].path);
		if (fstatat(t->proc_fd, kinds[i].path, &own, 0) < 0 ||
		    fstatat(t->proc_fd, path, &its, 0) < 0 || own.st_ino == its.st_ino)
			continue;
		return cpx_cap_refuse(c, t, err,
				      "its thread %d is in a %s namespace of its own, which "
				      "cannot be made again",
				      tid, kinds[i].what);
	}
	return 0;
}

static int check_threads(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	int rc = 0;

	for (size_t k = 1; k < t->nthreads && t->live == t->pid && rc == 0; k++)
		rc = check_thread(c, t, t->threads[k].t.tid, err);
	return rc;
}

int cpx_cap_namespaces(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	const struct cpx_cap_task *root = c->tasks[0];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct kind *k = &kinds[i];
		int rc = 0;

		if (t == root && k->may_be_own)
			continue;
		if (k->cap && !same_ns(t->proc_fd, k->path, NULL))
			rc = own_ns(c, t, k, err);
		else if (!same_ns(t->proc_fd, k->path, t == root || k->cap ? NULL : root))
			rc = cpx_cap_refuse(
				c, t, err,
				"it is in a %s namespace of its own, which cannot be "
				"made again",
				k->what);
		if (rc < 0)
			return rc;
	}
	if (t == root) {
		int rc = cpx_cap_mounts(c, t, err);

		if (rc < 0)
			return rc;
	}
	if (root->rec->net_ns && !t->rec->net_ns) /* sockets are made in the root's */
		return cpx_cap_refuse(c, t, err,
				      "it is in another network namespace than process %d",
				      root->pid);
	return c->dry_run ? check_threads(c, t, err) : 0;
}

int cpx_cap_ns_threads(struct cpx_cap *c, struct cpx_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < c->ntasks && rc == 0; i++)
		rc = check_threads(c, c->tasks[i], err);
	return rc;
}
