/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a long row of incremental generations takes: live share of what a head refers to, what
 * cleaning writes for it, what a restore reads, and the bytes of map and manifest.
 */
#include "store_fixture.h"

#include <stdatomic.h>

#include "../../store/space.h"

#define MIB (1u << 20)

/* --- a job, as a keeper would save it ------------------------------------------------- */

struct row {
	char *dir;
	struct cpx_store *s;
	_Atomic uint64_t bytes_read;
	struct cpx_space space;
	struct cpx_gen_id head;
	uint64_t seq, copies;
	uint64_t new_bytes, cleaned; /* by increments, by cleaning */
	double worst;		     /* smallest live share of a head */
	uint64_t map_bytes;	     /* map segments and manifests of the increments */
	uint32_t segs;
};

static int count_reads(void *ctx, const struct cpx_io_op *op)
{
	struct row *r = ctx;

	if (op->kind == CPX_IO_READ)
		atomic_fetch_add(&r->bytes_read, op->len);
	return 0;
}

static void open_row(struct row *r)
{
	const struct cpx_store_opts opts = { .create = true,
					     .uid = (uint32_t)-1,
					     .gid = (uint32_t)-1 };
	struct cpx_err err = { 0 };

	memset(r, 0, sizeof(*r));
	r->dir = make_dir(fast_base());
	r->worst = 1;
	OK(cpx_store_open_hooked(r->dir, &opts, (struct cpx_io_hook){ count_reads, r }, &r->s,
				 &err));
}

static void close_row(struct row *r)
{
	cpx_store_close(r->s);
	remove_tree(r->dir);
}

/* Its map blocks and its manifest. */
static uint64_t map_bytes_of(struct row *r, const struct cpx_gen_id *id)
{
	struct cpx_err err = { 0 };
	struct cpx_image *img;
	uint64_t sum;

	OK(cpx_image_load(r->s, id, false, &img, &err));
	sum = img->manifest_len;
	r->segs = img->m.nsegs;
	for (uint32_t i = 0; i < img->m.npacks; i++) {
		if (strcmp(img->m.packs[i].nonce, id->nonce) != 0)
			continue;
		OK(cpx_pack_get(img, i, &err));
		for (uint32_t b = 0; b < img->m.packs[i].nblocks; b++)
			if (img->packs[i].table[b].kind == CPX_BLOCK_SEGMENT)
				sum += img->packs[i].table[b].stored + CPX_TABLE_ENTRY;
		cpx_pack_put(img, i);
	}
	cpx_image_close(img);
	return sum;
}

static void replace_head(struct row *r, const struct cpx_gen_id *id)
{
	struct cpx_gen_id old = r->head;
	struct cpx_err err = { 0 };

	r->head = *id;
	if (old.job[0])
		OK(cpx_store_remove(r->s, &old, &err));
}

static void clean_row(struct row *r)
{
	struct cpx_gen_id copy = r->head;
	struct cpx_clean_stats c;
	struct cpx_err err = { 0 };
	int rc;

	if (!cpx_space_due(&r->space))
		return;
	snprintf(copy.nonce, sizeof(copy.nonce), "c%015llx", (unsigned long long)++r->copies);
	rc = cpx_image_clean(r->s, &r->head, &copy, CPX_CODEC_LZ4, cpx_space_budget(&r->space),
			     &c, &err);
	OK(rc);
	cpx_space_cleaned(&r->space, &c);
	r->cleaned += c.bytes_written;
	if (rc == 1)
		replace_head(r, &copy);
}

/* The exact share, whatever the estimate said. */
static double live_share(struct row *r)
{
	struct cpx_gen_id copy = r->head;
	struct cpx_clean_stats c;
	struct cpx_err err = { 0 };

	memset(copy.nonce, 'f', 16);
	assert_int_equal(cpx_image_clean(r->s, &r->head, &copy, CPX_CODEC_LZ4, 0, &c, &err), 0);
	return (double)c.bytes_live / (double)c.bytes_packs;
}

