/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_unix.c - unix sockets: all are made when the first one is asked for.
 *
 * Making: a connected pair without names is a socketpair(); one with a name is made as it was,
 * by a listening socket of that name, connect and accept. Who calls listen() and who connect()
 * decides what SO_PEERCRED says later, so those calls run in the processes that were recorded.
 * Names whose file is gone come first and lose it again; those that keep it are bound last.
 * Clients in a backlog connect when their listener listens. Late, when all descriptors of the
 * job exist: queues are filled by sending, datagram sockets connect, then shutdown, options,
 * and the ends that were closed in the job are closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "../chpox/base/fd.h"
#include "rst_sock.h"

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE (SIOCPROTOPRIVATE + 0)
#endif

#define PATH_OFF offsetof(struct sockaddr_un, sun_path)

/* A name as bind() takes it. */
struct name {
	struct sockaddr_un un;
	socklen_t len;
};

static bool has_name(const struct cpx_blob *b)
{
	return b->n > PATH_OFF;
}

static bool is_path(const struct cpx_blob *b)
{
	return has_name(b) && ((const struct sockaddr_un *)b->p)->sun_path[0];
}

static bool same_name(const struct cpx_blob *a, const struct cpx_blob *b)
{
	return a->n == b->n && has_name(a) && !memcmp(a->p, b->p, a->n);
}

static int to_name(const struct cpx_blob *b, struct name *n, struct cpx_err *err)
{
	if (b->n > sizeof(n->un) || b->n < PATH_OFF)
		return cpx_err_set(err, CPX_E_FORMAT, "a unix socket's name of %u bytes", b->n);
	memset(n, 0, sizeof(*n));
	memcpy(&n->un, b->p, b->n);
	n->len = b->n;
	if (n->un.sun_family != AF_UNIX)
		return cpx_err_set(err, CPX_E_FORMAT, "a unix socket's name of another family");
	return 0;
}

/* --- binding --------------------------------------------------------------------------- */

/* Does relative @name lead from @dir to @path? Its last part need not exist. */
static bool leads_to(const char *dir, const char *name, const char *path)
{
	char full[8192], real[PATH_MAX];
	const char *slash = strrchr(path, '/');
	char *last;

	snprintf(full, sizeof(full), "%s/%s", dir, name);
	last = strrchr(full, '/');
	if (!slash || strcmp(last, slash))
		return false;
	*last = '\0';
	return realpath(full, real) && strlen(real) == (size_t)(slash - path) &&
	       !strncmp(real, path, (size_t)(slash - path));
}

static const char *file_path(const struct cpx_rst *r, uint32_t id)
{
	cpx_state_each(r->st, file, f)
		if (f->id == id)
			return f->path;
	return NULL;
}

/*
 * The directory that a relative name counted from: the absolute path without the name, else a
 * working directory of the job. "": the name is absolute.
 */
static int base_dir(const struct cpx_rst *r, const struct cpx_rec_sock *rec,
		    const struct name *n, char *dir, size_t size, struct cpx_err *err)
{
	size_t plen, nlen = strnlen(n->un.sun_path, sizeof(n->un.sun_path));
	const char *tail = n->un.sun_path;

	dir[0] = '\0';
	if (tail[0] == '/')
		return 0;
	plen = rec->path ? strlen(rec->path) : 0;
	if (plen > nlen && plen - nlen < size && rec->path[plen - nlen - 1] == '/' &&
	    !strncmp(rec->path + plen - nlen, tail, nlen)) {
		memcpy(dir, rec->path, plen - nlen);
		dir[plen - nlen] = '\0';
		return 0;
	}
	for (size_t i = 0; rec->path && i < r->ntasks; i++) {
		const char *cwd = file_path(r, r->tasks[i].rec->cwd_file);

		if (cwd && strlen(cwd) < size && leads_to(cwd, tail, rec->path)) {
			strcpy(dir, cwd);
			return 0;
		}
	}
	return cpx_err_set(err, CPX_E_UNSUPPORTED,
			   "the relative name '%.100s' of a unix socket does not lead to %s",
			   n->un.sun_path, rec->path ? rec->path : "any path");
}

