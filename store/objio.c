/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * objio.c - file calls of the store: hook, then as the owner, then the call.
 *
 * The parent directory of each name is opened with RESOLVE_BENEATH and
 * RESOLVE_NO_SYMLINKS; the last component is used by calls that follow no link.
 */
#include "objio.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fault.h"
#include "../chpox/base/fd.h"

static const char *const kind_names[CPX_IO_KINDS] = {
	[CPX_IO_MKDIR] = "store.mkdir",	      [CPX_IO_CREATE] = "store.create",
	[CPX_IO_ALLOCATE] = "store.allocate", [CPX_IO_WRITE] = "store.write",
	[CPX_IO_TRUNCATE] = "store.truncate", [CPX_IO_FSYNC] = "store.fsync",
	[CPX_IO_FSYNC_DIR] = "store.fsync",   [CPX_IO_RENAME] = "store.rename",
	[CPX_IO_UNLINK] = "store.unlink",     [CPX_IO_RMDIR] = "store.rmdir",
	[CPX_IO_OPEN] = "store.open",	      [CPX_IO_READ] = "store.read",
};

/* Return: 0, or -1 with errno if this call is to fail. */
int cpx_io_past_hook(struct cpx_io *io, const struct cpx_io_op *op)
{
	int sys = cpx_fault(kind_names[op->kind]);

	if (!sys && io->hook.call)
		sys = io->hook.call(io->hook.ctx, op);
	if (!sys)
		return 0;
	errno = sys;
	return -1;
}

