/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * code_object.c - programs and libraries under code/SHA-256.
 *
 * Put hashes the file first, since most of the time the object is there. A copy is hashed
 * again while it is written, for the file may change meanwhile: what is stored under a
 * name always fits it. Written under a temporary name, fsynced, renamed; the directory is
 * fsynced once, by the commit that comes after.
 */
#include "store_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../chpox/base/digest.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "container.h"

#define COPY_CHUNK (256u << 10)

/* Called with each piece of a file as it is hashed. */
struct piece_sink {
	int (*put)(void *ctx, const void *p, size_t n, uint64_t off, struct cpx_err *err);
	void *ctx;
};

static int hash_pieces(struct cpx_sha256 *sha, int fd, const char *what,
		       const struct piece_sink *sink, struct cpx_err *err)
{
	CPX_AUTO_FREE uint8_t *buf = malloc(COPY_CHUNK);
	uint64_t off = 0;

	if (!buf)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to read %s", what);
	for (;;) {
		ssize_t n = cpx_pread_full(fd, buf, COPY_CHUNK, off);
		int rc = 0;

		if (n < 0)
			return cpx_err_sys(err, errno, "read %s", what);
		if (n == 0)
			return 0;
		if (off + (uint64_t)n > CPX_CODE_SIZE_MAX)
			return cpx_err_set(err, CPX_E_LIMIT,
					   "%s is too large for a code object", what);
		rc = cpx_sha256_add(sha, buf, (size_t)n, err);
		if (rc == 0 && sink)
			rc = sink->put(sink->ctx, buf, (size_t)n, off, err);
		if (rc < 0)
			return rc;
		off += (uint64_t)n;
	}
}

static int hash_fd(int fd, const char *what, const struct piece_sink *sink, uint8_t sha256[32],
		   struct cpx_err *err)
{
	struct cpx_sha256 *sha = NULL;
	int rc = cpx_sha256_new(&sha, err);

	if (rc == 0)
		rc = hash_pieces(sha, fd, what, sink, err);
	if (rc == 0)
		rc = cpx_sha256_end(sha, sha256, err);
	cpx_sha256_free(sha);
	return rc;
}

static bool same_file(const struct cpx_code_known *k, const struct cpx_code_known *key)
{
	return k->dev == key->dev && k->ino == key->ino && k->size == key->size &&
	       k->mtime_ns == key->mtime_ns && k->ctime_ns == key->ctime_ns;
}

static int key_of(int fd, struct cpx_code_known *key, struct cpx_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return cpx_err_sys(err, errno, "fstat of a mapped file");
	if (!S_ISREG(st.st_mode))
		return cpx_err_set(err, CPX_E_INVAL, "only regular files can be code objects");
	*key = (struct cpx_code_known){
		.dev = st.st_dev,
		.ino = st.st_ino,
		.size = (uint64_t)st.st_size,
		.mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec,
		.ctime_ns = st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec,
	};
	return 0;
}

/* Whether this very file was hashed before by this store. */
static bool find_known(struct cpx_store *s, const struct cpx_code_known *key,
		       uint8_t sha256[32])
{
	unsigned n;
	bool found = false;

	pthread_mutex_lock(&s->lock);
	n = s->cache->nknown < CPX_CODE_CACHE ? s->cache->nknown : CPX_CODE_CACHE;
	for (unsigned i = 0; i < n && !found; i++) {
		found = same_file(&s->cache->known[i], key);
		if (found)
			memcpy(sha256, s->cache->known[i].sha256, 32);
	}
	pthread_mutex_unlock(&s->lock);
	return found;
}

static void add_known(struct cpx_store *s, const struct cpx_code_known *key,
		      const uint8_t sha256[32])
{
	pthread_mutex_lock(&s->lock);
	s->cache->known[s->cache->nknown % CPX_CODE_CACHE] = *key;
	memcpy(s->cache->known[s->cache->nknown % CPX_CODE_CACHE].sha256, sha256, 32);
	s->cache->nknown++;
	/* also if it was there: who made it may not have come to the fsync yet */
	s->code_unsynced = true;
	pthread_mutex_unlock(&s->lock);
}

/* From a cache of others: who made the object may not have come to the fsync of its name. */
static void note_known(struct cpx_store *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->cache != &s->own)
		s->code_unsynced = true;
	pthread_mutex_unlock(&s->lock);
}

size_t cpx_code_cache_size(void)
{
	return sizeof(struct cpx_code_cache);
}

static int put_piece(void *ctx, const void *p, size_t n, uint64_t off, struct cpx_err *err)
{
	return cpx_io_write(ctx, p, n, off, err);
}

