/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The terminal of a job started with -t: the keeper always reads it (a job must not block
 * because nobody looks), writes what it says to out/stdout, and hands it to whoever is
 * attached. From an attached client come messages with "keys" (bytes typed) or "rows" and
 * "cols".
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/err.h"
#include "keeper.h"

#define CHUNK 4096

void keeper_tty_open(struct keeper *k)
{
	for (int i = 0; i < KEEPER_WATCHERS; i++)
		k->watchers[i].fd = -1;
	k->typescript = -1;
	if (!k->job.tty || k->box.tty_master < 0)
		return;
	k->typescript = keeper_open_out(k, "stdout", NULL);
	/* the job holds its own end; ours would keep the terminal alive after it */
	cpx_close(&k->box.tty_slave);
}

static void watcher_drop(struct keeper_watcher *w)
{
	cpx_close(&w->fd);
	cpx_proto_in_free(&w->in);
}

void keeper_tty_attach(struct keeper *k, int fd)
{
	struct cpx_err err = { 0 };

	for (int i = 0; i < KEEPER_WATCHERS && k->box.tty_master >= 0; i++) {
		struct keeper_watcher *w = &k->watchers[i];

		if (w->fd >= 0)
			continue;
		w->fd = fd;
		fcntl(fd, F_SETFL, O_NONBLOCK);
		if (cpx_proto_send(fd, cpx_proto_ok(), NULL, 0, NULL) < 0)
			watcher_drop(w);
		return;
	}
	cpx_err_set(&err, CPX_E_INVAL,
		    k->box.tty_master < 0
			    ? "job '%s' has no terminal; it was not started with -t"
			    : "too many terminals are attached to job '%s'",
		    k->name);
	cpx_proto_send(fd, cpx_proto_fail(&err), NULL, 0, NULL);
	close(fd);
}

void keeper_tty_output(struct keeper *k)
{
	char buf[CHUNK];
	ssize_t n = read(k->box.tty_master, buf, sizeof(buf));

	if (n <= 0) {
		if (n == 0 || (errno != EINTR && errno != EAGAIN))
			cpx_close(&k->box.tty_master);
		return;
	}
	if (k->typescript >= 0 && cpx_write_full(k->typescript, buf, (size_t)n))
		cpx_close(&k->typescript);
	for (int i = 0; i < KEEPER_WATCHERS; i++) {
		struct keeper_watcher *w = &k->watchers[i];

		/* one that does not keep up is dropped: it may attach again */
		if (w->fd >= 0 && send(w->fd, buf, (size_t)n, MSG_NOSIGNAL) != n)
			watcher_drop(w);
	}
}

static void type_keys(struct keeper *k, const json_t *m)
{
	const json_t *keys = json_object_get(m, "keys");
	int64_t rows = cpx_proto_int(m, "rows", 0), cols = cpx_proto_int(m, "cols", 0);
	CPX_AUTO_FREE char *s = keys ? cpx_proto_unbytes(keys) : NULL;

	if (k->box.tty_master < 0)
		return;
	if (s && cpx_write_full(k->box.tty_master, s, strlen(s)))
		cpx_close(&k->box.tty_master);
	/* a NUL cannot be in a string of ours: Ctrl-@ comes by its own name */
	if (cpx_proto_bool(m, "nul") && cpx_write_full(k->box.tty_master, "", 1))
		cpx_close(&k->box.tty_master);
	if (rows > 0 && rows < 10000 && cols > 0 && cols < 10000) {
		struct winsize ws = { .ws_row = (unsigned short)rows,
				      .ws_col = (unsigned short)cols };

		ioctl(k->box.tty_master, TIOCSWINSZ, &ws);
	}
}

void keeper_tty_input(struct keeper *k, struct keeper_watcher *w)
{
	int r = cpx_proto_feed(&w->in, w->fd, NULL);
	json_t *m;

	while (r >= 0) {
		r = cpx_proto_next(&w->in, &m, NULL);
		if (r != 1)
			break;
		type_keys(k, m);
		json_decref(m);
	}
	if (r < 0)
		watcher_drop(w);
}

void keeper_tty_close(struct keeper *k)
{
	while (k->box.tty_master >= 0) {
		int n = 0;

		/* the job's last words */
		if (ioctl(k->box.tty_master, FIONREAD, &n) || n <= 0)
			break;
		keeper_tty_output(k);
	}
	for (int i = 0; i < KEEPER_WATCHERS; i++)
		watcher_drop(&k->watchers[i]);
	cpx_close(&k->typescript);
}
