/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_file_apply.c - put the job's files back to what they were at the checkpoint.
 *
 * It happens last, when the whole tree exists and only has to be let go, so that a restore
 * that fails has not touched them. Nothing is ever deleted: what is newer than the
 * checkpoint goes to NAME.rolledback.<epoch>-<sequence>.<random> and is durable there before
 * the file itself is changed, in place: hard links and whoever else has it open see the same
 * file. A file that another process has open for writing is left as it is, and that is said.
 */
#include "rst_file.h"

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "restore.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEP (1u << 20)
#define ASIDE ".rolledback."

/* --- who else writes --------------------------------------------------------------------- */

static bool in_tree(const struct cpx_rst *r, pid_t pid)
{
	for (size_t i = 0; i < r->ntasks; i++)
		if (r->tasks[i].pid == pid)
			return true;
	return pid == getpid();
}

static bool open_for_writing(int proc, const char *number)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[300];
	const char *p;

	snprintf(path, sizeof(path), "fdinfo/%s", number);
	if (cpx_read_file(proc, path, STEP, &text, NULL) < 0)
		return false;
	p = strstr(text, "flags:");
	return p && (strtoul(p + 6, NULL, 8) & O_ACCMODE) != O_RDONLY;
}

static bool process_writes(pid_t pid, const struct stat *want)
{
	char path[64];
	CPX_AUTO_FD proc = -1;
	struct dirent *e;
	bool found = false;
	DIR *d;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = proc < 0 ? -1 : openat(proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		cpx_close(&fd);
		return false;
	}
	while (!found && (e = readdir(d))) {
		struct stat st;

		if (e->d_name[0] != '.' && fstatat(fd, e->d_name, &st, 0) == 0 &&
		    st.st_dev == want->st_dev && st.st_ino == want->st_ino)
			found = open_for_writing(proc, e->d_name);
	}
	closedir(d);
	return found;
}

/* Return: the PID of a process outside the tree that has the file open for writing, or 0. */
static pid_t foreign_writer(const struct cpx_rst *r, const struct stat *st)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t found = 0;

	while (d && !found && (e = readdir(d))) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (pid > 0 && !in_tree(r, pid) && process_writes(pid, st))
			found = pid;
	}
	if (d)
		closedir(d);
	return found;
}

/* --- keeping what is newer --------------------------------------------------------------- */

static int copy_range(int from, int to, uint64_t off, uint64_t end)
{
	CPX_AUTO_FREE uint8_t *buf = malloc(STEP);

	while (buf && off < end) {
		size_t want = end - off < STEP ? (size_t)(end - off) : STEP;
		ssize_t n = cpx_pread_full(from, buf, want, off);

		if (n < 0 || cpx_write_full(to, buf, (size_t)n) < 0)
			return -1;
		if (n == 0)
			break;
		off += (uint64_t)n;
	}
	if (!buf)
		errno = ENOMEM;
	return buf ? 0 : -1;
}

/* The name under which @base is kept: malloc'ed, new each time; NULL: no memory. */
static char *aside_name(struct cpx_rst *r, const char *base)
{
	const struct cpx_gen_id *id = &r->opts->id;
	uint32_t number = 0;
	char *name;

	getrandom(&number, sizeof(number), 0);
	if (asprintf(&name, "%.180s" ASIDE "%" PRIu64 "-%" PRIu64 ".%08x", base, id->epoch,
		     id->seq, number) < 0)
		return NULL;
	return name;
}

/* Copy [@off, @end) of @from aside, durable. As the owner. Return: 0 or an error. */
static int keep_aside(struct cpx_rst *r, struct cpx_rst_file *f, int from, uint64_t off,
		      uint64_t end, struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	CPX_AUTO_FREE char *base = NULL;
	CPX_AUTO_FREE char *name = NULL;
	CPX_AUTO_FD dir = cpx_rst_file_parent(r, f->rec->path, &base, err);
	CPX_AUTO_FD to = -1;
	int rc, sys;

	if (dir < 0)
		return dir;
	name = aside_name(r, base);
	if (!name)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory");
	rc = cpx_rst_owner_enter(&p->owner, err);
	if (rc < 0)
		return rc;
	to = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    f->rec->mode & 0666);
	rc = to < 0 || copy_range(from, to, off, end) < 0 || fsync(to) < 0 ? -1 : 0;
	sys = errno;
	if (rc < 0 && to >= 0)
		unlinkat(dir, name, 0);
	cpx_rst_owner_leave(&p->owner);
	if (rc < 0)
		return cpx_err_sys(err, sys, "keep what is newer in %s as %s", f->rec->path,
				   name);
	cpx_log_note("%s: what was written after the checkpoint (%" PRIu64
		     " bytes) is kept in %s",
		     f->rec->path, end - off, name);
	return 0;
}

