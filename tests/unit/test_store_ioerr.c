/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The n-th call of each kind fails, once or from then on, for every n: the commit says so
 * clearly, leaves no file behind, and the old generation is untouched. The same for memory.
 */
#include "store_fixture.h"

#include <errno.h>
#include <sys/mman.h>
#include <stdatomic.h>

/* --- memory that runs out ------------------------------------------------------------ */

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static atomic_long allocations, fail_at;

static bool starve(void)
{
	long n = atomic_fetch_add(&allocations, 1) + 1;

	return atomic_load(&fail_at) && n == atomic_load(&fail_at);
}

/* These stand before the C library's own. */
void *malloc(size_t n)
{
	return starve() ? (errno = ENOMEM, NULL) : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return starve() ? (errno = ENOMEM, NULL) : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return starve() ? (errno = ENOMEM, NULL) : __libc_realloc(p, n);
}

/* --- calls that fail ----------------------------------------------------------------- */

struct saboteur {
	enum cpx_io_kind kind;
	long at;
	bool onward;
	int sys;
	atomic_long seen;
	atomic_bool done;
};

static int sabotage(void *ctx, const struct cpx_io_op *op)
{
	struct saboteur *b = ctx;
	long n;

	if (op->kind != b->kind)
		return 0;
	n = atomic_fetch_add(&b->seen, 1) + 1;
	if (n != b->at && !(b->onward && n > b->at))
		return 0;
	atomic_store(&b->done, true);
	return b->sys;
}

struct fixture {
	char *dir;
	struct pages old, new;
	int files; /* before */
	unsigned workers;
};

static struct fixture make_fixture(const char *base, size_t pages)
{
	/* one, where its pack shall be large enough for asynchronous writes */
	struct fixture f = { .dir = make_dir(base), .workers = base ? 2 : 1 };
	struct cpx_store *s = open_dir(f.dir);
	struct cpx_err err = { 0 };

	f.old = make_pages(pages * CPX_PAGE, 0x10000);
	f.new = make_pages(pages * CPX_PAGE, 0x10000);
	fill(&f.old, FILL_TEXT);
	fill(&f.new, FILL_RANDOM);
	OK(write_gen(s, 1, &f.old, NULL, NULL, &err));
	f.files = count_files(s, "jobs/job");
	cpx_store_close(s);
	return f;
}

static void free_fixture(struct fixture *f)
{
	remove_tree(f->dir);
	free(f->old.p);
	free(f->new.p);
}

/* Nothing but the old generation is there, and that is whole. */
static void judge_failure(struct fixture *f, const char *what, long at)
{
	struct cpx_store *s = open_dir(f->dir);
	struct cpx_err err = { 0 };
	int n = count_files(s, "jobs/job");

	if (n != f->files)
		fail_msg("%s %ld failed and %d files are left instead of %d", what, at, n,
			 f->files);
	OK(check_gen(s, 1, &f->old, &err));
	cpx_store_close(s);
}

static void judge_success(struct fixture *f)
{
	struct cpx_store *s = open_dir(f->dir);
	struct cpx_gen_id id = gen(2);
	struct cpx_err err = { 0 };

	OK(check_gen(s, 2, &f->new, &err));
	OK(cpx_store_remove(s, &id, &err));
	OK(check_gen(s, 1, &f->old, &err));
	cpx_store_close(s);
}

static int expected(int sys)
{
	return sys == ENOSPC ? CPX_E_NOSPC : CPX_E_IO;
}

