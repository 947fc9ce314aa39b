/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keeper_track.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "track.h"

static void drop(struct keeper_track *t)
{
	cpx_track_free(t->track);
	t->track = NULL;
}

void keeper_track_drop(struct keeper_track *t)
{
	drop(t);
}

void keeper_track_prepare(struct keeper_track *t)
{
	struct cpx_err err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, t->pair) < 0) {
		t->pair[0] = t->pair[1] = -1;
		drop(t);
	}
	if (!t->track && t->pair[0] >= 0 && cpx_track_new(&t->track, &err) < 0)
		cpx_log_debug("full checkpoints: %s", err.msg);
}

struct cpx_track *keeper_track_child(struct keeper_track *t)
{
	return t->track;
}

void keeper_track_give(struct keeper_track *t)
{
	int fds[CPX_TRACK_FDS_MAX];
	char buf[CPX_TRACK_EXPORT_MAX];
	size_t len, nfds;

	if (t->track &&
	    cpx_track_export(t->track, buf, sizeof(buf), &len, fds, &nfds, NULL) == 0)
		cpx_send_fds(t->pair[1], buf, len, fds, nfds);
}

void keeper_track_forked(struct keeper_track *t)
{
	drop(t); /* the child's from now on */
	cpx_close(&t->pair[1]);
}

void keeper_track_take(struct keeper_track *t, bool committed)
{
	int fds[CPX_TRACK_FDS_MAX];
	char buf[CPX_TRACK_EXPORT_MAX];
	size_t nfds = 0;
	ssize_t n = -1;

	if (t->pair[0] >= 0)
		n = cpx_recv_fds(t->pair[0], buf, sizeof(buf), fds, CPX_TRACK_FDS_MAX, &nfds);
	cpx_close(&t->pair[0]);
	if (n > 0 && cpx_track_import(buf, (size_t)n, fds, nfds, &t->track, NULL) < 0)
		t->track = NULL;
	if (!committed)
		drop(t);
}

void keeper_track_renamed(struct keeper_track *t, const struct cpx_gen_id *copy)
{
	if (t->track && cpx_track_base(t->track))
		cpx_track_set_base(t->track, copy);
}
