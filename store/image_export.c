/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_export.c - a generation into one stream.
 *
 * The generation is verified first, every byte of it, so that what is carried away is known to
 * be whole; what changes while it is read is found out when it is imported. The stream is
 * written from its beginning to its end and may be a pipe.
 */
#include "store_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "../chpox/base/buf.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "container.h"

#define CHUNK (1u << 20)

struct out {
	int fd;
	XXH3_state_t *sum;
	uint64_t done, total;
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *progress_ctx;
	uint8_t *buf; /* CHUNK */
};

static int by_sha256(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

int cpx_container_code(const struct cpx_state *st, uint8_t (**out)[32], struct cpx_err *err)
{
	uint8_t(*v)[32] = calloc(cpx_state_count(st, CPX_REC_file) + 1, sizeof(*v));
	size_t n = 0, kept = 0;

	if (!v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to list code objects");
	cpx_state_each(st, file, f) {
		if (f->sha256.n == 32)
			memcpy(v[n++], f->sha256.p, 32);
	}
	qsort(v, n, sizeof(*v), by_sha256);
	for (size_t i = 0; i < n; i++)
		if (!kept || memcmp(v[kept - 1], v[i], 32) != 0)
			memmove(v[kept++], v[i], 32);
	if (kept > CPX_CODE_OBJECTS_MAX) {
		free(v);
		return cpx_err_set(err, CPX_E_LIMIT, "too many code objects");
	}
	*out = v;
	return (int)kept;
}

static int put(struct out *o, const void *p, size_t n, struct cpx_err *err)
{
	if (cpx_write_full(o->fd, p, n) < 0)
		return cpx_err_sys(err, errno, "write the exported image");
	XXH3_128bits_update(o->sum, p, n);
	o->done += n;
	if (o->progress)
		o->progress(o->progress_ctx, o->done, o->total);
	return 0;
}

static int put_head(struct out *o, uint32_t kind, uint64_t len, struct cpx_err *err)
{
	struct cpx_buf b = { 0 };
	int rc;

	cpx_buf_u32(&b, kind);
	cpx_buf_u32(&b, 0);
	cpx_buf_u64(&b, len);
	rc = b.failed ? cpx_err_set(err, CPX_E_NOMEM, "no memory to export")
		      : put(o, b.data, b.len, err);
	cpx_buf_free(&b);
	return rc;
}

/* @len bytes of object @path, from its beginning. */
static int put_object(struct out *o, struct cpx_io *io, int fd, const char *path, uint64_t len,
		      struct cpx_err *err)
{
	for (uint64_t off = 0; off < len;) {
		size_t n = len - off < CHUNK ? (size_t)(len - off) : CHUNK;
		int rc = cpx_io_read(io, fd, path, o->buf, n, off, err);

		if (rc == 0)
			rc = put(o, o->buf, n, err);
		if (rc < 0)
			return rc;
		off += n;
	}
	return 0;
}

static int put_file(struct out *o, struct cpx_io *io, uint32_t kind, const char *path,
		    const void *before, size_t nbefore, struct cpx_err *err)
{
	CPX_AUTO_FD fd = cpx_io_open(io, path, err);
	struct stat st;
	int rc;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return cpx_err_sys(err, errno, "%s/%s", io->shown, path);
	rc = put_head(o, kind, nbefore + (uint64_t)st.st_size, err);
	if (rc == 0 && nbefore)
		rc = put(o, before, nbefore, err);
	return rc < 0 ? rc : put_object(o, io, fd, path, (uint64_t)st.st_size, err);
}

static int put_code(struct out *o, struct cpx_image *img, struct cpx_err *err)
{
	uint8_t(*sums)[32];
	char path[CPX_NAME_MAX];
	int n = cpx_container_code(img->state, &sums, err), rc = n;

	for (int i = 0; i < n && rc >= 0; i++) {
		rc = cpx_code_open(img->store, sums[i], path, err);
		if (rc < 0)
			break;
		close(rc);
		rc = put_file(o, &img->store->io, CPX_SECTION_CODE, path, sums[i], 32, err);
	}
	if (n >= 0)
		free(sums);
	return rc < 0 ? rc : 0;
}

static int put_end(struct out *o, struct cpx_err *err)
{
	XXH128_canonical_t digest;
	int rc = put_head(o, CPX_SECTION_END, sizeof(digest.digest), err);

	if (rc < 0)
		return rc;
	XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(o->sum));
	return put(o, digest.digest, sizeof(digest.digest), err);
}

static int put_all(struct out *o, struct cpx_image *img, struct cpx_err *err)
{
	struct cpx_io *io = &img->store->io;
	char path[CPX_NAME_MAX];
	struct cpx_buf b = { 0 };
	int rc;

	cpx_buf_put(&b, CPX_CONTAINER_MAGIC, 8);
	cpx_buf_u32(&b, CPX_CONTAINER_VERSION);
	cpx_buf_u32(&b, 0);
	rc = b.failed ? cpx_err_set(err, CPX_E_NOMEM, "no memory to export")
		      : put(o, b.data, b.len, err);
	cpx_buf_free(&b);
	cpx_name_manifest(&img->m.id, false, path);
	if (rc == 0)
		rc = put_file(o, io, CPX_SECTION_MANIFEST, path, NULL, 0, err);
	for (uint32_t i = 0; i < img->m.npacks && rc == 0; i++) {
		cpx_pack_path(img, i, path);
		rc = put_file(o, io, CPX_SECTION_PACK, path, NULL, 0, err);
	}
	if (rc == 0)
		rc = put_code(o, img, err);
	return rc < 0 ? rc : put_end(o, err);
}

int cpx_image_export(struct cpx_image *img, int fd,
		     void (*progress)(void *ctx, uint64_t done, uint64_t total),
		     void *progress_ctx, uint64_t *bytes, struct cpx_err *err)
{
	struct out o = { .fd = fd, .progress = progress, .progress_ctx = progress_ctx };
	int rc = cpx_image_verify(img, 0, err);

	if (rc < 0)
		return rc;
	o.total = img->manifest_len;
	for (uint32_t i = 0; i < img->m.npacks; i++)
		o.total += img->m.packs[i].size;
	o.sum = XXH3_createState();
	o.buf = malloc(CHUNK);
	if (!o.sum || !o.buf) {
		rc = cpx_err_set(err, CPX_E_NOMEM, "no memory to export");
	} else {
		XXH3_128bits_reset(o.sum);
		rc = put_all(&o, img, err);
	}
	XXH3_freeState(o.sum);
	free(o.buf);
	if (rc == 0 && bytes)
		*bytes = o.done;
	return rc;
}