static void set_mtime(int fd, int64_t ns)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT },
				 { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 } };

	if (ns >= 0)
		futimens(fd, t);
}

/* --- append ------------------------------------------------------------------------------ */

/* Descriptors that wrote at the end of a file that has grown go on at its end. */
static void follow_end(struct cpx_rst *r, const struct cpx_rst_file *f)
{
	struct cpx_rst_files *p = r->files_priv;

	for (size_t i = 0; i < p->nofds; i++) {
		const struct cpx_rec_ofd *o = p->ofds[i].rec;

		if (o->kind == CPX_OFD_FILE && o->object == f->rec->id && p->ofds[i].fd >= 0 &&
		    o->pos == f->rec->size && (o->flags & O_ACCMODE) == O_WRONLY)
			lseek(p->ofds[i].fd, 0, SEEK_END);
	}
}

static int leave(struct cpx_rst *r, struct cpx_rst_file *f, const char *why)
{
	f->left = true;
	cpx_log_note("%s is left as it is: %s", f->rec->path, why);
	follow_end(r, f);
	return 0;
}

static int apply_append(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	CPX_AUTO_FD fd = -1;
	struct cpx_err local = { 0 };
	char why[128];
	struct stat st;
	pid_t other;
	int rc;

	if (fstat(f->path_fd, &st) < 0)
		return cpx_err_sys(err, errno, "%s", f->rec->path);
	if ((uint64_t)st.st_size <= f->rec->size)
		return 0;
	other = foreign_writer(r, &st);
	if (other) {
		snprintf(why, sizeof(why), "process %d has it open for writing", other);
		return leave(r, f, why);
	}
	fd = cpx_rst_file_reopen(r, f, O_RDWR, err);
	if (fd < 0)
		return fd;
	rc = keep_aside(r, f, fd, f->rec->size, (uint64_t)st.st_size, &local);
	if (rc == CPX_E_PERM || local.sys == EROFS)
		return leave(r, f, local.msg);
	if (rc < 0)
		return cpx_err_set(err, rc, "%s", local.msg);
	if (ftruncate(fd, (off_t)f->rec->size) < 0)
		return cpx_err_sys(err, errno, "cut %s back to %" PRIu64 " bytes", f->rec->path,
				   f->rec->size);
	set_mtime(fd, f->rec->mtime_ns);
	return 0;
}

/* --- snapshot ---------------------------------------------------------------------------- */

/* Return: 1 the content of @fd is the saved one, 0 it is not, or an error. */
static int same_content(struct cpx_rst *r, struct cpx_rst_file *f, int fd, struct cpx_err *err)
{
	CPX_AUTO_FREE uint8_t *is = malloc(STEP);
	CPX_AUTO_FREE uint8_t *was = malloc(STEP);
	const struct cpx_rec_file *rec = f->rec;

	if (!is || !was)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory");
	for (uint64_t off = 0; off < rec->size; off += STEP) {
		size_t n = rec->size - off < STEP ? (size_t)(rec->size - off) : STEP;
		int rc = cpx_image_read(r->img, rec->space, off, was, n, err);

		if (rc < 0)
			return rc;
		if (cpx_pread_full(fd, is, n, off) != (ssize_t)n || memcmp(is, was, n) != 0)
			return 0;
	}
	return 1;
}

