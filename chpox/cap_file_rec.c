/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_file_rec.c - file records: which file it is, by which name a restart finds it, and what
 * shall happen to its content.
 *
 * One record stands for one (device, inode, path). The name is what the kernel says now, so a
 * renamed file is right; it is believed only if looking it up from the job's root leads to the
 * same inode. If not, the file either has no name any more ("(deleted)": its content is saved)
 * or cannot be reached by the job itself (refused).
 */
#include "cap_file.h"

#include "../store/state.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#define DELETED " (deleted)"

#ifndef BPF_FS_MAGIC
#define BPF_FS_MAGIC 0xcafe4a11
#endif
#ifndef CGROUP2_SUPER_MAGIC
#define CGROUP2_SUPER_MAGIC 0x63677270
#endif
#ifndef CONFIGFS_MAGIC
#define CONFIGFS_MAGIC 0x62656570
#endif
#ifndef DMA_BUF_MAGIC
#define DMA_BUF_MAGIC 0x444d4142
#endif
#ifndef SECRETMEM_MAGIC
#define SECRETMEM_MAGIC 0x5345434d
#endif

struct key_node {
	uint64_t dev, ino;
	const char *text; /* the link as /proc gives it */
	struct cpx_cap_file *file;
};

static int cmp_key(const void *pa, const void *pb)
{
	const struct key_node *a = pa, *b = pb;

	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return strcmp(a->text, b->text);
}

static bool same_ns(pid_t pid, const char *ns)
{
	char path[64];
	struct stat a, b;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, ns);
	if (stat(path, &a) < 0)
		return true;
	snprintf(path, sizeof(path), "/proc/self/ns/%s", ns);
	return stat(path, &b) < 0 || (a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

/*
 * Where the job's paths start. In our own mount namespace it is our root, also for a job that
 * has changed its root directory: /proc shows paths from our root then.
 */
static int job_root(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_cap_files *p = c->files_priv;
	char path[64] = "/";

	if (p->root_fd >= 0)
		return p->root_fd;
	if (!same_ns(c->tasks[0]->pid, "mnt"))
		snprintf(path, sizeof(path), "/proc/%d/root", c->tasks[0]->pid);
	p->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->root_fd < 0)
		return cpx_err_sys(err, errno, "the job's root directory");
	return p->root_fd;
}

static bool leads_to(int root, const char *path, const struct stat *want)
{
	struct stat st;

	if (path[0] != '/')
		return false;
	while (*path == '/')
		path++;
	if (fstatat(root, *path ? path : ".", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	return st.st_dev == want->st_dev && st.st_ino == want->st_ino;
}

/* Files of the kernel: what is in them is not the job's, and cannot be put back. */
static bool kernel_fs(int fd, uint32_t *flags)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	switch ((uint32_t)fs.f_type) {
	case PROC_SUPER_MAGIC:
		*flags |= CPX_FILE_PROC;
		return true;
	case SYSFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
	case SECURITYFS_MAGIC:
	case SELINUX_MAGIC:
	case CONFIGFS_MAGIC:
	case BPF_FS_MAGIC:
	case DEVPTS_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

static int take_handle(struct cpx_cap *c, int fd, struct cpx_rec_file *r)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	int mnt;

	memset(&u, 0, sizeof(u));
	u.h.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(fd, "", &u.h, &mnt, AT_EMPTY_PATH) < 0)
		return 0; /* this file system has none; the content is saved anyway */
	r->handle_type = (uint32_t)u.h.handle_type;
	r->handle = cpx_state_blob(c->st, u.h.f_handle, u.h.handle_bytes);
	return r->handle.p ? 0 : CPX_E_NOMEM;
}

/* Path and flags of a record. Return: 1, 0 if it was refused in a dry run, or an error. */
static int name_it(struct cpx_cap *c, struct cpx_cap_task *t, int fd, const char *text,
		   const struct stat *st, struct cpx_rec_file *r, struct cpx_err *err)
{
	size_t n = strlen(text), d = strlen(DELETED);
	int root = job_root(c, err);
	char *cut;

	if (root < 0)
		return root;
	r->path = cpx_state_str(c->st, text);
	if (!r->path)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for file names");
	if (leads_to(root, text, st) || (r->flags & CPX_FILE_PROC))
		return 1;
	if (n > d && strcmp(text + n - d, DELETED) == 0) {
		cut = cpx_state_alloc(c->st, n - d + 1);
		if (!cut)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for file names");
		memcpy(cut, text, n - d);
		r->path = cut;
		if (leads_to(root, cut, st)) /* linked back meanwhile */
			return 1;
		r->flags |= CPX_FILE_UNLINKED;
		if (st->st_nlink == 0 || S_ISDIR(st->st_mode))
			return 1;
		r->flags |= CPX_FILE_LINKED;
		return take_handle(c, fd, r) < 0
			       ? cpx_err_set(err, CPX_E_NOMEM, "no memory for files")
			       : 1;
	}
	if (c->dry_run && access("/proc/self", F_OK) == 0 && st->st_nlink == 0)
		return 0; /* removed while we were looking */
	return cpx_cap_refuse(
		c, t, err,
		"'%s' cannot be reached by that name from the job's root directory "
		"(hidden by a mount, or of another mount namespace)",
		text);
}

static void describe(struct cpx_cap_file *f, const struct stat *st)
{
	struct cpx_rec_file *r = f->rec;

	r->mode = st->st_mode;
	r->uid = st->st_uid;
	r->gid = st->st_gid;
	r->dev = st->st_dev;
	r->ino = st->st_ino;
	r->rdev = st->st_rdev;
	r->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	r->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
	r->atime_ns = (int64_t)st->st_atim.tv_sec * 1000000000 + st->st_atim.tv_nsec;
	r->rule = CPX_RULE_IGNORE;
}

/* When the root of the job was started, in real time; INT64_MAX if that cannot be told. */
static int64_t job_start(struct cpx_cap *c)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *p;
	long ticks = sysconf(_SC_CLK_TCK);
	uint64_t at = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", c->tasks[0]->pid);
	if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return INT64_MAX;
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p || ticks <= 0 || sscanf(p, " %" SCNu64, &at) != 1)
		return INT64_MAX;
	return cpx_clock_ns(CLOCK_REALTIME) - cpx_boot_ns() +
	       (int64_t)(at * (1000000000ull / (uint64_t)ticks));
}