/*
 * A relative name whose file is gone anyway is bound in an empty directory of our own, in the
 * child. Return: errno or 0.
 */
static int bind_aside(int fd, const struct name *n)
{
	char part[sizeof(n->un.sun_path) + 1] = "", dir[] = "/tmp/.chpox-XXXXXX";
	int sys = 0;

	umask(0);
	if (!mkdtemp(dir) || chdir(dir))
		return errno;
	memcpy(part, n->un.sun_path, sizeof(n->un.sun_path));
	for (char *p = strchr(part, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(part, 0700) && errno != EEXIST)
			return errno;
		*p = '/';
	}
	if (bind(fd, (const struct sockaddr *)&n->un, n->len) || unlink(n->un.sun_path))
		sys = errno;
	for (char *p = strrchr(part, '/'); p; p = strrchr(part, '/')) {
		*p = '\0';
		rmdir(part);
	}
	rmdir(dir);
	return sys;
}

static bool stays_inside(const char *name)
{
	return name[0] != '/' && strncmp(name, "../", 3) && !strstr(name, "/../");
}

/* Nobody may lose a socket that is in use: only one that nothing listens at is removed. */
static int clear_path(const struct name *n, int type)
{
	struct stat st;
	CPX_AUTO_FD probe = -1;

	if (lstat(n->un.sun_path, &st))
		return errno == ENOENT ? 0 : errno;
	if (!S_ISSOCK(st.st_mode))
		return EEXIST;
	probe = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (!connect(probe, (const struct sockaddr *)&n->un, n->len) || errno != ECONNREFUSED)
		return EADDRINUSE;
	return unlink(n->un.sun_path) ? errno : 0;
}

/* In a child for the sake of its own working directory. Return: errno or 0. */
static int bind_there(int fd, int type, const char *dir, const struct name *n,
		      const struct cpx_rec_sock *rec, bool keep, bool trusted)
{
	int sys;

	umask(0);
	if (dir[0] && chdir(dir))
		return errno;
	/* What was bound at this name a moment ago is ours and has been unlinked. */
	sys = clear_path(n, type);
	if (sys)
		return sys;
	if (bind(fd, (const struct sockaddr *)&n->un, n->len))
		return errno;
	if (!keep)
		return unlink(n->un.sun_path) ? errno : 0;
	if (trusted && lchown(n->un.sun_path, rec->path_uid, rec->path_gid) && errno != EPERM)
		return errno;
	if (chmod(n->un.sun_path, rec->path_mode & 07777))
		return errno;
	return 0;
}

/* A name of its own in the directory for rehearsals: who listens at the real one goes on. */
static int bind_rehearsal(int fd, int scratch)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	umask(0);
	if (fchdir(scratch))
		return errno;
	snprintf(un.sun_path, sizeof(un.sun_path), "socket.%d", getpid());
	return bind(fd, (const struct sockaddr *)&un, sizeof(un)) ? errno : 0;
}

/* Give @fd the name in @which (rec's own or its peer's); its file stays if @keep. */
static int bind_name(struct cpx_rst *r, int fd, const struct cpx_rec_sock *rec,
		     const struct cpx_blob *which, bool keep, struct cpx_err *err)
{
	char dir[4096];
	struct name n;
	int status, rc = to_name(which, &n, err);
	bool aside;
	pid_t pid;

	if (rc < 0)
		return rc;
	if (!is_path(which))
		return bind(fd, (struct sockaddr *)&n.un, n.len)
			       ? cpx_err_sys(err, errno, "binding a unix socket to '@%.100s'",
					     n.un.sun_path + 1)
			       : 0;
	aside = !keep && stays_inside(n.un.sun_path);
	rc = aside || r->opts->rehearse ? 0 : base_dir(r, rec, &n, dir, sizeof(dir), err);
	if (rc < 0)
		return rc;
	pid = fork();
	if (!pid && cpx_ipc_drop(r, NULL) < 0)
		_exit(EPERM);
	if (!pid && r->opts->rehearse)
		_exit(bind_rehearsal(fd, r->opts->scratch_fd));
	if (!pid)
		_exit(aside ? bind_aside(fd, &n)
			    : bind_there(fd, (int)rec->type, dir, &n, rec, keep,
					 r->opts->trusted));
	if (pid < 0)
		return cpx_err_sys(err, errno, "fork");
	while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return cpx_err_sys(err, WIFEXITED(status) ? WEXITSTATUS(status) : EINTR,
				   "binding a unix socket to '%s'", n.un.sun_path);
	return 0;
}

