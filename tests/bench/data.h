/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * data.h - memory content for the bench: "mix" shrinks to about 1/2.4 under lz4, "random" does
 * not shrink. No page is zero and no two are alike. The same for the same seed.
 */
#ifndef BENCH_DATA_H
#define BENCH_DATA_H

#include <stddef.h>
#include <stdint.h>

enum bench_kind { BENCH_MIX, BENCH_RANDOM };

/* Fill @len bytes, a multiple of 4096. */
void bench_fill(void *p, size_t len, uint64_t seed, enum bench_kind kind);

/* "mix" or "random". Return: -1 when it is neither. */
int bench_kind_of(const char *name);

/* "4G", "512M", "64K", "100". Return: bytes; 0 when it is no size. */
uint64_t bench_size_of(const char *text);

#endif
