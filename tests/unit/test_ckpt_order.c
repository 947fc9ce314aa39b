/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which job first, when all are checkpointed before a deadline. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../chpox/ckpt_order.h"

static void most_at_risk_first_and_what_does_not_fit_last(void **state)
{
	struct cpx_ckpt_order v[] = { { .job = "new", .at_risk_s = 1 },
				      { .job = "huge", .at_risk_s = 9000, .takes_s = 61 },
				      { .job = "old", .at_risk_s = 3600, .takes_s = 60 },
				      { .job = "b", .at_risk_s = 10 },
				      { .job = "a", .at_risk_s = 10 } };
	static const char *const within[] = { "old", "a", "b", "new", "huge" };
	static const char *const free[] = { "huge", "old", "a", "b", "new" };

	(void)state;
	cpx_ckpt_order(v, 5, 60);
	for (int i = 0; i < 5; i++)
		assert_string_equal(v[i].job, within[i]);
	assert_true(v[4].late && !v[0].late);
	cpx_ckpt_order(v, 5, 0);
	for (int i = 0; i < 5; i++)
		assert_string_equal(v[i].job, free[i]);
	assert_false(v[0].late);
	cpx_ckpt_order(v, 0, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(most_at_risk_first_and_what_does_not_fit_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
