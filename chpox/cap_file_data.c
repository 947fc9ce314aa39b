/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_file_data.c - the content of files: what is saved, when, and what is only hashed.
 *
 * In the pause: content that the job itself may change (files under the snapshot rule, unlinked
 * files open for writing) is copied into memory; past COPY_MAX it is written to the image
 * while the job waits. If the job does not run on, all reading is late.
 * Late: everything that nobody of the job changes, tails of append files (they only grow, so
 * what lies below the recorded size is as it was), code objects, and the fsync of the job's
 * outputs, which must come before the commit: a file must not be shorter after a crash of the
 * machine than its record says.
 *
 * Files are opened anew from an O_PATH descriptor, never through the job's own, whose locks
 * would then outlive the job's close. The exception is a file with a lease, which an open would
 * break: that one is read through the job's own description, in the pause.
 */
#include "cap_file.h"

#include "../restore/rst_owner.h"
#include "../store/state.h"
#include "base/elf_id.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/xattr.h"
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <xxhash.h>

#define COPY_MAX (256ull << 20) /* bytes of files held in memory */
#define TAIL (64u << 10)
#define CODE_MAX (512ull << 20)
#define PUT_STEP (8u << 20)

static uint64_t round_page(uint64_t n)
{
	return (n + CPX_PAGE - 1) & ~(uint64_t)(CPX_PAGE - 1);
}

static bool needs_content(const struct cpx_cap_file *f)
{
	if (!S_ISREG(f->rec->mode) || f->path_fd < 0)
		return false;
	if (f->rec->rule == CPX_RULE_CODE)
		return false; /* a code object, unlinked or not */
	/* only in case that it is missing */
	if (f->rec->rule == CPX_RULE_VERIFY && f->ephemeral && f->rec->size <= CPX_KEEP_MAX)
		return true;
	if (f->rec->rule == CPX_RULE_APPEND && f->tmpfs && f->rec->size <= CPX_SNAPSHOT_MAX)
		return true;
	return (f->rec->flags & CPX_FILE_UNLINKED) || f->rec->rule == CPX_RULE_SNAPSHOT;
}

/* Will what is there now be something else once the job goes on? (What is appended to, not.) */
static bool may_change(const struct cpx_cap_file *f)
{
	return f->writable &&
	       (f->rec->rule != CPX_RULE_APPEND || (f->rec->flags & CPX_FILE_UNLINKED));
}

static int open_once(const char *path)
{
	int fd = open(path, O_RDONLY | O_NOATIME | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && errno == EPERM)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd;
}

/* A description of our own for reading. A server may trust the owner where it does not root. */
static int open_read(struct cpx_cap *c, const struct cpx_cap_file *f, struct cpx_err *err)
{
	struct cpx_rst_owner o = { .uid = c->opts->owner_uid, .gid = c->opts->owner_gid };
	char path[32];
	int fd, sys;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->path_fd);
	fd = open_once(path);
	sys = errno;
	if (fd < 0 && sys == EACCES && cpx_rst_owner_enter(&o, err) == 0) {
		fd = open_once(path);
		sys = errno;
		cpx_rst_owner_leave(&o);
	}
	cpx_rst_owner_free(&o);
	return fd < 0 ? cpx_err_sys(err, sys, "open %s for saving it", f->rec->path) : fd;
}

static int read_copy(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	const struct cpx_cap_file *f = ctx;

	if (off > f->copy_len || len > f->copy_len - off)
		return cpx_err_set(err, CPX_E_INVAL, "%s: read past its end", f->rec->path);
	memcpy(buf, f->copy + off, len);
	return 0;
}

static int read_file(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	const struct cpx_cap_file *f = ctx;
	ssize_t n = cpx_pread_full(f->read_fd, buf, len, off);

	if (n < 0)
		return cpx_err_sys(err, errno, "read %s", f->rec->path);
	memset((char *)buf + n, 0, len - (size_t)n);
	return 0;
}

