/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image.h - writing and reading one generation: records and page contents.
 *
 * A writer is fed ranges of page content (space, offset, length), each with a function
 * that reads the bytes; its workers (one a core) do read -> zero test -> codec ->
 * checksum -> aligned chunk -> asynchronous write. commit makes the generation
 * durable: packs first, manifest last. A writer that was not committed leaves nothing
 * after cpx_image_abort(). A reader checks everything it hands out.
 *
 * Page contents live in numbered spaces (rec_mm.h). Offsets and lengths of ranges are
 * multiples of CPX_PAGE. What was never put, or is all zero, reads as zeros.
 */
#ifndef CPX_STORE_IMAGE_H
#define CPX_STORE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPX_PAGE 4096u

struct cpx_buf;
struct cpx_err;
struct cpx_image;
struct cpx_image_writer;
struct cpx_state;
struct cpx_store;

enum cpx_codec {
	CPX_CODEC_NONE = 0,
	CPX_CODEC_LZ4 = 1,
	CPX_CODEC_ZLIB = 2,
	CPX_CODEC_AUTO =
		255, /* when writing alone: by what codecs and store are seen to take */
};
/* none, lz4, zlib, auto. Return: 0 or CPX_E_INVAL. */
int cpx_codec_parse(const char *name, enum cpx_codec *out);

#define CPX_JOB_NAME_MAX 64 /* with NUL; [A-Za-z0-9._-], not starting with . or - */

/* A generation's name; never used twice. Order: (epoch, seq). */
struct cpx_gen_id {
	char job[CPX_JOB_NAME_MAX];
	uint64_t epoch;
	uint64_t seq;
	char nonce[17]; /* 16 hex digits, random */
};

/* --- stores ------------------------------------------------------------------------- */

struct cpx_store_opts {
	bool create; /* make the directory if it is not there */
	/*
	 * Objects are created and read as this user (fsuid, groups, no capabilities);
	 * (uid_t)-1: as the caller is.
	 */
	uint32_t uid, gid;
	/*
	 * Memory of cpx_code_cache_size() bytes, at first zero, in which it is remembered which
	 * files were hashed; shared by processes that use stores one after the other. NULL:
	 * none.
	 */
	void *code_cache;
};

size_t cpx_code_cache_size(void);

/* @url: file:///dir or a plain path. Return: 0, CPX_E_UNSUPPORTED for another scheme, … */
int cpx_store_open(const char *url, const struct cpx_store_opts *opts, struct cpx_store **out,
		   struct cpx_err *err);
void cpx_store_close(struct cpx_store *s);

struct cpx_gen_entry {
	struct cpx_gen_id id;
	uint64_t bytes_stored; /* manifest and the packs this generation wrote */
	uint64_t bytes_memory;
	int64_t realtime_ns;
	bool whole; /* its manifest verifies */
};

/*
 * cpx_store_list() - the generations of @job (NULL or "": all jobs), newest first.
 * Return: their number; *@out is malloc'ed, the caller frees it.
 */
int cpx_store_list(struct cpx_store *s, const char *job, struct cpx_gen_entry **out,
		   struct cpx_err *err);

/* Remove one generation and what only it needs; the caller is the fenced owner (DESIGN §4). */
int cpx_store_remove(struct cpx_store *s, const struct cpx_gen_id *id, struct cpx_err *err);

/* Remove packs and temporary files of @job that no manifest refers to and that are older
 * than (epoch, seq) of @below, and code objects that nobody is writing any more.
 * Return: number removed. */
int cpx_store_clean(struct cpx_store *s, const struct cpx_gen_id *below, struct cpx_err *err);

/*
 * cpx_store_set_aside() - give the manifests of @n damaged generations of one job, and the
 * packs that only they need, names that the store does not know (NAME.damaged): nothing is
 * deleted, and nothing of it is found any more.
 */
int cpx_store_set_aside(struct cpx_store *s, const struct cpx_gen_id *ids, size_t n,
			struct cpx_err *err);

/*
 * cpx_store_lock() - who changes a directory without registry, until @s is closed. Shared:
 * adds to it; exclusive: takes away from it. Return: 0, or CPX_E_BUSY: another one is at it.
 */
