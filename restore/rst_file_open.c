/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_file_open.c - finding the files of the job again, and making those that have no name.
 *
 * A file is found once, by its path, as the owner, and held by an O_PATH descriptor; every
 * description of it is opened from that one through /proc/self/fd, so all are of one inode,
 * and the one that was checked. A file without a name is made under the name it had, opened,
 * filled and unlinked at once, so that nothing of it is left behind if we die, and /proc shows
 * what it showed. Directories that are missing on the way are made and removed in the same
 * breath.
 */
#include "rst_file.h"

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "../chpox/base/xattr.h"
#include "restore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)
#define TEMP_DIRS_MAX 64

/*
 * Once the tree exists: a job in a mount namespace of its own gets its files from there, or its
 * working directory would be "(unreachable)".
 */
void cpx_rst_file_where(struct cpx_rst *r)
{
	struct cpx_rst_files *p = r->files_priv;
	struct stat a, b;
	char path[64];

	if (p->job_root_known || r->tasks[0].pid <= 0)
		return;
	p->job_root_known = true;
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", r->tasks[0].pid);
	if (stat(path, &a) < 0 || stat("/proc/self/ns/mnt", &b) < 0 || a.st_ino == b.st_ino)
		return;
	snprintf(path, sizeof(path), "/proc/%d/root", r->tasks[0].pid);
	p->job_root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static int root_of(const struct cpx_rst_files *p)
{
	return p->job_root_fd >= 0 ? p->job_root_fd : p->root_fd;
}

/* open() below the job's root, where an absolute symbolic link starts there too. -1 and errno.
 */
static int open_at_root(struct cpx_rst *r, const char *path, int flags, mode_t mode)
{
	const struct cpx_rst_files *p = r->files_priv;
	struct open_how how = { .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
				.mode = (flags & O_CREAT) ? mode : 0,
				.resolve = RESOLVE_IN_ROOT };
	int fd = (int)syscall(SYS_openat2, root_of(p), path, &how, sizeof(how));

	/* RESOLVE_IN_ROOT gives up where something is being renamed; without a root of its own
	 * the job's paths are ours */
	if (fd < 0 && p->job_root_fd < 0 && (errno == EAGAIN || errno == ENOSYS))
		fd = open(path, flags | O_CLOEXEC, mode);
	return fd;
}

static int as_owner_open(struct cpx_rst *r, const char *path, int flags, struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	int rc = cpx_rst_owner_enter(&p->owner, err), fd, sys;

	if (rc < 0)
		return rc;
	fd = open_at_root(r, path, flags, 0);
	sys = errno;
	cpx_rst_owner_leave(&p->owner);
	if (fd < 0 && (sys == EACCES || sys == EPERM) && r->opts->trusted) {
		fd = open_at_root(r, path, flags, 0);
		sys = errno;
	}
	return fd < 0 ? cpx_err_sys(err, sys, "open %s", path) : fd;
}

static bool same_type(const struct cpx_rec_file *rec, const struct stat *st)
{
	if ((rec->mode & S_IFMT) != (st->st_mode & S_IFMT))
		return false;
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		return st->st_rdev == rec->rdev;
	return true;
}

int cpx_rst_file_find(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	CPX_AUTO_FD fd = -1;
	struct stat st;

	if (!f->rec->path || f->rec->path[0] != '/')
		return cpx_err_set(err, CPX_E_FORMAT, "file record %u has no path", f->rec->id);
	fd = as_owner_open(r, f->rec->path, O_PATH | O_NOFOLLOW, err);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return cpx_err_sys(err, errno, "%s", f->rec->path);
	if (!same_type(f->rec, &st))
		return cpx_err_set(err, CPX_E_NOENT, "%s is no longer the kind of file it was",
				   f->rec->path);
	cpx_close(&f->path_fd);
	f->path_fd = cpx_steal_fd(&fd);
	f->in_job = p->job_root_fd >= 0;
	return 0;
}

int cpx_rst_file_parent(struct cpx_rst *r, const char *path, char **base, struct cpx_err *err)
{
	CPX_AUTO_FREE char *dir = strdup(path);
	CPX_AUTO_FREE char *name = NULL;
	char *cut = dir ? strrchr(dir, '/') : NULL;
	int fd;

	if (!dir)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory");
	if (!cut || !cut[1])
		return cpx_err_set(err, CPX_E_FORMAT, "'%s' is no file name", path);
	name = strdup(cut + 1);
	if (!name)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory");
	cut[cut == dir] = 0;
	fd = as_owner_open(r, dir, O_PATH | O_DIRECTORY, err);
	if (fd >= 0)
		*base = cpx_steal_ptr(&name);
	return fd;
}

/* --- content ----------------------------------------------------------------------------- */

struct fill {
	int fd;
	uint64_t size;
	const char *path;
};

static int write_some(void *ctx, uint32_t space, uint64_t off, const void *data, size_t len,
		      struct cpx_err *err)
{
	const struct fill *k = ctx;

	(void)space;
	if (off >= k->size)
		return 0;
	if (len > k->size - off)
		len = k->size - off;
	while (len) {
		ssize_t n = pwrite(k->fd, data, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cpx_err_sys(err, errno, "write %s", k->path);
		data = (const char *)data + n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int cpx_rst_file_fill(struct cpx_rst *r, const struct cpx_rst_file *f, int fd,
		      struct cpx_err *err)
{
	struct fill k = { fd, f->rec->size, f->rec->path };
	struct cpx_extent all = { .space = f->rec->space, .off = 0 };

	if (f->rec->size > INT64_MAX - CPX_PAGE)
		return cpx_err_set(err, CPX_E_FORMAT, "file record %u is damaged", f->rec->id);
	all.len = (f->rec->size + CPX_PAGE - 1) & ~(uint64_t)(CPX_PAGE - 1);
	if (ftruncate(fd, (off_t)f->rec->size) < 0)
		return cpx_err_sys(err, errno, "set the size of %s", f->rec->path);
	if (f->rec->size == 0 || f->rec->space == 0)
		return 0;
	return cpx_rst_scan(r, &all, 1, write_some, &k, err);
}

static struct timespec time_of(int64_t ns)
{
	if (ns <= 0)
		return (struct timespec){ .tv_nsec = UTIME_OMIT };
	return (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
}

/*
 * Owner, mode, times and attributes of a file that we made. Ownership only where that is ours
 * to give.
 */
void cpx_rst_file_dress(struct cpx_rst *r, const struct cpx_rec_file *rec, int fd)
{
	struct timespec t[2] = { time_of(rec->atime_ns), time_of(rec->mtime_ns) };
	mode_t mode = rec->mode & (r->opts->trusted ? 07777 : 01777);
	bool may = r->opts->trusted || (rec->uid == r->opts->owner_uid);
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (may && chown(path, rec->uid, r->opts->trusted ? rec->gid : (gid_t)-1) < 0)
		cpx_log_debug("owner of %s: %s", rec->path, strerror(errno));
	if (chmod(path, mode) < 0)
		cpx_log_debug("mode of %s: %s", rec->path, strerror(errno));
	if (cpx_xattrs_set(fd, rec->xattrs.p, rec->xattrs.n, r->opts->trusted))
		cpx_log_note("%s: not all of its extended attributes can be set again",
			     rec->path);
	if (S_ISREG(rec->mode))
		utimensat(AT_FDCWD, path, t, 0);
}

/* --- files without a name ---------------------------------------------------------------- */

/* Directories made for a moment, deepest last. */
struct temp_dirs {
	char *paths[TEMP_DIRS_MAX];
	size_t n;
};

static void remove_dirs(struct cpx_rst *r, struct temp_dirs *d)
{
	struct cpx_rst_files *p = r->files_priv;

	while (d->n) {
		char *base = NULL;
		CPX_AUTO_FD fd = cpx_rst_file_parent(r, d->paths[--d->n], &base, NULL);

		if (fd >= 0 && cpx_rst_owner_enter(&p->owner, NULL) == 0) {
			unlinkat(fd, base, AT_REMOVEDIR);
			cpx_rst_owner_leave(&p->owner);
		}
		free(base);
		free(d->paths[d->n]);
	}
}

/* One directory, if it is not there; it is remembered then. */
static int make_dir(struct cpx_rst *r, const char *dir, struct temp_dirs *d,
		    struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	CPX_AUTO_FREE char *base = NULL;
	CPX_AUTO_FREE char *copy = strdup(dir);
	CPX_AUTO_FD fd = cpx_rst_file_parent(r, dir, &base, err);
	int rc, sys;

	if (fd < 0)
		return fd;
	if (faccessat(fd, base, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (!copy || d->n == TEMP_DIRS_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "%s: too many directories", dir);
	rc = cpx_rst_owner_enter(&p->owner, err);
	if (rc < 0)
		return rc;
	rc = mkdirat(fd, base, 0700);
	sys = errno;
	cpx_rst_owner_leave(&p->owner);
	if (rc < 0)
		return sys == EEXIST ? 0 : cpx_err_sys(err, sys, "make the directory %s", dir);
	d->paths[d->n++] = cpx_steal_ptr(&copy);
	return 0;
}

/* Make the directories that are missing above @path. */
static int make_dirs(struct cpx_rst *r, const char *path, struct temp_dirs *d,
		     struct cpx_err *err)
{
	CPX_AUTO_FREE char *dir = strdup(path);

	for (char *cut = dir; dir && (cut = strchr(cut + 1, '/'));) {
		int rc;

		*cut = 0;
		rc = make_dir(r, dir, d, err);
		*cut = '/';
		if (rc < 0)
			return rc;
	}
	return dir ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory");
}

/* Make the thing itself as @name. Return: a descriptor of it, or -1 with errno. */
static int make_node(const struct cpx_rec_file *rec, int dir, const char *name)
{
	int fd;

	switch (rec->mode & S_IFMT) {
	case S_IFREG:
		return openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			      0600);
	case S_IFDIR:
		if (mkdirat(dir, name, 0700) < 0)
			return -1;
		return openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	case S_IFIFO:
		if (mkfifoat(dir, name, 0600) < 0)
			return -1;
		break;
	case S_IFLNK:
		if (symlinkat(rec->link ? rec->link : "", dir, name) < 0)
			return -1;
		break;
	default:
		errno = EOPNOTSUPP;
		return -1;
	}
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd;
}

/* The directory in which a file is made, and its name there. */
static int place_for(struct cpx_rst *r, const struct cpx_rec_file *rec, char **base,
		     struct cpx_err *err)
{
	const char *slash = strrchr(rec->path, '/');

	if (!r->opts->rehearse)
		return cpx_rst_file_parent(r, rec->path, base, err);
	*base = strdup(slash && slash[1] ? slash + 1 : "file");
	if (!*base)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory");
	return fcntl(r->opts->scratch_fd, F_DUPFD_CLOEXEC, 3);
}

/* Make and unlink in one go; another file may have taken the name meanwhile. */
static int make_nameless(struct cpx_rst *r, const struct cpx_rec_file *rec, bool keep,
			 struct cpx_err *err)
{
	CPX_AUTO_FREE char *base = NULL;
	CPX_AUTO_FREE char *other = NULL;
	CPX_AUTO_FD dir = place_for(r, rec, &base, err);
	struct cpx_rst_files *p = r->files_priv;
	uint32_t number = 0;
	int fd, rc, sys;

	if (dir < 0)
		return dir;
	getrandom(&number, sizeof(number), 0);
	if (asprintf(&other, "%.200s.%08x", base, number) < 0) {
		other = NULL;
		return cpx_err_set(err, CPX_E_NOMEM, "no memory");
	}
	rc = cpx_rst_owner_enter(&p->owner, err);
	if (rc < 0)
		return rc;
	fd = make_node(rec, dir, base);
	if (fd < 0 && errno == EEXIST && (!keep || r->opts->rehearse))
		fd = make_node(rec, dir, other);
	else
		other[0] = 0;
	sys = errno;
	if (fd >= 0 && !keep)
		unlinkat(dir, other[0] ? other : base, S_ISDIR(rec->mode) ? AT_REMOVEDIR : 0);
	cpx_rst_owner_leave(&p->owner);
	return fd < 0 ? cpx_err_sys(err, sys, "make %s", rec->path) : fd;
}

/*
 * O_TMPFILE: the program may give it a name later, which it could not to an unlinked one.
 * Return: the flags it was opened with, or 0.
 */
static int tmpfile_flags(struct cpx_rst *r, uint32_t file_id)
{
	cpx_state_each(r->st, ofd, o)
		if (o->kind == CPX_OFD_FILE && o->object == file_id &&
		    (o->flags & TMPFILE_BIT) && !(o->flags & O_PATH))
			return (int)o->flags & ~(O_ASYNC | O_CREAT | O_TRUNC | O_NOFOLLOW |
						 O_APPEND | O_DIRECT);
	return 0;
}

static int make_tmpfile(struct cpx_rst *r, const char *path, int flags)
{
	CPX_AUTO_FREE char *dir = strdup(path);
	char *cut = dir ? strrchr(dir, '/') : NULL;
	struct cpx_rst_files *p = r->files_priv;
	int fd;

	if (!cut || cpx_rst_owner_enter(&p->owner, NULL) < 0)
		return -1;
	cut[cut == dir] = 0;
	fd = r->opts->rehearse
		     ? openat(r->opts->scratch_fd, ".", flags | O_CLOEXEC | O_NOCTTY, 0600)
		     : open_at_root(r, dir, flags, 0600);
	cpx_rst_owner_leave(&p->owner);
	return fd;
}

/* Where its old directory cannot be had: a regular file only needs its content. */
static int make_anywhere(struct cpx_rst *r)
{
	static const char *const dirs[] = { "/var/tmp/x", "/tmp/x" };
	int fd = -1;

	for (size_t i = 0; fd < 0 && i < 2; i++)
		fd = make_tmpfile(r, dirs[i], O_TMPFILE | O_RDWR);
	return fd >= 0 ? fd : memfd_create("unlinked", MFD_CLOEXEC);
}

/* A program or library that was removed while it was mapped: out of the store. */
static int fill_code(struct cpx_rst *r, const struct cpx_rst_file *f, int to,
		     struct cpx_err *err)
{
	CPX_AUTO_FD from = -1;
	ssize_t n;

	if (f->rec->sha256.n != 32)
		return cpx_err_set(err, CPX_E_FORMAT, "the image does not hold %s",
				   f->rec->path);
	from = cpx_store_get_code(r->opts->store, f->rec->sha256.p, NULL, err);
	if (from < 0)
		return from;
	while ((n = sendfile(to, from, NULL, 1u << 30)) > 0)
		;
	return n < 0 ? cpx_err_sys(err, errno, "write %s", f->rec->path) : 0;
}

/* Hold it without having it open: an executable must not be open for writing. */
static int only_path(int *fd)
{
	char link[32];
	int path;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", *fd);
	path = open(link, O_PATH | O_CLOEXEC);
	if (path < 0)
		return cpx_steal_fd(fd);
	cpx_close(fd);
	return path;
}

/* The name that a program gave to the memfd which it then mapped or ran. */
static const char *memfd_name(const struct cpx_rec_file *rec)
{
	const char *name = rec->path + 7;

	if (strncmp(rec->path, "/memfd:", 7) != 0)
		return NULL;
	return strlen(name) < 250 ? name : "";
}

static int remake(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	struct temp_dirs d = { .n = 0 };
	CPX_AUTO_FD fd = -1;
	int rc, flags = tmpfile_flags(r, f->rec->id);

	if (S_ISREG(f->rec->mode) && flags)
		fd = make_tmpfile(r, f->rec->path, flags);
	f->tmpfile = fd >= 0;
	/* what came out of an image once had its name from there */
	if (fd < 0 && !memfd_name(f->rec)) {
		rc = r->opts->rehearse ? 0 : make_dirs(r, f->rec->path, &d, err);
		fd = rc < 0 ? rc : make_nameless(r, f->rec, false, err);
		remove_dirs(r, &d);
	}
	if (fd < 0 && f->rec->rule == CPX_RULE_CODE && f->rec->sha256.n == 32) {
		fd = cpx_store_get_code(r->opts->store, f->rec->sha256.p, memfd_name(f->rec),
					err);
		f->ours = fd >= 0;
		rc = fd < 0 ? fd : 0;
		f->path_fd = cpx_steal_fd(&fd);
		return rc;
	}
	if (fd < 0 && S_ISREG(f->rec->mode)) {
		cpx_log_debug("unlinked file %s is made elsewhere", f->rec->path);
		fd = make_anywhere(r);
	}
	if (fd < 0)
		return err && err->code < 0 ? err->code
					    : cpx_err_sys(err, errno, "make %s", f->rec->path);
	if (S_ISREG(f->rec->mode)) {
		rc = f->rec->rule == CPX_RULE_CODE ? fill_code(r, f, fd, err)
						   : cpx_rst_file_fill(r, f, fd, err);
		if (rc < 0)
			return rc;
	}
	if (!S_ISLNK(f->rec->mode))
		cpx_rst_file_dress(r, f->rec, fd);
	f->ours = true;
	f->path_fd = S_ISREG(f->rec->mode) && !f->tmpfile ? only_path(&fd) : cpx_steal_fd(&fd);
	return 0;
}

/* Let /proc show the name that is gone: link it back for a moment. As it is, if that fails. */
static int by_old_name(struct cpx_rst *r, const struct cpx_rec_file *rec, int fd)
{
	struct cpx_rst_files *p = r->files_priv;
	CPX_AUTO_FREE char *base = NULL;
	CPX_AUTO_FD dir =
		r->opts->rehearse ? -1 : cpx_rst_file_parent(r, rec->path, &base, NULL);
	char link[32];
	int named = -1;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (dir < 0 || cpx_rst_owner_enter(&p->owner, NULL) < 0)
		return fd;
	if (linkat(AT_FDCWD, link, dir, base, AT_SYMLINK_FOLLOW) == 0) {
		named = openat(dir, base, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		unlinkat(dir, base, 0);
	}
	cpx_rst_owner_leave(&p->owner);
	if (named >= 0)
		close(fd);
	return named >= 0 ? named : fd;
}

/*
 * The name is gone but others are left: the file's handle finds the very inode, where the file
 * system is the same. Return: 1, 0 if not found.
 */
static int find_by_handle(struct cpx_rst *r, struct cpx_rst_file *f)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	CPX_AUTO_FREE char *dir = strdup(f->rec->path);
	CPX_AUTO_FD mount = -1;
	CPX_AUTO_FD fd = -1;
	struct stat st;

	if (!dir || f->rec->handle.n == 0 || f->rec->handle.n > MAX_HANDLE_SZ)
		return 0;
	for (char *cut; mount < 0 && (cut = strrchr(dir, '/'));) {
		cut[cut == dir] = 0;
		mount = as_owner_open(r, dir, O_RDONLY | O_DIRECTORY, NULL);
		if (cut == dir)
			break;
	}
	memset(&u, 0, sizeof(u));
	u.h.handle_bytes = f->rec->handle.n;
	u.h.handle_type = (int)f->rec->handle_type;
	memcpy(u.h.f_handle, f->rec->handle.p, f->rec->handle.n);
	if (mount >= 0)
		fd = open_by_handle_at(mount, &u.h, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != f->rec->ino || st.st_nlink == 0 ||
	    !same_type(f->rec, &st))
		return 0;
	/* a handle passes by the permissions of directories: only the owner's own files */
	if (!r->opts->trusted && st.st_uid != r->opts->owner_uid)
		return 0;
	f->path_fd = by_old_name(r, f->rec, cpx_steal_fd(&fd));
	return 1;
}

/* A named file whose content was saved, and that is missing. */
static int make_named(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	CPX_AUTO_FD fd = make_nameless(r, f->rec, true, err);

	if (fd < 0)
		return fd;
	if (r->opts->rehearse)
		cpx_log_debug("%s is made aside", f->rec->path);
	else
		cpx_log_note("%s is missing; it is made again", f->rec->path);
	if (S_ISREG(f->rec->mode)) {
		int rc = cpx_rst_file_fill(r, f, fd, err);

		if (rc < 0)
			return rc;
	}
	cpx_rst_file_dress(r, f->rec, fd);
	f->ours = true;
	f->path_fd = S_ISREG(f->rec->mode) ? only_path(&fd) : cpx_steal_fd(&fd);
	return 0;
}

/* Would others notice that it is opened? Fifos, and files whose lease that would break. */
static bool opening_tells(struct cpx_rst *r, const struct cpx_rst_file *f)
{
	if (S_ISFIFO(f->rec->mode))
		return true;
	cpx_state_each(r->st, lock, k) {
		struct cpx_rst_ofd *o = cpx_rst_ofd_by_id(r, k->ofd);

		if (k->kind == CPX_LOCK_LEASE && o && o->rec->kind == CPX_OFD_FILE &&
		    o->rec->object == f->rec->id)
			return true;
	}
	return false;
}

int cpx_rst_file_ready(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	struct stat was, now;
	int rc;

	if (r->opts->rehearse && !f->ours && !(f->rec->flags & CPX_FILE_UNLINKED) &&
	    opening_tells(r, f)) {
		cpx_close(&f->path_fd);
		return make_named(r, f, err);
	}
	cpx_rst_file_where(r);
	rc = cpx_rst_file_check(r, f, err);
	if (rc < 0)
		return rc;
	if (f->path_fd >= 0 && (f->ours || f->in_job || p->job_root_fd < 0))
		return 0;
	if (f->path_fd < 0 && (f->rec->flags & CPX_FILE_LINKED) && find_by_handle(r, f))
		return 0;
	if (f->rec->flags & CPX_FILE_UNLINKED)
		return f->path_fd >= 0 ? 0 : remake(r, f, err);
	if (f->path_fd < 0 || fstat(f->path_fd, &was) < 0)
		was.st_ino = 0;
	rc = cpx_rst_file_find(r, f, err);
	if (rc == CPX_E_NOENT &&
	    (f->rec->rule == CPX_RULE_SNAPSHOT || f->rec->space || S_ISFIFO(f->rec->mode)))
		return make_named(r, f, err);
	if (rc < 0)
		return rc;
	if (was.st_ino && S_ISREG(f->rec->mode) &&
	    (fstat(f->path_fd, &now) < 0 || now.st_ino != was.st_ino))
		return cpx_err_set(err, CPX_E_BUSY, "%s is another file for the job than here",
				   f->rec->path);
	return 0;
}

/* --- opening ----------------------------------------------------------------------------- */

/* Both ends, so that opening one does not wait for the other; what was in it, put back. */
static int guard_fifo(struct cpx_rst_file *f, const char *link, struct cpx_err *err)
{
	const struct cpx_rec_file *rec = f->rec;
	int there = 0;

	if (f->guard_fd >= 0)
		return 0;
	f->guard_fd = open(link, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (f->guard_fd < 0)
		return errno == EACCES ? 0 : cpx_err_sys(err, errno, "open %s", rec->path);
	if (rec->fifo_size && fcntl(f->guard_fd, F_GETPIPE_SZ) != (int)rec->fifo_size)
		fcntl(f->guard_fd, F_SETPIPE_SZ, (int)rec->fifo_size);
	if (rec->fifo_data.n == 0)
		return 0;
	if (ioctl(f->guard_fd, FIONREAD, &there) == 0 && there > 0) {
		cpx_log_note("%s holds data of others; what the job had in it is not put back",
			     rec->path);
		return 0;
	}
	if (write(f->guard_fd, rec->fifo_data.p, rec->fifo_data.n) != (ssize_t)rec->fifo_data.n)
		return cpx_err_set(err, CPX_E_LIMIT,
				   "the content of the fifo %s (%u bytes) does not fit into it",
				   rec->path, rec->fifo_data.n);
	return 0;
}

static int open_link(struct cpx_rst *r, struct cpx_rst_file *f, int flags, struct cpx_err *err)
{
	bool fifo = S_ISFIFO(f->rec->mode) && !(flags & O_PATH);
	char path[32];
	int rc = 0, fd;

	(void)r;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->path_fd);
	if (fifo)
		rc = guard_fifo(f, path, err);
	if (rc < 0)
		return rc;
	fd = open(path, flags | O_CLOEXEC | O_NOCTTY | (fifo ? O_NONBLOCK : 0));
	return fd < 0 ? cpx_err_sys(err, errno, "open %s", f->rec->path) : fd;
}

/* Is it below /proc/N of a process of the tree? */
static bool of_tree(const struct cpx_rst *r, const struct cpx_rst_file *f)
{
	unsigned pid;

	if (sscanf(f->rec->path, "/proc/%u/", &pid) != 1)
		return false;
	for (size_t i = 0; i < r->ntasks; i++)
		if (r->tasks[i].rec->pid == pid)
			return true;
	return false;
}

static bool own_file(const struct cpx_rst *r, const struct cpx_rst_file *f, int flags)
{
	struct statfs fs;
	struct stat st;

	/* what the job may read about itself in /proc is root's as long as we build it */
	if ((f->rec->flags & CPX_FILE_PROC) && (flags & O_ACCMODE) == O_RDONLY &&
	    fstatfs(f->path_fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC && of_tree(r, f))
		return true;

	return f->ours || r->opts->trusted ||
	       (fstat(f->path_fd, &st) == 0 && st.st_uid == r->opts->owner_uid);
}

/* O_NOFOLLOW is kept by the kernel as a flag that can be seen, but bars the way by /proc. */
static int open_nofollow(struct cpx_rst *r, struct cpx_rst_file *f, int flags)
{
	struct stat a, b;
	int fd;

	if (f->ours || f->rec->rule == CPX_RULE_CODE || (f->rec->flags & CPX_FILE_UNLINKED))
		return -1;
	fd = as_owner_open(r, f->rec->path, flags | O_NOCTTY, NULL);
	if (fd >= 0 && fstat(fd, &a) == 0 && fstat(f->path_fd, &b) == 0 &&
	    a.st_ino == b.st_ino && a.st_dev == b.st_dev)
		return fd;
	cpx_close(&fd);
	return -1;
}

int cpx_rst_file_reopen(struct cpx_rst *r, struct cpx_rst_file *f, int flags,
			struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	int rc, fd;

	if (f->tmpfile && (flags & TMPFILE_BIT)) {
		/* the one description that shows how the file was made */
		fd = fcntl(f->path_fd, F_DUPFD_CLOEXEC, 3);
		return fd < 0 ? cpx_err_sys(err, errno, "open %s", f->rec->path) : fd;
	}
	flags &= ~(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC | TMPFILE_BIT);
	if (!S_ISDIR(f->rec->mode))
		flags &= ~O_DIRECTORY;
	if ((flags & O_NOFOLLOW) && !S_ISFIFO(f->rec->mode)) {
		fd = open_nofollow(r, f, flags);
		if (fd >= 0)
			return fd;
	}
	flags &= ~O_NOFOLLOW;
	if (S_ISLNK(f->rec->mode)) {
		fd = fcntl(f->path_fd, F_DUPFD_CLOEXEC, 3);
		return fd < 0 ? cpx_err_sys(err, errno, "open %s", f->rec->path) : fd;
	}
	if (f->ours)
		return open_link(r, f, flags, err);
	rc = cpx_rst_owner_enter(&p->owner, err);
	if (rc < 0)
		return rc;
	fd = open_link(r, f, flags, err);
	cpx_rst_owner_leave(&p->owner);
	/* open for writing and made read-only since: the owner may, the mode says no */
	if (fd == CPX_E_PERM && own_file(r, f, flags))
		fd = open_link(r, f, flags, err);
	return fd;
}