/* One more generation: @g all of it (the first), or what @dirty says, a byte a page. */
static void save(struct row *r, struct pages *g, const uint8_t *dirty, cpx_page_reader reader)
{
	const struct cpx_image_opts opts = { .codec = CPX_CODEC_LZ4,
					     .base = r->seq ? &r->head : NULL };
	struct cpx_gen_id id = gen(r->seq + 1);
	struct cpx_state *st = some_state((uint32_t)id.seq);
	struct cpx_image_stats stats;
	struct cpx_image_writer *w;
	struct cpx_err err = { 0 };
	bool full = !r->seq++;

	OK(cpx_image_create(r->s, &id, &opts, &w, &err));
	if (full)
		OK(cpx_image_put(w, 1, g->at, g->n, reader, g, &err));
	else
		OK(cpx_image_inherit(w, 1, g->at, g->n, &err));
	for (size_t i = 0; !full && i < g->n / CPX_PAGE; i++)
		if (dirty[i])
			OK(cpx_image_put(w, 1, g->at + i * CPX_PAGE, CPX_PAGE, reader, g,
					 &err));
	OK(cpx_image_commit(w, st, NULL, &stats, &err));
	cpx_state_free(st);
	cpx_space_grown(&r->space, &stats, full);
	if (!full) {
		r->new_bytes += stats.bytes_stored;
		r->map_bytes += map_bytes_of(r, &id);
	}
	replace_head(r, &id);
	clean_row(r);
}

static void check_head(struct row *r, struct pages *g)
{
	struct cpx_err err = { 0 };
	struct cpx_image *img;

	OK(cpx_image_open(r->s, &r->head, &img, &err));
	OK(cpx_image_verify(img, 1, &err));
	OK(compare_pages(img, 1, g, 2, &err));
	assert_int_equal(cpx_state_rec(cpx_image_state(img), task, 0)->pid, r->seq);
	cpx_image_close(img);
}

static int drop_sink(void *ctx, uint32_t space, uint64_t off, const void *data, size_t len,
		     struct cpx_err *err)
{
	(void)space;
	(void)off;
	(void)data;
	(void)err;
	atomic_fetch_add((_Atomic uint64_t *)ctx, len);
	return 0;
}

/* Bytes that a restore of the head reads, manifest and map included. */
static uint64_t restore_reads(struct row *r, struct pages *g)
{
	const struct cpx_extent all = { .space = 1, .off = g->at, .len = g->n };
	_Atomic uint64_t handed = 0;
	struct cpx_err err = { 0 };
	struct cpx_image *img;

	r->bytes_read = 0;
	OK(cpx_image_open(r->s, &r->head, &img, &err));
	OK(cpx_image_scan(img, &all, 1, 1, drop_sink, (void *)&handed, &err));
	cpx_image_close(img);
	return r->bytes_read;
}

/* --- cleaning ------------------------------------------------------------------------- */

static void dirty_random(struct pages *g, uint8_t *dirty, size_t n)
{
	memset(dirty, 0, g->n / CPX_PAGE);
	for (size_t i = 0; i < n; i++) {
		size_t page = next_random(&g->random) % (g->n / CPX_PAGE);

		dirty[page] = 1;
		fill_page(g, page, FILL_RANDOM);
	}
}

static void judge_row(struct row *r, struct pages *g, const char *what, int gens,
		      size_t per_gen, uint64_t full_reads)
{
	uint8_t *dirty = malloc(g->n / CPX_PAGE);
	double reads;

	for (int i = 0; i < gens; i++) {
		double share;

		dirty_random(g, dirty, per_gen);
		save(r, g, dirty, read_pages);
		share = live_share(r);
		r->worst = share < r->worst ? share : r->worst;
		if (i % 100 == 99)
			check_head(r, g);
	}
	reads = (double)restore_reads(r, g) / (double)full_reads;
	print_message(
		"%s: %d generations: live share never below %.3f; cleaning wrote %.2f times "
		"the new bytes; a restore reads %.2f times a full image; %u packs\n",
		what, gens, r->worst, (double)r->cleaned / (double)r->new_bytes, reads,
		r->space.packs);
	assert_true(r->worst >= 0.8);
	assert_true(r->cleaned <= 3 * r->new_bytes);
	assert_true(reads <= 1.3);
	free(dirty);
}

