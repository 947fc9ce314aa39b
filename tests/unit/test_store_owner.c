/* SPDX-License-Identifier: GPL-2.0-or-later */
/* With a user given, a store is that user's: files, rights, and no way out through links. */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SOMEBODY 54321u

static struct cpx_store *open_as(const char *dir, uint32_t uid)
{
	const struct cpx_store_opts opts = { .create = true, .uid = uid, .gid = uid };
	struct cpx_err err = { 0 };
	struct cpx_store *s;

	OK(cpx_store_open(dir, &opts, &s, &err));
	return s;
}

static int each_is_mine(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)ftw;
	assert_int_equal(st->st_uid, SOMEBODY);
	assert_int_equal(st->st_gid, SOMEBODY);
	assert_int_equal(st->st_mode & 07777, flag == FTW_D ? 0700 : 0600);
	assert_non_null(path);
	return 0;
}

static void files_belong_to_the_owner(void **state)
{
	struct pages g = make_pages(600 * CPX_PAGE, 0);
	struct cpx_err err = { 0 };
	char *dir = make_dir(NULL), *sub;
	struct cpx_store *s;
	const struct cpx_gen_id id = gen(9);
	uint8_t sha[32];
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), sig = 0;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(chown(dir, SOMEBODY, SOMEBODY), 0);
	assert_true(asprintf(&sub, "%s/store", dir) > 0);
	fill(&g, FILL_RANDOM);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	s = open_as(sub, SOMEBODY);
	OK(write_gen(s, 1, &g, &(struct cpx_image_opts){ .workers = 2 }, NULL, &err));
	OK(check_gen(s, 1, &g, &err));
	OK(cpx_store_put_code(s, &id, fd, sha, &err));
	close(fd);
	nftw(sub, each_is_mine, 8, FTW_PHYS);
	/* the calling thread is root again in all respects, and dies with its parent as before
	 */
	assert_int_equal(prctl(PR_GET_PDEATHSIG, &sig), 0);
	assert_int_equal(sig, SIGKILL);
	prctl(PR_SET_PDEATHSIG, 0);
	assert_int_equal(setfsuid((uid_t)-1), 0);
	fd = open("/etc/shadow", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0 || errno == ENOENT);
	if (fd >= 0)
		close(fd);
	cpx_store_close(s);
	remove_tree(dir);
	free(sub);
	free(g.p);
}

static void root_rights_do_not_help(void **state)
{
	const struct cpx_store_opts opts = { .create = true, .uid = SOMEBODY, .gid = SOMEBODY };
	struct pages g = make_pages(8 * CPX_PAGE, 0);
	struct cpx_err err = { 0 };
	struct cpx_store *s;
	char *dir = make_dir(NULL);

	(void)state;
	if (geteuid() != 0)
		skip();
	/* root's own directory, 0700: not to be entered */
	assert_int_equal(cpx_store_open(dir, &opts, &s, &err), CPX_E_PERM);
	/* to be entered, not to be written */
	assert_int_equal(chmod(dir, 0755), 0);
	s = open_as(dir, SOMEBODY);
	assert_int_equal(write_gen(s, 1, &g, NULL, NULL, &err), CPX_E_PERM);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

/* Return: the error of writing generation 1 after @sabotage of the store directory. */
static int write_after(void (*sabotage)(const char *dir, const char *other), char **other)
{
	struct pages g = make_pages(8 * CPX_PAGE, 0);
	struct cpx_err err = { 0 };
	char *dir = make_dir(NULL);
	struct cpx_store *s = open_dir(dir);
	int rc;

	fill(&g, FILL_RANDOM);
	*other = make_dir(NULL);
	sabotage(dir, *other);
	rc = write_gen(s, 1, &g, NULL, NULL, &err);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
	return rc;
}

static void link_jobs(const char *dir, const char *other)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/jobs", dir);
	assert_int_equal(symlink(other, path), 0);
}

static void link_job(const char *dir, const char *other)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/jobs", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/jobs/job", dir);
	assert_int_equal(symlink(other, path), 0);
}

