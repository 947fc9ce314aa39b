/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_inet.c - TCP, UDP and netlink sockets: all internet sockets are made when the first is
 * asked for.
 *
 * TCP sockets are bound in repair mode, where ports that are in use by the job's other sockets
 * or by remains of its last life are no obstacle. The two ends of a connection are connected to
 * each other in repair mode with sequence numbers of our own choice; then data is simply sent
 * again. An end that the job had closed already is made and closed again.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>

#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "rst_sock.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

enum {
	OPT_MSS = 2,
	OPT_WINDOW = 3,
	OPT_SACK_PERM = 4,
	OPT_TIMESTAMP = 8
}; /* RFC 9293, 7323, 2018 */

#define MSS 65483 /* an upper bound: the route's own counts */
#define WSCALE 7
#define RESET_MS 2000
#define TRIES 40 /* of 50 ms: remains of the last life may hold a pair of addresses */

static bool is_tcp(const struct cpx_rec_sock *rec)
{
	return rec->type == SOCK_STREAM &&
	       (rec->proto == IPPROTO_TCP || rec->proto == IPPROTO_MPTCP);
}

/* Can it be bound in repair mode, and need it? */
static bool repairable(const struct cpx_rec_sock *rec)
{
	return is_tcp(rec) && rec->proto == IPPROTO_TCP && rec->state != CPX_SOCK_LISTEN;
}

static bool is_inet(const struct cpx_rec_sock *rec)
{
	return rec->family == AF_INET || rec->family == AF_INET6;
}

static int set_int(int fd, int level, int opt, int v)
{
	return setsockopt(fd, level, opt, &v, sizeof(v));
}

static unsigned port_of(const struct cpx_blob *name)
{
	const struct sockaddr_in *a = name->p; /* the port stands at the same place in IPv6 */

	return name->n >= sizeof(*a) ? ntohs(a->sin_port) : 0;
}

static bool any_address(const struct cpx_blob *name)
{
	static const uint8_t zeros[16];
	const struct sockaddr_in *a = name->p;
	const struct sockaddr_in6 *b = name->p;

	if (name->n < sizeof(*a))
		return true;
	if (a->sin_family == AF_INET)
		return a->sin_addr.s_addr == INADDR_ANY;
	return name->n < sizeof(*b) || !memcmp(&b->sin6_addr, zeros, 16);
}

static int check(const struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	unsigned port = port_of(&rec->name);

	if ((rec->name.n && rec->name.n < sizeof(struct sockaddr_in)) ||
	    (rec->peer_name.n && rec->peer_name.n < sizeof(struct sockaddr_in)) ||
	    rec->name.n > sizeof(struct sockaddr_storage) ||
	    rec->peer_name.n > sizeof(struct sockaddr_storage))
		return cpx_err_set(err, CPX_E_FORMAT, "an address of %u bytes", rec->name.n);
	if ((!is_tcp(rec) && rec->type != SOCK_DGRAM) ||
	    ((rec->flags & CPX_SOCK_REFUSED) && (!is_tcp(rec) || rec->state != CPX_SOCK_IDLE)))
		return cpx_err_set(err, CPX_E_FORMAT, "type %u, protocol %u", rec->type,
				   rec->proto);
	if (port && port < 1024 && r->opts->owner_uid && !r->opts->trusted)
		return cpx_err_set(err, CPX_E_PERM, "port %u is for root's jobs", port);
	return 0;
}

/* Options that decide what bind() may do, or that a bound one refuses; in this order. */
static int early_options(struct cpx_rst *r, const struct cpx_rec_sock *rec, int fd,
			 struct cpx_err *err)
{
	static const struct {
		uint32_t level, opt;
	} early[] = {
		{ IPPROTO_IPV6, IPV6_V6ONLY },
		{ SOL_SOCKET, SO_REUSEADDR },
		{ SOL_SOCKET, SO_REUSEPORT },
		{ IPPROTO_IP, IP_FREEBIND },
		{ IPPROTO_IP, IP_TRANSPARENT },
		{ IPPROTO_IPV6, IPV6_FREEBIND },
		{ IPPROTO_IPV6, IPV6_TRANSPARENT },
		{ IPPROTO_IP, IP_UNICAST_IF },
		{ IPPROTO_IPV6, IPV6_UNICAST_IF },
		{ SOL_SOCKET, SO_BINDTODEVICE },
		{ IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT },
	};

