/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Load, its two views, what a job costs where: openMosix's figures, exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../scheduler/load.h"

static const struct cpx_load_need none = { 0 }, job = { .load = 100 };

static void two_views_of_a_burst(void **state)
{
	static const uint32_t mean[] = { 150, 244, 302, 339, 362, 376 };
	static const uint32_t upper[] = { 362, 329, 300, 275, 253, 233, 216, 201 };
	struct cpx_load_meter m;
	size_t i;

	(void)state;
	cpx_load_meter_init(&m, 1, CPX_LOAD_STD_SPEED);
	for (i = 0; i < 6; i++) {
		cpx_load_second(&m, 400, 100);
		assert_int_equal(cpx_load_mean(&m), mean[i]);
		assert_int_equal(cpx_load_upper(&m), 400);
	}
	for (i = 0; i < 8; i++) {
		cpx_load_second(&m, 100, 100);
		assert_int_equal(cpx_load_mean(&m), 100);
		assert_int_equal(cpx_load_upper(&m), upper[i]);
	}
}

static void load_is_by_processors_speed_and_looks(void **state)
{
	struct cpx_load_meter m;

	(void)state;
	cpx_load_meter_init(&m, 4, 20000);
	cpx_load_second(&m, 8 * 250, 250);
	assert_int_equal(cpx_load_upper(&m), 100);
	cpx_load_second(&m, 0, 0); /* a second in which nobody looked says nothing */
	assert_int_equal(cpx_load_upper(&m), 100);
	assert_int_equal(cpx_load_add(100, 4, 20000), 13);
	assert_int_equal(cpx_load_add(100, 1, 2500), 400);
	cpx_load_second(&m, UINT64_MAX, 1);
	assert_true(cpx_load_upper(&m) <= CPX_LOAD_MAX);
	cpx_load_meter_init(&m, 0, 0);
	cpx_load_second(&m, 100, 100);
	assert_int_equal(cpx_load_upper(&m), 100);
}

static void a_job_is_known_by_what_it_ran(void **state)
{
	(void)state;
	assert_int_equal(cpx_load_of_job(0, 100, 100), 37);
	assert_int_equal(cpx_load_of_job(100, 100, 100), 100);
	assert_int_equal(cpx_load_of_job(100, 0, 100), 62);
	assert_int_equal(cpx_load_of_job(100, 0, 0), 62);
}

static struct cpx_load_figures node(uint32_t speed, uint32_t load)
{
	return (struct cpx_load_figures){ .mean = load,
					  .upper = load,
					  .speed = speed,
					  .ncpus = 1,
					  .mem_total = 16384,
					  .mem_free = 16384 };
}

/* Seven jobs, each where it costs least: 4, 2 and 1 on nodes of 100, 50 and 25 %. */
static void seven_jobs_spread_by_speed(void **state)
{
	static const uint32_t speed[3] = { 10000, 5000, 2500 };
	struct cpx_load_need held[3] = { 0 };
	struct cpx_load_candidate c[3];
	int i, k, at, n[3] = { 0 };

	(void)state;
	for (k = 0; k < 7; k++) {
		for (i = 0; i < 3; i++) {
			struct cpx_load_figures f = node(speed[i], 0);

			c[i].node = (uint32_t)i + 1;
			c[i].cost = cpx_load_cost(&f, &job, &held[i], 3);
			c[i].future = cpx_load_add(held[i].load + 100, 1, speed[i]);
		}
		at = cpx_load_choose(c, 3, 12345);
		assert_in_range(at, 0, 2);
		held[at].load += 100;
		n[at]++;
	}
	assert_int_equal(n[0], 4);
	assert_int_equal(n[1], 2);
	assert_int_equal(n[2], 1);
}

static void what_does_not_fit_is_out(void **state)
{
	struct cpx_load_figures f = node(10000, 0);
	struct cpx_load_need big = { .load = 100, .mem = 8192 }, held = { .mem = 9000 };
	struct cpx_load_need image = { .load = 100, .image = 6000 };
	double near, far;

	(void)state;
	assert_true(cpx_load_cost(&f, &big, &none, 3) > 0);
	assert_true(cpx_load_cost(&f, &big, &held, 3) < 0);
	f.load_max = 150;
	assert_true(cpx_load_cost(&f, &job, &none, 3) > 0);
	assert_true(cpx_load_cost(&f, &job, &job, 3) < 0);
	f.load_max = 0;
	f.fetch_mbps = 1000;
	near = cpx_load_cost(&f, &image, &none, 3);
	f.fetch_mbps = 1; /* 6000 s: as bad as a hundred jobs */
	far = cpx_load_cost(&f, &image, &none, 3);
	assert_true(far > near + 99 && far < near + 101);
}

