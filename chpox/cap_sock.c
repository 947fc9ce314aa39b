/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_sock.c - what all sockets have: family and type, options, names, the receive queue.
 *
 * A queue is read with MSG_PEEK, walked with SO_PEEK_OFF, which is put back. Nothing is
 * consumed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/filter.h>

#include "base/fd.h"
#include "cap_sock.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef SO_TXREHASH
#define SO_TXREHASH 74
#endif
#ifndef SO_RCVMARK
#define SO_RCVMARK 75
#endif
#ifndef SO_RCVPRIORITY
#define SO_RCVPRIORITY 82
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

#define MSGS_MAX (1u << 20)
#define FDS_MAX 256

static int nomem(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
}

struct cpx_ipc_seen *cpx_sock_by_ino(const struct cpx_cap *c, uint64_t ino)
{
	struct cpx_ipc_seen *s = cpx_ipc_of(c)->by_ino[ino % CPX_IPC_HASH];

	while (s && s->ino != ino)
		s = s->chain;
	return s;
}

int cpx_sock_opt(struct cpx_cap *c, int here, uint32_t sock, int level, int opt,
		 struct cpx_err *err)
{
	uint8_t value[256];
	socklen_t len = sizeof(value);
	struct cpx_rec_sockopt *rec;

	if (getsockopt(here, level, opt, value, &len))
		return 0;
	rec = cpx_state_new_rec(c->st, sockopt);
	if (!rec)
		return nomem(err);
	rec->sock = sock;
	rec->level = (uint32_t)level;
	rec->opt = (uint32_t)opt;
	rec->value = cpx_state_blob(c->st, value, len);
	return rec->value.p || !len ? 0 : nomem(err);
}

int cpx_sock_common_opts(struct cpx_cap *c, int here, uint32_t sock, struct cpx_err *err)
{
	static const int opts[] = {
		SO_SNDBUF,
		SO_RCVBUF,
		SO_REUSEADDR,
		SO_REUSEPORT,
		SO_KEEPALIVE,
		SO_BROADCAST,
		SO_OOBINLINE,
		SO_PRIORITY,
		SO_LINGER,
		SO_PASSCRED,
		SO_PASSSEC,
		SO_RCVLOWAT,
		SO_RCVTIMEO,
		SO_SNDTIMEO,
		SO_TIMESTAMP,
		SO_TIMESTAMPNS,
		SO_MARK,
		SO_DONTROUTE,
		SO_PEEK_OFF,
		SO_PASSPIDFD,
		SO_NO_CHECK,
		SO_BUSY_POLL,
		SO_BINDTODEVICE,
		SO_RXQ_OVFL,
		SO_SELECT_ERR_QUEUE,
		SO_RCVPRIORITY,
		SO_PASSRIGHTS,
		SO_TIMESTAMPING,
		SO_ZEROCOPY,
		SO_TXTIME,
		SO_MAX_PACING_RATE,
		SO_INCOMING_CPU,
		SO_PREFER_BUSY_POLL,
		SO_BUSY_POLL_BUDGET,
		SO_TXREHASH,
		SO_WIFI_STATUS,
		SO_RCVMARK,
		SO_BUF_LOCK /* after the buffers, which set it */,
	};
	int rc = 0;

	for (size_t i = 0; rc >= 0 && i < sizeof(opts) / sizeof(*opts); i++)
		rc = cpx_sock_opt(c, here, sock, SOL_SOCKET, opts[i], err);
	return rc;
}