static int write_object(struct cpx_store *s, int fd, const char *tmp, uint8_t sha256[32],
			struct cpx_err *err)
{
	struct cpx_io_file f = { 0 };
	const struct piece_sink sink = { .put = put_piece, .ctx = &f };
	int rc = cpx_io_create(&s->io, tmp, &f, err);

	if (rc < 0)
		return rc;
	/* says that somebody is at it: see clean_one(); without locks nobody cleans */
	flock(f.fd, LOCK_EX | LOCK_NB);
	rc = hash_fd(fd, "a mapped file", &sink, sha256, err);
	if (rc == 0)
		rc = cpx_io_fsync(&f, err);
	cpx_io_close(&f);
	if (rc < 0)
		cpx_io_unlink(&s->io, tmp, NULL);
	return rc;
}

/* For cpx_store_drop_code(); without memory the object merely stays. */
static void add_fresh(struct cpx_store *s, const uint8_t sha256[32])
{
	void *v;

	pthread_mutex_lock(&s->lock);
	v = realloc(s->fresh, (s->nfresh + 1) * sizeof(*s->fresh));
	if (v) {
		s->fresh = v;
		memcpy(s->fresh[s->nfresh++], sha256, 32);
	}
	pthread_mutex_unlock(&s->lock);
}

static int store_object(struct cpx_store *s, int fd, uint8_t sha256[32], struct cpx_err *err)
{
	char tmp[CPX_NAME_MAX], name[CPX_NAME_MAX];
	uint64_t nonce;
	int rc = cpx_io_mkdir(&s->io, "code", err);

	if (rc == 1)
		rc = cpx_io_fsync_dir(&s->io, ".", err);
	if (rc < 0)
		return rc;
	if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce))
		return cpx_err_sys(err, errno, "getrandom");
	snprintf(tmp, sizeof(tmp), "code/%016llx.tmp", (unsigned long long)nonce);
	rc = write_object(s, fd, tmp, sha256, err);
	if (rc < 0)
		return rc;
	cpx_name_code(sha256, name);
	rc = cpx_io_rename(&s->io, tmp, name, err);
	if (rc == 0) {
		add_fresh(s, sha256);
		return 0;
	}
	cpx_io_unlink(&s->io, tmp, NULL);
	return rc == CPX_E_EXIST ? 0 : rc; /* another was quicker */
}

void cpx_store_committed(struct cpx_store *s)
{
	cpx_code_list_end(s);
	pthread_mutex_lock(&s->lock);
	s->nfresh = 0;
	pthread_mutex_unlock(&s->lock);
}

void cpx_store_drop_code(struct cpx_store *s)
{
	struct cpx_code_gc removed;
	bool any;

	cpx_code_list_end(s);
	pthread_mutex_lock(&s->lock);
	any = s->nfresh > 0;
	s->nfresh = 0;
	s->cache->nknown = 0;
	pthread_mutex_unlock(&s->lock);
	/* others may have come to need them meanwhile */
	if (any)
		cpx_store_gc_code(s, false, &removed, NULL);
	cpx_io_rmdir(&s->io, "code", NULL);
}

struct cleaning {
	struct cpx_store *s;
	int removed;
};

static int clean_one(void *ctx, const char *name)
{
	struct cleaning *c = ctx;
	size_t n = strlen(name);
	char path[CPX_NAME_MAX];

	if (n != 20 || strcmp(name + 16, ".tmp") != 0)
		return 0;
	snprintf(path, sizeof(path), "code/%s", name);
	CPX_AUTO_FD fd = cpx_io_open(&c->s->io, path, NULL);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return 0;
	if (cpx_io_unlink(&c->s->io, path, NULL) == 0)
		c->removed++;
	return 0;
}

int cpx_store_clean_code(struct cpx_store *s, struct cpx_err *err)
{
	struct cleaning c = { .s = s };
	int rc = cpx_io_list(&s->io, "code", clean_one, &c, err);

	return rc < 0 ? rc : c.removed;
}

int cpx_store_sync_code(struct cpx_store *s, struct cpx_err *err)
{
	bool needed;
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	needed = s->code_unsynced;
	s->code_unsynced = false;
	pthread_mutex_unlock(&s->lock);
	if (needed)
		rc = cpx_io_fsync_dir(&s->io, "code", err);
	if (rc < 0) {
		pthread_mutex_lock(&s->lock);
		s->code_unsynced = true;
		pthread_mutex_unlock(&s->lock);
	}
	return rc;
}