/* The address to reach @fd at, whatever stands at its path by now. @file: keep it open till
 * then. */
static int address_of(int fd, struct name *n, int *file, struct cpx_err *err)
{
	n->len = sizeof(n->un);
	*file = -1;
	if (getsockname(fd, (struct sockaddr *)&n->un, &n->len))
		return cpx_err_sys(err, errno, "name of a unix socket");
	if (n->len <= PATH_OFF)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "a message is for a unix socket that has no name");
	if (!n->un.sun_path[0])
		return 0;
	*file = ioctl(fd, SIOCUNIXFILE);
	if (*file < 0)
		return cpx_err_sys(err, errno, "the file of a unix socket");
	n->len = (socklen_t)(PATH_OFF + 1 +
			     (size_t)snprintf(n->un.sun_path, sizeof(n->un.sun_path),
					      "/proc/self/fd/%d", *file));
	return 0;
}

/* --- calls in the process whose credentials count --------------------------------------- */

struct as {
	struct cpx_rst *r;
	struct cpx_rst_task *t; /* NULL: the conductor */
	uint32_t uid, gid;
};

static struct as as_whom(struct cpx_rst *r, const struct cpx_rec_sock *rec)
{
	struct cpx_rst_task *t = rec->cred_pid ? cpx_ipc_task(r, rec->cred_pid) : NULL;

	if (t && (t->rec->state == CPX_TASK_ZOMBIE || !t->nthreads || t->pid <= 0))
		t = NULL;
	return (struct as){ r, t, rec->cred_uid, rec->cred_gid };
}

static int switch_ids(struct as *a, bool back, int64_t was[2], struct cpx_err *err)
{
	struct cpx_tracee *tr = &a->t->threads[0].t;
	int64_t ret;
	int rc;

	if (back) {
		rc = cpx_tcall(tr, &ret, err, SYS_setresuid, (uint64_t)-1, (uint64_t)was[0],
			       (uint64_t)-1);
		return rc < 0 ? rc
			      : cpx_tcall(tr, &ret, err, SYS_setresgid, (uint64_t)-1,
					  (uint64_t)was[1], (uint64_t)-1);
	}
	rc = cpx_tcall(tr, &was[0], err, SYS_geteuid, 0);
	if (rc >= 0)
		rc = cpx_tcall(tr, &was[1], err, SYS_getegid, 0);
	if (rc >= 0)
		rc = cpx_tcall(tr, &ret, err, SYS_setresgid, (uint64_t)-1, a->gid,
			       (uint64_t)-1);
	if (rc >= 0)
		rc = cpx_tcall(tr, &ret, err, SYS_setresuid, (uint64_t)-1, a->uid,
			       (uint64_t)-1);
	return rc;
}

/* One call in the task, under the recorded effective ids. */
static int call_as(struct as *a, const char *what, long nr, uint64_t a0, uint64_t a1,
		   uint64_t a2, uint64_t a3, struct cpx_err *err)
{
	struct cpx_tracee *tr = &a->t->threads[0].t;
	int64_t was[2] = { 0, 0 }, ret = 0;
	int rc = switch_ids(a, false, was, err), rc2;

	if (rc < 0)
		return rc;
	rc = cpx_tcall(tr, &ret, err, nr, a0, a1, a2, a3);
	rc2 = switch_ids(a, true, was, rc < 0 ? NULL : err);
	if (rc < 0 || rc2 < 0)
		return rc < 0 ? rc : rc2;
	return ret < 0 ? cpx_err_sys(err, (int)-ret, "%s", what) : 0;
}