/* Does the file live in memory, and has the job made it since it was started? */
static void where_from(struct cpx_cap *c, struct cpx_cap_file *f, int fd, const struct stat *st)
{
	struct cpx_cap_files *p = c->files_priv;
	struct statfs fs;

	f->tmpfs =
		fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
	if (!p->start_ns)
		p->start_ns = job_start(c);
	f->ephemeral =
		f->tmpfs ||
		(int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec > p->start_ns;
}

static int take_link(struct cpx_cap *c, int fd, struct cpx_rec_file *r, struct cpx_err *err)
{
	char to[4200];
	ssize_t n = readlinkat(fd, "", to, sizeof(to) - 1);

	if (n < 0)
		return cpx_err_sys(err, errno, "read the link %s", r->path);
	to[n] = 0;
	r->link = cpx_state_str(c->st, to);
	return r->link ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory for file names");
}

static int index_it(struct cpx_cap_files *p, struct cpx_cap_file *f, struct cpx_err *err)
{
	if (f->rec->id >= p->ids) {
		size_t n = (size_t)f->rec->id * 2 + 64;
		void *v = realloc(p->by_id, n * sizeof(p->by_id[0]));

		if (!v) {
			cpx_close(&f->path_fd);
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for files");
		}
		p->by_id = v;
		memset(p->by_id + p->ids, 0, (n - p->ids) * sizeof(p->by_id[0]));
		p->ids = n;
	}
	p->by_id[f->rec->id] = f;
	return 0;
}

static int make(struct cpx_cap *c, struct cpx_cap_task *t, int fd, const struct stat *st,
		const char *text, struct cpx_cap_file **out, struct cpx_err *err)
{
	struct cpx_cap_files *p = c->files_priv;
	CPX_AUTO_FREE struct cpx_cap_file *f = calloc(1, sizeof(*f));
	bool kernel;
	int rc;

	if (f)
		f->rec = cpx_state_new_rec(c->st, file);
	if (!f || !f->rec)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for files");
	f->path_fd = f->read_fd = -1;
	f->rec->id = cpx_cap_id(c);
	describe(f, st);
	kernel = kernel_fs(fd, &f->rec->flags);
	rc = name_it(c, t, fd, text, st, f->rec, err);
	if (rc <= 0)
		return rc;
	if (S_ISLNK(st->st_mode)) {
		rc = take_link(c, fd, f->rec, err);
		if (rc < 0)
			return rc;
	}
	if (S_ISREG(st->st_mode) && !kernel) {
		char path[32];

		f->rec->rule = CPX_RULE_VERIFY;
		where_from(c, f, fd, st);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		f->path_fd = open(path, O_PATH | O_CLOEXEC);
		if (f->path_fd < 0)
			return cpx_err_sys(err, errno, "%s", text);
	}
	rc = index_it(p, f, err);
	if (rc < 0)
		return rc;
	*p->tail = f;
	p->tail = &f->next;
	*out = cpx_steal_ptr(&f);
	return 1;
}

/* *@out is NULL after a refusal in a dry run. */
int cpx_cap_file_get(struct cpx_cap *c, struct cpx_cap_task *t, int fd, const char *link_text,
		     struct cpx_cap_file **out, struct cpx_err *err)
{
	struct cpx_cap_files *p = c->files_priv;
	CPX_AUTO_FREE struct key_node *n = calloc(1, sizeof(*n));
	struct key_node **found;
	struct statfs fs;
	struct stat st;
	int rc;

	*out = NULL;
	if (!n)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for files");
	if (fstat(fd, &st) < 0)
		return cpx_err_sys(err, errno, "%s", link_text);
	*n = (struct key_node){ st.st_dev, st.st_ino, link_text, NULL };
	found = tfind(n, &p->by_key, cmp_key);
	if (found) {
		*out = (*found)->file;
		return 0;
	}
	if (S_ISREG(st.st_mode) && fstatfs(fd, &fs) == 0 &&
	    ((uint32_t)fs.f_type == DMA_BUF_MAGIC || (uint32_t)fs.f_type == SECRETMEM_MAGIC))
		return cpx_cap_refuse(c, t, err, "'%s' is memory that cannot be saved",
				      link_text);
	rc = make(c, t, fd, &st, link_text, out, err);
	if (rc <= 0)
		return rc;
	n->text = cpx_state_str(c->st, link_text);
	n->file = *out;
	if (!n->text || !tsearch(n, &p->by_key, cmp_key))
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for files");
	cpx_steal_ptr(&n);
	return 0;
}

int cpx_cap_file_of_fd(struct cpx_cap *c, struct cpx_cap_task *t, int fd, const char *link_text,
		       uint32_t *id, struct cpx_err *err)
{
	struct cpx_cap_file *f;
	int rc = cpx_cap_file_get(c, t, fd, link_text, &f, err);

	if (rc < 0)
		return rc;
	*id = f ? f->rec->id : 0;
	return 0;
}

/* Rules by how much they ask for; a file follows the strictest that one of its users needs. */
static int strictness(uint32_t rule)
{
	switch (rule) {
	case CPX_RULE_VERIFY:
		return 1;
	case CPX_RULE_CODE:
		return 2;
	case CPX_RULE_APPEND:
		return 3;
	case CPX_RULE_SNAPSHOT:
		return 4;
	default:
		return 0;
	}
}

static void raise_rule(struct cpx_cap_file *f, uint32_t rule)
{
	/* CPX_RULE_IGNORE at first means a kind of file that no rule fits */
	if (f->rec->rule != CPX_RULE_IGNORE && strictness(rule) > strictness(f->rec->rule))
		f->rec->rule = rule;
	if (rule == CPX_RULE_SNAPSHOT || rule == CPX_RULE_APPEND)
		f->writable = true;
}

int cpx_cap_file_rule(struct cpx_cap *c, uint32_t file_id, uint32_t rule, struct cpx_err *err)
{
	struct cpx_cap_files *p = c->files_priv;

	if (file_id < p->ids && p->by_id[file_id]) {
		raise_rule(p->by_id[file_id], rule);
		return 0;
	}
	if (c->dry_run)
		return 0;
	return cpx_err_set(err, CPX_E_NOENT, "no file record %u", file_id);
}

void cpx_cap_file_opened(struct cpx_cap_file *f, uint32_t flags, uint64_t pos)
{
	uint32_t acc = flags & O_ACCMODE;

	if (acc == O_RDONLY)
		return;
	if ((flags & O_APPEND) || (acc == O_WRONLY && pos == f->rec->size)) {
		raise_rule(f, CPX_RULE_APPEND);
		return;
	}
	if (f->rec->size <= CPX_SNAPSHOT_MAX || f->tmpfs) {
		raise_rule(f, CPX_RULE_SNAPSHOT);
		return;
	}
	if (!(f->rec->flags & CPX_FILE_UNLINKED) && f->rec->rule != CPX_RULE_SNAPSHOT)
		cpx_log_note(
			"%s is larger than %u MiB and open for writing in place: its size is "
			"kept, not its content",
			f->rec->path, CPX_SNAPSHOT_MAX >> 20);
	raise_rule(f, CPX_RULE_APPEND);
}

void cpx_cap_file_free_all(struct cpx_cap_files *p)
{
	while (p->list) {
		struct cpx_cap_file *f = p->list;

		p->list = f->next;
		if (f->copy)
			munmap(f->copy, f->copy_len);
		cpx_close(&f->read_fd);
		cpx_close(&f->path_fd);
		free(f);
	}
	p->tail = &p->list;
	tdestroy(p->by_key, free);
	p->by_key = NULL;
	free(p->by_id);
	p->by_id = NULL;
	p->ids = 0;
}
