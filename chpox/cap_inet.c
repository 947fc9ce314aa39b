/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_inet.c - TCP and UDP sockets.
 *
 * Listening, unconnected and UDP sockets are recorded by name and options. Of a TCP connection
 * both ends must be in the tree; then sequence numbers do not matter, only what each end has
 * not read yet: its receive queue, and what its peer has sent and TCP has not delivered. The
 * latter is read from the send queue in repair mode, which is on for an instant and only where
 * something is unacked.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/sockios.h>
#include <linux/tcp.h>

#include "base/fd.h"
#include "cap_sock.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef IP_RECVERR_RFC4884
#define IP_RECVERR_RFC4884 26
#endif
#ifndef IPV6_RECVERR_RFC4884
#define IPV6_RECVERR_RFC4884 31
#endif
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif
#ifndef IPV6_FLOWINFO_SEND
#define IPV6_FLOWINFO_SEND 33
#endif
#ifndef TCP_TX_DELAY
#define TCP_TX_DELAY 37
#endif
#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#define TCP_RTO_MIN_US 45
#define TCP_DELACK_MAX_US 46
#endif

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* as in the kernel's net/tcp_states.h */
enum {
	ESTABLISHED = 1,
	SYN_SENT,
	SYN_RECV,
	FIN_WAIT1,
	FIN_WAIT2,
	TIME_WAIT,
	CLOSED,
	CLOSE_WAIT,
	LAST_ACK,
	LISTEN,
	CLOSING
};

static int nomem(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
}

/* An address and port, IPv4 also where it is mapped into IPv6. */
struct end {
	uint8_t addr[16];
	uint16_t port;
};

static bool end_of(const struct cpx_blob *b, struct end *e)
{
	const struct sockaddr_in *v4 = b->p;
	const struct sockaddr_in6 *v6 = b->p;

	memset(e, 0, sizeof(*e));
	if (b->n >= sizeof(*v4) && v4->sin_family == AF_INET) {
		e->addr[10] = e->addr[11] = 0xff;
		memcpy(e->addr + 12, &v4->sin_addr, 4);
		e->port = ntohs(v4->sin_port);
		return true;
	}
	if (b->n >= sizeof(*v6) && v6->sin6_family == AF_INET6) {
		memcpy(e->addr, &v6->sin6_addr, 16);
		e->port = ntohs(v6->sin6_port);
		return true;
	}
	return false;
}

static bool same_end(const struct end *a, const struct end *b)
{
	return a->port == b->port && !memcmp(a->addr, b->addr, 16);
}

static void end_text(const struct cpx_blob *b, char *out, size_t size)
{
	struct end e;
	char a[INET6_ADDRSTRLEN] = "?";

	if (!end_of(b, &e)) {
		snprintf(out, size, "?");
		return;
	}
	if (!memcmp(e.addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12))
		inet_ntop(AF_INET, e.addr + 12, a, sizeof(a));
	else
		inet_ntop(AF_INET6, e.addr, a, sizeof(a));
	snprintf(out, size, "%s port %u", a, e.port);
}

static bool is_tcp(const struct cpx_rec_sock *rec)
{
	return rec->type == SOCK_STREAM &&
	       (rec->proto == IPPROTO_TCP || rec->proto == IPPROTO_MPTCP);
}

static bool is_inet(const struct cpx_rec_sock *rec)
{
	return rec->family == AF_INET || rec->family == AF_INET6;
}

#define MSS_DEFAULT 536
#define MSS_SETTABLE_MAX 32767

