/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_anon.c - timerfd, signalfd, pidfd, inotify: read from fdinfo.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cap_ipc_kinds.h"

#define NS 1000000000ull
#define HANDLE_MAX 128

static int nomem(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
}

static bool real_time(int clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM;
}

/* "KEY: (sec, nsec)" as nanoseconds. */
static bool span_field(const char *info, const char *key, uint64_t *ns)
{
	const char *p = strstr(info, key);
	unsigned long long sec, nsec;

	if (!p || sscanf(p + strlen(key), " (%llu, %llu)", &sec, &nsec) != 2)
		return false;
	*ns = sec * NS + nsec;
	return true;
}

int cpx_cap_timerfd(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	CPX_AUTO_FREE char *info = NULL;
	struct cpx_rec_timerfd *rec;
	struct itimerspec now;
	uint64_t clock, ticks, flags = 0;
	int rc;

	/* A periodic timer that has expired goes on by this call, and its ticks are counted. */
	timerfd_gettime(f->here, &now);
	rc = cpx_ipc_fdinfo(f->here, &info, err);
	if (rc < 0)
		return rc;
	rec = cpx_state_new_rec(f->c->st, timerfd);
	if (!rec)
		return nomem(err);
	if (!cpx_ipc_field(info, "clockid:", 10, &clock) ||
	    !cpx_ipc_field(info, "ticks:", 10, &ticks) ||
	    !span_field(info, "\nit_value:", &rec->left_ns) ||
	    !span_field(info, "\nit_interval:", &rec->interval_ns))
		return cpx_err_set(err, CPX_E_FORMAT,
				   "fd %d: fdinfo of a timerfd is unreadable", f->num);
	cpx_ipc_field(info, "settime flags:", 8, &flags);
	rec->id = f->ofd->id;
	rec->clock = (int32_t)clock;
	rec->ticks = ticks;
	rec->settime_flags = (uint32_t)flags;
	if (rec->left_ns && real_time(rec->clock) && (flags & TFD_TIMER_ABSTIME))
		rec->abs_ns = cpx_clock_ns(CLOCK_REALTIME) + (int64_t)rec->left_ns;
	f->ofd->kind = CPX_OFD_TIMERFD;
	f->ofd->object = 0;
	return 1;
}

int cpx_cap_signalfd(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	CPX_AUTO_FREE char *info = NULL;
	struct cpx_rec_signalfd *rec;
	uint64_t mask;
	int rc = cpx_ipc_fdinfo(f->here, &info, err);

	if (rc < 0)
		return rc;
	if (!cpx_ipc_field(info, "sigmask:", 16, &mask))
		return cpx_err_set(err, CPX_E_FORMAT, "fd %d: no sigmask", f->num);
	rec = cpx_state_new_rec(f->c->st, signalfd);
	if (!rec)
		return nomem(err);
	rec->id = f->ofd->id;
	rec->mask = mask;
	f->ofd->kind = CPX_OFD_SIGNALFD;
	f->ofd->object = 0;
	return 1;
}

static struct cpx_cap_task *task_by_pid(struct cpx_cap *c, pid_t pid)
{
	for (size_t i = 0; i < c->ntasks; i++)
		if (c->tasks[i]->pid == pid)
			return c->tasks[i];
	return NULL;
}

int cpx_cap_pidfd(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	CPX_AUTO_FREE char *info = NULL;
	struct cpx_cap_task *target = NULL;
	struct cpx_rec_pidfd *rec;
	const char *p;
	int pid, rc = cpx_ipc_fdinfo(f->here, &info, err);

	if (rc < 0)
		return rc;
	p = strstr(info, "\nPid:");
	if (!p || sscanf(p + 5, "%d", &pid) != 1)
		return cpx_err_set(err, CPX_E_FORMAT, "fd %d: no Pid", f->num);
	f->ofd->kind = CPX_OFD_PIDFD;
	f->ofd->object = 0;
	if (pid > 0) {
		target = task_by_pid(f->c, pid);
		if (!target) {
			rc = cpx_cap_refuse(f->c, f->t, err,
					    "fd %d is a pidfd of process %d, which is not part "
					    "of the job; close it",
					    f->num, pid);
			return rc < 0 ? rc : 1;
		}
	}
	rec = cpx_state_new_rec(f->c->st, pidfd);
	if (!rec)
		return nomem(err);
	rec->id = f->ofd->id;
	rec->pid = target ? (uint32_t)target->ns_pid : 0;
	rec->thread = (f->ofd->flags & O_EXCL) != 0; /* PIDFD_THREAD */
	return 1;
}

