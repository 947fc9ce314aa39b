/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls that wait: which they are, and whose deadline is whose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "../../chpox/base/timed.h"

#define MS 1000000ll
#define S 1000000000ll

static void time_outs_are_relative_or_not(void **state)
{
	const uint64_t none[6] = { 0 }, poll1[6] = { 1, 1, 1000 },
		       pollinf[6] = { 1, 1, 0xffffffff };
	const uint64_t abs_sleep[6] = { 1, 1, 4096 }, rel_sleep[6] = { 1, 0, 4096 };
	const uint64_t wait[6] = { 4096, 128, 0, 8192 }, bitset[6] = { 4096, 137, 0, 8192 };

	(void)state;
	assert_null(cpx_timed_find(SYS_getpid));
	assert_true(cpx_timed_relative(cpx_timed_find(SYS_poll), poll1));
	assert_false(cpx_timed_relative(cpx_timed_find(SYS_poll), pollinf));
	assert_false(cpx_timed_relative(cpx_timed_find(SYS_clock_nanosleep), abs_sleep));
	assert_true(cpx_timed_relative(cpx_timed_find(SYS_clock_nanosleep), rel_sleep));
	assert_true(cpx_timed_relative(cpx_timed_find(SYS_futex), wait));
	assert_false(cpx_timed_relative(cpx_timed_find(SYS_futex), bitset));
	assert_false(cpx_timed_relative(cpx_timed_find(SYS_epoll_pwait2), none));
	assert_false(cpx_timed_relative(cpx_timed_find(SYS_semop), poll1));
}

static void milliseconds_are_rounded_up(void **state)
{
	(void)state;
	assert_int_equal(cpx_timed_ms(-5), 0);
	assert_int_equal(cpx_timed_ms(1), 1);
	assert_int_equal(cpx_timed_ms(2 * MS), 2);
	assert_int_equal(cpx_timed_ms(2 * MS + 1), 3);
	assert_int_equal(cpx_timed_ms(INT64_MAX), INT32_MAX);
}

static void restarted_calls_are_told_apart(void **state)
{
	const uint64_t poll[6] = { 0x7ffe0000, 2, 5000, 0x7ffe1000 };
	const uint64_t sleep[6] = { 0x7ffe0000, 0, 0, 0 };
	const uint8_t code[16] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb8, 7, 0, 0, 0 };
	const uint8_t sleep_code[16] = { 0, 0xb8, 35, 0, 0, 0 };

	(void)state;
	assert_int_equal(cpx_timed_guess(poll, code, 16, NULL), SYS_poll);
	assert_int_equal(cpx_timed_guess(sleep, sleep_code, 16, NULL), SYS_nanosleep);
	assert_int_equal(cpx_timed_guess(poll, NULL, 0, "poll_schedule_timeout"), SYS_poll);
	assert_int_equal(cpx_timed_guess(sleep, NULL, 0, "hrtimer_nanosleep"), SYS_nanosleep);
	assert_int_equal(cpx_timed_guess(sleep, NULL, 0, "futex_do_wait"), -1);
}

static void the_timer_that_went_away_is_ours(void **state)
{
	const struct cpx_timed_sleep before[] = { { 1, 12 * S, 12 * S + 50000, 0 },
						  { 2, 13 * S, 13 * S + 50000, 0 },
						  { 3, 9 * S, 9 * S + 50000, 0 } };
	const struct cpx_timed_sleep after[] = { { 1, 12 * S, 12 * S + 50000, 0 } };
	struct cpx_timed_want w = {
		.asked_ns = 5 * S, .blocked_ns = -1, .first = true, .slack_ns = 50000
	};

	(void)state;
	cpx_timed_match(before, 3, after, 1, 10 * S, 10 * S, &w, 1);
	assert_true(w.deadline_ns == 13 * S);
	w.asked_ns = 2 * S;
	cpx_timed_match(before, 3, after, 1, 10 * S, 10 * S, &w, 1);
	assert_true(w.deadline_ns == -1);
}

static void slack_and_start_tell_two_sleepers_apart(void **state)
{
	const struct cpx_timed_sleep before[] = { { 1, 12 * S, 12 * S + 5 * MS, 1 },
						  { 2, 13 * S, 13 * S + 50000, 0 },
						  { 3, 14 * S, 14 * S + 50000, 0 } };
	struct cpx_timed_want w[] = {
		{ .asked_ns = 5 * S, .blocked_ns = 9 * S, .first = true, .slack_ns = 50000 },
		{ .asked_ns = 5 * S,
		  .blocked_ns = 7 * S,
		  .first = true,
		  .slack_ns = 50000,
		  .wide = true,
		  .cpu = 1 },
		{ .asked_ns = 5 * S, .blocked_ns = 8 * S, .first = true, .slack_ns = 50000 },
	};

	(void)state;
	cpx_timed_match(before, 3, NULL, 0, 10 * S, 10 * S, w, 3);
	assert_true(w[0].deadline_ns == 14 * S);
	assert_true(w[1].deadline_ns == 12 * S);
	assert_true(w[2].deadline_ns == 13 * S);
}

static void what_ended_by_itself_is_the_last_choice(void **state)
{
	const struct cpx_timed_sleep before[] = { { 1, 10 * S + 3 * MS, 10 * S + 3 * MS + 50000,
						    0 },
						  { 2, 12 * S, 12 * S + 50000, 0 } };
	struct cpx_timed_want w = { .asked_ns = 5 * S, .blocked_ns = -1, .slack_ns = 50000 };

	(void)state;
	cpx_timed_match(before, 2, NULL, 0, 10 * S, 10 * S + 4 * MS, &w, 1);
	assert_true(w.deadline_ns == 12 * S);
}

static void a_sleeper_has_its_timer_on_its_own_cpu(void **state)
{
	const struct cpx_timed_sleep before[] = { { 1, 12 * S, 12 * S + 50000, 0 },
						  { 2, 13 * S, 13 * S + 50000, 3 } };
	struct cpx_timed_want w = {
		.asked_ns = 5 * S, .blocked_ns = -1, .slack_ns = 50000, .cpu = 3
	};

	(void)state;
	cpx_timed_match(before, 2, NULL, 0, 10 * S, 10 * S, &w, 1);
	assert_true(w.deadline_ns == 13 * S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_outs_are_relative_or_not),
		cmocka_unit_test(milliseconds_are_rounded_up),
		cmocka_unit_test(restarted_calls_are_told_apart),
		cmocka_unit_test(the_timer_that_went_away_is_ours),
		cmocka_unit_test(slack_and_start_tell_two_sleepers_apart),
		cmocka_unit_test(what_ended_by_itself_is_the_last_choice),
		cmocka_unit_test(a_sleeper_has_its_timer_on_its_own_cpu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