int cpx_store_lock(struct cpx_store *s, bool exclusive, struct cpx_err *err);

struct cpx_gc {
	uint64_t dead_files, dead_bytes; /* removed, or to be removed */
	uint64_t bytes;			 /* of all files of the job before */
	uint64_t bytes_head;		 /* what the head needs of them */
};

/*
 * cpx_store_gc() - remove what none of the generations @kept needs and what is below the first
 * of them, the head; all as the registry names them. No head (@n 0): nothing is removed.
 * Anybody may call it at any time. @dry_run: only count. @out is written also where a kept
 * manifest cannot be read: then its error is returned, and no pack has been removed.
 */
int cpx_store_gc(struct cpx_store *s, const char *job, const struct cpx_gen_id *kept, size_t n,
		 bool dry_run, struct cpx_gc *out, struct cpx_err *err);

/*
 * cpx_store_discard() - take back a generation that the registry does not name and never will:
 * its manifest, and with @packs those that it wrote itself (not where a copy of it is in use).
 */
int cpx_store_discard(struct cpx_store *s, const struct cpx_gen_id *id, bool packs,
		      struct cpx_err *err);

struct cpx_code_gc {
	uint64_t files, bytes;		 /* code objects before */
	uint64_t dead_files, dead_bytes; /* removed, or to be removed */
};

/*
 * cpx_store_gc_code() - remove the code objects that no generation in the store, whole or being
 * written, refers to. Anybody may call it at any time. @dry_run: only count. Return: 0, or an
 * error, and nothing was removed: for instance where a manifest cannot be read, or CPX_E_BUSY
 * where generations come and go faster than they can be read.
 */
int cpx_store_gc_code(struct cpx_store *s, bool dry_run, struct cpx_code_gc *out,
		      struct cpx_err *err);

/* Remove all that is there of @job. Nothing there: 0. */
int cpx_store_remove_job(struct cpx_store *s, const char *job, struct cpx_err *err);

/* --- writing ------------------------------------------------------------------------ */

/* How fast a store takes what is written: the time in which it was busy. */
struct cpx_store_speed {
	uint64_t bytes;
	int64_t ns;
};

struct cpx_image_opts {
	enum cpx_codec codec;
	int level;		       /* codec's own; 0 default */
	unsigned workers;	       /* 0: one a core */
	struct cpx_store_speed speed;  /* for CPX_CODEC_AUTO: as seen before, if it was */
	const struct cpx_gen_id *base; /* unchanged ranges are inherited from it; NULL: full */
};

struct cpx_image_stats {
	uint64_t bytes_memory; /* put, without inherited */
	uint64_t bytes_zero;
	uint64_t bytes_stored; /* packs and manifest as written now */
	uint64_t pages_inherited;
	/* of what the generation refers to, whoever wrote it */
	uint64_t bytes_packs, pages_stored;
	uint32_t packs;
	struct cpx_store_speed speed; /* of the store, for this generation */
};

/*
 * A function that reads @len bytes at @off of its space into @buf; called from worker
 * threads, several at once. A hole or vanished range is an error.
 */
typedef int (*cpx_page_reader)(void *ctx, uint64_t off, void *buf, size_t len,
			       struct cpx_err *err);

int cpx_image_create(struct cpx_store *store, const struct cpx_gen_id *id,
		     const struct cpx_image_opts *opts, struct cpx_image_writer **out,
		     struct cpx_err *err);

/*
 * cpx_image_put() - queue [@off, @off + @len) of @space. Blocks only while the queue is full.
 * @reader and @ctx must stay valid until cpx_image_drain() returned.
 * A range put twice: the later one counts.
 */
int cpx_image_put(struct cpx_image_writer *w, uint32_t space, uint64_t off, uint64_t len,
		  cpx_page_reader reader, void *ctx, struct cpx_err *err);

/* Keep what the base generation has in [@off, @off + @len) of @space (no base: an error). */
int cpx_image_inherit(struct cpx_image_writer *w, uint32_t space, uint64_t off, uint64_t len,
		      struct cpx_err *err);

/*
 * cpx_image_share() - [@off, @off + @len) of @space is what @from_space has at @from_off:
 * pages that a parent and a child have in common are stored once. @from_space < @space;
 * counts as a put does; the source is looked up at commit, as it is then.
 */
