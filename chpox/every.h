/* SPDX-License-Identifier: GPL-2.0-or-later */
/* every.h - the value of --every: DUR, never, auto, auto:MIN..MAX. Pure. */
#ifndef CPX_EVERY_H
#define CPX_EVERY_H

#include <stdint.h>

struct cpx_err;

#define CPX_EVERY_NEVER 0
#define CPX_EVERY_AUTO (-1)

struct cpx_every {
	int64_t ns;		/* or CPX_EVERY_* */
	int64_t min_ns, max_ns; /* of auto; 0: not given */
};

/* Either bound may be left out. Return: 0 or CPX_E_INVAL. */
int cpx_parse_every(const char *s, struct cpx_every *out, struct cpx_err *err);

#endif