static void random_pages_of_a_large_job(void **state)
{
	struct pages g = make_pages(96 * MIB, 0);
	struct row r;

	(void)state;
	open_row(&r);
	fill(&g, FILL_RANDOM);
	save(&r, &g, NULL, read_pages);
	judge_row(&r, &g, "96 MiB, 1 %", 300, 245, restore_reads(&r, &g));
	close_row(&r);
	free(g.p);
}

/* Smaller than a pack: all that is old is in one. */
static void random_pages_of_a_small_job(void **state)
{
	struct pages g = make_pages(4 * MIB, 0);
	struct row r;

	(void)state;
	open_row(&r);
	fill(&g, FILL_RANDOM);
	save(&r, &g, NULL, read_pages);
	judge_row(&r, &g, "4 MiB, 2 %", 300, 20, restore_reads(&r, &g));
	close_row(&r);
	free(g.p);
}

/* A page a generation, never written again: all lives, and there are ever more packs. */
static void packs_of_a_page_are_merged(void **state)
{
	const size_t n = 1200;
	struct pages g = make_pages(n * CPX_PAGE, 0);
	uint8_t *dirty = malloc(n);
	uint32_t most = 0;
	struct row r;

	(void)state;
	open_row(&r);
	fill_page(&g, 0, FILL_RANDOM);
	save(&r, &g, NULL, read_pages);
	for (size_t i = 1; i < n; i++) {
		memset(dirty, 0, n);
		dirty[i] = 1;
		fill_page(&g, i, FILL_RANDOM);
		save(&r, &g, dirty, read_pages);
		most = r.space.packs > most ? r.space.packs : most;
	}
	check_head(&r, &g);
	print_message(
		"a page each: at most %u packs; cleaning wrote %.2f times the new bytes\n",
		most, (double)r.cleaned / (double)r.new_bytes);
	assert_true(most <= CPX_SMALL_PACKS + 1);
	assert_true(r.cleaned <= 3 * r.new_bytes);
	close_row(&r);
	free(dirty);
	free(g.p);
}

/* The same pages again and again: what they replace dies as a whole, and nothing is copied. */
static void a_hot_set_costs_no_cleaning(void **state)
{
	struct pages g = make_pages(64 * MIB, 0);
	uint8_t *dirty = calloc(1, g.n / CPX_PAGE);
	struct row r;

	(void)state;
	open_row(&r);
	fill(&g, FILL_RANDOM);
	save(&r, &g, NULL, read_pages);
	for (int i = 0; i < 60; i++) {
		for (size_t k = 3000; k < 3600; k++) {
			dirty[k] = 1;
			fill_page(&g, k, FILL_RANDOM);
		}
		save(&r, &g, dirty, read_pages);
	}
	check_head(&r, &g);
	assert_true(live_share(&r) >= 0.8);
	assert_true(r.cleaned <= r.new_bytes / 10);
	close_row(&r);
	free(dirty);
	free(g.p);
}

/* --- what parent and child share ------------------------------------------------------ */