/* --- inotify ------------------------------------------------------------------------- */

struct watch {
	unsigned wd, mask, type, bytes;
	unsigned long long ino, sdev;
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + HANDLE_MAX];
	} handle;
};

static bool parse_watch(const char *line, struct watch *w)
{
	int at = 0;

	if (sscanf(line,
		   "inotify wd:%x ino:%llx sdev:%llx mask:%x ignored_mask:%*x "
		   "fhandle-bytes:%x fhandle-type:%x f_handle:%n",
		   &w->wd, &w->ino, &w->sdev, &w->mask, &w->bytes, &w->type, &at) != 6 ||
	    !at)
		return false;
	if (w->bytes > HANDLE_MAX)
		return false;
	w->handle.h.handle_bytes = w->bytes;
	w->handle.h.handle_type = (int)w->type;
	for (unsigned i = 0; i < w->bytes; i++) {
		unsigned byte;

		if (sscanf(line + at + 2 * i, "%2x", &byte) != 1)
			return false;
		w->handle.h.f_handle[i] = (unsigned char)byte;
	}
	return true;
}

/* The path of the inode that @mount_fd's file system knows by the watch's handle. */
static bool path_by_handle(int mount_fd, struct watch *w, char *path, size_t size)
{
	char link[40];
	struct stat st;
	ssize_t n;
	CPX_AUTO_FD fd = open_by_handle_at(mount_fd, &w->handle.h, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, size - 1);
	if (n <= 0 || (size_t)n >= size - 1)
		return false;
	path[n] = '\0';
	return path[0] == '/' && !lstat(path, &st) && st.st_ino == w->ino;
}

/* Try the mounts of the watch's device, as the task sees them. */
static bool watch_path(const struct cpx_ipc_fd *f, struct watch *w, char *path, size_t size)
{
	CPX_AUTO_FREE char *mounts = NULL;
	unsigned want_major = (unsigned)(w->sdev >> 20), want_minor = w->sdev & 0xfffff;
	char point[4096], full[4200];

	if (cpx_read_file(f->t->proc_fd, "mountinfo", 16u << 20, &mounts, NULL) < 0)
		return false;
	for (char *p = mounts; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		unsigned maj, min;

		if (sscanf(p, "%*d %*d %u:%u %*s %4095s", &maj, &min, point) != 3 ||
		    maj != want_major || min != want_minor)
			continue;
		snprintf(full, sizeof(full), "/proc/%d/root%s", (int)f->t->live, point);
		CPX_AUTO_FD mfd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (mfd >= 0 && path_by_handle(mfd, w, path, size))
			return true;
	}
	return false;
}

static int cap_watch(const struct cpx_ipc_fd *f, const char *line, struct cpx_err *err)
{
	struct watch w = { 0 };
	struct cpx_rec_inotify_watch *rec;
	char path[4096];

	if (!parse_watch(line, &w) || !watch_path(f, &w, path, sizeof(path)))
		return cpx_cap_refuse(
			f->c, f->t, err,
			"fd %d is an inotify with a watch (%u) on a file that has "
			"no name any more; remove the watch",
			f->num, w.wd);
	rec = cpx_state_new_rec(f->c->st, inotify_watch);
	if (!rec)
		return nomem(err);
	rec->inotify = f->ofd->id;
	rec->wd = w.wd;
	rec->mask = w.mask;
	rec->path = cpx_state_str(f->c->st, path);
	return rec->path ? 0 : nomem(err);
}

int cpx_cap_inotify(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	CPX_AUTO_FREE char *info = NULL;
	int waiting = 0, rc = cpx_ipc_fdinfo(f->here, &info, err);

	if (rc < 0)
		return rc;
	f->ofd->kind = CPX_OFD_INOTIFY;
	f->ofd->object = 0;
	if (!f->c->dry_run && !ioctl(f->here, FIONREAD, &waiting) && waiting) {
		rc = cpx_cap_refuse(f->c, f->t, err,
				    "fd %d is an inotify with events that were not read yet; "
				    "try again in a moment",
				    f->num);
		return rc < 0 ? rc : 1;
	}
	for (const char *p = info; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		if (strncmp(p, "inotify ", 8))
			continue;
		rc = cap_watch(f, p, err);
		if (rc < 0)
			return rc;
	}
	return 1;
}