static int open_beneath(int root, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

/* The directory that @path is in; *@last points to the name within it. */
static int open_parent(struct cpx_io *io, const char *path, const char **last)
{
	const char *slash = strrchr(path, '/');
	char dir[CPX_IO_PATH_MAX];

	*last = slash ? slash + 1 : path;
	if (!slash)
		return fcntl(io->root, F_DUPFD_CLOEXEC, 3);
	if ((size_t)(slash - path) >= sizeof(dir)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = 0;
	return open_beneath(io->root, dir, O_RDONLY | O_DIRECTORY, 0);
}

static int failed(struct cpx_io *io, const char *what, const char *path, struct cpx_err *err)
{
	return cpx_err_sys(err, errno, "%s %s/%s", what, io->shown, path);
}

int cpx_io_init(struct cpx_io *io, const char *path, bool create, uint32_t uid, uint32_t gid,
		struct cpx_err *err)
{
	struct cpx_owner_saved saved;
	int rc, sys = 0;

	memset(io, 0, sizeof(*io));
	io->root = -1;
	pthread_mutex_init(&io->meter.lock, NULL);
	rc = cpx_owner_init(&io->owner, uid, gid, err);
	if (rc < 0)
		return rc;
	io->shown = strdup(path);
	if (!io->shown) {
		cpx_io_fini(io);
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to open store %s", path);
	}
	if (cpx_owner_enter(&io->owner, &saved) == 0) {
		/* that it is there, or something else, the open below tells */
		if (create && mkdir(path, 0700) < 0 && errno != EEXIST)
			sys = errno;
		io->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		cpx_owner_leave(&saved);
	}
	if (io->root < 0) {
		rc = errno == ENOENT && sys ? cpx_err_sys(err, sys, "make directory %s", path)
					    : cpx_err_sys(err, errno, "open store %s", path);
		cpx_io_fini(io);
		return rc;
	}
	return 0;
}

void cpx_io_busy(struct cpx_io *io)
{
	struct cpx_io_meter *m = &io->meter;

	pthread_mutex_lock(&m->lock);
	if (m->busy++ == 0)
		m->since = cpx_mono_ns();
	pthread_mutex_unlock(&m->lock);
}

/* Leaves errno alone. */
void cpx_io_idle(struct cpx_io *io, uint64_t bytes)
{
	struct cpx_io_meter *m = &io->meter;
	int sys = errno;

	pthread_mutex_lock(&m->lock);
	m->bytes += bytes;
	if (--m->busy == 0)
		m->ns += cpx_mono_ns() - m->since;
	pthread_mutex_unlock(&m->lock);
	errno = sys;
}

void cpx_io_metered(struct cpx_io *io, uint64_t *bytes, int64_t *ns)
{
	struct cpx_io_meter *m = &io->meter;

	pthread_mutex_lock(&m->lock);
	*bytes = m->bytes;
	*ns = m->ns + (m->busy ? cpx_mono_ns() - m->since : 0);
	pthread_mutex_unlock(&m->lock);
}

void cpx_io_fini(struct cpx_io *io)
{
	cpx_close(&io->root);
	cpx_freep(&io->shown);
	cpx_owner_free(&io->owner);
}

int cpx_io_open(struct cpx_io *io, const char *path, struct cpx_err *err)
{
	struct cpx_io_op op = { .kind = CPX_IO_OPEN, .path = path };
	struct cpx_owner_saved saved;
	struct stat st;
	int fd = -1;

	if (cpx_io_past_hook(io, &op) == 0 && cpx_owner_enter(&io->owner, &saved) == 0) {
		fd = open_beneath(io->root, path, O_RDONLY | O_NONBLOCK, 0);
		cpx_owner_leave(&saved);
	}
	if (fd < 0)
		return failed(io, "open", path, err);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return cpx_err_set(err, CPX_E_FORMAT, "%s/%s is not a regular file", io->shown,
				   path);
	}
	return fd;
}

int cpx_io_read(struct cpx_io *io, int fd, const char *path, void *buf, size_t len,
		uint64_t off, struct cpx_err *err)
{
	struct cpx_io_op op = { .kind = CPX_IO_READ, .path = path, .off = off, .len = len };
	ssize_t n = -1;

	if (cpx_io_past_hook(io, &op) == 0)
		n = cpx_pread_full(fd, buf, len, off);
	if (n < 0)
		return failed(io, "read", path, err);
	if ((size_t)n < len)
		return cpx_err_set(err, CPX_E_CHECKSUM, "%s/%s is cut off at byte %llu",
				   io->shown, path,
				   (unsigned long long)off + (unsigned long long)n);
	return 0;
}

int cpx_io_create(struct cpx_io *io, const char *path, struct cpx_io_file *f,
		  struct cpx_err *err)
{
	struct cpx_io_op op = { .kind = CPX_IO_CREATE, .path = path };
	struct cpx_owner_saved saved;
	int fd = -1;

	if (strlen(path) >= sizeof(f->path))
		return cpx_err_set(err, CPX_E_LIMIT, "store path %s is too long", path);
	if (cpx_io_past_hook(io, &op) == 0 && cpx_owner_enter(&io->owner, &saved) == 0) {
		fd = open_beneath(io->root, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
		cpx_owner_leave(&saved);
	}
	if (fd < 0)
		return failed(io, "create", path, err);
	memset(f, 0, sizeof(*f));
	f->io = io;
	f->fd = fd;
	strcpy(f->path, path);
	return 0;
}

bool cpx_io_direct(struct cpx_io_file *f)
{
	int flags = fcntl(f->fd, F_GETFL);
	struct statfs fs;

	/* memory file systems take O_DIRECT and copy all the same */
	if (fstatfs(f->fd, &fs) < 0 || fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		return false;
	return flags >= 0 && fcntl(f->fd, F_SETFL, flags | O_DIRECT) == 0;
}

int cpx_io_allocate(struct cpx_io_file *f, uint64_t off, uint64_t len)
{
	struct cpx_io_op op = {
		.kind = CPX_IO_ALLOCATE, .path = f->path, .off = off, .len = len
	};
	struct cpx_owner_saved saved;
	int rc = -1;

	if (cpx_io_past_hook(f->io, &op) == 0 && cpx_owner_enter(&f->io->owner, &saved) == 0) {
		rc = fallocate(f->fd, 0, (off_t)off, (off_t)len);
		cpx_owner_leave(&saved);
	}
	return rc;
}

int cpx_io_write_all(int fd, const uint8_t *p, size_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n == 0 ? ENOSPC : errno;
			return -1;
		}
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int cpx_io_write(struct cpx_io_file *f, const void *buf, size_t len, uint64_t off,
		 struct cpx_err *err)
{
	struct cpx_io_op op = {
		.kind = CPX_IO_WRITE, .path = f->path, .off = off, .data = buf, .len = len
	};
	struct cpx_owner_saved saved;
	int rc = -1;

	if (cpx_io_past_hook(f->io, &op) == 0 && cpx_owner_enter(&f->io->owner, &saved) == 0) {
		cpx_io_busy(f->io);
		rc = cpx_io_write_all(f->fd, buf, len, off);
		cpx_io_idle(f->io, len);
		cpx_owner_leave(&saved);
	}
	return rc < 0 ? failed(f->io, "write", f->path, err) : 0;
}

int cpx_io_truncate(struct cpx_io_file *f, uint64_t size, struct cpx_err *err)
{
	struct cpx_io_op op = { .kind = CPX_IO_TRUNCATE, .path = f->path, .off = size };

	if (cpx_io_past_hook(f->io, &op) < 0 || ftruncate(f->fd, (off_t)size) < 0)
		return failed(f->io, "truncate", f->path, err);
	return 0;
}

int cpx_io_fsync(struct cpx_io_file *f, struct cpx_err *err)
{
	struct cpx_io_op op = { .kind = CPX_IO_FSYNC, .path = f->path };
	int rc;

	if (cpx_io_past_hook(f->io, &op) < 0)
		return failed(f->io, "fsync", f->path, err);
	cpx_io_busy(f->io);
	rc = fsync(f->fd);
	cpx_io_idle(f->io, 0);
	return rc < 0 ? failed(f->io, "fsync", f->path, err) : 0;
}

void cpx_io_close(struct cpx_io_file *f)
{
	if (f->io)
		cpx_close(&f->fd);
	f->io = NULL;
}

enum name_call { NAME_MKDIR, NAME_RMDIR, NAME_UNLINK, NAME_SYNC };

static int do_name(struct cpx_io *io, enum name_call call, const char *path)
{
	const char *last;
	CPX_AUTO_FD dir = call == NAME_SYNC
				  ? open_beneath(io->root, path, O_RDONLY | O_DIRECTORY, 0)
				  : open_parent(io, path, &last);

	if (dir < 0)
		return -1;
	switch (call) {
	case NAME_MKDIR:
		return mkdirat(dir, last, 0700);
	case NAME_RMDIR:
		return unlinkat(dir, last, AT_REMOVEDIR);
	case NAME_UNLINK:
		return unlinkat(dir, last, 0);
	case NAME_SYNC:
		return fsync(dir);
	}
	return -1;
}

static int name_call(struct cpx_io *io, enum cpx_io_kind kind, enum name_call call,
		     const char *path)
{
	struct cpx_io_op op = { .kind = kind, .path = path };
	struct cpx_owner_saved saved;
	int rc;

	if (cpx_io_past_hook(io, &op) < 0 || cpx_owner_enter(&io->owner, &saved) < 0)
		return -1;
	rc = do_name(io, call, path);
	cpx_owner_leave(&saved);
	return rc;
}

int cpx_io_mkdir(struct cpx_io *io, const char *path, struct cpx_err *err)
{
	/* most of the time it is there: no call that changes anything */
	if (cpx_io_exists(io, path))
		return 0;
	if (name_call(io, CPX_IO_MKDIR, NAME_MKDIR, path) == 0)
		return 1;
	return errno == EEXIST ? 0 : failed(io, "make directory", path, err);
}

int cpx_io_rmdir(struct cpx_io *io, const char *path, struct cpx_err *err)
{
	if (name_call(io, CPX_IO_RMDIR, NAME_RMDIR, path) < 0)
		return failed(io, "remove directory", path, err);
	return 0;
}

int cpx_io_fsync_dir(struct cpx_io *io, const char *path, struct cpx_err *err)
{
	if (name_call(io, CPX_IO_FSYNC_DIR, NAME_SYNC, path) < 0)
		return failed(io, "fsync directory", path, err);
	return 0;
}

int cpx_io_unlink(struct cpx_io *io, const char *path, struct cpx_err *err)
{
	if (name_call(io, CPX_IO_UNLINK, NAME_UNLINK, path) < 0)
		return failed(io, "remove", path, err);
	return 0;
}

static int do_rename(struct cpx_io *io, const char *from, const char *to)
{
	const char *from_last, *to_last;
	CPX_AUTO_FD from_dir = open_parent(io, from, &from_last);
	CPX_AUTO_FD to_dir = from_dir < 0 ? -1 : open_parent(io, to, &to_last);
	int rc;

	if (to_dir < 0)
		return -1;
	rc = renameat2(from_dir, from_last, to_dir, to_last, RENAME_NOREPLACE);
	if (rc == 0 || (errno != EINVAL && errno != ENOSYS))
		return rc;
	/* NFS has no such flag; names hold a nonce, so nobody else makes this one */
	if (faccessat(to_dir, to_last, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return renameat(from_dir, from_last, to_dir, to_last);
}

int cpx_io_rename(struct cpx_io *io, const char *from, const char *to, struct cpx_err *err)
{
	struct cpx_io_op op = { .kind = CPX_IO_RENAME, .path = from, .to = to };
	struct cpx_owner_saved saved;
	int rc = -1;

	if (cpx_io_past_hook(io, &op) == 0 && cpx_owner_enter(&io->owner, &saved) == 0) {
		rc = do_rename(io, from, to);
		cpx_owner_leave(&saved);
	}
	return rc < 0 ? failed(io, "rename", from, err) : 0;
}

bool cpx_io_exists(struct cpx_io *io, const char *path)
{
	struct cpx_owner_saved saved;
	int fd;

	if (cpx_owner_enter(&io->owner, &saved) < 0)
		return false;
	fd = open_beneath(io->root, path, O_PATH, 0);
	cpx_owner_leave(&saved);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

int cpx_io_list(struct cpx_io *io, const char *path, int (*each)(void *ctx, const char *name),
		void *ctx, struct cpx_err *err)
{
	struct cpx_owner_saved saved;
	struct dirent *e;
	int fd = -1, rc = 0;
	DIR *dir;

	if (cpx_owner_enter(&io->owner, &saved) == 0) {
		fd = open_beneath(io->root, path, O_RDONLY | O_DIRECTORY, 0);
		cpx_owner_leave(&saved);
	}
	if (fd < 0)
		return errno == ENOENT ? 0 : failed(io, "list", path, err);
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return failed(io, "list", path, err);
	}
	while (rc >= 0 && (errno = 0, e = readdir(dir)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			rc = each(ctx, e->d_name);
	if (rc >= 0 && errno)
		rc = failed(io, "list", path, err);
	closedir(dir);
	return rc < 0 ? rc : 0;
}
