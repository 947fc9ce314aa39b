/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_time.c - the job's CLOCK_MONOTONIC and CLOCK_BOOTTIME go on where they stood, by a time
 * namespace. A kernel without one, or a missing right, costs only that: the clocks jump.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "restore.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

#define SECOND 1000000000ll

/* This process's offset of @clock ("monotonic" or "boottime") from the machine's own clock. */
static int64_t own_offset(const char *text, const char *clock)
{
	const char *p = strstr(text, clock);
	long long s = 0, ns = 0;

	if (p && sscanf(p + strlen(clock), "%lld %lld", &s, &ns) == 2)
		return s * SECOND + ns;
	return 0;
}

static int print_offset(char *buf, size_t n, const char *clock, int64_t ns)
{
	int64_t s = ns / SECOND, rest = ns % SECOND;

	if (rest < 0) {
		rest += SECOND;
		s--;
	}
	return snprintf(buf, n, "%s %lld %lld\n", clock, (long long)s, (long long)rest);
}

int cpx_restore_clocks(int64_t monotonic_ns, int64_t boottime_ns, int *old)
{
	CPX_AUTO_FD before = open("/proc/self/ns/time", O_RDONLY | O_CLOEXEC);
	CPX_AUTO_FREE char *text = NULL;
	CPX_AUTO_FD fd = -1;
	int64_t mono = 0, boot = 0;
	char buf[160];
	int n;

	*old = -1;
	if (before < 0 || monotonic_ns <= 0 || boottime_ns <= 0)
		return 0;
	if (cpx_read_file(AT_FDCWD, "/proc/self/timens_offsets", 4096, &text, NULL) >= 0) {
		mono = own_offset(text, "monotonic");
		boot = own_offset(text, "boottime");
	}
	if (unshare(CLONE_NEWTIME) < 0) {
		cpx_log_debug("no time namespace: the job's monotonic clock jumps");
		return 0;
	}
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	n = print_offset(buf, sizeof(buf), "monotonic", mono + monotonic_ns - cpx_mono_ns());
	n += print_offset(buf + n, sizeof(buf) - (size_t)n, "boottime",
			  boot + boottime_ns - cpx_boot_ns());
	if (fd < 0 || write(fd, buf, (size_t)n) != n)
		cpx_log_note("cannot set the job's monotonic clock; it jumps");
	*old = cpx_steal_fd(&before);
	return 1;
}

void cpx_restore_clocks_back(int *old)
{
	if (*old >= 0 && setns(*old, CLONE_NEWTIME) < 0)
		cpx_log_debug("new processes stay in the job's time namespace");
	cpx_close(old);
}