/* clang-format off */
static const struct { int level, opt; } inet_opts[] = {
	{ IPPROTO_IP, IP_TOS }, { IPPROTO_IP, IP_TTL }, { IPPROTO_IP, IP_MULTICAST_TTL },
	{ IPPROTO_IP, IP_MULTICAST_LOOP }, { IPPROTO_IP, IP_MULTICAST_IF },
	{ IPPROTO_IPV6, IPV6_MULTICAST_IF }, { IPPROTO_IP, IP_PKTINFO }, { IPPROTO_IP, IP_RECVTOS },
	{ IPPROTO_IP, IP_RECVTTL }, { IPPROTO_IP, IP_RECVERR }, { IPPROTO_IP, IP_FREEBIND },
	{ IPPROTO_IP, IP_TRANSPARENT }, { IPPROTO_IP, IP_MTU_DISCOVER },
	{ IPPROTO_IP, IP_RECVORIGDSTADDR }, { IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT },
	{ IPPROTO_IP, IP_RECVOPTS }, { IPPROTO_IP, IP_RETOPTS }, { IPPROTO_IP, IP_MULTICAST_ALL },
	{ IPPROTO_IP, IP_MINTTL }, { IPPROTO_IP, IP_RECVERR_RFC4884 },
	{ IPPROTO_IPV6, IPV6_RECVERR_RFC4884 }, { IPPROTO_IP, IP_UNICAST_IF }, { IPPROTO_IP, IP_CHECKSUM },
	{ IPPROTO_IP, IP_RECVFRAGSIZE }, { IPPROTO_IP, IP_LOCAL_PORT_RANGE },
	{ IPPROTO_IPV6, IPV6_V6ONLY }, { IPPROTO_IPV6, IPV6_UNICAST_HOPS },
	{ IPPROTO_IPV6, IPV6_MULTICAST_HOPS }, { IPPROTO_IPV6, IPV6_MULTICAST_LOOP },
	{ IPPROTO_IPV6, IPV6_RECVPKTINFO }, { IPPROTO_IPV6, IPV6_RECVHOPLIMIT },
	{ IPPROTO_IPV6, IPV6_RECVTCLASS }, { IPPROTO_IPV6, IPV6_TCLASS },
	{ IPPROTO_IPV6, IPV6_RECVERR }, { IPPROTO_IPV6, IPV6_MTU_DISCOVER },
	{ IPPROTO_IPV6, IPV6_DONTFRAG }, { IPPROTO_IPV6, IPV6_RECVRTHDR },
	{ IPPROTO_IPV6, IPV6_RECVHOPOPTS }, { IPPROTO_IPV6, IPV6_RECVDSTOPTS },
	{ IPPROTO_IPV6, IPV6_TRANSPARENT }, { IPPROTO_IPV6, IPV6_FREEBIND },
	{ IPPROTO_IPV6, IPV6_AUTOFLOWLABEL }, { IPPROTO_IPV6, IPV6_RECVPATHMTU },
	{ IPPROTO_IPV6, IPV6_ADDR_PREFERENCES }, { IPPROTO_IPV6, IPV6_MINHOPCOUNT },
	{ IPPROTO_IPV6, IPV6_UNICAST_IF }, { IPPROTO_IPV6, IPV6_MULTICAST_ALL },
	{ IPPROTO_IPV6, IPV6_RECVORIGDSTADDR }, { IPPROTO_IPV6, IPV6_RECVFRAGSIZE },
	{ IPPROTO_IPV6, IPV6_FLOWINFO_SEND }, { IPPROTO_TCP, TCP_TX_DELAY },
	{ IPPROTO_TCP, TCP_NODELAY }, { IPPROTO_TCP, TCP_CORK }, { IPPROTO_TCP, TCP_KEEPIDLE },
	{ IPPROTO_TCP, TCP_KEEPINTVL }, { IPPROTO_TCP, TCP_KEEPCNT }, { IPPROTO_TCP, TCP_SYNCNT },
	{ IPPROTO_TCP, TCP_LINGER2 }, { IPPROTO_TCP, TCP_DEFER_ACCEPT },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT }, { IPPROTO_TCP, TCP_CONGESTION },
	{ IPPROTO_TCP, TCP_FASTOPEN }, { IPPROTO_TCP, TCP_NOTSENT_LOWAT },
	{ IPPROTO_TCP, TCP_WINDOW_CLAMP }, { IPPROTO_TCP, TCP_MAXSEG }, { IPPROTO_TCP, TCP_SAVE_SYN }, { IPPROTO_TCP, TCP_FASTOPEN_CONNECT }, { IPPROTO_TCP, TCP_INQ },
	{ IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS }, { IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE },
	{ IPPROTO_TCP, TCP_RTO_MAX_MS }, { IPPROTO_TCP, TCP_RTO_MIN_US },
	{ IPPROTO_TCP, TCP_DELACK_MAX_US },
	{ IPPROTO_UDP, UDP_ENCAP }, { IPPROTO_UDP, UDP_NO_CHECK6_TX },
	{ IPPROTO_UDP, UDP_NO_CHECK6_RX },
	{ IPPROTO_UDP, UDP_CORK }, { IPPROTO_UDP, UDP_SEGMENT }, { IPPROTO_UDP, UDP_GRO },
};
/* clang-format on */

