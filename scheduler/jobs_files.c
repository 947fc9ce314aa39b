/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * jobs/NAME/ (root's, searchable by all): spec.json (root alone), out/ (the owner's: stdout,
 * stderr), inner and exit (the keeper's). store/UID/ (the owner's images). What lies in the
 * owner's directories is touched as the owner: he may have put anything there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "server.h"

#define PATH_SIZE 4096
#define GROUPS_MAX 1024
#define DEPTH_MAX 32

static int path_of(struct cpxd *d, const char *job, const char *name, char out[PATH_SIZE])
{
	return snprintf(out, PATH_SIZE, "%s/jobs/%s/%s", d->dir, job, name) >= PATH_SIZE ? -1
											 : 0;
}

static int make_dir(const char *path, mode_t mode, uid_t uid, gid_t gid, struct cpx_err *err)
{
	struct stat st;

	if (mkdir(path, mode) == 0 && lchown(path, uid, gid) == 0 && chmod(path, mode) == 0)
		return 0;
	if (errno == EEXIST && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == uid)
		return 0;
	return cpx_err_sys(err, errno, "cannot make directory %s", path);
}

/* The job's streams: in a cluster beside its images, where each node finds them. */
static int out_of(struct cpxd *d, const char *job, uint32_t uid, char out[PATH_SIZE])
{
	if (!d->cluster)
		return path_of(d, job, "out", out);
	return snprintf(out, PATH_SIZE, "%s/store/%u/out/%s", d->dir, uid, job) >= PATH_SIZE
		       ? -1
		       : 0;
}

int cpxd_make_dirs(struct cpxd *d, const char *job, uid_t uid, gid_t gid, struct cpx_err *err)
{
	char path[PATH_SIZE];
	int r;

	if (path_of(d, job, "", path))
		return cpx_err_set(err, CPX_E_LIMIT, "path is too long");
	r = make_dir(path, 0711, 0, 0, err);
	/* in a cluster its keeper makes it, as the owner */
	if (r >= 0 && !d->cluster) {
		path_of(d, job, "out", path);
		r = make_dir(path, 0700, uid, gid, err);
	}
	if (r >= 0 && snprintf(path, sizeof(path), "%s/store/%u", d->dir, uid) < PATH_SIZE)
		r = make_dir(path, 0700, uid, gid, err);
	return r;
}

/* --- the spec ------------------------------------------------------------------------ */

/* The client's groups, as the kernel knows them. */
static json_t *peer_groups(int fd)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof(groups);
	json_t *list = json_array();

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len))
		len = 0;
	for (size_t i = 0; list && i < len / sizeof(groups[0]); i++)
		json_array_append_new(list, json_integer(groups[i]));
	return list;
}

/* Lines of /proc/PID/limits, in the order of RLIMIT_*. */
static const char *const limit_names[RLIM_NLIMITS] = {
	[RLIMIT_CPU] = "Max cpu time",
	[RLIMIT_FSIZE] = "Max file size",
	[RLIMIT_DATA] = "Max data size",
	[RLIMIT_STACK] = "Max stack size",
	[RLIMIT_CORE] = "Max core file size",
	[RLIMIT_RSS] = "Max resident set",
	[RLIMIT_NPROC] = "Max processes",
	[RLIMIT_NOFILE] = "Max open files",
	[RLIMIT_MEMLOCK] = "Max locked memory",
	[RLIMIT_AS] = "Max address space",
	[RLIMIT_LOCKS] = "Max file locks",
	[RLIMIT_SIGPENDING] = "Max pending signals",
	[RLIMIT_MSGQUEUE] = "Max msgqueue size",
	[RLIMIT_NICE] = "Max nice priority",
	[RLIMIT_RTPRIO] = "Max realtime priority",
	[RLIMIT_RTTIME] = "Max realtime timeout",
};

static json_int_t limit_value(const char *word)
{
	return strncmp(word, "unlimited", 9) ? (json_int_t)strtoull(word, NULL, 10) : -1;
}

/*
 * The client's limits from /proc: what it says itself counts for nothing. It waits for our
 * answer meanwhile; that the PID is still its own is checked by its user.
 */
static json_t *peer_limits(const struct cpxd_conn *c)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[32];
	json_t *list = json_array();

	snprintf(path, sizeof(path), "/proc/%d/limits", c->pid);
	if (!list || cpx_read_file(AT_FDCWD, path, 16384, &text, NULL) < 0)
		return list;
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		const char *line = strstr(text, limit_names[i]);
		char soft[24], hard[24];

		if (!line ||
		    sscanf(line + strlen(limit_names[i]), " %23s %23s", soft, hard) != 2) {
			json_array_clear(list);
			break;
		}
		json_array_append_new(list, json_integer(limit_value(soft)));
		json_array_append_new(list, json_integer(limit_value(hard)));
	}
	return list;
}

