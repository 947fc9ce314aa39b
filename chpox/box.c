/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Happy path of a new box: clone3 -> PID 1 mounts /proc -> forks the launcher -> the launcher
 * says HELLO -> EXEC or SPAWN makes the root process -> it ends: the status is written to
 * exit_path, then sent -> the launcher exits, PID 1 exits, the namespace is empty.
 *
 * Failures: before HELLO the clone exits and its maker sees end of file. A root that cannot be
 * made is FAILED with errno and leaves the box usable for another try. The launcher killed: PID
 * 1 exits, the job dies with it. The outer half killed: the job does not notice.
 */
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../restore/restore.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"

enum op {
	OP_EXEC = 1, /* to the launcher */
	OP_SPAWN,    /* arg: PID in the namespace; clocks; fd: pidfd of the conductor */
	OP_HELLO,    /* from the launcher; fds: root if made, terminal's two ends if any */
	OP_MADE,     /* fd: pidfd of the child */
	OP_FAILED,   /* arg: errno; text */
	OP_EXIT,     /* arg: wait status */
};

#define TEXT_MAX 256
#define MSG_MAX (28 + TEXT_MAX)
#define REPLY_TIMEOUT_MS 10000
#define KILL_TIMEOUT_MS 5000

struct msg {
	uint32_t op;
	uint32_t arg;
	uint32_t flags; /* HELLO: 1 root, 2 terminal, 4 root has ended */
	int64_t monotonic_ns, boottime_ns;
	char text[TEXT_MAX];
	int fds[3];
	size_t nfds;
};

static int msg_send(int sock, const struct msg *m)
{
	struct cpx_buf b = { 0 };
	int r;

	cpx_buf_u32(&b, m->op);
	cpx_buf_u32(&b, m->arg);
	cpx_buf_u32(&b, m->flags);
	cpx_buf_u64(&b, (uint64_t)m->monotonic_ns);
	cpx_buf_u64(&b, (uint64_t)m->boottime_ns);
	cpx_buf_put(&b, m->text, strlen(m->text));
	r = b.failed ? -1 : cpx_send_fds(sock, b.data, b.len, m->fds, m->nfds);
	cpx_buf_free(&b);
	return r;
}

/* Return: 1, 0 at end of file or for nonsense. */
static int msg_recv(int sock, struct msg *m)
{
	uint8_t raw[MSG_MAX];
	struct cpx_rd rd;
	size_t n;
	ssize_t r;

	memset(m, 0, sizeof(*m));
	r = cpx_recv_fds(sock, raw, sizeof(raw), m->fds, 3, &m->nfds);
	if (r <= 0)
		return 0;
	rd = cpx_rd_init(raw, (size_t)r);
	m->op = cpx_rd_u32(&rd);
	m->arg = cpx_rd_u32(&rd);
	m->flags = cpx_rd_u32(&rd);
	m->monotonic_ns = (int64_t)cpx_rd_u64(&rd);
	m->boottime_ns = (int64_t)cpx_rd_u64(&rd);
	n = cpx_rd_left(&rd);
	if (rd.failed || n >= TEXT_MAX)
		return 0;
	if (n)
		memcpy(m->text, cpx_rd_bytes(&rd, n), n);
	return 1;
}

pid_t cpx_pidfd_pid(int pidfd)
{
	char path[64];
	CPX_AUTO_FREE char *text = NULL;
	const char *p;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return -1;
	p = strstr(text, "\nPid:");
	return p ? (pid_t)strtol(p + 5, NULL, 10) : -1;
}

/* --- inside -------------------------------------------------------------------------- */

struct inner {
	const struct cpx_box_opts *opts;
	int conn;   /* outer half, -1: none */
	int sigfd;  /* SIGCHLD */
	pid_t root; /* inner PID */
	int root_pidfd;
	int master, slave;
	bool ended;
	int status;
};

