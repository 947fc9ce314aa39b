/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_write.c - the writer's queue, its workers, commit and abort.
 *
 * Happy path: put queues ranges; workers read windows of them, drop zero pages, pack 16
 * pages at a time into blocks of their own packs; commit lets them finish, writes the map
 * segments, and then the manifest. Little data is done by the caller itself, with no
 * thread.
 * Order of a commit: each pack fsynced; its directory fsynced, and that of new code
 * objects; the manifest written
 * under a temporary name, fsynced, renamed, and the directory fsynced again. Until the
 * rename nothing refers to the packs.
 * Failure: the first error stops all workers and is reported by the next call; abort
 * (also inside commit) removes the manifest first, if it came that far, and then the packs.
 */
#include "image_write.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/fd.h"

#define THREADS_AT (1u << 20)	/* bytes queued; less is quicker without */
#define SLICE (4u * CPX_WINDOW) /* what a worker takes at once */
#define QUEUE_MAX 65536u
#define PACK_LEAST (8u << 20)
#define PACK_SHARE 16 /* a pack is at most this part of what was written before it */
#define TRIALS 8      /* blocks that codecs are tried on */
#define NAP_NS 100000000LL
#define BUF_SIZE (CPX_WINDOW + CPX_BLOCK_RAW)

static void fail(struct cpx_image_writer *w, const struct cpx_err *err)
{
	pthread_mutex_lock(&w->lock);
	if (!w->failed) {
		w->failed = true;
		w->err = *err;
	}
	w->count = 0;
	pthread_cond_broadcast(&w->work);
	pthread_cond_broadcast(&w->idle);
	pthread_mutex_unlock(&w->lock);
}

static bool has_failed(struct cpx_image_writer *w)
{
	bool yes;

	pthread_mutex_lock(&w->lock);
	yes = w->failed;
	pthread_mutex_unlock(&w->lock);
	return yes;
}

struct cpx_piece *cpx_pieces_add(struct cpx_pieces *p)
{
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 256;
		void *v = realloc(p->v, cap * sizeof(*p->v));

		if (!v)
			return NULL;
		p->v = v;
		p->cap = cap;
	}
	return &p->v[p->n++];
}

/* --- one worker: windows to blocks ---------------------------------------------------- */

static int keep_info(struct cpx_image_worker *k, struct cpx_err *err)
{
	struct cpx_image_writer *w = k->w;
	void *v;

	pthread_mutex_lock(&w->lock);
	v = realloc(w->infos, (w->ninfos + 1) * sizeof(*w->infos));
	if (v) {
		w->infos = v;
		w->infos[w->ninfos++] = k->packer.info;
	}
	pthread_mutex_unlock(&w->lock);
	return v ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory for the list of packs");
}

static int finish_pack(struct cpx_image_worker *k, struct cpx_err *err)
{
	int rc = 0;

	if (k->packer.open) {
		rc = cpx_packer_finish(&k->packer, err);
		if (rc == 0)
			rc = keep_info(k, err);
	}
	return rc;
}

/*
 * How large the next pack may become. A pack is what cleaning works on: the finer they are
 * compared with the image, the less of what lives is copied with the dead. A few large ones are
 * quicker to write and shorter to list.
 */
static size_t pack_limit(struct cpx_image_writer *w)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < w->ninfos; i++)
		sum += w->infos[i].size;
	pthread_mutex_unlock(&w->lock);
	sum /= PACK_SHARE;
	return sum < PACK_LEAST ? PACK_LEAST : sum < CPX_PACK_MAX ? (size_t)sum : CPX_PACK_MAX;
}

/* By what is known now. @begun: a pack, on whose first block all may be tried. */
static void choose_codec(struct cpx_image_worker *k, bool begun)
{
	struct cpx_image_writer *w = k->w;
	struct cpx_store_speed now;

	pthread_mutex_lock(&w->lock);
	cpx_store_speed_since(w->store, &w->speed_before, &now);
	w->rates.store.bytes = w->opts.speed.bytes + now.bytes;
	w->rates.store.ns = w->opts.speed.ns + now.ns;
	k->now = cpx_codec_choose(&w->rates, w->nworkers);
	k->trial = begun && w->trials < TRIALS;
	w->trials += k->trial;
	pthread_mutex_unlock(&w->lock);
}

