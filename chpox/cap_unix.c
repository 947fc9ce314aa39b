/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_unix.c - unix sockets: who is connected to whom, names, backlogs, what is in flight.
 *
 * Peers and backlogs come from sock_diag. Queues are read first, for they may hold sockets that
 * no process has open; then each peer must be known, closed, or (a client that was not accepted
 * yet) in a backlog. A live peer outside the tree is refused, but for datagrams to the system's
 * log, which are connected again by name.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/unix_diag.h>

#include "base/fd.h"
#include "base/log.h"
#include "cap_sock.h"

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE (SIOCPROTOPRIVATE + 0)
#endif

#define STATE_LISTEN 10
#define ICONS_MAX 4096

struct unix_info {
	bool found;
	unsigned state;
	bool has_peer;
	uint32_t peer, backlog, shutdown;
	uint32_t vfs_ino;
	bool has_vfs;
	uint32_t nicons;
	uint32_t icons[]; /* room for ICONS_MAX, or what is there */
};

static void parse_attrs(const char *p, int len, struct unix_info *in)
{
	for (const struct rtattr *a = (const void *)p; RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		const void *v = RTA_DATA(a);
		size_t n = RTA_PAYLOAD(a);

		switch (a->rta_type) {
		case UNIX_DIAG_PEER:
			if (n >= 4)
				memcpy(&in->peer, v, 4);
			in->has_peer = true;
			break;
		case UNIX_DIAG_VFS:
			if (n >= 4)
				memcpy(&in->vfs_ino, v, 4);
			in->has_vfs = true;
			break;
		case UNIX_DIAG_RQLEN:
			if (n >= 8)
				memcpy(&in->backlog, (const char *)v + 4, 4);
			break;
		case UNIX_DIAG_SHUTDOWN:
			in->shutdown = n ? *(const uint8_t *)v : 0;
			break;
		case UNIX_DIAG_ICONS:
			in->nicons = (uint32_t)(n / 4 > ICONS_MAX ? ICONS_MAX : n / 4);
			memcpy(in->icons, v, in->nicons * 4);
			break;
		default:
			break;
		}
	}
}

/* Ask about one socket. in->found stays false where there is none with this inode. */
static int ask(int nl, uint64_t ino, struct unix_info *in, struct cpx_err *err)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} req = {
		.h = { sizeof(req), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0 },
		.r = { .sdiag_family = AF_UNIX,
		       .udiag_states = ~0u,
		       .udiag_ino = (uint32_t)ino,
		       .udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_VFS | UDIAG_SHOW_ICONS |
				     UDIAG_SHOW_RQLEN,
		       .udiag_cookie = { ~0u, ~0u } },
	};
	char buf[64 << 10] __attribute__((aligned(8)));
	const struct nlmsghdr *h = (const void *)buf;
	const struct unix_diag_msg *m;
	ssize_t n;

	memset(in, 0, sizeof(*in)); /* its icons are written before they are counted */
	if (send(nl, &req, sizeof(req), 0) < 0)
		return cpx_err_sys(err, errno, "sock_diag");
	n = recv(nl, buf, sizeof(buf), 0);
	if (n < 0)
		return cpx_err_sys(err, errno, "sock_diag");
	if ((size_t)n < sizeof(*h) || h->nlmsg_len > (size_t)n)
		return cpx_err_set(err, CPX_E_FORMAT, "sock_diag: a short answer");
	if (h->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *e = NLMSG_DATA(h);

		if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(*e)) && e->error == -ENOENT)
			return 0;
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "the kernel does not answer about unix sockets "
				   "(CONFIG_UNIX_DIAG)");
	}
	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return cpx_err_set(err, CPX_E_FORMAT, "sock_diag: a short answer");
	m = NLMSG_DATA(h);
	in->found = true;
	in->state = m->udiag_state;
	parse_attrs((const char *)(m + 1), (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*m))), in);
	return 0;
}

/* What the kernel says about @s, asked once. */
static int info_of(int nl, struct cpx_ipc_seen *s, const struct unix_info **out,
		   struct cpx_err *err)
{
	struct unix_info *in, *small;
	int rc;

	*out = s->info;
	if (s->info)
		return 0;
	in = malloc(sizeof(*in) + ICONS_MAX * sizeof(*in->icons));
	if (!in)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	rc = ask(nl, s->ino, in, err);
	if (rc < 0) {
		free(in);
		return rc;
	}
	small = realloc(in, sizeof(*in) + in->nicons * sizeof(*in->icons));
	*out = s->info = small ? small : in;
	return 0;
}