/*
 * Of what is or was a connection TCP_MAXSEG tells what is used, not what was set, and of a
 * fresh socket the default, which as a setting would be a limit.
 */
static bool sets_maxseg(int fd, const struct cpx_rec_sock *rec)
{
	socklen_t len = sizeof(int);
	int mss;

	return !rec->peer_name.n && getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &len) == 0 &&
	       mss != MSS_DEFAULT && mss <= MSS_SETTABLE_MAX;
}

/* Of streams they can be read, but not set. */
static bool about_multicast(int level, int opt)
{
	if (level == IPPROTO_IP)
		return opt == IP_MULTICAST_TTL || opt == IP_MULTICAST_LOOP ||
		       opt == IP_MULTICAST_IF;
	return level == IPPROTO_IPV6 &&
	       (opt == IPV6_MULTICAST_HOPS || opt == IPV6_MULTICAST_LOOP ||
		opt == IPV6_MULTICAST_IF);
}

static int cap_opts(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	const struct cpx_rec_sock *rec = s->rec;
	int rc = cpx_sock_common_opts(c, s->here, rec->id, err);

	for (size_t i = 0; rc >= 0 && i < sizeof(inet_opts) / sizeof(*inet_opts); i++) {
		int level = inet_opts[i].level;

		if ((level == IPPROTO_TCP && !is_tcp(rec)) ||
		    (level == IPPROTO_UDP && rec->proto != IPPROTO_UDP) ||
		    (level == IPPROTO_IPV6 && rec->family != AF_INET6) ||
		    (is_tcp(rec) && about_multicast(level, inet_opts[i].opt)) ||
		    (level == IPPROTO_TCP && inet_opts[i].opt == TCP_MAXSEG &&
		     !sets_maxseg(s->here, rec)))
			continue;
		rc = cpx_sock_opt(c, s->here, rec->id, level, inet_opts[i].opt, err);
	}
	return rc;
}

/* --- TCP: who is the peer ---------------------------------------------------------------- */

static struct cpx_ipc_seen *peer_of(const struct cpx_cap *c, const struct cpx_rec_sock *rec)
{
	struct end mine, theirs, a, b;

	if (!end_of(&rec->name, &mine) || !end_of(&rec->peer_name, &theirs))
		return NULL;
	for (struct cpx_ipc_seen *s = cpx_ipc_of(c)->socks; s; s = s->next) {
		const struct cpx_rec_sock *o = s->rec;

		if (o != rec && is_inet(o) && is_tcp(o) && end_of(&o->name, &a) &&
		    end_of(&o->peer_name, &b) && same_end(&a, &theirs) && same_end(&b, &mine))
			return s;
	}
	return NULL;
}

/* Is the address one of this machine's? */
static bool local_address(const struct cpx_ipc_seen *s, const struct end *e)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
	struct sockaddr_in a4 = { .sin_family = AF_INET };
	bool v4 = !memcmp(e->addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
	CPX_AUTO_FD fd = cpx_sock_in_netns(s->t, v4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0, NULL);

	memcpy(&a.sin6_addr, e->addr, 16);
	memcpy(&a4.sin_addr, e->addr + 12, 4);
	return fd >= 0 && !bind(fd, v4 ? (void *)&a4 : (void *)&a, v4 ? sizeof(a4) : sizeof(a));
}

static bool parse_end(const char *text, unsigned port, struct end *e)
{
	uint32_t w[4];

	memset(e, 0, sizeof(*e));
	e->port = (uint16_t)port;
	if (strlen(text) == 8 && sscanf(text, "%8x", &w[0]) == 1) {
		e->addr[10] = e->addr[11] = 0xff;
		memcpy(e->addr + 12, w, 4);
		return true;
	}
	if (strlen(text) == 32 &&
	    sscanf(text, "%8x%8x%8x%8x", &w[0], &w[1], &w[2], &w[3]) == 4) {
		memcpy(e->addr, w, 16);
		return true;
	}
	return false;
}

