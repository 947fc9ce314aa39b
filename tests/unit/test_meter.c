/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node measures of itself, and what /proc may not make it believe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../chpox/base/err.h"
#include "../../scheduler/meter.h"

static void loadavg_is_checked(void **state)
{
	static const char *const bad[] = { "",
					   "0.50 0.48",
					   "0.50 0.48 0.34",
					   "0.50 0.48 0.34 x/3 1",
					   "0.50 0.48 0.34 3",
					   "0.50 0.48 0.34 3/",
					   "0.50 0.48 0.34 -3/100 4" };
	uint32_t n = 77;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(cpx_meter_runnable(bad[i], &n), CPX_E_FORMAT);
	assert_int_equal(n, 77);
	assert_int_equal(cpx_meter_runnable("0.50 0.48 0.34 3/217 18553\n", &n), 0);
	assert_int_equal(n, 3);
}

static void meminfo_is_checked(void **state)
{
	uint32_t total = 7, free = 8;

	(void)state;
	assert_int_equal(cpx_meter_memory("", &total, &free), CPX_E_FORMAT);
	assert_int_equal(cpx_meter_memory("MemTotal: 2048 kB\n", &total, &free), CPX_E_FORMAT);
	assert_int_equal(
		cpx_meter_memory("xMemTotal: 2048 kB\nMemAvailable: 1 kB\n", &total, &free),
		CPX_E_FORMAT);
	assert_int_equal(
		cpx_meter_memory("MemTotal: -x kB\nMemAvailable: 1 kB\n", &total, &free),
		CPX_E_FORMAT);
	assert_int_equal(total, 7);
	assert_int_equal(free, 8);
	assert_int_equal(cpx_meter_memory("MemTotal:     24684544 kB\nMemFree: 1 kB\n"
					  "MemAvailable:   24000000 kB\n",
					  &total, &free),
			 0);
	assert_int_equal(total, 24106);
	assert_int_equal(free, 23437);
	/* never more than there is: gossip would refuse it */
	assert_int_equal(
		cpx_meter_memory("MemTotal: 2048 kB\nMemAvailable: 4096 kB\n", &total, &free),
		0);
	assert_int_equal(free, 2);
}

static void this_machine_is_measured(void **state)
{
	struct cpx_load_figures f = { .jobs_max = 9 };
	struct cpx_meter m;
	struct cpx_err err = { 0 };
	uint32_t speed = cpx_meter_speed(), again = cpx_meter_speed();

	(void)state;
	/* two measurements agree, whatever else runs */
	assert_in_range(speed, again / 3 + 1, again * 3);
	cpx_meter_init(&m, 2500);
	assert_int_equal(cpx_meter_look(&m, &err), 0);
	assert_int_equal(cpx_meter_look(&m, &err), 0);
	assert_int_equal(m.looks, 2);
	assert_int_equal(cpx_meter_second(&m, &f, &err), 0);
	assert_int_equal(m.looks, 0);
	assert_int_equal(f.speed, 2500);
	assert_int_equal(f.ncpus, sysconf(_SC_NPROCESSORS_ONLN));
	assert_int_equal(f.jobs_max, 9);
	assert_true(f.mem_total > 0 && f.mem_free <= f.mem_total);
	cpx_meter_init(&m, 0);
	assert_true(m.load.speed > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loadavg_is_checked),
		cmocka_unit_test(meminfo_is_checked),
		cmocka_unit_test(this_machine_is_measured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
