/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages that are known by their content, against a plain array of what each one was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../chpox/known.h"

#define PAGE 4096u

static bool look(struct cpx_known *k, uint64_t page, int content)
{
	static uint8_t bytes[PAGE];

	memset(bytes, content, sizeof(bytes));
	return cpx_known_same(k, page * PAGE, bytes);
}

static void same_only_if_it_was_so_in_the_generation_before(void **state)
{
	struct cpx_known *k;

	(void)state;
	assert_int_equal(cpx_known_new(0, &k, NULL), 0);
	assert_false(look(k, 7, 1));
	cpx_known_begin(k);
	assert_true(look(k, 7, 1));
	assert_false(look(k, 8, 1));
	cpx_known_begin(k);
	assert_false(look(k, 7, 2));
	cpx_known_begin(k); /* not there in this one */
	cpx_known_begin(k);
	assert_false(look(k, 7, 2));
	assert_false(look(k, 7, 2)); /* a second look tells nothing */
	cpx_known_free(k);
}

static void random_histories(void **state)
{
	enum { PAGES = 3000, GENS = 60 };
	static int last[PAGES], now[PAGES];
	struct cpx_known *k, *next;

	(void)state;
	srand(5);
	assert_int_equal(cpx_known_new(0, &k, NULL), 0);
	memset(last, -1, sizeof(last));
	for (int g = 0; g < GENS; g++) {
		int first = rand() % PAGES, n = rand() % PAGES;

		memset(now, -1, sizeof(now));
		cpx_known_begin(k);
		for (int i = first; i < first + n && i < PAGES; i++) {
			uint64_t page = (uint64_t)i * (uint64_t)(i % 3 ? 1 : 1000003);

			if (rand() % 10 == 0)
				continue;
			now[i] = rand() % 3;
			assert_int_equal(look(k, page, now[i]), now[i] == last[i]);
		}
		memcpy(last, now, sizeof(last));
		/* to the next process */
		assert_int_equal(cpx_known_attach(dup(cpx_known_fd(k)), &next, NULL), 0);
		cpx_known_free(k);
		k = next;
	}
	cpx_known_free(k);
}

static void memory_follows_what_is_there_and_has_a_bound(void **state)
{
	struct cpx_known *k;
	size_t most = 0;

	(void)state;
	assert_int_equal(cpx_known_new(0, &k, NULL), 0);
	for (uint64_t g = 0; g < 50; g++) { /* memory that wanders */
		cpx_known_begin(k);
		for (uint64_t p = 0; p < 6400; p++)
			look(k, g * 100000 + p, 1);
		most = cpx_known_bytes(k) > most ? cpx_known_bytes(k) : most;
	}
	assert_in_range(most, 1, 6400 * 16 * 4);
	cpx_known_free(k);

	assert_int_equal(cpx_known_new(20000, &k, NULL), 0);
	for (int g = 0; g < 3; g++) {
		cpx_known_begin(k);
		for (uint64_t p = 0; p < 6400; p++) /* beyond the bound: never the same */
			assert_int_equal(look(k, p, 1), g && p < 64 * (20000 / 1040));
	}
	cpx_known_free(k);
}

static void what_is_no_table_is_refused(void **state)
{
	struct cpx_known *k = NULL;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_true(cpx_known_attach(p[0], &k, NULL) < 0);
	assert_null(k);
	close(p[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_only_if_it_was_so_in_the_generation_before),
		cmocka_unit_test(random_histories),
		cmocka_unit_test(memory_follows_what_is_there_and_has_a_bound),
		cmocka_unit_test(what_is_no_table_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
