/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proc_task.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "err.h"
#include "fd.h"

/* --- pieces of text ----------------------------------------------------------------------- */

static const char *skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

static const char *next_line(const char *p)
{
	p = strchr(p, '\n');
	return p ? p + 1 : NULL;
}

/* The text behind "KEY" at the start of a line, blanks skipped; NULL: no such line. */
static const char *find_line(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = text; p && *p; p = next_line(p))
		if (strncmp(p, key, n) == 0)
			return skip_blanks(p + n);
	return NULL;
}

/* One unsigned number; *@p is moved behind it. Nothing but digits of @base is accepted. */
static bool take_u64(const char **p, int base, uint64_t *out)
{
	const char *s = skip_blanks(*p);
	char *end;
	uint64_t v;

	/* strtoull() would take a sign, and blanks of the next line */
	if (!isxdigit((unsigned char)*s))
		return false;
	errno = 0;
	v = strtoull(s, &end, base);
	if (end == s || errno)
		return false;
	*out = v;
	*p = end;
	return true;
}

static bool take_i64(const char **p, int64_t *out)
{
	const char *s = skip_blanks(*p);
	char *end;
	int64_t v;

	if (!isdigit((unsigned char)s[*s == '-']))
		return false;
	errno = 0;
	v = strtoll(s, &end, 10);
	if (end == s || errno)
		return false;
	*out = v;
	*p = end;
	return true;
}

static bool take_u32(const char **p, int base, uint32_t *out)
{
	const char *s = *p;
	uint64_t v;

	if (!take_u64(&s, base, &v) || v > UINT32_MAX)
		return false;
	*out = (uint32_t)v;
	*p = s;
	return true;
}

static int bad(struct cpx_err *err, const char *file, const char *what)
{
	return cpx_err_set(err, CPX_E_FORMAT, "/proc/PID/%s makes no sense at '%s'", file,
			   what);
}

/* --- status ------------------------------------------------------------------------------- */

static bool line_u64(const char *text, const char *key, int base, uint64_t *out)
{
	const char *p = find_line(text, key);

	return p && take_u64(&p, base, out);
}

static bool line_u32s(const char *text, const char *key, uint32_t *out, size_t n)
{
	const char *p = find_line(text, key);

	for (size_t i = 0; p && i < n; i++)
		if (!take_u32(&p, 10, &out[i]))
			return false;
	return p != NULL;
}

static int parse_groups(const char *text, struct cpx_proc_status *s, struct cpx_err *err)
{
	const char *line = find_line(text, "Groups:"), *p = line;
	uint32_t v, n = 0;

	if (!line)
		return bad(err, "status", "Groups");
	while (n <= CPX_PROC_GROUPS_MAX && take_u32(&p, 10, &v))
		n++;
	p = skip_blanks(p);
	if (n > CPX_PROC_GROUPS_MAX || (*p && *p != '\n'))
		return bad(err, "status", "Groups");
	if (n == 0)
		return 0;
	s->groups = calloc(n, sizeof(*s->groups));
	if (!s->groups)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for %u groups", n);
	p = line;
	for (s->ngroups = 0; s->ngroups < n; s->ngroups++)
		take_u32(&p, 10, &s->groups[s->ngroups]);
	return 0;
}

/* What prctl(PR_SET_SPECULATION_CTRL) was told, from what the kernel says of it. */
static uint32_t speculation(const char *text, const char *key, const char *disabled,
			    const char *forced)
{
	const char *p = find_line(text, key);

	if (p && strncmp(p, forced, strlen(forced)) == 0)
		return PR_SPEC_FORCE_DISABLE;
	return p && strncmp(p, disabled, strlen(disabled)) == 0 ? PR_SPEC_DISABLE : 0;
}

