/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cpx_log_level = 1;
static const char *name = "chpox";

void cpx_log_init(const char *program)
{
	const char *s = getenv("CHPOX_LOG");

	name = program;
	if (s && s[0] >= '0' && s[0] <= '2' && !s[1])
		cpx_log_level = s[0] - '0';
}

static void line(const char *fmt, va_list ap)
{
	char buf[1024];
	int n = snprintf(buf, sizeof(buf) - 1, "%s: ", name);
	int m = vsnprintf(buf + n, sizeof(buf) - 1 - (size_t)n, fmt, ap);
	size_t len = (size_t)n + (size_t)(m < 0 ? 0 : m);

	if (len > sizeof(buf) - 2)
		len = sizeof(buf) - 2;
	buf[len++] = '\n';
	if (write(STDERR_FILENO, buf, len) < 0)
		return;
}

#define DEFINE_LOG(fn, level)                \
	void fn(const char *fmt, ...)        \
	{                                    \
		va_list ap;                  \
                                             \
		if (cpx_log_level < (level)) \
			return;              \
		va_start(ap, fmt);           \
		line(fmt, ap);               \
		va_end(ap);                  \
	}

DEFINE_LOG(cpx_log_error, 0)
DEFINE_LOG(cpx_log_note, 1)
DEFINE_LOG(cpx_log_debug, 2)