static void try_codecs(struct cpx_image_worker *k, const void *raw, size_t n)
{
	struct cpx_codec_rates one = { 0 };
	struct cpx_image_writer *w = k->w;

	cpx_codec_try(&one, k->codecs, raw, n, k->squeezed);
	pthread_mutex_lock(&w->lock);
	for (int c = 0; c < CPX_CODECS; c++) {
		w->rates.of[c].raw += one.of[c].raw;
		w->rates.of[c].stored += one.of[c].stored;
		w->rates.of[c].ns += one.of[c].ns;
	}
	pthread_mutex_unlock(&w->lock);
	choose_codec(k, false);
}

static int begin_pack(struct cpx_image_worker *k, struct cpx_err *err)
{
	struct cpx_image_writer *w = k->w;
	uint32_t n = atomic_fetch_add(&w->next_k, 1);
	int rc;

	if (n >= CPX_PACKS_MAX || w->first_pack > UINT32_MAX - 1 - CPX_PACKS_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "a generation of more than %u packs",
				   CPX_PACKS_MAX);
	rc = cpx_packer_begin(&k->packer, &w->store->io, &w->id, n, w->first_pack + n, err);
	k->packer.limit = pack_limit(w);
	if (rc == 0 && w->opts.codec == CPX_CODEC_AUTO)
		choose_codec(k, true);
	return rc;
}

/* An open pack with room for @stored more bytes. */
static int need_pack(struct cpx_image_worker *k, size_t stored, struct cpx_err *err)
{
	int rc = 0;

	if (k->packer.open && !cpx_packer_fits(&k->packer, stored))
		rc = finish_pack(k, err);
	if (rc == 0 && !k->packer.open)
		rc = begin_pack(k, err);
	return rc;
}

/* Where the store gets more than it is to get in that time, wait. */
static void throttle(struct cpx_image_writer *w, size_t n)
{
	uint64_t rate = atomic_load(&w->rate), sum;
	int64_t due, left;

	if (!rate)
		return;
	sum = atomic_fetch_add(&w->throttled, n) + n;
	due = w->rate_from + (int64_t)((double)sum / (double)rate * 1e9);
	while ((left = due - cpx_mono_ns()) > 0 && !has_failed(w)) {
		struct timespec nap = { .tv_nsec = left < NAP_NS ? left : NAP_NS };

		nanosleep(&nap, NULL);
	}
}

void cpx_image_throttle(struct cpx_image_writer *w, uint64_t rate)
{
	w->rate_from = cpx_mono_ns();
	atomic_store(&w->rate, rate);
}

/* Compress and append; the pack is open and has room. */
static int put_block(struct cpx_image_worker *k, enum cpx_block_kind kind, const void *raw,
		     size_t n, struct cpx_err *err)
{
	struct cpx_block b = { .raw = (uint32_t)n, .kind = (uint8_t)kind };
	size_t len;
	int rc;

	if (k->trial && kind == CPX_BLOCK_DATA) {
		k->trial = false;
		try_codecs(k, raw, n);
	}
	len = cpx_codec_pack(k->codecs[k->now], raw, n, k->squeezed);
	b.codec = len ? (uint8_t)k->now : CPX_CODEC_NONE;
	b.stored = (uint32_t)(len ? len : n);
	rc = cpx_packer_put(&k->packer, &b, len ? k->squeezed : raw, err);
	throttle(k->w, b.stored);
	return rc;
}

int cpx_worker_block(struct cpx_image_worker *k, enum cpx_block_kind kind, const void *raw,
		     size_t n, struct cpx_seg_run *where, struct cpx_err *err)
{
	int rc = need_pack(k, n, err);

	if (rc < 0)
		return rc;
	where->pack = k->packer.info.id;
	where->block = k->packer.info.nblocks;
	return put_block(k, kind, raw, n, err);
}

/* Write the pages at the start of the buffer, whole blocks or (@all) to the last one. */
static int flush_pages(struct cpx_image_worker *k, uint32_t pages, bool all,
		       struct cpx_err *err)
{
	uint32_t done = 0;

