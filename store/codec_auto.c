/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "codec_auto.h"

#include "../chpox/base/clock.h"
#include "codec.h"

/* Of less it is the fixed costs of a file that would be measured. */
#define STORE_BYTES_MIN (4u << 20)
/* By how much another codec must be quicker than lz4 to be taken. */
#define BETTER 0.9

void cpx_codec_try(struct cpx_codec_rates *r, struct cpx_codec_ctx *const ctx[CPX_CODECS],
		   const void *raw, size_t n, void *out)
{
	for (int c = 0; c < CPX_CODECS; c++) {
		int64_t start = cpx_mono_ns();
		size_t len = cpx_codec_pack(ctx[c], raw, n, out);

		r->of[c].ns += c == CPX_CODEC_NONE ? 0 : cpx_mono_ns() - start;
		r->of[c].raw += n;
		r->of[c].stored += len ? len : n;
	}
}

/* ns for a byte of memory. */
static double takes(const struct cpx_codec_rates *r, int c, unsigned workers)
{
	double raw = (double)r->of[c].raw;
	double squeeze = (double)r->of[c].ns / raw / workers;
	double write =
		(double)r->of[c].stored / raw * (double)r->store.ns / (double)r->store.bytes;

	return squeeze > write ? squeeze : write;
}

enum cpx_codec cpx_codec_choose(const struct cpx_codec_rates *r, unsigned workers)
{
	int best = CPX_CODEC_LZ4;
	double least;

	if (r->store.bytes < STORE_BYTES_MIN || r->store.ns <= 0 || !r->of[best].raw)
		return CPX_CODEC_LZ4;
	workers = workers ? workers : 1;
	least = takes(r, best, workers) * BETTER;
	for (int c = 0; c < CPX_CODECS; c++) {
		double t = takes(r, c, workers);

		if (c != CPX_CODEC_LZ4 && t < least) {
			best = c;
			least = t;
		}
	}
	return (enum cpx_codec)best;
}