/* The inode of the socket with these ends, from /proc/PID/net/tcp{,6}; 0: none, or it is
 * closed. */
static unsigned long inode_of(const struct cpx_ipc_seen *s, const struct end *local,
			      const struct end *remote)
{
	for (int v6 = 0; v6 < 2; v6++) {
		CPX_AUTO_FREE char *text = NULL;

		if (cpx_read_file(s->t->proc_fd, v6 ? "net/tcp6" : "net/tcp", 64u << 20, &text,
				  NULL) < 0)
			continue;
		for (const char *p = text; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
			char l[40], r[40];
			unsigned lp, rp;
			unsigned long ino;
			struct end a, b;

			if (sscanf(p,
				   " %*u: %32[0-9A-F]:%x %32[0-9A-F]:%x %*x %*x:%*x %*x:%*x "
				   "%*x "
				   "%*u %*u %lu",
				   l, &lp, r, &rp, &ino) == 5 &&
			    parse_end(l, lp, &a) && parse_end(r, rp, &b) &&
			    same_end(&a, local) && same_end(&b, remote))
				return ino;
		}
	}
	return 0;
}

/* The peer is no socket of the job: closed already (fine), or somebody else's. */
static int cap_lonely(struct cpx_cap *c, const struct cpx_ipc_seen *s, unsigned state,
		      struct cpx_err *err)
{
	struct cpx_rec_sock *rec = s->rec;
	struct end mine, theirs;
	char where[80];
	bool fin = state == CLOSE_WAIT || state == LAST_ACK || state == CLOSING;

	if (fin && end_of(&rec->name, &mine) && end_of(&rec->peer_name, &theirs) &&
	    local_address(s, &theirs) && !inode_of(s, &theirs, &mine)) {
		rec->state = CPX_SOCK_ORPHAN;
		return 0;
	}
	end_text(&rec->peer_name, where, sizeof(where));
	return cpx_cap_refuse(
		c, s->t, err,
		"fd %d is a TCP connection to %s, which is not part of the job; close "
		"it, or mark both sides",
		s->num, where);
}

#define DISCARD_PORT 9 /* RFC 863: nobody is there */

/*
 * The kernel has forgotten whom a broken connection was to: any address of this machine does.
 * Those of one listener have one address: each is to another port.
 */
static int forge_peer(struct cpx_cap *c, struct cpx_rec_sock *rec, struct cpx_err *err)
{
	struct sockaddr_storage a;
	unsigned port = DISCARD_PORT;
	struct end mine, other;

	if (!end_of(&rec->name, &mine))
		return cpx_err_set(err, CPX_E_FORMAT, "socket %u has no address", rec->id);
	for (const struct cpx_ipc_seen *s = cpx_ipc_of(c)->socks; s && s->rec != rec;
	     s = s->next) {
		const struct cpx_rec_sock *o = s->rec;

		port += o->state == CPX_SOCK_BROKEN && is_inet(o) && end_of(&o->name, &other) &&
			same_end(&mine, &other);
	}
	port += port >= mine.port && mine.port >= DISCARD_PORT;
	memset(&a, 0, sizeof(a));
	memcpy(&a, rec->name.p, rec->name.n < sizeof(a) ? rec->name.n : sizeof(a));
	/* the port stands at the same place in IPv6 */
	((struct sockaddr_in *)&a)->sin_port = htons((uint16_t)port);
	rec->peer_name = cpx_state_blob(c->st, &a, rec->name.n);
	return rec->peer_name.p ? 0 : nomem(err);
}

/*
 * A connection that is no more, whose end may still have to be told: what had come, and then an
 * error. Which error it is could only be learned by taking it: one that was never established
 * was refused, any other was reset.
 */