	while (pages - done >= CPX_BLOCK_PAGES || (all && pages > done)) {
		uint32_t n = pages - done < CPX_BLOCK_PAGES ? pages - done : CPX_BLOCK_PAGES;
		int rc = put_block(k, CPX_BLOCK_DATA, k->buf + (size_t)done * CPX_PAGE,
				   (size_t)n * CPX_PAGE, err);

		if (rc < 0)
			return rc;
		done += n;
	}
	k->pending = pages - done;
	if (done && k->pending)
		memmove(k->buf, k->buf + (size_t)done * CPX_PAGE,
			(size_t)k->pending * CPX_PAGE);
	return 0;
}

/* The pack that the @stored pages behind the pending ones go to. */
static int place_pages(struct cpx_image_worker *k, uint32_t stored, struct cpx_err *err)
{
	uint32_t old = k->pending;
	int rc;

	if (k->packer.open && cpx_packer_fits(&k->packer, BUF_SIZE + 5 * CPX_TABLE_ENTRY))
		return 0;
	if (k->packer.open) {
		rc = flush_pages(k, old, true, err);
		if (rc == 0)
			rc = finish_pack(k, err);
		if (rc < 0)
			return rc;
		memmove(k->buf, k->buf + (size_t)old * CPX_PAGE, (size_t)stored * CPX_PAGE);
	}
	return begin_pack(k, err);
}

static bool page_is_zero(const uint8_t *page)
{
	const uint64_t *p = (const uint64_t *)page;

	for (unsigned i = 0; i < CPX_PAGE / 8; i += 16) {
		uint64_t any = 0;

		for (unsigned j = 0; j < 16; j++)
			any |= p[i + j];
		if (any)
			return false;
	}
	return true;
}

/* Move the pages that are not zero together. Return: a bit for each of them. */
static uint64_t squeeze(uint8_t *at, uint32_t n, uint32_t *stored)
{
	uint64_t bits = 0;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (page_is_zero(at + (size_t)i * CPX_PAGE))
			continue;
		if (kept != i)
			memcpy(at + (size_t)kept * CPX_PAGE, at + (size_t)i * CPX_PAGE,
			       CPX_PAGE);
		bits |= 1ull << i;
		kept++;
	}
	*stored = kept;
	return bits;
}

int cpx_worker_pages(struct cpx_image_worker *k, uint32_t n, struct cpx_cell *where,
		     struct cpx_err *err)
{
	int rc = place_pages(k, n, err);

	if (rc < 0)
		return rc;
	where->pack = k->packer.info.id;
	where->pos = k->packer.info.nblocks * CPX_BLOCK_PAGES + k->pending;
	return flush_pages(k, k->pending + n, false, err);
}

static int do_window(struct cpx_image_worker *k, const struct cpx_put *put, uint64_t off,
		     uint32_t n, struct cpx_err *err)
{
	size_t len = (size_t)n * CPX_PAGE;
	struct cpx_cell where = { 0 };
	struct cpx_piece *piece;
	uint32_t stored;
	uint64_t bits;
	int rc = put->reader(put->ctx, off, k->buf + (size_t)k->pending * CPX_PAGE, len, err);

	if (rc < 0)
		return rc;
	bits = squeeze(k->buf + (size_t)k->pending * CPX_PAGE, n, &stored);
	k->bytes_memory += len;
	k->bytes_zero += len - (size_t)stored * CPX_PAGE;
	if (stored) {
		rc = cpx_worker_pages(k, stored, &where, err);
		if (rc < 0)
			return rc;
	}
	piece = cpx_pieces_add(&k->pieces);
	if (!piece)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the page map");
	*piece = (struct cpx_piece){ .page = off / CPX_PAGE,
				     .bits = bits,
				     .space = put->space,
				     .seq = put->seq,
				     .pack = where.pack,
				     .pos = where.pos,
				     .n = n };
	return 0;
}

static int do_slice(struct cpx_image_worker *k, const struct cpx_put *put, struct cpx_err *err)
{
	uint64_t off = put->off;

	while (off < put->end) {
		/* windows end at multiples of their size, so that none crosses a segment */
		uint64_t end = (off / CPX_WINDOW + 1) * CPX_WINDOW;
		int rc;

		if (end > put->end)
			end = put->end;
		rc = do_window(k, put, off, (uint32_t)((end - off) / CPX_PAGE), err);
		if (rc < 0)
			return rc;
		atomic_fetch_add(&k->w->bytes_done, end - off);
		off = end;
	}
	return 0;
}

