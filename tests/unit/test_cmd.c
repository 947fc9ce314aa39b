/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parsing of commands, options, and numbers that users type. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "../../chpox/base/cmd.h"
#include "../../chpox/base/err.h"

static struct cpx_args seen;
static char tail[256];

static int take(const struct cpx_args *a, struct cpx_err *err)
{
	(void)err;
	seen = *a;
	tail[0] = 0;
	for (int i = 0; i < a->npos; i++) {
		strcat(tail, a->pos[i]);
		strcat(tail, " ");
	}
	return 42;
}

static const struct cpx_opt opts[] = { { "name", 'n', "NAME", "" },
				       { "force", 'f', NULL, "" },
				       { 0 } };
static const struct cpx_cmd cmds[] = { { "run", "", "", opts, 1, -1, true, take },
				       { "one", "", "", opts, 1, 1, false, take },
				       { 0 } };
static const struct cpx_prog prog = { .name = "p", .summary = "", .cmds = cmds };

static int go(const char *line)
{
	static char buf[256];
	char *argv[16] = { "p" };
	int n = 1;

	strcpy(buf, line);
	for (char *s = strtok(buf, " "); s; s = strtok(NULL, " "))
		argv[n++] = s;
	argv[n] = NULL;
	return cpx_cmd_main(&prog, n, argv);
}

static void options_before_and_after(void **state)
{
	(void)state;
	assert_int_equal(go("one --name=a x -f"), 42);
	assert_string_equal(tail, "x ");
	assert_string_equal(seen.value[0], "a");
	assert_non_null(seen.value[1]);
	assert_int_equal(go("one x --name b"), 42);
	assert_string_equal(seen.value[0], "b");
	assert_int_equal(go("one -nb x"), 42);
	assert_string_equal(seen.value[0], "b");
}

static void a_command_keeps_its_options(void **state)
{
	(void)state;
	assert_int_equal(go("run -f cmd -f --name x"), 42);
	assert_string_equal(tail, "cmd -f --name x ");
	assert_null(seen.value[0]);
	assert_int_equal(go("run -- -x -f"), 42);
	assert_string_equal(tail, "-x -f ");
}

static void mistakes_are_refused(void **state)
{
	static const char *const bad[] = {
		"two",		"one",	       "one a b",	  "one x --nope",
		"one x --name", "one x -f -f", "one x --force=1", "one x --name="
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(go(bad[i]), 2);
}

static void bytes(void **state)
{
	static const struct {
		const char *s;
		uint64_t n;
	} good[] = { { "1", 1 },	  { "4096", 4096 },	{ "500K", 512000 },
		     { "1.5M", 1572864 }, { "2G", 2147483648 }, { "1T", 1099511627776 } };
	static const char *const bad[] = { "",	  "K",	 "-5",	"0",   "5k",   "5 K",
					   "5KB", "5MM", "nan", "inf", "1e30", "0.5" };
	uint64_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(cpx_parse_bytes(good[i].s, "rate", &n, NULL), 0);
		assert_int_equal(n, good[i].n);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(cpx_parse_bytes(bad[i], "rate", &n, NULL), CPX_E_INVAL);
}

static void durations(void **state)
{
	static const struct {
		const char *s;
		int64_t ns;
	} good[] = {
		{ "5", 5000000000 },	{ "500ms", 500000000 },	 { "1.5s", 1500000000 },
		{ "2m", 120000000000 }, { "1h", 3600000000000 }, { "1d", 86400000000000 }
	};
	static const char *const bad[] = { "",	   "x",	  "-5",	 "0",	  "5y",	   "5 s",
					   "1e30", "nan", "inf", "0.1ms", "99999d" };
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(cpx_parse_duration(good[i].s, "time", &ns, NULL), 0);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(cpx_parse_duration(bad[i], "time", &ns, NULL), CPX_E_INVAL);
}

static void signals_and_pids(void **state)
{
	pid_t pid;
	int sig;

	(void)state;
	assert_int_equal(cpx_parse_signal("TERM", &sig, NULL), 0);
	assert_int_equal(sig, 15);
	assert_int_equal(cpx_parse_signal("sigkill", &sig, NULL), 0);
	assert_int_equal(sig, 9);
	assert_int_equal(cpx_parse_signal("10", &sig, NULL), 0);
	assert_int_equal(cpx_parse_signal("0", &sig, NULL), CPX_E_INVAL);
	assert_int_equal(cpx_parse_signal("", &sig, NULL), CPX_E_INVAL);
	assert_int_equal(cpx_parse_pid("12", &pid, NULL), 0);
	assert_int_equal(cpx_parse_pid("0", &pid, NULL), CPX_E_INVAL);
	assert_int_equal(cpx_parse_pid("-1", &pid, NULL), CPX_E_INVAL);
	assert_int_equal(cpx_parse_pid("99999999999999999999", &pid, NULL), CPX_E_INVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_before_and_after),
		cmocka_unit_test(a_command_keeps_its_options),
		cmocka_unit_test(mistakes_are_refused),
		cmocka_unit_test(bytes),
		cmocka_unit_test(durations),
		cmocka_unit_test(signals_and_pids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