static int close_in(struct as *a, int num, struct cpx_err *err)
{
	int64_t ret;

	return cpx_tcall(&a->t->threads[0].t, &ret, err, SYS_close, (uint64_t)num);
}

static int listen_as(struct as *a, int fd, int backlog, struct cpx_err *err)
{
	int num, rc, rc2;

	if (!a->t)
		return listen(fd, backlog) ? cpx_err_sys(err, errno, "listen") : 0;
	num = cpx_rst_give_fd(a->r, a->t, fd, -1, true, err);
	if (num < 0)
		return num;
	rc = call_as(a, "listen", SYS_listen, (uint64_t)num, (uint64_t)backlog, 0, 0, err);
	rc2 = close_in(a, num, rc < 0 ? NULL : err);
	return rc < 0 ? rc : rc2;
}

static int connect_as(struct as *a, int fd, int target, struct cpx_err *err)
{
	CPX_AUTO_FD file = -1;
	struct name n;
	int num, fnum = -1, rc = address_of(target, &n, &file, err), rc2;
	uint64_t addr;

	if (rc < 0)
		return rc;
	if (!a->t)
		return connect(fd, (struct sockaddr *)&n.un, n.len)
			       ? cpx_err_sys(err, errno, "connecting a unix socket")
			       : 0;
	num = cpx_rst_give_fd(a->r, a->t, fd, -1, true, err);
	if (num < 0)
		return num;
	if (file >= 0) {
		fnum = cpx_rst_give_fd(a->r, a->t, file, -1, true, err);
		if (fnum < 0)
			return fnum;
		n.len = (socklen_t)(PATH_OFF + 1 +
				    (size_t)snprintf(n.un.sun_path, sizeof(n.un.sun_path),
						     "/proc/self/fd/%d", fnum));
	}
	cpx_tracee_reset(&a->t->threads[0].t);
	addr = cpx_tracee_push(&a->t->threads[0].t, &n.un, n.len);
	rc = addr ? call_as(a, "connecting a unix socket", SYS_connect, (uint64_t)num, addr,
			    n.len, 0, err)
		  : cpx_err_set(err, CPX_E_SYS, "no room for a call's arguments");
	cpx_tracee_reset(&a->t->threads[0].t);
	rc2 = close_in(a, num, rc < 0 ? NULL : err);
	if (rc2 >= 0 && fnum >= 0)
		rc2 = close_in(a, fnum, rc < 0 ? NULL : err);
	return rc < 0 ? rc : rc2;
}

static int socketpair_as(struct as *a, int type, int fds[2], struct cpx_err *err)
{
	struct cpx_tracee *tr = a->t ? &a->t->threads[0].t : NULL;
	CPX_AUTO_FD pidfd = -1;
	int nums[2], rc;
	uint64_t addr;

	if (!a->t)
		return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds)
			       ? cpx_err_sys(err, errno, "socketpair")
			       : 0;
	cpx_tracee_reset(tr);
	addr = cpx_tracee_push(tr, NULL, sizeof(nums));
	if (!addr)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call's arguments");
	rc = call_as(a, "socketpair", SYS_socketpair, AF_UNIX, (uint64_t)(type | SOCK_CLOEXEC),
		     0, addr, err);
	if (rc >= 0)
		rc = cpx_tracee_read(tr, addr, nums, sizeof(nums), err);
	cpx_tracee_reset(tr);
	if (rc < 0)
		return rc;
	pidfd = (int)syscall(SYS_pidfd_open, a->t->pid, 0);
	fds[0] = (int)syscall(SYS_pidfd_getfd, pidfd, nums[0], 0);
	fds[1] = (int)syscall(SYS_pidfd_getfd, pidfd, nums[1], 0);
	if (fds[0] < 0 || fds[1] < 0)
		rc = cpx_err_sys(err, errno, "fetching a socket pair");
	for (int i = 0; i < 2; i++) {
		int rc2 = close_in(a, nums[i], rc < 0 ? NULL : err);

		if (rc >= 0 && rc2 < 0)
			rc = rc2;
		if (rc < 0)
			cpx_close(&fds[i]);
	}
	return rc;
}