/* --- queue and threads ---------------------------------------------------------------- */

/* Take the next slice off the queue; lock held, queue not empty. */
static struct cpx_put take_slice(struct cpx_image_writer *w)
{
	struct cpx_put *head = &w->queue[w->head];
	struct cpx_put slice = *head;
	uint64_t cut = (slice.off / SLICE + 1) * SLICE;

	if (cut < slice.end) {
		slice.end = cut;
		head->off = cut;
	} else {
		w->head = (w->head + 1) % w->cap;
		w->count--;
		if (w->count == QUEUE_MAX - 1)
			pthread_cond_broadcast(&w->idle);
	}
	return slice;
}

static int work_all(struct cpx_image_worker *k, struct cpx_err *err)
{
	struct cpx_image_writer *w = k->w;
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct cpx_put slice;

		while (w->threads && !w->count && !w->closing && !w->failed)
			pthread_cond_wait(&w->work, &w->lock);
		if (!w->count || w->failed || rc < 0)
			break;
		slice = take_slice(w);
		w->busy++;
		pthread_mutex_unlock(&w->lock);
		rc = do_slice(k, &slice, err);
		if (rc < 0)
			fail(w, err);
		pthread_mutex_lock(&w->lock);
		if (--w->busy == 0 && !w->count)
			pthread_cond_broadcast(&w->idle);
	}
	pthread_mutex_unlock(&w->lock);
	return rc;
}

/* The one that is wanted, or all to choose from. */
static int open_codecs(struct cpx_image_worker *k, struct cpx_err *err)
{
	const struct cpx_image_opts *o = &k->w->opts;
	int rc = 0;

	if (o->codec != CPX_CODEC_AUTO) {
		k->now = o->codec;
		if (k->now >= CPX_CODECS)
			return cpx_err_set(err, CPX_E_INVAL, "codec %d is unknown", k->now);
		return cpx_codec_new((int)o->codec, o->level, &k->codecs[o->codec], err);
	}
	for (int c = 0; c < CPX_CODECS && rc == 0; c++)
		rc = cpx_codec_new(c, 0, &k->codecs[c], err);
	k->now = CPX_CODEC_LZ4;
	return rc;
}

int cpx_worker_open(struct cpx_image_worker *k, struct cpx_err *err)
{
	void *m;

	if (k->buf)
		return 0;
	m = mmap(NULL, BUF_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m != MAP_FAILED)
		k->buf = m;
	k->squeezed = malloc(CPX_SEG_RAW_MAX);
	if (!k->buf || !k->squeezed)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a worker");
	return open_codecs(k, err);
}

static void *worker_main(void *arg)
{
	struct cpx_image_worker *k = arg;
	struct cpx_image_writer *w = k->w;
	struct cpx_err err = { 0 };
	int rc = cpx_worker_open(k, &err);

	if (rc < 0)
		fail(w, &err);
	else
		rc = work_all(k, &err);
	if (rc == 0 && !has_failed(w) && k->packer.open) {
		rc = flush_pages(k, k->pending, true, &err);
		/* the first worker's pack takes the map yet */
		if (rc == 0 && k != w->workers) {
			rc = finish_pack(k, &err);
			cpx_packer_free(&k->packer);
		}
		if (rc < 0)
			fail(w, &err);
	}
	return NULL;
}

static int start_threads(struct cpx_image_writer *w, struct cpx_err *err)
{
	sigset_t all, old;
	unsigned i;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_mutex_lock(&w->lock);
	w->threads = true;
	pthread_mutex_unlock(&w->lock);
	for (i = 0; i < w->nworkers && rc == 0; i++)
		rc = pthread_create(&w->workers[i].thread, NULL, worker_main, &w->workers[i]);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		return 0;
	w->nworkers = --i;
	if (i)
		return 0; /* fewer will do */
	w->threads = false;
	return cpx_err_sys(err, rc, "start a worker thread");
}

