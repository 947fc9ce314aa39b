/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_ns.c - UTS, IPC and network namespaces of the job's own.
 *
 * The first process that was in one makes it, the others join it; that comes before sockets are
 * made, which stand in the root process's network namespace. Names are set in the namespace by
 * calls of that process.
 */
#include "rst_call.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "rst_sock.h"

#define NAME_MAX_UTS 64

static const struct kind {
	const char *path;
	uint32_t type;
	size_t field;
} kinds[] = {
	{ "uts", CLONE_NEWUTS, offsetof(struct cpx_rec_task, uts_ns) },
	{ "ipc", CLONE_NEWIPC, offsetof(struct cpx_rec_task, ipc_ns) },
	{ "net", CLONE_NEWNET, offsetof(struct cpx_rec_task, net_ns) },
};

static uint32_t id_of(const struct cpx_rec_task *t, const struct kind *k)
{
	return *(const uint32_t *)((const char *)t + k->field);
}

static const struct cpx_rec_ns *ns_of(const struct cpx_rst *r, uint32_t id, uint32_t type)
{
	cpx_state_each(r->st, ns, n)
		if (n->id == id && n->type == type)
			return n;
	return NULL;
}

int cpx_rst_ns_check(const struct cpx_rst *r, struct cpx_err *err)
{
	uint32_t root_net = 0;
	bool first = true;

	cpx_state_each(r->st, ns, n)
		if ((n->host && strlen(n->host) > NAME_MAX_UTS) ||
		    (n->domain && strlen(n->domain) > NAME_MAX_UTS))
			return cpx_err_set(err, CPX_E_FORMAT, "a host name is too long");
	cpx_state_each(r->st, task, t) {
		if (t->state == CPX_TASK_ZOMBIE)
			continue;
		root_net = first ? t->net_ns : root_net;
		first = false;
		for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
			if (id_of(t, &kinds[i]) &&
			    !ns_of(r, id_of(t, &kinds[i]), kinds[i].type))
				return cpx_err_set(err, CPX_E_FORMAT,
						   "process %u: its %s namespace is missing",
						   t->pid, kinds[i].path);
		if (t->net_ns != root_net)
			return cpx_err_set(err, CPX_E_FORMAT,
					   "process %u: a network namespace of its own",
					   t->pid);
	}
	return 0;
}

static int join(struct cpx_rst *r, struct cpx_rst_task *t, const struct cpx_rst_task *of,
		const struct kind *k, struct cpx_err *err)
{
	struct cpx_tracee *tr = &t->threads[0].t;
	char path[64];
	int there, rc;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", of->pid, k->path);
	CPX_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return cpx_err_sys(err, errno, "%s", path);
	there = cpx_rst_give_fd(r, t, fd, -1, true, err);
	if (there < 0)
		return there;
	rc = cpx_tok(tr, NULL, err, "join a namespace", SYS_setns, (uint64_t)there, k->type);
	return rc < 0 ? rc
		      : cpx_tok(tr, NULL, err, "close a namespace", SYS_close, (uint64_t)there);
}

static int name(struct cpx_tracee *tr, long nr, const char *text, struct cpx_err *err)
{
	size_t n = text ? strlen(text) : 0;
	uint64_t at;
	int rc;

	cpx_tracee_reset(tr);
	at = cpx_tracee_push(tr, n ? text : "", n + 1);
	rc = at ? cpx_tok(tr, NULL, err, "name of the host", nr, at, n)
		: cpx_err_set(err, CPX_E_SYS, "no room for a call's arguments");
	cpx_tracee_reset(tr);
	return rc;
}

static int raise_loopback(struct cpx_rst *r, struct cpx_err *err)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	CPX_AUTO_FD fd = cpx_sock_new(r, AF_INET, SOCK_DGRAM, 0, err);

	if (fd < 0)
		return fd;
	return ioctl(fd, SIOCSIFFLAGS, &lo) ? cpx_err_sys(err, errno, "loopback device") : 0;
}

static int make(struct cpx_rst *r, struct cpx_rst_task *t, const struct kind *k,
		const struct cpx_rec_ns *rec, struct cpx_err *err)
{
	struct cpx_tracee *tr = &t->threads[0].t;
	int rc = cpx_tok(tr, NULL, err, "make a namespace", SYS_unshare, k->type);

	if (rc == 0 && k->type == CLONE_NEWUTS)
		rc = name(tr, SYS_sethostname, rec->host, err);
	if (rc == 0 && k->type == CLONE_NEWUTS)
		rc = name(tr, SYS_setdomainname, rec->domain, err);
	if (rc == 0 && k->type == CLONE_NEWNET && rec->lo_up)
		rc = raise_loopback(r, err);
	return rc;
}

int cpx_rst_ns_enter(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds) && rc == 0; i++) {
		const struct kind *k = &kinds[i];
		uint32_t id = id_of(t->rec, k);
		const struct cpx_rst_task *of = r->tasks;

		if (!id)
			continue;
		while (of->rec->state == CPX_TASK_ZOMBIE || id_of(of->rec, k) != id)
			of++; /* @t at the latest */
		rc = of == t ? make(r, t, k, ns_of(r, id, k->type), err)
			     : join(r, t, of, k, err);
	}
	return rc;
}