/* A socket filter: the length counts instructions. */
int cpx_sock_filter(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	const struct cpx_rec_sock *rec = s->rec;
	struct sock_filter prog[BPF_MAXINSNS];
	struct cpx_rec_sockopt *o;
	socklen_t n = BPF_MAXINSNS;

	if (getsockopt(s->here, SOL_SOCKET, SO_GET_FILTER, prog, &n)) {
		if (errno != EACCES)
			return 0;
		return cpx_cap_refuse(c, s->t, err,
				      "fd %d is a socket with a BPF program, which cannot be "
				      "read; detach it",
				      s->num);
	}
	if (!n || n > BPF_MAXINSNS)
		return 0;
	o = cpx_state_new_rec(c->st, sockopt);
	if (!o)
		return nomem(err);
	o->sock = rec->id;
	o->level = SOL_SOCKET;
	o->opt = SO_ATTACH_FILTER;
	o->value = cpx_state_blob(c->st, prog, n * sizeof(*prog));
	return o->value.p ? 0 : nomem(err);
}

int cpx_sock_names(struct cpx_cap *c, int here, struct cpx_rec_sock *rec, struct cpx_err *err)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	if (!getsockname(here, (struct sockaddr *)&a, &len) && len <= sizeof(a)) {
		rec->name = cpx_state_blob(c->st, &a, len);
		if (!rec->name.p)
			return nomem(err);
	}
	len = sizeof(a);
	if (!getpeername(here, (struct sockaddr *)&a, &len) && len <= sizeof(a)) {
		rec->peer_name = cpx_state_blob(c->st, &a, len);
		if (!rec->peer_name.p)
			return nomem(err);
	}
	return 0;
}

int cpx_sock_in_netns(const struct cpx_cap_task *t, int domain, int type, int proto,
		      struct cpx_err *err)
{
	CPX_AUTO_FD theirs = openat(t->proc_fd, "ns/net", O_RDONLY | O_CLOEXEC);
	CPX_AUTO_FD ours = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct stat a, b;
	bool moved = false;
	int fd, sys;

	if (theirs >= 0 && ours >= 0 && !fstat(theirs, &a) && !fstat(ours, &b) &&
	    a.st_ino != b.st_ino) {
		if (setns(theirs, CLONE_NEWNET))
			return cpx_err_sys(err, errno, "entering the job's network namespace");
		moved = true;
	}
	fd = socket(domain, type | SOCK_CLOEXEC, proto);
	sys = errno;
	if (moved && setns(ours, CLONE_NEWNET))
		abort(); /* nothing may go on in a namespace that is not ours */
	return fd < 0 ? cpx_err_sys(err, sys, "socket") : fd;
}

/* --- the receive queue ----------------------------------------------------------------- */

struct peek {
	uint8_t *buf; /* owned */
	size_t room;
	bool stream;
	ssize_t len; /* as peeked; may be more than room for messages */
	struct sockaddr_storage name;
	socklen_t name_len;
	int fds[FDS_MAX];
	size_t nfds;
	bool has_cred;
	struct ucred cred;
};

static void close_fds(struct peek *p)
{
	while (p->nfds)
		close(p->fds[--p->nfds]);
}

static void take_control(struct peek *p, struct msghdr *m)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		size_t n = h->cmsg_len - CMSG_LEN(0);

		if (h->cmsg_level != SOL_SOCKET)
			continue;
		if (h->cmsg_type == SCM_RIGHTS) {
			for (size_t i = 0; i + sizeof(int) <= n && p->nfds < FDS_MAX;
			     i += sizeof(int))
				memcpy(&p->fds[p->nfds++], CMSG_DATA(h) + i, sizeof(int));
		} else if (h->cmsg_type == SCM_CREDENTIALS && n >= sizeof(p->cred)) {
			memcpy(&p->cred, CMSG_DATA(h), sizeof(p->cred));
			p->has_cred = true;
		} else if (h->cmsg_type == SCM_PIDFD && n >= sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(h), sizeof(fd));
			if (fd >= 0)
				close(fd);
		}
	}
}

/* Return: bytes of the message (perhaps more than @want), or -1 with errno. */
static ssize_t peek_once(int fd, struct peek *p, size_t want)
{
	/* MSG_TRUNC gives a message's real length; on TCP it means something else */
	int flags = MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (p->stream ? 0 : MSG_TRUNC);
	char control[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)) +
		     512];
	struct iovec iov = { p->buf, want };
	struct msghdr m = { .msg_name = &p->name,
			    .msg_namelen = sizeof(p->name),
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };

	p->nfds = 0;
	p->has_cred = false;
	p->len = recvmsg(fd, &m, flags);
	if (p->len < 0)
		return -1;
	p->name_len = m.msg_namelen;
	take_control(p, &m);
	return p->len;
}

