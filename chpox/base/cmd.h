/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cmd.h - commands and options from tables, and the help made from the same tables.
 *
 * A program is a list of commands; a command has a list of options and wants a number
 * of arguments. cpx_cmd_main() finds the command, parses strictly (unknown, repeated or
 * missing things are errors with the hint where to look), runs it, and prints its error
 * on one line. Values are strings of argv, borrowed; the cpx_parse_* functions turn
 * them into numbers.
 *
 * Exit status: what the command returned (>= 0), 1 when it failed, 2 for wrong usage.
 */
#ifndef CPX_BASE_CMD_H
#define CPX_BASE_CMD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_err;

#define CPX_CMD_OPTS 16 /* options a command has at most */

struct cpx_opt {
	const char *name; /* without dashes; NULL ends the list */
	char letter;	  /* short form, or 0 */
	const char *arg;  /* what the value is called in the help; NULL: a flag */
	const char *help;
};

struct cpx_args {
	const struct cpx_cmd *cmd;
	const char *value[CPX_CMD_OPTS]; /* by index in cmd->opts; "" for a flag given; NULL */
	int npos;
	char **pos; /* arguments, NULL-terminated */
	void *ctx;  /* the program's own */
};

struct cpx_cmd {
	const char *name; /* NULL ends the list */
	const char *synopsis;
	const char *help;	    /* one line */
	const struct cpx_opt *opts; /* NULL: none */
	int min, max;		    /* arguments wanted; max -1: any number */
	bool tail; /* options end at the first argument: it and the rest are a command */
	int (*run)(const struct cpx_args *a, struct cpx_err *err);
};

struct cpx_prog {
	const char *name, *summary;
	const struct cpx_cmd *cmds;
	const struct cpx_opt *opts; /* before the command; NULL: none */
	/* takes the global options; may be NULL. Return: 0 or CPX_E_* */
	int (*setup)(const struct cpx_args *a, struct cpx_err *err);
	void *ctx;
};

int cpx_cmd_main(const struct cpx_prog *prog, int argc, char **argv);

/* The value of option @name ("" for a flag), NULL when it was not given. */
const char *cpx_arg(const struct cpx_args *a, const char *name);
static inline bool cpx_arg_given(const struct cpx_args *a, const char *name)
{
	return cpx_arg(a, name) != 0;
}

/* Strict numbers. @what names the thing in the message. Return: 0 or CPX_E_INVAL. */
int cpx_parse_u64(const char *s, const char *what, uint64_t max, uint64_t *out,
		  struct cpx_err *err);
int cpx_parse_pid(const char *s, pid_t *out, struct cpx_err *err);
/* 500ms, 5s, 2m, 1h, 1d, 1.5s; a bare number is seconds. At most a year, more than zero. */
int cpx_parse_duration(const char *s, const char *what, int64_t *out_ns, struct cpx_err *err);
/* 4096, 500K, 10M, 1.5G: powers of 1024; at least 1. */
int cpx_parse_bytes(const char *s, const char *what, uint64_t *out, struct cpx_err *err);
/* TERM, SIGTERM or 15. */
int cpx_parse_signal(const char *s, int *out, struct cpx_err *err);

#endif