static void join_threads(struct cpx_image_writer *w)
{
	if (!w->threads)
		return;
	pthread_mutex_lock(&w->lock);
	w->closing = true;
	pthread_cond_broadcast(&w->work);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->nworkers; i++)
		pthread_join(w->workers[i].thread, NULL);
	w->threads = false;
}

/* --- the interface -------------------------------------------------------------------- */

static int grow_queue(struct cpx_image_writer *w)
{
	size_t cap = w->cap ? w->cap * 2 : 64;
	struct cpx_put *q;

	if (w->count < w->cap)
		return 0;
	q = malloc(cap * sizeof(*q));
	if (!q)
		return -1;
	for (size_t i = 0; i < w->count; i++)
		q[i] = w->queue[(w->head + i) % w->cap];
	free(w->queue);
	w->queue = q;
	w->head = 0;
	w->cap = cap;
	return 0;
}

static int range_ok(uint64_t off, uint64_t len, struct cpx_err *err)
{
	if (off % CPX_PAGE || len % CPX_PAGE || len > UINT64_MAX - CPX_WINDOW - off)
		return cpx_err_set(err, CPX_E_INVAL, "range %llx+%llx is not of whole pages",
				   (unsigned long long)off, (unsigned long long)len);
	return 0;
}

int cpx_image_put(struct cpx_image_writer *w, uint32_t space, uint64_t off, uint64_t len,
		  cpx_page_reader reader, void *ctx, struct cpx_err *err)
{
	struct cpx_put put = { .off = off,
			       .end = off + len,
			       .space = space,
			       .seq = w->next_seq++,
			       .reader = reader,
			       .ctx = ctx };
	uint64_t queued;
	int rc = range_ok(off, len, err);

	if (rc < 0 || !len)
		return rc;
	queued = atomic_fetch_add(&w->bytes_queued, len) + len;
	if (!w->threads && queued - atomic_load(&w->bytes_done) >= THREADS_AT) {
		rc = start_threads(w, err);
		if (rc < 0)
			return rc;
	}
	pthread_mutex_lock(&w->lock);
	while (w->count >= QUEUE_MAX && w->threads && !w->failed)
		pthread_cond_wait(&w->idle, &w->lock);
	if (w->failed) {
		if (err)
			*err = w->err;
		rc = w->err.code;
	} else if (grow_queue(w) < 0) {
		rc = cpx_err_set(err, CPX_E_NOMEM, "no memory for the queue");
	} else {
		w->queue[(w->head + w->count++) % w->cap] = put;
		pthread_cond_signal(&w->work);
	}
	pthread_mutex_unlock(&w->lock);
	return rc;
}

int cpx_image_inherit(struct cpx_image_writer *w, uint32_t space, uint64_t off, uint64_t len,
		      struct cpx_err *err)
{
	uint64_t first = off / CPX_PAGE, end = (off + len) / CPX_PAGE;
	int rc = range_ok(off, len, err);
	void *v;

