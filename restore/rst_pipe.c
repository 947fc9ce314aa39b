/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_pipe.c - pipes without a name: made with both ends at the first one's opening.
 *
 * The first opener of each end gets the end that pipe() gave; a second open file description of
 * the same end (made in the job by opening /proc/PID/fd/N) is opened the same way.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "rst_ipc_kinds.h"

#define CAPACITY_MAX (1u << 30)

static const struct cpx_rec_pipe *record(const struct cpx_rst *r, uint32_t id)
{
	cpx_state_each(r->st, pipe, rec)
		if (rec->id == id)
			return rec;
	return NULL;
}

static bool packet_mode(const struct cpx_rst *r, const struct cpx_rec_pipe *rec)
{
	if (rec->packets.n > 1)
		return true;
	cpx_state_each(r->st, ofd, ofd)
		if (ofd->kind == CPX_OFD_PIPE && ofd->object == rec->id &&
		    (ofd->flags & O_DIRECT) && (ofd->flags & O_ACCMODE) != O_RDONLY)
			return true;
	return false;
}

/* One write a packet; a run of bytes longer than a packet can be was none. */
static int fill(const struct cpx_rst *r, const struct cpx_rec_pipe *rec, int fd,
		struct cpx_err *err)
{
	const uint8_t *p = rec->data.p;
	size_t left = rec->data.n;
	bool packets = packet_mode(r, rec);

	for (uint32_t i = 0; i < rec->packets.n; i++) {
		size_t n = rec->packets.v[i];

		if (n > left)
			return cpx_err_set(err, CPX_E_FORMAT, "pipe %u: packets do not add up",
					   rec->id);
		if (fcntl(fd, F_SETFL, O_NONBLOCK | (packets && n <= CPX_PAGE ? O_DIRECT : 0)))
			return cpx_err_sys(err, errno, "pipe %u: packet mode", rec->id);
		if (cpx_write_full(fd, p, n))
			return cpx_err_sys(err, errno, "pipe %u: contents", rec->id);
		p += n;
		left -= n;
	}
	return left ? cpx_err_set(err, CPX_E_FORMAT, "pipe %u: packets do not add up", rec->id)
		    : 0;
}

static int make(struct cpx_rst *r, const struct cpx_rec_pipe *rec, struct cpx_err *err)
{
	int fds[2], size, rc;

	if (rec->capacity > CAPACITY_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "pipe %u of %u bytes", rec->id,
				   rec->capacity);
	if (pipe2(fds, O_CLOEXEC))
		return cpx_err_sys(err, errno, "pipe");
	rc = cpx_ipc_made_add(r, rec, O_RDONLY, fds[0], err);
	if (rc < 0)
		close(fds[1]);
	else
		rc = cpx_ipc_made_add(r, rec, O_WRONLY, fds[1], err);
	if (rc < 0)
		return rc;
	size = fcntl(fds[1], F_GETPIPE_SZ);
	if (size != (int)rec->capacity && fcntl(fds[1], F_SETPIPE_SZ, (int)rec->capacity) < 0 &&
	    (uint32_t)size < rec->data.n)
		return cpx_err_sys(err, errno, "pipe %u: capacity of %u bytes", rec->id,
				   rec->capacity);
	return fill(r, rec, fds[1], err);
}

int cpx_rst_pipe(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	const struct cpx_rec_pipe *rec = record(r, ofd->object);
	unsigned end = ofd->flags & O_ACCMODE;
	struct cpx_ipc_made *m;
	int fd, rc;

	if (!rec || end > O_RDWR)
		return cpx_err_set(err, CPX_E_FORMAT, "pipe %u: no such record", ofd->object);
	if (!cpx_ipc_made_find(r, rec, O_RDONLY)) {
		rc = make(r, rec, err);
		if (rc < 0)
			return rc;
	}
	m = cpx_ipc_made_find(r, rec, end);
	if (m && !m->taken) {
		m->taken = true;
		fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 3);
	} else {
		m = cpx_ipc_made_find(r, rec, O_RDONLY);
		fd = m ? cpx_ipc_reopen(m->fd, (int)end) : -1;
	}
	return fd < 0 ? cpx_err_sys(err, errno, "pipe %u", rec->id) : fd;
}