/* The next stretch of data at or after @*from, in whole pages. Return: 1, 0 at the end, -1. */
static int next_data(int fd, uint64_t size, uint64_t *from, uint64_t *len)
{
	off_t a = lseek(fd, (off_t)*from, SEEK_DATA), b;

	if (a < 0 && errno == ENXIO)
		return 0;
	if (a < 0) {
		a = (off_t)*from;
		b = (off_t)size;
	} else {
		b = lseek(fd, a, SEEK_HOLE);
		if (b < 0 || (uint64_t)b > size)
			b = (off_t)size;
	}
	if (b <= a)
		return 0;
	*from = (uint64_t)a & ~(uint64_t)(CPX_PAGE - 1);
	*len = round_page((uint64_t)b) - *from;
	return 1;
}

static int copy_in(struct cpx_cap_file *f, int fd, uint64_t off, uint64_t len,
		   struct cpx_err *err)
{
	uint64_t end = off + len < f->rec->size ? off + len : f->rec->size;
	ssize_t n = cpx_pread_full(fd, f->copy + off, end - off, off);

	if (n < 0)
		return cpx_err_sys(err, errno, "read %s", f->rec->path);
	return 0;
}

/* Queue all data of the file; with @copy, from a copy that is made now. */
static int put_data(struct cpx_cap *c, struct cpx_cap_file *f, int fd, bool copy,
		    struct cpx_err *err)
{
	uint64_t off = 0, len = 0;
	int rc = 0;

	while (rc == 0 && off < f->rec->size && next_data(fd, f->rec->size, &off, &len)) {
		if (copy)
			rc = copy_in(f, fd, off, len, err);
		for (uint64_t done = 0; rc == 0 && done < len; done += PUT_STEP) {
			uint64_t n = len - done < PUT_STEP ? len - done : PUT_STEP;

			rc = cpx_image_put(c->writer, f->rec->space, off + done, n,
					   copy ? read_copy : read_file, f, err);
		}
		off += len;
	}
	return rc;
}

int cpx_cap_file_put_fd(struct cpx_cap *c, int fd, const char *path, uint64_t size,
			uint32_t space, struct cpx_err *err)
{
	struct cpx_rec_file rec = { .path = path, .size = size, .space = space };
	struct cpx_cap_file f = { .rec = &rec, .path_fd = -1, .read_fd = fd };
	int rc = put_data(c, &f, fd, false, err);

	/* the queue reads from what is ours for this moment */
	int rc2 = cpx_image_drain(c->writer, rc < 0 ? NULL : err);

	return rc < 0 ? rc : rc2;
}

static int put_leased(struct cpx_cap *c, struct cpx_cap_file *f, struct cpx_err *err)
{
	ssize_t n = cpx_pread_full(f->read_fd, f->copy, f->rec->size, 0);

	if (n < 0)
		return cpx_err_sys(err, errno, "read %s, on which the job has a lease",
				   f->rec->path);
	return cpx_image_put(c->writer, f->rec->space, 0, f->copy_len, read_copy, f, err);
}

/* What is made again with its content gets its attributes as well. */
static int take_space(struct cpx_cap *c, struct cpx_cap_file *f, struct cpx_err *err)
{
	CPX_AUTO_FREE uint8_t *attrs = NULL;
	size_t n = 0;

	f->rec->space = cpx_cap_id(c);
	f->saved = true;
	if (cpx_xattrs_get(f->path_fd, &attrs, &n) < 0)
		return cpx_err_sys(err, errno, "extended attributes of %s", f->rec->path);
	f->rec->xattrs = cpx_state_blob(c->st, attrs, n);
	return n && !f->rec->xattrs.p
		       ? cpx_err_set(err, CPX_E_NOMEM, "no memory for extended attributes")
		       : 0;
}

