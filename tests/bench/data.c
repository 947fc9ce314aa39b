/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "data.h"

#include <stdlib.h>
#include <string.h>

#define PAGE 4096
/* Per sequence: new bytes, then bytes that were in this page before. */
#define FRESH 8
#define AGAIN 26

static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s * 0x2545f4914f6cdd1dull;
}

static void fill_random(uint8_t *p, uint64_t *s)
{
	for (size_t at = 0; at < PAGE; at += 8) {
		uint64_t v = next(s);

		memcpy(p + at, &v, 8);
	}
}

/* A start of 64 new bytes, then FRESH new ones and AGAIN repeated ones in turn. */
static void fill_mix(uint8_t *p, uint64_t *s)
{
	size_t at = 0;

	for (; at < 64; at += 8) {
		uint64_t v = next(s);

		memcpy(p + at, &v, 8);
	}
	while (at + FRESH + AGAIN <= PAGE) {
		uint64_t v = next(s);
		size_t from = (size_t)(next(s) % (at - AGAIN));

		memcpy(p + at, &v, FRESH);
		memcpy(p + at + FRESH, p + from, AGAIN);
		at += FRESH + AGAIN;
	}
	memset(p + at, 0x5a, PAGE - at);
}

void bench_fill(void *p, size_t len, uint64_t seed, enum bench_kind kind)
{
	uint64_t s = seed * 0x9e3779b97f4a7c15ull + 88172645463325252ull;

	for (size_t at = 0; at < len; at += PAGE) {
		if (kind == BENCH_RANDOM)
			fill_random((uint8_t *)p + at, &s);
		else
			fill_mix((uint8_t *)p + at, &s);
	}
}

int bench_kind_of(const char *name)
{
	return strcmp(name, "mix") == 0	     ? BENCH_MIX
	       : strcmp(name, "random") == 0 ? BENCH_RANDOM
					     : -1;
}

uint64_t bench_size_of(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	switch (*end) {
	case 'G':
		return n << 30;
	case 'M':
		return n << 20;
	case 'K':
		return n << 10;
	case '\0':
		return n;
	}
	return 0;
}
