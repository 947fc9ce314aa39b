/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "err.h"
#include "log.h"

#define YEAR_NS (366LL * 86400 * 1000000000)

static int opt_index(const struct cpx_opt *opts, const char *name, size_t len)
{
	for (int i = 0; opts && opts[i].name; i++)
		if (!strncmp(opts[i].name, name, len) && !opts[i].name[len])
			return i;
	return -1;
}

static int opt_letter(const struct cpx_opt *opts, char c)
{
	for (int i = 0; opts && opts[i].name; i++)
		if (c && opts[i].letter == c)
			return i;
	return -1;
}

const char *cpx_arg(const struct cpx_args *a, const char *name)
{
	int i = opt_index(a->cmd->opts, name, strlen(name));

	return i < 0 ? NULL : a->value[i];
}

/* One option at argv[*i]; moves *i past its value. */
static int take_option(const struct cpx_opt *opts, struct cpx_args *a, char **argv, int *i,
		       struct cpx_err *err)
{
	const char *s = argv[*i], *eq = NULL, *value = NULL;
	int k;

	if (s[1] == '-') {
		eq = strchr(s, '=');
		k = opt_index(opts, s + 2, eq ? (size_t)(eq - s - 2) : strlen(s + 2));
		value = eq ? eq + 1 : NULL;
	} else {
		k = opt_letter(opts, s[1]);
		value = s[1] && s[2] ? s + 2 : NULL;
	}
	if (k < 0)
		return cpx_err_set(err, CPX_E_INVAL, "unknown option '%s'", s);
	if (a->value[k])
		return cpx_err_set(err, CPX_E_INVAL, "option --%s given twice", opts[k].name);
	if (!opts[k].arg) {
		if (value)
			return cpx_err_set(err, CPX_E_INVAL, "option --%s takes no value",
					   opts[k].name);
		a->value[k] = "";
		return 0;
	}
	if (!value)
		value = argv[++*i];
	if (!value || !*value)
		return cpx_err_set(err, CPX_E_INVAL, "option --%s needs a value (%s)",
				   opts[k].name, opts[k].arg);
	a->value[k] = value;
	return 0;
}

/*
 * Options and arguments from argv[@i]; arguments are moved to the front of argv.
 * Return: 0, 1 when --help was asked for, or CPX_E_INVAL.
 */
static int parse(const struct cpx_cmd *c, struct cpx_args *a, char **argv, struct cpx_err *err)
{
	int n = 0;
	bool plain = false;

	a->pos = argv;
	for (int i = 0; argv[i]; i++) {
		char *s = argv[i];

		if (plain || s[0] != '-' || !s[1]) {
			argv[n++] = s;
			plain |= c->tail;
		} else if (!strcmp(s, "--")) {
			plain = true;
		} else if (!strcmp(s, "--help") || !strcmp(s, "-h")) {
			return 1;
		} else {
			int r = take_option(c->opts, a, argv, &i, err);

			if (r < 0)
				return r;
			if (!argv[i])
				break;
		}
	}
	argv[n] = NULL;
	a->npos = n;
	if (n < c->min)
		return cpx_err_set(err, CPX_E_INVAL, "something is missing; usage: %s %s",
				   c->name, c->synopsis);
	if (c->max >= 0 && n > c->max)
		return cpx_err_set(err, CPX_E_INVAL,
				   "'%s' is one argument too many; usage: %s %s", argv[c->max],
				   c->name, c->synopsis);
	return 0;
}

static void print_opts(const struct cpx_opt *opts)
{
	char left[64];

	for (int i = 0; opts && opts[i].name; i++) {
		const struct cpx_opt *o = &opts[i];

		snprintf(left, sizeof(left), "%c%c%s--%s%s%s", o->letter ? '-' : ' ',
			 o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name,
			 o->arg ? " " : "", o->arg ? o->arg : "");
		printf("  %-30s %s\n", left, o->help);
	}
}

static int print_help(const struct cpx_prog *p)
{
	printf("%s - %s\n\nusage: %s [OPTION]... COMMAND ...\n\n", p->name, p->summary,
	       p->name);
	for (const struct cpx_cmd *c = p->cmds; c->name; c++)
		printf("  %-11s %s\n", c->name, c->help);
	printf("\n");
	print_opts(p->opts);
	printf("\n'%s COMMAND --help' shows a command's options.\n", p->name);
	return 0;
}

static int print_cmd_help(const struct cpx_prog *p, const struct cpx_cmd *c)
{
	printf("usage: %s %s %s\n%s\n", p->name, c->name, c->synopsis, c->help);
	if (c->opts)
		printf("\n");
	print_opts(c->opts);
	return 0;
}

