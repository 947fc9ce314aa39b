/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "buf.h"

#include <stdlib.h>
#include <string.h>

#define BUF_MAX ((size_t)1 << 32)

void cpx_buf_free(struct cpx_buf *b)
{
	if (!b)
		return;
	free(b->data);
	memset(b, 0, sizeof(*b));
}

void *cpx_buf_room(struct cpx_buf *b, size_t n)
{
	if (b->failed || n > BUF_MAX - b->len) {
		b->failed = true;
		return NULL;
	}
	if (b->len + n > b->cap) {
		size_t cap = b->cap ? b->cap : 256;
		void *p;

		while (cap < b->len + n)
			cap *= 2;
		p = realloc(b->data, cap);
		if (!p) {
			b->failed = true;
			return NULL;
		}
		b->data = p;
		b->cap = cap;
	}
	b->len += n;
	return b->data + b->len - n;
}

void cpx_buf_put(struct cpx_buf *b, const void *p, size_t n)
{
	void *to = cpx_buf_room(b, n);

	if (to && n)
		memcpy(to, p, n);
}

static void put_le(struct cpx_buf *b, uint64_t v, size_t n)
{
	uint8_t *to = cpx_buf_room(b, n);

	for (size_t i = 0; to && i < n; i++)
		to[i] = (uint8_t)(v >> (8 * i));
}

void cpx_buf_u8(struct cpx_buf *b, uint8_t v)
{
	put_le(b, v, 1);
}

void cpx_buf_u16(struct cpx_buf *b, uint16_t v)
{
	put_le(b, v, 2);
}

void cpx_buf_u32(struct cpx_buf *b, uint32_t v)
{
	put_le(b, v, 4);
}

void cpx_buf_u64(struct cpx_buf *b, uint64_t v)
{
	put_le(b, v, 8);
}

struct cpx_rd cpx_rd_init(const void *p, size_t n)
{
	static const uint8_t nothing[1];

	if (n == 0) /* NULL is a valid empty input, but not one to count from */
		p = nothing;
	return (struct cpx_rd){ .p = p, .end = (const uint8_t *)p + n };
}

const void *cpx_rd_bytes(struct cpx_rd *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->failed || (size_t)(r->end - r->p) < n) {
		r->failed = true;
		return NULL;
	}
	r->p += n;
	return p;
}

static uint64_t get_le(struct cpx_rd *r, size_t n)
{
	const uint8_t *p = cpx_rd_bytes(r, n);
	uint64_t v = 0;

	for (size_t i = 0; p && i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint8_t cpx_rd_u8(struct cpx_rd *r)
{
	return (uint8_t)get_le(r, 1);
}

uint16_t cpx_rd_u16(struct cpx_rd *r)
{
	return (uint16_t)get_le(r, 2);
}

uint32_t cpx_rd_u32(struct cpx_rd *r)
{
	return (uint32_t)get_le(r, 4);
}

uint64_t cpx_rd_u64(struct cpx_rd *r)
{
	return get_le(r, 8);
}

size_t cpx_rd_left(const struct cpx_rd *r)
{
	return r->failed ? 0 : (size_t)(r->end - r->p);
}
