/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as /proc/PID/fdinfo/N: parsed or refused, never more than that. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../chpox/base/err.h"
#include "../../chpox/proc_fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpx_proc_fd f = { 0 };
	struct cpx_err err;

	if (cpx_proc_fd_parse((const char *)data, size, &f, &err) == 0) {
		for (size_t i = 0; i < f.nlocks; i++)
			if (f.locks[i].len &&
			    f.locks[i].start + f.locks[i].len < f.locks[i].start)
				abort();
	} else if (f.locks || f.nlocks) {
		abort();
	}
	cpx_proc_fd_free(&f);
	return 0;
}