/* Both spaces are there, the common pages are stored once after cleaning as before. */
static void shared_pages_stay_shared(void **state)
{
	const struct cpx_image_opts full = { .codec = CPX_CODEC_LZ4, .workers = 1 };
	struct cpx_gen_id one = gen(1), two = gen(2), copy = gen(2);
	const struct cpx_image_opts next = { .codec = CPX_CODEC_LZ4,
					     .workers = 1,
					     .base = &one };
	struct pages g = make_pages(MIB, 0);
	struct cpx_page_ref a, b;
	struct cpx_clean_stats c;
	struct cpx_image_writer *w;
	struct cpx_state *st = some_state(2);
	struct cpx_image *img;
	struct cpx_err err = { 0 };
	struct row r;

	(void)state;
	open_row(&r);
	fill(&g, FILL_RANDOM);
	OK(cpx_image_create(r.s, &one, &full, &w, &err));
	OK(cpx_image_put(w, 1, 0, g.n, read_pages, &g, &err));
	OK(cpx_image_share(w, 2, 0, g.n / 2, 1, g.n / 2, &err));
	OK(cpx_image_commit(w, st, NULL, NULL, &err));
	/* half of the parent's pages go, all that the child has in common stay */
	OK(cpx_image_create(r.s, &two, &next, &w, &err));
	OK(cpx_image_inherit(w, 1, g.n / 2, g.n / 2, &err));
	OK(cpx_image_inherit(w, 2, 0, g.n / 2, &err));
	OK(cpx_image_commit(w, st, NULL, NULL, &err));
	memset(copy.nonce, 'c', 16);
	assert_int_equal(cpx_image_clean(r.s, &two, &copy, CPX_CODEC_LZ4, UINT64_MAX, &c, &err),
			 1);
	assert_true(c.bytes_packs < g.n * 6 / 10);
	OK(cpx_store_remove(r.s, &one, &err));
	OK(cpx_store_remove(r.s, &two, &err));
	OK(cpx_image_open(r.s, &copy, &img, &err));
	OK(cpx_image_verify(img, 1, &err));
	for (uint64_t off = 0; off < g.n / 2; off += CPX_PAGE) {
		assert_int_equal(cpx_image_page_ref(img, 1, g.n / 2 + off, &a, &err), 1);
		assert_int_equal(cpx_image_page_ref(img, 2, off, &b, &err), 1);
		assert_true(a.pack == b.pack && a.block == b.block && a.page == b.page);
	}
	g.p += g.n / 2;
	g.n /= 2;
	OK(compare_pages(img, 2, &g, 1, &err));
	cpx_image_close(img);
	cpx_state_free(st);
	close_row(&r);
	free(g.p - g.n);
}

/* --- bytes of map and manifest -------------------------------------------------------- */

/* A page of a job that is too large for a test: a word of it is what it holds. */
static int read_words(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	struct pages *g = ctx;

	(void)err;
	for (size_t i = 0; i < len; i += CPX_PAGE)
		memset((uint8_t *)buf + i, (int)((off + i) / CPX_PAGE % 255) + 1, CPX_PAGE);
	(void)g;
	return 0;
}

static void bound(const char *what, uint64_t size, size_t pages, size_t cluster)
{
	const int gens = 100;
	struct pages g = { .n = size, .random = 77 };
	uint8_t *dirty = malloc(size / CPX_PAGE);
	uint64_t changed = 0;
	double mean, limit;
	struct row r;

	open_row(&r);
	save(&r, &g, NULL, read_words);
	for (int i = 0; i < gens; i++) {
		memset(dirty, 0, size / CPX_PAGE);
		for (size_t k = 0; k < pages; k += cluster) {
			size_t at = next_random(&g.random) % (size / CPX_PAGE - cluster);

			memset(dirty + at, 1, cluster);
		}
		for (size_t k = 0; k < size / CPX_PAGE; k++)
			changed += dirty[k];
		save(&r, &g, dirty, read_words);
	}
	mean = (double)r.map_bytes / gens;
	limit = 65536 + 96.0 * (double)changed / gens + 64.0 * r.segs;
	print_message("%s: map and manifest %.0f bytes a generation, %.0f %% of the bound\n",
		      what, mean, 100 * mean / limit);
	assert_true(mean <= limit);
	close_row(&r);
	free(dirty);
}

static void map_and_manifest_are_bounded(void **state)
{
	(void)state;
	bound("1 GiB, 1 % at random", 1024ull * MIB, 2621, 1);
	bound("1 GiB, 1 % in runs of 8", 1024ull * MIB, 2621, 8);
	bound("1 GiB, 0.1 % at random", 1024ull * MIB, 262, 1);
	bound("256 MiB, 20 % at random", 256 * MIB, 13107, 1);
	bound("2 GiB, nothing", 2048ull * MIB, 0, 1);
	bound("2 GiB, 40 pages", 2048ull * MIB, 40, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_pages_of_a_large_job),
		cmocka_unit_test(random_pages_of_a_small_job),
		cmocka_unit_test(packs_of_a_page_are_merged),
		cmocka_unit_test(a_hot_set_costs_no_cleaning),
		cmocka_unit_test(shared_pages_stay_shared),
		cmocka_unit_test(map_and_manifest_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
