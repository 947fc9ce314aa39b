/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_mount.c - the mount namespace of a job that was started in one of its own.
 *
 * What it sees is compared with what we see: a mount of the job's alone is made again (proc,
 * tmpfs with what is in it, devpts, bind mounts of what is known), one that it has taken away
 * is taken away again, other flags are set again. Everything else is refused. What a keeper
 * gives a job is not looked at, for it gives it again.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/xattr.h"
#include "cap_file.h"
#include "capture.h"

#define MOUNTS_MAX 16384
#define NODES_MAX 200000
#define DEPTH_MAX 64

/* A line of mountinfo; the strings are in its text. */
struct mnt {
	dev_t dev;
	char *root, *point, *opts, *type, *source, *super;
};

struct table {
	char *text;
	struct mnt *v;
	size_t n;
};

static void table_free(struct table *t)
{
	free(t->text);
	free(t->v);
}

static int nomem(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "no memory for mounts");
}

/* --- reading mountinfo ------------------------------------------------------------------- */

/* \040 and its like, in place. */
static char *unescape(char *s)
{
	char *to = s;

	for (const char *p = s; *p; p++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' &&
		    p[3] >= '0' && p[3] <= '7') {
			*to++ = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 3;
		} else {
			*to++ = *p;
		}
	}
	*to = 0;
	return s;
}

/* "36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/root rw,errors=continue" */
static bool parse_line(char *line, struct mnt *m)
{
	char *f[6], *save = NULL, *rest = strstr(line, " - ");
	unsigned major_nr, minor_nr;

	if (!rest)
		return false;
	*rest = 0;
	for (int i = 0; i < 6; i++) {
		f[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!f[i])
			return false;
	}
	rest += 3;
	m->type = strsep(&rest, " ");
	m->source = strsep(&rest, " "); /* may be empty */
	m->super = strsep(&rest, " ");
	if (!m->super || sscanf(f[2], "%u:%u", &major_nr, &minor_nr) != 2)
		return false;
	m->dev = makedev(major_nr, minor_nr);
	m->root = unescape(f[3]);
	m->point = unescape(f[4]);
	m->opts = f[5];
	unescape(m->source);
	unescape(m->super);
	return true;
}

static int table_read(int dirfd, const char *path, struct table *t, struct cpx_err *err)
{
	char *save = NULL;

	*t = (struct table){ 0 };
	if (cpx_read_file(dirfd, path, 16u << 20, &t->text, err) < 0)
		return cpx_err_wrap(err, "list of mounts");
	t->v = calloc(MOUNTS_MAX, sizeof(*t->v));
	if (!t->v)
		return nomem(err);
	for (char *line = strtok_r(t->text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (t->n == MOUNTS_MAX || !parse_line(line, &t->v[t->n]))
			return cpx_err_set(err, CPX_E_LIMIT,
					   "a list of mounts that is too "
					   "long or not understood");
		t->n++;
	}
	return 0;
}

static const struct mnt *same_in(const struct table *t, const struct mnt *m)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].dev == m->dev && !strcmp(t->v[i].root, m->root) &&
		    !strcmp(t->v[i].point, m->point))
			return &t->v[i];
	return NULL;
}

/* --- one mount --------------------------------------------------------------------------- */

static uint64_t flags_of(const char *opts)
{
	static const struct {
		const char *name;
		uint64_t flag;
	} known[] = {
		{ "ro", MS_RDONLY },	     { "nosuid", MS_NOSUID },
		{ "nodev", MS_NODEV },	     { "noexec", MS_NOEXEC },
		{ "noatime", MS_NOATIME },   { "nodiratime", MS_NODIRATIME },
		{ "relatime", MS_RELATIME },
	};
	uint64_t flags = 0;

	for (const char *p = opts; *p;) {
		size_t n = strcspn(p, ",");

		for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
			if (strlen(known[i].name) == n && !strncmp(p, known[i].name, n))
				flags |= known[i].flag;
		p += n + (p[n] == ',');
	}
	return flags;
}

