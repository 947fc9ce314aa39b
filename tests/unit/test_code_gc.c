/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code objects that nothing needs go; what a generation refers to, or will refer to, stays,
 * wherever in its work a writer comes upon a collector or a collector upon a writer, and
 * wherever one of them crashes.
 */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>

#define CALLS_MAX 200
#define PROGRAM "a program"
#define OTHER "a library"

struct actor {
	long calls, stop_at; /* calls so far; what is done is done before that one, 0: never */
	bool crash;	     /* all calls fail from there on .. */
	bool once;	     /* .. or that one alone */
	void (*other)(void *ctx); /* .. or something else happens in between */
	void *ctx;
	bool within;
};

static int hook(void *ctx, const struct cpx_io_op *op)
{
	struct actor *a = ctx;

	(void)op;
	if (a->within || !a->stop_at)
		return 0;
	a->calls++;
	if (a->crash && (a->once ? a->calls == a->stop_at : a->calls >= a->stop_at))
		return EIO;
	if (a->other && a->calls == a->stop_at) {
		a->within = true;
		a->other(a->ctx);
		a->within = false;
	}
	return 0;
}

static struct cpx_store *open_watched(const char *dir, struct actor *a)
{
	const struct cpx_store_opts opts = { .create = true,
					     .uid = (uint32_t)-1,
					     .gid = (uint32_t)-1 };
	struct cpx_err err = { 0 };
	struct cpx_store *s = NULL;

	OK(cpx_store_open_hooked(dir, &opts, (struct cpx_io_hook){ hook, a }, &s, &err));
	return s;
}

static int program(const char *text)
{
	int fd = memfd_create("program", MFD_CLOEXEC);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

/* A generation being written. */
struct writing {
	struct cpx_store *s;
	struct cpx_image_writer *w;
	struct cpx_state *st;
};

static int begin(struct writing *g, struct cpx_store *s, uint64_t seq, const char *text,
		 struct cpx_err *err)
{
	const struct cpx_gen_id id = gen(seq);
	struct cpx_rec_file *f;
	uint8_t sum[32];
	int fd = program(text), rc;

	*g = (struct writing){ .s = s, .st = some_state(1) };
	rc = cpx_image_create(s, &id, NULL, &g->w, err);
	if (rc < 0)
		g->w = NULL;
	else
		rc = cpx_store_put_code(s, &id, fd, sum, err);
	close(fd);
	f = cpx_state_new_rec(g->st, file);
	f->id = 1;
	f->sha256 = cpx_state_blob(g->st, sum, sizeof(sum));
	return rc;
}

static int finish(struct writing *g, int rc, struct cpx_err *err)
{
	if (rc == 0)
		rc = cpx_image_commit(g->w, g->st, NULL, NULL, err);
	else
		cpx_image_abort(g->w);
	cpx_state_free(g->st);
	return rc;
}

static int write_all(struct cpx_store *s, uint64_t seq, const char *text, struct cpx_err *err)
{
	struct writing g;
	int rc = begin(&g, s, seq, text, err);

	return finish(&g, rc, err);
}

static void must_be_whole(const char *dir, uint64_t seq)
{
	const struct cpx_gen_id id = gen(seq);
	struct cpx_store *s = open_dir(dir);
	struct cpx_image *img = NULL;
	struct cpx_err err = { 0 };

	OK(cpx_image_open(s, &id, &img, &err));
	OK(cpx_image_verify(img, 1, &err));
	cpx_image_close(img);
	cpx_store_close(s);
}

static void drop(struct cpx_store *s, uint64_t seq)
{
	const struct cpx_gen_id id = gen(seq);
	struct cpx_err err = { 0 };

	OK(cpx_store_discard(s, &id, true, &err));
}

static int count_one(void *ctx, const char *name)
{
	(void)name;
	++*(int *)ctx;
	return 0;
}

static int objects(struct cpx_store *s)
{
	struct cpx_err err = { 0 };
	int n = 0;

	OK(cpx_io_list(&s->io, "code", count_one, &n, &err));
	return n;
}

static void collect(void *dir)
{
	struct cpx_store *s = open_dir(dir);
	struct cpx_code_gc gc;
	struct cpx_err err = { 0 };

	OK(cpx_store_gc_code(s, false, &gc, &err));
	cpx_store_close(s);
}

/* --- what goes and what stays --------------------------------------------------------- */

static void what_nothing_refers_to_goes(void **state)
{
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	struct cpx_code_gc gc;
	struct cpx_err err = { 0 };

	(void)state;
	OK(write_all(s, 1, PROGRAM, &err));
	OK(write_all(s, 2, OTHER, &err));
	OK(cpx_store_gc_code(s, false, &gc, &err));
	assert_int_equal(gc.files, 2);
	assert_int_equal(gc.dead_files, 0);
	drop(s, 1);
	OK(cpx_store_gc_code(s, true, &gc, &err));
	assert_int_equal(gc.dead_files, 1);
	assert_true(gc.dead_bytes > 0 && gc.dead_bytes < gc.bytes);
	assert_int_equal(objects(s), 2);
	OK(cpx_store_gc_code(s, false, &gc, &err));
	assert_int_equal(gc.dead_files, 1);
	assert_int_equal(objects(s), 1);
	must_be_whole(dir, 2);
	drop(s, 2);
	collect(dir);
	assert_int_equal(objects(s), 0);
	cpx_store_close(s);
	remove_tree(dir);
}

/* It may refer to anything. */
static void a_manifest_that_cannot_be_read_keeps_all(void **state)
{
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	const struct cpx_gen_id id = gen(1);
	char path[CPX_NAME_MAX], full[512];
	struct cpx_code_gc gc;
	struct cpx_err err = { 0 };

	(void)state;
	OK(write_all(s, 1, PROGRAM, &err));
	cpx_name_manifest(&id, false, path);
	snprintf(full, sizeof(full), "%s/%s", dir, path);
	assert_int_equal(truncate(full, 100), 0);
	assert_true(cpx_store_gc_code(s, false, &gc, &err) < 0);
	assert_int_equal(objects(s), 1);
	cpx_store_close(s);
	remove_tree(dir);
}

/* One that was killed notes objects for ever, until a head above it is collected for. */
static void what_a_killed_writer_noted_goes_with_its_other_files(void **state)
{
	const struct cpx_gen_id head = gen(2);
	char *dir = make_dir(fast_base());
	struct actor dead = { .stop_at = LONG_MAX, .crash = true };
	struct cpx_store *s = open_dir(dir), *w = open_watched(dir, &dead);
	struct writing g;
	struct cpx_gc job;
	struct cpx_err err = { 0 };

	(void)state;
	OK(begin(&g, w, 1, PROGRAM, &err));
	dead.stop_at = 1;
	finish(&g, -1, NULL);
	cpx_store_close(w);
	OK(write_all(s, 2, OTHER, &err));
	collect(dir);
	assert_int_equal(objects(s), 2);
	OK(cpx_store_gc(s, "job", &head, 1, false, &job, &err));
	assert_int_equal(job.dead_files, 1);
	collect(dir);
	assert_int_equal(objects(s), 1);
	must_be_whole(dir, 2);
	cpx_store_close(s);
	remove_tree(dir);
}

/* --- at each call of one, all of the other -------------------------------------------- */

struct meeting {
	const char *dir;
	struct writing g;
	int rc;
};

/* An object that nothing refers to is there, so that there is something to quarrel about. */
static char *with_a_dead_object(void)
{
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);
	struct cpx_err err = { 0 };

	OK(write_all(s, 1, PROGRAM, &err));
	drop(s, 1);
	cpx_store_close(s);
	return dir;
}