/* Return: whether the fault was reached. */
static bool one_fault(struct fixture *f, struct saboteur *b, bool may_succeed)
{
	const struct cpx_store_opts opts = { .uid = (uint32_t)-1, .gid = (uint32_t)-1 };
	const struct cpx_image_opts image = { .codec = CPX_CODEC_LZ4, .workers = f->workers };
	struct cpx_store *s;
	struct cpx_err err = { 0 };
	bool reached;
	int rc;

	OK(cpx_store_open_hooked(f->dir, &opts, (struct cpx_io_hook){ sabotage, b }, &s, &err));
	rc = write_gen(s, 2, &f->new, &image, NULL, &err);
	cpx_store_close(s);
	reached = atomic_load(&b->done);
	if (rc < 0) {
		assert_true(reached);
		if (rc != expected(b->sys))
			fail_msg("call %ld: code %d: %s", b->at, rc, err.msg);
		assert_non_null(strstr(err.msg, strerror(b->sys)));
		assert_non_null(strstr(err.msg, "jobs"));
		judge_failure(f, "call", b->at);
	} else {
		if (reached && !may_succeed)
			fail_msg("call %ld failed and the commit did not", b->at);
		judge_success(f);
	}
	return reached;
}

static void every_call(struct fixture *f)
{
	static const enum cpx_io_kind kinds[] = { CPX_IO_CREATE,    CPX_IO_WRITE,
						  CPX_IO_TRUNCATE,  CPX_IO_FSYNC,
						  CPX_IO_FSYNC_DIR, CPX_IO_RENAME,
						  CPX_IO_ALLOCATE };
	int loops = 0;

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		for (int mode = 0; mode < 4; mode++) {
			bool reached = true;

			for (long n = 1; reached; n++) {
				struct saboteur b = { .kind = kinds[k],
						      .at = n,
						      .onward = mode & 1,
						      .sys = mode & 2 ? EIO : ENOSPC };

				reached = one_fault(f, &b, kinds[k] == CPX_IO_ALLOCATE);
				loops++;
			}
		}
	}
	print_message("%d commits with a fault\n", loops);
}

static void small_in_memory(void **state)
{
	struct fixture f = make_fixture(fast_base(), 40);

	(void)state;
	every_call(&f);
	free_fixture(&f);
}

static void large_on_disk(void **state)
{
	struct fixture f = make_fixture(NULL, 1400);

	(void)state;
	every_call(&f);
	free_fixture(&f);
}

/* --- cleaning and removal ------------------------------------------------------------- */

/* As the keeper does; @copied: the copy may take the head's place. */
static int clean_and_collect(struct cpx_store *s, bool *copied, struct cpx_err *err)
{
	const struct cpx_gen_id head = gen(2);
	struct cpx_gen_id copy = head;
	struct cpx_code_gc code;
	struct cpx_clean_stats st;
	struct cpx_gc gc;
	int rc;

	copy.nonce[0] = 'c';
	*copied = false;
	rc = cpx_image_clean(s, &head, &copy, CPX_CODEC_LZ4, UINT64_MAX, &st, err);
	if (rc < 0)
		return rc;
	assert_int_equal(rc, 1);
	*copied = true;
	rc = cpx_store_discard(s, &head, false, err);
	if (rc == 0)
		rc = cpx_store_gc(s, "job", &copy, 1, false, &gc, err);
	return rc < 0 ? rc : cpx_store_gc_code(s, false, &code, err);
}

/* A head that refers to little of an older generation, and a program that nothing needs. */
static struct fixture make_dead(const char *base)
{
	struct fixture f = make_fixture(base, 60);
	const struct cpx_gen_id old = gen(1), head = gen(2), lost = gen(3);
	const struct cpx_image_opts opts = { .workers = 1, .base = &old };
	struct cpx_state *st = some_state(2);
	struct cpx_store *s = open_dir(f.dir);
	struct cpx_image_writer *w;
	struct cpx_err err = { 0 };
	uint8_t sum[32];
	int fd = memfd_create("program", MFD_CLOEXEC);

	OK(cpx_store_discard(s, &old, true, &err));
	fill(&f.old, FILL_RANDOM);
	OK(write_gen(s, 1, &f.old, NULL, NULL, &err));
	OK(cpx_image_create(s, &head, &opts, &w, &err));
	for (size_t i = 0; i < f.new.n / CPX_PAGE; i++) {
		uint64_t at = f.new.at + i *CPX_PAGE;

		if (i % 6) {
			OK(cpx_image_put(w, 1, at, CPX_PAGE, read_pages, &f.new, &err));
		} else {
			memcpy(f.new.p + i *CPX_PAGE, f.old.p + i * CPX_PAGE, CPX_PAGE);
			OK(cpx_image_inherit(w, 1, at, CPX_PAGE, &err));
		}
	}
	OK(cpx_image_commit(w, st, NULL, NULL, &err));
	cpx_state_free(st);
	assert_int_equal(write(fd, "lost", 4), 4);
	OK(cpx_store_put_code(s, &lost, fd, sum, &err));
	close(fd);
	f.files = 0;
	cpx_store_close(s);
	return f;
}

