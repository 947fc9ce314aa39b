/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_tty.c - terminals: ptys with both ends in the tree, terminals from outside, hung-up ones.
 *
 * A pty is one record with two kinds of ends. What was typed and not read by the slave, and
 * what was printed and not read by the master, cannot be peeked at: it is read and at once put
 * back the same way, only where there is some, while nobody else of the job runs. A terminal
 * from outside keeps its contents to itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <asm/termbits.h>

#include "base/fd.h"
#include "cap_ipc_kinds.h"

#define PTY_MAJOR 136
#define PTY_MAJORS 8
#define QUEUE_MAX (256 << 10)
#define PIECE 64
#define LINE_ROOM 4095 /* of the line discipline */
#define LINE_FULL 2048 /* more than this came: more may be under way inside the kernel */
#define MORE_MS 20

static int nomem(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
}

static bool tty_device(dev_t dev)
{
	return major(dev) == 4 || (major(dev) == 5 && minor(dev) != 2) ||
	       (major(dev) >= PTY_MAJOR && major(dev) < PTY_MAJOR + PTY_MAJORS);
}

static int pty_index(dev_t dev)
{
	if (major(dev) < PTY_MAJOR || major(dev) >= PTY_MAJOR + PTY_MAJORS)
		return -1;
	return (int)((major(dev) - PTY_MAJOR) * 256 + minor(dev));
}

static dev_t pty_device(int index)
{
	return makedev(PTY_MAJOR + index / 256, index % 256);
}

/* The name under which @dev can be opened; the link itself unless it is /dev/tty. */
static const char *tty_path(struct cpx_state *st, dev_t dev, const char *link)
{
	char path[64], target[256];
	ssize_t n;
	int index = pty_index(dev);

	if (index >= 0) {
		snprintf(path, sizeof(path), "/dev/pts/%d", index);
		return cpx_state_str(st, path);
	}
	if (link && strcmp(link, "/dev/tty"))
		return cpx_state_str(st, link);
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u", major(dev), minor(dev));
	n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return NULL;
	target[n] = '\0';
	snprintf(path, sizeof(path), "/dev/%.50s",
		 strrchr(target, '/') ? strrchr(target, '/') + 1 : target);
	return cpx_state_str(st, path);
}

static struct cpx_rec_tty *tty_of(struct cpx_cap *c, dev_t dev)
{
	for (struct cpx_ipc_seen *s = cpx_ipc_of(c)->ttys; s; s = s->next)
		if (((struct cpx_rec_tty *)s->rec)->rdev == dev)
			return s->rec;
	return NULL;
}

static int cap_modes(struct cpx_cap *c, int here, struct cpx_rec_tty *rec, struct cpx_err *err)
{
	struct termios2 tio;
	struct winsize ws;

	if (ioctl(here, TCGETS2, &tio))
		return cpx_err_sys(err, errno, "terminal %s", rec->path ? rec->path : "");
	rec->termios = cpx_state_blob(c->st, &tio, sizeof(tio));
	if (!ioctl(here, TIOCGWINSZ, &ws))
		rec->winsize = cpx_state_blob(c->st, &ws, sizeof(ws));
	return rec->termios.p && (rec->winsize.p || !rec->winsize.n) ? 0 : nomem(err);
}

static int new_tty(const struct cpx_ipc_fd *f, dev_t dev, bool hung, struct cpx_rec_tty **out,
		   struct cpx_err *err)
{
	struct cpx_rec_tty *rec = cpx_state_new_rec(f->c->st, tty);
	struct stat st;

	if (!rec)
		return nomem(err);
	rec->id = cpx_cap_id(f->c);
	rec->rdev = dev;
	rec->index = pty_index(dev);
	rec->role = hung ? CPX_TTY_HUNG : CPX_TTY_OUTSIDE;
	rec->path = tty_path(f->c->st, dev, f->link);
	if (rec->path && !stat(rec->path, &st) && st.st_rdev == dev) {
		rec->mode = st.st_mode & 07777;
		rec->uid = st.st_uid;
		rec->gid = st.st_gid;
	}
	*out = rec;
	return hung ? 0 : cap_modes(f->c, f->here, rec, err);
}

