/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * codec_auto.h - which codec gets a generation into the store first.
 *
 * Codecs are tried on blocks of the job's own memory; the store is timed while it is written
 * to. Compressing and writing go on side by side, so a codec takes as long as the slower of the
 * two: a slow store is worth a codec that shrinks more, a fast one a codec that is quick.
 */
#ifndef CPX_STORE_CODEC_AUTO_H
#define CPX_STORE_CODEC_AUTO_H

#include <stddef.h>
#include <stdint.h>

#include "image.h"

struct cpx_codec_ctx;

#define CPX_CODECS 3 /* none, lz4, zlib */

/* What was measured; all zero: nothing. */
struct cpx_codec_rates {
	struct {
		uint64_t raw, stored; /* bytes */
		int64_t ns;
	} of[CPX_CODECS];
	struct cpx_store_speed store;
};

/* Try all of @ctx on @n bytes at @raw; @out has room for @n. */
void cpx_codec_try(struct cpx_codec_rates *r, struct cpx_codec_ctx *const ctx[CPX_CODECS],
		   const void *raw, size_t n, void *out);

/* Pure. @workers compress at a time. lz4 as long as too little is known. */
enum cpx_codec cpx_codec_choose(const struct cpx_codec_rates *r, unsigned workers);

#endif
