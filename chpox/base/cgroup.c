/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "err.h"
#include "fd.h"

int cpx_cgroup_base(char path[CPX_CGROUP_PATH])
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent ent, *m;
	char text[2 * CPX_CGROUP_PATH + 1024];
	int found = CPX_E_UNSUPPORTED;

	while (f && (m = getmntent_r(f, &ent, text, sizeof(text)))) {
		if (strcmp(m->mnt_type, "cgroup2") ||
		    strlen(m->mnt_dir) >= CPX_CGROUP_PATH - 128)
			continue;
		if (access(m->mnt_dir, W_OK))
			continue;
		strcpy(path, m->mnt_dir);
		found = 0;
		break;
	}
	if (f)
		endmntent(f);
	return found;
}

int cpx_cgroup_job(const char *dir, const char *job, char name[CPX_CGROUP_NAME],
		   struct cpx_err *err)
{
	struct stat st;

	if (stat(dir, &st))
		return cpx_err_sys(err, errno, "%s", dir);
	snprintf(name, CPX_CGROUP_NAME, "chpox.%llx.%llx.%s", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino, job);
	return 0;
}

static int group_path(const char *name, char path[CPX_CGROUP_PATH])
{
	size_t n;

	if (cpx_cgroup_base(path) < 0)
		return CPX_E_UNSUPPORTED;
	n = strlen(path);
	if (snprintf(path + n, CPX_CGROUP_PATH - n, "/%s", name) >= (int)(CPX_CGROUP_PATH - n))
		return CPX_E_LIMIT;
	return 0;
}

int cpx_cgroup_make(const char *name, struct cpx_err *err)
{
	char path[CPX_CGROUP_PATH];
	int fd;

	if (group_path(name, path) < 0)
		return cpx_err_set(err, CPX_E_UNSUPPORTED, "no cgroup v2");
	if (mkdir(path, 0755) && errno != EEXIST)
		return cpx_err_sys(err, errno, "cannot make cgroup %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? cpx_err_sys(err, errno, "cannot open cgroup %s", path) : fd;
}

int cpx_cgroup_add(int cgroup_fd, pid_t pid, struct cpx_err *err)
{
	CPX_AUTO_FD fd = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", pid);

	if (fd < 0 || write(fd, text, (size_t)n) != n)
		return cpx_err_sys(err, errno, "cannot move pid %d to its cgroup", pid);
	return 0;
}

static int has_event(int dir, const char *what)
{
	CPX_AUTO_FREE char *s = NULL;

	if (cpx_read_file(dir, "cgroup.events", 4096, &s, NULL) < 0)
		return 0;
	return strstr(s, what) != NULL;
}

static int populated(int dir)
{
	return has_event(dir, "populated 1");
}

int cpx_cgroup_freeze(const char *name, bool freeze, int timeout_ms, struct cpx_err *err)
{
	char path[CPX_CGROUP_PATH];
	CPX_AUTO_FD dir = -1;
	CPX_AUTO_FD fd = -1;
	int64_t end = cpx_mono_ns() + timeout_ms * 1000000LL;
	struct timespec nap = { .tv_nsec = 1000000 };

	if (group_path(name, path) < 0)
		return cpx_err_set(err, CPX_E_NOENT, "no cgroup v2");
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = dir < 0 ? -1 : openat(dir, "cgroup.freeze", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return cpx_err_set(err, CPX_E_NOENT, "there is no cgroup %s to freeze", path);
	if (write(fd, freeze ? "1" : "0", 1) != 1)
		return cpx_err_sys(err, errno, "cannot freeze cgroup %s", path);
	while (freeze && populated(dir) && !has_event(dir, "frozen 1")) {
		if (cpx_mono_ns() > end)
			return cpx_err_set(err, CPX_E_TIMEOUT, "processes in %s do not freeze",
					   path);
		nanosleep(&nap, NULL);
	}
	return 0;
}

/* Where the kernel has no cgroup.kill yet (before 5.14): one by one, again and again. */
static void kill_each(int dir)
{
	CPX_AUTO_FREE char *s = NULL;
	char *p, *end;

	if (cpx_read_file(dir, "cgroup.procs", 1 << 20, &s, NULL) < 0)
		return;
	for (p = s;; p = end) {
		pid_t pid = (pid_t)strtol(p, &end, 10);

		if (end == p)
			break;
		if (pid > 0)
			kill(pid, SIGKILL);
	}
}

int cpx_cgroup_kill(const char *name, int timeout_ms, struct cpx_err *err)
{
	char path[CPX_CGROUP_PATH];
	CPX_AUTO_FD dir = -1;
	CPX_AUTO_FD kill_fd = -1;
	int64_t end = cpx_mono_ns() + timeout_ms * 1000000LL;
	struct timespec nap = { .tv_nsec = 1000000 };

	if (group_path(name, path) < 0)
		return 0;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return 0;
	kill_fd = openat(dir, "cgroup.kill", O_WRONLY | O_CLOEXEC);
	if (kill_fd >= 0 && write(kill_fd, "1", 1) != 1)
		return cpx_err_sys(err, errno, "cannot kill what is in cgroup %s", path);
	while (populated(dir) || (rmdir(path) && errno == EBUSY)) {
		if (kill_fd < 0)
			kill_each(dir);
		if (cpx_mono_ns() > end)
			return cpx_err_set(err, CPX_E_TIMEOUT, "processes in %s do not end",
					   path);
		nanosleep(&nap, NULL);
	}
	return 0;
}
