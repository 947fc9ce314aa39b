/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_anon.c - makes eventfd, timerfd, signalfd, pidfd and inotify again.
 *
 * Timers are set and watches added in the end: time should not pass, and what the restore
 * itself does to files is not the job's news.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "rst_ipc_kinds.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

#define NS 1000000000ull
#define WD_MAX (1u << 20)

#define FIND(r, name, ofd)                                  \
	({                                                  \
		const struct cpx_rec_##name *found_ = NULL; \
		cpx_state_each((r)->st, name, rec_)         \
			if (rec_->id == (ofd)->id)          \
				found_ = rec_;              \
		found_;                                     \
	})

static int missing(const struct cpx_rec_ofd *ofd, const char *what, struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_FORMAT, "descriptor %u: the %s record is missing",
			   ofd->id, what);
}

int cpx_rst_eventfd(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	const struct cpx_rec_eventfd *rec = FIND(r, eventfd, ofd);
	int fd;

	if (!rec || rec->count == UINT64_MAX)
		return missing(ofd, "eventfd", err);
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (rec->semaphore ? EFD_SEMAPHORE : 0));
	if (fd < 0)
		return cpx_err_sys(err, errno, "eventfd");
	if (rec->count && write(fd, &rec->count, sizeof(rec->count)) < 0) {
		int rc = cpx_err_sys(err, errno, "eventfd");

		close(fd);
		return rc;
	}
	return fd;
}

int cpx_rst_timerfd(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	const struct cpx_rec_timerfd *rec = FIND(r, timerfd, ofd);
	int fd;

	if (!rec)
		return missing(ofd, "timerfd", err);
	fd = timerfd_create(rec->clock, TFD_CLOEXEC | TFD_NONBLOCK);
	return fd < 0 ? cpx_err_sys(err, errno, "timerfd_create") : fd;
}

static int set_timer(const struct cpx_rec_timerfd *rec, int fd, struct cpx_err *err)
{
	uint64_t first = rec->abs_ns > 0 ? (uint64_t)rec->abs_ns : rec->left_ns;
	int flags = rec->abs_ns > 0 ? (int)(rec->settime_flags & 3) : 0;
	struct itimerspec v = {
		.it_value = { (time_t)(first / NS), (long)(first % NS) },
		.it_interval = { (time_t)(rec->interval_ns / NS),
				 (long)(rec->interval_ns % NS) },
	};

	if (first && timerfd_settime(fd, flags, &v, NULL))
		return cpx_err_sys(err, errno, "timerfd_settime");
	if (!rec->ticks || !ioctl(fd, TFD_IOC_SET_TICKS, &rec->ticks))
		return 0;
	if (first)
		return cpx_err_sys(err, errno,
				   "expirations of a timerfd (needs a kernel with "
				   "CONFIG_CHECKPOINT_RESTORE)");
	v = (struct itimerspec){ .it_value = { 0, 1 } };
	return timerfd_settime(fd, 0, &v, NULL) ? cpx_err_sys(err, errno, "timerfd_settime")
						: 0;
}

int cpx_rst_timerfds(struct cpx_rst *r, struct cpx_err *err)
{
	cpx_state_each(r->st, timerfd, rec) {
		int fd = cpx_rst_ofd_fd(r, rec->id, err);
		int rc = fd < 0 ? fd : set_timer(rec, fd, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

int cpx_rst_signalfd(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	const struct cpx_rec_signalfd *rec = FIND(r, signalfd, ofd);
	int fd;

	if (!rec)
		return missing(ofd, "signalfd", err);
	fd = (int)syscall(SYS_signalfd4, -1, &rec->mask, sizeof(rec->mask), SFD_CLOEXEC);
	return fd < 0 ? cpx_err_sys(err, errno, "signalfd") : fd;
}

/* A pidfd of a process that has ended and been reaped. */
static int pidfd_of_nobody(struct cpx_err *err)
{
	pid_t pid = fork();
	int fd;

	if (!pid) {
		pause();
		_exit(0);
	}
	if (pid < 0)
		return cpx_err_sys(err, errno, "fork");
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	return fd < 0 ? cpx_err_set(err, CPX_E_SYS, "pidfd_open failed") : fd;
}

int cpx_rst_pidfd(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	const struct cpx_rec_pidfd *rec = FIND(r, pidfd, ofd);
	const struct cpx_rst_task *t;
	int fd;

	if (!rec)
		return missing(ofd, "pidfd", err);
	if (!rec->pid)
		return pidfd_of_nobody(err);
	t = cpx_ipc_task(r, rec->pid);
	if (!t || t->pid <= 0)
		return cpx_err_set(err, CPX_E_FORMAT,
				   "a pidfd of process %u, which is not there", rec->pid);
	fd = (int)syscall(SYS_pidfd_open, t->pid, rec->thread ? O_EXCL : 0);
	return fd < 0 ? cpx_err_sys(err, errno, "pidfd of process %u", rec->pid) : fd;
}

/* --- inotify ------------------------------------------------------------------------- */

int cpx_rst_inotify(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	(void)r;
	(void)ofd;
	return fd < 0 ? cpx_err_sys(err, errno, "inotify_init") : fd;
}

/* Throw away what our own doing has queued. */
static void drain(int fd)
{
	char events[8192];
	int waiting;

	while (!ioctl(fd, FIONREAD, &waiting) && waiting > 0)
		if (read(fd, events, sizeof(events)) <= 0)
			break;
}

/* Watch descriptors are given out in ascending order: those before @want are used up. */
static int add_watch(int fd, const struct cpx_rec_inotify_watch *w, struct cpx_err *err)
{
	for (unsigned n = 0;; n++) {
		int wd = inotify_add_watch(fd, w->path, w->mask | IN_DONT_FOLLOW);

		if (wd < 0)
			return cpx_err_sys(err, errno, "inotify watch on %s", w->path);
		if ((uint32_t)wd == w->wd)
			return 0;
		inotify_rm_watch(fd, wd);
		if ((uint32_t)wd > w->wd || n > WD_MAX)
			return cpx_err_set(
				err, CPX_E_UNSUPPORTED,
				"inotify watch %u on %s cannot have its number again", w->wd,
				w->path);
		if (n % 256 == 255)
			drain(fd);
	}
}

/* The watch of @inotify with the lowest number above @after. */
static const struct cpx_rec_inotify_watch *next_watch(const struct cpx_rst *r, uint32_t inotify,
						      uint32_t after)
{
	const struct cpx_rec_inotify_watch *best = NULL;

	cpx_state_each(r->st, inotify_watch, w)
		if (w->inotify == inotify && w->wd > after && (!best || w->wd < best->wd))
			best = w;
	return best;
}

int cpx_rst_inotifies(struct cpx_rst *r, struct cpx_err *err)
{
	cpx_state_each(r->st, ofd, ofd) {
		const struct cpx_rec_inotify_watch *w = NULL;
		int fd, rc;

		if (ofd->kind != CPX_OFD_INOTIFY)
			continue;
		fd = cpx_rst_ofd_fd(r, ofd->id, err);
		if (fd < 0)
			return fd;
		rc = cpx_ipc_drop(r, err);
		if (rc < 0)
			return rc;
		while (rc >= 0 && (w = next_watch(r, ofd->id, w ? w->wd : 0)))
			rc = w->path ? add_watch(fd, w, err)
				     : cpx_err_set(err, CPX_E_FORMAT, "a watch without a path");
		cpx_ipc_undrop(r);
		if (rc < 0)
			return rc;
		drain(fd);
	}
	return 0;
}
