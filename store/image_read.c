/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_read.c - an open image: manifest, tables of packs, map segments, single pages.
 *
 * All is checked on the way: manifest digest, pack header and digest of the table,
 * checksum of each block, and that maps point into what is there. Tables, segments
 * and a few blocks are kept; files are closed again when many are open.
 */
#include "store_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "../chpox/base/buf.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "codec.h"

#define OPEN_PACKS 64

int cpx_image_load_manifest(struct cpx_store *s, const struct cpx_gen_id *id, bool want_state,
			    struct cpx_manifest *m, size_t *len, struct cpx_err *err)
{
	CPX_AUTO_FREE uint8_t *buf = NULL;
	char path[CPX_NAME_MAX], shown[512];
	struct cpx_manifest got;
	struct stat st;
	int rc;

	cpx_name_manifest(id, false, path);
	snprintf(shown, sizeof(shown), "%s/%s", s->io.shown, path);
	CPX_AUTO_FD fd = cpx_io_open(&s->io, path, err);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || st.st_size > CPX_MANIFEST_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "%s is too large for a manifest", shown);
	*len = (size_t)st.st_size;
	buf = malloc(*len + 1);
	if (!buf)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to read %s", shown);
	rc = cpx_io_read(&s->io, fd, path, buf, *len, 0, err);
	if (rc == 0)
		rc = cpx_manifest_decode(buf, *len, shown, want_state, &got, err);
	if (rc < 0)
		return rc;
	if (cpx_gen_compare(&got.id, id) != 0 || strcmp(got.id.job, id->job) != 0) {
		cpx_manifest_free(&got);
		return cpx_err_set(err, CPX_E_FORMAT, "%s holds another generation", shown);
	}
	*m = got;
	return 0;
}

static int init_tables(struct cpx_image *img)
{
	img->packs = calloc((size_t)img->m.npacks + 1, sizeof(*img->packs));
	img->segs = calloc((size_t)img->m.nsegs + 1, sizeof(*img->segs));
	if (!img->packs || !img->segs)
		return -1;
	for (uint32_t i = 0; i < img->m.npacks; i++)
		img->packs[i].fd = -1;
	for (uint32_t i = 0; i < img->m.nsegs; i++)
		img->segs[i].n = -1;
	return 0;
}

int cpx_image_of_manifest(struct cpx_store *store, struct cpx_manifest *m,
			  struct cpx_image **out, struct cpx_err *err)
{
	struct cpx_image *img = calloc(1, sizeof(*img));
	int rc = 0;

	if (!img)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to open an image");
	img->store = store;
	pthread_mutex_init(&img->lock, NULL);
	img->m = *m;
	memset(m, 0, sizeof(*m));
	if (init_tables(img) < 0)
		rc = cpx_err_set(err, CPX_E_NOMEM, "no memory to open an image");
	if (rc == 0 && img->m.state)
		rc = cpx_state_decode(img->m.state, img->m.state_len, &img->state, err);
	if (rc < 0) {
		cpx_image_close(img);
		return rc;
	}
	*out = img;
	return 0;
}

int cpx_image_load(struct cpx_store *store, const struct cpx_gen_id *id, bool want_state,
		   struct cpx_image **out, struct cpx_err *err)
{
	struct cpx_manifest m = { 0 };
	struct cpx_image *img;
	size_t len;
	int rc;

	if (!cpx_gen_valid(id))
		return cpx_err_set(err, CPX_E_INVAL, "not a generation's name");
	rc = cpx_image_load_manifest(store, id, want_state, &m, &len, err);
	if (rc == 0)
		rc = cpx_image_of_manifest(store, &m, &img, err);
	cpx_manifest_free(&m);
	if (rc < 0)
		return rc;
	img->manifest_len = len;
	cpx_freep(&img->m.state);
	*out = img;
	return 0;
}

int cpx_image_open(struct cpx_store *store, const struct cpx_gen_id *id, struct cpx_image **out,
		   struct cpx_err *err)
{
	return cpx_image_load(store, id, true, out, err);
}

void cpx_image_close(struct cpx_image *img)
{
	if (!img)
		return;
	for (uint32_t i = 0; img->packs && i < img->m.npacks; i++) {
		cpx_close(&img->packs[i].fd);
		free(img->packs[i].table);
	}
	for (uint32_t i = 0; img->segs && i < img->m.nsegs; i++)
		free(img->segs[i].entries);
	for (int i = 0; i < CPX_BLOCK_CACHE; i++)
		free(img->cache[i].data);
	free(img->packs);
	free(img->segs);
	cpx_state_free(img->state);
	cpx_manifest_free(&img->m);
	pthread_mutex_destroy(&img->lock);
	free(img);
}