static void plain_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void null_stdio(void)
{
	int fd = open("/dev/null", O_RDWR);

	for (int i = 0; i < 3 && fd >= 0; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static int take_limits(const struct cpx_box_cmd *c)
{
	for (int i = 0; c->has_limits && i < RLIM_NLIMITS; i++) {
		struct rlimit want = c->limits[i], have;

		if (!setrlimit((__rlimit_resource_t)i, &want))
			continue;
		/* without the right to raise hard limits: as near as can be */
		if (getrlimit((__rlimit_resource_t)i, &have))
			return -1;
		want.rlim_max = want.rlim_max > have.rlim_max ? have.rlim_max : want.rlim_max;
		want.rlim_cur = want.rlim_cur > want.rlim_max ? want.rlim_max : want.rlim_cur;
		if (setrlimit((__rlimit_resource_t)i, &want))
			return -1;
	}
	return 0;
}

static int take_stdio(const struct inner *in, const struct cpx_box_cmd *c)
{
	int high[3];

	/* first out of the way: a source may itself be 0, 1 or 2 */
	for (int i = 0; i < 3; i++) {
		int src = c->stdio[i] >= 0 ? c->stdio[i] : in->slave;

		high[i] = src >= 0 ? fcntl(src, F_DUPFD_CLOEXEC, 3)
				   : open("/dev/null", O_RDWR | O_CLOEXEC);
		if (high[i] < 0)
			return -1;
	}
	for (int i = 0; i < 3; i++)
		if (dup2(high[i], i) < 0)
			return -1;
	return 0;
}

/* The command, in its new process. Only returns on failure, with @what set. */
static void become(const struct inner *in, const struct cpx_box_cmd *c, int report,
		   const char **what)
{
	*what = "cannot give it a session";
	if (setsid() < 0)
		return;
	if (in->slave >= 0 && ioctl(in->slave, TIOCSCTTY, 0))
		return;
	*what = "cannot set its standard streams";
	if (take_stdio(in, c))
		return;
	*what = "cannot set its limits";
	if (take_limits(c))
		return;
	*what = "cannot become its user";
	if (setgroups(c->ngroups, c->groups) || setresgid(c->gid, c->gid, c->gid) ||
	    setresuid(c->uid, c->uid, c->uid))
		return;
	*what = "its working directory";
	if (chdir(c->cwd))
		return;
	umask(c->umask);
	if (dup2(report, 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) || close_range(4, ~0u, 0))
		return;
	plain_signals();
	environ = c->env;
	*what = "program";
	execvp(c->argv[0], c->argv);
}

static void run_child(const struct inner *in, int report)
{
	const char *what = "";
	struct msg m = { .op = OP_FAILED };
	int r;

	become(in, in->opts->cmd, report, &what);
	m.arg = (uint32_t)errno;
	snprintf(m.text, sizeof(m.text), "%s", what);
	r = msg_send(report, &m);
	/* when the descriptor has moved already */
	if (r < 0)
		msg_send(3, &m);
	_exit(127);
}

static pid_t inner_fork(pid_t want, int *pidfd)
{
	pid_t tid = want;
	struct clone_args ca = {
		.flags = CLONE_PIDFD | cpx_restore_spawn_flags(want),
		.pidfd = (uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
		.set_tid = want ? (uintptr_t)&tid : 0,
		.set_tid_size = want ? 1 : 0,
	};

	return (pid_t)syscall(SYS_clone3, &ca, sizeof(ca));
}

static void answer_failed(struct inner *in, int sys, const char *text)
{
	struct msg m = { .op = OP_FAILED, .arg = (uint32_t)sys };

	snprintf(m.text, sizeof(m.text), "%s", text);
	msg_send(in->conn, &m);
}

static void made(struct inner *in, pid_t pid, int pidfd)
{
	struct msg m = { .op = OP_MADE, .fds = { pidfd }, .nfds = 1 };

	cpx_close(&in->root_pidfd);
	in->root = pid;
	in->root_pidfd = pidfd;
	in->ended = false;
	msg_send(in->conn, &m);
}

static void do_exec(struct inner *in)
{
	int pair[2], pidfd = -1;
	struct msg m;
	pid_t pid;

	if (!in->opts->cmd || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		answer_failed(in, errno, "cannot start it");
		return;
	}
	pid = inner_fork(0, &pidfd);
	if (pid == 0)
		run_child(in, pair[1]);
	close(pair[1]);
	if (pid < 0) {
		answer_failed(in, errno, "cannot fork");
	} else if (msg_recv(pair[0], &m) && m.op == OP_FAILED) {
		waitpid(pid, NULL, 0);
		close(pidfd);
		answer_failed(in, (int)m.arg, m.text);
	} else {
		made(in, pid, pidfd);
	}
	close(pair[0]);
}

static void do_spawn(struct inner *in, const struct msg *m)
{
	pid_t want = (pid_t)m->arg, pid;
	int pidfd = -1, old;

	cpx_restore_clocks(m->monotonic_ns, m->boottime_ns, &old);
	pid = inner_fork(want, &pidfd);
	if (pid == 0)
		cpx_restore_child(m->fds[0]);
	cpx_restore_clocks_back(&old);
	if (pid < 0)
		answer_failed(in, errno, "cannot make a process with that PID");
	else
		made(in, pid, pidfd);
}

static void say_hello(struct inner *in)
{
	struct msg m = { .op = OP_HELLO };

	if (in->root_pidfd >= 0) {
		m.flags |= 1;
		m.fds[m.nfds++] = in->root_pidfd;
	}
	if (in->master >= 0) {
		m.flags |= 2;
		m.fds[m.nfds++] = in->master;
		m.fds[m.nfds++] = in->slave;
	}
	if (in->ended) {
		m.flags |= 4;
		m.arg = (uint32_t)in->status;
	}
	msg_send(in->conn, &m);
}

/* Durable before anybody is told: whoever adopts later finds it. */
static void write_exit(const char *path, int status)
{
	char tmp[4096], text[32];
	int n = snprintf(text, sizeof(text), "%d\n", status);
	int fd;

	if (!path || snprintf(tmp, sizeof(tmp), "%s.tmp", path) >= (int)sizeof(tmp))
		return;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (!cpx_write_full(fd, text, (size_t)n) && !fsync(fd))
		rename(tmp, path);
	close(fd);
}

/* Take what ended. Return: true when the launcher's work is over. */
static bool reap(struct inner *in)
{
	struct msg m = { .op = OP_EXIT };
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != in->root)
			continue;
		in->ended = true;
		in->status = status;
	}
	if (!in->ended)
		return false;
	write_exit(in->opts->exit_path, in->status);
	m.arg = (uint32_t)in->status;
	if (in->conn >= 0)
		msg_send(in->conn, &m);
	return true;
}

/* A word from the outer half. Return: false when it is gone. */
static bool serve(struct inner *in)
{
	struct msg m;

	if (!msg_recv(in->conn, &m))
		return false;
	if (m.op == OP_EXEC)
		do_exec(in);
	else if (m.op == OP_SPAWN && m.nfds == 1)
		do_spawn(in, &m);
	for (size_t i = 0; i < m.nfds; i++)
		close(m.fds[i]);
	return true;
}

static void adopt_me(struct inner *in)
{
	int fd = accept4(in->opts->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) || cred.uid != 0) {
		close(fd);
		return;
	}
	cpx_close(&in->conn);
	in->conn = fd;
	say_hello(in);
}