/* Where the file of a bound socket is, and whether its name still leads to it. */
static int cap_path(struct cpx_cap *c, int here, struct cpx_rec_sock *rec, struct cpx_err *err)
{
	const struct sockaddr_un *un = rec->name.p;
	char link[40], path[4096];
	struct stat st, at;
	ssize_t n;

	if (rec->name.n <= offsetof(struct sockaddr_un, sun_path) || !un->sun_path[0])
		return 0;
	CPX_AUTO_FD fd = ioctl(here, SIOCUNIXFILE);
	if (fd < 0 || fstat(fd, &st))
		return cpx_err_sys(err, errno, "the file of a unix socket");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return cpx_err_sys(err, errno, "the file of a unix socket");
	path[n] = '\0';
	if (st.st_nlink && !lstat(path, &at) && at.st_ino == st.st_ino &&
	    at.st_dev == st.st_dev)
		rec->flags |= CPX_SOCK_LINKED;
	else if (n > 10 && !strcmp(path + n - 10, " (deleted)"))
		path[n - 10] = '\0';
	rec->path = cpx_state_str(c->st, path);
	rec->path_mode = st.st_mode & 07777;
	rec->path_uid = st.st_uid;
	rec->path_gid = st.st_gid;
	return rec->path ? 0 : cpx_err_set(err, CPX_E_NOMEM, "out of memory");
}

static void cap_peer_cred(const struct cpx_cap *c, int here, struct cpx_rec_sock *rec)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(here, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return;
	rec->cred_uid = cred.uid;
	rec->cred_gid = cred.gid;
	for (size_t i = 0; i < c->ntasks; i++)
		if (c->tasks[i]->pid == cred.pid)
			rec->cred_pid = (uint32_t)c->tasks[i]->ns_pid;
}

static int cap_listener(struct cpx_cap *c, struct cpx_rec_sock *rec, const struct unix_info *in,
			struct cpx_err *err)
{
	uint32_t *ofds = cpx_state_alloc(c->st, (in->nicons + 1) * sizeof(*ofds));

	if (!ofds)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	for (uint32_t i = 0; i < in->nicons; i++) {
		struct cpx_ipc_seen *client = cpx_sock_by_ino(c, in->icons[i]);
		struct cpx_rec_sock *cr = client ? client->rec : NULL;

		if (!cr)
			continue;
		ofds[i] = client->ofd->id;
		cr->state = CPX_SOCK_QUEUED;
		cr->peer = rec->id;
	}
	rec->state = CPX_SOCK_LISTEN;
	rec->backlog = in->backlog;
	rec->queued = (struct cpx_u32s){ ofds, in->nicons };
	return 0;
}

static bool log_socket(const struct cpx_rec_sock *rec)
{
	static const char *const logs[] = { "/dev/log", "/run/systemd/journal/" };
	const struct sockaddr_un *un = rec->peer_name.p;
	size_t head = offsetof(struct sockaddr_un, sun_path);

	if (rec->type != SOCK_DGRAM || rec->peer_name.n <= head)
		return false;
	for (size_t i = 0; i < sizeof(logs) / sizeof(*logs); i++)
		if (rec->peer_name.n >= head + strlen(logs[i]) &&
		    !strncmp(un->sun_path, logs[i], strlen(logs[i])))
			return true;
	return false;
}

static int refuse_outside(struct cpx_cap *c, const struct cpx_ipc_seen *s, uint32_t peer,
			  struct cpx_err *err)
{
	pid_t pid = cpx_ipc_outsider(c, peer), from;
	struct cpx_rec_sock *rec = s->rec;

	if (!pid && c->dry_run)
		return 0; /* in flight: known once the job is stopped */
	from = cpx_ipc_inherited(c, s);
	if (from) {
		rec->state = CPX_SOCK_ORPHAN;
		if (!c->dry_run)
			cpx_log_note(
				"process %d: fd %d is a unix socket that process %d has left "
				"open in it: after a restart its other end is closed",
				(int)s->t->pid, s->num, (int)from);
		return 0;
	}
	return cpx_cap_refuse(
		c, s->t, err,
		"fd %d is a unix socket connected to process %d, which is not part "
		"of the job; mark both, or let it connect later",
		s->num, (int)pid);
}

