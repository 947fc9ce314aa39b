/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A changed, cut or lengthened file is found, and the message names it. */
#include "store_fixture.h"

#include <dirent.h>
#include <fcntl.h>

struct fixture {
	char *dir, *jobs;
	struct cpx_store *s;
	struct pages g;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct cpx_err err = { 0 };

	f->dir = make_dir(fast_base());
	f->s = open_dir(f->dir);
	f->g = make_pages(40 * CPX_PAGE, 0x1000);
	fill(&f->g, FILL_TEXT);
	fill_page(&f->g, 3, FILL_RANDOM);
	OK(write_gen(f->s, 1, &f->g, NULL, NULL, &err));
	if (asprintf(&f->jobs, "%s/jobs/job", f->dir) < 0)
		return -1;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	cpx_store_close(f->s);
	remove_tree(f->dir);
	free(f->jobs);
	free(f->g.p);
	free(f);
	return 0;
}

/* Opening, verifying or reading says no, with the file's name. */
static void must_be_found(struct fixture *f, const char *name, const char *what, long at)
{
	struct cpx_gen_id id = gen(1);
	struct cpx_image *img;
	struct cpx_err err = { 0 };
	int rc = cpx_image_open(f->s, &id, &img, &err);

	if (rc == 0) {
		rc = cpx_image_verify(img, 1, &err);
		cpx_image_close(img);
	}
	if (rc >= 0)
		fail_msg("%s: %s at %ld was not found", name, what, at);
	if (rc != CPX_E_CHECKSUM && rc != CPX_E_FORMAT && rc != CPX_E_LIMIT)
		fail_msg("%s: %s at %ld: unexpected error %d: %s", name, what, at, rc, err.msg);
	if (!strstr(err.msg, name))
		fail_msg("%s: %s at %ld: the file is not named: %s", name, what, at, err.msg);
}

static void change_file(struct fixture *f, const char *name, size_t step)
{
	char path[512];
	uint8_t byte, other;
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", f->jobs, name);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	for (off_t i = 0; i < st.st_size;
	     i += i < 200 || i > st.st_size - 200 ? 1 : (off_t)step) {
		assert_int_equal(pread(fd, &byte, 1, i), 1);
		other = byte ^ (uint8_t)(1u << (i % 8));
		assert_int_equal(pwrite(fd, &other, 1, i), 1);
		must_be_found(f, name, "a changed bit", i);
		assert_int_equal(pwrite(fd, &byte, 1, i), 1);
	}
	assert_int_equal(pwrite(fd, "x", 1, st.st_size), 1);
	must_be_found(f, name, "a byte too many", st.st_size);
	for (off_t n = st.st_size - 1; n >= 0; n -= 1 + n / 7) {
		uint8_t *old = malloc((size_t)st.st_size);

		assert_int_equal(pread(fd, old, (size_t)st.st_size, 0), st.st_size);
		assert_int_equal(ftruncate(fd, n), 0);
		must_be_found(f, name, "a cut", n);
		assert_int_equal(pwrite(fd, old, (size_t)st.st_size, 0), st.st_size);
		free(old);
	}
	assert_int_equal(ftruncate(fd, st.st_size), 0);
	close(fd);
}

static void every_change_is_found(void **state)
{
	struct fixture *f = *state;
	DIR *d = opendir(f->jobs);
	struct cpx_err err = { 0 };
	struct dirent *e;
	int files = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		change_file(f, e->d_name, 5);
		files++;
	}
	closedir(d);
	assert_int_equal(files, 2);
	OK(check_gen(f->s, 1, &f->g, &err));
}

static void a_missing_pack_is_found(void **state)
{
	struct fixture *f = *state;
	struct cpx_gen_id id = gen(1);
	char name[CPX_NAME_MAX], path[512], away[600];
	struct cpx_err err = { 0 };

	cpx_name_pack("job", id.epoch, id.seq, id.nonce, 0, name);
	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	snprintf(away, sizeof(away), "%s.away", path);
	assert_int_equal(rename(path, away), 0);
	assert_int_equal(check_gen(f->s, 1, &f->g, &err), CPX_E_NOENT);
	assert_non_null(strstr(err.msg, name));
	assert_int_equal(rename(away, path), 0);
	OK(check_gen(f->s, 1, &f->g, &err));
}

/* A pack of another generation under this one's name, whole as it is. */
static void a_swapped_pack_is_found(void **state)
{
	struct fixture *f = *state;
	struct cpx_gen_id id = gen(2);
	char a[512], b[512], name[CPX_NAME_MAX];
	struct cpx_err err = { 0 };

	OK(write_gen(f->s, 2, &f->g, NULL, NULL, &err));
	cpx_name_pack("job", id.epoch, id.seq, id.nonce, 0, name);
	snprintf(a, sizeof(a), "%s/%s", f->dir, name);
	id = gen(1);
	cpx_name_pack("job", id.epoch, id.seq, id.nonce, 0, name);
	snprintf(b, sizeof(b), "%s/%s", f->dir, name);
	assert_int_equal(rename(a, b), 0);
	assert_int_equal(check_gen(f->s, 1, &f->g, &err), CPX_E_CHECKSUM);
	id = gen(1);
	OK(cpx_store_remove(f->s, &id, &err));
}

static void damage_shows_in_the_list(void **state)
{
	struct fixture *f = *state;
	struct cpx_gen_id id = gen(1);
	struct cpx_gen_entry *list;
	char name[CPX_NAME_MAX], path[512];
	struct cpx_err err = { 0 };

	cpx_name_manifest(&id, false, name);
	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	assert_int_equal(truncate(path, 50), 0);
	assert_int_equal(cpx_store_list(f->s, "job", &list, &err), 1);
	assert_false(list[0].whole);
	free(list);
	OK(cpx_store_remove(f->s, &id, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_change_is_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_missing_pack_is_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_swapped_pack_is_found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(damage_shows_in_the_list, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