static void launcher_loop(struct inner *in)
{
	struct signalfd_siginfo si;

	for (;;) {
		struct pollfd p[3] = { { .fd = in->sigfd, .events = POLLIN },
				       { .fd = in->conn, .events = POLLIN },
				       { .fd = in->opts->listen_fd, .events = POLLIN } };

		if (poll(p, 3, -1) < 0)
			continue;
		if (p[0].revents) {
			if (read(in->sigfd, &si, sizeof(si)) < 0)
				continue;
			if (reap(in))
				return;
		}
		if (p[2].revents)
			adopt_me(in);
		else if (p[1].revents && !serve(in))
			cpx_close(&in->conn);
		if (in->conn < 0 && (!in->root || in->opts->bound))
			return;
	}
}

static int open_tty(struct inner *in)
{
	struct winsize ws = { .ws_row = 24, .ws_col = 80 };
	char path[32];
	int n, zero = 0;

	if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		  "newinstance,ptmxmode=0666,mode=620") ||
	    mount("/dev/pts/ptmx", "/dev/ptmx", NULL, MS_BIND, NULL))
		return -1;
	in->master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (in->master < 0 || ioctl(in->master, TIOCSPTLCK, &zero) ||
	    ioctl(in->master, TIOCGPTN, &n))
		return -1;
	snprintf(path, sizeof(path), "/dev/pts/%d", n);
	in->slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (in->slave < 0 || fchown(in->slave, in->opts->tty_uid, (gid_t)-1))
		return -1;
	return ioctl(in->slave, TIOCSWINSZ, &ws);
}

