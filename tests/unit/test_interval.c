/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The choice of the interval: bounds, calm, and numbers that make no sense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "../../scheduler/interval.h"

#define S 1000000000LL
#define GIB (1ull << 30)

static const struct cpx_interval_bounds bounds = { CPX_INTERVAL_MIN_NS, CPX_INTERVAL_MAX_NS };
static const struct cpx_failures no_node;

static struct cpx_interval choose(const struct cpx_learned *l)
{
	struct cpx_interval i;

	cpx_interval_choose(l, &no_node, &bounds, &i);
	assert_true(i.ns >= bounds.min_ns && i.ns <= bounds.max_ns);
	assert_true(isfinite(i.mtbf_s) && i.mtbf_s > 0);
	return i;
}

/* A job whose checkpoints cost @cost and write @bytes each, whatever the interval. */
static void learn(struct cpx_learned *l, int n, int64_t cost, uint64_t bytes)
{
	for (int i = 0; i < n; i++) {
		struct cpx_interval c = choose(l);
		struct cpx_observed o = { .period_ns = c.ns + cost,
					  .cost_ns = cost,
					  .delay_ns = cost,
					  .bytes = bytes,
					  .full = true };

		cpx_interval_learn(l, &o, &no_node, &bounds);
	}
}

static void the_first_comes_after_the_least_time(void **state)
{
	const struct cpx_learned l = { 0 };
	struct cpx_interval i = choose(&l);

	(void)state;
	assert_int_equal(i.ns, CPX_INTERVAL_MIN_NS);
	assert_false(i.known);
}

static void it_becomes_what_young_says(void **state)
{
	struct cpx_learned l = { .failures = { .count = 99, .seen_ns = 99 * 7200 * S } };
	struct cpx_interval i;

	(void)state;
	learn(&l, 60, 2 * S, GIB);
	i = choose(&l);
	/* sqrt(2 * 2 s * 2 h) = 170 s from snapshot to snapshot */
	assert_true(fabs((double)i.period_ns / 1e9 - 170) < 12);
	assert_int_equal(i.ns, i.period_ns - (int64_t)(i.delay_s * 1e9));
	assert_false(i.growing);
	assert_int_equal(i.at_bound, 0);
}

static void it_grows_by_two_and_then_stands_still(void **state)
{
	struct cpx_learned l = { 0 };
	int64_t last = CPX_INTERVAL_MIN_NS;
	int changes = 0;

	(void)state;
	for (int k = 0; k < 300; k++) {
		learn(&l, 1, S / 2, GIB);
		assert_true(l.period_ns <= 2 * last + S);
		assert_true(l.period_ns >= last / 2);
		changes += l.period_ns != last && k > 40;
		last = l.period_ns;
	}
	/* its memory of the short ones fades: it may settle once more */
	assert_true(changes <= 3);
}

/* Costs that jump about do not make it jump about. */
static void noise_does_not_shake_it(void **state)
{
	struct cpx_learned l = { 0 };
	int64_t least = INT64_MAX, most = 0;

	(void)state;
	for (int k = 0; k < 400; k++) {
		learn(&l, 1, k % 3 ? S / 2 : 2 * S, k % 2 ? GIB : GIB * 2);
		if (k < 100)
			continue;
		least = l.period_ns < least ? l.period_ns : least;
		most = l.period_ns > most ? l.period_ns : most;
	}
	assert_true(most <= least * 1.15);
}

static void bounds_hold_and_are_named(void **state)
{
	struct cpx_learned cheap = { 0 }, dear = { 0 };
	struct cpx_interval i;
	char line[256];

	(void)state;
	learn(&dear, 40, 120 * S, GIB);
	i = choose(&dear);
	assert_int_equal(i.ns, CPX_INTERVAL_MAX_NS);
	assert_int_equal(i.at_bound, 1);
	assert_non_null(strstr(cpx_interval_reason(&dear, &i, line, sizeof(line)), "the most"));
	cheap.failures = (struct cpx_failures){ .count = 100000, .seen_ns = 86400 * S };
	learn(&cheap, 40, 1000, 4096);
	i = choose(&cheap);
	assert_int_equal(i.ns, CPX_INTERVAL_MIN_NS);
	assert_int_equal(i.at_bound, -1);
	assert_non_null(
		strstr(cpx_interval_reason(&cheap, &i, line, sizeof(line)), "the least"));
}