	for (size_t i = 0; i < sizeof(early) / sizeof(*early); i++) {
		cpx_ipc_each(r, CPX_BY_OPT, rec->id, sockopt, o)
		{
			uint8_t now[256];
			socklen_t len = sizeof(now);

			if (o->level != early[i].level || o->opt != early[i].opt)
				continue;
			if (!getsockopt(fd, (int)o->level, (int)o->opt, now, &len) &&
			    len == o->value.n && !memcmp(now, o->value.p, len))
				continue;
			if (setsockopt(fd, (int)o->level, (int)o->opt, o->value.p, o->value.n))
				return cpx_err_sys(err, errno, "socket option %u of level %u",
						   o->opt, o->level);
		}
	}
	return 0;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
}

static int bind_to(int fd, const struct cpx_blob *name, bool tcp, struct cpx_err *err)
{
	int tries = 0;

	if (!name->n || (!port_of(name) && any_address(name)))
		return 0;
	if (tcp && set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON))
		return cpx_err_sys(err, errno, "TCP repair mode");
	while (bind(fd, name->p, name->n)) {
		if (errno != EADDRINUSE || ++tries > TRIES)
			return cpx_err_sys(err, errno, "binding to port %u", port_of(name));
		nap();
	}
	return 0;
}

static int new_socket(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	CPX_AUTO_FD fd =
		cpx_sock_new(r, (int)rec->family, (int)rec->type, (int)rec->proto, err);
	int rc;

	if (fd < 0)
		return fd;
	rc = r->opts->trusted ? 0 : cpx_ipc_drop(r, err);
	if (rc < 0)
		return rc;
	rc = early_options(r, rec, fd, err);
	if (!r->opts->trusted)
		cpx_ipc_undrop(r);
	return rc < 0 ? rc : cpx_steal_fd(&fd);
}

/* --- a TCP connection
 * ------------------------------------------------------------------------- */

static int set_seq(int fd, int queue, uint32_t seq)
{
	return set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) ||
	       setsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, sizeof(seq));
}

static int repair_connect(int fd, const struct cpx_blob *name, const struct cpx_blob *peer,
			  uint32_t send, uint32_t recv, struct cpx_err *err)
{
	const struct tcp_repair_opt opts[] = {
		{ OPT_MSS, MSS },
		{ OPT_WINDOW, WSCALE | (WSCALE << 16) },
		{ OPT_SACK_PERM, 0 },
		/* also lets the pair of addresses be taken from its own remains in TIME_WAIT */
		{ OPT_TIMESTAMP, 0 },
	};
	int tries = 0, rc = bind_to(fd, name, true, err);

	if (rc < 0)
		return rc;
	if (set_seq(fd, TCP_SEND_QUEUE, send) || set_seq(fd, TCP_RECV_QUEUE, recv))
		return cpx_err_sys(err, errno, "sequence numbers");
	while (connect(fd, peer->p, peer->n)) {
		if (errno != EADDRNOTAVAIL || ++tries > TRIES)
			return cpx_err_sys(err, errno, "connecting to port %u", port_of(peer));
		nap();
	}
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, opts, sizeof(opts)))
		return cpx_err_sys(err, errno, "TCP options");
	return 0;
}

