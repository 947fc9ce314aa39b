/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rst_spawn.h - the empty child that becomes the root process (restore.c). */
#ifndef CPX_RST_SPAWN_H
#define CPX_RST_SPAWN_H

#include <sys/types.h>

struct cpx_err;
struct cpx_rst;

/* By opts->spawn or as our own child. Return: its PID here, or an error. */
pid_t cpx_rst_spawn(struct cpx_rst *r, struct cpx_err *err);

#endif