static void failures_make_it_shorter(void **state)
{
	struct cpx_learned l = { 0 };
	struct cpx_failures bad_node = { .count = 500, .seen_ns = 86400 * S };
	struct cpx_interval often, seldom;
	int64_t before;

	(void)state;
	learn(&l, 60, S, GIB);
	before = l.period_ns;
	cpx_interval_choose(&l, &no_node, &bounds, &seldom);
	cpx_interval_choose(&l, &bad_node, &bounds, &often);
	assert_true(often.mtbf_s < seldom.mtbf_s / 10);
	l.failures.count += 20;
	learn(&l, 10, S, GIB);
	assert_true(l.period_ns < before / 2);
}

/* What was written is in proportion to the time: only the fixed part argues for waiting. */
static void what_grows_with_the_time_is_no_reason_to_wait(void **state)
{
	struct cpx_learned same = { 0 }, grows = { 0 };

	(void)state;
	for (int k = 0; k < 80; k++) {
		struct cpx_learned *all[] = { &same, &grows };

		for (int j = 0; j < 2; j++) {
			double t = (double)choose(all[j]).period_ns / 1e9;
			double gib = j ? t / 600 : 1;
			struct cpx_observed o = {
				.period_ns = (int64_t)(t * 1e9),
				.cost_ns = (int64_t)((0.1 + gib) * 1e9),
				.delay_ns = S,
				.bytes = (uint64_t)(gib * (double)GIB),
			};

			cpx_interval_learn(all[j], &o, &no_node, &bounds);
		}
	}
	assert_true(grows.period_ns < same.period_ns / 2);
}

static void nonsense_changes_nothing(void **state)
{
	static const int64_t odd[] = { INT64_MIN, -1, 0, 1, INT64_MAX };
	static const uint64_t bytes[] = { 0, 1, UINT64_MAX };
	const struct cpx_learned bad[] = {
		{ .memory = NAN },
		{ .cost = { .n = -1 } },
		{ .cost = { .x = INFINITY } },
		{ .delay = { .n = 1e300 } },
		{ .period_ns = -1 },
		{ .failures = { .seen_ns = -1 } },
	};
	struct cpx_learned l = { 0 };

	(void)state;
	for (size_t k = 0; k < 5 * 5 * 5 * 3 * 2; k++) {
		struct cpx_observed o = { .period_ns = odd[k % 5],
					  .cost_ns = odd[k / 5 % 5],
					  .delay_ns = odd[k / 25 % 5],
					  .bytes = bytes[k / 125 % 3],
					  .full = k / 375 };

		cpx_interval_learn(&l, &o, &no_node, &bounds);
		assert_true(cpx_learned_ok(&l));
		choose(&l);
	}
	for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++)
		assert_false(cpx_learned_ok(&bad[k]));
}

/* Any record that passes the check gives an interval within the bounds. */
static void any_record_gives_an_interval(void **state)
{
	static const double v[] = { 0, 1e-300, 1, -1, 30, 1e12, -1e12 };
	struct cpx_learned l;
	uint64_t n = 1;

	(void)state;
	for (int k = 0; k < 200000; k++) {
		double f[15];

		for (int i = 0; i < 15; i++) {
			n = n * 6364136223846793005u + 1442695040888963407u;
			f[i] = v[(n >> 33) % 7];
		}
		memset(&l, 0, sizeof(l));
		memcpy(&l.dirty, f, sizeof(l.dirty));
		memcpy(&l.cost, f + 5, sizeof(l.cost));
		memcpy(&l.delay, f + 10, sizeof(l.delay));
		l.memory = v[n % 3] * 1e10;
		l.period_ns = (int64_t)(n >> (n % 60 + 2));
		if (cpx_learned_ok(&l))
			choose(&l);
	}
}

static void times_read_well(void **state)
{
	char buf[24];

	(void)state;
	assert_string_equal(cpx_interval_time(0.0123, buf, sizeof(buf)), "12 ms");
	assert_string_equal(cpx_interval_time(10, buf, sizeof(buf)), "10 s");
	assert_string_equal(cpx_interval_time(180, buf, sizeof(buf)), "3.0 min");
	assert_string_equal(cpx_interval_time(86400, buf, sizeof(buf)), "24 h");
	assert_string_equal(cpx_interval_time(4 * 86400, buf, sizeof(buf)), "4.0 d");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_comes_after_the_least_time),
		cmocka_unit_test(it_becomes_what_young_says),
		cmocka_unit_test(it_grows_by_two_and_then_stands_still),
		cmocka_unit_test(noise_does_not_shake_it),
		cmocka_unit_test(bounds_hold_and_are_named),
		cmocka_unit_test(failures_make_it_shorter),
		cmocka_unit_test(what_grows_with_the_time_is_no_reason_to_wait),
		cmocka_unit_test(nonsense_changes_nothing),
		cmocka_unit_test(any_record_gives_an_interval),
		cmocka_unit_test(times_read_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