static int make_pair(struct cpx_rst *r, const struct cpx_rec_sock *rec,
		     const struct cpx_rec_sock *peer, struct cpx_err *err)
{
	const struct cpx_blob *pname = peer ? &peer->name : &rec->peer_name;
	const struct cpx_blob *ppeer = peer ? &peer->peer_name : &rec->name;
	CPX_AUTO_FD a = new_socket(r, rec, err);
	CPX_AUTO_FD b = new_socket(r, peer ? peer : rec, err);
	uint32_t sa = 0x10000000u + rec->id * 4096u, sb = 0x50000000u + rec->id * 4096u;
	int rc;

	if (a < 0 || b < 0)
		return CPX_E_SYS;
	rc = repair_connect(a, &rec->name, &rec->peer_name, sa, sb, err);
	if (rc >= 0)
		rc = repair_connect(b, pname, ppeer, sb, sa, err);
	if (rc < 0)
		return rc;
	/* leaving repair mode asks the other side for its window: both must stand */
	if (set_int(a, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF) ||
	    set_int(b, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF))
		return cpx_err_sys(err, errno, "leaving TCP repair mode");
	/* until all listen; what was recorded is set in the end */
	set_int(a, SOL_SOCKET, SO_REUSEADDR, 1);
	set_int(b, SOL_SOCKET, SO_REUSEADDR, 1);
	rc = cpx_ipc_made_add(r, rec, 0, cpx_steal_fd(&a), err);
	if (rc < 0)
		return rc;
	return cpx_ipc_made_add(r, peer ? peer : rec, peer ? 0 : 1, cpx_steal_fd(&b), err);
}

static int make_connected(struct cpx_rst *r, const struct cpx_rec_sock *rec,
			  struct cpx_err *err)
{
	const struct cpx_rec_sock *peer = NULL;

	if (rec->state == CPX_SOCK_CONNECTED) {
		peer = cpx_sock_rec(r, rec->peer);
		if (!peer || peer == rec || !is_inet(peer) || !is_tcp(peer) ||
		    peer->state != CPX_SOCK_CONNECTED || peer->peer != rec->id)
			return cpx_err_set(err, CPX_E_FORMAT, "its peer does not fit");
	}
	return make_pair(r, rec, peer, err);
}

/* Send one request about sockets in TIME_WAIT. */
static int ask_diag(int nl, int type, int flags, const struct inet_diag_req_v2 *what)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} req = { .h = { sizeof(req), (uint16_t)type, (uint16_t)(NLM_F_REQUEST | flags), 1, 0 },
		  .r = *what };

	return send(nl, &req, sizeof(req), 0) == sizeof(req) ? 0 : -1;
}

/*
 * What a crash leaves of a listener's connections keeps its port for a minute where it may not
 * be reused. They are nobody's any more: end them. Where the kernel cannot, bind() tells.
 */
static void end_remains(struct cpx_rst *r, const struct cpx_rec_sock *rec)
{
	struct inet_diag_req_v2 q = { .sdiag_family = (uint8_t)rec->family,
				      .sdiag_protocol = IPPROTO_TCP,
				      .idiag_states = 1u << 6 /* TIME_WAIT */ };
	CPX_AUTO_FD list = cpx_sock_new(r, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, NULL);
	CPX_AUTO_FD act = cpx_sock_new(r, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, NULL);
	char buf[16384] __attribute__((aligned(8)));
	ssize_t n;

	if (list < 0 || act < 0 || ask_diag(list, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &q))
		return;
	while ((n = recv(list, buf, sizeof(buf), 0)) > 0)
		for (const struct nlmsghdr *h = (const void *)buf; NLMSG_OK(h, n);
		     h = NLMSG_NEXT(h, n)) {
			const struct inet_diag_msg *m = NLMSG_DATA(h);

			if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR ||
			    h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
				return;
			if (ntohs(m->id.idiag_sport) != port_of(&rec->name))
				continue;
			q.sdiag_family = m->idiag_family;
			q.id = m->id;
			ask_diag(act, SOCK_DESTROY, 0, &q);
		}
}

