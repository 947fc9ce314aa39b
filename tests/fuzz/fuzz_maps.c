/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as /proc/PID/maps or smaps: parsed into ordered mappings, or refused. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../chpox/base/err.h"
#include "../../chpox/proc_maps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpx_maps maps = { 0 };
	char *text = malloc(size + 1);
	uint64_t last = 0;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	if (cpx_maps_parse(text, size, &maps, NULL) < 0) {
		if (maps.v || maps.n || maps.text)
			abort();
		return 0;
	}
	for (size_t i = 0; i < maps.n; i++) {
		const struct cpx_map *m = &maps.v[i];

		if (m->start >= m->end || m->start < last || m->start % 4096 || m->end % 4096)
			abort();
		if (cpx_maps_at(&maps, m->start) != m || strlen(m->name) > size)
			abort();
		last = m->end;
	}
	cpx_maps_free(&maps);
	return 0;
}
