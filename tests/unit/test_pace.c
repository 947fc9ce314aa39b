/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a pause is expected to take, and how much is copied before it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../chpox/pace.h"

#define MS 1000000LL

static void a_clone_is_expected_to_take_what_the_last_one_did(void **state)
{
	struct cpx_pace p = { 0 };

	(void)state;
	assert_true(cpx_pace_clone_ns(&p, 1000) == INT64_MAX);
	cpx_pace_cloned(&p, 5 * MS, 1000);
	assert_int_equal(cpx_pace_clone_ns(&p, 1000), 5 * MS);
	assert_int_equal(cpx_pace_clone_ns(&p, 3000), 15 * MS);
	assert_int_equal(cpx_pace_clone_ns(&p, 10), 5 * MS);
	/* what makes no sense teaches nothing */
	cpx_pace_cloned(&p, -1, 1000);
	cpx_pace_cloned(&p, 9 * MS, 0);
	assert_int_equal(cpx_pace_clone_ns(&p, 1000), 5 * MS);
	assert_true(cpx_pace_clone_ns(&p, UINT64_MAX) > 0);
}

static void copying_is_expected_to_take_what_reading_shows(void **state)
{
	struct cpx_pace p = { 0 };
	int64_t before = cpx_pace_copy_ns(&p, 1000, 500);

	(void)state;
	/* this machine copies at three times what reading takes */
	for (int i = 0; i < 20; i++)
		cpx_pace_copied(&p, 1000 * 1500, 1000, 500);
	assert_in_range(cpx_pace_copy_ns(&p, 1000, 500), 1490 * 1000, 1510 * 1000);
	assert_true(cpx_pace_copy_ns(&p, 1000, 500) != before);
	/* twice as slow today, and it is known before the pause */
	assert_in_range(cpx_pace_copy_ns(&p, 1000, 1000), 2980 * 1000, 3020 * 1000);
	/* a few pages show only what is fixed */
	cpx_pace_copied(&p, 50 * MS, 3, 500);
	assert_in_range(cpx_pace_copy_ns(&p, 1000, 500), 1490 * 1000, 1510 * 1000);
	/* where none was read before the pause, copying is not for nothing */
	assert_true(cpx_pace_copy_ns(&p, 1000, 0) > 100 * 1000);
	assert_true(cpx_pace_copy_ns(&p, UINT64_MAX, INT64_MAX) > 0);
}

static void one_bad_measurement_does_not_stay(void **state)
{
	struct cpx_pace p = { 0 };

	(void)state;
	cpx_pace_copied(&p, 1000 * MS, 1000, 500);
	assert_true(cpx_pace_copy_ns(&p, 1000, 500) > 5 * MS);
	for (int i = 0; i < 10; i++)
		cpx_pace_rounds_paid(&p, false);
	assert_true(cpx_pace_copy_ns(&p, 1000, 500) < 2 * MS);
}

static void rounds_begin_with_one_and_grow_as_they_pay(void **state)
{
	struct cpx_pace p = { 0 };

	(void)state;
	for (unsigned i = 1; i < 10; i++) {
		assert_int_equal(cpx_pace_rounds(&p),
				 i < CPX_PACE_ROUNDS_MAX ? i : CPX_PACE_ROUNDS_MAX);
		cpx_pace_rounds_paid(&p, true);
	}
}

/* Of 1000 checkpoints of a job that writes all of its memory all the time. */
static void a_job_that_writes_faster_than_we_read_is_left_alone(void **state)
{
	struct cpx_pace p = { 0 };
	unsigned made = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		unsigned n = cpx_pace_rounds(&p);

		made += n;
		if (n)
			cpx_pace_rounds_paid(&p, false);
	}
	assert_in_range(made, 55, 70);
	/* it calms down: that is found soon, and then all is as before */
	for (int i = 0; i <= CPX_PACE_SKIP_MAX; i++)
		if (cpx_pace_rounds(&p))
			cpx_pace_rounds_paid(&p, true);
	assert_true(cpx_pace_rounds(&p) > 0);
	assert_int_equal(p.skipped, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_clone_is_expected_to_take_what_the_last_one_did),
		cmocka_unit_test(copying_is_expected_to_take_what_reading_shows),
		cmocka_unit_test(one_bad_measurement_does_not_stay),
		cmocka_unit_test(rounds_begin_with_one_and_grow_as_they_pay),
		cmocka_unit_test(a_job_that_writes_faster_than_we_read_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
