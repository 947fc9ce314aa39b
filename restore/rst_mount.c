/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_mount.c - the mount namespace of a job that had one of its own.
 *
 * The root process makes it before anything else exists, so all others are born into it, and
 * files are looked for in it. It is a slave of the host's. What was in a tmpfs is written from
 * here, below the root process's root directory. Only a trusted image may ask for that.
 */
#include "rst_call.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "rst_file.h"

#define FLAGS_KEPT                                                                   \
	(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | \
	 MS_RELATIME)
#define TEXTS_MAX 65536

/* --- calls of the root process ----------------------------------------------------------- */

/* mount() there. Return: what the kernel says in *@ret. */
static int call_mount(struct cpx_tracee *t, const char *const text[4], uint64_t flags,
		      int64_t *ret, struct cpx_err *err)
{
	CPX_AUTO_FREE char *all = malloc(TEXTS_MAX);
	uint64_t at[4] = { 0 };
	struct cpx_rst_bytes b;
	size_t n = 0;
	int rc;

	if (!all)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for mounts");
	for (int i = 0; i < 4; i++) {
		size_t len = text[i] ? strlen(text[i]) + 1 : 0;

		if (len > TEXTS_MAX - n)
			return cpx_err_set(err, CPX_E_FORMAT, "a mount's options are too long");
		memcpy(all + n, text[i] ? text[i] : "", len);
		at[i] = n;
		n += len;
	}
	rc = cpx_rst_bytes_put(t, all, n, &b, err);
	if (rc < 0)
		return rc;
	for (int i = 0; i < 4; i++)
		at[i] = text[i] ? b.addr + at[i] : 0;
	rc = cpx_tcall(t, ret, err, SYS_mount, at[0], at[1], at[2], flags, at[3]);
	return rc < 0 ? rc : cpx_rst_bytes_drop(t, &b, err);
}

static int mount_ok(struct cpx_tracee *t, const char *source, const char *point,
		    const char *type, uint64_t flags, const char *data, struct cpx_err *err)
{
	const char *const text[4] = { source, point, type, data };
	int64_t ret = 0;
	int rc = call_mount(t, text, flags, &ret, err);

	return rc < 0 || ret == 0 ? rc : cpx_err_sys(err, (int)-ret, "mount %s", point);
}

static int take_away(struct cpx_tracee *t, const struct cpx_rec_mount *m, struct cpx_err *err)
{
	struct cpx_rst_bytes b;
	int64_t ret;
	int rc = cpx_rst_bytes_put(t, m->point, strlen(m->point) + 1, &b, err);

	if (rc == 0)
		rc = cpx_tcall(t, &ret, err, SYS_umount2, b.addr, MNT_DETACH | UMOUNT_NOFOLLOW);
	if (rc == 0 && ret < 0 && ret != -EINVAL && ret != -ENOENT)
		cpx_log_note("'%s', which the job did not see, stays mounted: %s", m->point,
			     strerror((int)-ret));
	return rc < 0 ? rc : cpx_rst_bytes_drop(t, &b, err);
}

/* --- what was in a tmpfs ----------------------------------------------------------------- */

