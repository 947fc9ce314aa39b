/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exported images of a forger: a whole one of which the input changes bytes, and one of which
 * it is all sections. Where the first input bit says so, the digests of manifest and container
 * are made to fit again. What is accepted must verify and can be exported.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "chpox/base/buf.h"
#include "chpox/base/err.h"
#include "chpox/base/fd.h"
#include "store/container.h"
#include "store/format.h"
#include "store/objio.h"
#include "store/store_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGES 40
#define END (CPX_SECTION_HEAD + CPX_DIGEST)

static const struct cpx_gen_id from = {
	.job = "from", .epoch = 3, .seq = 7, .nonce = "0123456789abcdef"
};
static const struct cpx_gen_id to = {
	.job = "to", .epoch = 1, .seq = 1, .nonce = "fedcba9876543210"
};

static struct cpx_store *the_store(void)
{
	static struct cpx_store *s;
	const struct cpx_store_opts opts = { .create = true,
					     .uid = (uint32_t)-1,
					     .gid = (uint32_t)-1 };

	if (s)
		return s;
	mkdir("build", 0755);
	mkdir("build/fuzz", 0755);
	if (cpx_store_open("build/fuzz/container-store", &opts, &s, NULL) < 0)
		abort();
	cpx_store_remove_job(s, "from", NULL);
	cpx_store_remove_job(s, "to", NULL);
	return s;
}

static int some_pages(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	uint64_t x = off + 1;

	(void)ctx, (void)err;
	for (size_t i = 0; i < len; i++) {
		x = x * 6364136223846793005u + 1;
		((uint8_t *)buf)[i] = (uint8_t)(i % 3 ? 'a' : x >> 56);
	}
	return 0;
}

/* A file that the image names as a program. */
static void put_program(struct cpx_store *s, const struct cpx_gen_id *id, struct cpx_state *st)
{
	struct cpx_rec_file *f = cpx_state_new_rec(st, file);
	int fd = memfd_create("program", 0);
	uint8_t sha256[32];

	if (!f || fd < 0 || cpx_write_full(fd, "#!/bin/true\n", 12) < 0 ||
	    cpx_store_put_code(s, id, fd, sha256, NULL) < 0)
		abort();
	close(fd);
	f->id = 1;
	f->sha256 = cpx_state_blob(st, sha256, sizeof(sha256));
}

/* One whole container, and where its manifest is. */
static const uint8_t *the_container(size_t *n, size_t *manifest)
{
	static uint8_t *whole;
	static size_t len;
	struct cpx_store *s = the_store();
	struct cpx_image_writer *w;
	struct cpx_state *st;
	struct cpx_image *img;
	uint64_t bytes;
	int fd;

	if (!whole) {
		st = cpx_state_new();
		fd = memfd_create("container", 0);
		put_program(s, &from, st);
		if (cpx_image_create(s, &from, NULL, &w, NULL) < 0 ||
		    cpx_image_put(w, 1, 0, PAGES * CPX_PAGE, some_pages, NULL, NULL) < 0 ||
		    cpx_image_commit(w, st, "", NULL, NULL) < 0 ||
		    cpx_image_open(s, &from, &img, NULL) < 0 ||
		    cpx_image_export(img, fd, NULL, NULL, &bytes, NULL) < 0)
			abort();
		cpx_image_close(img);
		cpx_state_free(st);
		len = bytes;
		whole = malloc(len);
		if (!whole || cpx_pread_full(fd, whole, len, 0) != (ssize_t)len)
			abort();
		close(fd);
	}
	*n = len;
	*manifest = CPX_CONTAINER_HEAD + CPX_SECTION_HEAD;
	return whole;
}

static void put_digest(uint8_t *at, const uint8_t *p, size_t n)
{
	XXH128_canonical_t d;

	XXH128_canonicalFromHash(&d, XXH3_128bits(p, n));
	memcpy(at, d.digest, CPX_DIGEST);
}

static uint64_t number(const uint8_t *p)
{
	struct cpx_rd r = cpx_rd_init(p, 8);

	return cpx_rd_u64(&r);
}

static void mend(uint8_t *p, size_t n, size_t manifest)
{
	uint64_t len;

	if (n < manifest + END)
		return;
	len = number(p + manifest - 8);
	if (len >= CPX_DIGEST && len <= n - manifest)
		put_digest(p + manifest + len - CPX_DIGEST, p + manifest, len - CPX_DIGEST);
	put_digest(p + n - CPX_DIGEST, p, n - CPX_DIGEST);
}

static void import(const uint8_t *p, size_t n)
{
	struct cpx_store *s = the_store();
	struct cpx_gen_entry gen;
	struct cpx_image *img;
	int fd = memfd_create("container", 0), out = memfd_create("again", 0);

	if (fd < 0 || out < 0 || cpx_write_full(fd, p, n) < 0 || lseek(fd, 0, SEEK_SET) != 0)
		abort();
	if (cpx_image_import(s, fd, &to, NULL, NULL, &gen, NULL) == 0) {
		if (cpx_image_open(s, &to, &img, NULL) < 0 ||
		    cpx_image_export(img, out, NULL, NULL, NULL, NULL) < 0)
			abort();
		cpx_image_close(img);
		if (cpx_store_remove_job(s, "to", NULL) < 0)
			abort();
	} else if (cpx_io_exists(&s->io, "jobs/to")) {
		abort();
	}
	close(fd);
	close(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpx_rd r = cpx_rd_init(data, size);
	uint8_t how = cpx_rd_u8(&r);
	struct cpx_buf b = { 0 };
	size_t n, manifest;
	const uint8_t *whole = the_container(&n, &manifest);

	if (how & 2) {
		cpx_buf_put(&b, whole, CPX_CONTAINER_HEAD);
		cpx_buf_put(&b, data, size);
		cpx_buf_put(&b, whole + n - END, END);
	} else {
		cpx_buf_put(&b, whole, n);
		while (cpx_rd_left(&r) >= 5) {
			uint32_t at = cpx_rd_u32(&r);
			uint8_t x = cpx_rd_u8(&r);

			/* most of it in the manifest and the heads of sections */
			b.data[how & 4 ? at % n : at % 800] ^= x;
		}
	}
	if (how & 1)
		mend(b.data, b.len, manifest);
	import(b.data, b.len);
	cpx_buf_free(&b);
	return 0;
}
