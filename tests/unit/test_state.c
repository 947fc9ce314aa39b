/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records: what is encoded is decoded again; what is hostile is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../../chpox/base/buf.h"
#include "../../chpox/base/err.h"
#include "../../store/state.h"

static struct cpx_state *sample(void)
{
	static const uint32_t groups[] = { 4, 24, 27 };
	struct cpx_state *s = cpx_state_new();
	struct cpx_rec_task *t;
	struct cpx_rec_thread *th;

	t = cpx_state_new_rec(s, task);
	t->pid = 4711;
	t->comm = cpx_state_str(s, "a \"name\"\n");
	t->oom_score_adj = -17;
	t->utime_ns = 0x123456789abcdef;
	th = cpx_state_new_rec(s, thread);
	th->tid = 4712;
	th->regs = cpx_state_blob(s, "\0\1\2\3", 4);
	th->groups.v = groups;
	th->groups.n = 3;
	th->sys_left_ns = -1;
	th = cpx_state_new_rec(s, thread);
	th->tid = 4713;
	th->comm = cpx_state_str(s, "");
	return s;
}

static void encode(struct cpx_state *s, struct cpx_buf *b)
{
	memset(b, 0, sizeof(*b));
	assert_int_equal(cpx_state_encode(s, b, NULL), 0);
}

static void what_goes_in_comes_out(void **state)
{
	struct cpx_state *s = sample(), *got;
	const struct cpx_rec_thread *th;
	const struct cpx_rec_task *t;
	struct cpx_err err = { 0 };
	struct cpx_buf b, again;
	int n = 0;

	(void)state;
	encode(s, &b);
	assert_int_equal(cpx_state_decode(b.data, b.len, &got, &err), 0);
	t = cpx_state_rec(got, task, 0);
	assert_int_equal(t->pid, 4711);
	assert_string_equal(t->comm, "a \"name\"\n");
	assert_int_equal(t->oom_score_adj, -17);
	assert_true(t->utime_ns == 0x123456789abcdef);
	assert_int_equal(cpx_state_count(got, CPX_REC_thread), 2);
	th = cpx_state_rec(got, thread, 0);
	assert_null(th->comm);
	assert_int_equal(th->regs.n, 4);
	assert_memory_equal(th->regs.p, "\0\1\2\3", 4);
	assert_int_equal(th->groups.n, 3);
	assert_int_equal(th->groups.v[2], 27);
	assert_true(th->sys_left_ns == -1);
	cpx_state_each(got, thread, each)
		n += (int)each->tid;
	assert_int_equal(n, 4712 + 4713);
	assert_string_equal(cpx_state_rec(got, thread, 1)->comm, "");
	assert_null(cpx_state_rec(got, thread, 2));
	encode(got, &again);
	assert_int_equal(again.len, b.len);
	assert_memory_equal(again.data, b.data, b.len);
	cpx_buf_free(&b);
	cpx_buf_free(&again);
	cpx_state_free(s);
	cpx_state_free(got);
}

static void a_cut_list_is_refused_or_shorter(void **state)
{
	struct cpx_state *s = sample(), *got;
	struct cpx_buf b;
	size_t whole = 0;

	(void)state;
	encode(s, &b);
	for (size_t n = 0; n < b.len; n++) {
		struct cpx_err err = { 0 };
		uint8_t *exact = malloc(n + 1);

		memcpy(exact, b.data, n);
		if (cpx_state_decode(exact, n, &got, &err) == 0) {
			whole++;
			cpx_state_free(got);
		} else {
			assert_true(err.code < 0 && err.msg[0]);
		}
		free(exact);
	}
	/* only at the ends of records */
	assert_int_equal(whole, 3);
	cpx_buf_free(&b);
	cpx_state_free(s);
}

static void put_record(struct cpx_buf *b, uint16_t type, uint16_t flags, const void *p,
		       uint32_t n)
{
	cpx_buf_u16(b, type);
	cpx_buf_u16(b, flags);
	cpx_buf_u32(b, n);
	cpx_buf_put(b, p, n);
}

static void unknown_records(void **state)
{
	struct cpx_state *got;
	struct cpx_buf b = { 0 };
	struct cpx_err err;

	(void)state;
	put_record(&b, 0x7fff, 1, "abc", 3);
	assert_int_equal(cpx_state_decode(b.data, b.len, &got, &err), 0);
	cpx_state_free(got);
	put_record(&b, 0x7fff, 0, "abc", 3);
	assert_int_equal(cpx_state_decode(b.data, b.len, &got, &err), CPX_E_FORMAT);
	assert_non_null(strstr(err.msg, "0x7fff"));
	cpx_buf_free(&b);
}