/* --- making ------------------------------------------------------------------------------ */

static int new_socket(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	return cpx_sock_new(r, AF_UNIX, (int)rec->type, 0, err);
}

static bool keeps_file(const struct cpx_rec_sock *rec)
{
	return rec->flags & CPX_SOCK_LINKED;
}

/*
 * A connected pair: @fds[0] becomes @rec, @fds[1] what @rec sees as its peer (@peer, or NULL
 * for one that is closed). The one that was accepted carries its listener's name.
 */
static int connected_pair(struct cpx_rst *r, const struct cpx_rec_sock *rec,
			  const struct cpx_rec_sock *peer, int fds[2], struct cpx_err *err)
{
	bool rec_accepted = has_name(&rec->name);
	const struct cpx_rec_sock *client = rec_accepted ? peer : rec;
	const struct cpx_blob *name = rec_accepted ? &rec->name : &rec->peer_name;
	const struct cpx_rec_sock *named = rec_accepted || !peer ? rec : peer;
	/* @rec's SO_PEERCRED are its peer's, and the other way round */
	struct as peer_as = as_whom(r, rec), rec_as = as_whom(r, peer ? peer : rec);
	struct as listener_as = rec_accepted ? rec_as : peer_as;
	struct as client_as = rec_accepted ? peer_as : rec_as;
	CPX_AUTO_FD listener = -1, conn = -1, acc = -1;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	bool nameless = !has_name(name);
	int rc;

	if (nameless && (!peer || rec_as.t == peer_as.t))
		return socketpair_as(&peer_as, (int)rec->type, fds, err);
	listener = new_socket(r, rec, err);
	conn = new_socket(r, rec, err);
	if (listener < 0 || conn < 0)
		return CPX_E_SYS;
	if (client && has_name(&client->name) && !keeps_file(client) && client != named) {
		rc = bind_name(r, conn, client, &client->name, false, err);
		if (rc < 0)
			return rc;
	}
	if (nameless)
		rc = bind(listener, (struct sockaddr *)&un, sizeof(sa_family_t))
			     ? cpx_err_sys(err, errno, "bind")
			     : 0;
	else
		rc = bind_name(r, listener, named, name, false, err);
	if (rc >= 0)
		rc = listen_as(&listener_as, listener, 1, err);
	if (rc >= 0)
		rc = connect_as(&client_as, conn, listener, err);
	if (rc < 0)
		return rc;
	acc = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (acc < 0)
		return cpx_err_sys(err, errno, "accept");
	fds[rec_accepted ? 0 : 1] = cpx_steal_fd(&acc);
	fds[rec_accepted ? 1 : 0] = cpx_steal_fd(&conn);
	return 0;
}

static int make_connected(struct cpx_rst *r, const struct cpx_rec_sock *rec,
			  struct cpx_err *err)
{
	const struct cpx_rec_sock *peer = NULL;
	int fds[2] = { -1, -1 }, rc;

	if (rec->state == CPX_SOCK_CONNECTED) {
		peer = cpx_sock_rec(r, rec->peer);
		if (!peer || peer->peer != rec->id || peer->state != CPX_SOCK_CONNECTED ||
		    peer->type != rec->type || peer == rec)
			return cpx_err_set(err, CPX_E_FORMAT,
					   "unix socket %u: its peer does not fit", rec->id);
	}
	rc = connected_pair(r, rec, peer, fds, err);
	if (rc < 0)
		return rc;
	rc = cpx_ipc_made_add(r, rec, 0, fds[0], err);
	if (rc < 0) {
		close(fds[1]);
		return rc;
	}
	/* The other side of an orphan is needed to fill its queue: end 1. */
	return cpx_ipc_made_add(r, peer ? peer : rec, peer ? 0 : 1, fds[1], err);
}

static bool mutual(struct cpx_rst *r, const struct cpx_rec_sock *rec)
{
	const struct cpx_rec_sock *peer = cpx_sock_rec(r, rec->peer);

	return rec->state == CPX_SOCK_CONNECTED && peer && peer != rec &&
	       peer->peer == rec->id && peer->state == CPX_SOCK_CONNECTED;
}