static int make_one(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	CPX_AUTO_FD fd = -1;
	int rc;

	if (cpx_ipc_made_find(r, rec, 0))
		return 0;
	if (rec->state == CPX_SOCK_CONNECTED || rec->state == CPX_SOCK_ORPHAN ||
	    rec->state == CPX_SOCK_BROKEN)
		return is_tcp(rec)
			       ? make_connected(r, rec, err)
			       : cpx_err_set(err, CPX_E_FORMAT, "a connection that is no TCP");
	fd = new_socket(r, rec, err);
	if (fd < 0)
		return fd;
	if (rec->state == CPX_SOCK_LISTEN) {
		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		if (is_tcp(rec) && port_of(&rec->name))
			end_remains(r, rec);
	}
	rc = bind_to(fd, &rec->name, repairable(rec), err);
	if (rc < 0)
		return rc;
	if (repairable(rec)) {
		set_int(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
		set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	}
	return cpx_ipc_made_add(r, rec, 0, cpx_steal_fd(&fd), err);
}

int cpx_rst_inet(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	int fd;

	for (int listeners = 1; listeners >= 0 && !cpx_rst_ipc_of(r)->inet_made; listeners--) {
		cpx_state_each(r->st, sock, rec) {
			int rc = 0;

			if (is_inet(rec) && (rec->state == CPX_SOCK_LISTEN) == listeners) {
				rc = check(r, rec, err);
				if (rc >= 0)
					rc = make_one(r, rec, err);
			}
			if (rc < 0)
				return cpx_err_wrap(err, "internet socket %u", rec->id);
		}
	}
	cpx_rst_ipc_of(r)->inet_made = true;
	fd = cpx_sock_made(r, ofd->id);
	if (fd < 0)
		return cpx_err_set(err, CPX_E_FORMAT, "socket %u: no record", ofd->id);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? cpx_err_sys(err, errno, "socket %u", ofd->id) : fd;
}

/* --- late
 * --------------------------------------------------------------------------------------- */

static int fill_tcp(int from, const struct cpx_rec_sockmsg *m, struct cpx_err *err)
{
	cpx_sock_widen(from, m->data.n);
	if (send(from, m->data.p, m->data.n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)m->data.n)
		return cpx_err_sys(err, errno, "putting %u bytes back", m->data.n);
	return 0;
}

/* A datagram comes again from its sender, if that address can still be had. */
static int fill_udp(struct cpx_rst *r, const struct cpx_rec_sock *rec,
		    const struct cpx_rec_sockmsg *m, struct cpx_err *err)
{
	struct sockaddr_storage to;
	CPX_AUTO_FD temp = -1;
	int from = -1;

	if (rec->name.n < sizeof(struct sockaddr_in) || m->name.n < sizeof(struct sockaddr_in))
		return 0;
	memset(&to, 0, sizeof(to));
	memcpy(&to, rec->name.p, rec->name.n);
	if (any_address(&rec->name) && to.ss_family == AF_INET)
		((struct sockaddr_in *)&to)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else if (any_address(&rec->name))
		((struct sockaddr_in6 *)&to)->sin6_addr = in6addr_loopback;
	cpx_state_each(r->st, sock, o)
		if (is_inet(o) && !is_tcp(o) && o->family == rec->family &&
		    port_of(&o->name) == port_of(&m->name))
			from = cpx_sock_made(r, o->id);
	if (from < 0) {
		from = temp = cpx_sock_new(r, (int)rec->family, SOCK_DGRAM, 0, err);
		if (temp < 0)
			return temp;
		set_int(temp, SOL_SOCKET, SO_REUSEADDR, 1);
		if (bind(temp, m->name.p, m->name.n)) {
			cpx_log_note(
				"a datagram of %u bytes for port %u is lost: its sender is not "
				"of this machine",
				m->data.n, port_of(&rec->name));
			return 0;
		}
	}
	if (sendto(from, m->data.p, m->data.n, MSG_DONTWAIT | MSG_NOSIGNAL,
		   (struct sockaddr *)&to, rec->name.n) < 0)
		return cpx_err_sys(err, errno, "putting a datagram back");
	return 0;
}

static int fill(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	const struct cpx_ipc_made *other = cpx_ipc_made_find(r, rec, 1);
	int from = other ? other->fd : cpx_sock_made(r, rec->peer), rc = 0;

	cpx_ipc_each(r, CPX_BY_MSG, rec->id, sockmsg, m)
	{
		if (rc < 0)
			return rc;
		if (is_tcp(rec) && from < 0)
			return cpx_err_set(err, CPX_E_FORMAT, "data for no connection");
		cpx_sock_widen(cpx_sock_made(r, rec->id), m->data.n);
		rc = is_tcp(rec) ? fill_tcp(from, m, err) : fill_udp(r, rec, m, err);
	}
	return rc;
}

/* The other side goes away rudely. @told: the error is nobody's business any more. */
static int reset(int fd, int *other, bool told, struct cpx_err *err)
{
	struct linger now = { .l_onoff = 1 };
	struct pollfd pfd = { .fd = fd };
	socklen_t len = sizeof(int);
	int sys;

	setsockopt(*other, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	cpx_close(other);
	if (poll(&pfd, 1, RESET_MS) <= 0)
		return cpx_err_set(err, CPX_E_TIMEOUT, "resetting a connection");
	if (told)
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &len);
	return 0;
}

/* Connect to a port where nobody listens. */
static int be_refused(struct cpx_rst *r, const struct cpx_rec_sock *rec, int fd,
		      struct cpx_err *err)
{
	struct sockaddr_storage a = { .ss_family = (sa_family_t)rec->family };
	CPX_AUTO_FD deaf = cpx_sock_new(r, (int)rec->family, SOCK_STREAM, 0, err);
	socklen_t len = rec->family == AF_INET6 ? sizeof(struct sockaddr_in6)
						: sizeof(struct sockaddr_in);
	struct pollfd pfd = { .fd = fd };
	int flags = fcntl(fd, F_GETFL);

	if (deaf < 0)
		return deaf;
	if (!any_address(&rec->name) && rec->name.n <= sizeof(a))
		memcpy(&a, rec->name.p, rec->name.n);
	else if (rec->family == AF_INET6)
		((struct sockaddr_in6 *)&a)->sin6_addr = in6addr_loopback;
	else
		((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	((struct sockaddr_in *)&a)->sin_port = 0;
	if (bind(deaf, (void *)&a, len) || getsockname(deaf, (void *)&a, &len))
		return cpx_err_sys(err, errno, "a port where nobody listens");
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	if (!connect(fd, (void *)&a, len) || errno != EINPROGRESS)
		return cpx_err_sys(err, errno, "a connection that is refused");
	if (poll(&pfd, 1, RESET_MS) <= 0)
		return cpx_err_set(err, CPX_E_TIMEOUT, "a connection that is refused");
	fcntl(fd, F_SETFL, flags);
	return 0;
}

static int settle(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	struct cpx_ipc_made *other = cpx_ipc_made_find(r, rec, 1);
	int fd = cpx_sock_made(r, rec->id);

	if (rec->state == CPX_SOCK_NAMED && connect(fd, rec->peer_name.p, rec->peer_name.n))
		return cpx_err_sys(err, errno, "connecting a datagram socket");
	if (other && rec->state == CPX_SOCK_BROKEN)
		return reset(fd, &other->fd, !(rec->flags & CPX_SOCK_ERROR), err);
	if (rec->flags & CPX_SOCK_REFUSED)
		return be_refused(r, rec, fd, err);
	if (other)
		cpx_close(&other->fd);
	if ((rec->flags & CPX_SOCK_FIN) && shutdown(fd, SHUT_WR) && errno != ENOTCONN)
		return cpx_err_sys(err, errno, "shutdown");
	if (rec->state == CPX_SOCK_IDLE && (rec->shutdown & 3))
		shutdown(fd, (int)(rec->shutdown & 3) - 1); /* fails, and does it */
	if (rec->state == CPX_SOCK_LISTEN && listen(fd, (int)rec->backlog))
		return cpx_err_sys(err, errno, "listening at port %u", port_of(&rec->name));
	return 0;
}

/* What waits to be accepted: all listen now. */
static int queue(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	int fd = cpx_sock_made(r, rec->id), flags = fcntl(fd, F_GETFL), sys = 0;
	const struct cpx_rec_sock *at = cpx_sock_rec(r, rec->peer);
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(sys);

	if (rec->state != CPX_SOCK_QUEUED)
		return 0;
	if (!is_tcp(rec) || !at || !is_inet(at) || at->state != CPX_SOCK_LISTEN)
		return cpx_err_set(err, CPX_E_FORMAT, "it waits at no listening socket");
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	if (connect(fd, rec->peer_name.p, rec->peer_name.n) && errno != EINPROGRESS)
		return cpx_err_sys(err, errno, "connecting to port %u",
				   port_of(&rec->peer_name));
	if (poll(&pfd, 1, RESET_MS) <= 0)
		return cpx_err_set(err, CPX_E_TIMEOUT, "connecting to port %u",
				   port_of(&rec->peer_name));
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &len) || sys)
		return cpx_err_sys(err, sys, "connecting to port %u", port_of(&rec->peer_name));
	fcntl(fd, F_SETFL, flags);
	return 0;
}

static int options(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	return cpx_sock_set_opts(r, rec->id, cpx_sock_made(r, rec->id), err);
}

int cpx_rst_inet_late(struct cpx_rst *r, struct cpx_err *err)
{
	static int (*const stages[])(struct cpx_rst *, const struct cpx_rec_sock *,
				     struct cpx_err *) = { fill, settle, queue, options };

	for (size_t i = 0; cpx_rst_ipc_of(r)->inet_made && i < sizeof(stages) / sizeof(*stages);
	     i++) {
		cpx_state_each(r->st, sock, rec) {
			int rc = is_inet(rec) ? stages[i](r, rec, err) : 0;

			if (rc < 0)
				return cpx_err_wrap(err, "internet socket %u", rec->id);
		}
	}
	return 0;
}

/* --- netlink
 * -------------------------------------------------------------------------------------- */

static int name_netlink(const struct cpx_rec_sock *rec, int fd, struct cpx_err *err)
{
	const struct sockaddr_nl *name = rec->name.p;

	if (rec->name.n >= sizeof(*name) && (name->nl_pid || name->nl_groups)) {
		struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_pid = name->nl_pid };

		if (bind(fd, (struct sockaddr *)&a, sizeof(a)))
			return cpx_err_sys(err, errno, "netlink address %u", name->nl_pid);
	}
	for (uint32_t i = 0; i < rec->groups.n; i++)
		if (set_int(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, (int)rec->groups.v[i]))
			return cpx_err_sys(err, errno, "netlink group %u", rec->groups.v[i]);
	return 0;
}

static int fill_netlink(struct cpx_rst *r, const struct cpx_rec_sock *rec, int fd,
			struct cpx_err *err)
{
	/* some groups are for root alone */
	int rc = r->opts->trusted ? 0 : cpx_ipc_drop(r, err);

	if (rc < 0)
		return rc;
	rc = name_netlink(rec, fd, err);
	if (!r->opts->trusted)
		cpx_ipc_undrop(r);
	return rc < 0 ? rc : cpx_sock_set_opts(r, rec->id, fd, err);
}

int cpx_rst_netlink(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	const struct cpx_rec_sock *rec = cpx_sock_rec(r, ofd->id);
	CPX_AUTO_FD fd = -1;
	int rc;

	if (!rec || rec->family != AF_NETLINK)
		return cpx_err_set(err, CPX_E_FORMAT, "netlink socket %u: no record", ofd->id);
	fd = cpx_sock_new(r, AF_NETLINK, (int)rec->type, (int)rec->proto, err);
	if (fd < 0)
		return fd;
	rc = fill_netlink(r, rec, fd, err);
	return rc < 0 ? rc : cpx_steal_fd(&fd);
}
