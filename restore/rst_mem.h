/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rst_mem.h - what the conductor needs of the memory family before anything is created. */
#ifndef CPX_RST_MEM_H
#define CPX_RST_MEM_H

#include <stdint.h>

struct cpx_err;
struct cpx_rst;

/* Set r->home_page and home_size: a hole that is free in every address space of the image. */
int cpx_rst_mem_pick_home(struct cpx_rst *r, struct cpx_err *err);

/*
 * Compare the memory of all processes with the image, but for what the kernel writes there
 * itself (rseq). Before they run. @bytes: how much was compared.
 */
int cpx_rst_mem_compare(struct cpx_rst *r, uint64_t *bytes, struct cpx_err *err);

#endif