static int parse_status(const char *text, struct cpx_proc_status *s, struct cpx_err *err)
{
	const struct {
		const char *key;
		uint64_t *to;
		bool optional;
	} masks[] = {
		{ "SigPnd:", &s->sig_pnd, false }, { "ShdPnd:", &s->shd_pnd, false },
		{ "SigBlk:", &s->sig_blk, false }, { "SigIgn:", &s->sig_ign, false },
		{ "SigCgt:", &s->sig_cgt, false }, { "CapInh:", &s->cap_inh, false },
		{ "CapPrm:", &s->cap_prm, false }, { "CapEff:", &s->cap_eff, false },
		{ "CapBnd:", &s->cap_bnd, false }, { "CapAmb:", &s->cap_amb, true },
	};
	const char *p = find_line(text, "State:");
	uint64_t v;

	s->state = p ? *p : 0;
	if (!strchr("RSDTtZXIPKW", s->state) || !s->state)
		return bad(err, "status", "State");
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++)
		if (!line_u64(text, masks[i].key, 16, masks[i].to) && !masks[i].optional)
			return bad(err, "status", masks[i].key);
	if (!line_u32s(text, "Uid:", s->uid, 4) || !line_u32s(text, "Gid:", s->gid, 4))
		return bad(err, "status", "Uid");
	s->umask = line_u64(text, "Umask:", 8, &v) ? (uint32_t)(v & 0777) : 022;
	s->thp_enabled = !line_u64(text, "THP_enabled:", 10, &v) || v != 0;
	s->no_new_privs = line_u64(text, "NoNewPrivs:", 10, &v) && v;
	s->seccomp = line_u64(text, "Seccomp:", 10, &v) ? (uint32_t)(v & 0xff) : 0;
	s->seccomp_filters =
		line_u64(text, "Seccomp_filters:", 10, &v) && v <= 65536 ? (uint32_t)v : 0;
	s->tracer = line_u64(text, "TracerPid:", 10, &v) && v <= INT32_MAX ? (pid_t)v : 0;
	p = find_line(text, "x86_Thread_features:");
	s->shadow_stack = p && strncmp(p, "shstk", 5) == 0;
	s->spec_store = speculation(text, "Speculation_Store_Bypass:", "thread mitigated",
				    "thread force mitigated");
	s->spec_branch = speculation(text, "SpeculationIndirectBranch:", "conditional disabled",
				     "conditional force disabled");
	return parse_groups(text, s, err);
}

int cpx_proc_status_parse(const char *text, struct cpx_proc_status *out, struct cpx_err *err)
{
	struct cpx_proc_status s = { 0 };
	int rc = parse_status(text, &s, err);

	if (rc < 0)
		cpx_proc_status_free(&s);
	else
		*out = s;
	return rc;
}

void cpx_proc_status_free(struct cpx_proc_status *s)
{
	free(s->groups);
	s->groups = NULL;
	s->ngroups = 0;
}

/* --- stat --------------------------------------------------------------------------------- */

int cpx_proc_stat_parse(const char *text, struct cpx_proc_stat *out, struct cpx_err *err)
{
	/* the name may hold anything, so fields are counted from the last parenthesis */
	const char *p = strrchr(text, ')');
	int64_t f[53] = { 0 };
	char state;

	if (!p || p[1] != ' ' || !p[2])
		return bad(err, "stat", "name");
	state = p[2];
	p += 3;
	for (size_t i = 4; i < 53; i++) {
		uint64_t u;

		/* addresses and limits use all 64 bits */
		if (take_i64(&p, &f[i]))
			continue;
		if (take_u64(&p, 10, &u))
			f[i] = (int64_t)u;
		else if (i <= 39)
			return bad(err, "stat", "field");
		else
			break;
	}
	*out = (struct cpx_proc_stat){ .state = state,
				       .ppid = (pid_t)f[4],
				       .pgrp = (pid_t)f[5],
				       .session = (pid_t)f[6],
				       .flags = (uint64_t)f[9],
				       .utime = (uint64_t)f[14],
				       .stime = (uint64_t)f[15],
				       .nice = f[19],
				       .exit_signal = (int32_t)f[38],
				       .processor = (int32_t)f[39],
				       .exit_code = (int32_t)f[52] };
	return 0;
}

/* --- limits ------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
	const char *name;
	int res;
} limit_names[CPX_RLIMITS] = {
	{ "Max cpu time ",          RLIMIT_CPU },	{ "Max file size ",       RLIMIT_FSIZE },
	{ "Max data size ",         RLIMIT_DATA },	{ "Max stack size ",      RLIMIT_STACK },
	{ "Max core file size ",    RLIMIT_CORE },	{ "Max resident set ",    RLIMIT_RSS },
	{ "Max processes ",         RLIMIT_NPROC },	{ "Max open files ",      RLIMIT_NOFILE },
	{ "Max locked memory ",     RLIMIT_MEMLOCK },	{ "Max address space ",   RLIMIT_AS },
	{ "Max file locks ",        RLIMIT_LOCKS },	{ "Max pending signals ", RLIMIT_SIGPENDING },
	{ "Max msgqueue size ",     RLIMIT_MSGQUEUE },	{ "Max nice priority ",   RLIMIT_NICE },
	{ "Max realtime priority ", RLIMIT_RTPRIO },	{ "Max realtime timeout ", RLIMIT_RTTIME },
};
/* clang-format on */