/* Datagram sockets: only a pair where one has no name must come from socketpair(). */
static int make_datagram(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	const struct cpx_rec_sock *peer = mutual(r, rec) ? cpx_sock_rec(r, rec->peer) : NULL;
	struct as a = as_whom(r, rec);
	int fds[2], rc;

	if (rec->state == CPX_SOCK_ORPHAN ||
	    (peer && (!has_name(&rec->name) || !has_name(&peer->name)))) {
		rc = socketpair_as(&a, SOCK_DGRAM, fds, err);
		if (rc < 0)
			return rc;
		rc = cpx_ipc_made_add(r, peer ? peer : rec, peer ? 0 : 1, fds[1], err);
		if (rc < 0)
			close(fds[0]);
		return rc < 0 ? rc : cpx_ipc_made_add(r, rec, 0, fds[0], err);
	}
	fds[0] = new_socket(r, rec, err);
	return fds[0] < 0 ? fds[0] : cpx_ipc_made_add(r, rec, 0, fds[0], err);
}

static int make_one(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	int fd;

	if (cpx_ipc_made_find(r, rec, 0))
		return 0;
	if (rec->type == SOCK_DGRAM)
		return make_datagram(r, rec, err);
	if (rec->state == CPX_SOCK_CONNECTED || rec->state == CPX_SOCK_ORPHAN)
		return make_connected(r, rec, err);
	fd = new_socket(r, rec, err);
	return fd < 0 ? fd : cpx_ipc_made_add(r, rec, 0, fd, err);
}

/* Bind what has no name yet; @linked: those whose file stays. */
static int bind_one(struct cpx_rst *r, const struct cpx_rec_sock *rec, bool linked,
		    struct cpx_err *err)
{
	struct sockaddr_un un;
	socklen_t len = sizeof(un);
	int fd = cpx_sock_made(r, rec->id);

	if (!has_name(&rec->name) || keeps_file(rec) != linked)
		return 0;
	if (!getsockname(fd, (struct sockaddr *)&un, &len) && len > PATH_OFF)
		return 0;
	return bind_name(r, fd, rec, &rec->name, linked, err);
}

static int make_listen(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	int fd = cpx_sock_made(r, rec->id), rc;
	struct as a = as_whom(r, rec);

	rc = listen_as(&a, fd, (int)rec->backlog, err);
	for (uint32_t i = 0; rc >= 0 && i < rec->queued.n; i++) {
		const struct cpx_rec_sock *client = cpx_sock_rec(r, rec->queued.v[i]);
		struct as nobody = { r, NULL, 0, 0 };
		CPX_AUTO_FD temp = -1;
		int cfd;

		if (client && client->state == CPX_SOCK_QUEUED && client->peer == rec->id) {
			cfd = cpx_sock_made(r, client->id);
		} else {
			cfd = temp = new_socket(r, rec, err);
			if (temp < 0)
				return temp;
		}
		/* where the backlog is full already, this must fail and not wait */
		fcntl(cfd, F_SETFL, O_NONBLOCK);
		rc = connect_as(&nobody, cfd, fd, err);
	}
	return rc;
}

static int each(struct cpx_rst *r, int stage, struct cpx_err *err)
{
	cpx_state_each(r->st, sock, rec) {
		int rc = 0;

		if (rec->family != AF_UNIX)
			continue;
		if (stage == 0)
			rc = make_one(r, rec, err);
		else if (stage == 1 || stage == 2)
			rc = bind_one(r, rec, stage == 2, err);
		else if (rec->state == CPX_SOCK_LISTEN)
			rc = make_listen(r, rec, err);
		if (rc < 0)
			return cpx_err_wrap(err, "unix socket %u", rec->id);
	}
	return 0;
}