const struct cpx_state *cpx_image_state(const struct cpx_image *img)
{
	return img->state;
}

const struct cpx_gen_id *cpx_image_id(const struct cpx_image *img)
{
	return &img->m.id;
}

void cpx_pack_path(const struct cpx_image *img, uint32_t i, char out[CPX_NAME_MAX])
{
	const struct cpx_pack_info *p = &img->m.packs[i];

	cpx_name_pack(img->m.id.job, p->epoch, p->seq, p->nonce, p->k, out);
}

/* Header and table of the pack open at @fd against what the manifest says. */
static int load_table(struct cpx_image *img, uint32_t i, int fd, struct cpx_block **out,
		      struct cpx_err *err)
{
	const struct cpx_pack_info *info = &img->m.packs[i];
	size_t n = (size_t)info->nblocks * CPX_TABLE_ENTRY;
	uint8_t header[CPX_PACK_HEADER], want[CPX_PACK_HEADER], digest[CPX_DIGEST];
	struct cpx_gen_id id = { .epoch = info->epoch, .seq = info->seq };
	CPX_AUTO_FREE uint8_t *raw = malloc(n);
	char path[CPX_NAME_MAX], shown[512];
	struct stat st;
	int rc;

	cpx_pack_path(img, i, path);
	snprintf(shown, sizeof(shown), "%s/%s", img->store->io.shown, path);
	if (!raw)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the table of %s", shown);
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != info->size)
		return cpx_err_set(err, CPX_E_CHECKSUM, "%s has %llu bytes instead of %llu",
				   shown, (unsigned long long)st.st_size,
				   (unsigned long long)info->size);
	rc = cpx_io_read(&img->store->io, fd, path, header, sizeof(header), 0, err);
	if (rc == 0)
		rc = cpx_io_read(&img->store->io, fd, path, raw, n, info->table_off, err);
	if (rc < 0)
		return rc;
	memcpy(id.job, img->m.id.job, sizeof(id.job));
	memcpy(id.nonce, info->nonce, sizeof(id.nonce));
	cpx_pack_header(&id, info->k, want);
	cpx_pack_digest(header, raw, n, digest);
	if (memcmp(header, want, sizeof(want)) != 0 ||
	    memcmp(digest, info->digest, CPX_DIGEST) != 0)
		return cpx_err_set(err, CPX_E_CHECKSUM,
				   "%s was changed: its digest does not fit", shown);
	return cpx_table_decode(info, raw, n, shown, out, err);
}

/* With the lock held. */
static int get_locked(struct cpx_image *img, uint32_t i, struct cpx_err *err)
{
	struct cpx_pack *p = &img->packs[i];
	char path[CPX_NAME_MAX];

	if (p->fd < 0) {
		cpx_pack_path(img, i, path);
		CPX_AUTO_FD fd = cpx_io_open(&img->store->io, path, err);

		if (fd < 0)
			return fd;
		if (!p->table) {
			int rc = load_table(img, i, fd, &p->table, err);

			if (rc < 0)
				return rc;
		}
		p->fd = cpx_steal_fd(&fd);
		img->open_packs++;
	}
	p->users++;
	return 0;
}

static void put_locked(struct cpx_image *img, uint32_t i)
{
	struct cpx_pack *p = &img->packs[i];

	if (--p->users == 0 && img->open_packs > OPEN_PACKS) {
		cpx_close(&p->fd);
		img->open_packs--;
	}
}

int cpx_pack_get(struct cpx_image *img, uint32_t i, struct cpx_err *err)
{
	int rc;

	pthread_mutex_lock(&img->lock);
	rc = get_locked(img, i, err);
	pthread_mutex_unlock(&img->lock);
	return rc;
}

void cpx_pack_put(struct cpx_image *img, uint32_t i)
{
	pthread_mutex_lock(&img->lock);
	put_locked(img, i);
	pthread_mutex_unlock(&img->lock);
}

