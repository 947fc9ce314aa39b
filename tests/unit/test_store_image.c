/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is put into an image comes out again, whatever codec, shape, base or order. */
#include "store_fixture.h"

#include <jansson.h>
#include <signal.h>
#include <sys/wait.h>

struct shape {
	enum cpx_codec codec;
	int level;
	enum fill fill;
	size_t pages;
	unsigned workers;
};

static void round_trip(const struct shape *k)
{
	const struct cpx_image_opts opts = { .codec = k->codec,
					     .level = k->level,
					     .workers = k->workers };
	struct pages g = make_pages(k->pages * CPX_PAGE, 0x7f0000003000);
	struct cpx_image_stats stats;
	struct cpx_err err = { 0 };
	char *dir = make_dir(NULL);
	struct cpx_store *s = open_dir(dir);

	fill(&g, k->fill);
	OK(write_gen(s, 1, &g, &opts, &stats, &err));
	assert_int_equal(stats.bytes_memory, g.n);
	if (k->fill == FILL_ZERO)
		assert_int_equal(stats.bytes_zero, g.n);
	if (k->fill == FILL_TEXT && k->codec != CPX_CODEC_NONE)
		assert_true(stats.bytes_stored < g.n);
	OK(check_gen(s, 1, &g, &err));
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

static void every_codec_and_fill(void **state)
{
	(void)state;
	for (int codec = CPX_CODEC_NONE; codec <= CPX_CODEC_ZLIB; codec++)
		for (int f = FILL_ZERO; f < FILL_KINDS; f++)
			for (unsigned workers = 1; workers <= 3; workers += 2) {
				struct shape k = { (enum cpx_codec)codec, 0, (enum fill)f, 1500,
						   workers };

				round_trip(&k);
			}
	round_trip(&(struct shape){ CPX_CODEC_LZ4, 9, FILL_TEXT, 100, 1 });
	round_trip(&(struct shape){ CPX_CODEC_ZLIB, 9, FILL_TEXT, 100, 1 });
}

static void every_small_size(void **state)
{
	(void)state;
	for (size_t n = 1; n <= 70; n += n < 20 ? 1 : 7)
		round_trip(&(struct shape){ CPX_CODEC_LZ4, 0, FILL_RANDOM, n, 0 });
}

static void more_than_a_pack(void **state)
{
	(void)state;
	round_trip(
		&(struct shape){ CPX_CODEC_LZ4, 0, FILL_RANDOM, (140u << 20) / CPX_PAGE, 1 });
}

/* Reads at odd places see the same as whole ranges; what was never put is zero. */
static void reads_anywhere(void **state)
{
	struct pages g = make_pages(700 * CPX_PAGE, 0x3ffe000);
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	struct cpx_gen_id id = gen(1);
	struct cpx_extent *x;
	struct cpx_image *img;
	uint8_t buf[20000], zero[64] = { 0 };
	int64_t n;

	(void)state;
	fill(&g, FILL_SPARSE);
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	OK(cpx_image_open(s, &id, &img, &err));
	for (int i = 0; i < 300; i++) {
		size_t off = next_random(&g.random) % (g.n - sizeof(buf));
		size_t len = next_random(&g.random) % sizeof(buf);

		OK(cpx_image_read(img, 1, g.at + off, buf, len, &err));
		assert_memory_equal(buf, g.p + off, len);
	}
	OK(cpx_image_read(img, 1, 0x10, buf, 64, &err));
	assert_memory_equal(buf, zero, 64);
	OK(cpx_image_read(img, 2, g.at, buf, 64, &err));
	assert_memory_equal(buf, zero, 64);
	n = cpx_image_extents(img, 1, 0, UINT64_MAX, &x, &err);
	assert_int_equal(n, (700 + 2) / 3);
	for (int64_t i = 0; i < n; i++) {
		assert_int_equal(x[i].off, g.at + (uint64_t)i * 3 * CPX_PAGE);
		assert_int_equal(x[i].len, CPX_PAGE);
	}
	free(x);
	cpx_image_close(img);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

static void a_later_put_counts(void **state)
{
	struct pages a = make_pages(600 * CPX_PAGE, 0x3f00000);
	struct pages b = make_pages(600 * CPX_PAGE, 0x3f00000);
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	struct cpx_gen_id id = gen(1);
	struct cpx_state *st = some_state(1);
	struct cpx_image_writer *w;

	(void)state;
	fill(&a, FILL_RANDOM);
	fill(&b, FILL_SPARSE);
	OK(cpx_image_create(s, &id, &(struct cpx_image_opts){ .workers = 2 }, &w, &err));
	OK(cpx_image_put(w, 1, a.at, a.n, read_pages, &a, &err));
	OK(cpx_image_put(w, 1, b.at + 7 * CPX_PAGE, 400 * CPX_PAGE, read_pages, &b, &err));
	OK(cpx_image_commit(w, st, NULL, NULL, &err));
	memcpy(a.p + 7 * CPX_PAGE, b.p + 7 * CPX_PAGE, 400 * CPX_PAGE);
	OK(check_gen(s, 1, &a, &err));
	cpx_state_free(st);
	cpx_store_close(s);
	remove_tree(dir);
	free(a.p);
	free(b.p);
}

/* Many tiny ranges in many spaces; queues, drains and goes on. */
static void many_ranges(void **state)
{
	struct pages g = make_pages(2000 * CPX_PAGE, 0);
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	struct cpx_gen_id id = gen(1);
	struct cpx_state *st = some_state(1);
	struct cpx_image_writer *w;
	struct cpx_image *img;
	uint8_t page[CPX_PAGE];
	uint64_t done, queued;

	(void)state;
	fill(&g, FILL_TEXT);
	OK(cpx_image_create(s, &id, NULL, &w, &err));
	for (uint32_t i = 0; i < 2000; i++) {
		OK(cpx_image_put(w, i % 100, (uint64_t)i * CPX_PAGE, CPX_PAGE, read_pages, &g,
				 &err));
		if (i % 500 == 3)
			OK(cpx_image_drain(w, &err));
	}
	OK(cpx_image_drain(w, &err));
	cpx_image_progress(w, &done, &queued);
	assert_int_equal(done, g.n);
	assert_int_equal(queued, g.n);
	OK(cpx_image_commit(w, st, NULL, NULL, &err));
	OK(cpx_image_open(s, &id, &img, &err));
	OK(cpx_image_verify(img, 2, &err));
	for (uint32_t i = 0; i < 2000; i++) {
		OK(cpx_image_read(img, i % 100, (uint64_t)i * CPX_PAGE, page, CPX_PAGE, &err));
		assert_memory_equal(page, g.p + (size_t)i * CPX_PAGE, CPX_PAGE);
	}
	cpx_image_close(img);
	cpx_state_free(st);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

/* Overlapping wishes: each page is handed over once all the same. */
static void scan_hands_over_once(void **state)
{
	struct pages g = make_pages(3000 * CPX_PAGE, 0);
	struct cpx_extent x[] = { { 1, 0, 100 * CPX_PAGE },
				  { 1, 50 * CPX_PAGE, 2950 * CPX_PAGE },
				  { 1, 60 * CPX_PAGE, 10 * CPX_PAGE },
				  { 1, 0, 3000 * CPX_PAGE } };
	struct copy c = { .want = &g, .space = 1, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	struct cpx_gen_id id = gen(1);
	struct cpx_image *img;

	(void)state;
	fill(&g, FILL_RANDOM);
	c.seen = calloc(1, 3001);
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	OK(cpx_image_open(s, &id, &img, &err));
	OK(cpx_image_scan(img, x, 4, 3, check_sink, &c, &err));
	assert_int_equal(c.handed, g.n);
	for (int i = 0; i < 3000; i++)
		assert_int_equal(c.seen[i], 1);
	cpx_image_close(img);
	cpx_store_close(s);
	remove_tree(dir);
	free(c.seen);
	free(g.p);
}

/* Changes some runs of pages; everything else is inherited. */
static int write_change(struct cpx_store *s, uint64_t seq, struct pages *g, struct cpx_err *err)
{
	struct cpx_gen_id id = gen(seq), base = gen(seq - 1);
	const struct cpx_image_opts opts = { .codec = CPX_CODEC_LZ4, .base = &base };
	struct cpx_state *st = some_state((uint32_t)seq);
	struct cpx_image_stats stats;
	struct cpx_image_writer *w;
	int rc = cpx_image_create(s, &id, &opts, &w, err);

	if (rc == 0)
		rc = cpx_image_inherit(w, 1, g->at, g->n, err);
	for (int i = 0; rc == 0 && i < 5; i++) {
		size_t n = 1 + next_random(&g->random) % 9;
		size_t first = next_random(&g->random) % (g->n / CPX_PAGE - n);

		for (size_t k = first; k < first + n; k++)
			fill_page(g, k, (enum fill)(next_random(&g->random) % FILL_KINDS));
		rc = cpx_image_put(w, 1, g->at + first * CPX_PAGE, n * CPX_PAGE, read_pages, g,
				   err);
	}
	if (rc == 0)
		rc = cpx_image_commit(w, st, "changed", &stats, err);
	cpx_state_free(st);
	assert_true(rc < 0 || stats.pages_inherited > g->n / CPX_PAGE / 2);
	return rc;
}

static void inherits_from_a_base(void **state)
{
	struct pages g = make_pages(5000 * CPX_PAGE, 0x3800000);
	struct cpx_gen_entry *list;
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	struct cpx_gen_id dead;
	uint64_t last;

	(void)state;
	fill(&g, FILL_RANDOM);
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	for (uint64_t seq = 2; seq <= 25; seq++) {
		OK(write_change(s, seq, &g, &err));
		OK(check_gen(s, seq, &g, &err));
		dead = gen(seq - 1);
		OK(cpx_store_remove(s, &dead, &err));
		OK(check_gen(s, seq, &g, &err));
		last = seq;
	}
	assert_int_equal(cpx_store_list(s, "job", &list, &err), 1);
	assert_true(list[0].whole);
	assert_int_equal(list[0].id.seq, last);
	assert_true(list[0].bytes_stored < g.n / 4);
	assert_true(list[0].bytes_memory >= g.n * 3 / 4);
	free(list);
	dead = gen(last);
	OK(cpx_store_remove(s, &dead, &err));
	assert_int_equal(count_files(s, "jobs"), 0);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

/* What is neither put nor inherited is gone, also when the base had it. */
static void what_is_not_inherited_is_zero(void **state)
{
	struct pages g = make_pages(1000 * CPX_PAGE, 0);
	struct cpx_gen_id id = gen(2), base = gen(1);
	const struct cpx_image_opts opts = { .codec = CPX_CODEC_LZ4, .base = &base };
	struct cpx_state *st = some_state(2);
	struct cpx_image_writer *w;
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);

	(void)state;
	fill(&g, FILL_RANDOM);
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	OK(cpx_image_create(s, &id, &opts, &w, &err));
	OK(cpx_image_inherit(w, 1, 0, 500 * CPX_PAGE, &err));
	OK(cpx_image_inherit(w, 1, 501 * CPX_PAGE, 499 * CPX_PAGE, &err));
	OK(cpx_image_commit(w, st, NULL, NULL, &err));
	memset(g.p + 500 * CPX_PAGE, 0, CPX_PAGE);
	OK(check_gen(s, 2, &g, &err));
	cpx_state_free(st);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

/* A child has its parent's pages at other places, some changed, some of them shared on. */
static void shared_pages_are_stored_once(void **state)
{
	struct pages a = make_pages(4000 * CPX_PAGE, 0x3000000);
	struct pages b = make_pages(4000 * CPX_PAGE, 0x3f01000);
	struct cpx_gen_id id = gen(1);
	struct cpx_state *st = some_state(1);
	struct cpx_image_stats stats;
	struct cpx_image_writer *w;
	struct cpx_image *img;
	struct cpx_page_ref x, y;
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	size_t other = 0;

	(void)state;
	fill(&a, FILL_SPARSE);
	for (size_t i = 100; i < 2000; i++)
		fill_page(&a, i, FILL_RANDOM);
	memcpy(b.p, a.p, a.n);
	for (size_t i = 1000; i < 1100; i++)
		fill_page(&b, i, FILL_RANDOM);
	OK(cpx_image_create(s, &id, NULL, &w, &err));
	assert_int_equal(cpx_image_share(w, 1, 0, CPX_PAGE, 1, CPX_PAGE, &err), CPX_E_INVAL);
	/* the order of calls for different spaces does not matter */
	OK(cpx_image_share(w, 3, b.at, b.n, 2, b.at, &err));
	OK(cpx_image_share(w, 2, b.at, b.n, 1, a.at, &err));
	OK(cpx_image_put(w, 2, b.at + 1000 * CPX_PAGE, 100 * CPX_PAGE, read_pages, &b, &err));
	OK(cpx_image_put(w, 1, a.at, a.n, read_pages, &a, &err));
	OK(cpx_image_commit(w, st, NULL, &stats, &err));
	assert_int_equal(stats.bytes_memory, a.n + 100 * CPX_PAGE);
	OK(cpx_image_open(s, &id, &img, &err));
	OK(cpx_image_verify(img, 1, &err));
	OK(compare_pages(img, 1, &a, 2, &err));
	OK(compare_pages(img, 2, &b, 2, &err));
	OK(compare_pages(img, 3, &b, 1, &err));
	for (size_t i = 0; i < 4000; i++) {
		int rx = cpx_image_page_ref(img, 1, a.at + i * CPX_PAGE, &x, &err);
		int ry = cpx_image_page_ref(img, 2, b.at + i * CPX_PAGE, &y, &err);

		assert_true(rx >= 0 && rx == ry);
		other += rx && (x.pack != y.pack || x.block != y.block || x.page != y.page);
	}
	assert_int_equal(other, 100);
	cpx_image_close(img);
	cpx_state_free(st);
	cpx_store_close(s);
	remove_tree(dir);
	free(a.p);
	free(b.p);
}

static void an_abort_leaves_nothing(void **state)
{
	struct pages g = make_pages(3000 * CPX_PAGE, 0);
	struct cpx_gen_id id = gen(1);
	struct cpx_image_writer *w;
	struct cpx_err err = { 0 };
	char *dir = make_dir(NULL);
	struct cpx_store *s = open_dir(dir);

	(void)state;
	fill(&g, FILL_RANDOM);
	OK(cpx_image_create(s, &id, NULL, &w, &err));
	OK(cpx_image_put(w, 1, 0, g.n, read_pages, &g, &err));
	cpx_image_abort(w);
	assert_int_equal(count_files(s, "jobs"), 0);
	cpx_image_abort(NULL);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

static void a_reader_that_fails_fails_the_commit(void **state)
{
	struct pages g = make_pages(3000 * CPX_PAGE, 0);
	struct cpx_gen_id id = gen(1);
	struct cpx_state *st = some_state(1);
	struct cpx_image_writer *w;
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);

	(void)state;
	for (int i = 0; i < 2; i++) {
		size_t n = i ? g.n : 8 * CPX_PAGE;

		OK(cpx_image_create(s, &id, NULL, &w, &err));
		OK(cpx_image_put(w, 1, g.n - n + CPX_PAGE, n, read_pages, &g, &err));
		assert_int_equal(cpx_image_drain(w, &err), CPX_E_INVAL);
		assert_string_equal(err.msg, "outside");
		assert_int_equal(cpx_image_commit(w, st, NULL, NULL, &err), CPX_E_INVAL);
		assert_int_equal(count_files(s, "jobs"), 0);
	}
	cpx_state_free(st);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

static void bad_arguments_are_refused(void **state)
{
	struct pages g = make_pages(8 * CPX_PAGE, 0);
	struct cpx_gen_id id = gen(1);
	struct cpx_image_writer *w;
	struct cpx_store *s2;
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);

	(void)state;
	assert_int_equal(cpx_store_open("s3://bucket/x", NULL, &s2, &err), CPX_E_UNSUPPORTED);
	assert_int_equal(cpx_store_open("/nonexistent/dir", NULL, &s2, &err), CPX_E_NOENT);
	assert_int_equal(cpx_store_open("file://relative", NULL, &s2, &err), CPX_E_INVAL);
	strcpy(id.job, "../x");
	assert_int_equal(cpx_image_create(s, &id, NULL, &w, &err), CPX_E_INVAL);
	strcpy(id.job, ".x");
	assert_int_equal(cpx_image_create(s, &id, NULL, &w, &err), CPX_E_INVAL);
	id = gen(1);
	OK(cpx_image_create(s, &id, NULL, &w, &err));
	assert_int_equal(cpx_image_put(w, 1, 5, CPX_PAGE, read_pages, &g, &err), CPX_E_INVAL);
	assert_int_equal(cpx_image_inherit(w, 1, 0, CPX_PAGE, &err), CPX_E_INVAL);
	cpx_image_abort(w);
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	assert_int_equal(write_gen(s, 1, &g, NULL, NULL, &err), CPX_E_EXIST);
	OK(check_gen(s, 1, &g, &err));
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

static void lists_newest_first_and_cleans(void **state)
{
	struct pages g = make_pages(40 * CPX_PAGE, 0);
	struct cpx_gen_id id = gen(3);
	struct cpx_gen_entry *list;
	struct cpx_io_file f;
	char name[CPX_NAME_MAX];
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);

	(void)state;
	fill(&g, FILL_TEXT);
	for (uint64_t seq = 1; seq <= 3; seq++)
		OK(write_gen(s, seq, &g, NULL, NULL, &err));
	/* what a crash may leave: a pack and a manifest's temporary file, old and new */
	for (uint64_t seq = 2; seq <= 4; seq += 2) {
		struct cpx_gen_id dead = gen(seq);

		memset(dead.nonce, 'f', 16);
		cpx_name_manifest(&dead, true, name);
		OK(cpx_io_create(&s->io, name, &f, &err));
		cpx_io_close(&f);
		cpx_name_pack(dead.job, dead.epoch, dead.seq, dead.nonce, 0, name);
		OK(cpx_io_create(&s->io, name, &f, &err));
		cpx_io_close(&f);
	}
	assert_int_equal(cpx_store_list(s, NULL, &list, &err), 3);
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(list[i].id.seq, 3 - i);
		assert_true(list[i].whole);
	}
	free(list);
	assert_int_equal(cpx_store_clean(s, &id, &err), 2);
	assert_int_equal(count_files(s, "jobs/job"), 6 + 2);
	for (uint64_t seq = 1; seq <= 3; seq++)
		OK(check_gen(s, seq, &g, &err));
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

/* SIGKILL at any moment: the old generation is whole, the new one whole or not there. */
static void a_killed_writer_harms_nothing(void **state)
{
	struct pages g = make_pages(40 * CPX_PAGE, 0), big = make_pages(3000 * CPX_PAGE, 0);
	const struct cpx_gen_id below = gen(100);
	struct cpx_err err = { 0 };
	char *dir = make_dir(NULL);
	struct cpx_store *s = open_dir(dir);
	int finished = 0;

	(void)state;
	fill(&g, FILL_TEXT);
	fill(&big, FILL_TEXT);
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	for (uint64_t seq = 2; seq < 22; seq++) {
		struct cpx_gen_id id = gen(seq);
		pid_t pid = fork();
		int rc;

		assert_true(pid >= 0);
		if (pid == 0)
			_exit(write_gen(s, seq, &big, NULL, NULL, &err) < 0);
		usleep((useconds_t)(next_random(&g.random) % 150000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		OK(check_gen(s, 1, &g, &err));
		rc = check_gen(s, seq, &big, &err);
		if (rc < 0)
			assert_int_equal(rc, CPX_E_NOENT);
		else
			OK(cpx_store_remove(s, &id, &err));
		finished += rc == 0;
	}
	print_message("%d of 20 writers came to the end\n", finished);
	assert_true(cpx_store_clean(s, &below, &err) >= 0);
	assert_int_equal(count_files(s, "jobs/job"), 2);
	OK(check_gen(s, 1, &g, &err));
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
	free(big.p);
}

static void prints_text_and_json(void **state)
{
	struct pages g = make_pages(40 * CPX_PAGE, 0);
	struct cpx_gen_id id = gen(1);
	struct cpx_image *img;
	struct cpx_buf out = { 0 };
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	json_t *o;

	(void)state;
	fill(&g, FILL_TEXT);
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	OK(cpx_image_open(s, &id, &img, &err));
	OK(cpx_image_print(img, false, &out, &err));
	cpx_buf_u8(&out, 0);
	assert_non_null(strstr((char *)out.data, "manifest job=job epoch=1 seq=1"));
	assert_non_null(strstr((char *)out.data, "\nmap space=1 at=0x0 pages=40"));
	assert_non_null(strstr((char *)out.data, "comm=\"a task\""));
	out.len = 0;
	OK(cpx_image_print(img, true, &out, &err));
	o = json_loadb((char *)out.data, out.len, 0, NULL);
	assert_non_null(o);
	assert_int_equal(json_integer_value(json_object_get(o, "bytes_memory")), g.n);
	assert_int_equal(json_array_size(json_object_get(o, "packs")), 1);
	assert_int_equal(json_array_size(json_object_get(o, "records")), 1);
	json_decref(o);
	cpx_buf_free(&out);
	cpx_image_close(img);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_codec_and_fill),
		cmocka_unit_test(every_small_size),
		cmocka_unit_test(more_than_a_pack),
		cmocka_unit_test(reads_anywhere),
		cmocka_unit_test(a_later_put_counts),
		cmocka_unit_test(many_ranges),
		cmocka_unit_test(scan_hands_over_once),
		cmocka_unit_test(inherits_from_a_base),
		cmocka_unit_test(what_is_not_inherited_is_zero),
		cmocka_unit_test(shared_pages_are_stored_once),
		cmocka_unit_test(an_abort_leaves_nothing),
		cmocka_unit_test(a_reader_that_fails_fails_the_commit),
		cmocka_unit_test(bad_arguments_are_refused),
		cmocka_unit_test(lists_newest_first_and_cleans),
		cmocka_unit_test(a_killed_writer_harms_nothing),
		cmocka_unit_test(prints_text_and_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
