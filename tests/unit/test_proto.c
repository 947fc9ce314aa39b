/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages between chpoxd, keepers and chpox_ctl. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../chpox/base/err.h"
#include "../../scheduler/live.h"
#include "../../scheduler/proto.h"

static void a_message_and_its_descriptor_arrive(void **state)
{
	int pair[2], fds[CPX_PROTO_FDS], null = open("/dev/null", O_RDONLY);
	struct cpx_err err = { 0 };
	json_t *m;
	size_t nfds;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(cpx_proto_send(pair[0], json_pack("{s:s, s:i}", "op", "run", "n", 5),
					&null, 1, &err),
			 0);
	assert_int_equal(cpx_proto_recv(pair[1], &m, fds, &nfds, &err), 0);
	assert_string_equal(cpx_proto_str(m, "op"), "run");
	assert_int_equal(cpx_proto_int(m, "n", 0), 5);
	assert_int_equal(nfds, 1);
	json_decref(m);
	close(fds[0]);
	close(null);
	close(pair[0]);
	assert_int_equal(cpx_proto_recv(pair[1], &m, fds, &nfds, &err), CPX_E_GONE);
	close(pair[1]);
}

static void pieces_make_messages(void **state)
{
	struct cpx_proto_in in = { 0 };
	uint8_t *frame;
	json_t *msg = json_pack("{s:s}", "a", "b"), *m;
	ssize_t n = cpx_proto_encode(msg, &frame, NULL);

	(void)state;
	json_decref(msg);
	assert_true(n > 4);
	for (int round = 0; round < 3; round++) {
		for (ssize_t i = 0; i < n - 1; i++) {
			assert_int_equal(cpx_proto_push(&in, frame + i, 1, NULL), 0);
			assert_int_equal(cpx_proto_next(&in, &m, NULL), 0);
		}
		assert_int_equal(cpx_proto_push(&in, frame + n - 1, 1, NULL), 0);
		assert_int_equal(cpx_proto_next(&in, &m, NULL), 1);
		assert_string_equal(cpx_proto_str(m, "a"), "b");
		json_decref(m);
	}
	free(frame);
	cpx_proto_in_free(&in);
}

static int next_of(const void *bytes, size_t n)
{
	struct cpx_proto_in in = { 0 };
	json_t *m = NULL;
	int r;

	cpx_proto_push(&in, bytes, n, NULL);
	r = cpx_proto_next(&in, &m, NULL);
	json_decref(m);
	cpx_proto_in_free(&in);
	return r;
}

static void nonsense_is_refused(void **state)
{
	static const uint8_t empty[] = { 0, 0, 0, 0 }, huge[] = { 255, 255, 255, 255 },
			     array[] = { 2, 0, 0, 0, '[', ']' }, text[] = { 1, 0, 0, 0, 'x' },
			     twice[] = { 13,  0,   0,	0,   '{', '"', 'a', '"', ':',
					 '1', ',', '"', 'a', '"', ':', '2', '}' };

	(void)state;
	assert_int_equal(next_of(empty, sizeof(empty)), CPX_E_LIMIT);
	assert_int_equal(next_of(huge, sizeof(huge)), CPX_E_LIMIT);
	assert_int_equal(next_of(array, sizeof(array)), CPX_E_FORMAT);
	assert_int_equal(next_of(text, sizeof(text)), CPX_E_FORMAT);
	assert_int_equal(next_of(twice, sizeof(twice)), CPX_E_FORMAT);
}

static void bytes_survive_as_text(void **state)
{
	char all[256];
	json_t *j;
	char *back;

	(void)state;
	for (int i = 1; i < 256; i++)
		all[i - 1] = (char)i;
	all[255] = 0;
	j = cpx_proto_bytes(all);
	assert_non_null(j);
	back = cpx_proto_unbytes(j);
	assert_string_equal(back, all);
	free(back);
	json_decref(j);
	/* what no byte became */
	j = json_string("\xe2\x82\xac");
	assert_null(cpx_proto_unbytes(j));
	json_decref(j);
	j = json_stringn("a\0b", 3);
	assert_null(cpx_proto_unbytes(j));
	json_decref(j);
	assert_null(cpx_proto_unbytes(NULL));
}

static void lists_are_limited(void **state)
{
	char *v[] = { "a", "", "c", NULL }, **back;
	json_t *j = cpx_proto_strv(v);

	(void)state;
	back = cpx_proto_unstrv(j, 3);
	assert_non_null(back);
	assert_string_equal(back[2], "c");
	assert_null(back[3]);
	cpx_proto_strv_free(back);
	assert_null(cpx_proto_unstrv(j, 2));
	json_array_append_new(j, json_integer(1));
	assert_null(cpx_proto_unstrv(j, 9));
	assert_null(cpx_proto_unstrv(NULL, 9));
	json_decref(j);
}

static void errors_cross_the_wire(void **state)
{
	struct cpx_err err = { 0 }, got = { 0 };
	json_t *j;

	(void)state;
	cpx_err_set(&err, CPX_E_PERM, "no \xff way");
	j = cpx_proto_fail(&err);
	assert_non_null(j);
	assert_int_equal(cpx_proto_result(j, &got), CPX_E_PERM);
	assert_string_equal(got.msg, "no ? way");
	json_decref(j);
	j = json_pack("{s:b, s:i}", "ok", 0, "code", 7);
	assert_true(cpx_proto_result(j, &got) < 0);
	json_decref(j);
	j = cpx_proto_ok();
	assert_int_equal(cpx_proto_result(j, &got), 0);
	json_decref(j);
}

static void wrong_types_are_missing(void **state)
{
	json_t *j = json_pack("{s:s, s:i}", "s", "x", "i", 3);

	(void)state;
	assert_null(cpx_proto_str(j, "i"));
	assert_int_equal(cpx_proto_int(j, "s", 9), 9);
	assert_false(cpx_proto_bool(j, "i"));
	json_decref(j);
}

static void a_process_is_told_from_its_successor(void **state)
{
	struct cpx_live l;
	uint64_t start;
	char c;

	(void)state;
	assert_int_equal(cpx_live_of(getpid(), &l, NULL), 0);
	assert_true(cpx_live_check(&l));
	l.start++;
	assert_false(cpx_live_check(&l));
	assert_int_equal(
		cpx_live_parse("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99 1",
			       &c, &start),
		0);
	assert_int_equal(c, 'S');
	assert_int_equal(start, 99);
	assert_int_equal(cpx_live_parse("7 (a) S 1 2", &c, &start), CPX_E_FORMAT);
	assert_int_equal(cpx_live_parse("", &c, &start), CPX_E_FORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_and_its_descriptor_arrive),
		cmocka_unit_test(pieces_make_messages),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(bytes_survive_as_text),
		cmocka_unit_test(lists_are_limited),
		cmocka_unit_test(errors_cross_the_wire),
		cmocka_unit_test(wrong_types_are_missing),
		cmocka_unit_test(a_process_is_told_from_its_successor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