/* A master: the pty is the tree's own. */
static void cap_master(int here, struct cpx_rec_tty *rec)
{
	struct pollfd pfd = { .fd = here };
	int v = 0;

	rec->role = CPX_TTY_PTY;
	if (!ioctl(here, TIOCGPKT, &v))
		rec->packet = v != 0;
	if (!ioctl(here, TIOCGPTLCK, &v))
		rec->locked = v != 0;
	rec->hup = poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLHUP);
}

int cpx_cap_tty(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	struct cpx_rec_tty_end *end;
	struct cpx_rec_tty *rec;
	struct termios2 tio;
	unsigned index = 0, raw = 0;
	bool master, hung = false;
	dev_t dev = f->st->st_rdev;
	int rc, excl = 0;

	master = !ioctl(f->here, TIOCGPTN, &index) && major(dev) == 5;
	if (!master) {
		if (!tty_device(dev))
			return 0;
		hung = ioctl(f->here, TCGETS2, &tio) && errno == EIO;
		if (!hung && ioctl(f->here, TIOCGDEV, &raw))
			return 0;
		if (!hung)
			dev = makedev((raw >> 8) & 0xfff,
				      (raw & 0xff) | ((raw >> 12) & 0xfff00));
	} else {
		dev = pty_device((int)index);
	}
	rec = tty_of(f->c, dev);
	if (!rec || (rec->role == CPX_TTY_HUNG) != hung) {
		rc = new_tty(f, dev, hung, &rec, err);
		if (rc < 0)
			return rc;
	}
	if (master)
		cap_master(f->here, rec);
	else if (!ioctl(f->here, TIOCGEXCL, &excl))
		rec->exclusive = excl != 0;
	end = cpx_state_new_rec(f->c->st, tty_end);
	if (!end)
		return nomem(err);
	end->id = f->ofd->id;
	end->tty = rec->id;
	end->master = master;
	f->ofd->kind = CPX_OFD_TTY;
	f->ofd->object = rec->id;
	if (!cpx_ipc_see(&cpx_ipc_of(f->c)->ttys, f, rec, true))
		return cpx_err_sys(err, errno, "keeping a terminal");
	return 1;
}

/* --- what waits in a pty -------------------------------------------------------------------
 */

/* The kernel moves what is behind the line discipline's 4 KiB there on its own time. */
static bool more_comes(int fd, size_t have)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return have >= LINE_FULL && poll(&pfd, 1, MORE_MS) > 0 && (pfd.revents & POLLIN);
}

/* Read what FIONREAD counts, appending to @buf. Return: bytes in all. */
static size_t read_waiting(int fd, uint8_t *buf, size_t have)
{
	while (have < QUEUE_MAX) {
		ssize_t got;
		int n = 0;

		if (ioctl(fd, FIONREAD, &n))
			break;
		if (n <= 0 && !more_comes(fd, have))
			break;
		if (n <= 0)
			continue;
		got = read(fd, buf + have,
			   (size_t)n < QUEUE_MAX - have ? (size_t)n : QUEUE_MAX - have);
		if (got <= 0)
			break;
		have += (size_t)got;
	}
	return have;
}

/* There was room for it before: the kernel may need a moment to make it again. */
static int write_back(int fd, const uint8_t *p, size_t n)
{
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

/*
 * Type again for @slave: what its line discipline had taken in goes there directly, while
 * nothing is echoed; what was behind it had not been looked at yet, and comes through the
 * master as before.
 */
static int type_again(int master, int slave, const uint8_t *p, size_t n)
{
	size_t i = 0;

	for (; i < n && i < LINE_ROOM; i++)
		if (ioctl(slave, TIOCSTI, p + i))
			return -1;
	return write_back(master, p + i, n - i);
}

static bool writable(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };

	return poll(&pfd, 1, timeout_ms) > 0;
}

