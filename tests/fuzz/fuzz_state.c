/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Record lists: what decodes encodes again to something that decodes to the same. */
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "chpox/base/buf.h"
#include "store/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpx_buf a = { 0 }, b = { 0 }, text = { 0 };
	struct cpx_state *s, *t;
	json_t *j;

	if (cpx_state_decode(data, size, &s, NULL) < 0)
		return 0;
	cpx_state_print(s, &text);
	text.len = 0;
	cpx_state_print_json(s, &text);
	j = json_loadb((const char *)text.data, text.len, 0, NULL);
	if (!j)
		abort();
	json_decref(j);
	if (cpx_state_encode(s, &a, NULL) == 0) {
		if (cpx_state_decode(a.data, a.len, &t, NULL) < 0)
			abort();
		if (cpx_state_encode(t, &b, NULL) < 0 || a.len != b.len ||
		    (a.len && memcmp(a.data, b.data, a.len) != 0))
			abort();
		cpx_state_free(t);
	}
	cpx_state_free(s);
	cpx_buf_free(&a);
	cpx_buf_free(&b);
	cpx_buf_free(&text);
	return 0;
}