static int cap_peer(struct cpx_cap *c, int nl, const struct cpx_ipc_seen *s,
		    const struct unix_info *in, struct cpx_err *err)
{
	struct cpx_rec_sock *rec = s->rec;
	struct cpx_ipc_seen *peer = in->peer ? cpx_sock_by_ino(c, in->peer) : NULL;
	struct unix_info *other;
	bool alive = false;
	struct pollfd pfd = { .fd = s->here };
	int rc;

	if (rec->state == CPX_SOCK_QUEUED)
		return 0;
	if (peer) {
		rec->state = CPX_SOCK_CONNECTED;
		rec->peer = peer->ofd->id;
		return 0;
	}
	if (log_socket(rec)) {
		rec->state = CPX_SOCK_NAMED;
		return 0;
	}
	other = in->peer ? malloc(sizeof(*other) + ICONS_MAX * sizeof(*other->icons)) : NULL;
	if (in->peer && !other)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	rc = other ? ask(nl, in->peer, other, err) : 0;
	if (other && rc >= 0)
		alive = other->found;
	free(other);
	if (rc < 0)
		return rc;
	if (alive)
		return refuse_outside(c, s, in->peer, err);
	rec->state = CPX_SOCK_ORPHAN;
	if (poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLERR))
		rec->flags |= CPX_SOCK_ERROR;
	return 0;
}

/* A client's data that waits with an unaccepted connection can be read by accept() only. */
static int check_queued(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	int out = 0;

	if (c->dry_run || ioctl(s->here, SIOCOUTQ, &out) || !out)
		return 0;
	return cpx_cap_refuse(c, s->t, err,
			      "fd %d is a unix socket that has sent data to a connection which "
			      "was not accepted yet; try again in a moment",
			      s->num);
}

/* First pass: what is its own, and its queue (which may add sockets to the list). */
static int cap_own(struct cpx_cap *c, int nl, struct cpx_ipc_seen *s, struct cpx_err *err)
{
	struct cpx_rec_sock *rec = s->rec;
	const struct unix_info *in;
	int rc = info_of(nl, s, &in, err);

	if (rc < 0)
		return rc;
	if (!in->found) {
		if (c->dry_run)
			return 0;
		return cpx_err_set(err, CPX_E_GONE,
				   "fd %d: the kernel does not know the socket", s->num);
	}
	rec->shutdown = in->shutdown;
	rc = cpx_sock_names(c, s->here, rec, err);
	if (rc >= 0)
		rc = cap_path(c, s->here, rec, err);
	if (rc >= 0)
		rc = cpx_sock_common_opts(c, s->here, rec->id, err);
	if (rc >= 0)
		rc = cpx_sock_filter(c, s, err);
	if (rc < 0 || c->dry_run || in->state == STATE_LISTEN)
		return rc;
	cap_peer_cred(c, s->here, rec);
	return cpx_sock_queue(c, s, in->shutdown & 1, err);
}

/* Passes over the list: 0 listeners, 1 the others' peers. */
static int cap_relations(struct cpx_cap *c, int nl, struct cpx_ipc_seen *s, int pass,
			 struct cpx_err *err)
{
	struct cpx_rec_sock *rec = s->rec;
	const struct unix_info *in;
	int rc = info_of(nl, s, &in, err);

	if (rc < 0 || !in->found)
		return rc;
	if (in->state == STATE_LISTEN) {
		cap_peer_cred(c, s->here, rec);
		return pass ? 0 : cap_listener(c, rec, in, err);
	}
	if (!pass)
		return 0;
	if (in->has_peer)
		rc = cap_peer(c, nl, s, in, err);
	if (rc >= 0 && rec->state == CPX_SOCK_QUEUED)
		rc = check_queued(c, s, err);
	return rc;
}

int cpx_cap_unix_sockets(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_ipc_seen *s = cpx_ipc_of(c)->socks;
	CPX_AUTO_FD nl = -1;
	int rc = 0;

	for (; s && ((struct cpx_rec_sock *)s->rec)->family != AF_UNIX; s = s->next)
		;
	if (!s)
		return 0;
	nl = cpx_sock_in_netns(s->t, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, err);
	if (nl < 0)
		return nl;
	for (int pass = -1; pass < 2; pass++) {
		for (s = cpx_ipc_of(c)->socks; s && rc >= 0; s = s->next) {
			if (((struct cpx_rec_sock *)s->rec)->family != AF_UNIX)
				continue;
			rc = pass < 0 ? cap_own(c, nl, s, err)
				      : cap_relations(c, nl, s, pass, err);
			if (rc < 0 && rc != CPX_E_UNSUPPORTED)
				cpx_err_wrap(err, "unix socket (fd %d)", s->num);
		}
	}
	return rc < 0 ? rc : 0;
}