static int cap_closed(struct cpx_cap *c, const struct cpx_ipc_seen *s, bool failed,
		      const struct tcp_info *info, struct cpx_err *err)
{
	struct cpx_rec_sock *rec = s->rec;
	struct end mine;
	int waits = 0, rc;

	if (failed && !info->tcpi_bytes_acked && !info->tcpi_bytes_received &&
	    !info->tcpi_options) {
		rec->flags |= CPX_SOCK_REFUSED;
		return 0;
	}
	if (ioctl(s->here, FIONREAD, &waits))
		waits = 0;
	if ((!failed && waits <= 0) || !end_of(&rec->name, &mine) || !mine.port ||
	    mine.port == DISCARD_PORT)
		return 0;
	rec->state = CPX_SOCK_BROKEN;
	rec->shutdown = 0;
	rec->flags |= failed ? CPX_SOCK_ERROR : 0;
	rc = forge_peer(c, rec, err);
	return rc < 0 || c->dry_run ? rc : cpx_sock_queue(c, s, false, err);
}

/* The listening socket of the job that connections to @to come to; NULL: none, or several. */
static struct cpx_ipc_seen *listener_at(const struct cpx_cap *c, const struct end *to)
{
	static const uint8_t any4[16] = { [10] = 0xff, [11] = 0xff }, any6[16];
	struct cpx_ipc_seen *found = NULL;
	struct end at;

	for (struct cpx_ipc_seen *s = cpx_ipc_of(c)->socks; s; s = s->next) {
		const struct cpx_rec_sock *o = s->rec;

		if (!is_inet(o) || !is_tcp(o) || o->state != CPX_SOCK_LISTEN ||
		    !end_of(&o->name, &at) || at.port != to->port ||
		    (memcmp(at.addr, to->addr, 16) && memcmp(at.addr, any4, 16) &&
		     memcmp(at.addr, any6, 16)))
			continue;
		if (found)
			return NULL;
		found = s;
	}
	return found;
}

/*
 * A connection to a listening socket of the job that was not accepted yet: it can be made
 * again, unless there is data on its way, which nobody can read before it is accepted.
 * Return: 1, 0 if it is none, or an error.
 */
static int cap_queued(struct cpx_cap *c, const struct cpx_ipc_seen *s,
		      const struct tcp_info *info, struct cpx_err *err)
{
	struct cpx_rec_sock *rec = s->rec;
	struct cpx_ipc_seen *at;
	struct end mine, theirs;
	int rc;

	if (info->tcpi_state != ESTABLISHED || !end_of(&rec->name, &mine) ||
	    !end_of(&rec->peer_name, &theirs) || inode_of(s, &theirs, &mine))
		return 0;
	at = listener_at(c, &theirs);
	if (!at)
		return 0;
	if (info->tcpi_bytes_sent && !c->dry_run) {
		rc = cpx_cap_refuse(c, s->t, err,
				    "fd %d is a TCP connection that has sent data and was not "
				    "accepted yet; try again in a moment",
				    s->num);
		return rc < 0 ? rc : 1;
	}
	rec->state = CPX_SOCK_QUEUED;
	rec->peer = at->ofd->id;
	return 1;
}

/* All that wait at a listening socket must be connections that are kept. */
static int check_backlog(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	const struct cpx_rec_sock *rec = s->rec;
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	uint32_t kept = 0;

	if (rec->state != CPX_SOCK_LISTEN || c->dry_run ||
	    getsockopt(s->here, IPPROTO_TCP, TCP_INFO, &info, &len))
		return 0;
	for (const struct cpx_ipc_seen *o = cpx_ipc_of(c)->socks; o; o = o->next) {
		const struct cpx_rec_sock *q = o->rec;

		kept += is_inet(q) && q->state == CPX_SOCK_QUEUED && q->peer == rec->id;
	}
	if (info.tcpi_unacked == kept)
		return 0;
	return cpx_cap_refuse(c, s->t, err,
			      "fd %d listens, and %u connections were not accepted yet that "
			      "do not come from the job; try again in a moment",
			      s->num, info.tcpi_unacked - kept);
}