int cpx_rst_unix(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	int fd;

	if (!cpx_rst_ipc_of(r)->unix_made) {
		for (int stage = 0; stage < 4; stage++) {
			int rc = each(r, stage, err);

			if (rc < 0)
				return rc;
		}
		cpx_rst_ipc_of(r)->unix_made = true;
	}
	fd = cpx_sock_made(r, ofd->id);
	if (fd < 0)
		return cpx_err_set(err, CPX_E_FORMAT, "unix socket %u: no record", ofd->id);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? cpx_err_sys(err, errno, "unix socket %u", ofd->id) : fd;
}

/* --- late: queues, connections of datagram sockets, shutdown, options --------------------- */

static size_t queue_bytes(const struct cpx_rst *r, uint32_t id)
{
	size_t total = 0;

	cpx_ipc_each(r, CPX_BY_MSG, id, sockmsg, m) total += m->data.n + 2048u;
	return total;
}

#define FDS_MAX 253

static int send_message(struct cpx_rst *r, int fd, const struct cpx_rec_sockmsg *m,
			const struct name *to, struct cpx_err *err)
{
	char control[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))] = {
		0
	};
	struct iovec iov = { (void *)m->data.p, m->data.n };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control };
	struct cmsghdr *cm = (void *)control;

	if (m->ofds.n > FDS_MAX)
		return cpx_err_set(err, CPX_E_FORMAT, "%u descriptors in a message", m->ofds.n);
	if (to) {
		h.msg_name = (void *)&to->un;
		h.msg_namelen = to->len;
	}
	if (m->ofds.n) {
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(m->ofds.n * sizeof(int));
		for (uint32_t i = 0; i < m->ofds.n; i++) {
			int ofd = cpx_rst_ofd_fd(r, m->ofds.v[i], err);

			if (ofd < 0)
				return ofd;
			memcpy(CMSG_DATA(cm) + i * sizeof(int), &ofd, sizeof(ofd));
		}
		h.msg_controllen += CMSG_SPACE(m->ofds.n * sizeof(int));
		cm = (void *)(control + h.msg_controllen);
	}
	if (m->has_cred) {
		struct cpx_rst_task *t = m->pid ? cpx_ipc_task(r, m->pid) : NULL;
		struct ucred cred = { t ? t->pid : getpid(), m->uid, m->gid };

		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_CREDENTIALS;
		cm->cmsg_len = CMSG_LEN(sizeof(cred));
		memcpy(CMSG_DATA(cm), &cred, sizeof(cred));
		h.msg_controllen += CMSG_SPACE(sizeof(cred));
	}
	if (sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)m->data.n)
		return cpx_err_sys(err, errno, "putting a message of %u bytes back", m->data.n);
	return 0;
}

/* A socket that sends under @name: the job's own, or one for this purpose (*@temp). */
static int sender_for(struct cpx_rst *r, const struct cpx_rec_sock *to,
		      const struct cpx_rec_sockmsg *m, int *temp, struct cpx_err *err)
{
	int rc;

	if (has_name(&m->name))
		cpx_state_each(r->st, sock, s)
			if (s->family == AF_UNIX && s->type == SOCK_DGRAM &&
			    same_name(&s->name, &m->name) && s->state != CPX_SOCK_ORPHAN)
				return cpx_sock_made(r, s->id);
	*temp = new_socket(r, to, err);
	if (*temp < 0)
		return *temp;
	rc = has_name(&m->name) ? bind_name(r, *temp, to, &m->name, false, err) : 0;
	return rc < 0 ? rc : *temp;
}

static int fill_one(struct cpx_rst *r, const struct cpx_rec_sock *rec,
		    const struct cpx_rec_sockmsg *m, struct cpx_err *err)
{
	const struct cpx_ipc_made *other = cpx_ipc_made_find(r, rec, 1);
	CPX_AUTO_FD temp = -1, file = -1;
	struct sockaddr_un un;
	socklen_t len = sizeof(un);
	struct name to;
	int fd, rc;

	/* connected already (a stream, or a socketpair): its peer, and nobody else, sends */
	if (other)
		return send_message(r, other->fd, m, NULL, err);
	fd = cpx_sock_made(r, rec->id);
	if (!getpeername(fd, (struct sockaddr *)&un, &len))
		return send_message(r, cpx_sock_made(r, rec->peer), m, NULL, err);
	fd = sender_for(r, rec, m, &temp, err);
	if (fd < 0)
		return fd;
	rc = address_of(cpx_sock_made(r, rec->id), &to, &file, err);
	if (rc < 0)
		return rc;
	cpx_sock_widen(fd, m->data.n);
	return send_message(r, fd, m, &to, err);
}

