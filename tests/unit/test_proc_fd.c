/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fdinfo texts: what the kernel writes is understood, anything else is refused whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "../../chpox/base/elf_id.h"
#include "../../chpox/base/err.h"
#include "../../chpox/base/fd.h"
#include "../../chpox/proc_fd.h"
#include "../../store/state.h"

static int parse(const char *text, struct cpx_proc_fd *f)
{
	return cpx_proc_fd_parse(text, strlen(text), f, NULL);
}

static void plain_file(void **state)
{
	struct cpx_proc_fd f;

	(void)state;
	assert_int_equal(parse("pos:\t4711\nflags:\t02102002\nmnt_id:\t27\nino:\t99\n", &f), 0);
	assert_int_equal(f.pos, 4711);
	assert_int_equal(f.flags, 0102002);
	assert_true(f.cloexec);
	assert_int_equal(f.mnt_id, 27);
	assert_int_equal(f.ino, 99);
	assert_int_equal(f.nlocks, 0);
	cpx_proc_fd_free(&f);
}

static void all_kinds_of_locks(void **state)
{
	static const char text[] =
		"pos:\t0\nflags:\t0100002\nmnt_id:\t27\n"
		"lock:\t1: FLOCK  ADVISORY  WRITE 10870 fe:00:10952835 0 EOF\n"
		"lock:\t2: POSIX  ADVISORY  READ  10870 fe:00:10952835 10 14\n"
		"lock:\t3: OFDLCK ADVISORY  READ  -1 fe:00:10952835 100 EOF\n"
		"lock:\t4: LEASE  BREAKING  READ  10870 fe:00:10952835 0 EOF\n"
		"lock:\t4: -> POSIX  ADVISORY  WRITE 10871 fe:00:10952835 10 14\n"
		"lock:\t5: DELEG  ACTIVE    READ  10870 fe:00:10952835 0 EOF\n";
	struct cpx_proc_fd f;

	(void)state;
	assert_int_equal(parse(text, &f), 0);
	assert_int_equal(f.nlocks, 5);
	assert_int_equal(f.locks[0].kind, CPX_LOCK_FLOCK);
	assert_int_equal(f.locks[0].type, F_WRLCK);
	assert_int_equal(f.locks[1].kind, CPX_LOCK_POSIX);
	assert_int_equal(f.locks[1].start, 10);
	assert_int_equal(f.locks[1].len, 5);
	assert_int_equal(f.locks[2].kind, CPX_LOCK_OFD);
	assert_int_equal(f.locks[2].start, 100);
	assert_int_equal(f.locks[2].len, 0);
	assert_int_equal(f.locks[3].kind, CPX_LOCK_LEASE);
	assert_true(f.locks[3].breaking);
	assert_true(f.locks[4].foreign);
	cpx_proc_fd_free(&f);
}

static void keys_of_other_kinds_are_passed_over(void **state)
{
	struct cpx_proc_fd f;

	(void)state;
	assert_int_equal(
		parse("pos:\t0\nflags:\t02\nmnt_id:\t1\neventfd-count: ffff\n"
		      "tfd:        5 events:       19 data:                5  pos:0 ino:61 "
		      "sdev:7\n\n",
		      &f),
		0);
	cpx_proc_fd_free(&f);
}

static void nonsense_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"pos:\t0\n",
		"flags:\t0\n",
		"pos:\t-1\nflags:\t0\n",
		"pos:\t\nflags:\t0\n",
		"pos:\t1x\nflags:\t0\n",
		"pos:\t99999999999999999999\nflags:\t0\n",
		"pos:\t0\nflags:\t09\n",
		"pos:\t0\nflags:\t77777777777777\n",
		"pos:\t0\nflags:\t0\nlock:\n",
		"pos:\t0\nflags:\t0\nlock:\t1: FLOCK\n",
		"pos:\t0\nflags:\t0\nlock:\t1: FLOCK ADVISORY WRITE 1 fe:00:1 5 4\n",
		"pos:\t0\nflags:\t0\nlock:\t1: WHAT ADVISORY WRITE 1 fe:00:1 0 EOF\n",
		"pos:\t0\nflags:\t0\nlock:\t1: FLOCK ADVISORY MAYBE 1 fe:00:1 0 EOF\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct cpx_proc_fd f = { .pos = 42 };

		assert_int_equal(parse(bad[i], &f), CPX_E_FORMAT);
		assert_int_equal(f.pos, 42);
	}
}

static void the_running_kernel_is_understood(void **state)
{
	char name[] = "/tmp/cpx-fdinfo-XXXXXX", path[64];
	struct flock l = { .l_type = F_WRLCK, .l_start = 3, .l_len = 4 };
	CPX_AUTO_FREE char *text = NULL;
	CPX_AUTO_FD fd = mkostemp(name, O_APPEND | O_CLOEXEC);
	struct cpx_proc_fd f;
	ssize_t n;

	(void)state;
	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(lseek(fd, 17, SEEK_SET), 17);
	assert_int_equal(flock(fd, LOCK_SH), 0);
	assert_int_equal(fcntl(fd, F_SETLK, &l), 0);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	n = cpx_read_file(AT_FDCWD, path, CPX_FDINFO_MAX, &text, NULL);
	assert_true(n > 0);
	assert_int_equal(cpx_proc_fd_parse(text, (size_t)n, &f, NULL), 0);
	assert_int_equal(f.pos, 17);
	assert_true(f.cloexec);
	assert_int_equal(f.flags & (O_ACCMODE | O_APPEND), O_RDWR | O_APPEND);
	assert_int_equal(f.nlocks, 2);
	cpx_proc_fd_free(&f);
}

/* Programs have a build id here, text files none. */
static void build_id_of_a_program(void **state)
{
	CPX_AUTO_FD self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CPX_AUTO_FD text = open("/proc/version", O_RDONLY | O_CLOEXEC);
	uint8_t id[CPX_BUILD_ID_MAX];

	(void)state;
	assert_true(cpx_elf_build_id(self, id) >= 16);
	assert_int_equal(cpx_elf_build_id(text, id), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_file),
		cmocka_unit_test(all_kinds_of_locks),
		cmocka_unit_test(keys_of_other_kinds_are_passed_over),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(the_running_kernel_is_understood),
		cmocka_unit_test(build_id_of_a_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
