/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * err.h - how a function says what went wrong.
 *
 * Functions return an int: >= 0 is success, < 0 one of CPX_E_*. A struct cpx_err
 * of fixed size lives on the caller's stack and comes last; it may be NULL. It is
 * set where the failure happens, wrapped where context is known, and printed
 * once, in main or the event loop. Outputs are written only on success.
 */
#ifndef CPX_BASE_ERR_H
#define CPX_BASE_ERR_H

#include <stdarg.h>

enum cpx_errcode {
	CPX_OK = 0,
	CPX_E_NOMEM = -1,	/* out of memory */
	CPX_E_IO = -2,		/* a read, write, fsync or rename failed */
	CPX_E_LIMIT = -3,	/* a named limit is exceeded */
	CPX_E_FORMAT = -4,	/* bytes from outside make no sense */
	CPX_E_CHECKSUM = -5,	/* bytes from outside were changed */
	CPX_E_NOENT = -6,	/* no such job, generation, process, file */
	CPX_E_EXIST = -7,	/* there is one already */
	CPX_E_PERM = -8,	/* not allowed */
	CPX_E_UNSUPPORTED = -9, /* a kind of state or a feature that cannot be had */
	CPX_E_BUSY = -10,	/* try again later */
	CPX_E_TIMEOUT = -11,
	CPX_E_GONE = -12,     /* the target exited, exec'ed or was killed meanwhile */
	CPX_E_INVAL = -13,    /* a bad argument from the user */
	CPX_E_CONFLICT = -14, /* compare-and-swap lost */
	CPX_E_SYS = -15,      /* any other system call failed */
	CPX_E_NOSPC = -16,    /* disk or quota full */
};

struct cpx_err {
	int code; /* enum cpx_errcode */
	int sys;  /* errno behind it, or 0 */
	char msg[504];
};

/* Set @err; a message for people, without newline. Return: @code. */
int cpx_err_set(struct cpx_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Set @err from errno value @sys; ": strerror" is added. Return: the code that fits @sys. */
int cpx_err_sys(struct cpx_err *err, int sys, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "fmt: " before the message. Return: err->code (CPX_E_SYS where @err is NULL). */
int cpx_err_wrap(struct cpx_err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* One or two words for @code. Never NULL. */
const char *cpx_err_name(int code);

#endif