/* Everything closed but the @n descriptors in @keep, and the three streams. */
static void keep_only(const int *keep, size_t n)
{
	unsigned from = 3;

	for (;;) {
		int next = -1;

		for (size_t i = 0; i < n; i++)
			if (keep[i] >= (int)from && (next < 0 || keep[i] < next))
				next = keep[i];
		if (next < 0)
			break;
		if (next > (int)from)
			close_range(from, (unsigned)next - 1, 0);
		from = (unsigned)next + 1;
	}
	close_range(from, ~0u, 0);
}

static void __attribute__((noreturn)) launcher(struct inner *in)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	in->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (in->sigfd < 0)
		_exit(1);
	null_stdio();
	say_hello(in);
	launcher_loop(in);
	_exit(0);
}

static int inner_mounts(struct inner *in)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) ||
	    mount("proc", "/proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL))
		return -1;
	return in->opts->tty ? open_tty(in) : 0;
}

/* PID 1. */
static void __attribute__((noreturn)) inner_init(const struct cpx_box_opts *opts, int conn)
{
	struct inner in = { .opts = opts,
			    .conn = conn,
			    .sigfd = -1,
			    .root_pidfd = -1,
			    .master = -1,
			    .slave = -1 };
	const struct cpx_box_cmd *c = opts->cmd;
	int keep[] = { conn, opts->listen_fd, c ? c->stdio[0] : -1, c ? c->stdio[1] : -1,
		       c ? c->stdio[2] : -1 };
	pid_t pid, l;

	prctl(PR_SET_PDEATHSIG, 0);
	keep_only(keep, sizeof(keep) / sizeof(keep[0]));
	plain_signals();
	setsid();
	if (chdir("/") || inner_mounts(&in)) {
		struct msg m = { .op = OP_FAILED,
				 .arg = (uint32_t)errno,
				 .text = "cannot mount in the job's namespace" };

		msg_send(conn, &m);
		_exit(1);
	}
	l = fork();
	if (l == 0)
		launcher(&in);
	keep_only(NULL, 0);
	null_stdio();
	while ((pid = wait(NULL)) != l && (pid > 0 || errno == EINTR))
		;
	_exit(0);
}

/* --- outside ------------------------------------------------------------------------- */

static int readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;

	do
		r = poll(&p, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	return r > 0;
}

static void take_hello(struct cpx_box *box, const struct msg *m)
{
	size_t i = 0;

	if (m->flags & 1 && i < m->nfds) {
		cpx_close(&box->root_pidfd);
		box->root_pidfd = m->fds[i++];
		box->root = cpx_pidfd_pid(box->root_pidfd);
	}
	if (m->flags & 2 && i + 1 < m->nfds) {
		cpx_close(&box->tty_master);
		cpx_close(&box->tty_slave);
		box->tty_master = m->fds[i++];
		box->tty_slave = m->fds[i++];
	}
	for (; i < m->nfds; i++)
		close(m->fds[i]);
	if (m->flags & 4) {
		box->ended = true;
		box->status = (int)m->arg;
	}
}

/* Wait for the answer to what was asked. Return: OP_* or CPX_E_*. */
static int await(struct cpx_box *box, struct cpx_err *err)
{
	struct msg m;

	for (;;) {
		if (!readable(box->sock, REPLY_TIMEOUT_MS))
			return cpx_err_set(err, CPX_E_TIMEOUT,
					   "the job's launcher does not answer");
		if (!msg_recv(box->sock, &m))
			return cpx_err_set(err, CPX_E_SYS, "the job's launcher has died");
		switch (m.op) {
		case OP_HELLO:
			take_hello(box, &m);
			return OP_HELLO;
		case OP_MADE:
			if (m.nfds != 1)
				break;
			cpx_close(&box->root_pidfd);
			box->root_pidfd = m.fds[0];
			box->root = cpx_pidfd_pid(box->root_pidfd);
			return OP_MADE;
		case OP_FAILED:
			return cpx_err_sys(err, (int)m.arg, "%s", m.text);
		case OP_EXIT:
			box->ended = true;
			box->status = (int)m.arg;
			break;
		}
	}
}