int cpx_block_decode(const struct cpx_image *img, uint32_t i, uint32_t block,
		     const void *stored, void *out, struct cpx_err *err)
{
	const struct cpx_block *b = &img->packs[i].table[block];
	char path[CPX_NAME_MAX];
	int rc;

	if (XXH3_64bits(stored, b->stored) == b->sum) {
		rc = cpx_codec_unpack(b->codec, stored, b->stored, out, b->raw);
		if (rc == 0)
			return 0;
	}
	cpx_pack_path(img, i, path);
	return cpx_err_set(err, CPX_E_CHECKSUM,
			   "%s/%s was changed: block %u (bytes %llu to %llu) does not fit its "
			   "checksum",
			   img->store->io.shown, path, block, (unsigned long long)b->off,
			   (unsigned long long)b->off + b->stored - 1);
}

/* Read and decode one block into @out (room for its raw length). Lock held. */
static int read_block(struct cpx_image *img, uint32_t i, uint32_t block, void *out,
		      struct cpx_err *err)
{
	const struct cpx_block *b = &img->packs[i].table[block];
	CPX_AUTO_FREE void *stored = malloc(b->stored);
	char path[CPX_NAME_MAX];
	int rc;

	if (!stored)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a block");
	cpx_pack_path(img, i, path);
	rc = cpx_io_read(&img->store->io, img->packs[i].fd, path, stored, b->stored, b->off,
			 err);
	return rc < 0 ? rc : cpx_block_decode(img, i, block, stored, out, err);
}

uint32_t cpx_pack_index(const struct cpx_image *img, uint32_t id)
{
	const struct cpx_pack_info *p = cpx_manifest_pack(&img->m, id);

	return p ? (uint32_t)(p - img->m.packs) : UINT32_MAX;
}

/* The entries of one run of a segment; *@out is malloc'ed. Lock held. Return: their number. */
static int64_t read_run(struct cpx_image *img, const struct cpx_seg_ref *ref,
			const struct cpx_seg_run *run, struct cpx_seg_entry **out,
			struct cpx_err *err)
{
	uint32_t i = cpx_pack_index(img, run->pack);
	CPX_AUTO_FREE uint8_t *raw = NULL;
	const struct cpx_block *b;
	int64_t n = 0;
	int rc = get_locked(img, i, err);

	if (rc < 0)
		return rc;
	b = &img->packs[i].table[run->block];
	raw = malloc(CPX_SEG_RAW_MAX);
	if (!raw)
		rc = cpx_err_set(err, CPX_E_NOMEM, "no memory for a map segment");
	else if (b->kind != CPX_BLOCK_SEGMENT)
		rc = cpx_err_set(err, CPX_E_FORMAT, "the map points to what is no map segment");
	else
		rc = read_block(img, i, run->block, raw, err);
	if (rc == 0)
		n = cpx_seg_decode(raw, b->raw, ref->space, ref->seg, out, err);
	put_locked(img, i);
	return rc < 0 ? rc : n;
}

/* One run of a segment, painted over @cells. Lock held. */
static int paint_run(struct cpx_image *img, const struct cpx_seg_ref *ref,
		     const struct cpx_seg_run *run, struct cpx_cell *cells, struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_seg_entry *e = NULL;
	int64_t n = read_run(img, ref, run, &e, err);

	if (n > 0)
		cpx_seg_paint(cells, e, (size_t)n);
	return n < 0 ? (int)n : 0;
}

int64_t cpx_seg_run(struct cpx_image *img, uint32_t i, uint32_t run, struct cpx_seg_entry **out,
		    struct cpx_err *err)
{
	const struct cpx_seg_ref *ref = &img->m.segs[i];
	int64_t n;

	pthread_mutex_lock(&img->lock);
	n = read_run(img, ref, &ref->runs[run], out, err);
	pthread_mutex_unlock(&img->lock);
	return n;
}

int cpx_data_block(struct cpx_image *img, uint32_t i, uint32_t block, void *out,
		   struct cpx_err *err)
{
	int rc;

	pthread_mutex_lock(&img->lock);
	rc = get_locked(img, i, err);
	if (rc == 0) {
		if (img->packs[i].table[block].kind != CPX_BLOCK_DATA)
			rc = cpx_err_set(err, CPX_E_FORMAT,
					 "the page map points to what is no page");
		else
			rc = read_block(img, i, block, out, err);
		put_locked(img, i);
	}
	pthread_mutex_unlock(&img->lock);
	return rc;
}

