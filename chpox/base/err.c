/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int code_of(int sys)
{
	switch (sys) {
	case ENOMEM:
		return CPX_E_NOMEM;
	case EIO:
		return CPX_E_IO;
	case ENOSPC:
	case EDQUOT:
		return CPX_E_NOSPC;
	case ENOENT:
		return CPX_E_NOENT;
	case ESRCH:
		return CPX_E_GONE;
	case EEXIST:
		return CPX_E_EXIST;
	case EPERM:
	case EACCES:
		return CPX_E_PERM;
	case EBUSY:
	case EAGAIN:
		return CPX_E_BUSY;
	case ETIMEDOUT:
		return CPX_E_TIMEOUT;
	default:
		return CPX_E_SYS;
	}
}

int cpx_err_set(struct cpx_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	err->sys = 0;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	return code;
}

int cpx_err_sys(struct cpx_err *err, int sys, const char *fmt, ...)
{
	int code = code_of(sys);
	va_list ap;
	size_t n;

	if (!err)
		return code;
	err->code = code;
	err->sys = sys;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	n = strlen(err->msg);
	snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerror(sys));
	return code;
}

int cpx_err_wrap(struct cpx_err *err, const char *fmt, ...)
{
	char old[sizeof(err->msg)];
	va_list ap;
	size_t n;

	if (!err)
		return CPX_E_SYS;
	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	n = strlen(err->msg);
	snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", old);
	return err->code;
}

const char *cpx_err_name(int code)
{
	static const char *const names[] = {
		"ok",		"out of memory", "I/O error", "limit",	       "bad format",
		"bad checksum", "not found",	 "exists",    "not permitted", "unsupported",
		"busy",		"timed out",	 "gone",      "bad argument",  "conflict",
		"system error", "no space",
	};

	if (code > 0 || -code >= (int)(sizeof(names) / sizeof(names[0])))
		return "unknown error";
	return names[-code];
}