/* The options of the file system itself that mount() takes. */
static const char *data_of(struct cpx_state *st, const char *super)
{
	const char *p = strchr(super, ',');

	return cpx_state_str(st, p ? p + 1 : "");
}

static bool starts_dir(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strcmp(dir, "/") ||
	       (!strncmp(path, dir, n) && (path[n] == '/' || path[n] == 0));
}

/* Where the root of @m is to be found: in a mount of @t below @n that shows it. */
static const char *bind_source(struct cpx_state *st, const struct table *t, size_t n,
			       const struct mnt *m)
{
	while (n-- > 0) {
		const struct mnt *o = &t->v[n];
		const char *tail = m->root + (strcmp(o->root, "/") ? strlen(o->root) : 0);
		char path[8192];

		if (o->dev != m->dev || !starts_dir(m->root, o->root))
			continue;
		if (!strcmp(tail, "/"))
			tail = "";
		snprintf(path, sizeof(path), "%s%s", strcmp(o->point, "/") ? o->point : "",
			 tail);
		return cpx_state_str(st, *path ? path : "/");
	}
	return NULL;
}

static struct cpx_rec_mount *add(struct cpx_cap *c, const struct mnt *m, uint32_t kind)
{
	struct cpx_rec_mount *rec = cpx_state_new_rec(c->st, mount);

	if (!rec)
		return NULL;
	rec->id = cpx_cap_id(c);
	rec->kind = kind;
	rec->point = cpx_state_str(c->st, m->point);
	rec->type = cpx_state_str(c->st, m->type);
	rec->source = cpx_state_str(c->st, m->source);
	rec->flags = flags_of(m->opts);
	rec->data = data_of(c->st, m->super);
	return rec->point && rec->type && rec->source && rec->data ? rec : NULL;
}

/* --- what is in a tmpfs ------------------------------------------------------------------ */

struct walk {
	struct cpx_cap *c;
	uint32_t mount;
	dev_t dev;
	size_t nodes;
};

static int save_file(struct walk *w, struct cpx_rec_mount_node *rec, int fd,
		     struct cpx_err *err)
{
	rec->space = cpx_cap_id(w->c);
	return cpx_cap_file_put_fd(w->c, fd, rec->path, rec->size, rec->space, err);
}

static int take_attrs(struct walk *w, struct cpx_rec_mount_node *rec, int fd,
		      struct cpx_err *err)
{
	CPX_AUTO_FREE uint8_t *attrs = NULL;
	size_t n = 0;

	if (cpx_xattrs_get(fd, &attrs, &n) < 0)
		return cpx_err_sys(err, errno, "extended attributes of %s", rec->path);
	rec->xattrs = cpx_state_blob(w->c->st, attrs, n);
	return n && !rec->xattrs.p ? nomem(err) : 0;
}

/* Another name of a file that is recorded already: its number, from 1 on; else 0. */
static uint32_t same_inode(const struct walk *w, const struct stat *st)
{
	cpx_state_each(w->c->st, mount_node, n)
		if (st->st_nlink > 1 && S_ISREG(st->st_mode) && n->mount == w->mount &&
		    n->ino == st->st_ino)
			return (uint32_t)i_n + 1;
	return 0;
}