static bool take_limit(const char **p, uint64_t *out)
{
	const char *s = skip_blanks(*p);

	if (strncmp(s, "unlimited", 9) == 0) {
		*out = UINT64_MAX;
		*p = s + 9;
		return true;
	}
	return take_u64(p, 10, out);
}

int cpx_proc_limits_parse(const char *text, uint64_t out[2 * CPX_RLIMITS], struct cpx_err *err)
{
	uint64_t v[2 * CPX_RLIMITS];

	for (size_t i = 0; i < CPX_RLIMITS; i++) {
		const char *p = find_line(text, limit_names[i].name);
		uint64_t *pair = &v[2 * limit_names[i].res];

		if (!p || !take_limit(&p, &pair[0]) || !take_limit(&p, &pair[1]))
			return bad(err, "limits", limit_names[i].name);
	}
	memcpy(out, v, sizeof(v));
	return 0;
}

/* --- timers ------------------------------------------------------------------------------- */

static bool parse_notify(const char *p, struct cpx_proc_timer *t)
{
	static const struct {
		const char *name;
		uint32_t how;
	} hows[] = { { "signal/", SIGEV_SIGNAL },
		     { "none/", SIGEV_NONE },
		     { "thread/", SIGEV_THREAD } };
	uint64_t v;

	for (size_t i = 0; i < sizeof(hows) / sizeof(hows[0]); i++) {
		size_t n = strlen(hows[i].name);

		if (strncmp(p, hows[i].name, n) != 0)
			continue;
		t->notify = hows[i].how;
		p += n;
		if (strncmp(p, "tid.", 4) == 0)
			t->notify |= SIGEV_THREAD_ID;
		else if (strncmp(p, "pid.", 4) != 0)
			return false;
		p += 4;
		if (!take_u64(&p, 10, &v) || v > INT32_MAX)
			return false;
		t->target = (pid_t)v;
		return true;
	}
	return false;
}

/* The four lines of one timer from @p on. Return: what follows, or NULL. */
static const char *parse_timer(const char *p, struct cpx_proc_timer *t)
{
	int64_t clock;

	if (strncmp(p, "ID:", 3) != 0)
		return NULL;
	p += 3;
	if (!take_u32(&p, 10, &t->id) || !(p = next_line(p)) || strncmp(p, "signal:", 7) != 0)
		return NULL;
	p += 7;
	if (!take_u32(&p, 10, &t->signo) || *p++ != '/' || !take_u64(&p, 16, &t->sigval))
		return NULL;
	if (!(p = next_line(p)) || strncmp(p, "notify:", 7) != 0 ||
	    !parse_notify(skip_blanks(p + 7), t))
		return NULL;
	if (!(p = next_line(p)) || strncmp(p, "ClockID:", 8) != 0)
		return NULL;
	p += 8;
	if (!take_i64(&p, &clock) || clock < INT32_MIN || clock > INT32_MAX)
		return NULL;
	t->clock = (int32_t)clock;
	p = next_line(p);
	return p ? p : "";
}

