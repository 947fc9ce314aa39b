/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_tty.c - terminals.
 *
 * A pty of the job is made with its number again where that is free, filled, and only then
 * given its modes. A terminal from outside is the caller's replacement for a standard stream,
 * or the same terminal opened by its name. A session leader takes its controlling terminal
 * before it forks, for its children inherit it and cannot get it otherwise; it names the
 * foreground group in the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <asm/termbits.h>

#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "rst_ipc_kinds.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

#define TRIES_MAX 256
#define WAITS 20
#define PIECE 64
#define LINE_ROOM 4095 /* of the line discipline */

enum { END_MASTER = 0, END_SLAVE = 1 };

static const struct cpx_rec_tty *tty_rec(const struct cpx_rst *r, uint32_t id)
{
	cpx_state_each(r->st, tty, rec)
		if (rec->id == id)
			return rec;
	return NULL;
}

static const struct cpx_rec_tty_end *tty_end_rec(const struct cpx_rst *r, uint32_t ofd)
{
	cpx_state_each(r->st, tty_end, rec)
		if (rec->id == ofd)
			return rec;
	return NULL;
}

static int modes_of(const struct cpx_rec_tty *rec, struct termios2 *tio, struct cpx_err *err)
{
	if (rec->termios.n != sizeof(*tio) ||
	    (rec->winsize.n && rec->winsize.n != sizeof(struct winsize)))
		return cpx_err_set(err, CPX_E_FORMAT, "terminal %u: its modes make no sense",
				   rec->id);
	memcpy(tio, rec->termios.p, sizeof(*tio));
	return 0;
}

/* --- making a pty --------------------------------------------------------------------------
 */

