/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * attach: the user's terminal in raw mode, its keys to the job's, what that shows to the user.
 * Ctrl-\ leaves. When the connection breaks (the job was restarted, its keeper replaced) it is
 * made anew, as long as the job runs or comes back within a few seconds.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "../scheduler/proto.h"
#include "base/cmd.h"
#include "base/err.h"
#include "base/fd.h"
#include "ctl.h"
#include "job_client.h"

#define LEAVE_KEY 034 /* Ctrl-\ */
#define RECONNECTS 50
#define NAP_NS 100000000

enum outcome { LEFT, BROKEN };

static int connect_job(const struct cpx_args *a, struct cpx_err *err)
{
	CPX_AUTO_FD sock = cpx_client_open(a->ctx, err);
	json_t *req = json_pack("{s:s, s:s}", "op", "attach", "job", a->pos[0]);
	int r;

	if (sock < 0 || !req) {
		json_decref(req);
		return sock < 0 ? sock : cpx_err_set(err, CPX_E_INVAL, "that is no job's name");
	}
	r = cpx_proto_send(sock, req, NULL, 0, err);
	if (r >= 0)
		r = cpx_client_answer(sock, "attach", NULL, NULL, err);
	return r < 0 ? r : cpx_steal_fd(&sock);
}

static int send_size(int sock)
{
	struct winsize ws;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) || !ws.ws_row)
		return 0;
	return cpx_proto_send(sock,
			      json_pack("{s:i, s:i}", "rows", ws.ws_row, "cols", ws.ws_col),
			      NULL, 0, NULL);
}

/* Keys typed; a NUL has a message of its own. Return: false to leave. */
static bool send_keys(int sock, bool raw)
{
	char buf[513];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf) - 1);

	if (n <= 0)
		return false;
	for (ssize_t i = 0, from = 0; i <= n; i++) {
		if (i < n && buf[i] && !(raw && buf[i] == LEAVE_KEY))
			continue;
		if (i > from) {
			char c = buf[i];

			buf[i] = 0;
			cpx_proto_send(sock,
				       json_pack("{s:o}", "keys", cpx_proto_bytes(buf + from)),
				       NULL, 0, NULL);
			buf[i] = c;
		}
		if (i < n && buf[i] == LEAVE_KEY)
			return false;
		if (i < n)
			cpx_proto_send(sock, json_pack("{s:b}", "nul", 1), NULL, 0, NULL);
		from = i + 1;
	}
	return true;
}

static enum outcome relay(int sock, int sigfd, bool raw)
{
	struct signalfd_siginfo si;
	char buf[4096];
	bool typing = true;

	send_size(sock);
	for (;;) {
		struct pollfd p[3] = { { .fd = sock, .events = POLLIN },
				       { .fd = typing ? STDIN_FILENO : -1, .events = POLLIN },
				       { .fd = sigfd, .events = POLLIN } };
		ssize_t n;

		if (poll(p, 3, -1) < 0 && errno != EINTR)
			return BROKEN;
		if (p[2].revents && read(sigfd, &si, sizeof(si)) == sizeof(si))
			send_size(sock);
		if (p[0].revents) {
			n = read(sock, buf, sizeof(buf));
			if (n <= 0)
				return BROKEN;
			if (cpx_write_full(STDOUT_FILENO, buf, (size_t)n))
				return LEFT;
		}
		if (p[1].revents && !send_keys(sock, raw)) {
			/* a pipe that has ended: the job's output is still wanted */
			if (raw)
				return LEFT;
			typing = false;
		}
	}
}

/* After a break: is there a job to come back to? */
static int reconnect(const struct cpx_args *a, struct cpx_err *err)
{
	struct timespec nap = { .tv_nsec = NAP_NS };
	int r = CPX_E_GONE;

	for (int i = 0; i < RECONNECTS; i++) {
		pid_t pid;

		nanosleep(&nap, NULL);
		r = connect_job(a, err);
		if (r >= 0)
			return r;
		if (i > 2 && cpx_client_root(a->ctx, a->pos[0], &pid, err) == CPX_E_GONE)
			return CPX_E_GONE;
	}
	return r;
}

int cpx_ctl_attach(const struct cpx_args *a, struct cpx_err *err)
{
	int sock = connect_job(a, err), sigfd;
	struct termios saved, t;
	enum outcome out = BROKEN;
	bool raw;
	sigset_t set;

	if (sock < 0)
		return sock;
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigfd = signalfd(-1, &set, SFD_CLOEXEC);
	raw = tcgetattr(STDIN_FILENO, &saved) == 0;
	if (raw) {
		t = saved;
		cfmakeraw(&t);
		tcsetattr(STDIN_FILENO, TCSADRAIN, &t);
	}
	while (sock >= 0) {
		out = relay(sock, sigfd, raw);
		cpx_close(&sock);
		if (out == LEFT)
			break;
		sock = reconnect(a, err);
	}
	if (raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	cpx_close(&sigfd);
	fprintf(stderr, "%s%s\n", out == LEFT ? "left " : "ended: ", a->pos[0]);
	return 0;
}