int cpx_image_share(struct cpx_image_writer *w, uint32_t space, uint64_t off, uint64_t len,
		    uint32_t from_space, uint64_t from_off, struct cpx_err *err);

/* Wait until all that was queued has been read. Return: 0 or the first worker's error. */
int cpx_image_drain(struct cpx_image_writer *w, struct cpx_err *err);

/*
 * cpx_image_commit() - drain, make packs durable, then the manifest.
 * The writer is consumed, whatever the result. On failure nothing is left in the store.
 * @note: short text for people (command line of the root process), may be NULL.
 */
int cpx_image_commit(struct cpx_image_writer *w, const struct cpx_state *state,
		     const char *note, struct cpx_image_stats *stats, struct cpx_err *err);
void cpx_image_abort(struct cpx_image_writer *w);

/* From now on at most @rate bytes a second go into the store; 0: as fast as it takes them. */
void cpx_image_throttle(struct cpx_image_writer *w, uint64_t rate);

/* Bytes read so far of all that was queued; for progress. */
void cpx_image_progress(const struct cpx_image_writer *w, uint64_t *done, uint64_t *queued);

/* --- cleaning ----------------------------------------------------------------------- */

#define CPX_LIVE_SHARE 0.83  /* below it packs are emptied … */
#define CPX_LIVE_TARGET 0.85 /* … until so much of what is referred to lives */
#define CPX_SMALL_PACKS 192u /* more of less than 1 MiB are merged */

struct cpx_clean_stats {
	uint64_t bytes_packs, bytes_live; /* of what the generation refers to now */
	uint64_t bytes_written;		  /* packs and manifest; 0: nothing was to be done */
	uint32_t packs, packs_emptied;
	uint64_t pages_stored;
};

/*
 * cpx_image_clean() - write generation @id anew as @copy: the same content and records, but the
 * pages that live in the deadest packs are in packs of the copy, so that those are needed no
 * more.
 * @copy: as @id but for its nonce. @budget: bytes that may be written, about. The old
 * generation stays as it is; the caller makes the copy the head in its place, or removes it.
 * Return: 1 the copy is durable, 0 nothing is to be done (or only for more than @budget), or an
 * error, and nothing is left. @st is written in all but the last case.
 */
int cpx_image_clean(struct cpx_store *store, const struct cpx_gen_id *id,
		    const struct cpx_gen_id *copy, enum cpx_codec codec, uint64_t budget,
		    struct cpx_clean_stats *st, struct cpx_err *err);

/* --- reading ------------------------------------------------------------------------ */

/* Open and check manifest and records; page contents are checked as they are read. */
int cpx_image_open(struct cpx_store *store, const struct cpx_gen_id *id, struct cpx_image **out,
		   struct cpx_err *err);
void cpx_image_close(struct cpx_image *img);

const struct cpx_state *cpx_image_state(const struct cpx_image *img); /* borrowed */
const struct cpx_gen_id *cpx_image_id(const struct cpx_image *img);

/* Read any bytes of a space; zeros where nothing is stored. */
int cpx_image_read(struct cpx_image *img, uint32_t space, uint64_t off, void *buf, size_t len,
		   struct cpx_err *err);

struct cpx_extent {
	uint32_t space;
	uint64_t off, len;
};

/*
 * Stored (non-zero) extents of [@off, @off + @len) of @space, ascending.
 * Return: number; *@out malloc'ed.
 */
int64_t cpx_image_extents(struct cpx_image *img, uint32_t space, uint64_t off, uint64_t len,
			  struct cpx_extent **out, struct cpx_err *err);

/* Called from worker threads, several at once; @data is valid during the call. */
typedef int (*cpx_page_sink)(void *ctx, uint32_t space, uint64_t off, const void *data,
			     size_t len, struct cpx_err *err);

/*
 * cpx_image_scan() - hand all stored content of @n ranges to @sink, each byte once, in the
 * order that reads best, by @workers threads (0: one a core). Zero and unstored pages are
 * not handed over. @data is page-aligned, @off and @len multiples of CPX_PAGE.
 */
int cpx_image_scan(struct cpx_image *img, const struct cpx_extent *ranges, size_t n,
		   unsigned workers, cpx_page_sink sink, void *ctx, struct cpx_err *err);

