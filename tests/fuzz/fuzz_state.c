/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a job's records: decoded or refused; what was decoded encodes to the same again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../chpox/base/buf.h"
#include "../../chpox/base/err.h"
#include "../../store/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpx_buf first = { 0 }, second = { 0 }, text = { 0 };
	struct cpx_state *s, *again;
	struct cpx_err err;

	if (cpx_state_decode(data, size, &s, &err) < 0)
		return 0;
	if (cpx_state_encode(s, &first, &err) < 0)
		abort();
	cpx_state_print(s, &text);
	if (cpx_state_decode(first.data, first.len, &again, &err) < 0)
		abort();
	if (cpx_state_encode(again, &second, &err) < 0 || first.len != second.len ||
	    (first.len && memcmp(first.data, second.data, first.len) != 0))
		abort();
	cpx_state_free(s);
	cpx_state_free(again);
	cpx_buf_free(&first);
	cpx_buf_free(&second);
	cpx_buf_free(&text);
	return 0;
}