/* Save in the pause: by a copy in memory, or past the limit while the job waits. */
static int save_now(struct cpx_cap *c, struct cpx_cap_files *p, struct cpx_cap_file *f,
		    struct cpx_err *err)
{
	bool leased = f->rec->flags & CPX_FILE_LEASED;
	CPX_AUTO_FD fd = leased ? -1 : open_read(c, f, err);
	bool copy = leased || p->copied + f->rec->size <= COPY_MAX;
	int rc;

	if (fd < 0 && !leased)
		return fd;
	rc = take_space(c, f, err);
	if (rc < 0 || f->rec->size == 0)
		return rc;
	if (copy) {
		f->copy_len = round_page(f->rec->size);
		f->copy = mmap(NULL, f->copy_len, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (f->copy == MAP_FAILED) {
			f->copy = NULL;
			return cpx_err_set(err, CPX_E_NOMEM, "no memory to save %s",
					   f->rec->path);
		}
		p->copied += f->rec->size;
		return leased ? put_leased(c, f, err) : put_data(c, f, fd, true, err);
	}
	f->read_fd = cpx_steal_fd(&fd);
	rc = put_data(c, f, f->read_fd, false, err);
	return rc < 0 ? rc : cpx_image_drain(c->writer, err);
}

static int save_late(struct cpx_cap *c, struct cpx_cap_file *f, struct cpx_err *err)
{
	int rc = take_space(c, f, err);

	if (rc < 0 || f->rec->size == 0)
		return rc;
	f->read_fd = open_read(c, f, err);
	if (f->read_fd < 0)
		return f->read_fd;
	return put_data(c, f, f->read_fd, false, err);
}

static int hash_tail(struct cpx_cap_file *f, int fd, struct cpx_err *err)
{
	uint64_t size = f->rec->size, off = size > TAIL ? size - TAIL : 0;
	CPX_AUTO_FREE uint8_t *buf = malloc(TAIL);
	ssize_t n;

	if (!buf)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory");
	n = cpx_pread_full(fd, buf, size - off, off);
	if (n < 0)
		return cpx_err_sys(err, errno, "read %s", f->rec->path);
	if ((uint64_t)n != size - off)
		return cpx_err_set(err, CPX_E_BUSY,
				   "%s was cut by somebody while it was being saved",
				   f->rec->path);
	f->rec->tail_off = off;
	f->rec->tail_hash = XXH3_64bits(buf, (size_t)n);
	return 0;
}

static int pause_leased(struct cpx_cap *c, struct cpx_cap_files *p, struct cpx_cap_file *f,
			struct cpx_err *err)
{
	int rc = 0;

