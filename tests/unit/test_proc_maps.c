/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /proc/PID/maps and smaps: what the kernel writes is understood, anything else is refused
 * whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../chpox/base/err.h"
#include "../../chpox/proc_maps.h"

static int parse(const char *text, struct cpx_maps *m)
{
	return cpx_maps_parse(strdup(text), strlen(text), m, NULL);
}

static void a_file_mapping(void **state)
{
	struct cpx_maps m;

	(void)state;
	assert_int_equal(parse("7f00000000-7f00003000 r-xp 00021000 fe:01 4711       "
			       "        /usr/lib/a b.so (deleted)\n",
			       &m),
			 0);
	assert_int_equal(m.n, 1);
	assert_int_equal(m.v[0].start, 0x7f00000000);
	assert_int_equal(m.v[0].end, 0x7f00003000);
	assert_int_equal(m.v[0].prot, PROT_READ | PROT_EXEC);
	assert_false(m.v[0].shared);
	assert_int_equal(m.v[0].pgoff, 0x21000);
	assert_int_equal(m.v[0].dev_major, 0xfe);
	assert_int_equal(m.v[0].dev_minor, 1);
	assert_int_equal(m.v[0].ino, 4711);
	assert_string_equal(m.v[0].name, "/usr/lib/a b.so (deleted)");
	cpx_maps_free(&m);
}

static void nameless_and_shared(void **state)
{
	struct cpx_maps m;

	(void)state;
	assert_int_equal(parse("1000-2000 rw-s 00000000 00:01 5 \n"
			       "2000-3000 ---p 00000000 00:00 0\n",
			       &m),
			 0);
	assert_int_equal(m.n, 2);
	assert_true(m.v[0].shared);
	assert_string_equal(m.v[0].name, "");
	assert_int_equal(m.v[1].prot, 0);
	assert_ptr_equal(cpx_maps_at(&m, 0x1fff), &m.v[0]);
	assert_ptr_equal(cpx_maps_at(&m, 0x2000), &m.v[1]);
	assert_ptr_equal(cpx_maps_at(&m, 0), &m.v[0]);
	assert_null(cpx_maps_at(&m, 0x3000));
	cpx_maps_free(&m);
}

static void flags_of_smaps(void **state)
{
	struct cpx_maps m;

	(void)state;
	assert_int_equal(parse("1000-9000 rw-p 00000000 00:00 0 [stack]\n"
			       "Size:                 32 kB\n"
			       "KernelPageSize:        4 kB\n"
			       "Rss:                  12 kB\n"
			       "NewKey:               xx yy\n"
			       "ProtectionKey:         3\n"
			       "VmFlags: rd wr mr mw me gd lo ac wf zz \n",
			       &m),
			 0);
	assert_int_equal(m.v[0].rss, 12288);
	assert_int_equal(m.v[0].page_size, 4096);
	assert_int_equal(m.v[0].vmflags,
			 CPX_VMF_MW | CPX_VMF_GD | CPX_VMF_LO | CPX_VMF_AC | CPX_VMF_WF);
	assert_string_equal(m.v[0].name, "[stack]");
	cpx_maps_free(&m);
}

static void nonsense_is_refused(void **state)
{
	static const char *const bad[] = {
		"1000-2000 rw-p 00000000 00:00 0",	       /* cut short */
		"2000-1000 rw-p 00000000 00:00 0\n",	       /* backwards */
		"1000-1000 rw-p 00000000 00:00 0\n",	       /* empty */
		"1001-2000 rw-p 00000000 00:00 0\n",	       /* no page */
		"1000-2000 rw-p 00000123 00:00 0\n",	       /* no page */
		"1000-2000 rwxq 00000000 00:00 0\n",	       /* no such letter */
		"10000000000000000-2 rw-p 00000000 00:00 0\n", /* overflow */
		"1000-2000 rw-p 00000000 00:00 99999999999999999999\n",
		"Rss: 4 kB\n", /* of nothing */
		"1000-2000 rw-p 00000000 00:00 0\nRss: many\n",
		"1000-3000 rw-p 00000000 00:00 0\n2000-4000 rw-p 00000000 00:00 0\n",
		"\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct cpx_maps m = { 0 };

		assert_int_equal(parse(bad[i], &m), CPX_E_FORMAT);
		assert_null(m.v);
	}
}

static void ones_own(void **state)
{
	struct cpx_maps maps, smaps;
	int proc = open("/proc/self", O_PATH | O_DIRECTORY);
	const struct cpx_map *m;
	int here = 0;

	(void)state;
	assert_true(proc >= 0);
	assert_int_equal(cpx_maps_read(proc, "maps", &maps, NULL), 0);
	assert_int_equal(cpx_maps_read(proc, "smaps", &smaps, NULL), 0);
	close(proc);
	m = cpx_maps_at(&maps, (uintptr_t)&here);
	assert_non_null(m);
	assert_string_equal(m->name, "[stack]");
	m = cpx_maps_at(&smaps, (uintptr_t)&here);
	assert_true(m->vmflags & CPX_VMF_GD);
	cpx_maps_free(&maps);
	cpx_maps_free(&smaps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_mapping), cmocka_unit_test(nameless_and_shared),
		cmocka_unit_test(flags_of_smaps), cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(ones_own),
	};

	return cmocka_run_group_tests_name("mappings in /proc are understood", tests, NULL,
					   NULL);
}