static uint32_t ns_pid_of(const struct cpx_cap *c, pid_t pid)
{
	for (size_t i = 0; i < c->ntasks; i++)
		if (c->tasks[i]->pid == pid)
			return (uint32_t)c->tasks[i]->ns_pid;
	return 0;
}

static int put_message(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct peek *p,
		       size_t len, struct cpx_err *err)
{
	struct cpx_rec_sockmsg *rec = cpx_state_new_rec(c->st, sockmsg);
	uint32_t *ofds = p->nfds ? cpx_state_alloc(c->st, p->nfds * sizeof(*ofds)) : NULL;

	if (!rec || (p->nfds && !ofds))
		return nomem(err);
	rec->sock = s->ofd->id;
	rec->data = cpx_state_blob(c->st, p->buf, len);
	rec->name = cpx_state_blob(c->st, &p->name, p->name_len);
	if ((len && !rec->data.p) || (p->name_len && !rec->name.p))
		return nomem(err);
	for (size_t i = 0; i < p->nfds; i++) {
		int rc = cpx_ipc_ofd_of(c, s->t, p->fds[i], &ofds[i], err);

		if (rc < 0)
			return rc;
	}
	rec->ofds = (struct cpx_u32s){ ofds, (uint32_t)p->nfds };
	if (p->has_cred) {
		rec->has_cred = 1;
		rec->pid = ns_pid_of(c, p->cred.pid);
		rec->uid = p->cred.uid;
		rec->gid = p->cred.gid;
	}
	return 0;
}

static int grow(struct peek *p, size_t room, struct cpx_err *err)
{
	uint8_t *more;

	if (room <= p->room)
		return 0;
	if (room > CPX_BLOB_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "%zu bytes in a socket's queue", room);
	more = realloc(p->buf, room);
	if (!more)
		return nomem(err);
	p->buf = more;
	p->room = room;
	return 0;
}

static int set_off(int fd, int off)
{
	return setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off));
}

/*
 * A unix stream's queue is kept in the pieces that were sent: descriptors and credentials
 * belong to one of them, and its length decides how much room it takes. Where pieces begin is
 * told by a buffer that is too short: the kernel copies piece by piece and ends before one that
 * does not fit.
 */
struct guard {
	uint8_t *map;
	size_t room; /* behind it nothing can be written */
};

#define WINDOW 65536 /* back from the end, so that not all is copied each time */

static int guard_open(struct guard *g, size_t len, struct cpx_err *err)
{
	g->room = (len + CPX_PAGE - 1) / CPX_PAGE * CPX_PAGE;
	g->map = mmap(NULL, g->room + CPX_PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->map == MAP_FAILED)
		return nomem(err);
	if (mprotect(g->map + g->room, CPX_PAGE, PROT_NONE)) {
		munmap(g->map, g->room + CPX_PAGE);
		return cpx_err_sys(err, errno, "mprotect");
	}
	return 0;
}

/* Peek at @off with room for @fits bytes, asking for one more. */
static ssize_t peek_guarded(int fd, struct peek *p, const struct guard *g, size_t off,
			    size_t fits)
{
	uint8_t *own = p->buf;
	ssize_t n;

	set_off(fd, (int)off);
	p->buf = g->map + g->room - fits;
	n = peek_once(fd, p, fits + 1);
	p->buf = own;
	return n;
}

/* Where the piece begins that ends at @end. */
static size_t piece_start(int fd, struct peek *p, const struct guard *g, size_t end)
{
	for (size_t from = end > WINDOW ? end - WINDOW : 0;; from = 0) {
		size_t off = from, found = 0;

		while (off < end - 1) {
			ssize_t n = peek_guarded(fd, p, g, off, end - off - 1);

			close_fds(p);
			if (n <= 0)
				break;
			found = off += (size_t)n;
		}
		if (found || !from)
			return found;
	}
}