static int add_node(struct walk *w, int dir, const char *name, const char *path,
		    const struct stat *st, struct cpx_err *err)
{
	bool covered = st->st_dev != w->dev; /* something is mounted here */
	uint32_t same = covered ? 0 : same_inode(w, st);
	struct cpx_rec_mount_node *rec = cpx_state_new_rec(w->c->st, mount_node);
	CPX_AUTO_FD fd = -1;
	char to[4096];
	ssize_t n;
	int rc;

	if (!rec || ++w->nodes > NODES_MAX)
		return rec ? cpx_err_set(err, CPX_E_LIMIT, "more than %d files in a tmpfs",
					 NODES_MAX)
			   : nomem(err);
	rec->mount = w->mount;
	rec->path = cpx_state_str(w->c->st, path);
	rec->mode = covered ? (S_ISDIR(st->st_mode) ? S_IFDIR | 0755 : S_IFREG | 0644)
			    : st->st_mode;
	rec->uid = covered ? 0 : st->st_uid;
	rec->gid = covered ? 0 : st->st_gid;
	rec->rdev = st->st_rdev;
	rec->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
	rec->ino = covered ? 0 : st->st_ino;
	rec->same_as = same;
	if (!rec->path)
		return nomem(err);
	if (covered || same)
		return 0;
	if (S_ISLNK(st->st_mode)) {
		n = readlinkat(dir, name, to, sizeof(to) - 1);
		if (n < 0)
			return cpx_err_sys(err, errno, "read the link %s", path);
		to[n] = 0;
		rec->link = cpx_state_str(w->c->st, to);
		return rec->link ? 0 : nomem(err);
	}
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return 0;
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return cpx_err_sys(err, errno, "open %s", path);
	rc = take_attrs(w, rec, fd, err);
	rec->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	return rc == 0 && rec->size ? save_file(w, rec, fd, err) : rc;
}

static int walk_dir(struct walk *w, int dir_fd, const char *at, int depth, struct cpx_err *err)
{
	DIR *d = fdopendir(dir_fd);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		close(dir_fd);
		return cpx_err_sys(err, errno, "read a directory");
	}
	while (rc == 0 && (e = readdir(d))) {
		CPX_AUTO_FREE char *path = NULL;
		struct stat st;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    S_ISSOCK(st.st_mode)) /* bound again with its socket */
			continue;
		if (asprintf(&path, "%s%s%s", at, *at ? "/" : "", e->d_name) < 0) {
			path = NULL;
			rc = nomem(err);
			break;
		}
		rc = add_node(w, dirfd(d), e->d_name, path, &st, err);
		if (rc == 0 && S_ISDIR(st.st_mode) && st.st_dev == w->dev) {
			int sub = openat(dirfd(d), e->d_name,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (sub < 0 || depth == DEPTH_MAX)
				rc = cpx_err_sys(err, sub < 0 ? errno : ELOOP, "%s", path);
			else
				rc = walk_dir(w, sub, path, depth + 1, err);
		}
	}
	closedir(d);
	return rc;
}

static int save_tmpfs(struct cpx_cap *c, struct cpx_cap_task *t, const struct mnt *m,
		      struct cpx_rec_mount *rec, struct cpx_err *err)
{
	struct walk w = { .c = c, .mount = rec->id, .dev = m->dev };
	char path[8192];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "root%s", m->point);
	fd = openat(t->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		cpx_close(&fd);
		return cpx_err_sys(err, errno, "look into the mount %s", m->point);
	}
	if (st.st_dev != m->dev) {
		close(fd);
		return cpx_cap_refuse(c, t, err,
				      "the tmpfs that it has at %s in its own mount namespace "
				      "is hidden by another mount",
				      m->point);
	}
	if (c->dry_run) {
		close(fd);
		return 0;
	}
	rec->mode = st.st_mode & 07777;
	rec->uid = st.st_uid;
	rec->gid = st.st_gid;
	return walk_dir(&w, fd, "", 0, err);
}

/* --- the whole table --------------------------------------------------------------------- */

/* What box.c mounts for a job whose PID 1 is the keeper's. */
static bool given_by_keeper(const struct mnt *m)
{
	return (!strcmp(m->type, "proc") && !strcmp(m->point, "/proc")) ||
	       (!strcmp(m->type, "devpts") &&
		(!strcmp(m->point, "/dev/pts") || !strcmp(m->point, "/dev/ptmx")));
}