int cpx_store_put_code(struct cpx_store *s, const struct cpx_gen_id *id, int fd,
		       uint8_t sha256[32], struct cpx_err *err)
{
	struct cpx_code_known key;
	char name[CPX_NAME_MAX];
	uint8_t sum[32];
	bool known;
	int rc = key_of(fd, &key, err);

	if (rc < 0)
		return rc;
	known = find_known(s, &key, sum);
	if (!known)
		rc = hash_fd(fd, "a mapped file", NULL, sum, err);
	/* before it is looked for: code_gc.c */
	if (rc == 0)
		rc = cpx_code_list_add(s, id, sum, err);
	if (rc < 0)
		return rc;
	cpx_name_code(sum, name);
	for (int tries = 0; !cpx_io_exists(&s->io, name); tries++) {
		rc = store_object(s, fd, sum, err);
		/* a cleaner may have come between making the file and locking it */
		if (rc != CPX_E_NOENT || tries == 2)
			break;
	}
	if (rc < 0)
		return rc;
	if (!known)
		add_known(s, &key, sum);
	else
		note_known(s);
	memcpy(sha256, sum, 32);
	return 0;
}

struct hunt {
	struct cpx_store *s;
	const uint8_t *sha256;
	char *name;
	int fd;
};

static int hunt_one(void *ctx, const char *name)
{
	struct hunt *h = ctx;
	char path[CPX_NAME_MAX];
	uint8_t sum[32];

	if (h->fd >= 0 || !cpx_name_code_parse(name, sum) || memcmp(sum, h->sha256, 32) != 0)
		return 0;
	snprintf(path, sizeof(path), "code/%s", name);
	h->fd = cpx_io_open(&h->s->io, path, NULL);
	if (h->fd >= 0)
		strcpy(h->name, path);
	return 0;
}

/* Where a collector has it, or a collector that crashed, it is given back or gone in a moment.
 */
int cpx_code_open(struct cpx_store *s, const uint8_t sha256[32], char name[CPX_NAME_MAX],
		  struct cpx_err *err)
{
	struct hunt h = { .s = s, .sha256 = sha256, .name = name, .fd = -1 };
	int fd;

	cpx_name_code(sha256, name);
	fd = cpx_io_open(&s->io, name, err);
	if (fd != CPX_E_NOENT)
		return fd;
	cpx_io_list(&s->io, "code", hunt_one, &h, NULL);
	return h.fd >= 0 ? h.fd : cpx_io_open(&s->io, name, err);
}

static int code_changed(struct cpx_store *s, const char *name, struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_CHECKSUM, "%s/%s was changed: its hash does not fit",
			   s->io.shown, name);
}

int cpx_store_check_code(struct cpx_store *s, const uint8_t sha256[32], struct cpx_err *err)
{
	char name[CPX_NAME_MAX];
	uint8_t sum[32];
	int rc;

	CPX_AUTO_FD fd = cpx_code_open(s, sha256, name, err);
	if (fd < 0)
		return fd;
	rc = hash_fd(fd, name, NULL, sum, err);
	if (rc == 0 && memcmp(sum, sha256, 32) != 0)
		rc = code_changed(s, name, err);
	return rc;
}

static int put_memfd(void *ctx, const void *p, size_t n, uint64_t off, struct cpx_err *err)
{
	(void)off; /* pieces come in order */
	if (cpx_write_full(*(int *)ctx, p, n) < 0)
		return cpx_err_sys(err, errno, "copy a code object");
	return 0;
}

int cpx_store_get_code(struct cpx_store *s, const uint8_t sha256[32], const char *label,
		       struct cpx_err *err)
{
	char name[CPX_NAME_MAX], link[32];
	uint8_t sum[32];
	struct piece_sink sink = { .put = put_memfd };
	int ro, rc;

	CPX_AUTO_FD fd = cpx_code_open(s, sha256, name, err);
	if (fd < 0)
		return fd;
	CPX_AUTO_FD copy = memfd_create(label ? label : "chpox-code", MFD_CLOEXEC);
	if (copy < 0)
		return cpx_err_sys(err, errno, "memfd_create");
	sink.ctx = &copy;
	rc = hash_fd(fd, name, &sink, sum, err);
	if (rc < 0)
		return rc;
	if (memcmp(sum, sha256, 32) != 0)
		return code_changed(s, name, err);
	if (fchmod(copy, 0555) < 0)
		return cpx_err_sys(err, errno, "fchmod of a code object");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", copy);
	ro = open(link, O_RDONLY | O_CLOEXEC);
	return ro < 0 ? cpx_err_sys(err, errno, "reopen a code object") : ro;
}