/* Peeks go from the end to the beginning; the records from the beginning to the end. */
static int put_pieces(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct peek *p,
		      const struct guard *g, size_t total, struct cpx_err *err)
{
	CPX_AUTO_FREE size_t *starts = NULL;
	size_t n = 0, room = 0, end = total;
	int rc = 0;

	while (end > 0) {
		if (n == room) {
			size_t *more = realloc(starts, (room = room * 2 + 64) * sizeof(*more));

			if (!more || n > MSGS_MAX)
				return nomem(err);
			starts = more;
		}
		starts[n] = piece_start(s->here, p, g, end);
		end = starts[n++];
	}
	for (size_t i = n; rc >= 0 && i-- > 0;) {
		size_t len = (i ? starts[i - 1] : total) - starts[i];

		if (peek_guarded(s->here, p, g, starts[i], len) != (ssize_t)len)
			return cpx_err_set(err, CPX_E_IO,
					   "fd %d: its queue cannot be peeked at", s->num);
		memcpy(p->buf, g->map + g->room - len, len);
		rc = put_message(c, s, p, len, err);
		close_fds(p);
	}
	return rc;
}

/* What was sent with MSG_OOB: peeks end before it, and it cannot be put back at its place. */
static int check_urgent(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	struct pollfd pfd = { .fd = s->here, .events = POLLPRI };

	if (poll(&pfd, 1, 0) <= 0 || !(pfd.revents & POLLPRI))
		return 0;
	return cpx_cap_refuse(c, s->t, err,
			      "fd %d is a socket with urgent data (MSG_OOB) that was not read "
			      "yet; try again in a moment",
			      s->num);
}

static int cap_stream(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct peek *p,
		      struct cpx_err *err)
{
	const struct cpx_rec_sock *rec = s->rec;
	int waiting = 0, was = -1, rc;
	socklen_t len = sizeof(was);
	struct guard g;

	rc = check_urgent(c, s, err);
	if (rc < 0 || ioctl(s->here, FIONREAD, &waiting) || waiting <= 0)
		return rc;
	rc = grow(p, (size_t)waiting, err);
	if (rc < 0)
		return rc;
	if (rec->family != AF_UNIX) {
		if (peek_once(s->here, p, (size_t)waiting) == waiting)
			return put_message(c, s, p, (size_t)waiting, err);
		return cpx_err_set(err, CPX_E_IO, "fd %d: its queue cannot be peeked at",
				   s->num);
	}
	if (getsockopt(s->here, SOL_SOCKET, SO_PEEK_OFF, &was, &len))
		return cpx_err_sys(err, errno, "fd %d: SO_PEEK_OFF", s->num);
	rc = guard_open(&g, (size_t)waiting, err);
	if (rc < 0)
		return rc;
	rc = put_pieces(c, s, p, &g, (size_t)waiting, err);
	set_off(s->here, was);
	munmap(g.map, g.room + CPX_PAGE);
	return rc;
}