/* File systems that are made by their name alone. */
static bool makes_itself(const struct mnt *m)
{
	static const char *const types[] = { "proc",   "sysfs",	  "tmpfs", "devpts",
					     "mqueue", "cgroup2", "ramfs" };

	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (!strcmp(m->type, types[i]))
			return !strcmp(m->root, "/");
	return false;
}

static int take_one(struct cpx_cap *c, struct cpx_cap_task *t, const struct table *job,
		    size_t i, const struct table *host, struct cpx_err *err)
{
	const struct mnt *m = &job->v[i], *was = same_in(host, m);
	const char *from = was ? NULL : bind_source(c->st, job, i, m);
	struct cpx_rec_mount *rec;

	if (was && flags_of(was->opts) == flags_of(m->opts))
		return 0;
	if (c->opts->owner_uid)
		return cpx_cap_refuse(
			c, t, err,
			"'%s' is a mount that it alone sees, in a mount namespace "
			"of its own, which is made again for root's jobs only",
			m->point);
	if (!was && !from)
		from = bind_source(c->st, host, host->n, m);
	if (!was && !from && !makes_itself(m))
		return cpx_cap_refuse(c, t, err,
				      "'%s' is a mount (%s) that it alone sees, in a mount "
				      "namespace of its own, and that cannot be made again",
				      m->point, m->type);
	rec = add(c, m, was ? CPX_MOUNT_FLAGS : from ? CPX_MOUNT_BIND : CPX_MOUNT_NEW);
	if (!rec)
		return nomem(err);
	if (from)
		rec->source = from;
	if (!was && !from && (!strcmp(m->type, "tmpfs") || !strcmp(m->type, "ramfs")))
		return save_tmpfs(c, t, m, rec, err);
	return 0;
}

/* Is the job's root directory what we have for ours? */
static bool same_root(const struct table *job, const struct table *host)
{
	for (size_t i = 0; i < job->n; i++)
		if (!strcmp(job->v[i].point, "/"))
			return same_in(host, &job->v[i]);
	return false;
}

static int compare(struct cpx_cap *c, struct cpx_cap_task *t, const struct table *job,
		   const struct table *host, bool boxed, struct cpx_err *err)
{
	int rc = 0;

	if (!same_root(job, host))
		return boxed ? 0 /* it has changed its root directory */
			     : cpx_cap_refuse(c, t, err,
					      "it is in a mount namespace of its own with "
					      "another root directory (a container), which "
					      "cannot be made again");
	/* what has come to the host since is no business of a job that was given a copy */
	for (size_t i = host->n; i-- > 0 && !boxed && !c->opts->owner_uid;)
		if (!same_in(job, &host->v[i]) && !add(c, &host->v[i], CPX_MOUNT_GONE))
			return nomem(err);
	for (size_t i = 0; i < job->n && rc == 0; i++)
		if (!boxed || !given_by_keeper(&job->v[i]))
			rc = take_one(c, t, job, i, host, err);
	return rc;
}

static bool same_ns(const struct cpx_cap_task *t, const char *path)
{
	struct stat a, b;
	char own[64];

	snprintf(own, sizeof(own), "/proc/thread-self/%s", path);
	return fstatat(t->proc_fd, path, &a, 0) < 0 || stat(own, &b) < 0 ||
	       (a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

int cpx_cap_mounts(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	struct table job __attribute__((cleanup(table_free))) = { 0 };
	struct table host __attribute__((cleanup(table_free))) = { 0 };
	bool boxed = t->ns_pid != 1 && !same_ns(t, "ns/pid");
	struct stat st;
	int rc;

	/* a user's process cannot have changed what its keeper gave it */
	if (same_ns(t, "ns/mnt") || (boxed && fstat(t->proc_fd, &st) == 0 && st.st_uid))
		return 0;
	rc = table_read(t->proc_fd, "mountinfo", &job, err);
	if (rc == 0)
		rc = table_read(AT_FDCWD, "/proc/thread-self/mountinfo", &host, err);
	return rc < 0 ? rc : compare(c, t, &job, &host, boxed, err);
}
