/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * codec.h - compressing one block. A context is used by one thread at a time; contexts
 * are made on first use and kept.
 */
#ifndef CPX_STORE_CODEC_H
#define CPX_STORE_CODEC_H

#include <stddef.h>
#include <stdint.h>

struct cpx_codec_ctx;
struct cpx_err;

/* @codec: enum cpx_codec; @level 0: the default (lz4: 1 = fast, zlib: 1). */
int cpx_codec_new(int codec, int level, struct cpx_codec_ctx **out, struct cpx_err *err);
void cpx_codec_free(struct cpx_codec_ctx *c);

/*
 * Compress @n bytes to @out, which has room for @n - 1.
 * Return: the length, < @n; or 0: it does not shrink, store it as it is.
 */
size_t cpx_codec_pack(struct cpx_codec_ctx *c, const void *in, size_t n, void *out);

/* Undo: exactly @raw bytes must come out. Return: 0, CPX_E_FORMAT or CPX_E_NOMEM. */
int cpx_codec_unpack(int codec, const void *in, size_t n, void *out, size_t raw);

#endif