static int open_ptmx(const struct cpx_rst *r)
{
	char path[64];

	/* as the job sees it: it may have terminals of its own */
	snprintf(path, sizeof(path), "/proc/%d/root/dev/ptmx", (int)r->tasks[0].pid);
	return open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

/* Numbers are given out lowest first: those below @want are held until it comes. */
static int try_master(const struct cpx_rst *r, int want, unsigned *index, struct cpx_err *err)
{
	int held[TRIES_MAX], n = 0, got = -1, sys = 0;

	while (n < TRIES_MAX) {
		got = open_ptmx(r);
		sys = errno;
		if (got < 0 || ioctl(got, TIOCGPTN, index) || (int)*index >= want)
			break;
		held[n++] = got;
		got = -1;
	}
	while (n)
		close(held[--n]);
	return got < 0 ? cpx_err_sys(err, sys, "opening a pty") : got;
}

/* A number that is in use may be the job's own last life, which is about to end. */
static int open_master(const struct cpx_rst *r, const struct cpx_rec_tty *rec,
		       struct cpx_err *err)
{
	unsigned index = 0;
	int fd = try_master(r, rec->index, &index, err);

	for (int i = 0; fd >= 0 && (int)index != rec->index && i < WAITS; i++) {
		close(fd);
		nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
		fd = try_master(r, rec->index, &index, err);
	}
	if (fd >= 0 && (int)index != rec->index)
		cpx_log_note("pty %d is in use on this machine: the job's is %u now",
			     rec->index, index);
	return fd;
}

static int peer(int master, int flags, struct cpx_err *err)
{
	int fd = ioctl(master, TIOCGPTPEER, flags | O_NOCTTY | O_CLOEXEC);

	return fd < 0 ? cpx_err_sys(err, errno, "opening the slave of a pty") : fd;
}

/* Nothing is echoed, nothing acts as a signal or line end that was processed before. */
static void without_echo(struct termios2 *t)
{
	t->c_lflag &= ~(unsigned)(ECHO | ECHOE | ECHOK | ECHONL | ECHOCTL | ISIG);
	t->c_iflag &=
		~(unsigned)(ICRNL | INLCR | IGNCR | ISTRIP | IUCLC | PARMRK | IXON | IXOFF);
	t->c_oflag &= ~(unsigned)OPOST;
}

/* Without waiting for ever: what an image holds may be more than a pty does. */
static int put_back(int fd, const struct cpx_blob *b)
{
	const uint8_t *p = b->p;
	size_t n = b->n;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (int tries = 0; n && tries < 200;) {
		/* small pieces: the kernel's buffers waste none of their room */
		ssize_t k = write(fd, p, n < PIECE ? n : PIECE);

		if (k < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (k <= 0) {
			nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
			tries++;
			continue;
		}
		p += k;
		n -= (size_t)k;
	}
	errno = EAGAIN;
	return n ? -1 : 0;
}

/* As for the checkpoint: directly for what the line discipline had taken in. */
static int type_again(int master, int slave, const struct cpx_blob *b)
{
	size_t n = b->n < LINE_ROOM ? b->n : LINE_ROOM;
	struct cpx_blob rest = { (const uint8_t *)b->p + n, b->n - (uint32_t)n };

	for (size_t i = 0; i < n; i++)
		if (ioctl(slave, TIOCSTI, (const uint8_t *)b->p + i))
			return -1;
	return rest.n ? put_back(master, &rest) : 0;
}

static int fill_pty(const struct cpx_rec_tty *rec, int master, int slave, struct cpx_err *err)
{
	struct termios2 own, quiet;
	int rc = modes_of(rec, &own, err);

	if (rc < 0)
		return rc;
	quiet = own;
	without_echo(&quiet);
	if (ioctl(slave, TCSETS2, &quiet))
		return cpx_err_sys(err, errno, "modes of a pty");
	if (rec->output.n && put_back(slave, &rec->output))
		return cpx_err_sys(err, errno, "output of a pty");
	if (rec->input.n && type_again(master, slave, &rec->input))
		return cpx_err_sys(err, errno, "input of a pty");
	if (ioctl(slave, TCSETS2, &own))
		return cpx_err_sys(err, errno, "modes of a pty");
	if (rec->stopped && ioctl(slave, TCXONC, TCOOFF))
		return cpx_err_sys(err, errno, "stopped output of a pty");
	if (rec->winsize.n && ioctl(master, TIOCSWINSZ, rec->winsize.p))
		return cpx_err_sys(err, errno, "window size of a pty");
	return 0;
}

/* The device file belongs to whom it belonged, within what the owner may have. */
static void own_slave(const struct cpx_rst *r, const struct cpx_rec_tty *rec, int slave)
{
	if (!rec->mode || (!r->opts->trusted && rec->uid != r->opts->owner_uid))
		return;
	if (fchown(slave, rec->uid, r->opts->trusted || rec->gid == 5 ? rec->gid : (gid_t)-1) ||
	    fchmod(slave, rec->mode & 0666))
		cpx_log_debug("owner of pty %d: %s", rec->index, strerror(errno));
}

static int set_master(const struct cpx_rec_tty *rec, int master, struct cpx_err *err)
{
	int on = 1, lock = rec->locked != 0;

	if ((rec->packet && ioctl(master, TIOCPKT, &on)) || ioctl(master, TIOCSPTLCK, &lock))
		return cpx_err_sys(err, errno, "modes of a pty's master");
	return 0;
}

/* Makes master and slave; the slave's end is kept as a spare until all have theirs. */
static int make_pty(struct cpx_rst *r, const struct cpx_rec_tty *rec, struct cpx_err *err)
{
	CPX_AUTO_FD master = open_master(r, rec, err), slave = -1;
	int unlock = 0, rc;
	bool used = rec->hup;

	if (master < 0)
		return master;
	if (ioctl(master, TIOCSPTLCK, &unlock))
		return cpx_err_sys(err, errno, "unlocking a pty");
	cpx_state_each(r->st, tty_end, e)
		used |= e->tty == rec->id && !e->master;
	if (used) {
		slave = peer(master, O_RDWR, err);
		if (slave < 0)
			return slave;
		own_slave(r, rec, slave);
	}
	if (rec->role == CPX_TTY_PTY) {
		rc = fill_pty(rec, master, used ? slave : master, err);
		if (rc >= 0)
			rc = set_master(rec, master, err);
		if (rc < 0)
			return rc;
	}
	rc = slave >= 0 ? cpx_ipc_made_add(r, rec, END_SLAVE, cpx_steal_fd(&slave), err) : 0;
	return rc < 0 ? rc : cpx_ipc_made_add(r, rec, END_MASTER, cpx_steal_fd(&master), err);
}

static int open_pty(struct cpx_rst *r, const struct cpx_rec_tty *rec, bool master, int flags,
		    struct cpx_err *err)
{
	struct cpx_ipc_made *m = cpx_ipc_made_find(r, rec, END_MASTER);
	int fd, rc, unlock = 0, lock = rec->locked != 0;

	if (!m) {
		rc = make_pty(r, rec, err);
		if (rc < 0)
			return rc;
		m = cpx_ipc_made_find(r, rec, END_MASTER);
	}
	if (master) {
		fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 3);
		return fd < 0 ? cpx_err_sys(err, errno, "pty") : fd;
	}
	ioctl(m->fd, TIOCSPTLCK, &unlock);
	fd = peer(m->fd, flags & (O_ACCMODE | O_NONBLOCK), err);
	ioctl(m->fd, TIOCSPTLCK, &lock);
	return fd;
}

/* --- terminals from outside
 * -------------------------------------------------------------------- */

/* The caller's replacement: of the same standard stream, else of any. */
static int replacement(const struct cpx_rst *r, uint32_t ofd)
{
	cpx_state_each(r->st, fd, fd)
		if (fd->ofd == ofd && fd->fd < 3 && r->opts->stdio[fd->fd] >= 0)
			return r->opts->stdio[fd->fd];
	for (int i = 0; i < 3; i++)
		if (r->opts->stdio[i] >= 0 && isatty(r->opts->stdio[i]))
			return r->opts->stdio[i];
	return -1;
}

static int hung_up(struct cpx_rst *r, const struct cpx_rec_tty *rec, int flags,
		   struct cpx_err *err)
{
	CPX_AUTO_FD master = open_master(r, rec, err);
	int unlock = 0;

	if (master < 0)
		return master;
	ioctl(master, TIOCSPTLCK, &unlock);
	return peer(master, flags & O_ACCMODE, err);
}

static int open_outside(struct cpx_rst *r, const struct cpx_rec_tty *rec, uint32_t ofd,
			int flags, struct cpx_err *err)
{
	int given = replacement(r, ofd), fd;
	struct termios2 tio;
	struct stat st;

	if (given >= 0) {
		fd = cpx_ipc_reopen(given, flags & O_ACCMODE);
		if (fd < 0)
			fd = fcntl(given, F_DUPFD_CLOEXEC, 3);
		return fd < 0 ? cpx_err_sys(err, errno, "the terminal given") : fd;
	}
	fd = cpx_ipc_drop(r, err);
	if (fd < 0)
		return fd;
	fd = rec->path
		     ? open(rec->path, (flags & O_ACCMODE) | O_NOCTTY | O_CLOEXEC | O_NONBLOCK)
		     : -1;
	cpx_ipc_undrop(r);
	if (fd >= 0 && !fstat(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == rec->rdev &&
	    st.st_uid == rec->uid) {
		if (rec->termios.n == sizeof(tio) && !modes_of(rec, &tio, NULL))
			ioctl(fd, TCSETS2, &tio);
		return fd;
	}
	cpx_close(&fd);
	if (ofd && (r->opts->force || r->opts->stdio[0] >= 0 || r->opts->stdio[1] >= 0 ||
		    r->opts->stdio[2] >= 0)) {
		cpx_log_note("terminal %s is gone: a descriptor of it is as after a hang-up",
			     rec->path ? rec->path : "(none)");
		return hung_up(r, rec, flags, err);
	}
	return cpx_err_set(
		err, CPX_E_NOENT,
		"the job was on terminal %s, which is gone; restore it from a terminal, or "
		"with --force as if it had been hung up",
		rec->path ? rec->path : "(none)");
}

int cpx_rst_tty(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	const struct cpx_rec_tty_end *end = tty_end_rec(r, ofd->id);
	const struct cpx_rec_tty *rec = end ? tty_rec(r, end->tty) : NULL;

	if (!rec)
		return cpx_err_set(err, CPX_E_FORMAT, "terminal of descriptor %u: no record",
				   ofd->id);
	if (rec->role == CPX_TTY_HUNG)
		return hung_up(r, rec, (int)ofd->flags, err);
	if (rec->role == CPX_TTY_OUTSIDE)
		return open_outside(r, rec, ofd->id, (int)ofd->flags, err);
	return open_pty(r, rec, end->master, (int)ofd->flags, err);
}

/* --- sessions
 * ------------------------------------------------------------------------------------ */

/* A number of @t that is a slave of @rec; -1. */
static int slave_in(const struct cpx_rst *r, const struct cpx_rst_task *t,
		    const struct cpx_rec_tty *rec)
{
	cpx_state_each(r->st, fd, fd) {
		const struct cpx_rec_tty_end *end;

		if (fd->files_id != t->rec->files_id)
			continue;
		end = tty_end_rec(r, fd->ofd);
		if (end && end->tty == rec->id && !end->master)
			return (int)fd->fd;
	}
	return -1;
}

static int open_in(struct cpx_rst_task *t, const char *path, int *num, struct cpx_err *err)
{
	struct cpx_tracee *tr = &t->threads[0].t;
	uint64_t addr;
	int64_t ret;
	int rc;

	cpx_tracee_reset(tr);
	addr = cpx_tracee_push(tr, path, strlen(path) + 1);
	if (!addr)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call's arguments");
	rc = cpx_tcall(tr, &ret, err, SYS_openat, (uint64_t)AT_FDCWD, addr,
		       O_RDWR | O_NONBLOCK | O_NOCTTY);
	cpx_tracee_reset(tr);
	*num = (int)ret;
	return rc;
}

static const char *current_path(struct cpx_rst *r, const struct cpx_rec_tty *rec, char *buf,
				size_t size)
{
	const struct cpx_ipc_made *m = cpx_ipc_made_find(r, rec, END_MASTER);
	unsigned index;

	if (!m || ioctl(m->fd, TIOCGPTN, &index))
		return rec->path;
	snprintf(buf, size, "/dev/pts/%u", index);
	return buf;
}

/* A slave of the terminal in the conductor. Return: descriptor, owned by the caller. */
static int slave_here(struct cpx_rst *r, const struct cpx_rec_tty *rec, struct cpx_err *err)
{
	struct cpx_ipc_who was = cpx_ipc_as_owner(r);
	int fd = rec->role == CPX_TTY_PTY ? open_pty(r, rec, false, O_RDWR, err)
					  : open_outside(r, rec, 0, O_RDWR, err);

	cpx_ipc_self(was);
	return fd;
}

int cpx_rst_tty_leader(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	const struct cpx_rec_tty *rec = NULL;
	struct cpx_tracee *tr = &t->threads[0].t;
	CPX_AUTO_FD fd = -1;
	int64_t ret = 0;
	int num, rc;

	cpx_state_each(r->st, tty, one)
		if (one->sid && one->sid == t->rec->pid && one->role != CPX_TTY_HUNG)
			rec = one;
	if (!rec)
		return 0;
	fd = slave_here(r, rec, err);
	if (fd < 0 && rec->role == CPX_TTY_PTY)
		return fd;
	if (fd < 0) {
		/* its descriptors decide whether the restore can go on without the terminal */
		cpx_log_note("process %u goes on without its controlling terminal",
			     t->rec->pid);
		return 0;
	}
	num = cpx_rst_give_fd(r, t, fd, -1, true, err);
	if (num < 0)
		return num;
	rc = cpx_tcall(tr, &ret, err, SYS_ioctl, (uint64_t)num, TIOCSCTTY, 0);
	if (rc >= 0 && ret < 0)
		cpx_log_note("process %u cannot control its terminal again: %s", t->rec->pid,
			     strerror((int)-ret));
	if (rc >= 0)
		rc = cpx_tcall(tr, &ret, err, SYS_close, (uint64_t)num);
	return rc < 0 ? rc : 0;
}

/* The foreground group, named by the leader, whose terminal it is. */
static int set_foreground(struct cpx_rst *r, struct cpx_rst_task *t,
			  const struct cpx_rec_tty *rec, struct cpx_err *err)
{
	struct cpx_tracee *tr = &t->threads[0].t;
	int num = slave_in(r, t, rec), opened = -1, rc;
	int32_t pgrp = (int32_t)rec->pgrp;
	char buf[32];
	const char *path = current_path(r, rec, buf, sizeof(buf));
	int64_t ret = 0;
	uint64_t addr;

	if (num < 0 && path) {
		rc = open_in(t, path, &opened, err);
		if (rc < 0)
			return rc;
		num = opened;
	}
	if (num < 0)
		return 0;
	cpx_tracee_reset(tr);
	addr = cpx_tracee_push(tr, &pgrp, sizeof(pgrp));
	rc = addr ? cpx_tcall(tr, &ret, err, SYS_ioctl, (uint64_t)num, TIOCSPGRP, addr)
		  : cpx_err_set(err, CPX_E_SYS, "no room for a call's arguments");
	cpx_tracee_reset(tr);
	if (rc >= 0 && ret < 0 && rec->role == CPX_TTY_PTY)
		cpx_log_note("foreground group %u of process %u's terminal: %s", rec->pgrp,
			     t->rec->pid, strerror((int)-ret));
	if (rc >= 0 && opened >= 0)
		rc = cpx_tcall(tr, &ret, err, SYS_close, (uint64_t)opened);
	return rc < 0 ? rc : 0;
}

int cpx_rst_tty_sessions(struct cpx_rst *r, struct cpx_err *err)
{
	cpx_state_each(r->st, tty, rec) {
		struct cpx_rst_task *t = rec->sid ? cpx_ipc_task(r, rec->sid) : NULL;
		int rc = t && rec->pgrp && t->pid > 0 && t->rec->state != CPX_TASK_ZOMBIE
				 ? set_foreground(r, t, rec, err)
				 : 0;

		if (rc < 0)
			return rc;
	}
	/* last: TIOCEXCL keeps even us out */
	cpx_state_each(r->st, tty, rec) {
		const struct cpx_ipc_made *m = cpx_ipc_made_find(r, rec, END_SLAVE);

		if (rec->exclusive && m && ioctl(m->fd, TIOCEXCL))
			return cpx_err_sys(err, errno, "terminal %u: exclusive mode", rec->id);
	}
	return 0;
}