	if (rc < 0 || !len)
		return rc;
	if (!w->base)
		return cpx_err_set(err, CPX_E_INVAL, "there is no generation to inherit from");
	v = realloc(w->ranges, (w->nranges + 1) * sizeof(*w->ranges));
	if (!v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the page map");
	w->ranges = v;
	w->ranges[w->nranges++] = (struct cpx_inherited){
		.first = first, .end = end, .space = space, .seq = w->next_seq
	};
	for (uint32_t i = cpx_manifest_seg(&w->base->m, space, off >> CPX_SEG_SHIFT);
	     i < w->base->m.nsegs && w->base->m.segs[i].space == space &&
	     w->base->m.segs[i].seg * CPX_SEG_PAGES < end;
	     i++) {
		uint64_t a = w->base->m.segs[i].seg * CPX_SEG_PAGES, b = a + CPX_SEG_PAGES;
		struct cpx_piece *p = cpx_pieces_add(&w->others);

		if (!p)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for the page map");
		a = a < first ? first : a;
		b = b > end ? end : b;
		*p = (struct cpx_piece){ .page = a,
					 .space = space,
					 .seq = w->next_seq,
					 .pack = CPX_PIECE_INHERIT,
					 .pos = (uint32_t)(b - a) };
	}
	w->next_seq++;
	return 0;
}

int cpx_image_share(struct cpx_image_writer *w, uint32_t space, uint64_t off, uint64_t len,
		    uint32_t from_space, uint64_t from_off, struct cpx_err *err)
{
	uint64_t page = off / CPX_PAGE, end = (off + len) / CPX_PAGE,
		 from = from_off / CPX_PAGE;
	int rc = range_ok(off, len, err);

	if (rc == 0)
		rc = range_ok(from_off, len, err);
	if (rc < 0 || !len)
		return rc;
	if (from_space >= space)
		return cpx_err_set(err, CPX_E_INVAL, "space %u cannot share from space %u",
				   space, from_space);
	while (page < end) {
		uint64_t n = CPX_SEG_PAGES - page % CPX_SEG_PAGES;
		struct cpx_piece *p = cpx_pieces_add(&w->others);

		if (!p)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for the page map");
		n = n > end - page ? end - page : n;
		*p = (struct cpx_piece){ .page = page,
					 .bits = from,
					 .space = space,
					 .seq = w->next_seq,
					 .pack = CPX_PIECE_SHARE,
					 .pos = (uint32_t)n,
					 .n = from_space };
		page += n;
		from += n;
	}
	w->shares = true;
	w->next_seq++;
	return 0;
}

int cpx_image_drain(struct cpx_image_writer *w, struct cpx_err *err)
{
	int rc = 0;

	if (!w->threads && w->count) {
		struct cpx_err first = { 0 };

		rc = cpx_worker_open(w->workers, &first);
		if (rc < 0)
			fail(w, &first);
		else
			work_all(w->workers, &first);
	}
	pthread_mutex_lock(&w->lock);
	while (w->busy || (w->count && w->threads))
		pthread_cond_wait(&w->idle, &w->lock);
	if (w->failed) {
		rc = w->err.code;
		if (err)
			*err = w->err;
	}
	pthread_mutex_unlock(&w->lock);
	return rc;
}

void cpx_image_progress(const struct cpx_image_writer *w, uint64_t *done, uint64_t *queued)
{
	struct cpx_image_writer *u = (struct cpx_image_writer *)w;

	*done = atomic_load(&u->bytes_done);
	*queued = atomic_load(&u->bytes_queued);
}

static int open_base(struct cpx_image_writer *w, const struct cpx_gen_id *base,
		     struct cpx_err *err)
{
	int rc;

	w->base_id = *base;
	if (strcmp(base->job, w->id.job) != 0)
		return cpx_err_set(err, CPX_E_INVAL, "a base of another job ('%s')", base->job);
	rc = cpx_image_load(w->store, base, false, &w->base, err);
	if (rc < 0)
		return cpx_err_wrap(err, "base generation"), rc;
	if (w->base->m.npacks)
		w->first_pack = w->base->m.packs[w->base->m.npacks - 1].id + 1;
	return 0;
}

/* The job's directory, durable. */
static int make_dirs(struct cpx_image_writer *w, struct cpx_err *err)
{
	struct cpx_io *io = &w->store->io;
	char name[CPX_NAME_MAX];
	int rc = cpx_store_make_dir(w->store, w->id.job, &w->made_dir, err);

	cpx_name_manifest(&w->id, false, name);
	if (rc == 0 && cpx_io_exists(io, name))
		rc = cpx_err_set(err, CPX_E_EXIST, "%s/%s exists already", io->shown, name);
	return rc;
}

static int set_up(struct cpx_image_writer *w, const struct cpx_image_opts *opts,
		  struct cpx_err *err)
{
	int rc;

	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->idle, NULL);
	w->first_pack = 1;
	if (opts)
		w->opts = *opts;
	else
		w->opts.codec = CPX_CODEC_LZ4;
	w->nworkers = cpx_store_workers(w->opts.workers);
	w->workers = calloc(w->nworkers, sizeof(*w->workers));
	if (!w->workers)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a writer");
	for (unsigned i = 0; i < w->nworkers; i++)
		w->workers[i].w = w;
	if (w->opts.base) {
		rc = open_base(w, w->opts.base, err);
		if (rc < 0)
			return rc;
	}
	return make_dirs(w, err);
}