char *cpxd_spec(const struct cpxd_conn *c, const json_t *m)
{
	json_t *spec = json_object();
	char *text;

	json_object_set(spec, "argv", json_object_get(m, "argv"));
	json_object_set(spec, "env", json_object_get(m, "env"));
	json_object_set(spec, "cwd", json_object_get(m, "cwd"));
	json_object_set(spec, "umask", json_object_get(m, "umask"));
	json_object_set_new(spec, "groups", peer_groups(c->fd));
	json_object_set_new(spec, "limits", peer_limits(c));
	text = json_dumps(spec, JSON_INDENT(1));
	json_decref(spec);
	return text;
}

int cpxd_write_spec(struct cpxd *d, const char *job, const char *spec, struct cpx_err *err)
{
	char path[PATH_SIZE];
	CPX_AUTO_FD fd = -1;

	if (d->cluster) /* it is in the registry */
		return 0;
	if (path_of(d, job, "spec.json", path))
		return cpx_err_set(err, CPX_E_LIMIT, "path is too long");
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || cpx_write_full(fd, spec, strlen(spec)) || fsync(fd))
		return cpx_err_sys(err, errno, "cannot write %s", path);
	return 0;
}

/* --- removal and reading ------------------------------------------------------------- */

/* All below @fd, which is closed. No symlink is followed. */
static void empty_dir(int fd, int depth)
{
	DIR *dir = fdopendir(fd);
	struct dirent *e;

	if (!dir) {
		close(fd);
		return;
	}
	while ((e = readdir(dir))) {
		int sub;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (unlinkat(dirfd(dir), e->d_name, 0) == 0 || depth == DEPTH_MAX)
			continue;
		sub = openat(dirfd(dir), e->d_name,
			     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			empty_dir(sub, depth + 1);
		unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR);
	}
	closedir(dir);
}

/* In a child that has become the owner for good. */
static void empty_out(const char *path, uid_t uid, gid_t gid)
{
	pid_t pid = fork();
	int fd;

	if (pid == 0) {
		if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
			_exit(1);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			_exit(1);
		empty_dir(fd, 0);
		rmdir(path); /* where the owner may: in a store that nodes share */
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void remove_images(struct cpxd *d, const struct cpx_reg_job *job)
{
	struct cpx_store_opts so = { .uid = job->uid, .gid = job->gid };
	struct cpx_store *store;
	struct cpx_err err = { 0 };
	char path[PATH_SIZE];

	snprintf(path, sizeof(path), "%s/store/%u", d->dir, job->uid);
	if (cpx_store_open(path, &so, &store, &err) < 0)
		return;
	if (cpx_store_remove_job(store, job->name, &err) < 0)
		cpx_log_error("%s: %s", job->name, err.msg);
	cpx_store_close(store);
}

void cpxd_remove_files(struct cpxd *d, const struct cpx_reg_job *job)
{
	static const char *const files[] = { "spec.json", "inner", "exit", "exit.tmp",
					     "keeper.lock" };
	char path[PATH_SIZE];

	remove_images(d, job);
	if (out_of(d, job->name, job->uid, path))
		return;
	empty_out(path, job->uid, job->gid);
	if (!d->cluster)
		rmdir(path); /* in our directory; in a shared store the way there is the owner's
			      */
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		path_of(d, job->name, files[i], path);
		unlink(path);
	}
	path_of(d, job->name, "", path);
	rmdir(path);
}

int cpxd_open_out(struct cpxd *d, const struct cpx_reg_job *job, const char *name,
		  struct cpx_err *err)
{
	char path[PATH_SIZE];
	CPX_AUTO_FD dir = -1;
	struct stat st;
	int fd = -1, sys;

	if (out_of(d, job->name, job->uid, path))
		return cpx_err_set(err, CPX_E_LIMIT, "path is too long");
	syscall(SYS_setgroups, 0, NULL);
	setfsgid(job->gid);
	setfsuid(job->uid);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir >= 0)
		fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	sys = errno;
	setfsuid(0);
	setfsgid(0);
	if (fd < 0)
		return cpx_err_sys(err, sys, "cannot open the job's %s", name);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return cpx_err_set(err, CPX_E_PERM, "the job's %s is no regular file", name);
	}
	return fd;
}
