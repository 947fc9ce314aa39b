/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which generations are kept: by number, by hour, by day. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "../../scheduler/retention.h"

#define MINUTE 60000000000LL
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define MAX 200

/* @want: a letter a generation, newest first: K kept, . not. */
static void expect(struct cpx_retention r, const int64_t *when, const char *want)
{
	size_t n = strlen(want);
	uint8_t keep[MAX];
	char got[MAX + 1] = "";

	cpx_retain(&r, when, n, keep);
	for (size_t i = 0; i < n; i++)
		got[i] = keep[i] ? 'K' : '.';
	assert_string_equal(got, want);
}

static void the_newest_are_kept(void **state)
{
	const int64_t when[] = { 5 * MINUTE, 4 * MINUTE, 3 * MINUTE, 2 * MINUTE, MINUTE };

	(void)state;
	expect((struct cpx_retention){ .last = 1 }, when, "K....");
	expect((struct cpx_retention){ .last = 3 }, when, "KKK..");
	expect((struct cpx_retention){ .last = 30 }, when, "KKKKK");
}

static void the_newest_of_each_hour_is_kept(void **state)
{
	const int64_t when[] = { DAY + 5 * HOUR + 2, DAY + 5 * HOUR + 1,  DAY + 5 * HOUR - 1,
				 DAY + 2 * HOUR,     DAY + HOUR + MINUTE, DAY + HOUR };

	(void)state;
	expect((struct cpx_retention){ .last = 1, .hourly = 1 }, when, "K.....");
	/* hours without any do not count */
	expect((struct cpx_retention){ .last = 1, .hourly = 3 }, when, "K.KK..");
	expect((struct cpx_retention){ .last = 2, .hourly = 48 }, when, "KKKKK.");
}

static void the_newest_of_each_day_is_kept(void **state)
{
	const int64_t when[] = { 9 * DAY + HOUR, 9 * DAY, 9 * DAY - 1,
				 8 * DAY + 1,	 3 * DAY, 2 * DAY };

	(void)state;
	expect((struct cpx_retention){ .last = 1, .daily = 3 }, when, "K.K.K.");
	expect((struct cpx_retention){ .last = 1, .hourly = 2, .daily = 4 }, when, "KKK.KK");
}

static void a_clock_set_back_keeps_no_more(void **state)
{
	const int64_t when[] = { 3 * HOUR, 9 * HOUR, 8 * HOUR, 2 * HOUR };

	(void)state;
	expect((struct cpx_retention){ .last = 1, .hourly = 2 }, when, "K..K");
}

/* As a record does it: after each generation, on what is left. The result is that of doing it
 * once. */
static void it_does_not_matter_how_often(void **state)
{
	const struct cpx_retention r = { .last = 3, .hourly = 5, .daily = 4 };
	int64_t all[MAX], left[MAX + 1];
	size_t n = 0;
	uint8_t keep[MAX + 1];

	(void)state;
	for (int i = 0; i < MAX; i++) {
		size_t m = 0;

		all[MAX - 1 - i] = (int64_t)i * 37 * MINUTE + (i % 7) * MINUTE;
		memmove(left + 1, left, n * sizeof(*left));
		left[0] = all[MAX - 1 - i];
		cpx_retain(&r, left, ++n, keep);
		for (size_t k = 0; k < n; k++)
			if (keep[k])
				left[m++] = left[k];
		n = m;
	}
	cpx_retain(&r, all, MAX, keep);
	for (size_t i = 0, k = 0; i < MAX; i++)
		if (keep[i])
			assert_int_equal(left[k++], all[i]);
	assert_true(n <= 3 + 5 + 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_newest_are_kept),
		cmocka_unit_test(the_newest_of_each_hour_is_kept),
		cmocka_unit_test(the_newest_of_each_day_is_kept),
		cmocka_unit_test(a_clock_set_back_keeps_no_more),
		cmocka_unit_test(it_does_not_matter_how_often),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
