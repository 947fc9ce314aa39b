/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * live.h - is that very process still there? A PID alone is used again; with the boot and the
 * start time of the process it names one process for ever.
 */
#ifndef CPX_SCHEDULER_LIVE_H
#define CPX_SCHEDULER_LIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_err;

#define CPX_BOOT_ID 37 /* with NUL */

struct cpx_live {
	char boot[CPX_BOOT_ID];
	pid_t pid;	/* 0: nobody */
	uint64_t start; /* clock ticks after boot */
};

int cpx_live_of(pid_t pid, struct cpx_live *out, struct cpx_err *err);
/* A zombie is not alive. */
bool cpx_live_check(const struct cpx_live *l);

/* Pure: state letter and start time from the text of /proc/PID/stat. Return: 0 or CPX_E_FORMAT.
 */
int cpx_live_parse(const char *stat, char *state, uint64_t *start);

#endif
