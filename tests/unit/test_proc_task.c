/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /proc/PID text about processes is read as it is meant, and nonsense is refused. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../chpox/base/err.h"
#include "../../chpox/base/fd.h"
#include "../../chpox/base/proc_task.h"
#include <fcntl.h>

#define STATUS_HEAD                                                     \
	"Name:\tx\nUmask:\t0027\nState:\tS (sleeping)\nTracerPid:\t7\n" \
	"Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"
#define STATUS_TAIL                                                                           \
	"SigPnd:\t0000000000000001\nShdPnd:\t8000000000000000\nSigBlk:\t0\n"                  \
	"SigIgn:\t0000000000001000\nSigCgt:\t0000000180004002\nCapInh:\t0\nCapPrm:\tff\n"     \
	"CapEff:\tf\nCapBnd:\t1ff\nCapAmb:\t1\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:" \
	"\t3\n"

static void status_of_a_thread(void **state)
{
	struct cpx_proc_status s;

	(void)state;
	assert_int_equal(cpx_proc_status_parse(STATUS_HEAD "Groups:\t4 24 1000 \n" STATUS_TAIL,
					       &s, NULL),
			 0);
	assert_int_equal(s.umask, 027);
	assert_int_equal(s.state, 'S');
	assert_int_equal(s.tracer, 7);
	assert_int_equal(s.uid[3], 4);
	assert_int_equal(s.gid[0], 5);
	assert_int_equal(s.ngroups, 3);
	assert_int_equal(s.groups[2], 1000);
	assert_true(s.shd_pnd == 1ull << 63);
	assert_true(s.sig_cgt == 0x180004002);
	assert_int_equal(s.cap_amb, 1);
	assert_int_equal(s.seccomp_filters, 3);
	assert_true(s.thp_enabled);
	cpx_proc_status_free(&s);
}

static void status_without_groups(void **state)
{
	struct cpx_proc_status s;

	(void)state;
	assert_int_equal(
		cpx_proc_status_parse(STATUS_HEAD "Groups:\t \n" STATUS_TAIL, &s, NULL), 0);
	assert_int_equal(s.ngroups, 0);
	assert_null(s.groups);
}

static void damaged_status_is_refused(void **state)
{
	const char *const bad[] = {
		"",
		STATUS_HEAD "Groups:\t1 x\n" STATUS_TAIL,
		STATUS_HEAD "Groups:\t99999999999\n" STATUS_TAIL,
		STATUS_HEAD STATUS_TAIL,
		STATUS_HEAD "Groups:\t1\n",
		"State:\tS\nUid:\t1 2 3\nGid:\t1 2 3 4\nGroups:\t1\n" STATUS_TAIL,
		"State:\t\nUid:\t1 2 3 4\nGid:\t1 2 3 4\nGroups:\t1\n" STATUS_TAIL,
	};
	struct cpx_proc_status s = { .umask = 99 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(cpx_proc_status_parse(bad[i], &s, NULL), CPX_E_FORMAT);
		assert_int_equal(s.umask, 99);
	}
}

static void own_files_are_understood(void **state)
{
	CPX_AUTO_FREE char *status = NULL, *stat = NULL, *limits = NULL;
	uint64_t pairs[2 * CPX_RLIMITS];
	struct cpx_proc_status s;
	struct cpx_proc_stat st;
	struct rlimit own;

	(void)state;
	assert_true(cpx_read_file(AT_FDCWD, "/proc/self/status", 65536, &status, NULL) > 0);
	assert_true(cpx_read_file(AT_FDCWD, "/proc/self/stat", 65536, &stat, NULL) > 0);
	assert_true(cpx_read_file(AT_FDCWD, "/proc/self/limits", 65536, &limits, NULL) > 0);
	assert_int_equal(cpx_proc_status_parse(status, &s, NULL), 0);
	assert_int_equal(s.uid[0], getuid());
	cpx_proc_status_free(&s);
	assert_int_equal(cpx_proc_stat_parse(stat, &st, NULL), 0);
	assert_int_equal(st.ppid, getppid());
	assert_int_equal(st.session, getsid(0));
	assert_int_equal(cpx_proc_limits_parse(limits, pairs, NULL), 0);
	for (int i = 0; i < CPX_RLIMITS; i++) {
		getrlimit((__rlimit_resource_t)i, &own);
		assert_true(pairs[2 * i] == own.rlim_cur && pairs[2 * i + 1] == own.rlim_max);
	}
}

static void names_with_anything_in_them(void **state)
{
	struct cpx_proc_stat st;
	const char *text = "12 (a) S 1 2) R 77 12 13 0 -1 64 0 0 0 0 5 6 0 0 20 -3 1 0 9 "
			   "100 1 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0\n";

	(void)state;
	assert_int_equal(cpx_proc_stat_parse(text, &st, NULL), 0);
	assert_int_equal(st.state, 'R');
	assert_int_equal(st.ppid, 77);
	assert_int_equal(st.nice, -3);
	assert_int_equal(st.exit_signal, 17);
	assert_true(st.flags & CPX_PF_FORKNOEXEC);
	assert_int_equal(cpx_proc_stat_parse("12 (a", &st, NULL), CPX_E_FORMAT);
	assert_int_equal(cpx_proc_stat_parse("12 (a) S 1", &st, NULL), CPX_E_FORMAT);
}

