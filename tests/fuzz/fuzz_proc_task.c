/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as /proc/PID text: no crash, no leak, nothing written on failure. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../chpox/base/proc_task.h"
#include "../../chpox/base/timed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void timers(const char *text)
{
	struct cpx_timed_want want = { .asked_ns = 1000000000,
				       .blocked_ns = -1,
				       .first = true };
	struct cpx_sleep_timer *sleeps = NULL;
	struct cpx_proc_timer *list = NULL;
	struct cpx_timed_sleep *v;
	int64_t now;
	int n;

	cpx_proc_timers_parse(text, &list, NULL);
	free(list);
	n = cpx_proc_timer_list_parse(text, &sleeps, &now, NULL);
	v = n > 0 ? calloc((size_t)n, sizeof(*v)) : NULL;
	if (v)
		memcpy(v, sleeps, (size_t)n * sizeof(*v));
	if (v)
		cpx_timed_match(v, (size_t)n, NULL, 0, now, now, &want, 1);
	free(v);
	free(sleeps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	uint64_t pairs[2 * CPX_RLIMITS], args[6] = { 0 };
	struct cpx_proc_status status;
	struct cpx_proc_syscall call;
	struct cpx_proc_stat stat;
	int64_t a, b;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	if (cpx_proc_status_parse(text, &status, NULL) == 0)
		cpx_proc_status_free(&status);
	cpx_proc_stat_parse(text, &stat, NULL);
	cpx_proc_limits_parse(text, pairs, NULL);
	cpx_proc_syscall_parse(text, &call, NULL);
	cpx_proc_exec_start_parse(text, &a, NULL);
	cpx_proc_timens_parse(text, &a, &b, NULL);
	timers(text);
	memcpy(args, data, size < sizeof(args) ? size : sizeof(args));
	cpx_timed_guess(args, data, size, text);
	free(text);
	return 0;
}