static void a_collector_may_come_at_each_call_of_a_writer(void **state)
{
	bool over = false;

	(void)state;
	for (long at = 1; !over; at++) {
		char *dir = with_a_dead_object();
		struct actor a = { .stop_at = at, .other = collect, .ctx = dir };
		struct cpx_store *s = open_watched(dir, &a);
		struct cpx_err err = { 0 };

		OK(write_all(s, 2, PROGRAM, &err));
		over = a.calls < at;
		assert_true(at < CALLS_MAX);
		cpx_store_close(s);
		must_be_whole(dir, 2);
		collect(dir);
		must_be_whole(dir, 2);
		remove_tree(dir);
	}
}

static void begin_it(void *ctx)
{
	struct meeting *m = ctx;
	struct cpx_err err = { 0 };

	m->rc = begin(&m->g, open_dir(m->dir), 2, PROGRAM, &err);
	OK(m->rc);
}

static void do_it_all(void *ctx)
{
	struct meeting *m = ctx;
	struct cpx_err err = { 0 };

	begin_it(m);
	OK(finish(&m->g, m->rc, &err));
}

/* Another generation with the same program takes the place of the one there is. */
static void take_its_place(void *ctx)
{
	struct meeting *m = ctx;

	do_it_all(m);
	drop(m->g.s, 1);
}