/* ^S again, which the line discipline gets on the kernel's own time. */
static void type_stop(int master, int slave, const struct termios2 *raw)
{
	struct termios2 t = *raw;

	t.c_iflag = (t.c_iflag | IXON) & ~(unsigned)IXANY;
	t.c_lflag &= ~(unsigned)(ECHO | ECHOCTL | EXTPROC);
	ioctl(slave, TCSETS2, &t);
	if (write(master, &t.c_cc[VSTOP], 1) != 1)
		return;
	for (int tries = 0; tries < 200 && writable(slave, 0); tries++)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
}

/*
 * Was output stopped by tcflow(), which only tcflow() ends? With room enough it is not writable
 * then, or where ^S was typed; that is not kept, for it could not be ended by ^Q any more.
 */
static bool output_stopped(int slave)
{
	bool stopped;

	if (writable(slave, 0))
		return false;
	ioctl(slave, TCXONC, TCOON); /* does nothing about ^S */
	stopped = writable(slave, 0);
	if (stopped)
		ioctl(slave, TCXONC, TCOOFF);
	return stopped;
}

/* Printed by the slave: read at the master, written again without output processing. */
static int take_output(struct cpx_state *st, int master, int slave, struct cpx_rec_tty *rec,
		       uint8_t *buf, struct cpx_err *err)
{
	const struct termios2 *own = rec->termios.p;
	struct termios2 raw = *own;
	int off = 0, on = 1, n = 0, rc = 0;
	bool typed = false;

	if (ioctl(master, FIONREAD, &n) || n <= 0) {
		rec->stopped = output_stopped(slave);
		return 0;
	}
	if (rec->packet)
		ioctl(master, TIOCPKT, &off);
	raw.c_oflag &= ~(unsigned)OPOST;
	ioctl(slave, TCSETS2, &raw);
	n = (int)read_waiting(master, buf, 0);
	rec->stopped = output_stopped(slave);
	if (!rec->stopped)
		typed = !writable(slave, 0);
	if (typed) /* lets output go on whoever had stopped it */
		ioctl(slave, TCXONC, TCOOFF);
	ioctl(slave, TCXONC, TCOON);
	if (write_back(slave, buf, (size_t)n))
		rc = cpx_err_sys(err, errno, "putting the output of %s back", rec->path);
	if (typed)
		type_stop(master, slave, &raw);
	if (rec->stopped)
		ioctl(slave, TCXONC, TCOOFF);
	ioctl(slave, TCSETS2, own);
	if (rec->packet)
		ioctl(master, TIOCPKT, &on);
	rec->output = cpx_state_blob(st, buf, (size_t)n);
	return rc;
}

/* Input processing that would change or echo what has been processed once. */
static void without_echo(struct termios2 *t, bool packet)
{
	t->c_lflag &= ~(unsigned)(ECHO | ECHOE | ECHOK | ECHONL | ECHOCTL | ISIG);
	t->c_iflag &= ~(unsigned)(ICRNL | INLCR | IGNCR | ISTRIP | IUCLC | PARMRK);
	if (!packet)
		t->c_iflag &= ~(unsigned)(IXON | IXOFF);
}

/*
 * Typed for the slave: whole lines first, then, with canonical mode off for a moment, the line
 * that is not finished; all typed again at the master.
 */
static int take_input(struct cpx_state *st, int master, int slave, struct cpx_rec_tty *rec,
		      uint8_t *buf, struct cpx_err *err)
{
	const struct termios2 *own = rec->termios.p;
	struct termios2 quiet = *own, raw;
	size_t n;
	int rc = 0;

	without_echo(&quiet, rec->packet);
	n = read_waiting(slave, buf, 0);
	if (own->c_lflag & ICANON) {
		raw = quiet;
		raw.c_lflag &= ~(unsigned)ICANON;
		raw.c_cc[VMIN] = 0;
		raw.c_cc[VTIME] = 0;
		ioctl(slave, TCSETS2, &raw);
		n = read_waiting(slave, buf, n);
		ioctl(slave, TCSETS2, &quiet);
	} else if (n) {
		ioctl(slave, TCSETS2, &quiet);
	}
	if (n && type_again(master, slave, buf, n))
		rc = cpx_err_sys(err, errno, "putting the input of %s back", rec->path);
	ioctl(slave, TCSETS2, own);
	rec->input = cpx_state_blob(st, buf, n);
	return rc;
}