int cpx_box_make(const struct cpx_box_opts *opts, struct cpx_box *box, struct cpx_err *err)
{
	struct clone_args ca = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_PIDFD,
		.exit_signal = SIGCHLD,
	};
	struct cpx_box made = CPX_BOX_NONE;
	int pair[2], pidfd = -1;
	pid_t pid;

	ca.pidfd = (uintptr_t)&pidfd;
	if (opts->cgroup_fd >= 0) {
		ca.flags |= CLONE_INTO_CGROUP;
		ca.cgroup = (uint64_t)opts->cgroup_fd;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return cpx_err_sys(err, errno, "cannot make a socket");
	pid = (pid_t)syscall(SYS_clone3, &ca, sizeof(ca));
	if (pid == 0)
		inner_init(opts, pair[1]);
	close(pair[1]);
	if (pid < 0) {
		int sys = errno;

		close(pair[0]);
		return cpx_err_sys(err, sys, "cannot make a PID namespace");
	}
	made.init = pid;
	made.init_pidfd = pidfd;
	made.sock = pair[0];
	if (await(&made, err) != OP_HELLO) {
		cpx_box_kill(&made);
		cpx_box_close(&made);
		return CPX_E_SYS;
	}
	*box = made;
	return 0;
}

int cpx_box_adopt(const char *path, pid_t init, struct cpx_box *box, struct cpx_err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct cpx_box b = CPX_BOX_NONE;

	if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path) >= (int)sizeof(sa.sun_path))
		return cpx_err_set(err, CPX_E_LIMIT, "path of socket %s is too long", path);
	b.sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	b.init = init;
	b.init_pidfd = (int)syscall(SYS_pidfd_open, init, 0);
	if (b.sock < 0 || b.init_pidfd < 0 ||
	    connect(b.sock, (struct sockaddr *)&sa, sizeof(sa))) {
		cpx_err_sys(err, errno, "cannot reach the launcher at %s", path);
		cpx_box_close(&b);
		return CPX_E_GONE;
	}
	if (await(&b, err) != OP_HELLO) {
		cpx_box_close(&b);
		return CPX_E_GONE;
	}
	*box = b;
	return 0;
}

int cpx_box_exec(struct cpx_box *box, struct cpx_err *err)
{
	struct msg m = { .op = OP_EXEC };
	int r;

	if (msg_send(box->sock, &m) < 0)
		return cpx_err_sys(err, errno, "cannot reach the job's launcher");
	r = await(box, err);
	return r < 0 ? r : 0;
}

pid_t cpx_box_spawn(void *ctx, pid_t ns_pid, int conductor_pidfd,
		    const struct cpx_rec_host *host, struct cpx_err *err)
{
	struct cpx_box *box = ctx;
	struct msg m = {
		.op = OP_SPAWN,
		.arg = (uint32_t)ns_pid,
		.monotonic_ns = host->monotonic_ns,
		.boottime_ns = host->boottime_ns,
		.fds = { conductor_pidfd },
		.nfds = 1,
	};
	int r;

	if (msg_send(box->sock, &m) < 0)
		return cpx_err_sys(err, errno, "cannot reach the job's launcher");
	r = await(box, err);
	return r < 0 ? r : box->root;
}

int cpx_box_read(struct cpx_box *box, struct cpx_err *err)
{
	struct msg m;

	if (!msg_recv(box->sock, &m))
		return cpx_err_set(err, CPX_E_GONE, "the job's launcher has died");
	for (size_t i = 0; i < m.nfds; i++)
		close(m.fds[i]);
	if (m.op != OP_EXIT)
		return 0;
	box->ended = true;
	box->status = (int)m.arg;
	return 1;
}

void cpx_box_kill(struct cpx_box *box)
{
	if (box->init_pidfd < 0)
		return;
	syscall(SYS_pidfd_send_signal, box->init_pidfd, SIGKILL, NULL, 0);
	readable(box->init_pidfd, KILL_TIMEOUT_MS); /* a call that cannot be killed: no end */
	waitpid(box->init, NULL, WNOHANG);
}

void cpx_box_close(struct cpx_box *box)
{
	cpx_close(&box->sock);
	cpx_close(&box->init_pidfd);
	cpx_close(&box->root_pidfd);
	cpx_close(&box->tty_master);
	cpx_close(&box->tty_slave);
}
