/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The value of --every. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../chpox/base/err.h"
#include "../../chpox/every.h"

#define S 1000000000LL

static void what_makes_sense_is_taken(void **state)
{
	static const struct {
		const char *s;
		struct cpx_every want;
	} good[] = {
		{ "10s", { 10 * S, 0, 0 } },
		{ "never", { CPX_EVERY_NEVER, 0, 0 } },
		{ "auto", { CPX_EVERY_AUTO, 0, 0 } },
		{ "auto:1m..30m", { CPX_EVERY_AUTO, 60 * S, 1800 * S } },
		{ "auto:1.5s..", { CPX_EVERY_AUTO, S + S / 2, 0 } },
		{ "auto:..2h", { CPX_EVERY_AUTO, 0, 7200 * S } },
		{ "auto:..", { CPX_EVERY_AUTO, 0, 0 } },
	};
	struct cpx_every e;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(cpx_parse_every(good[i].s, &e, NULL), 0);
		assert_int_equal(e.ns, good[i].want.ns);
		assert_int_equal(e.min_ns, good[i].want.min_ns);
		assert_int_equal(e.max_ns, good[i].want.max_ns);
	}
}

static void the_rest_is_refused(void **state)
{
	static const char *const bad[] = { "",		 "0",
					   "auto:",	 "auto:5s",
					   "automatic",	 "auto:5s..1s",
					   "auto:x..y",	 "auto:1s..2s..",
					   "never:1s..", "auto:1s...5s" };
	struct cpx_every e = { .ns = 77 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(cpx_parse_every(bad[i], &e, NULL), CPX_E_INVAL);
	assert_int_equal(e.ns, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_makes_sense_is_taken),
		cmocka_unit_test(the_rest_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