static int reopen(int fd)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static bool is_master(const struct cpx_ipc_seen *s)
{
	return major(s->ofd_rdev) == 5;
}

static int cap_contents(struct cpx_cap *c, struct cpx_rec_tty *rec, struct cpx_err *err)
{
	const struct cpx_ipc_seen *master = NULL, *end = NULL;
	CPX_AUTO_FREE uint8_t *buf = malloc(QUEUE_MAX);
	CPX_AUTO_FD slave = -1;
	int rc;

	for (const struct cpx_ipc_seen *s = cpx_ipc_of(c)->ttys; s; s = s->next) {
		if (s->rec != rec)
			continue;
		if (is_master(s))
			master = s;
		else
			end = s;
	}
	if (!master || !end || !rec->termios.p)
		return 0;
	slave = reopen(end->here);
	if (!buf || slave < 0)
		return buf ? cpx_err_sys(err, errno, "opening %s", rec->path) : nomem(err);
	rc = take_output(c->st, master->here, slave, rec, buf, err);
	return rc < 0 ? rc : take_input(c->st, master->here, slave, rec, buf, err);
}

/* --- sessions --------------------------------------------------------------------------------
 */

static bool stat_tty(const struct cpx_cap_task *t, dev_t *dev, int *tpgid)
{
	CPX_AUTO_FREE char *text = NULL;
	const char *p;
	int nr;

	if (cpx_read_file(t->proc_fd, "stat", 8192, &text, NULL) < 0)
		return false;
	p = strrchr(text, ')');
	if (!p || sscanf(p, ") %*c %*d %*d %*d %d %d", &nr, tpgid) != 2 || !nr)
		return false;
	*dev = makedev(((unsigned)nr >> 8) & 0xfff,
		       ((unsigned)nr & 0xff) | (((unsigned)nr >> 12) & 0xfff00));
	return true;
}

static uint32_t ns_group(const struct cpx_cap *c, int pgid)
{
	for (size_t i = 0; i < c->ntasks; i++)
		if (c->tasks[i]->pid == pgid)
			return (uint32_t)c->tasks[i]->ns_pid;
	/* its leader is gone: the number is the same where the namespace is */
	return pgid > 0 && c->tasks[0]->pid == c->tasks[0]->ns_pid ? (uint32_t)pgid : 0;
}

static int cap_session(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	struct cpx_rec_tty *rec;
	dev_t dev;
	int tpgid;

	if (t->zombie || !t->rec || t->rec->sid != t->rec->pid || !stat_tty(t, &dev, &tpgid))
		return 0;
	rec = tty_of(c, dev);
	if (!rec) {
		rec = cpx_state_new_rec(c->st, tty);
		if (!rec)
			return nomem(err);
		rec->id = cpx_cap_id(c);
		rec->rdev = dev;
		rec->index = pty_index(dev);
		rec->role = CPX_TTY_OUTSIDE;
		rec->path = tty_path(c->st, dev, NULL);
	}
	rec->sid = t->rec->pid;
	rec->pgrp = ns_group(c, tpgid);
	return 0;
}

int cpx_cap_ttys(struct cpx_cap *c, struct cpx_err *err)
{
	for (size_t i = 0; i < c->ntasks; i++) {
		int rc = cap_session(c, c->tasks[i], err);

		if (rc < 0)
			return rc;
	}
	for (struct cpx_ipc_seen *s = cpx_ipc_of(c)->ttys; s && !c->dry_run; s = s->next) {
		struct cpx_rec_tty *rec = s->rec;
		int rc = is_master(s) && rec->role == CPX_TTY_PTY ? cap_contents(c, rec, err)
								  : 0;

		if (rc < 0)
			return rc;
	}
	return 0;
}