/* Write what differs: the same inode, and no page more than needed. */
static int put_back(struct cpx_rst *r, struct cpx_rst_file *f, int fd, struct cpx_err *err)
{
	CPX_AUTO_FREE uint8_t *is = malloc(STEP);
	CPX_AUTO_FREE uint8_t *was = malloc(STEP);
	const struct cpx_rec_file *rec = f->rec;

	if (!is || !was)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory");
	if (ftruncate(fd, (off_t)rec->size) < 0)
		return cpx_err_sys(err, errno, "set the size of %s", rec->path);
	for (uint64_t off = 0; off < rec->size; off += STEP) {
		size_t n = rec->size - off < STEP ? (size_t)(rec->size - off) : STEP;
		int rc = cpx_image_read(r->img, rec->space, off, was, n, err);

		if (rc < 0)
			return rc;
		if (cpx_pread_full(fd, is, n, off) == (ssize_t)n && memcmp(is, was, n) == 0)
			continue;
		if (pwrite(fd, was, n, (off_t)off) != (ssize_t)n)
			return cpx_err_sys(err, errno, "write %s", rec->path);
	}
	set_mtime(fd, rec->mtime_ns);
	return 0;
}

static int apply_snapshot(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	CPX_AUTO_FD fd = -1;
	char why[128];
	struct stat st;
	pid_t other;
	int rc;

	if (f->rec->space == 0)
		return cpx_err_set(err, CPX_E_FORMAT, "the image does not hold %s",
				   f->rec->path);
	fd = cpx_rst_file_reopen(r, f, O_RDWR, err);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return cpx_err_sys(err, errno, "%s", f->rec->path);
	if ((uint64_t)st.st_size == f->rec->size) {
		rc = same_content(r, f, fd, err);
		if (rc != 0)
			return rc < 0 ? rc : 0;
	}
	other = foreign_writer(r, &st);
	if (other) {
		snprintf(why, sizeof(why), "process %d has it open for writing", other);
		return leave(r, f, why);
	}
	rc = st.st_size ? keep_aside(r, f, fd, 0, (uint64_t)st.st_size, err) : 0;
	return rc < 0 ? rc : put_back(r, f, fd, err);
}

/* --- companions -------------------------------------------------------------------------- */

static bool known_path(struct cpx_rst *r, const char *dir_of, const char *name)
{
	struct cpx_rst_files *p = r->files_priv;
	size_t n = (size_t)(strrchr(dir_of, '/') - dir_of) + 1;

	for (size_t i = 0; i < p->nfiles; i++) {
		const char *path = p->files[i].rec->path;

		if (path && strncmp(path, dir_of, n) == 0 && strcmp(path + n, name) == 0)
			return true;
	}
	return false;
}

/* Has the regular file come into being since the checkpoint, and does nobody write to it? */
static bool is_newborn(struct cpx_rst *r, int dir, const char *name)
{
	const struct cpx_rec_host *h = cpx_state_rec(r->st, host, 0);
	struct statx x;
	struct stat st;

	if (statx(dir, name, AT_SYMLINK_NOFOLLOW, STATX_BTIME | STATX_TYPE, &x) < 0 ||
	    !(x.stx_mask & STATX_BTIME) || !S_ISREG(x.stx_mode) || !h)
		return false;
	if (x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec <= h->realtime_ns)
		return false;
	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !foreign_writer(r, &st);
}

/*
 * NAME-journal, NAME-wal and their like: a program that keeps such a file beside another one
 * takes it for part of it. One that is younger than the checkpoint would tell it of changes
 * that have just been taken back, so it goes aside with them.
 */
static int companions(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	CPX_AUTO_FREE char *base = NULL;
	CPX_AUTO_FD dir = cpx_rst_file_parent(r, f->rec->path, &base, err);
	int fd, rc = dir < 0 ? dir : cpx_rst_owner_enter(&p->owner, err);
	struct dirent *e;
	size_t n;
	DIR *d;

	if (rc < 0)
		return rc;
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		cpx_close(&fd); /* a directory that cannot be listed: nothing is known of it */
	n = strlen(base);
	/* who writes to it can only be seen with our own rights */
	cpx_rst_owner_leave(&p->owner);
	while (d && rc == 0 && (e = readdir(d))) {
		CPX_AUTO_FREE char *to = NULL;

		if (strncmp(e->d_name, base, n) != 0 || e->d_name[n] != '-' ||
		    strstr(e->d_name, ASIDE) || known_path(r, f->rec->path, e->d_name) ||
		    !is_newborn(r, dir, e->d_name))
			continue;
		to = aside_name(r, e->d_name);
		rc = cpx_rst_owner_enter(&p->owner, err);
		if (to && rc == 0 && renameat2(dir, e->d_name, dir, to, RENAME_NOREPLACE) == 0)
			cpx_log_note("%s, made after the checkpoint beside %s, is kept as %s",
				     e->d_name, f->rec->path, to);
		cpx_rst_owner_leave(&p->owner);
	}
	if (d)
		closedir(d);
	return rc;
}