static void meet(bool all)
{
	bool over = false;

	for (long at = 1; !over; at++) {
		char *dir = with_a_dead_object();
		struct meeting m = { .dir = dir };
		struct actor a = { .stop_at = at,
				   .other = all ? do_it_all : begin_it,
				   .ctx = &m };
		struct cpx_store *s = open_watched(dir, &a);
		struct cpx_code_gc gc;
		struct cpx_err err = { 0 };
		int rc = cpx_store_gc_code(s, false, &gc, &err);

		assert_true(rc == 0 || rc == CPX_E_BUSY);
		over = a.calls < at;
		assert_true(at < CALLS_MAX);
		if (!over && !all)
			OK(finish(&m.g, m.rc, &err));
		cpx_store_close(m.g.s);
		cpx_store_close(s);
		if (!over)
			must_be_whole(dir, 2);
		remove_tree(dir);
	}
}

static void a_writer_may_begin_at_each_call_of_a_collector(void **state)
{
	(void)state;
	meet(false);
}

static void a_writer_may_come_and_go_at_each_call_of_a_collector(void **state)
{
	(void)state;
	meet(true);
}

static void a_head_may_be_replaced_at_each_call_of_a_collector(void **state)
{
	bool over = false;

	(void)state;
	for (long at = 1; !over; at++) {
		char *dir = make_dir(fast_base());
		struct meeting m = { .dir = dir };
		struct actor a = { .other = take_its_place, .ctx = &m };
		struct cpx_store *s = open_watched(dir, &a);
		struct cpx_code_gc gc;
		struct cpx_err err = { 0 };

		OK(write_all(s, 1, PROGRAM, &err));
		a.stop_at = at;
		OK(cpx_store_gc_code(s, false, &gc, &err));
		over = a.calls < at;
		assert_true(at < CALLS_MAX);
		cpx_store_close(m.g.s);
		cpx_store_close(s);
		must_be_whole(dir, over ? 1 : 2);
		remove_tree(dir);
	}
}

/* --- failures ------------------------------------------------------------------------- */

/* A generation and an object that is dead; the collector fails at each of its calls. */
static void fail_at_each(bool once)
{
	bool over = false;

	for (long at = 1; !over; at++) {
		char *dir = with_a_dead_object();
		struct actor a = { .stop_at = at, .crash = true, .once = once };
		struct cpx_store *s = open_dir(dir), *w;
		struct cpx_code_gc gc;
		struct cpx_err err = { 0 };

		OK(write_all(s, 2, OTHER, &err));
		w = open_watched(dir, &a);
		cpx_store_gc_code(w, false, &gc, &err);
		over = a.calls < at;
		assert_true(at < CALLS_MAX);
		cpx_store_close(w);
		must_be_whole(dir, 2);
		collect(dir);
		must_be_whole(dir, 2);
		assert_int_equal(objects(s), 1);
		cpx_store_close(s);
		remove_tree(dir);
	}
}

static void a_collector_may_crash_at_each_call(void **state)
{
	(void)state;
	fail_at_each(false);
}

static void each_call_of_a_collector_may_fail_once(void **state)
{
	(void)state;
	fail_at_each(true);
}

/* It crashed when it had taken an object out, which a generation refers to by then. */
static void what_a_crashed_collector_has_taken_out_is_found(void **state)
{
	char *dir = make_dir(fast_base()), from[512], to[600], sum[CPX_NAME_MAX];
	struct cpx_store *s = open_dir(dir);
	struct cpx_err err = { 0 };
	struct writing g;

	(void)state;
	OK(begin(&g, s, 1, PROGRAM, &err));
	cpx_state_each(g.st, file, f)
		cpx_name_code(f->sha256.p, sum);
	snprintf(from, sizeof(from), "%s/%s", dir, sum);
	snprintf(to, sizeof(to), "%s.00112233445566ff.gone", from);
	assert_int_equal(rename(from, to), 0);
	OK(finish(&g, 0, &err));
	must_be_whole(dir, 1);
	collect(dir);
	assert_int_equal(access(from, F_OK), 0);
	assert_int_equal(access(to, F_OK), -1);
	must_be_whole(dir, 1);
	cpx_store_close(s);
	remove_tree(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_nothing_refers_to_goes),
		cmocka_unit_test(a_manifest_that_cannot_be_read_keeps_all),
		cmocka_unit_test(what_a_killed_writer_noted_goes_with_its_other_files),
		cmocka_unit_test(a_collector_may_come_at_each_call_of_a_writer),
		cmocka_unit_test(a_writer_may_begin_at_each_call_of_a_collector),
		cmocka_unit_test(a_writer_may_come_and_go_at_each_call_of_a_collector),
		cmocka_unit_test(a_head_may_be_replaced_at_each_call_of_a_collector),
		cmocka_unit_test(a_collector_may_crash_at_each_call),
		cmocka_unit_test(each_call_of_a_collector_may_fail_once),
		cmocka_unit_test(what_a_crashed_collector_has_taken_out_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
