/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "codec.h"

#include <lz4.h>
#include <lz4hc.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "../chpox/base/err.h"
#include "image.h"

#define ZLIB_DEFAULT \
	1 /* checkpoints want speed: 1 gets most of what 6 does at three times its rate */
#define CODEC_BLOCK_MAX (1u << 30)

int cpx_codec_parse(const char *name, enum cpx_codec *out)
{
	static const struct {
		const char *name;
		enum cpx_codec codec;
	} names[] = { { "none", CPX_CODEC_NONE },
		      { "lz4", CPX_CODEC_LZ4 },
		      { "zlib", CPX_CODEC_ZLIB },
		      { "auto", CPX_CODEC_AUTO } };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i].name)) {
			*out = names[i].codec;
			return 0;
		}
	return CPX_E_INVAL;
}

struct cpx_codec_ctx {
	int codec, level;
	void *lz4;
	z_stream z;
	bool z_open;
};

static int open_lz4(struct cpx_codec_ctx *c)
{
	size_t n = c->level > 1 ? (size_t)LZ4_sizeofStateHC() : (size_t)LZ4_sizeofState();

	c->lz4 = malloc(n);
	return c->lz4 ? 0 : -1;
}

static int open_zlib(struct cpx_codec_ctx *c)
{
	c->z_open = deflateInit(&c->z, c->level ? c->level : ZLIB_DEFAULT) == Z_OK;
	return c->z_open ? 0 : -1;
}

int cpx_codec_new(int codec, int level, struct cpx_codec_ctx **out, struct cpx_err *err)
{
	const int max = codec == CPX_CODEC_LZ4 ? LZ4HC_CLEVEL_MAX : 9;
	struct cpx_codec_ctx *c;
	int rc = 0;

	if (codec < CPX_CODEC_NONE || codec > CPX_CODEC_ZLIB)
		return cpx_err_set(err, CPX_E_INVAL, "codec %d is unknown", codec);
	if (level < 0 || level > max)
		return cpx_err_set(err, CPX_E_INVAL, "compression level %d: 0 to %d can be had",
				   level, max);
	c = calloc(1, sizeof(*c));
	if (c) {
		c->codec = codec;
		c->level = level;
		if (codec == CPX_CODEC_LZ4)
			rc = open_lz4(c);
		else if (codec == CPX_CODEC_ZLIB)
			rc = open_zlib(c);
	}
	if (!c || rc < 0) {
		cpx_codec_free(c);
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for the compressor");
	}
	*out = c;
	return 0;
}

void cpx_codec_free(struct cpx_codec_ctx *c)
{
	if (!c)
		return;
	if (c->z_open)
		deflateEnd(&c->z);
	free(c->lz4);
	free(c);
}

static size_t pack_zlib(struct cpx_codec_ctx *c, const void *in, size_t n, void *out)
{
	if (deflateReset(&c->z) != Z_OK)
		return 0;
	c->z.next_in = (Bytef *)in;
	c->z.avail_in = (uInt)n;
	c->z.next_out = out;
	c->z.avail_out = (uInt)n - 1;
	return deflate(&c->z, Z_FINISH) == Z_STREAM_END ? c->z.total_out : 0;
}

size_t cpx_codec_pack(struct cpx_codec_ctx *c, const void *in, size_t n, void *out)
{
	int len = 0;

	if (n < 2 || n > CODEC_BLOCK_MAX)
		return 0;
	switch (c->codec) {
	case CPX_CODEC_LZ4:
		if (c->level > 1)
			len = LZ4_compress_HC_extStateHC(c->lz4, in, out, (int)n, (int)n - 1,
							 c->level);
		else
			len = LZ4_compress_fast_extState(c->lz4, in, out, (int)n, (int)n - 1,
							 1);
		return len > 0 ? (size_t)len : 0;
	case CPX_CODEC_ZLIB:
		return pack_zlib(c, in, n, out);
	default:
		return 0;
	}
}

int cpx_codec_unpack(int codec, const void *in, size_t n, void *out, size_t raw)
{
	uLongf got = raw;
	int rc;

	if (n > CODEC_BLOCK_MAX || raw > CODEC_BLOCK_MAX)
		return CPX_E_FORMAT;
	switch (codec) {
	case CPX_CODEC_NONE:
		if (n != raw)
			return CPX_E_FORMAT;
		if (n)
			memcpy(out, in, n);
		return 0;
	case CPX_CODEC_LZ4:
		return LZ4_decompress_safe(in, out, (int)n, (int)raw) == (int)raw
			       ? 0
			       : CPX_E_FORMAT;
	case CPX_CODEC_ZLIB:
		rc = uncompress(out, &got, in, n);
		if (rc == Z_MEM_ERROR)
			return CPX_E_NOMEM;
		return rc == Z_OK && got == raw ? 0 : CPX_E_FORMAT;
	default:
		return CPX_E_FORMAT;
	}
}