static void link_pack(const char *dir, const char *other)
{
	struct cpx_gen_id id = gen(1);
	char path[512], name[CPX_NAME_MAX], to[512];

	snprintf(path, sizeof(path), "%s/jobs", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/jobs/job", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	cpx_name_pack("job", id.epoch, id.seq, id.nonce, 0, name);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(to, sizeof(to), "%s/target", other);
	assert_int_equal(symlink(to, path), 0);
}

static void no_link_is_followed(void **state)
{
	void (*const ways[])(const char *, const char *) = { link_jobs, link_job, link_pack };

	(void)state;
	for (int i = 0; i < 3; i++) {
		char *other;

		assert_true(write_after(ways[i], &other) < 0);
		/* empty as it was */
		assert_int_equal(rmdir(other), 0);
		free(other);
	}
}

static void code_objects(void **state)
{
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base()), path[600];
	struct cpx_store *s = open_dir(dir);
	const struct cpx_gen_id id = gen(9);
	uint8_t sha[32], again[32], a[256], b[256];
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), got, n;

	(void)state;
	OK(cpx_store_put_code(s, &id, fd, sha, &err));
	OK(cpx_store_put_code(s, &id, fd, again, &err));
	assert_memory_equal(sha, again, 32);
	assert_int_equal(count_files(s, "code"), 1);
	got = cpx_store_get_code(s, sha, NULL, &err);
	OK(got);
	for (off_t off = 0; (n = (int)pread(fd, a, sizeof(a), off)) > 0; off += n) {
		assert_int_equal(pread(got, b, (size_t)n, off), n);
		assert_memory_equal(a, b, (size_t)n);
	}
	assert_int_equal(write(got, "x", 1), -1);
	close(got);
	n = snprintf(path, sizeof(path), "%s/code/", dir);
	for (int i = 0; i < 32; i++)
		n += snprintf(path + n, sizeof(path) - (size_t)n, "%02x", sha[i]);
	got = open(path, O_WRONLY);
	assert_int_equal(pwrite(got, "#", 1, 100), 1);
	close(got);
	assert_int_equal(cpx_store_get_code(s, sha, NULL, &err), CPX_E_CHECKSUM);
	sha[0] ^= 1;
	assert_int_equal(cpx_store_get_code(s, sha, NULL, &err), CPX_E_NOENT);
	close(fd);
	cpx_store_close(s);
	remove_tree(dir);
}

/* A dump that failed takes its code objects along, and only those. */
static void fresh_code_can_be_dropped(void **state)
{
	struct pages g = make_pages(8 * CPX_PAGE, 0);
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir), *beside = open_dir(dir);
	const struct cpx_gen_id id = gen(9), its = gen(10);
	uint8_t sha[32], other[32];
	int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int libc = open("/bin/sh", O_RDONLY | O_CLOEXEC), got;

	(void)state;
	OK(cpx_store_put_code(s, &id, exe, sha, &err));
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	OK(cpx_store_put_code(s, &id, exe, sha, &err));
	OK(cpx_store_put_code(s, &id, libc, other, &err));
	/* another writer has come to need what is there */
	OK(cpx_store_put_code(beside, &its, libc, other, &err));
	cpx_store_drop_code(s);
	assert_int_equal(count_files(s, "code"), 1);
	assert_int_equal(cpx_store_get_code(s, sha, NULL, &err), CPX_E_NOENT);
	got = cpx_store_get_code(s, other, NULL, &err);
	OK(got);
	close(got);
	OK(cpx_store_put_code(s, &id, exe, sha, &err));
	assert_int_equal(count_files(s, "code"), 2);
	close(exe);
	close(libc);
	cpx_store_close(beside);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

/* Half-written code objects go when nobody holds them; those being written stay. */
static void dead_code_files_are_cleaned(void **state)
{
	const struct cpx_gen_id below = gen(9);
	struct cpx_io_file dead, busy;
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base());
	struct cpx_store *s = open_dir(dir);

	(void)state;
	OK(cpx_io_mkdir(&s->io, "code", &err));
	OK(cpx_io_create(&s->io, "code/0123456789abcdef.tmp", &dead, &err));
	OK(cpx_io_create(&s->io, "code/fedcba9876543210.tmp", &busy, &err));
	cpx_io_close(&dead);
	assert_int_equal(flock(busy.fd, LOCK_EX), 0);
	assert_int_equal(cpx_store_clean(s, &below, &err), 1);
	assert_true(cpx_io_exists(&s->io, "code/fedcba9876543210.tmp"));
	cpx_io_close(&busy);
	assert_int_equal(cpx_store_clean(s, &below, &err), 1);
	assert_int_equal(count_files(s, "code"), 0);
	cpx_store_close(s);
	remove_tree(dir);
}

static void a_job_goes_with_all_it_has(void **state)
{
	struct pages g = make_pages(40 * CPX_PAGE, 0);
	struct cpx_gen_id dead = gen(7);
	struct cpx_io_file f;
	struct cpx_err err = { 0 };
	char *dir = make_dir(fast_base()), name[CPX_NAME_MAX];
	struct cpx_store *s = open_dir(dir);

	(void)state;
	fill(&g, FILL_TEXT);
	OK(write_gen(s, 1, &g, NULL, NULL, &err));
	OK(write_gen(s, 2, &g, NULL, NULL, &err));
	cpx_name_manifest(&dead, true, name);
	OK(cpx_io_create(&s->io, name, &f, &err));
	cpx_io_close(&f);
	OK(cpx_store_remove_job(s, "job", &err));
	OK(cpx_store_remove_job(s, "job", &err));
	assert_int_equal(count_files(s, "jobs"), 0);
	cpx_store_close(s);
	remove_tree(dir);
	free(g.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_belong_to_the_owner),
		cmocka_unit_test(root_rights_do_not_help),
		cmocka_unit_test(no_link_is_followed),
		cmocka_unit_test(code_objects),
		cmocka_unit_test(fresh_code_can_be_dropped),
		cmocka_unit_test(dead_code_files_are_cleaned),
		cmocka_unit_test(a_job_goes_with_all_it_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
