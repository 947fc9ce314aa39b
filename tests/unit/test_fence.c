/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The deadline of a copy: when it is frozen, and what thaws it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../chpox/base/err.h"
#include "../../scheduler/fence.h"

#define S 1000000000ll

static void times_that_leave_no_room_are_refused(void **state)
{
	struct cpx_fence_times t = CPX_FENCE_DEFAULTS;
	struct cpx_err err;

	(void)state;
	assert_int_equal(cpx_fence_times_ok(&t, NULL), 0);
	/* 1.5 x (2 + 0.5 + 1 + 2.1) = 8.4 s */
	t.ttl = 8400000000;
	assert_int_equal(cpx_fence_times_ok(&t, NULL), 0);
	t.ttl--;
	assert_int_equal(cpx_fence_times_ok(&t, &err), CPX_E_INVAL);
	t = CPX_FENCE_DEFAULTS;
	t.guard = 0;
	assert_int_equal(cpx_fence_times_ok(&t, NULL), CPX_E_INVAL);
	t.guard = INT64_MAX / 2;
	assert_int_equal(cpx_fence_times_ok(&t, NULL), CPX_E_INVAL);
}

static void a_copy_is_frozen_at_its_deadline(void **state)
{
	struct cpx_fence_times t = CPX_FENCE_DEFAULTS;
	struct cpx_fence f = { .lease = 7, .deadline = cpx_fence_deadline(&t, 100 * S) };

	(void)state;
	assert_int_equal(f.deadline, 113 * S);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_TIME, 0, 0, 113 * S - 1),
			 CPX_FENCE_NOTHING);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_TIME, 0, 0, 113 * S), CPX_FENCE_FREEZE);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_TIME, 0, 0, 114 * S), CPX_FENCE_NOTHING);
}

static void only_proof_thaws(void **state)
{
	struct cpx_fence f = { .state = CPX_FENCE_FENCED, .lease = 7, .deadline = 10 };

	(void)state;
	/* another lease; an older deadline; one that is past already */
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_RENEWED, 8, 99, 20), CPX_FENCE_NOTHING);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_RENEWED, 7, 9, 5), CPX_FENCE_NOTHING);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_RENEWED, 7, 15, 20), CPX_FENCE_NOTHING);
	assert_int_equal(f.state, CPX_FENCE_FENCED);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_RENEWED, 7, 30, 20), CPX_FENCE_THAW);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_TIME, 0, 0, 30), CPX_FENCE_FREEZE);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_ADOPTED, 8, 40, 31), CPX_FENCE_THAW);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_RENEWED, 7, 99, 32), CPX_FENCE_NOTHING);
	assert_int_equal(f.deadline, 40);
}

static void what_is_held_waits_for_the_core(void **state)
{
	struct cpx_fence f = { .lease = 7, .deadline = 100 };

	(void)state;
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_HOLD, 0, 0, 10), CPX_FENCE_FREEZE);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_RENEWED, 7, 200, 20), CPX_FENCE_NOTHING);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_ADOPTED, 8, 300, 20), CPX_FENCE_NOTHING);
	assert_int_equal(f.state, CPX_FENCE_HELD);
	/* held until its deadline has passed: it stays frozen, now by the deadline */
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_UNHOLD, 8, 300, 301), CPX_FENCE_NOTHING);
	assert_int_equal(f.state, CPX_FENCE_FENCED);
	f.state = CPX_FENCE_HELD;
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_UNHOLD, 8, 300, 30), CPX_FENCE_THAW);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_KILL, 0, 0, 40), CPX_FENCE_END);
	assert_int_equal(cpx_fence_step(&f, CPX_FENCE_ADOPTED, 9, 900, 41), CPX_FENCE_NOTHING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_that_leave_no_room_are_refused),
		cmocka_unit_test(a_copy_is_frozen_at_its_deadline),
		cmocka_unit_test(only_proof_thaws),
		cmocka_unit_test(what_is_held_waits_for_the_core),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
