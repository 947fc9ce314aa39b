/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * container.h - one generation as one file (docs/image-format.md §7), for export and import.
 *
 * head, then sections { u32 kind, u32 0, u64 length, bytes }: the manifest; each pack that it
 * refers to, in its order; each code object that its file records name, ascending; the end,
 * whose bytes are the digest of all before. So the manifest says what must follow, and there is
 * one right way to write a generation.
 */
#ifndef CPX_STORE_CONTAINER_H
#define CPX_STORE_CONTAINER_H

#include <stddef.h>
#include <stdint.h>

struct cpx_err;
struct cpx_state;

#define CPX_CONTAINER_MAGIC "chpoxEX1"
#define CPX_CONTAINER_VERSION 1u
#define CPX_CONTAINER_HEAD 16u
#define CPX_SECTION_HEAD 16u
#define CPX_CODE_SIZE_MAX (4ull << 30)
#define CPX_CODE_OBJECTS_MAX 65536u

enum cpx_section_kind {
	CPX_SECTION_MANIFEST = 1,
	CPX_SECTION_PACK = 2,
	CPX_SECTION_CODE = 3, /* 32 bytes SHA-256, then the file */
	CPX_SECTION_END = 4,
};

/*
 * The code objects that the file records of @st name, each once, ascending.
 * Return: their number; *@out is malloc'ed.
 */
int cpx_container_code(const struct cpx_state *st, uint8_t (**out)[32], struct cpx_err *err);

#endif