static int by_id(const void *a, const void *b)
{
	const struct cpx_proc_timer *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

int cpx_proc_timers_parse(const char *text, struct cpx_proc_timer **out, struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_proc_timer *list = NULL;
	size_t n = 0, cap = 0;

	for (const char *p = text; *p; n++) {
		if (n == CPX_PROC_TIMERS_MAX)
			return cpx_err_set(err, CPX_E_LIMIT, "more than %d timers",
					   CPX_PROC_TIMERS_MAX);
		if (n == cap) {
			void *bigger =
				realloc(list, (cap = cap ? 2 * cap : 16) * sizeof(*list));

			if (!bigger)
				return cpx_err_set(err, CPX_E_NOMEM, "no memory for timers");
			list = bigger;
		}
		memset(&list[n], 0, sizeof(list[n]));
		p = parse_timer(p, &list[n]);
		if (!p)
			return bad(err, "timers", "timer");
	}
	if (n)
		qsort(list, n, sizeof(*list), by_id);
	*out = cpx_steal_ptr(&list);
	return (int)n;
}

/* --- timer_list --------------------------------------------------------------------------- */

/* " #4: <00000000261dde69>, hrtimer_wakeup, S:01": is it a sleep, and which. */
static bool parse_timer_head(const char *p, uint64_t *id)
{
	const char *lt = strchr(p, '<'), *eol = strchrnul(p, '\n'), *name;

	if (!lt || lt > eol)
		return false;
	lt++;
	if (!take_u64(&lt, 16, id) || *lt != '>')
		return false;
	name = strstr(lt, "hrtimer_wakeup");
	return name && name < eol;
}

/* " # expires at A-B nsecs [in …]" */
static bool parse_expires(const char *p, int64_t *soft, int64_t *hard)
{
	p = skip_blanks(p);
	if (strncmp(p, "# expires at ", 13) != 0)
		return false;
	p += 13;
	if (!take_i64(&p, soft) || *p != '-')
		return false;
	p++;
	return take_i64(&p, hard) && *soft >= 0 && *hard >= *soft;
}

int cpx_proc_timer_list_parse(const char *text, struct cpx_sleep_timer **out, int64_t *now_ns,
			      struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_sleep_timer *list = NULL;
	size_t n = 0, cap = 0;
	bool monotonic = false;
	int64_t now = 0, cpu = -1;

	for (const char *p = text; p && *p; p = next_line(p)) {
		struct cpx_sleep_timer t;
		const char *follow = next_line(p);

		if (strncmp(p, "now at ", 7) == 0) {
			const char *q = p + 7;

			if (!take_i64(&q, &now))
				now = 0;
		} else if (strncmp(p, "cpu: ", 5) == 0) {
			const char *q = p + 5;

			if (!take_i64(&q, &cpu) || cpu < 0 || cpu > 65536)
				cpu = -1;
		} else if (strncmp(p, " clock ", 7) == 0) {
			/* hrtimer bases: 0 and 4 (soft) are CLOCK_MONOTONIC */
			monotonic = (p[7] == '0' || p[7] == '4') && p[8] == ':';
		} else if (monotonic && strncmp(p, " #", 2) == 0 && p[2] != ' ' && follow &&
			   parse_timer_head(p, &t.id) &&
			   parse_expires(follow, &t.soft_ns, &t.hard_ns)) {
			if (n == CPX_PROC_TIMERS_MAX)
				break;
			if (n == cap) {
				void *b = realloc(list,
						  (cap = cap ? 2 * cap : 64) * sizeof(*list));

				if (!b)
					return cpx_err_set(err, CPX_E_NOMEM,
							   "no memory for timers");
				list = b;
			}
			t.cpu = (int32_t)cpu;
			list[n++] = t;
		}
	}
	*out = cpx_steal_ptr(&list);
	*now_ns = now;
	return (int)n;
}

/* --- syscall, sched, timens ----------------------------------------------------------------
 */

int cpx_proc_syscall_parse(const char *text, struct cpx_proc_syscall *out, struct cpx_err *err)
{
	struct cpx_proc_syscall s = { .nr = -1 };
	const char *p = text;
	int64_t nr;

	if (strncmp(text, "running", 7) == 0) {
		s.running = true;
		*out = s;
		return 0;
	}
	if (!take_i64(&p, &nr) || nr < -1 || nr > 100000)
		return bad(err, "syscall", "number");
	s.nr = (long)nr;
	for (size_t i = 0; nr >= 0 && i < 6; i++)
		if (!take_u64(&p, 16, &s.args[i]))
			return bad(err, "syscall", "argument");
	if (!take_u64(&p, 16, &s.sp) || !take_u64(&p, 16, &s.ip))
		return bad(err, "syscall", "sp");
	*out = s;
	return 0;
}

int cpx_proc_exec_start_parse(const char *text, int64_t *out, struct cpx_err *err)
{
	const char *p = find_line(text, "se.exec_start");
	uint64_t ms, us;

	p = p ? strchr(p, ':') : NULL;
	if (!p)
		return bad(err, "sched", "se.exec_start");
	p++;
	if (!take_u64(&p, 10, &ms) || *p++ != '.' || !take_u64(&p, 10, &us) || us > 999999 ||
	    ms > INT64_MAX / 1000000 - 1)
		return bad(err, "sched", "se.exec_start");
	*out = (int64_t)(ms * 1000000 + us);
	return 0;
}

static bool line_offset(const char *text, const char *key, int64_t *out)
{
	const char *p = find_line(text, key);
	int64_t sec, nsec;

	if (!p || !take_i64(&p, &sec) || !take_i64(&p, &nsec) || sec > 9000000000ll ||
	    sec < -9000000000ll || nsec < 0 || nsec > 999999999)
		return false;
	*out = sec * 1000000000 + nsec;
	return true;
}

int cpx_proc_timens_parse(const char *text, int64_t *monotonic_ns, int64_t *boottime_ns,
			  struct cpx_err *err)
{
	int64_t mono, boot;

	if (!line_offset(text, "monotonic", &mono) || !line_offset(text, "boottime", &boot))
		return bad(err, "timens_offsets", "monotonic");
	*monotonic_ns = mono;
	*boottime_ns = boot;
	return 0;
}
