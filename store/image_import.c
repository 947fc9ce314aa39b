/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_import.c - a generation from one stream into a store, under a name of its own.
 *
 * Happy path: manifest -> packs, each under the new name, its header made anew -> code objects
 * -> digest of the stream -> all of it verified as it lies in the store -> manifest, last.
 * Nothing of the stream is believed: its sections must be those that its manifest calls for,
 * with those lengths.
 *
 * Failures: the packs that were written are removed. A crash leaves packs without a manifest,
 * which the store's cleaning removes.
 */
#include "store_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "../chpox/base/buf.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "container.h"
#include "image_write.h"

#define CHUNK (1u << 20)

struct in {
	int fd;
	XXH3_state_t *sum;
	uint64_t done;
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *progress_ctx;
	uint8_t *buf; /* CHUNK */

	struct cpx_store *store;
	struct cpx_gen_id id; /* what it becomes */
	struct cpx_image *img;
	struct cpx_pack_info *was; /* packs as the stream's manifest has them; owned */
	char was_job[CPX_JOB_NAME_MAX];
	uint32_t written; /* packs that may have files */
	bool made_dir;
};

static int get(struct in *in, void *p, size_t n, struct cpx_err *err)
{
	ssize_t got = cpx_read_full(in->fd, p, n);

	if (got < 0)
		return cpx_err_sys(err, errno, "read the image to import");
	if ((size_t)got < n)
		return cpx_err_set(err, CPX_E_CHECKSUM,
				   "what is to be imported is cut off after %llu bytes",
				   (unsigned long long)in->done + (unsigned long long)got);
	XXH3_128bits_update(in->sum, p, n);
	in->done += n;
	if (in->progress)
		in->progress(in->progress_ctx, in->done, 0);
	return 0;
}

static int bad(struct cpx_err *err, const char *what)
{
	return cpx_err_set(err, CPX_E_FORMAT, "what is to be imported is no exported image: %s",
			   what);
}

static int get_head(struct in *in, struct cpx_err *err)
{
	uint8_t head[CPX_CONTAINER_HEAD] = { 0 };
	struct cpx_rd r = cpx_rd_init(head + 8, sizeof(head) - 8);
	int rc = get(in, head, sizeof(head), err);
	uint32_t version;

	if (rc < 0)
		return rc;
	if (memcmp(head, CPX_CONTAINER_MAGIC, 8) != 0)
		return bad(err, "it does not begin as one");
	version = cpx_rd_u32(&r);
	if (version != CPX_CONTAINER_VERSION)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "an exported image of version %u; only %u is known", version,
				   CPX_CONTAINER_VERSION);
	return cpx_rd_u32(&r) ? bad(err, "flags that are not known") : 0;
}

/* The next section must be a @kind of @min to @max bytes. */
static int get_section(struct in *in, uint32_t kind, uint64_t min, uint64_t max, uint64_t *len,
		       struct cpx_err *err)
{
	uint8_t head[CPX_SECTION_HEAD] = { 0 };
	struct cpx_rd r = cpx_rd_init(head, sizeof(head));
	int rc = get(in, head, sizeof(head), err);
	uint64_t n;

	if (rc < 0)
		return rc;
	if (cpx_rd_u32(&r) != kind || cpx_rd_u32(&r) != 0)
		return bad(err, "a section out of place");
	n = cpx_rd_u64(&r);
	if (n < min || n > max)
		return bad(err, "a section of a length that cannot be");
	*len = n;
	return 0;
}

/* --- the manifest -------------------------------------------------------------------- */

/* As it comes, in steps: a length is not believed before its bytes are there. */
static int get_bytes(struct in *in, uint64_t len, struct cpx_buf *out, struct cpx_err *err)
{
	for (uint64_t off = 0; off < len;) {
		size_t n = len - off < CHUNK ? (size_t)(len - off) : CHUNK;
		int rc = get(in, in->buf, n, err);

		if (rc < 0)
			return rc;
		cpx_buf_put(out, in->buf, n);
		if (out->failed)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory to import");
		off += n;
	}
	return 0;
}