static int fill_queue(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	const struct cpx_ipc_made *other = cpx_ipc_made_find(r, rec, 1);
	size_t bytes = queue_bytes(r, rec->id);

	if (!bytes)
		return 0;
	if (other)
		cpx_sock_widen(other->fd, bytes);
	else if (rec->peer && cpx_sock_made(r, rec->peer) >= 0)
		cpx_sock_widen(cpx_sock_made(r, rec->peer), bytes);
	cpx_ipc_each(r, CPX_BY_MSG, rec->id, sockmsg, m)
	{
		int rc = fill_one(r, rec, m, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int connect_datagram(struct cpx_rst *r, const struct cpx_rec_sock *rec,
			    struct cpx_err *err)
{
	CPX_AUTO_FD file = -1;
	int fd = cpx_sock_made(r, rec->id), rc;
	struct sockaddr_un un;
	socklen_t len = sizeof(un);
	struct name to;

	if (rec->type != SOCK_DGRAM || !getpeername(fd, (struct sockaddr *)&un, &len))
		return 0;
	if (rec->state == CPX_SOCK_CONNECTED)
		rc = address_of(cpx_sock_made(r, rec->peer), &to, &file, err);
	else if (rec->state == CPX_SOCK_NAMED)
		rc = to_name(&rec->peer_name, &to, err);
	else
		return 0;
	if (rc < 0)
		return rc;
	rc = cpx_ipc_drop(r, err);
	if (rc < 0)
		return rc;
	if (connect(fd, (struct sockaddr *)&to.un, to.len))
		rc = cpx_err_sys(err, errno, "connecting a datagram socket");
	cpx_ipc_undrop(r);
	return rc;
}

static int settle(struct cpx_rst *r, const struct cpx_rec_sock *rec, struct cpx_err *err)
{
	struct cpx_ipc_made *other = cpx_ipc_made_find(r, rec, 1);
	int fd = cpx_sock_made(r, rec->id);

	if (other) {
		/* data that its peer never read, and then closed: a reset */
		if ((rec->flags & CPX_SOCK_ERROR) && rec->type != SOCK_DGRAM &&
		    send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
			return cpx_err_sys(err, errno, "a connection that was reset");
		cpx_close(&other->fd);
	}
	if ((rec->state == CPX_SOCK_CONNECTED || rec->type == SOCK_DGRAM) &&
	    (rec->shutdown & 3) && shutdown(fd, (int)(rec->shutdown & 3) - 1) &&
	    errno != ENOTCONN)
		return cpx_err_sys(err, errno, "shutdown");
	return 0;
}

int cpx_rst_unix_late(struct cpx_rst *r, struct cpx_err *err)
{
	static int (*const stages[])(struct cpx_rst *, const struct cpx_rec_sock *,
				     struct cpx_err *) = { fill_queue, connect_datagram,
							   settle };

	if (!cpx_rst_ipc_of(r)->unix_made)
		return 0;
	for (size_t i = 0; i < sizeof(stages) / sizeof(*stages); i++) {
		cpx_state_each(r->st, sock, rec) {
			int rc = rec->family == AF_UNIX ? stages[i](r, rec, err) : 0;

			if (rc < 0)
				return cpx_err_wrap(err, "unix socket %u", rec->id);
		}
	}
	cpx_state_each(r->st, sock, rec) {
		int rc =
			rec->family != AF_UNIX
				? 0
				: cpx_sock_set_opts(r, rec->id, cpx_sock_made(r, rec->id), err);

		if (rc < 0)
			return cpx_err_wrap(err, "unix socket %u", rec->id);
	}
	return 0;
}