/* Is it a file of the node that is put back? Not what was made out of the image. */
static bool is_put_back(const struct cpx_rst_file *f)
{
	return S_ISREG(f->rec->mode) && f->path_fd >= 0 && !f->ours;
}

static int no_sink(void *ctx, uint32_t space, uint64_t off, const void *data, size_t len,
		   struct cpx_err *err)
{
	(void)ctx, (void)space, (void)off, (void)data, (void)len, (void)err;
	return 0;
}

/* All saved contents are read and checked before the first file is changed. */
static int check_contents(struct cpx_rst *r, struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	CPX_AUTO_FREE struct cpx_extent *x = calloc(p->nfiles + 1, sizeof(*x));
	size_t n = 0;

	if (!x)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory");
	for (size_t i = 0; i < p->nfiles; i++) {
		const struct cpx_rec_file *rec = p->files[i].rec;

		if (!is_put_back(&p->files[i]) || rec->rule != CPX_RULE_SNAPSHOT ||
		    rec->space == 0 || rec->size == 0)
			continue;
		if (rec->size > INT64_MAX - CPX_PAGE)
			return cpx_err_set(err, CPX_E_FORMAT, "file record %u is damaged",
					   rec->id);
		x[n].space = rec->space;
		x[n++].len = (rec->size + CPX_PAGE - 1) & ~(uint64_t)(CPX_PAGE - 1);
	}
	return n ? cpx_image_scan(r->img, x, n, r->opts->workers, no_sink, NULL, err) : 0;
}

/* A rehearsal: what would be done, and not more. */
static int rehearse_one(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	const struct cpx_rec_file *rec = f->rec;
	CPX_AUTO_FD fd = -1;
	struct stat st;
	int rc = 0;

	if (fstat(f->path_fd, &st) < 0)
		return cpx_err_sys(err, errno, "%s", rec->path);
	if (rec->rule == CPX_RULE_APPEND) {
		if ((uint64_t)st.st_size > rec->size)
			cpx_log_note("%s would be cut back from %llu to %llu bytes, the rest "
				     "kept aside",
				     rec->path, (unsigned long long)st.st_size,
				     (unsigned long long)rec->size);
		return 0;
	}
	if (rec->space == 0)
		return cpx_err_set(err, CPX_E_FORMAT, "the image does not hold %s", rec->path);
	fd = cpx_rst_file_reopen(r, f, O_RDWR, err);
	if (fd < 0)
		return fd;
	if ((uint64_t)st.st_size == rec->size)
		rc = same_content(r, f, fd, err);
	if (rc == 0)
		cpx_log_note("the content of %s would be put back, what is there kept aside",
			     rec->path);
	return rc < 0 ? rc : 0;
}

static int rehearse(struct cpx_rst *r, struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	int rc = 0;

	for (size_t i = 0; i < p->nfiles && rc == 0; i++)
		if (is_put_back(&p->files[i]) && (p->files[i].rec->rule == CPX_RULE_APPEND ||
						  p->files[i].rec->rule == CPX_RULE_SNAPSHOT))
			rc = rehearse_one(r, &p->files[i], err);
	return rc;
}

int cpx_rst_file_apply(struct cpx_rst *r, struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	int rc;

	if (p->applied)
		return 0;
	p->applied = true;
	rc = check_contents(r, err);
	if (r->opts->rehearse)
		return rc < 0 ? rc : rehearse(r, err);
	for (size_t i = 0; i < p->nfiles && rc == 0; i++) {
		struct cpx_rst_file *f = &p->files[i];

		if (!is_put_back(f))
			continue;
		if (f->rec->rule == CPX_RULE_APPEND)
			rc = apply_append(r, f, err);
		else if (f->rec->rule == CPX_RULE_SNAPSHOT)
			rc = apply_snapshot(r, f, err);
		if (rc == 0 && f->rec->rule == CPX_RULE_SNAPSHOT &&
		    !(f->rec->flags & CPX_FILE_UNLINKED) && !f->left)
			rc = companions(r, f, err);
	}
	return rc;
}