/* The cells as entries that point into packs that are there. */
static int flatten(struct cpx_image *img, const struct cpx_cell *cells, struct cpx_seg *s,
		   struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_seg_entry *e = malloc(CPX_SEG_PAGES * sizeof(*e));
	void *less;
	int64_t n = 0;

	if (!e)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a map segment");
	for (uint32_t i = 0; i < CPX_SEG_PAGES; i++) {
		const struct cpx_cell *c = &cells[i];

		if (!c->pack)
			continue;
		if (n && i && c->pack == cells[i - 1].pack && c->pos == cells[i - 1].pos + 1)
			e[n - 1].count++;
		else
			e[n++] = (struct cpx_seg_entry){
				.pack = c->pack, .pos = c->pos, .page = (uint16_t)i, .count = 1
			};
	}
	for (int64_t i = 0; i < n; i++) {
		const struct cpx_pack_info *p = cpx_manifest_pack(&img->m, e[i].pack);

		if (!p || (e[i].pos + e[i].count - 1) / CPX_BLOCK_PAGES >= p->nblocks)
			return cpx_err_set(err, CPX_E_FORMAT,
					   "the page map points outside the packs");
	}
	less = realloc(e, (size_t)(n + 1) * sizeof(*e));
	if (less)
		e = less;
	s->entries = cpx_steal_ptr(&e);
	s->n = n;
	return 0;
}

int cpx_seg_load(struct cpx_image *img, uint32_t i, struct cpx_seg **out, struct cpx_err *err)
{
	const struct cpx_seg_ref *ref = &img->m.segs[i];
	int rc = 0;

	pthread_mutex_lock(&img->lock);
	if (img->segs[i].n < 0) {
		CPX_AUTO_FREE struct cpx_cell *cells = calloc(CPX_SEG_PAGES, sizeof(*cells));

		if (!cells)
			rc = cpx_err_set(err, CPX_E_NOMEM, "no memory for a map segment");
		for (uint32_t k = 0; rc == 0 && k < ref->nruns; k++)
			rc = paint_run(img, ref, &ref->runs[k], cells, err);
		if (rc == 0)
			rc = flatten(img, cells, &img->segs[i], err);
	}
	pthread_mutex_unlock(&img->lock);
	if (rc == 0)
		*out = &img->segs[i];
	return rc;
}

void cpx_seg_drop(struct cpx_image *img, uint32_t i)
{
	pthread_mutex_lock(&img->lock);
	cpx_freep(&img->segs[i].entries);
	img->segs[i].n = -1;
	pthread_mutex_unlock(&img->lock);
}

