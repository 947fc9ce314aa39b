/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The codec that gets a generation into the store first, and a limit to what goes there. */
#include "store_fixture.h"

#include "../../chpox/base/clock.h"
#include "../../store/codec_auto.h"

#define GB 1000000000ull

/* For 1 GB: lz4 at 400 MB/s to a half, zlib at 40 MB/s to a third. */
static struct cpx_codec_rates measured(uint64_t store_mb_s)
{
	struct cpx_codec_rates r = { .store = { GB, (int64_t)(1000 * GB / store_mb_s) } };

	r.of[CPX_CODEC_NONE].raw = r.of[CPX_CODEC_LZ4].raw = r.of[CPX_CODEC_ZLIB].raw = GB;
	r.of[CPX_CODEC_NONE].stored = GB;
	r.of[CPX_CODEC_LZ4].stored = GB / 2;
	r.of[CPX_CODEC_ZLIB].stored = GB / 3;
	r.of[CPX_CODEC_LZ4].ns = 2500000000;
	r.of[CPX_CODEC_ZLIB].ns = 25000000000;
	return r;
}

static void the_quickest_is_chosen(void **state)
{
	struct cpx_codec_rates r = measured(200);

	(void)state;
	assert_int_equal(cpx_codec_choose(&r, 1), CPX_CODEC_LZ4);
	/* the store waits for lz4 */
	r = measured(2000);
	assert_int_equal(cpx_codec_choose(&r, 1), CPX_CODEC_NONE);
	/* but not for eight of them */
	r = measured(700);
	assert_int_equal(cpx_codec_choose(&r, 1), CPX_CODEC_NONE);
	assert_int_equal(cpx_codec_choose(&r, 8), CPX_CODEC_LZ4);
	/* zlib waits for the store */
	r = measured(10);
	assert_int_equal(cpx_codec_choose(&r, 1), CPX_CODEC_ZLIB);
	r = measured(80);
	assert_int_equal(cpx_codec_choose(&r, 1), CPX_CODEC_LZ4);
	assert_int_equal(cpx_codec_choose(&r, 8), CPX_CODEC_ZLIB);
}

static void what_is_not_known_is_lz4(void **state)
{
	struct cpx_codec_rates r = { 0 };

	(void)state;
	assert_int_equal(cpx_codec_choose(&r, 0), CPX_CODEC_LZ4);
	r = measured(2000);
	r.store.bytes = 1000; /* a small file's fixed costs */
	assert_int_equal(cpx_codec_choose(&r, 1), CPX_CODEC_LZ4);
	r = measured(2000);
	r.of[CPX_CODEC_LZ4].raw = 0;
	assert_int_equal(cpx_codec_choose(&r, 1), CPX_CODEC_LZ4);
	/* what does not shrink is no reason to change */
	r = measured(10);
	r.of[CPX_CODEC_LZ4].stored = r.of[CPX_CODEC_ZLIB].stored = GB;
	assert_int_equal(cpx_codec_choose(&r, 4), CPX_CODEC_LZ4);
}

static uint64_t stored_with(enum cpx_codec codec, uint64_t bytes, int64_t ns, struct pages *g)
{
	const struct cpx_image_opts opts = { .codec = codec,
					     .workers = 1,
					     .speed = { .bytes = bytes, .ns = ns } };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	struct cpx_image_stats st;
	struct cpx_err err = { 0 };

	OK(write_gen(s, 1, g, &opts, &st, &err));
	OK(check_gen(s, 1, g, &err));
	assert_true(st.speed.bytes > 0 && st.speed.ns > 0);
	cpx_store_close(s);
	remove_tree(dir);
	return st.bytes_stored;
}

static void images_are_written_with_it(void **state)
{
	struct pages g = make_pages(4 << 20, 0);
	uint64_t lz4, zlib, none;

	(void)state;
	fill(&g, FILL_TEXT);
	lz4 = stored_with(CPX_CODEC_LZ4, 0, 0, &g);
	zlib = stored_with(CPX_CODEC_ZLIB, 0, 0, &g);
	none = stored_with(CPX_CODEC_NONE, 0, 0, &g);
	assert_true(zlib < lz4 && lz4 < none);
	/* 1 MB/s, and 1 TB/s; the first block is before the first trial */
	assert_in_range(stored_with(CPX_CODEC_AUTO, 1ull << 40, 1ll << 50, &g), zlib,
			zlib + 65536);
	assert_in_range(stored_with(CPX_CODEC_AUTO, 1ull << 50, 1ll << 40, &g), none - 65536,
			none + 4096);
	free(g.p);
}

static void no_more_is_written_than_is_wanted(void **state)
{
	const struct cpx_gen_id id = gen(1);
	const struct cpx_image_opts opts = { .workers = 2 };
	struct pages g = make_pages(4 << 20, 0);
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	struct cpx_state *st = some_state(1);
	struct cpx_image_writer *w;
	struct cpx_err err = { 0 };
	int64_t start, took;

	(void)state;
	fill(&g, FILL_RANDOM);
	OK(cpx_image_create(s, &id, &opts, &w, &err));
	cpx_image_throttle(w, 8 << 20);
	start = cpx_mono_ns();
	OK(cpx_image_put(w, 1, g.at, g.n, read_pages, &g, &err));
	OK(cpx_image_commit(w, st, NULL, NULL, &err));
	took = cpx_mono_ns() - start;
	assert_in_range(took, 490000000, 5000000000);
	OK(check_gen(s, 1, &g, &err));
	cpx_state_free(st);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

/* One that is given up does not wait. */
static void an_abort_does_not_wait_for_the_limit(void **state)
{
	const struct cpx_gen_id id = gen(1);
	struct pages g = make_pages(4 << 20, 0);
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	struct cpx_image_writer *w;
	struct cpx_err err = { 0 };
	int64_t start = cpx_mono_ns();

	(void)state;
	fill(&g, FILL_RANDOM);
	OK(cpx_image_create(s, &id, NULL, &w, &err));
	cpx_image_throttle(w, 1024);
	OK(cpx_image_put(w, 1, g.at, g.n, read_pages, &g, &err));
	cpx_image_abort(w);
	assert_true(cpx_mono_ns() - start < 2000000000);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_quickest_is_chosen),
		cmocka_unit_test(what_is_not_known_is_lz4),
		cmocka_unit_test(images_are_written_with_it),
		cmocka_unit_test(no_more_is_written_than_is_wanted),
		cmocka_unit_test(an_abort_does_not_wait_for_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
