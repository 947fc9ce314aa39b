/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rst_mem.h - what the conductor needs of the memory family before anything is created. */
#ifndef CPX_RST_MEM_H
#define CPX_RST_MEM_H

struct cpx_err;
struct cpx_rst;

/* Set r->home_page and home_size: a hole that is free in every address space of the image. */
int cpx_rst_mem_pick_home(struct cpx_rst *r, struct cpx_err *err);

#endif
