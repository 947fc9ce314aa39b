/* SPDX-License-Identifier: GPL-2.0-or-later */
/* elf_id.h - the build id that the linker left in a program or library. */
#ifndef CPX_BASE_ELF_ID_H
#define CPX_BASE_ELF_ID_H

#include <stddef.h>
#include <stdint.h>

#define CPX_BUILD_ID_MAX 64

/*
 * cpx_elf_build_id() - read the GNU build id of the file open at @fd, trusting nothing in it.
 * Return: its length, 0 where there is none (or the file is no 64-bit ELF file, or is damaged).
 */
size_t cpx_elf_build_id(int fd, uint8_t id[CPX_BUILD_ID_MAX]);

#endif