static int below(int dir, const char *path, int flags, mode_t mode)
{
	struct open_how how = { .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
				.mode = mode,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					   RESOLVE_NO_XDEV };

	return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

/* The directory of @path below @top, and the last component. */
static int parent_of(int top, const char *path, const char **base)
{
	CPX_AUTO_FREE char *dir = strdup(path);
	char *cut = dir ? strrchr(dir, '/') : NULL;

	*base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	if (!dir || !**base || !strcmp(*base, ".") || !strcmp(*base, "..")) {
		errno = EINVAL;
		return -1;
	}
	if (cut)
		*cut = 0;
	return below(top, cut ? dir : ".", O_PATH | O_DIRECTORY, 0);
}

static struct cpx_rec_file as_file(const struct cpx_rec_mount_node *n)
{
	return (struct cpx_rec_file){ .path = n->path,
				      .mode = n->mode,
				      .uid = n->uid,
				      .gid = n->gid,
				      .size = n->size,
				      .mtime_ns = n->mtime_ns,
				      .space = n->space,
				      .xattrs = n->xattrs };
}

static int make_regular(struct cpx_rst *r, const struct cpx_rec_mount_node *n, int dir,
			const char *base, struct cpx_err *err)
{
	CPX_AUTO_FD fd =
		openat(dir, base, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct cpx_rec_file rec = as_file(n);
	struct cpx_rst_file f = { .rec = &rec };
	int rc;

	if (fd < 0)
		return cpx_err_sys(err, errno, "make %s", n->path);
	rc = cpx_rst_file_fill(r, &f, fd, err);
	if (rc == 0)
		cpx_rst_file_dress(r, &rec, fd);
	return rc;
}

static int make_link(struct cpx_rst *r, const struct cpx_rec_mount_node *n, int top, int dir,
		     const char *base, struct cpx_err *err)
{
	const struct cpx_rec_mount_node *of = cpx_state_rec(r->st, mount_node, n->same_as - 1);
	const char *name;
	CPX_AUTO_FD from = -1;

	if (!of || of->mount != n->mount || !of->path)
		return cpx_err_set(err, CPX_E_FORMAT, "%s is another name of nothing", n->path);
	from = parent_of(top, of->path, &name);
	if (from < 0 || linkat(from, name, dir, base, 0) < 0)
		return cpx_err_sys(err, errno, "link %s", n->path);
	return 0;
}

static int make_node(struct cpx_rst *r, const struct cpx_rec_mount_node *n, int top,
		     struct cpx_err *err)
{
	const char *base;
	CPX_AUTO_FD dir = -1;
	int rc;

	if (!n->path)
		return cpx_err_set(err, CPX_E_FORMAT, "a file of a tmpfs has no name");
	dir = parent_of(top, n->path, &base);
	if (dir < 0)
		return cpx_err_sys(err, errno, "directory of %s", n->path);
	if (n->same_as)
		return make_link(r, n, top, dir, base, err);
	if (S_ISREG(n->mode))
		return make_regular(r, n, dir, base, err);
	if (S_ISDIR(n->mode))
		rc = mkdirat(dir, base, 0700);
	else if (S_ISLNK(n->mode))
		rc = symlinkat(n->link ? n->link : "", dir, base);
	else
		rc = mknodat(dir, base, n->mode & (S_IFMT | 07777), (dev_t)n->rdev);
	if (rc < 0)
		return cpx_err_sys(err, errno, "make %s", n->path);
	if (!S_ISDIR(n->mode) && fchownat(dir, base, n->uid, n->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return cpx_err_sys(err, errno, "owner of %s", n->path);
	/* less what our own mask has taken */
	if (!S_ISDIR(n->mode) && !S_ISLNK(n->mode) &&
	    fchmodat(dir, base, n->mode & 07777, 0) < 0)
		return cpx_err_sys(err, errno, "mode of %s", n->path);
	return 0;
}

/* Last, since making what is in it changes its time, and its mode may forbid it. */
static int dress_dir(struct cpx_rst *r, const struct cpx_rec_mount_node *n, int top,
		     struct cpx_err *err)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT },
				 { n->mtime_ns / 1000000000, n->mtime_ns % 1000000000 } };
	struct cpx_rec_file rec = as_file(n);
	CPX_AUTO_FD fd = below(top, n->path, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return cpx_err_sys(err, errno, "%s", n->path);
	cpx_rst_file_dress(r, &rec, fd);
	if (t[1].tv_nsec >= 0)
		futimens(fd, t);
	return 0;
}

static int fill(struct cpx_rst *r, const struct cpx_rst_task *root,
		const struct cpx_rec_mount *m, struct cpx_err *err)
{
	size_t count = cpx_state_count(r->st, CPX_REC_mount_node);
	struct cpx_rec_file top_rec = {
		.path = m->point, .mode = S_IFDIR | m->mode, .uid = m->uid, .gid = m->gid
	};
	struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT };
	struct statx x;
	char path[64];
	int rc = 0;

	/* an absolute link on the way leads from our root, not from the job's */
	snprintf(path, sizeof(path), "/proc/%d/root", root->pid);
	CPX_AUTO_FD in = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CPX_AUTO_FD top =
		in < 0 ? -1 : (int)syscall(SYS_openat2, in, m->point, &how, sizeof(how));
	if (top < 0)
		return cpx_err_sys(err, errno, "%s", m->point);
	if (statx(top, "", AT_EMPTY_PATH, STATX_TYPE, &x) < 0 ||
	    !(x.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return cpx_err_set(err, CPX_E_CONFLICT, "%s is not what was mounted there",
				   m->point);
	cpx_state_each(r->st, mount_node, n)
		if (rc == 0 && n->mount == m->id)
			rc = make_node(r, n, top, err);
	for (size_t i = count; i-- > 0 && rc == 0;) {
		const struct cpx_rec_mount_node *n = cpx_state_rec(r->st, mount_node, i);

		if (n->mount == m->id && S_ISDIR(n->mode))
			rc = dress_dir(r, n, top, err);
	}
	if (rc == 0)
		cpx_rst_file_dress(r, &top_rec, top);
	return rc;
}

/* --- all --------------------------------------------------------------------------------- */

static bool has_files(const struct cpx_rec_mount *m)
{
	return m->kind == CPX_MOUNT_NEW && m->type &&
	       (!strcmp(m->type, "tmpfs") || !strcmp(m->type, "ramfs"));
}

static int make(struct cpx_rst *r, struct cpx_rst_task *root, const struct cpx_rec_mount *m,
		struct cpx_err *err)
{
	struct cpx_tracee *t = &root->threads[0].t;
	uint64_t flags = m->flags & FLAGS_KEPT;
	int rc = 0;

	if (!m->point || m->point[0] != '/')
		return cpx_err_set(err, CPX_E_FORMAT, "a mount has no place");
	if (m->kind == CPX_MOUNT_GONE)
		return take_away(t, m, err);
	if (m->kind == CPX_MOUNT_NEW)
		rc = mount_ok(t, m->source, m->point, m->type, flags & ~(uint64_t)MS_RDONLY,
			      m->data && *m->data ? m->data : NULL, err);
	else if (m->kind == CPX_MOUNT_BIND)
		rc = mount_ok(t, m->source, m->point, NULL, MS_BIND, NULL, err);
	if (rc == 0 && has_files(m))
		rc = fill(r, root, m, err);
	return rc < 0 ? rc
		      : mount_ok(t, NULL, m->point, NULL, MS_REMOUNT | MS_BIND | flags, NULL,
				 err);
}

int cpx_rst_mounts(struct cpx_rst *r, struct cpx_rst_task *root, struct cpx_err *err)
{
	struct cpx_tracee *t = &root->threads[0].t;
	int rc;

	if (!cpx_state_count(r->st, CPX_REC_mount))
		return 0;
	if (!r->opts->trusted)
		return cpx_err_set(err, CPX_E_PERM,
				   "the job had mounts of its own, which only root may make");
	rc = cpx_tok(t, NULL, err, "a mount namespace", SYS_unshare, CLONE_NEWNS);
	if (rc == 0)
		rc = mount_ok(t, NULL, "/", NULL, MS_REC | MS_SLAVE, NULL, err);
	cpx_state_each(r->st, mount, m)
		if (rc == 0)
			rc = make(r, root, m, err);
	return rc;
}
