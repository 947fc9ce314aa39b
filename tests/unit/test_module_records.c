/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record stream of /dev/chpox: found where it belongs, refused when it is not whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../chpox/base/err.h"
#include "../../chpox/module_records.h"
#include "../../kernel/chpox_uapi.h"

struct made {
	char data[8192];
	size_t len;
};

static void put(struct made *m, uint32_t type, pid_t pid, pid_t tid, const void *body, size_t n)
{
	struct chpox_record head = { type, (uint32_t)n, pid, tid };

	memcpy(m->data + m->len, &head, sizeof(head));
	memcpy(m->data + m->len + sizeof(head), body, n);
	m->len += sizeof(head) + (n + 7) / 8 * 8;
}

/* Two processes, the second one's id below the first one's, three threads. */
static void make(struct made *m)
{
	static const struct chpox_rec_clocks clocks;
	static const struct chpox_rec_process process;
	static const struct chpox_rec_thread thread;
	static const struct chpox_rec_timer timer;
	uint32_t set[5] = { 1, 0, 7, 8, 9 };
	uint8_t info[128] = { 10 };

	memset(m, 0, sizeof(*m));
	put(m, CHPOX_REC_CLOCKS, 0, 0, &clocks, sizeof(clocks));
	put(m, CHPOX_REC_PROCESS, 70, 0, &process, sizeof(process));
	put(m, CHPOX_REC_TIMER, 70, 0, &timer, sizeof(timer));
	put(m, CHPOX_REC_THREAD, 70, 70, &thread, sizeof(thread));
	put(m, CHPOX_REC_SIGINFO, 70, 70, info, sizeof(info));
	put(m, CHPOX_REC_THREAD, 70, 99, &thread, sizeof(thread));
	put(m, 4711, 70, 99, "new", 3);
	put(m, CHPOX_REC_REGSET, 70, 99, set, sizeof(set));
	put(m, CHPOX_REC_PROCESS, 8, 0, &process, sizeof(process));
	put(m, CHPOX_REC_THREAD, 8, 8, &thread, sizeof(thread));
	put(m, CHPOX_REC_END, 0, 0, "", 0);
}

/* A copy, for the parser takes it over, of the exact size, for ASan to see what it reads. */
static int parse(const void *data, size_t len, struct cpx_mod_stream *s)
{
	char *copy = malloc(len ? len : 1);

	memcpy(copy, data, len);
	return cpx_mod_parse(copy, len, s, NULL);
}

static void records_are_found_where_they_belong(void **state)
{
	struct cpx_mod_stream s;
	const struct cpx_mod_rec *r;
	const void *set;
	struct made m;

	(void)state;
	make(&m);
	assert_int_equal(parse(m.data, m.len, &s), 0);
	assert_int_equal(cpx_mod_process(&s, 8)->pid, 8);
	r = cpx_mod_process(&s, 70);
	assert_non_null(cpx_mod_next(&s, r, CHPOX_REC_TIMER));
	/* its thread's, not its own */
	assert_null(cpx_mod_next(&s, r, CHPOX_REC_SIGINFO));
	assert_null(cpx_mod_next(&s, cpx_mod_process(&s, 8), CHPOX_REC_TIMER));
	assert_non_null(cpx_mod_next(&s, cpx_mod_thread(&s, 70), CHPOX_REC_SIGINFO));
	r = cpx_mod_thread(&s, 99);
	assert_int_equal(r->tid, 99);
	assert_int_equal(cpx_mod_regset(&s, r, 1, &set), 12);
	assert_int_equal(((const uint32_t *)set)[2], 9);
	assert_int_equal(cpx_mod_regset(&s, r, 2, &set), 0);
	assert_null(cpx_mod_thread(&s, 71));
	assert_null(cpx_mod_process(&s, 99));
	cpx_mod_free(&s);
}

static void what_is_not_whole_is_refused(void **state)
{
	struct cpx_mod_stream s;
	struct made m;

	(void)state;
	make(&m);
	for (size_t n = 0; n < m.len; n++)
		assert_int_equal(parse(m.data, n, &s), CPX_E_FORMAT);
	put(&m, CHPOX_REC_END, 0, 0, "", 0);
	assert_int_equal(parse(m.data, m.len, &s), CPX_E_FORMAT);
	/* a record of another size than its type has; of one that reaches past the end */
	make(&m);
	((struct chpox_record *)m.data)->bytes = 16;
	assert_int_equal(parse(m.data, m.len, &s), CPX_E_FORMAT);
	make(&m);
	((struct chpox_record *)m.data)->bytes = UINT32_MAX;
	assert_int_equal(parse(m.data, m.len, &s), CPX_E_FORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_are_found_where_they_belong),
		cmocka_unit_test(what_is_not_whole_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