static void posix_timers_in_order_of_their_ids(void **state)
{
	const char *text =
		"ID: 7\nsignal: 34/00007ffd00001234\nnotify: signal/pid.12\nClockID: 1\n"
		"ID: 2\nsignal: 0/0000000000000000\nnotify: none/pid.12\nClockID: -6\n"
		"ID: 3\nsignal: 35/0000000000000001\nnotify: signal/tid.13\nClockID: 0\n";
	CPX_AUTO_FREE struct cpx_proc_timer *t = NULL;

	(void)state;
	assert_int_equal(cpx_proc_timers_parse(text, &t, NULL), 3);
	assert_int_equal(t[0].id, 2);
	assert_int_equal(t[0].clock, -6);
	assert_int_equal(t[0].notify, SIGEV_NONE);
	assert_int_equal(t[1].notify, SIGEV_SIGNAL | SIGEV_THREAD_ID);
	assert_int_equal(t[1].target, 13);
	assert_true(t[2].sigval == 0x7ffd00001234);
}

static void damaged_timers_are_refused(void **state)
{
	const char *const bad[] = { "ID: x\n", "ID: 1\n", "ID: 1\nsignal: 3\n",
				    "ID: 1\nsignal: 3/0\nnotify: sig/pid.1\nClockID: 1\n",
				    "ID: 1\nsignal: 3/0\nnotify: signal/pid.1\n" };
	struct cpx_proc_timer *t = NULL;

	(void)state;
	assert_int_equal(cpx_proc_timers_parse("", &t, NULL), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(cpx_proc_timers_parse(bad[i], &t, NULL), CPX_E_FORMAT);
	assert_null(t);
}

static void sleeps_on_the_monotonic_clock_alone(void **state)
{
	const char *text = "Timer List Version: v0.10\nnow at 1000 nsecs\n\ncpu: 0\n clock 0:\n"
			   "  .offset:     0 nsecs\nactive timers:\n"
			   " #0: <00000000aa>, tick_nohz_handler, S:01\n"
			   " # expires at 5000-5000 nsecs [in 4000 to 4000 nsecs]\n"
			   " #1: <00000000bb>, hrtimer_wakeup, S:01\n"
			   " # expires at 6000-6050 nsecs [in 5000 to 5050 nsecs]\n"
			   " clock 1:\nactive timers:\n"
			   " #0: <00000000cc>, hrtimer_wakeup, S:01\n"
			   " # expires at 7000-7050 nsecs [in 5000 to 5050 nsecs]\n";
	CPX_AUTO_FREE struct cpx_sleep_timer *t = NULL;
	int64_t now;

	(void)state;
	assert_int_equal(cpx_proc_timer_list_parse(text, &t, &now, NULL), 1);
	assert_int_equal(now, 1000);
	assert_int_equal(t[0].id, 0xbb);
	assert_int_equal(t[0].soft_ns, 6000);
	assert_int_equal(t[0].hard_ns, 6050);
}

static void calls_and_small_files(void **state)
{
	struct cpx_proc_syscall s;
	int64_t v, w;

	(void)state;
	assert_int_equal(cpx_proc_syscall_parse("running\n", &s, NULL), 0);
	assert_true(s.running);
	assert_int_equal(cpx_proc_syscall_parse("-1 0x7ffe 0x1234\n", &s, NULL), 0);
	assert_int_equal(s.nr, -1);
	assert_int_equal(
		cpx_proc_syscall_parse("7 0x1 0x2 0x3 0x4 0x5 0x6 0x7f00 0x401000\n", &s, NULL),
		0);
	assert_int_equal(s.args[5], 6);
	assert_int_equal(s.ip, 0x401000);
	assert_int_equal(cpx_proc_syscall_parse("7 0x1\n0x2", &s, NULL), CPX_E_FORMAT);
	assert_int_equal(
		cpx_proc_exec_start_parse("a\nse.exec_start   :   12.000345\n", &v, NULL), 0);
	assert_int_equal(v, 12000345);
	assert_int_equal(cpx_proc_exec_start_parse("se.exec_start", &v, NULL), CPX_E_FORMAT);
	assert_int_equal(
		cpx_proc_timens_parse("monotonic -1 500000000\nboottime 2 0\n", &v, &w, NULL),
		0);
	assert_int_equal(v, -500000000);
	assert_int_equal(w, 2000000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_of_a_thread),
		cmocka_unit_test(status_without_groups),
		cmocka_unit_test(damaged_status_is_refused),
		cmocka_unit_test(own_files_are_understood),
		cmocka_unit_test(names_with_anything_in_them),
		cmocka_unit_test(posix_timers_in_order_of_their_ids),
		cmocka_unit_test(damaged_timers_are_refused),
		cmocka_unit_test(sleeps_on_the_monotonic_clock_alone),
		cmocka_unit_test(calls_and_small_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