/* From now on it is ours: its name, and the names of all packs. */
static int rename_all(struct in *in, struct cpx_manifest *m, struct cpx_err *err)
{
	memcpy(in->was_job, m->id.job, sizeof(in->was_job));
	in->was = calloc((size_t)m->npacks + 1, sizeof(*in->was));
	if (!in->was)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to import");
	m->id = in->id;
	m->has_base = false;
	m->stats.bytes_stored = 0;
	for (uint32_t i = 0; i < m->npacks; i++) {
		struct cpx_pack_info *p = &m->packs[i];

		in->was[i] = *p;
		p->k = i;
		p->epoch = in->id.epoch;
		p->seq = in->id.seq;
		memcpy(p->nonce, in->id.nonce, sizeof(p->nonce));
		m->stats.bytes_stored += p->size;
	}
	return 0;
}

static int get_manifest(struct in *in, struct cpx_err *err)
{
	struct cpx_manifest m = { 0 };
	struct cpx_buf b = { 0 };
	uint64_t len;
	int rc = get_section(in, CPX_SECTION_MANIFEST, 1, CPX_MANIFEST_MAX, &len, err);

	if (rc == 0)
		rc = get_bytes(in, len, &b, err);
	if (rc == 0)
		rc = cpx_manifest_decode(b.data, b.len, "the manifest to import", true, &m,
					 err);
	cpx_buf_free(&b);
	if (rc == 0)
		rc = rename_all(in, &m, err);
	if (rc == 0)
		rc = cpx_image_of_manifest(in->store, &m, &in->img, err);
	cpx_manifest_free(&m);
	return rc;
}

/* --- packs --------------------------------------------------------------------------- */

/* The bytes of a pack behind its header; what belongs to its table is kept in @table. */
static int copy_pack(struct in *in, const struct cpx_pack_info *p, struct cpx_io_file *f,
		     struct cpx_buf *table, struct cpx_err *err)
{
	for (uint64_t off = CPX_PACK_HEADER; off < p->size;) {
		uint64_t stop = off < p->table_off ? p->table_off : p->size;
		size_t n = stop - off < CHUNK ? (size_t)(stop - off) : CHUNK;
		int rc = get(in, in->buf, n, err);

		if (rc == 0)
			rc = cpx_io_write(f, in->buf, n, off, err);
		if (rc < 0)
			return rc;
		if (off >= p->table_off)
			cpx_buf_put(table, in->buf, n);
		off += n;
	}
	return table->failed ? cpx_err_set(err, CPX_E_NOMEM, "no memory to import") : 0;
}

/* Header and digest of the pack as it was are checked, and made for what it is now. */
static int get_pack(struct in *in, uint32_t i, struct cpx_io_file *f, struct cpx_buf *table,
		    struct cpx_err *err)
{
	const struct cpx_pack_info *was = &in->was[i];
	struct cpx_pack_info *now = &in->img->m.packs[i];
	uint8_t had[CPX_PACK_HEADER], want[CPX_PACK_HEADER], head[CPX_PACK_HEADER];
	uint8_t digest[CPX_DIGEST];
	struct cpx_gen_id from = { .epoch = was->epoch, .seq = was->seq };
	int rc = get(in, had, sizeof(had), err);

	if (rc < 0)
		return rc;
	memcpy(from.job, in->was_job, sizeof(from.job));
	memcpy(from.nonce, was->nonce, sizeof(from.nonce));
	cpx_pack_header(&from, was->k, want);
	if (memcmp(had, want, sizeof(want)) != 0)
		return bad(err, "a pack that is another one");
	cpx_pack_header(&in->id, now->k, head);
	rc = cpx_io_write(f, head, sizeof(head), 0, err);
	if (rc == 0)
		rc = copy_pack(in, was, f, table, err);
	if (rc < 0)
		return rc;
	cpx_pack_digest(had, table->data, table->len, digest);
	if (memcmp(digest, was->digest, sizeof(digest)) != 0)
		return cpx_err_set(err, CPX_E_CHECKSUM, "pack %u was changed on its way", i);
	cpx_pack_digest(head, table->data, table->len, now->digest);
	return 0;
}