static int cap_tcp(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	struct cpx_rec_sock *rec = s->rec;
	struct tcp_info info = { 0 };
	struct pollfd pfd = { .fd = s->here, .events = POLLRDHUP };
	socklen_t len = sizeof(info);
	struct cpx_ipc_seen *peer;
	int rc;

	if (getsockopt(s->here, IPPROTO_TCP, TCP_INFO, &info, &len))
		return cpx_err_sys(err, errno, "TCP_INFO");
	switch (info.tcpi_state) {
	case LISTEN:
		rec->backlog = info.tcpi_sacked;
		return 0;
	case CLOSED:
		if (poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLRDHUP))
			rec->shutdown = 3;
		return cap_closed(c, s, pfd.revents & POLLERR, &info, err);
	case SYN_SENT:
	case SYN_RECV:
		return c->dry_run ? 0
				  : cpx_cap_refuse(c, s->t, err,
						   "fd %d is a TCP connection being made; try "
						   "again in a moment",
						   s->num);
	default:
		break;
	}
	if (rec->proto == IPPROTO_MPTCP)
		return cpx_cap_refuse(
			c, s->t, err,
			"fd %d is an MPTCP connection, which cannot be saved; close "
			"it, or use TCP",
			s->num);
	if (info.tcpi_state == FIN_WAIT1 || info.tcpi_state == FIN_WAIT2 ||
	    info.tcpi_state == CLOSING || info.tcpi_state == LAST_ACK ||
	    info.tcpi_state == TIME_WAIT)
		rec->flags |= CPX_SOCK_FIN;
	peer = peer_of(c, rec);
	if (peer) {
		rec->state = CPX_SOCK_CONNECTED;
		rec->peer = peer->ofd->id;
	} else {
		rc = cap_queued(c, s, &info, err);
		if (rc)
			return rc < 0 ? rc : 0;
		rc = cap_lonely(c, s, info.tcpi_state, err);
		if (rc < 0)
			return rc;
	}
	return c->dry_run ? 0 : cpx_sock_queue(c, s, false, err);
}

/* --- TCP: what is under way ------------------------------------------------------------------
 */

static int set_int(int fd, int opt, int v)
{
	return setsockopt(fd, IPPROTO_TCP, opt, &v, sizeof(v));
}

static int queue_seq(int fd, int queue, uint32_t *seq)
{
	socklen_t len = sizeof(*seq);

	if (set_int(fd, TCP_REPAIR_QUEUE, queue))
		return -1;
	return getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, &len);
}

static int put_bytes(struct cpx_cap *c, uint32_t sock, const uint8_t *p, size_t n,
		     struct cpx_err *err)
{
	struct cpx_rec_sockmsg *m = cpx_state_new_rec(c->st, sockmsg);

	if (!m)
		return nomem(err);
	m->sock = sock;
	m->data = cpx_state_blob(c->st, p, n);
	return m->data.p ? 0 : nomem(err);
}

/* Both are in repair mode: the end of @s's send queue that @peer has not got. */
static int undelivered(struct cpx_cap *c, const struct cpx_ipc_seen *s,
		       const struct cpx_ipc_seen *peer, int unacked, struct cpx_err *err)
{
	const struct cpx_rec_sock *rec = s->rec;
	CPX_AUTO_FREE uint8_t *buf = malloc((size_t)unacked + 1);
	uint32_t written, received;
	int32_t missing;
	ssize_t n;

	if (!buf)
		return nomem(err);
	if (queue_seq(peer->here, TCP_RECV_QUEUE, &received) ||
	    queue_seq(s->here, TCP_SEND_QUEUE, &written))
		return cpx_err_sys(err, errno, "fd %d: sequence numbers", s->num);
	n = recv(s->here, buf, (size_t)unacked, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0)
		n = 0;
	missing = (int32_t)(written - received);
	if ((rec->flags & CPX_SOCK_FIN) && missing > 0)
		missing--; /* the end of stream has a number, too */
	if (missing <= 0)
		return 0;
	if (missing > n)
		return cpx_err_set(err, CPX_E_IO, "fd %d: %d bytes under way, %zd can be read",
				   s->num, missing, n);
	return put_bytes(c, peer->ofd->id, buf + n - missing, (size_t)missing, err);
}

/* Repair mode off; it leaves addresses that may not be reused, whatever was set before. */
static void repaired(int fd, int reuse)
{
	set_int(fd, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
}

static int reuse_of(int fd)
{
	int v = 0;
	socklen_t len = sizeof(v);

	return getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &v, &len) ? 0 : v;
}

void cpx_cap_inet_silence(const struct cpx_ipc_seen *socks)
{
	for (const struct cpx_ipc_seen *s = socks; s; s = s->next) {
		const struct cpx_rec_sock *rec = s->rec;

		if (s->here >= 0 && is_inet(rec) && is_tcp(rec) &&
		    (rec->state == CPX_SOCK_CONNECTED || rec->state == CPX_SOCK_ORPHAN))
			set_int(s->here, TCP_REPAIR, TCP_REPAIR_ON);
	}
}

