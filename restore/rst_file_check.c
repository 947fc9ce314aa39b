/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_file_check.c - are the files such that the job can go on with them? The plan: nothing
 * is changed here.
 *
 * A file that is shorter than recorded, or another before that point, has lost what the job
 * relies on: CPX_E_GONE, and the caller tries an older generation. A file that the job only
 * reads must be as it was: CPX_E_CONFLICT, or a note with opts->force.
 */
#include "rst_file.h"

#include "../chpox/base/elf_id.h"
#include "../chpox/base/err.h"
#include "../chpox/base/digest.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "restore.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define TAIL_MAX (1u << 20)
#define HASH_STEP (1u << 20)

static int64_t mtime_of(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static int objection(struct cpx_rst *r, struct cpx_err *err, int code, const char *why,
		     const char *path)
{
	if (r->opts->force) {
		cpx_log_note("%s %s; going on as told", path, why);
		return 0;
	}
	return cpx_err_set(err, code, "%s %s%s", path, why,
			   code == CPX_E_CONFLICT
				   ? "; put the old one back, or restore with --force"
				   : "");
}

static int check_tail(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	const struct cpx_rec_file *rec = f->rec;
	uint64_t len = rec->size - rec->tail_off;
	CPX_AUTO_FREE uint8_t *buf = NULL;
	CPX_AUTO_FD fd = -1;

	if (rec->tail_off > rec->size || len > TAIL_MAX)
		return cpx_err_set(err, CPX_E_FORMAT, "file record %u is damaged", rec->id);
	if (len == 0)
		return 0;
	buf = malloc(len);
	if (!buf)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory");
	fd = cpx_rst_file_reopen(r, f, O_RDONLY | O_NONBLOCK, err);
	if (fd == CPX_E_PERM) /* it may be written, not read: then only its size counts */
		return 0;
	if (fd < 0)
		return fd;
	if (cpx_pread_full(fd, buf, len, rec->tail_off) == (ssize_t)len &&
	    XXH3_64bits(buf, len) == rec->tail_hash)
		return 0;
	return objection(r, err, CPX_E_GONE,
			 "is no longer what the job had written before the checkpoint",
			 rec->path);
}

static int check_append(struct cpx_rst *r, struct cpx_rst_file *f, const struct stat *st,
			struct cpx_err *err)
{
	char why[160];

	if ((uint64_t)st->st_size >= f->rec->size)
		return check_tail(r, f, err);
	snprintf(why, sizeof(why),
		 "has %" PRIu64 " bytes where the checkpoint knows of %" PRIu64
		 ": data was lost",
		 (uint64_t)st->st_size, f->rec->size);
	return objection(r, err, CPX_E_GONE, why, f->rec->path);
}

static int check_verify(struct cpx_rst *r, struct cpx_rst_file *f, const struct stat *st,
			struct cpx_err *err)
{
	if ((uint64_t)st->st_size == f->rec->size && mtime_of(st) == f->rec->mtime_ns)
		return 0;
	return objection(
		r, err, CPX_E_CONFLICT,
		"has changed since the checkpoint, and the job has it open for reading",
		f->rec->path);
}

/* Return: 1 equal, 0 not, or an error. */
static int same_sha256(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	CPX_AUTO_FD fd = cpx_rst_file_reopen(r, f, O_RDONLY | O_NONBLOCK, err);
	CPX_AUTO_FREE uint8_t *buf = malloc(HASH_STEP);
	struct cpx_sha256 *sha = NULL;
	uint8_t is[CPX_SHA256_SIZE];
	ssize_t n = 0;
	int rc;

	if (fd < 0)
		return 0;
	rc = buf ? cpx_sha256_new(&sha, err)
		 : cpx_err_set(err, CPX_E_NOMEM, "no memory to hash %s", f->rec->path);
	while (rc == 0 && (n = cpx_read_full(fd, buf, HASH_STEP)) > 0)
		rc = cpx_sha256_add(sha, buf, (size_t)n, err);
	if (rc == 0 && n < 0)
		rc = cpx_err_sys(err, errno, "read %s", f->rec->path);
	if (rc == 0)
		rc = cpx_sha256_end(sha, is, err);
	cpx_sha256_free(sha);
	return rc < 0 ? rc : memcmp(is, f->rec->sha256.p, sizeof(is)) == 0;
}

/* Is the node's program or library the one that the job has mapped? 1, 0, or an error. */
static int code_agrees(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	uint8_t id[CPX_BUILD_ID_MAX];
	const struct cpx_rec_file *rec = f->rec;
	struct stat st;
	size_t n;

	if (fstat(f->path_fd, &st) < 0)
		return cpx_err_sys(err, errno, "%s", rec->path);
	if ((uint64_t)st.st_size != rec->size)
		return 0;
	if (st.st_ino == rec->ino && mtime_of(&st) == rec->mtime_ns)
		return 1;
	if (rec->build_id.n) {
		CPX_AUTO_FD fd = cpx_rst_file_reopen(r, f, O_RDONLY | O_NONBLOCK, NULL);

		n = fd < 0 ? 0 : cpx_elf_build_id(fd, id);
		if (n != rec->build_id.n || memcmp(id, rec->build_id.p, n) != 0)
			return 0;
	}
	if (rec->sha256.n == 32)
		return same_sha256(r, f, err);
	return rec->build_id.n || mtime_of(&st) == rec->mtime_ns;
}

static int check_code(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	const struct cpx_rec_file *rec = f->rec;
	int rc, fd;

	if (rec->flags & CPX_FILE_UNLINKED)
		return 0; /* made again when it is opened */
	rc = cpx_rst_file_find(r, f, err);
	if (rc < 0 && rc != CPX_E_NOENT)
		return rc;
	if (rc == 0) {
		rc = code_agrees(r, f, err);
		if (rc != 0)
			return rc < 0 ? rc : 0;
	}
	if (rec->sha256.n != 32)
		return objection(r, err, CPX_E_CONFLICT,
				 "is not the one that the job had mapped (another version is "
				 "installed), and the image does not hold it",
				 rec->path);
	fd = cpx_store_get_code(r->opts->store, rec->sha256.p, NULL, err);
	if (fd < 0)
		return cpx_err_wrap(err, "%s", rec->path);
	cpx_log_debug("%s comes from the image: this node's is another one", rec->path);
	cpx_close(&f->path_fd);
	f->path_fd = fd;
	f->ours = true;
	return 0;
}

static int missing(struct cpx_rst *r, struct cpx_rst_file *f, int rc, struct cpx_err *err)
{
	(void)r;
	if (f->rec->rule == CPX_RULE_SNAPSHOT || S_ISFIFO(f->rec->mode) || f->rec->space)
		return 0; /* made again when it is opened */
	if (f->rec->rule == CPX_RULE_APPEND) {
		rc = CPX_E_GONE;
		return cpx_err_set(err, rc, "%s is missing: what the job had written is lost",
				   f->rec->path);
	}
	return rc;
}

/* Will a mount of the job's own stand over it? Then it is made with that, and not here yet. */
static bool in_own_mount(const struct cpx_rst *r, const char *path)
{
	cpx_state_each(r->st, mount, m) {
		size_t n = m->point ? strlen(m->point) : 0;

		if (n > 1 && (m->kind == CPX_MOUNT_NEW || m->kind == CPX_MOUNT_BIND) &&
		    !strncmp(path, m->point, n) && (path[n] == '/' || !path[n]))
			return true;
	}
	return false;
}

int cpx_rst_file_check(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err)
{
	const struct cpx_rst_files *p = r->files_priv;
	struct stat st;
	int rc;

	if (f->checked || (f->rec->flags & CPX_FILE_PROC))
		return 0;
	if (!f->rec->path || f->rec->path[0] != '/')
		return cpx_err_set(err, CPX_E_FORMAT, "file record %u has no path", f->rec->id);
	/* when it stands, as all that is checked: cpx_rst_file_ready() */
	if (p->job_root_fd < 0 && in_own_mount(r, f->rec->path))
		return 0;
	f->checked = true;
	if (f->rec->rule == CPX_RULE_CODE)
		return check_code(r, f, err);
	if (f->rec->flags & CPX_FILE_UNLINKED)
		return 0;
	rc = cpx_rst_file_find(r, f, err);
	if (rc == CPX_E_NOENT)
		return missing(r, f, rc, err);
	if (rc < 0)
		return rc;
	if (fstat(f->path_fd, &st) < 0)
		return cpx_err_sys(err, errno, "%s", f->rec->path);
	if (!S_ISREG(st.st_mode))
		return 0;
	if (f->rec->rule == CPX_RULE_APPEND)
		return check_append(r, f, &st, err);
	if (f->rec->rule == CPX_RULE_VERIFY)
		return check_verify(r, f, &st, err);
	return 0;
}