/* The message at @off of the queue, whole. Return: 1, 0 there is none, or an error. */
static int one_message(const struct cpx_ipc_seen *s, struct peek *p, int off,
		       struct cpx_err *err)
{
	for (;;) {
		ssize_t len;
		int rc;

		if (set_off(s->here, off))
			return cpx_err_sys(err, errno, "fd %d: SO_PEEK_OFF", s->num);
		len = peek_once(s->here, p, p->room);
		if (len < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK
				       ? 0
				       : cpx_err_sys(err, errno, "fd %d: its queue", s->num);
		if ((size_t)len <= p->room)
			return 1;
		close_fds(p);
		rc = grow(p, (size_t)len, err);
		if (rc < 0)
			return rc;
	}
}

static int cap_messages(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct peek *p,
			bool closed, struct cpx_err *err)
{
	struct pollfd pfd = { .fd = s->here, .events = POLLIN };
	int was = -1, off = 0, rc;
	socklen_t len = sizeof(was);

	/*
	 * Not by a peek: that would take an error away which the job was to be told of, and
	 * mark an empty message as seen, which later peeks then pass over.
	 */
	if (poll(&pfd, 1, 0) <= 0 || !(pfd.revents & POLLIN))
		return 0;
	if (getsockopt(s->here, SOL_SOCKET, SO_PEEK_OFF, &was, &len))
		return cpx_err_sys(err, errno, "fd %d: SO_PEEK_OFF", s->num);
	for (unsigned n = 0; (rc = one_message(s, p, off, err)) > 0; n++) {
		if (!p->len && (closed || n > MSGS_MAX))
			break;
		rc = put_message(c, s, p, (size_t)p->len, err);
		off += (int)p->len;
		close_fds(p);
		if (rc < 0)
			break;
	}
	close_fds(p);
	set_off(s->here, was);
	return rc < 0 ? rc : 0;
}

int cpx_sock_queue(struct cpx_cap *c, const struct cpx_ipc_seen *s, bool closed_for_reading,
		   struct cpx_err *err)
{
	const struct cpx_rec_sock *rec = s->rec;
	struct peek *p = calloc(1, sizeof(*p));
	int rc = p ? grow(p, 256u << 10, err) : nomem(err);

	if (rc >= 0)
		p->stream = rec->type == SOCK_STREAM;
	if (rc >= 0)
		rc = p->stream ? cap_stream(c, s, p, err)
			       : cap_messages(c, s, p, closed_for_reading, err);
	if (p) {
		close_fds(p);
		free(p->buf);
	}
	free(p);
	return rc;
}

/* --- which family ------------------------------------------------------------------------ */

static int int_opt(int fd, int opt)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, SOL_SOCKET, opt, &v, &len) ? -1 : v;
}

static const struct sock_family {
	int domain;
	uint32_t kind;
	const char *name; /* for those that are refused */
} sock_families[] = {
	{ AF_UNIX, CPX_OFD_UNIX, NULL },  { AF_INET, CPX_OFD_INET, NULL },
	{ AF_INET6, CPX_OFD_INET, NULL }, { AF_NETLINK, CPX_OFD_NETLINK, NULL },
	{ AF_PACKET, 0, "packet" },	  { AF_VSOCK, 0, "vsock" },
	{ AF_ALG, 0, "kernel crypto" },
};

int cpx_cap_socket(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	int domain = int_opt(f->here, SO_DOMAIN);
	const struct sock_family *fam = NULL;
	struct cpx_ipc_seen *s, **bucket;
	struct cpx_rec_sock *rec;
	int rc;

	for (size_t i = 0; i < sizeof(sock_families) / sizeof(*sock_families); i++)
		if (sock_families[i].domain == domain)
			fam = &sock_families[i];
	if (!fam || !fam->kind) {
		rc = cpx_cap_refuse(f->c, f->t, err,
				    "fd %d is a %s socket (family %d), which cannot be saved; "
				    "close it",
				    f->num, fam ? fam->name : "foreign", domain);
		return rc < 0 ? rc : 1;
	}
	rec = cpx_state_new_rec(f->c->st, sock);
	if (!rec)
		return nomem(err);
	rec->id = f->ofd->id;
	rec->family = (uint32_t)domain;
	rec->type = (uint32_t)int_opt(f->here, SO_TYPE);
	rec->proto = (uint32_t)int_opt(f->here, SO_PROTOCOL);
	f->ofd->kind = fam->kind;
	f->ofd->object = 0;
	s = cpx_ipc_see(&cpx_ipc_of(f->c)->socks, f, rec, true);
	if (!s)
		return cpx_err_sys(err, errno, "keeping a socket");
	bucket = &cpx_ipc_of(f->c)->by_ino[s->ino % CPX_IPC_HASH];
	s->chain = *bucket;
	*bucket = s;
	return 1;
}
