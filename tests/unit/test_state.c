/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What records promise: what goes in comes out; nothing else is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../chpox/base/buf.h"
#include "../../chpox/base/err.h"
#include "../../store/state.h"

static struct cpx_state *sample(void)
{
	struct cpx_state *s = cpx_state_new();
	struct cpx_rec_host *h;

	assert_non_null(s);
	h = cpx_state_new_rec(s, host);
	assert_non_null(h);
	h->version = 7;
	h->kernel = cpx_state_str(s, "6.1.0-x");
	h->realtime_ns = -5;
	h->xfeatures = 0x8000000000000001ull;
	h->cpu = cpx_state_blob(s, "\0\1\2", 3);
	h->root_pid = 4711;
	return s;
}

static void records_survive_encoding(void **unused)
{
	struct cpx_state *s = sample(), *back = NULL;
	struct cpx_buf b = { 0 };
	const struct cpx_rec_host *h;
	struct cpx_err err;

	(void)unused;
	assert_int_equal(cpx_state_encode(s, &b, &err), 0);
	assert_int_equal(cpx_state_decode(b.data, b.len, &back, &err), 0);
	assert_int_equal(cpx_state_count(back, CPX_REC_host), 1);
	h = cpx_state_rec(back, host, 0);
	assert_int_equal(h->version, 7);
	assert_string_equal(h->kernel, "6.1.0-x");
	assert_null(h->node);
	assert_true(h->realtime_ns == -5);
	assert_true(h->xfeatures == 0x8000000000000001ull);
	assert_int_equal(h->cpu.n, 3);
	assert_memory_equal(h->cpu.p, "\0\1\2", 3);
	assert_int_equal(h->root_pid, 4711);
	assert_null(cpx_state_rec(back, host, 1));
	cpx_state_free(s);
	cpx_state_free(back);
	cpx_buf_free(&b);
}

static void every_truncation_is_refused(void **unused)
{
	struct cpx_state *s = sample();
	struct cpx_buf b = { 0 };
	struct cpx_err err;

	(void)unused;
	assert_int_equal(cpx_state_encode(s, &b, &err), 0);
	for (size_t n = 1; n < b.len; n++) {
		struct cpx_state *back = NULL;
		/* of its own size, so that reading past the end is seen */
		uint8_t *copy = malloc(n);

		assert_non_null(copy);
		memcpy(copy, b.data, n);
		assert_true(cpx_state_decode(copy, n, &back, &err) < 0);
		assert_null(back);
		free(copy);
	}
	cpx_state_free(s);
	cpx_buf_free(&b);
}

static void unknown_mandatory_record_is_refused(void **unused)
{
	struct cpx_state *back = NULL;
	struct cpx_buf b = { 0 };
	struct cpx_err err;

	(void)unused;
	cpx_buf_u16(&b, 0xfff0);
	cpx_buf_u16(&b, 0);
	cpx_buf_u32(&b, 0);
	assert_true(cpx_state_decode(b.data, b.len, &back, &err) < 0);
	assert_null(back);
	cpx_buf_free(&b);
}

static void dropped_record_is_gone(void **unused)
{
	struct cpx_state *s = sample();

	(void)unused;
	assert_non_null(cpx_state_new_rec(s, host));
	cpx_state_drop_last(s, CPX_REC_host);
	assert_int_equal(cpx_state_count(s, CPX_REC_host), 1);
	assert_int_equal(cpx_state_rec(s, host, 0)->version, 7);
	cpx_state_free(s);
}

static void errors_say_where_and_why(void **unused)
{
	struct cpx_err err;

	(void)unused;
	assert_int_equal(cpx_err_sys(&err, 2, "open '%s'", "x"), CPX_E_NOENT);
	assert_string_equal(err.msg, "open 'x': No such file or directory");
	assert_int_equal(cpx_err_wrap(&err, "job '%s'", "sim"), CPX_E_NOENT);
	assert_string_equal(err.msg, "job 'sim': open 'x': No such file or directory");
	assert_int_equal(cpx_err_set(NULL, CPX_E_LIMIT, "nobody reads this"), CPX_E_LIMIT);
}

static void reading_past_the_end_fails_and_stays_failed(void **unused)
{
	struct cpx_rd r = cpx_rd_init("\1\2\3", 3);

	(void)unused;
	assert_int_equal(cpx_rd_u16(&r), 0x0201);
	assert_int_equal(cpx_rd_u32(&r), 0);
	assert_true(r.failed);
	assert_int_equal(cpx_rd_u8(&r), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_survive_encoding),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(unknown_mandatory_record_is_refused),
		cmocka_unit_test(dropped_record_is_gone),
		cmocka_unit_test(errors_say_where_and_why),
		cmocka_unit_test(reading_past_the_end_fails_and_stays_failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
