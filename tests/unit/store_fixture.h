/* SPDX-License-Identifier: GPL-2.0-or-later */
/* store_fixture.h - a directory for a test, pages to put in a store, and comparing them. */
#ifndef CPX_TESTS_STORE_FIXTURE_H
#define CPX_TESTS_STORE_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../chpox/base/buf.h"
#include "../../chpox/base/err.h"
#include "../../chpox/base/fd.h"
#include "../../store/store_priv.h"

/* Fails the test with the error's own words. */
#define OK(call)                                                                         \
	do {                                                                             \
		if ((call) < 0)                                                          \
			fail_msg("%s: %s (%s)", #call, err.msg, cpx_err_name(err.code)); \
	} while (0)

#define FX static inline __attribute__((unused))

/* One space of pages, as the test knows it. */
struct pages {
	uint8_t *p;
	size_t n;    /* bytes */
	uint64_t at; /* offset in the space */
	uint64_t random;
};

FX uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

FX struct pages make_pages(size_t n, uint64_t at)
{
	return (struct pages){
		.p = calloc(1, n + 1), .n = n, .at = at, .random = 0x9e3779b97f4a7c15u ^ n ^ at
	};
}

enum fill { FILL_ZERO, FILL_RANDOM, FILL_TEXT, FILL_SPARSE, FILL_KINDS };

FX void fill_page(struct pages *g, size_t page, enum fill kind)
{
	uint8_t *p = g->p + page * CPX_PAGE;

	memset(p, 0, CPX_PAGE);
	if (kind == FILL_ZERO || (kind == FILL_SPARSE && page % 3))
		return;
	for (size_t i = 0; i < CPX_PAGE; i += 8) {
		uint64_t v = next_random(&g->random);

		if (kind != FILL_RANDOM)
			v = v % 5 ? 0x20202020 : v & 0xffffff;
		memcpy(p + i, &v, 8);
	}
	p[0] |= 1;
}

FX void fill(struct pages *g, enum fill kind)
{
	for (size_t i = 0; i < g->n / CPX_PAGE; i++)
		fill_page(g, i, kind);
}

FX int read_pages(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	struct pages *g = ctx;

	if (off < g->at || off - g->at + len > g->n)
		return cpx_err_set(err, CPX_E_INVAL, "outside");
	memcpy(buf, g->p + (off - g->at), len);
	return 0;
}

/* A directory under @base (or where temporary files go); remove_tree() takes it away. */
FX char *make_dir(const char *base)
{
	char path[256];
	const char *tmp = getenv("TMPDIR");

	if (!base)
		base = tmp ? tmp : "/tmp";
	snprintf(path, sizeof(path), "%s/chpox-test-XXXXXX", base);
	if (!mkdtemp(path))
		fail_msg("cannot make %s", path);
	return strdup(path);
}

/* Memory if there is some: the fast place for many small files. */
FX const char *fast_base(void)
{
	return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : NULL;
}

FX int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

FX void remove_tree(char *path)
{
	if (path)
		nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(path);
}

FX struct cpx_gen_id gen(uint64_t seq)
{
	struct cpx_gen_id id = { .job = "job", .epoch = 1, .seq = seq };

	snprintf(id.nonce, sizeof(id.nonce), "%016llx", 0xabcdef0000000000ull + seq);
	return id;
}

FX struct cpx_store *open_dir(const char *dir)
{
	const struct cpx_store_opts opts = { .create = true,
					     .uid = (uint32_t)-1,
					     .gid = (uint32_t)-1 };
	struct cpx_err err = { 0 };
	struct cpx_store *s = NULL;

	OK(cpx_store_open(dir, &opts, &s, &err));
	return s;
}

FX struct cpx_state *some_state(uint32_t tag)
{
	struct cpx_state *st = cpx_state_new();
	struct cpx_rec_task *t = st ? cpx_state_new_rec(st, task) : NULL;

	if (!t) {
		cpx_state_free(st);
		return NULL;
	}
	t->pid = tag;
	t->comm = cpx_state_str(st, "a task");
	return st;
}

/* One whole generation with one space. */
FX int write_gen(struct cpx_store *s, uint64_t seq, struct pages *g,
		 const struct cpx_image_opts *opts, struct cpx_image_stats *stats,
		 struct cpx_err *err)
{
	struct cpx_gen_id id = gen(seq);
	struct cpx_state *st = some_state((uint32_t)seq);
	struct cpx_image_writer *w;
	int rc;

	if (!st)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the test");
	rc = cpx_image_create(s, &id, opts, &w, err);
	if (rc == 0) {
		rc = cpx_image_put(w, 1, g->at, g->n, read_pages, g, err);
		if (rc < 0)
			cpx_image_abort(w);
		else
			rc = cpx_image_commit(w, st, "a test", stats, err);
	}
	cpx_state_free(st);
	return rc;
}

struct copy {
	struct pages *want;
	uint8_t *seen; /* bytes handed over */
	uint32_t space;
	pthread_mutex_t lock;
	uint64_t handed;
};

FX int check_sink(void *ctx, uint32_t space, uint64_t off, const void *data, size_t len,
		  struct cpx_err *err)
{
	struct copy *c = ctx;

	if (space != c->space || off < c->want->at || off - c->want->at + len > c->want->n ||
	    (uintptr_t)data % CPX_PAGE || off % CPX_PAGE || len % CPX_PAGE)
		return cpx_err_set(err, CPX_E_INVAL, "the sink got what nobody asked for");
	if (memcmp(c->want->p + (off - c->want->at), data, len) != 0)
		return cpx_err_set(err, CPX_E_INVAL, "page %llx is not as it was",
				   (unsigned long long)off);
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < len; i += CPX_PAGE)
		c->seen[(off - c->want->at + i) / CPX_PAGE]++;
	c->handed += len;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

/* All of @g is in @space of @img: each page that is not zero handed over once. */
FX int compare_pages(struct cpx_image *img, uint32_t space, struct pages *g, unsigned workers,
		     struct cpx_err *err)
{
	const struct cpx_extent all = { .space = space, .off = g->at, .len = g->n };
	struct copy c = { .want = g, .space = space, .lock = PTHREAD_MUTEX_INITIALIZER };
	static const uint8_t zero[CPX_PAGE];
	int rc;

	c.seen = calloc(g->n / CPX_PAGE + 1, 1);
	rc = cpx_image_scan(img, &all, 1, workers, check_sink, &c, err);
	for (size_t i = 0; rc == 0 && i < g->n / CPX_PAGE; i++) {
		bool is_zero = memcmp(g->p + i * CPX_PAGE, zero, CPX_PAGE) == 0;

		if (c.seen[i] != (is_zero ? 0 : 1))
			rc = cpx_err_set(err, CPX_E_INVAL, "page %zu was handed over %u times",
					 i, c.seen[i]);
	}
	free(c.seen);
	return rc;
}

/* Generation @seq is whole and holds @g. Return: 0 or an error. */
FX int check_gen(struct cpx_store *s, uint64_t seq, struct pages *g, struct cpx_err *err)
{
	struct cpx_gen_id id = gen(seq);
	struct cpx_image *img;
	int rc = cpx_image_open(s, &id, &img, err);

	if (rc < 0)
		return rc;
	rc = cpx_image_verify(img, 1, err);
	if (rc == 0)
		rc = compare_pages(img, 1, g, 1, err);
	if (rc == 0 && cpx_state_rec(cpx_image_state(img), task, 0)->pid != seq)
		rc = cpx_err_set(err, CPX_E_INVAL, "the records are another generation's");
	cpx_image_close(img);
	return rc;
}

/* How many files and directories are under @dir of the store. */
FX int count_line(void *ctx, const char *name)
{
	(void)name;
	++*(int *)ctx;
	return 0;
}

FX int count_files(struct cpx_store *s, const char *dir)
{
	int n = 0;

	cpx_io_list(&s->io, dir, count_line, &n, NULL);
	return n;
}

#endif