/* What the record names then is whole; the next time all goes that nothing needs. */
static void judge_clean(struct fixture *f, bool copied, const char *what, long at)
{
	struct cpx_gen_id left = gen(2);
	struct cpx_store *s = open_dir(f->dir);
	struct cpx_code_gc code;
	struct cpx_image *img;
	struct cpx_gc gc;
	struct cpx_err err = { 0 };
	CPX_AUTO_FREE uint8_t *got = malloc(f->new.n);

	if (copied)
		left.nonce[0] = 'c';
	for (int i = 0; i < 2; i++) {
		if (cpx_image_open(s, &left, &img, &err) < 0 ||
		    cpx_image_verify(img, 1, &err) < 0 ||
		    cpx_image_read(img, 1, f->new.at, got, f->new.n, &err) < 0)
			fail_msg("%s %ld: %s", what, at, err.msg);
		assert_memory_equal(got, f->new.p, f->new.n);
		cpx_image_close(img);
		OK(cpx_store_gc(s, "job", &left, 1, false, &gc, &err));
		OK(cpx_store_gc_code(s, false, &code, &err));
	}
	assert_int_equal(gc.dead_files, 0);
	assert_int_equal(count_files(s, "code"), 0);
	cpx_store_close(s);
}

static bool clean_with(struct saboteur *b)
{
	const struct cpx_store_opts opts = { .uid = (uint32_t)-1, .gid = (uint32_t)-1 };
	struct fixture f = make_dead(fast_base());
	struct cpx_store *s;
	struct cpx_err err = { 0 };
	bool copied;
	int rc;

	OK(cpx_store_open_hooked(f.dir, &opts, (struct cpx_io_hook){ sabotage, b }, &s, &err));
	rc = clean_and_collect(s, &copied, &err);
	cpx_store_close(s);
	if (rc < 0)
		assert_true(atomic_load(&b->done));
	judge_clean(&f, copied, "call", b->at);
	free_fixture(&f);
	return atomic_load(&b->done);
}

static void cleaning_and_removal(void **state)
{
	static const enum cpx_io_kind kinds[] = {
		CPX_IO_CREATE, CPX_IO_WRITE,  CPX_IO_FSYNC, CPX_IO_FSYNC_DIR,
		CPX_IO_RENAME, CPX_IO_UNLINK, CPX_IO_OPEN,  CPX_IO_READ,
	};
	int loops = 0;

	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		for (int onward = 0; onward < 2; onward++) {
			bool reached = true;

			for (long n = 1; reached; n++, loops++) {
				struct saboteur b = {
					.kind = kinds[k], .at = n, .onward = onward, .sys = EIO
				};

				reached = clean_with(&b);
			}
		}
	}
	print_message("%d cleanings with a fault\n", loops);
}

static void no_memory_to_clean(void **state)
{
	bool reached = true, copied = false;

	(void)state;
	for (long n = 1; reached; n++) {
		struct fixture f = make_dead(fast_base());
		struct cpx_store *s = open_dir(f.dir);
		struct cpx_err err = { 0 };
		int rc;

		atomic_store(&allocations, 0);
		atomic_store(&fail_at, n);
		rc = clean_and_collect(s, &copied, &err);
		reached = atomic_load(&allocations) >= n;
		atomic_store(&fail_at, 0);
		cpx_store_close(s);
		if (rc < 0 && rc != CPX_E_NOMEM)
			fail_msg("allocation %ld: code %d: %s", n, rc, err.msg);
		judge_clean(&f, copied, "allocation", n);
		free_fixture(&f);
	}
}

