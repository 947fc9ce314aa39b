/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as the record stream of /dev/chpox: taken apart or refused, never more than that.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../chpox/base/err.h"
#include "../../chpox/module_records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size ? size : 1);
	struct cpx_mod_stream s;
	volatile uint8_t sum = 0;

	if (size)
		memcpy(copy, data, size);
	if (cpx_mod_parse(copy, size, &s, NULL) < 0)
		return 0;
	for (size_t i = 0; i < s.n; i++) {
		const void *set;
		size_t n = cpx_mod_regset(&s, &s.v[i], 1, &set);

		for (size_t k = 0; k < s.v[i].bytes; k++)
			sum += ((const uint8_t *)s.v[i].body)[k];
		for (size_t k = 0; k < n; k++)
			sum += ((const uint8_t *)set)[k];
	}
	for (size_t i = 0; i < s.nthreads; i++)
		if (!cpx_mod_thread(&s, s.v[s.threads[i]].tid))
			abort();
	for (size_t i = 0; i < s.nprocesses; i++)
		if (!cpx_mod_process(&s, s.v[s.processes[i]].pid))
			abort();
	cpx_mod_free(&s);
	__asm__ volatile("" : : "r"(sum));
	return 0;
}
