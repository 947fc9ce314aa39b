/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is exported and imported is the same generation under another name; damage is found. */
#include "store_fixture.h"

#include <sys/mman.h>

static int export_gen(struct cpx_store *s, uint64_t seq)
{
	struct cpx_gen_id id = gen(seq);
	struct cpx_err err = { 0 };
	int fd = memfd_create("export", 0);
	struct cpx_image *img;

	OK(cpx_image_open(s, &id, &img, &err));
	OK(cpx_image_export(img, fd, NULL, NULL, NULL, &err));
	cpx_image_close(img);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void an_incremental_one_comes_out_as_one_of_its_own(void **state)
{
	struct pages g = make_pages(700 * CPX_PAGE, 0x3ffe000);
	const struct cpx_gen_id first = gen(1), as = gen(9);
	const struct cpx_image_opts on_first = { .codec = CPX_CODEC_LZ4, .base = &first };
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base()), *other = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir), *o = open_dir(other);
	struct cpx_gen_id second = gen(2);
	struct cpx_image_writer *w;
	struct cpx_gen_entry e;
	struct cpx_state *st = some_state(9);
	int fd;

	(void)state;
	fill(&g, FILL_TEXT);
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	OK(cpx_image_create(s, &second, &on_first, &w, &err));
	OK(cpx_image_inherit(w, 1, g.at, g.n, &err));
	memset(g.p + 5 * CPX_PAGE, 'x', CPX_PAGE);
	OK(cpx_image_put(w, 1, g.at + 5 * CPX_PAGE, CPX_PAGE, read_pages, &g, &err));
	OK(cpx_image_commit(w, st, "", NULL, &err));
	cpx_state_free(st);
	fd = export_gen(s, 2);
	OK(cpx_image_import(o, fd, &as, NULL, NULL, &e, &err));
	assert_int_equal(e.id.seq, 9);
	OK(check_gen(o, 9, &g, &err));
	/* the name is taken */
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(cpx_image_import(o, fd, &as, NULL, NULL, &e, &err), CPX_E_EXIST);
	OK(check_gen(o, 9, &g, &err));
	close(fd);
	cpx_store_close(s);
	cpx_store_close(o);
	remove_tree(dir);
	remove_tree(other);
	free(g.p);
}

/* Cut off anywhere, nothing is left. */
static void a_part_is_nothing(void **state)
{
	struct pages g = make_pages(50 * CPX_PAGE, 0x3ffe000);
	const struct cpx_gen_id as = gen(9);
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base()), *other = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir), *o = open_dir(other);
	struct cpx_gen_entry e, *list;
	off_t size;
	int fd;

	(void)state;
	fill(&g, FILL_TEXT);
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	fd = export_gen(s, 1);
	size = lseek(fd, 0, SEEK_END);
	for (off_t cut = size - 1; cut >= 0; cut -= cut > size - 40 || cut < 40 ? 1 : 997) {
		assert_int_equal(ftruncate(fd, cut), 0);
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		assert_int_equal(cpx_image_import(o, fd, &as, NULL, NULL, &e, &err),
				 CPX_E_CHECKSUM);
		assert_int_equal(cpx_store_list(o, NULL, &list, &err), 0);
		free(list);
		assert_false(cpx_io_exists(&o->io, "jobs/job"));
	}
	close(fd);
	cpx_store_close(s);
	cpx_store_close(o);
	remove_tree(dir);
	remove_tree(other);
	free(g.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_incremental_one_comes_out_as_one_of_its_own),
		cmocka_unit_test(a_part_is_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