static int cap_under_way(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	const struct cpx_rec_sock *rec = s->rec;
	struct cpx_ipc_seen *peer = NULL;
	int unacked = 0, reuse, peer_reuse, rc;

	if (rec->state == CPX_SOCK_CONNECTED)
		peer = peer_of(c, rec);
	if (!peer || ioctl(s->here, SIOCOUTQ, &unacked) || unacked <= 0)
		return 0;
	reuse = reuse_of(s->here);
	peer_reuse = reuse_of(peer->here);
	if (set_int(s->here, TCP_REPAIR, TCP_REPAIR_ON))
		return cpx_err_sys(err, errno, "fd %d: TCP repair mode", s->num);
	if (set_int(peer->here, TCP_REPAIR, TCP_REPAIR_ON))
		rc = cpx_err_sys(err, errno, "fd %d: TCP repair mode", peer->num);
	else
		rc = undelivered(c, s, peer, unacked, err);
	repaired(peer->here, peer_reuse);
	repaired(s->here, reuse);
	return rc;
}

/* --- all
 * ---------------------------------------------------------------------------------------- */

/* Does it hold a datagram back that nobody can see? What a device has taken goes by itself. */
static bool corked(int fd)
{
	socklen_t len = sizeof(int);
	int queued = 0, proto = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &len) || proto != IPPROTO_UDP)
		return false;
	for (int looks = 0; looks < 4; looks++) {
		if (ioctl(fd, SIOCOUTQ, &queued) || queued <= 0)
			return false;
		nanosleep(&(struct timespec){ 0, 500000 }, NULL);
	}
	return true;
}

static int cap_one(struct cpx_cap *c, struct cpx_ipc_seen *s, struct cpx_err *err)
{
	struct cpx_rec_sock *rec = s->rec;
	int rc;

	if (!is_tcp(rec) && rec->type != SOCK_DGRAM)
		return cpx_cap_refuse(
			c, s->t, err,
			"fd %d is a raw or unusual internet socket (type %u, protocol "
			"%u), which cannot be saved; close it",
			s->num, rec->type, rec->proto);
	rc = cap_opts(c, s, err);
	if (rc >= 0)
		rc = cpx_sock_filter(c, s, err);
	if (rc < 0)
		return rc;
	if (is_tcp(rec))
		return cap_tcp(c, s, err);
	if (rec->peer_name.n)
		rec->state = CPX_SOCK_NAMED;
	if (corked(s->here))
		return c->dry_run ? 0
				  : cpx_cap_refuse(c, s->t, err,
						   "fd %d is a socket that holds back a "
						   "datagram (UDP_CORK, MSG_MORE); try again "
						   "in a moment",
						   s->num);
	rc = cpx_sock_multicast(c, s, err);
	if (rc < 0)
		return rc;
	return c->dry_run ? 0 : cpx_sock_queue(c, s, false, err);
}

static bool listens(int fd)
{
	socklen_t len = sizeof(int);
	int v = 0;

	return !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &v, &len) && v;
}

int cpx_cap_inet_sockets(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_ipc_seen *s;

	for (s = cpx_ipc_of(c)->socks; s; s = s->next) {
		struct cpx_rec_sock *rec = s->rec;
		int rc = is_inet(rec) ? cpx_sock_names(c, s->here, rec, err) : 0;

		if (rc < 0)
			return rc;
		if (is_inet(rec) && is_tcp(rec) && listens(s->here))
			rec->state = CPX_SOCK_LISTEN;
	}
	for (s = cpx_ipc_of(c)->socks; s; s = s->next) {
		int rc = is_inet(s->rec) ? cap_one(c, s, err) : 0;

		if (rc < 0)
			return rc;
	}
	for (s = cpx_ipc_of(c)->socks; s && !c->dry_run; s = s->next) {
		struct cpx_rec_sock *rec = s->rec;
		int rc = is_inet(rec) && is_tcp(rec) ? cap_under_way(c, s, err) : 0;

		if (rc >= 0 && is_inet(rec) && is_tcp(rec))
			rc = check_backlog(c, s, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}
