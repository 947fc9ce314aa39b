/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * known.h - which pages of a space still have the content they had in the generation before.
 *
 * The way where the kernel notes no writes, and for shared memory, which may be written
 * without a mapping. 96 bits of XXH3 a page, 4 MiB a GiB, in a memfd, so that a table goes from
 * one process to the next as a descriptor. CPX_KNOWN_MAX bounds it: pages beyond that are never
 * found the same. One thread at a time.
 */
#ifndef CPX_KNOWN_H
#define CPX_KNOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpx_err;
struct cpx_known;

#define CPX_KNOWN_MAX (256u << 20) /* bytes: 64 GiB of dense memory */

/* @max: bytes, 0 for CPX_KNOWN_MAX. Return: 0, CPX_E_NOMEM or CPX_E_SYS. */
int cpx_known_new(size_t max, struct cpx_known **out, struct cpx_err *err);
void cpx_known_free(struct cpx_known *k);

/*
 * Hand over: the descriptor (borrowed), and a table made of it. Attach takes @fd, also on
 * failure; CPX_E_FORMAT if it is no table.
 */
int cpx_known_fd(const struct cpx_known *k);
int cpx_known_attach(int fd, struct cpx_known **out, struct cpx_err *err);

/* A new generation: what is looked at from now on is compared with what was since the last. */
void cpx_known_begin(struct cpx_known *k);

/*
 * cpx_known_same() - does the page at @off have the content it had in the generation before?
 * What it has is remembered for the next one. A page that was not looked at then, or has been
 * looked at already in this one, is not the same.
 */
bool cpx_known_same(struct cpx_known *k, uint64_t off, const void *page);

/* Bytes of memory in use. */
size_t cpx_known_bytes(const struct cpx_known *k);

#endif