/* A record of an older program has fewer fields, one of a newer program more. */
static void fields_that_are_missing_are_zero(void **state)
{
	const uint8_t body[] = { 7, 0, 0, 0, 5, 0, 0, 0 };
	struct cpx_state *got;
	struct cpx_buf b = { 0 };

	(void)state;
	put_record(&b, CPX_REC_task, 0, body, sizeof(body));
	assert_int_equal(cpx_state_decode(b.data, b.len, &got, NULL), 0);
	assert_int_equal(cpx_state_rec(got, task, 0)->pid, 7);
	assert_int_equal(cpx_state_rec(got, task, 0)->ppid, 5);
	assert_null(cpx_state_rec(got, task, 0)->comm);
	cpx_state_free(got);
	cpx_buf_free(&b);
}

static void bad_text_and_lengths_are_refused(void **state)
{
	/* sigpending: pid, tid, info with a length that is not there */
	const uint8_t longer[] = { 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x03 };
	const uint8_t huge[] = { 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff };
	/* host: version, page_size, kernel with a NUL inside */
	const uint8_t nul[] = { 1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 'a', 0, 'b' };
	struct cpx_state *got;
	struct cpx_buf b = { 0 };

	(void)state;
	put_record(&b, CPX_REC_sigpending, 0, longer, sizeof(longer));
	assert_int_equal(cpx_state_decode(b.data, b.len, &got, NULL), CPX_E_FORMAT);
	b.len = 0;
	put_record(&b, CPX_REC_sigpending, 0, huge, sizeof(huge));
	assert_int_equal(cpx_state_decode(b.data, b.len, &got, NULL), CPX_E_LIMIT);
	b.len = 0;
	put_record(&b, CPX_REC_host, 0, nul, sizeof(nul));
	assert_int_equal(cpx_state_decode(b.data, b.len, &got, NULL), CPX_E_FORMAT);
	cpx_buf_free(&b);
}

static void the_last_record_can_be_taken_back(void **state)
{
	struct cpx_state *s = sample();

	(void)state;
	cpx_state_drop_last(s, CPX_REC_thread);
	assert_int_equal(cpx_state_count(s, CPX_REC_thread), 1);
	cpx_state_drop_last(s, CPX_REC_host);
	assert_int_equal(cpx_state_count(s, CPX_REC_host), 0);
	cpx_state_free(s);
}

static void print_shows_each_record_on_one_line(void **state)
{
	struct cpx_state *s = sample();
	struct cpx_buf out = { 0 };
	int lines = 0;

	(void)state;
	cpx_state_print(s, &out);
	for (size_t i = 0; i < out.len; i++)
		lines += out.data[i] == '\n';
	assert_int_equal(lines, 3);
	cpx_buf_u8(&out, 0);
	assert_non_null(strstr((char *)out.data, "comm=\"a \\x22name\\x22\\x0a\""));
	assert_non_null(strstr((char *)out.data, "oom_score_adj=-17"));
	cpx_buf_free(&out);
	cpx_state_free(s);
}

static void json_holds_all_fields(void **state)
{
	struct cpx_state *s = sample();
	struct cpx_rec_thread *th = cpx_state_new_rec(s, thread);
	struct cpx_buf out = { 0 };
	json_t *a, *o;

	(void)state;
	th->comm = cpx_state_str(s, "\xff\xc3\xa4");
	th->sigmask = UINT64_MAX;
	cpx_state_print_json(s, &out);
	a = json_loadb((char *)out.data, out.len, 0, NULL);
	assert_non_null(a);
	assert_int_equal(json_array_size(a), 4);
	o = json_array_get(a, 0);
	assert_string_equal(json_string_value(json_object_get(o, "record")), "task");
	assert_string_equal(json_string_value(json_object_get(o, "comm")), "a \"name\"\n");
	assert_int_equal(json_integer_value(json_object_get(o, "oom_score_adj")), -17);
	o = json_array_get(a, 1);
	assert_true(json_is_null(json_object_get(o, "comm")));
	assert_string_equal(json_string_value(json_object_get(o, "regs")), "00010203");
	assert_int_equal(json_array_size(json_object_get(o, "groups")), 3);
	o = json_array_get(a, 3);
	assert_string_equal(json_string_value(json_object_get(o, "sigmask")),
			    "0xffffffffffffffff");
	assert_string_equal(json_string_value(json_object_get(o, "comm")),
			    "\xc3\xbf\xc3\x83\xc2\xa4");
	json_decref(a);
	cpx_buf_free(&out);
	cpx_state_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_in_comes_out),
		cmocka_unit_test(a_cut_list_is_refused_or_shorter),
		cmocka_unit_test(unknown_records),
		cmocka_unit_test(fields_that_are_missing_are_zero),
		cmocka_unit_test(bad_text_and_lengths_are_refused),
		cmocka_unit_test(the_last_record_can_be_taken_back),
		cmocka_unit_test(print_shows_each_record_on_one_line),
		cmocka_unit_test(json_holds_all_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