struct cpx_page_piece {
	uint32_t space;
	uint64_t off;
	const void *data;
	size_t len;
};
#define CPX_PIECES_MAX 64

/*
 * cpx_image_scan_pieces() - the same, handed over CPX_PIECES_MAX pieces at a time, where a call
 * for each is dear: an image that grew by increments has its pages in many.
 */
typedef int (*cpx_pieces_sink)(void *ctx, const struct cpx_page_piece *v, size_t n,
			       struct cpx_err *err);
int cpx_image_scan_pieces(struct cpx_image *img, const struct cpx_extent *ranges, size_t n,
			  unsigned workers, cpx_pieces_sink sink, void *ctx,
			  struct cpx_err *err);
/* One that calls another for each piece; its @ctx is a struct cpx_page_each. */
struct cpx_page_each {
	cpx_page_sink sink;
	void *ctx;
};
int cpx_page_each(void *ctx, const struct cpx_page_piece *v, size_t n, struct cpx_err *err);

/* Two locations of equal identity hold the same stored page: what parent and child share. */
struct cpx_page_ref {
	uint64_t pack, block;
	uint32_t page;
};
/* Return: 1 and *@ref, 0 where nothing is stored, or an error. */
int cpx_image_page_ref(struct cpx_image *img, uint32_t space, uint64_t off,
		       struct cpx_page_ref *ref, struct cpx_err *err);

/*
 * cpx_image_check() - what can be checked without reading the pages: that every pack is there
 * with its size, header and digest of its table, and that the whole page map is sound and
 * points to pages that are there. With it, only the bytes of blocks can still be wrong, which
 * are checked as they are read.
 */
int cpx_image_check(struct cpx_image *img, struct cpx_err *err);

/* Read and check every byte of the generation without restoring it. */
int cpx_image_verify(struct cpx_image *img, unsigned workers, struct cpx_err *err);

/* Append what `inspect` shows (manifest, packs, maps, then records) as text or as JSON. */
int cpx_image_print(struct cpx_image *img, bool json, struct cpx_buf *out, struct cpx_err *err);

/* --- one generation as one stream (docs/image-format.md §7) -------------------------- */

/*
 * cpx_image_export() - verify @img, then write all of it to @fd, which may be a pipe.
 * @progress: may be NULL; @bytes: what was written, may be NULL.
 */
int cpx_image_export(struct cpx_image *img, int fd,
		     void (*progress)(void *ctx, uint64_t done, uint64_t total),
		     void *progress_ctx, uint64_t *bytes, struct cpx_err *err);

/*
 * cpx_image_import() - read such a stream from @fd, which may be a pipe and ends with it, and
 * commit it as generation @as of @store; its packs are verified as they lie there. @progress is
 * told no total. On failure nothing is left but code objects.
 */
int cpx_image_import(struct cpx_store *store, int fd, const struct cpx_gen_id *as,
		     void (*progress)(void *ctx, uint64_t done, uint64_t total),
		     void *progress_ctx, struct cpx_gen_entry *out, struct cpx_err *err);

/* --- code objects ------------------------------------------------------------------- */

/*
 * cpx_store_put_code() - store the file open at @fd under its SHA-256, once per store, for
 * generation @id, which is being written with @s (one at a time) and will refer to it.
 * @sha256: 32 bytes, written on success. Immutable; found again by cpx_store_get_code(),
 * which checks the hash and returns a read-only descriptor of a private copy: a memfd called
 * @label (NULL: chpox-code), which shows in /proc.
 * Durable with the next cpx_image_commit() of the same store. Files are told by inode, size
 * and times as long as @s lives, so a store that stays open hashes each file once.
 */
int cpx_store_put_code(struct cpx_store *s, const struct cpx_gen_id *id, int fd,
		       uint8_t sha256[32], struct cpx_err *err);
int cpx_store_get_code(struct cpx_store *s, const uint8_t sha256[32], const char *label,
		       struct cpx_err *err);

/*
 * cpx_store_drop_code() - take back the code objects that @s stored since its last commit;
 * for a store that nobody else uses, when a dump to it failed.
 */
void cpx_store_drop_code(struct cpx_store *s);

#endif