static void free_writer(struct cpx_image_writer *w)
{
	for (unsigned i = 0; w->workers && i < w->nworkers; i++) {
		struct cpx_image_worker *k = &w->workers[i];

		cpx_packer_free(&k->packer);
		for (int c = 0; c < CPX_CODECS; c++)
			cpx_codec_free(k->codecs[c]);
		free(k->squeezed);
		free(k->pieces.v);
		if (k->buf)
			munmap(k->buf, BUF_SIZE);
	}
	cpx_image_close(w->base);
	free(w->workers);
	free(w->queue);
	free(w->infos);
	free(w->others.v);
	free(w->ranges);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->idle);
	free(w);
}

int cpx_image_create(struct cpx_store *store, const struct cpx_gen_id *id,
		     const struct cpx_image_opts *opts, struct cpx_image_writer **out,
		     struct cpx_err *err)
{
	struct cpx_image_writer *w;
	int rc;

	if (!cpx_gen_valid(id))
		return cpx_err_set(err, CPX_E_INVAL, "'%.63s' is not a good name for a job",
				   id->job);
	w = calloc(1, sizeof(*w));
	if (!w)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a writer");
	w->store = store;
	w->id = *id;
	cpx_store_speed(store, &w->speed_before);
	rc = set_up(w, opts, err);
	if (rc < 0) {
		cpx_image_abort(w);
		return rc;
	}
	*out = w;
	return 0;
}

/* Remove the files of this generation; the manifest before what it refers to. */
static void remove_files(struct cpx_image_writer *w)
{
	struct cpx_io *io = &w->store->io;
	uint32_t n = atomic_load(&w->next_k);
	char name[CPX_NAME_MAX];

	cpx_manifest_unlink(io, &w->id, w->stage);
	if (w->store->list.open && cpx_gen_compare(&w->store->list.id, &w->id) == 0)
		cpx_code_list_end(w->store);
	for (uint32_t k = 0; k < n; k++) {
		cpx_name_pack(w->id.job, w->id.epoch, w->id.seq, w->id.nonce, k, name);
		cpx_io_unlink(io, name, NULL);
	}
	if (w->made_dir) {
		cpx_name_job(w->id.job, name);
		cpx_io_rmdir(io, name, NULL);
	}
}

static void discard(struct cpx_image_writer *w)
{
	const struct cpx_err stopped = { .code = CPX_E_INVAL,
					 .msg = "the checkpoint was dropped" };

	fail(w, &stopped);
	join_threads(w);
	remove_files(w);
	free_writer(w);
}

void cpx_image_abort(struct cpx_image_writer *w)
{
	if (w)
		discard(w);
}

/* All packs on disk, and the manifest's tables filled. */
static int finish_packs(struct cpx_image_writer *w, struct cpx_manifest *m, struct cpx_err *err)
{
	struct cpx_image_worker *first = w->workers;
	int rc = cpx_image_drain(w, err);

	if (rc < 0)
		return rc;
	join_threads(w);
	if (w->failed) {
		if (err)
			*err = w->err;
		return w->err.code;
	}
	if (first->packer.open) {
		rc = flush_pages(first, first->pending, true, err);
		if (rc < 0)
			return rc;
	}
	rc = cpx_worker_open(first, err);
	if (rc == 0)
		rc = cpx_map_build(w, m, err);
	return rc;
}

