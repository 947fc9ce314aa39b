/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * buf.h - growing byte buffers, and reading bytes that come from outside.
 *
 * All numbers are little-endian. A writer that ran out of memory or over its
 * limit stays failed (buf->failed), so a caller may check once at the end. A
 * reader that was asked for more than is there stays failed and yields zeros.
 */
#ifndef CPX_BASE_BUF_H
#define CPX_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpx_buf {
	uint8_t *data; /* owned; free with cpx_buf_free() */
	size_t len, cap;
	bool failed;
};

void cpx_buf_free(struct cpx_buf *b);
void cpx_buf_put(struct cpx_buf *b, const void *p, size_t n);
void cpx_buf_u8(struct cpx_buf *b, uint8_t v);
void cpx_buf_u16(struct cpx_buf *b, uint16_t v);
void cpx_buf_u32(struct cpx_buf *b, uint32_t v);
void cpx_buf_u64(struct cpx_buf *b, uint64_t v);
/* Make room for @n bytes at the end and count them in. Return: where, or NULL. */
void *cpx_buf_room(struct cpx_buf *b, size_t n);

struct cpx_rd {
	const uint8_t *p, *end;
	bool failed;
};

struct cpx_rd cpx_rd_init(const void *p, size_t n);
uint8_t cpx_rd_u8(struct cpx_rd *r);
uint16_t cpx_rd_u16(struct cpx_rd *r);
uint32_t cpx_rd_u32(struct cpx_rd *r);
uint64_t cpx_rd_u64(struct cpx_rd *r);
/* @n bytes in place, borrowed from the input; NULL (and failed) if there are fewer. */
const void *cpx_rd_bytes(struct cpx_rd *r, size_t n);
size_t cpx_rd_left(const struct cpx_rd *r);

#endif