	if (needs_content(f))
		rc = save_now(c, p, f, err);
	/* no more than the size is known of a file that can neither be opened nor read */
	f->rec->tail_off = f->rec->size;
	f->rec->tail_hash = XXH3_64bits("", 0);
	cpx_close(&f->read_fd);
	return rc;
}

int cpx_cap_file_pause(struct cpx_cap *c, struct cpx_cap_files *p, struct cpx_err *err)
{
	int rc = 0;

	if (c->dry_run)
		return 0;
	for (struct cpx_cap_file *f = p->list; f && rc == 0; f = f->next) {
		if (f->rec->flags & CPX_FILE_LEASED)
			rc = pause_leased(c, p, f, err);
		else if (needs_content(f) && may_change(f) && c->opts->after == CPX_AFTER_RUN)
			rc = save_now(c, p, f, err);
	}
	return rc;
}

/* Program or library: into the store, and what a restart compares. */
static int save_code(struct cpx_cap *c, struct cpx_cap_file *f, int fd, struct cpx_err *err)
{
	uint8_t sha[32], id[CPX_BUILD_ID_MAX];
	size_t n = cpx_elf_build_id(fd, id);
	int rc;

	if (n) {
		f->rec->build_id = cpx_state_blob(c->st, id, n);
		if (!f->rec->build_id.p)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for files");
	}
	if (f->rec->size > CODE_MAX && !(f->rec->flags & CPX_FILE_UNLINKED)) {
		cpx_log_debug("%s is too large to be kept with the image", f->rec->path);
		return 0;
	}
	rc = cpx_store_put_code(c->opts->store, &c->opts->id, fd, sha, err);
	if (rc < 0)
		return cpx_err_wrap(err, "keep %s", f->rec->path);
	f->rec->sha256 = cpx_state_blob(c->st, sha, sizeof(sha));
	return f->rec->sha256.p ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory for files");
}

static bool outlives_crash(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC;
}

static int late_one(struct cpx_cap *c, struct cpx_cap_file *f, struct cpx_err *err)
{
	CPX_AUTO_FD fd = -1;
	bool code = f->rec->rule == CPX_RULE_CODE;
	bool sync = f->writable && !(f->rec->flags & CPX_FILE_UNLINKED);
	bool tail = f->rec->rule == CPX_RULE_APPEND;
	int rc = 0;

	if (needs_content(f) && !f->saved)
		rc = save_late(c, f, err);
	if (rc < 0 || !(code || sync || tail))
		return rc;
	fd = open_read(c, f, err);
	if (fd == CPX_E_PERM && !code) { /* its size alone is known then */
		f->rec->tail_off = f->rec->size;
		f->rec->tail_hash = XXH3_64bits("", 0);
		return 0;
	}
	if (fd < 0)
		return fd;
	if (code)
		rc = save_code(c, f, fd, err);
	if (tail && rc == 0)
		rc = hash_tail(f, fd, err);
	if (rc == 0 && sync && outlives_crash(fd) && fsync(fd) < 0)
		return cpx_err_sys(err, errno, "make %s durable", f->rec->path);
	return rc;
}

int cpx_cap_file_late(struct cpx_cap *c, struct cpx_cap_files *p, struct cpx_err *err)
{
	int rc = 0;

	for (struct cpx_cap_file *f = p->list; f && rc == 0; f = f->next)
		if (f->path_fd >= 0 && !(f->rec->flags & CPX_FILE_LEASED) &&
		    f->rec->rule != CPX_RULE_IGNORE)
			rc = late_one(c, f, err);
	return rc;
}

/* Take @n bytes out of a fifo without removing them: tee() into a pipe of our own. */
static int peek(struct cpx_cap *c, struct cpx_cap_file *f, int fd, size_t n,
		struct cpx_err *err)
{
	CPX_AUTO_FREE uint8_t *buf = malloc(n);
	int ends[2];
	ssize_t got;

	if (!buf)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the content of %s",
				   f->rec->path);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return cpx_err_sys(err, errno, "a pipe");
	fcntl(ends[1], F_SETPIPE_SZ, (int)f->rec->fifo_size);
	got = tee(fd, ends[1], n, SPLICE_F_NONBLOCK);
	if (got >= 0)
		got = cpx_read_full(ends[0], buf, (size_t)got);
	close(ends[0]);
	close(ends[1]);
	if (got != (ssize_t)n)
		return cpx_err_set(err, CPX_E_IO, "the content of the fifo %s cannot be read",
				   f->rec->path);
	f->rec->fifo_data = cpx_state_blob(c->st, buf, n);
	return f->rec->fifo_data.p ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory for fifos");
}

int cpx_cap_fifo(struct cpx_cap *c, struct cpx_cap_file *f, int fd, struct cpx_err *err)
{
	int acc = fcntl(fd, F_GETFL) & O_ACCMODE, size = fcntl(fd, F_GETPIPE_SZ), n = 0;

	if (size > 0)
		f->rec->fifo_size = (uint32_t)size;
	/* opening a reading end of our own could wake those who wait for a reader */
	if (c->dry_run || acc == O_WRONLY || f->rec->fifo_data.p)
		return 0;
	if (ioctl(fd, FIONREAD, &n) < 0 || n <= 0)
		return 0;
	return peek(c, f, fd, (size_t)n, err);
}