static int compare_infos(const void *a, const void *b)
{
	const struct cpx_pack_info *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int add_own_packs(struct cpx_image_writer *w, struct cpx_manifest *m,
			 struct cpx_err *err)
{
	void *v = realloc(m->packs, ((size_t)m->npacks + w->ninfos + 1) * sizeof(*m->packs));

	if (!v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the manifest");
	m->packs = v;
	if (w->ninfos)
		qsort(w->infos, w->ninfos, sizeof(*w->infos), compare_infos);
	for (uint32_t i = 0; i < w->ninfos; i++) {
		m->packs[m->npacks++] = w->infos[i];
		m->stats.bytes_stored += w->infos[i].size;
	}
	return 0;
}

int cpx_manifest_write(struct cpx_io *io, const struct cpx_manifest *m,
		       enum cpx_write_stage *stage, size_t *len, struct cpx_err *err)
{
	char tmp[CPX_NAME_MAX], name[CPX_NAME_MAX], dir[CPX_NAME_MAX];
	struct cpx_io_file f = { 0 };
	struct cpx_buf buf = { 0 };
	int rc = cpx_manifest_encode(m, &buf, err);

	cpx_name_manifest(&m->id, true, tmp);
	cpx_name_manifest(&m->id, false, name);
	cpx_name_job(m->id.job, dir);
	if (rc == 0)
		rc = cpx_io_create(io, tmp, &f, err);
	if (rc == 0) {
		*stage = CPX_STAGE_TEMPORARY;
		rc = cpx_io_write(&f, buf.data, buf.len, 0, err);
	}
	if (rc == 0)
		rc = cpx_io_fsync(&f, err);
	cpx_io_close(&f);
	*len = buf.len;
	cpx_buf_free(&buf);
	if (rc == 0)
		rc = cpx_io_rename(io, tmp, name, err);
	if (rc == 0) {
		*stage = CPX_STAGE_NAMED;
		rc = cpx_io_fsync_dir(io, dir, err);
	}
	return rc;
}

void cpx_manifest_unlink(struct cpx_io *io, const struct cpx_gen_id *id,
			 enum cpx_write_stage stage)
{
	char name[CPX_NAME_MAX];

	if (stage < CPX_STAGE_TEMPORARY)
		return;
	cpx_name_manifest(id, stage == CPX_STAGE_TEMPORARY, name);
	cpx_io_unlink(io, name, NULL);
	cpx_name_job(id->job, name);
	cpx_io_fsync_dir(io, name, NULL);
}

static int commit(struct cpx_image_writer *w, struct cpx_manifest *m, size_t *len,
		  struct cpx_err *err)
{
	char dir[CPX_NAME_MAX];
	int rc = finish_packs(w, m, err);

	if (rc == 0)
		rc = finish_pack(w->workers, err);
	if (rc == 0)
		rc = add_own_packs(w, m, err);
	cpx_name_job(w->id.job, dir);
	if (rc == 0 && w->ninfos)
		rc = cpx_io_fsync_dir(&w->store->io, dir, err);
	if (rc == 0)
		rc = cpx_store_sync_code(w->store, err);
	if (rc < 0)
		return rc;
	m->id = w->id;
	m->has_base = w->base != NULL;
	m->base = w->base_id;
	return cpx_manifest_write(&w->store->io, m, &w->stage, len, err);
}

/* What the manifest says besides packs and maps. */
static int describe(struct cpx_manifest *m, const struct cpx_state *state, const char *note,
		    struct cpx_err *err)
{
	struct cpx_buf records = { 0 };
	int rc = cpx_state_encode(state, &records, err);

	m->state = records.data;
	m->state_len = records.len;
	if (rc < 0)
		return rc;
	m->realtime_ns = cpx_clock_ns(CLOCK_REALTIME);
	m->note = strndup(note ? note : "", CPX_NOTE_MAX);
	return m->note ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory for the manifest");
}

int cpx_writer_commit(struct cpx_image_writer *w, struct cpx_manifest *m,
		      struct cpx_image_stats *stats, struct cpx_err *err)
{
	size_t len = 0;
	int rc = commit(w, m, &len, err);

	if (rc < 0) {
		discard(w);
		return rc;
	}
	if (stats) {
		*stats = m->stats;
		stats->bytes_stored += len;
		stats->bytes_packs = stats->pages_stored = 0;
		stats->packs = m->npacks;
		cpx_store_speed_since(w->store, &w->speed_before, &stats->speed);
		for (uint32_t i = 0; i < m->npacks; i++)
			stats->bytes_packs += m->packs[i].size;
		for (uint32_t i = 0; i < m->nsegs; i++)
			stats->pages_stored += m->segs[i].pages;
	}
	cpx_store_committed(w->store);
	free_writer(w);
	return 0;
}

int cpx_image_commit(struct cpx_image_writer *w, const struct cpx_state *state,
		     const char *note, struct cpx_image_stats *stats, struct cpx_err *err)
{
	struct cpx_manifest m = { 0 };
	int rc = describe(&m, state, note, err);

	if (rc == 0)
		rc = cpx_writer_commit(w, &m, stats, err);
	else
		discard(w);
	cpx_manifest_free(&m);
	return rc;
}