static int import_pack(struct in *in, uint32_t i, struct cpx_err *err)
{
	const uint64_t size = in->was[i].size;
	struct cpx_io_file f = { 0 };
	struct cpx_buf table = { 0 };
	char name[CPX_NAME_MAX];
	uint64_t len;
	int rc = get_section(in, CPX_SECTION_PACK, size, size, &len, err);

	if (rc < 0)
		return rc;
	cpx_pack_path(in->img, i, name);
	rc = cpx_io_create(&in->store->io, name, &f, err);
	if (rc < 0)
		return rc;
	in->written = i + 1;
	rc = get_pack(in, i, &f, &table, err);
	if (rc == 0)
		rc = cpx_io_fsync(&f, err);
	cpx_io_close(&f);
	cpx_buf_free(&table);
	return rc;
}

/* --- code objects and the end -------------------------------------------------------- */

/* A file without a name to take a code object in; where that cannot be had, memory. */
static int spool(struct in *in)
{
	struct cpx_owner_saved saved;
	int fd = -1;

	if (cpx_owner_enter(&in->store->io.owner, &saved) == 0) {
		fd = openat(in->store->io.root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		cpx_owner_leave(&saved);
	}
	return fd >= 0 ? fd : memfd_create("chpox-code", MFD_CLOEXEC);
}

static int import_code(struct in *in, const uint8_t want[32], struct cpx_err *err)
{
	CPX_AUTO_FD fd = -1;
	uint8_t sum[32];
	uint64_t len;
	int rc = get_section(in, CPX_SECTION_CODE, 32, 32 + CPX_CODE_SIZE_MAX, &len, err);

	if (rc == 0)
		rc = get(in, sum, sizeof(sum), err);
	if (rc < 0)
		return rc;
	if (memcmp(sum, want, sizeof(sum)) != 0)
		return bad(err, "a program or library that is another one");
	fd = spool(in);
	if (fd < 0)
		return cpx_err_sys(err, errno, "cannot make a temporary file");
	for (len -= sizeof(sum); len;) {
		size_t n = len < CHUNK ? (size_t)len : CHUNK;

		rc = get(in, in->buf, n, err);
		if (rc < 0)
			return rc;
		if (cpx_write_full(fd, in->buf, n) < 0)
			return cpx_err_sys(err, errno, "write a program or library");
		len -= n;
	}
	rc = cpx_store_put_code(in->store, &in->id, fd, sum, err);
	if (rc == 0 && memcmp(sum, want, sizeof(sum)) != 0)
		rc = cpx_err_set(err, CPX_E_CHECKSUM,
				 "a program or library was changed on its way");
	return rc;
}

static int import_codes(struct in *in, struct cpx_err *err)
{
	uint8_t(*sums)[32];
	int n = cpx_container_code(in->img->state, &sums, err), rc = n;

	for (int i = 0; i < n && rc >= 0; i++)
		rc = import_code(in, sums[i], err);
	if (n >= 0)
		free(sums);
	return rc < 0 ? rc : 0;
}

static int get_end(struct in *in, struct cpx_err *err)
{
	XXH128_canonical_t want;
	uint8_t digest[CPX_DIGEST], more;
	uint64_t len;
	int rc = get_section(in, CPX_SECTION_END, CPX_DIGEST, CPX_DIGEST, &len, err);

	if (rc < 0)
		return rc;
	XXH128_canonicalFromHash(&want, XXH3_128bits_digest(in->sum));
	rc = get(in, digest, sizeof(digest), err);
	if (rc < 0)
		return rc;
	if (memcmp(digest, want.digest, sizeof(digest)) != 0)
		return cpx_err_set(
			err, CPX_E_CHECKSUM,
			"what is to be imported was changed: its digest does not fit");
	return cpx_read_full(in->fd, &more, 1) == 1 ? bad(err, "there is more behind its end")
						    : 0;
}

/* --- all of it ----------------------------------------------------------------------- */

static int import_all(struct in *in, enum cpx_write_stage *stage, size_t *manifest_len,
		      struct cpx_err *err)
{
	char dir[CPX_NAME_MAX];
	int rc = get_head(in, err);

	if (rc == 0)
		rc = get_manifest(in, err);
	if (rc == 0)
		rc = cpx_store_make_dir(in->store, in->id.job, &in->made_dir, err);
	for (uint32_t i = 0; rc == 0 && i < in->img->m.npacks; i++)
		rc = import_pack(in, i, err);
	if (rc == 0)
		rc = import_codes(in, err);
	if (rc == 0)
		rc = get_end(in, err);
	if (rc == 0)
		rc = cpx_image_verify(in->img, 0, err);
	cpx_name_job(in->id.job, dir);
	if (rc == 0)
		rc = cpx_io_fsync_dir(&in->store->io, dir, err);
	if (rc == 0)
		rc = cpx_store_sync_code(in->store, err);
	return rc < 0 ? rc
		      : cpx_manifest_write(&in->store->io, &in->img->m, stage, manifest_len,
					   err);
}

static void undo(struct in *in, enum cpx_write_stage stage)
{
	struct cpx_io *io = &in->store->io;
	char name[CPX_NAME_MAX];

	cpx_manifest_unlink(io, &in->id, stage);
	cpx_code_list_end(in->store);
	for (uint32_t i = 0; i < in->written; i++) {
		cpx_pack_path(in->img, i, name);
		cpx_io_unlink(io, name, NULL);
	}
	cpx_name_job(in->id.job, name);
	if (in->made_dir)
		cpx_io_rmdir(io, name, NULL);
}

static void tell(const struct in *in, size_t manifest_len, struct cpx_gen_entry *out)
{
	const struct cpx_manifest *m = &in->img->m;

	*out = (struct cpx_gen_entry){
		.id = m->id,
		.bytes_stored = m->stats.bytes_stored + manifest_len,
		.bytes_memory = m->stats.bytes_memory + m->stats.pages_inherited * CPX_PAGE,
		.realtime_ns = m->realtime_ns,
		.whole = true,
	};
}

int cpx_image_import(struct cpx_store *store, int fd, const struct cpx_gen_id *as,
		     void (*progress)(void *ctx, uint64_t done, uint64_t total),
		     void *progress_ctx, struct cpx_gen_entry *out, struct cpx_err *err)
{
	struct in in = { .fd = fd,
			 .store = store,
			 .id = *as,
			 .progress = progress,
			 .progress_ctx = progress_ctx };
	enum cpx_write_stage stage = CPX_STAGE_PACKS;
	size_t len = 0;
	int rc;

	if (!cpx_gen_valid(as))
		return cpx_err_set(err, CPX_E_INVAL, "not a generation's name");
	in.sum = XXH3_createState();
	in.buf = malloc(CHUNK);
	if (!in.sum || !in.buf) {
		rc = cpx_err_set(err, CPX_E_NOMEM, "no memory to import");
	} else {
		XXH3_128bits_reset(in.sum);
		rc = import_all(&in, &stage, &len, err);
	}
	if (rc < 0)
		undo(&in, stage);
	else
		tell(&in, len, out);
	if (rc == 0)
		cpx_store_committed(store);
	cpx_image_close(in.img);
	XXH3_freeState(in.sum);
	free(in.was);
	free(in.buf);
	return rc;
}
