/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_pipe.c - pipes without a name: capacity, contents, who holds which end.
 *
 * Contents are duplicated with tee() into a pipe of ours, nothing is consumed; each read of the
 * copy gives a run of bytes or, in packet mode, one packet. An end that nobody in the tree has
 * must be closed everywhere: a process outside that has it would be lost at a restart.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "cap_ipc_kinds.h"

#define PIPE_MAX (32u << 20)

/* A descriptor that reads the pipe behind @here. */
static int reader_of(int here, uint32_t flags)
{
	char path[40];

	if ((flags & O_ACCMODE) == O_RDONLY)
		return fcntl(here, F_DUPFD_CLOEXEC, 3);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", here);
	return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

/* Empty our copy into the record. */
static int take_copy(struct cpx_state *st, int fd, size_t total, struct cpx_rec_pipe *rec,
		     struct cpx_err *err)
{
	uint8_t *data = cpx_state_alloc(st, total);
	uint32_t *lens = NULL, n = 0, room = 0;
	size_t got = 0;

	if (!data)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	while (got < total) {
		ssize_t k = read(fd, data + got, total - got);

		if (k <= 0)
			return cpx_err_set(err, CPX_E_IO, "the copy of a pipe ended early");
		if (n == room) {
			uint32_t *more =
				cpx_state_alloc(st, (room = room * 2 + 4) * sizeof(*more));

			if (!more)
				return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
			if (n)
				memcpy(more, lens, n * sizeof(*more));
			lens = more;
		}
		lens[n++] = (uint32_t)k;
		got += (size_t)k;
	}
	rec->data = (struct cpx_blob){ data, (uint32_t)total };
	rec->packets = (struct cpx_u32s){ lens, n };
	return 0;
}

static int copy_contents(const struct cpx_ipc_fd *f, struct cpx_rec_pipe *rec,
			 struct cpx_err *err)
{
	int fds[2], waiting = 0;
	CPX_AUTO_FD src = reader_of(f->here, f->ofd->flags);

	if (src < 0)
		return cpx_err_sys(err, errno, "opening pipe %s to read", f->link);
	if (ioctl(src, FIONREAD, &waiting) || waiting < 0)
		return cpx_err_sys(err, errno, "asking %s for its contents", f->link);
	if (!waiting)
		return 0;
	if ((unsigned)waiting > PIPE_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "%s holds %d bytes", f->link, waiting);
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return cpx_err_sys(err, errno, "pipe");
	CPX_AUTO_FD rd = fds[0], wr = fds[1];
	if (fcntl(wr, F_SETPIPE_SZ, (int)rec->capacity) < 0)
		return cpx_err_sys(err, errno, "a copy of a pipe of %u bytes", rec->capacity);
	if (tee(src, wr, (size_t)waiting, SPLICE_F_NONBLOCK) != waiting)
		return cpx_err_set(err, CPX_E_IO, "%s: not all of its %d bytes can be copied",
				   f->link, waiting);
	return take_copy(f->c->st, rd, (size_t)waiting, rec, err);
}

int cpx_cap_pipe(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	struct cpx_ipc_seen **list = &cpx_ipc_of(f->c)->pipes;
	struct cpx_rec_pipe *rec = NULL;
	int size, rc;

	for (struct cpx_ipc_seen *s = *list; s && !rec; s = s->next)
		if (s->ino == f->st->st_ino)
			rec = s->rec;
	if (!rec) {
		rec = cpx_state_new_rec(f->c->st, pipe);
		if (!rec)
			return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
		size = fcntl(f->here, F_GETPIPE_SZ);
		if (size < 0)
			return cpx_err_sys(err, errno, "capacity of %s", f->link);
		rec->id = cpx_cap_id(f->c);
		rec->capacity = (uint32_t)size;
		rc = f->c->dry_run ? 0 : copy_contents(f, rec, err);
		if (rc < 0)
			return rc;
	}
	if (!cpx_ipc_see(list, f, rec, false))
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	f->ofd->kind = CPX_OFD_PIPE;
	f->ofd->object = rec->id;
	return 1;
}

/* Which ends the tree has: 1 reading, 2 writing. */
static unsigned ends_in_tree(const struct cpx_ipc_seen *list, const void *rec)
{
	static const unsigned ends[4] = { [O_RDONLY] = 1, [O_WRONLY] = 2, [O_RDWR] = 3 };
	unsigned have = 0;

	for (; list; list = list->next)
		if (list->rec == rec)
			have |= ends[list->ofd->flags & O_ACCMODE];
	return have;
}

/*
 * Shells and the like leave ends of their own pipes open in what they start. Such a pipe is not
 * the job's way to anybody: after a restart its other end is closed, and that is said.
 */
static bool left_open(struct cpx_cap *c, const struct cpx_ipc_seen *s)
{
	pid_t from = 0;

	for (const struct cpx_ipc_seen *o = cpx_ipc_of(c)->pipes; o; o = o->next) {
		if (o->rec != s->rec)
			continue;
		from = cpx_ipc_inherited(c, o);
		if (!from)
			return false;
	}
	if (!c->dry_run)
		cpx_log_note("process %d: fd %d is a pipe that process %d has left open in it: "
			     "after "
			     "a restart its other end is closed",
			     (int)s->t->pid, s->num, (int)from);
	return true;
}

static int check_pipe(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	unsigned have = ends_in_tree(cpx_ipc_of(c)->pipes, s->rec);
	pid_t pid;

	/* With both ends in the tree an outsider is looked for before the stop only: it costs.
	 */
	if (have == 3 && !c->dry_run)
		return 0;
	pid = cpx_ipc_outsider(c, s->ino);
	if (!pid || left_open(c, s))
		return 0;
	return cpx_cap_refuse(c, s->t, err,
			      "fd %d is a pipe to process %d, which is not part of the job; "
			      "mark the whole pipeline, or use files",
			      s->num, (int)pid);
}

int cpx_cap_pipes(struct cpx_cap *c, struct cpx_err *err)
{
	for (const struct cpx_ipc_seen *s = cpx_ipc_of(c)->pipes; s; s = s->next) {
		const struct cpx_ipc_seen *first = cpx_ipc_of(c)->pipes;
		int rc;

		while (first->rec != s->rec)
			first = first->next;
		if (first != s)
			continue;
		rc = check_pipe(c, s, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}