/* The first generation of a job: its directory goes, too. */
static void the_first_generation(void **state)
{
	static const enum cpx_io_kind kinds[] = { CPX_IO_MKDIR, CPX_IO_CREATE, CPX_IO_FSYNC_DIR,
						  CPX_IO_FSYNC, CPX_IO_RENAME };

	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		bool reached = true;

		for (long n = 1; reached; n++) {
			const struct cpx_store_opts opts = { .uid = (uint32_t)-1,
							     .gid = (uint32_t)-1 };
			struct saboteur b = { .kind = kinds[k], .at = n, .sys = ENOSPC };
			struct pages g = make_pages(20 * CPX_PAGE, 0);
			struct cpx_err err = { 0 };
			char *dir = make_dir(fast_base());
			struct cpx_store *s;

			fill(&g, FILL_RANDOM);
			OK(cpx_store_open_hooked(
				dir, &opts, (struct cpx_io_hook){ sabotage, &b }, &s, &err));
			if (write_gen(s, 1, &g, NULL, NULL, &err) < 0)
				assert_int_equal(count_files(s, "jobs"), 0);
			else
				OK(check_gen(s, 1, &g, &err));
			cpx_store_close(s);
			reached = atomic_load(&b.done);
			remove_tree(dir);
			free(g.p);
		}
	}
}

/* The n-th allocation fails: no memory is reported, nothing is left. */
static void no_memory(void **state)
{
	struct fixture f = make_fixture(fast_base(), 40);
	long failures = 0;

	(void)state;
	for (long n = 1;; n++) {
		const struct cpx_store_opts opts = { .uid = (uint32_t)-1, .gid = (uint32_t)-1 };
		struct cpx_store *s = NULL;
		struct cpx_err err = { 0 };
		bool reached;
		int rc;

		atomic_store(&allocations, 0);
		atomic_store(&fail_at, n);
		rc = cpx_store_open(f.dir, &opts, &s, &err);
		if (rc == 0)
			rc = write_gen(s, 2, &f.new, NULL, NULL, &err);
		reached = atomic_load(&allocations) >= n;
		atomic_store(&fail_at, 0);
		cpx_store_close(s);
		if (rc < 0) {
			failures++;
			if (rc != CPX_E_NOMEM)
				fail_msg("allocation %ld: code %d: %s", n, rc, err.msg);
			judge_failure(&f, "allocation", n);
		} else {
			judge_success(&f);
		}
		if (!reached)
			break;
	}
	assert_true(failures > 10);
	free_fixture(&f);
}

/* The n-th allocation fails while an image is read. */
static void no_memory_to_read(void **state)
{
	struct fixture f = make_fixture(fast_base(), 40);

	(void)state;
	for (long n = 1;; n++) {
		const struct cpx_store_opts opts = { .uid = (uint32_t)-1, .gid = (uint32_t)-1 };
		struct cpx_gen_id id = gen(1);
		struct cpx_store *s = NULL;
		struct cpx_image *img = NULL;
		struct cpx_err err = { 0 };
		bool reached;
		int rc;

		atomic_store(&allocations, 0);
		atomic_store(&fail_at, n);
		rc = cpx_store_open(f.dir, &opts, &s, &err);
		if (rc == 0)
			rc = cpx_image_open(s, &id, &img, &err);
		if (rc == 0)
			rc = cpx_image_verify(img, 1, &err);
		reached = atomic_load(&allocations) >= n;
		atomic_store(&fail_at, 0);
		cpx_image_close(img);
		cpx_store_close(s);
		if (rc < 0 && rc != CPX_E_NOMEM)
			fail_msg("allocation %ld: code %d: %s", n, rc, err.msg);
		assert_true(reached || rc == 0);
		if (!reached)
			break;
	}
	free_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_in_memory),	cmocka_unit_test(large_on_disk),
		cmocka_unit_test(the_first_generation), cmocka_unit_test(no_memory),
		cmocka_unit_test(no_memory_to_read),	cmocka_unit_test(cleaning_and_removal),
		cmocka_unit_test(no_memory_to_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
