/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "every.h"

#include <stdio.h>
#include <string.h>

#include "base/cmd.h"
#include "base/err.h"

#define DURATION_MAX 32

static int bound(const char *s, size_t n, const char *what, int64_t *out, struct cpx_err *err)
{
	char text[DURATION_MAX];

	if (n == 0)
		return 0;
	snprintf(text, sizeof(text), "%.*s", n < sizeof(text) ? (int)n : DURATION_MAX - 1, s);
	return cpx_parse_duration(text, what, out, err);
}

int cpx_parse_every(const char *s, struct cpx_every *out, struct cpx_err *err)
{
	struct cpx_every e = { .ns = CPX_EVERY_AUTO };
	const char *dots = strstr(s, "..");
	int r = 0;

	if (!strcmp(s, "never")) {
		e.ns = CPX_EVERY_NEVER;
	} else if (!strncmp(s, "auto:", 5)) {
		s += 5;
		if (!dots)
			return cpx_err_set(err, CPX_E_INVAL,
					   "'auto:%s' has no bounds; auto:1m..30m has", s);
		r = bound(s, (size_t)(dots - s), "least interval", &e.min_ns, err);
		if (r >= 0)
			r = bound(dots + 2, strlen(dots + 2), "greatest interval", &e.max_ns,
				  err);
	} else if (strcmp(s, "auto")) {
		r = cpx_parse_duration(s, "interval", &e.ns, err);
	}
	if (r < 0)
		return r;
	if (e.min_ns && e.max_ns && e.min_ns > e.max_ns)
		return cpx_err_set(err, CPX_E_INVAL,
				   "'auto:%s': the least interval is the greater one", s);
	*out = e;
	return 0;
}