/* The entry that covers @page or the first one behind it; s->n if none. */
static int64_t find_entry(const struct cpx_seg *s, uint32_t page)
{
	int64_t lo = 0, hi = s->n;

	while (lo < hi) {
		int64_t mid = lo + (hi - lo) / 2;

		if (s->entries[mid].page + s->entries[mid].count <= page)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Where a page is. Return: 1 and *@cell, 0 zero, or an error. */
static int find_page(struct cpx_image *img, uint32_t space, uint64_t off, struct cpx_cell *cell,
		     struct cpx_err *err)
{
	uint32_t i = cpx_manifest_seg(&img->m, space, off >> CPX_SEG_SHIFT);
	uint32_t page = (uint32_t)(off / CPX_PAGE) % CPX_SEG_PAGES;
	struct cpx_seg *s;
	int64_t e;
	int rc;

	if (i >= img->m.nsegs || img->m.segs[i].space != space ||
	    img->m.segs[i].seg != off >> CPX_SEG_SHIFT)
		return 0;
	rc = cpx_seg_load(img, i, &s, err);
	if (rc < 0)
		return rc;
	e = find_entry(s, page);
	if (e >= s->n || s->entries[e].page > page)
		return 0;
	cell->pack = s->entries[e].pack;
	cell->pos = s->entries[e].pos + (page - s->entries[e].page);
	return 1;
}

int cpx_image_page_ref(struct cpx_image *img, uint32_t space, uint64_t off,
		       struct cpx_page_ref *ref, struct cpx_err *err)
{
	struct cpx_cell c;
	int rc = find_page(img, space, off, &c, err);

	if (rc == 1)
		*ref = (struct cpx_page_ref){ .pack = c.pack,
					      .block = c.pos / CPX_BLOCK_PAGES,
					      .page = c.pos % CPX_BLOCK_PAGES };
	return rc;
}

/* Decoded block from the cache, reading it first if need be. Lock held. */
static int cached_block(struct cpx_image *img, uint32_t pack, uint32_t block,
			struct cpx_cached_block **out, struct cpx_err *err)
{
	struct cpx_cached_block *old = &img->cache[0];
	uint32_t i = cpx_pack_index(img, pack);
	int rc;

	for (int k = 0; k < CPX_BLOCK_CACHE; k++) {
		struct cpx_cached_block *c = &img->cache[k];

		if (c->pack == pack && c->block == block) {
			c->used = ++img->clock;
			*out = c;
			return 0;
		}
		if (c->used < old->used)
			old = c;
	}
	if (!old->data)
		old->data = malloc(CPX_BLOCK_RAW);
	if (!old->data)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a block");
	rc = get_locked(img, i, err);
	if (rc < 0)
		return rc;
	old->pack = 0;
	if (img->packs[i].table[block].kind != CPX_BLOCK_DATA)
		rc = cpx_err_set(err, CPX_E_FORMAT, "the page map points to what is no page");
	else
		rc = read_block(img, i, block, old->data, err);
	if (rc == 0) {
		old->pack = pack;
		old->block = block;
		old->len = img->packs[i].table[block].raw;
		old->used = ++img->clock;
		*out = old;
	}
	put_locked(img, i);
	return rc;
}

static int read_in_page(struct cpx_image *img, uint32_t space, uint64_t off, void *buf,
			size_t len, struct cpx_err *err)
{
	struct cpx_cached_block *c = NULL;
	struct cpx_cell cell;
	int rc = find_page(img, space, off, &cell, err);
	size_t at;

	if (rc <= 0) {
		memset(buf, 0, len);
		return rc;
	}
	at = cell.pos % CPX_BLOCK_PAGES * CPX_PAGE;
	pthread_mutex_lock(&img->lock);
	rc = cached_block(img, cell.pack, cell.pos / CPX_BLOCK_PAGES, &c, err);
	if (rc == 0 && at + CPX_PAGE > c->len)
		rc = cpx_err_set(err, CPX_E_FORMAT, "the page map points behind a block's end");
	if (rc == 0)
		memcpy(buf, c->data + at + off % CPX_PAGE, len);
	pthread_mutex_unlock(&img->lock);
	return rc;
}

int cpx_image_read(struct cpx_image *img, uint32_t space, uint64_t off, void *buf, size_t len,
		   struct cpx_err *err)
{
	uint8_t *to = buf;

	while (len) {
		size_t n = CPX_PAGE - off % CPX_PAGE;
		int rc;

		if (n > len)
			n = len;
		rc = read_in_page(img, space, off, to, n, err);
		if (rc < 0)
			return rc;
		to += n;
		off += n;
		len -= n;
	}
	return 0;
}

struct extents {
	struct cpx_extent *v;
	size_t n, cap;
};

static int add_extent(struct extents *x, uint32_t space, uint64_t off, uint64_t len)
{
	struct cpx_extent *last = x->n ? &x->v[x->n - 1] : NULL;

	if (last && last->off + last->len == off) {
		last->len += len;
		return 0;
	}
	if (x->n == x->cap) {
		size_t cap = x->cap ? x->cap * 2 : 64;
		void *p = realloc(x->v, cap * sizeof(*x->v));

		if (!p)
			return CPX_E_NOMEM;
		x->v = p;
		x->cap = cap;
	}
	x->v[x->n++] = (struct cpx_extent){ .space = space, .off = off, .len = len };
	return 0;
}

int64_t cpx_image_extents(struct cpx_image *img, uint32_t space, uint64_t off, uint64_t len,
			  struct cpx_extent **out, struct cpx_err *err)
{
	uint64_t end = len > UINT64_MAX - off ? UINT64_MAX : off + len;
	struct extents x = { 0 };
	int rc = 0;

	for (uint32_t i = cpx_manifest_seg(&img->m, space, off >> CPX_SEG_SHIFT);
	     rc == 0 && len && i < img->m.nsegs && img->m.segs[i].space == space &&
	     img->m.segs[i].seg <= (end - 1) >> CPX_SEG_SHIFT;
	     i++) {
		uint64_t base = img->m.segs[i].seg << CPX_SEG_SHIFT;
		struct cpx_seg *s;

		rc = cpx_seg_load(img, i, &s, err);
		for (int64_t k = 0; rc == 0 && k < s->n; k++) {
			uint64_t a = base + (uint64_t)s->entries[k].page * CPX_PAGE;
			uint64_t b = a + (uint64_t)s->entries[k].count * CPX_PAGE;

			a = a < off ? off : a;
			b = b > end ? end : b;
			if (a < b && add_extent(&x, space, a, b - a) < 0)
				rc = cpx_err_set(err, CPX_E_NOMEM, "no memory for a page map");
		}
	}
	if (rc < 0) {
		free(x.v);
		return rc;
	}
	*out = x.v;
	return (int64_t)x.n;
}