static void equal_nodes_are_drawn_by_lot(void **state)
{
	struct cpx_load_candidate c[4] = {
		{ 1, 2.0, 200 }, { 2, 1.0, 100 }, { 3, 1.02, 104 }, { 4, -1, 0 }
	};
	int seen[4] = { 0 };
	uint64_t r;

	(void)state;
	for (r = 0; r < 100; r++)
		seen[cpx_load_choose(c, 4, r)]++;
	assert_int_equal(seen[0], 0);
	assert_int_equal(seen[1], 50);
	assert_int_equal(seen[2], 50);
	assert_int_equal(seen[3], 0);
	c[1].cost = c[2].cost = c[0].cost = -1;
	assert_int_equal(cpx_load_choose(c, 4, 7), -1);
}

static bool worth(struct cpx_load_figures *from, struct cpx_load_figures *to,
		  const struct cpx_load_need *extra, uint64_t used_ms, uint64_t cost_ms)
{
	return cpx_load_worth_moving(from, to, &job, extra, 3, used_ms, cost_ms);
}

static void a_gap_of_one_process_moves_nothing(void **state)
{
	struct cpx_load_figures a = node(10000, 230), b = node(10000, 100);

	(void)state;
	/* 130 % of one process: 100 + 130 is not less than 230 */
	assert_false(worth(&a, &b, &none, 1000000, 100));
	a.mean = 231;
	assert_true(worth(&a, &b, &none, 1000000, 100));
	/* what was sent there and does not show yet counts */
	assert_false(worth(&a, &b, &job, 1000000, 100));
	/* the slowdowns sink by 0.62: in 100 s of work that is worth 31 s of moving, twice */
	assert_true(worth(&a, &b, &none, 100000, 30999));
	assert_false(worth(&a, &b, &none, 100000, 31001));
	b.load_max = 150;
	assert_false(worth(&a, &b, &none, 1000000, 100));
}

/* Any way that seven jobs may lie comes to 4, 2, 1 by moves that are worth it, and stays. */
static void moves_lead_to_four_two_one(void **state)
{
	static const uint32_t speed[3] = { 10000, 5000, 2500 };
	struct cpx_load_figures f[3];
	int x, y, i, k, n[3], moves;

	(void)state;
	for (x = 0; x <= 7; x++)
		for (y = 0; x + y <= 7; y++) {
			n[0] = x;
			n[1] = y;
			n[2] = 7 - x - y;
			for (moves = 0; moves < 20; moves++) {
				for (i = 0; i < 3; i++)
					f[i] = node(speed[i],
						    (uint32_t)n[i] * 1000000 / speed[i]);
				for (i = 0; i < 9; i++)
					if (n[i / 3] && i / 3 != i % 3 &&
					    worth(&f[i / 3], &f[i % 3], &none, 60000, 100))
						break;
				if (i == 9)
					break;
				n[i / 3]--;
				n[i % 3]++;
			}
			assert_in_range(moves, 0, 12);
			for (k = 0; k < 3; k++)
				assert_int_equal(n[k], 4 >> k);
		}
}

static void the_smallest_job_that_ends_a_shortage_goes(void **state)
{
	struct cpx_load_figures f = node(10000, 0);

	(void)state;
	assert_false(cpx_load_mem_short(&f));
	f.mem_free = 24;
	assert_true(cpx_load_mem_short(&f));
	assert_true(cpx_load_mem_rank(&f, 1000) < cpx_load_mem_rank(&f, 2000));
	assert_true(cpx_load_mem_rank(&f, 2000) < cpx_load_mem_rank(&f, 999));
	assert_true(cpx_load_mem_rank(&f, 999) < cpx_load_mem_rank(&f, 10));
	assert_true(cpx_load_mem_rank(&f, 0) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_views_of_a_burst),
		cmocka_unit_test(load_is_by_processors_speed_and_looks),
		cmocka_unit_test(a_job_is_known_by_what_it_ran),
		cmocka_unit_test(seven_jobs_spread_by_speed),
		cmocka_unit_test(what_does_not_fit_is_out),
		cmocka_unit_test(equal_nodes_are_drawn_by_lot),
		cmocka_unit_test(a_gap_of_one_process_moves_nothing),
		cmocka_unit_test(moves_lead_to_four_two_one),
		cmocka_unit_test(the_smallest_job_that_ends_a_shortage_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
