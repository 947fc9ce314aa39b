/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of clients and keepers, and records of the registry, from any bytes: nothing but an
 * error or something that is the same again after a round.
 */
#include <stdlib.h>
#include <string.h>

#include "../../scheduler/live.h"
#include "../../scheduler/proto.h"
#include "../../scheduler/registry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_message(json_t *m)
{
	struct cpx_reg_job job, again;
	char **argv = cpx_proto_unstrv(json_object_get(m, "argv"), 1000);
	char *cwd = cpx_proto_unbytes(json_object_get(m, "cwd"));
	json_t *back;

	if (argv) {
		back = cpx_proto_strv(argv);
		if (!json_equal(back, json_object_get(m, "argv")))
			abort();
		json_decref(back);
	}
	cpx_proto_strv_free(argv);
	free(cwd);
	cpx_proto_result(m, NULL);
	if (cpx_reg_decode(m, &job, NULL) < 0)
		return;
	back = cpx_reg_encode(&job);
	if (!back || cpx_reg_decode(back, &again, NULL) < 0 ||
	    memcmp(&job, &again, sizeof(job)))
		abort();
	json_decref(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpx_proto_in in = { 0 };
	json_t *m;

	/* as a stream in two pieces, then as one message */
	if (cpx_proto_push(&in, data, size / 2, NULL) >= 0) {
		while (cpx_proto_next(&in, &m, NULL) == 1) {
			try_message(m);
			json_decref(m);
		}
		if (cpx_proto_push(&in, data + size / 2, size - size / 2, NULL) >= 0)
			while (cpx_proto_next(&in, &m, NULL) == 1) {
				try_message(m);
				json_decref(m);
			}
	}
	cpx_proto_in_free(&in);
	if (cpx_proto_decode(data, size, &m, NULL) == 0) {
		try_message(m);
		json_decref(m);
	}
	if (size < 4096) {
		char text[4097], state;
		uint64_t start;

		memcpy(text, data, size);
		text[size] = 0;
		cpx_live_parse(text, &state, &start);
	}
	return 0;
}