static const struct cpx_cmd *find_cmd(const struct cpx_prog *p, const char *name)
{
	for (const struct cpx_cmd *c = p->cmds; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static int complain(const struct cpx_err *err, int status)
{
	cpx_log_error("%s", err->msg[0] ? err->msg : cpx_err_name(err->code));
	return status;
}

static int run_cmd(const struct cpx_prog *p, const struct cpx_cmd *c, char **argv)
{
	struct cpx_args a = { .cmd = c, .ctx = p->ctx };
	struct cpx_err err = { 0 };
	int r = parse(c, &a, argv, &err);

	if (r == 1)
		return print_cmd_help(p, c);
	if (r < 0) {
		cpx_err_wrap(&err, "%s", c->name);
		cpx_log_error("%s ('%s %s --help' tells more)", err.msg, p->name, c->name);
		return 2;
	}
	r = c->run(&a, &err);
	if (fflush(stdout) && r >= 0)
		return complain(&(struct cpx_err){ .msg = "cannot write the output" }, 1);
	if (r < 0)
		return complain(&err, r == CPX_E_INVAL ? 2 : 1);
	return r;
}

int cpx_cmd_main(const struct cpx_prog *p, int argc, char **argv)
{
	static const char none[] = "";
	struct cpx_cmd self = { .name = none, .synopsis = none, .opts = p->opts, .max = -1 };
	struct cpx_args a = { .cmd = &self, .ctx = p->ctx };
	struct cpx_err err = { 0 };
	const struct cpx_cmd *c;
	int i, r;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return print_help(p);
		if (take_option(p->opts, &a, argv, &i, &err) < 0)
			return complain(&err, 2);
	}
	if (p->setup && (r = p->setup(&a, &err)) != 0)
		return r < 0 ? complain(&err, 2) : r - 1;
	if (i >= argc) {
		print_help(p);
		return 2;
	}
	if (!strcmp(argv[i], "help")) {
		c = argv[i + 1] ? find_cmd(p, argv[i + 1]) : NULL;
		return c ? print_cmd_help(p, c) : print_help(p);
	}
	c = find_cmd(p, argv[i]);
	if (!c) {
		cpx_log_error("there is no command '%s'; '%s --help' lists them", argv[i],
			      p->name);
		return 2;
	}
	return run_cmd(p, c, argv + i + 1);
}

int cpx_parse_u64(const char *s, const char *what, uint64_t max, uint64_t *out,
		  struct cpx_err *err)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(s, &end, 10);
	if (s[0] < '0' || s[0] > '9' || *end || errno || v > max)
		return cpx_err_set(err, CPX_E_INVAL,
				   "'%s' is no good %s; a number up to %llu is wanted", s, what,
				   (unsigned long long)max);
	*out = v;
	return 0;
}

int cpx_parse_pid(const char *s, pid_t *out, struct cpx_err *err)
{
	uint64_t v;

	if (cpx_parse_u64(s, "PID", 1 << 22, &v, err) < 0)
		return CPX_E_INVAL;
	if (v == 0)
		return cpx_err_set(err, CPX_E_INVAL, "0 is no PID");
	*out = (pid_t)v;
	return 0;
}

int cpx_parse_duration(const char *s, const char *what, int64_t *out_ns, struct cpx_err *err)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = { { "", 1e9 },     { "ms", 1e6 },	{ "s", 1e9 },	 { "m", 60e9 },
		      { "min", 60e9 }, { "h", 3600e9 }, { "d", 86400e9 } };
	char *end;
	double v = strtod(s, &end);

	if (s[0] >= '0' && s[0] <= '9' && end != s)
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
			double ns = v * units[i].ns;

			if (strcmp(end, units[i].unit))
				continue;
			if (!(ns >= 1e6) || ns > (double)YEAR_NS)
				break;
			*out_ns = (int64_t)ns;
			return 0;
		}
	return cpx_err_set(
		err, CPX_E_INVAL,
		"'%s' is no good %s; wanted is a duration such as 500ms, 10s, 5m or 2h", s,
		what);
}

int cpx_parse_bytes(const char *s, const char *what, uint64_t *out, struct cpx_err *err)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;
	double v = strtod(s, &end);

	if (s[0] >= '0' && s[0] <= '9' && end != s) {
		unit = *end ? strchr(units, *end) : NULL;
		for (const char *u = units; unit && u <= unit; u++)
			v *= 1024;
		if ((!*end || (unit && !end[1])) && v >= 1 && v < 0x1p62) {
			*out = (uint64_t)v;
			return 0;
		}
	}
	return cpx_err_set(err, CPX_E_INVAL,
			   "'%s' is no good %s; wanted are bytes such as 4096, 500K, 10M or 1G",
			   s, what);
}

int cpx_parse_signal(const char *s, int *out, struct cpx_err *err)
{
	const char *name = !strncasecmp(s, "SIG", 3) ? s + 3 : s;
	char *end;
	long n = strtol(s, &end, 10);

	if (*s && !*end && n > 0 && n < NSIG) {
		*out = (int)n;
		return 0;
	}
	for (int i = 1; i < NSIG; i++) {
		const char *abbrev = sigabbrev_np(i);

		if (abbrev && !strcasecmp(abbrev, name)) {
			*out = i;
			return 0;
		}
	}
	return cpx_err_set(err, CPX_E_INVAL,
			   "there is no signal '%s'; try TERM, USR1 or a number", s);
}
