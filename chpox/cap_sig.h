/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cap_sig.h - what engines share that tell of signals and timers. */
#ifndef CPX_CAP_SIG_H
#define CPX_CAP_SIG_H

#include <stdint.h>

struct cpx_cap;
struct cpx_cap_task;
struct cpx_err;

#define CPX_SIGNALS 64

/* siginfo_t as the kernel has it. */
union cpx_siginfo {
	uint8_t bytes[128];
	struct {
		int32_t signo, error, code, pad;
		int32_t timer_id, overrun;
		uint64_t value;
		int32_t sys_private;
	} timer;
};

/* Record a queued signal; @tid: of a thread as the job sees it, 0: of the process. */
int cpx_sig_add_pending(struct cpx_cap *c, struct cpx_cap_task *t, uint32_t tid,
			const union cpx_siginfo *info, struct cpx_err *err);

#endif
