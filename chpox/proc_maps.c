/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proc_maps.c - see proc_maps.h. */
#include "proc_maps.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/fd.h"

#define PAGE 4096u

/* What is left of a line. */
struct cur {
	const char *p, *end;
};

static bool eat(struct cur *c, char ch)
{
	if (c->p == c->end || *c->p != ch)
		return false;
	c->p++;
	return true;
}

static void eat_blanks(struct cur *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
		c->p++;
}

static int digit(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	return 99;
}

/* A number of at least one digit that fits. */
static bool number(struct cur *c, unsigned base, uint64_t *out)
{
	const char *start = c->p;
	uint64_t v = 0;

	for (; c->p < c->end && digit(*c->p) < (int)base; c->p++) {
		uint64_t d = (uint64_t)digit(*c->p);

		if (v > (UINT64_MAX - d) / base)
			return false;
		v = v * base + d;
	}
	*out = v;
	return c->p != start;
}

static bool number32(struct cur *c, unsigned base, uint32_t *out)
{
	uint64_t v;

	if (!number(c, base, &v) || v > UINT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

static bool perms(struct cur *c, struct cpx_map *m)
{
	static const char letters[] = "rwx";
	static const uint32_t bits[] = { PROT_READ, PROT_WRITE, PROT_EXEC };

	for (int i = 0; i < 3; i++) {
		if (eat(c, letters[i]))
			m->prot |= bits[i];
		else if (!eat(c, '-'))
			return false;
	}
	m->shared = eat(c, 's');
	return m->shared || eat(c, 'p');
}

/* "START-END PERM OFFSET MAJOR:MINOR INODE   NAME" */
static bool map_line(struct cur c, struct cpx_map *m)
{
	memset(m, 0, sizeof(*m));
	if (!number(&c, 16, &m->start) || !eat(&c, '-') || !number(&c, 16, &m->end) ||
	    !eat(&c, ' ') || !perms(&c, m) || !eat(&c, ' ') || !number(&c, 16, &m->pgoff) ||
	    !eat(&c, ' ') || !number32(&c, 16, &m->dev_major) || !eat(&c, ':') ||
	    !number32(&c, 16, &m->dev_minor) || !eat(&c, ' ') || !number(&c, 10, &m->ino))
		return false;
	if (c.p != c.end && !eat(&c, ' '))
		return false;
	eat_blanks(&c);
	m->name = c.p;
	return m->start < m->end && m->start % PAGE == 0 && m->end % PAGE == 0 &&
	       m->pgoff % PAGE == 0;
}

static const struct {
	char code[3];
	uint32_t bit;
} flag_codes[] = {
	{ "lo", CPX_VMF_LO },	{ "dc", CPX_VMF_DC },	{ "wf", CPX_VMF_WF },
	{ "hg", CPX_VMF_HG },	{ "nh", CPX_VMF_NH },	{ "mg", CPX_VMF_MG },
	{ "dd", CPX_VMF_DD },	{ "sr", CPX_VMF_SR },	{ "rr", CPX_VMF_RR },
	{ "gd", CPX_VMF_GD },	{ "nr", CPX_VMF_NR },	{ "ht", CPX_VMF_HT },
	{ "mw", CPX_VMF_MW },	{ "sl", CPX_VMF_SL },	{ "dp", CPX_VMF_DP },
	{ "ss", CPX_VMF_SS },	{ "io", CPX_VMF_IO },	{ "pf", CPX_VMF_PF },
	{ "um", CPX_VMF_UFFD }, { "ui", CPX_VMF_UFFD }, { "ac", CPX_VMF_AC },
};

static void flags_of(struct cur c, struct cpx_map *m)
{
	for (eat_blanks(&c); c.end - c.p >= 2; eat_blanks(&c)) {
		for (size_t i = 0; i < sizeof(flag_codes) / sizeof(flag_codes[0]); i++)
			if (!memcmp(c.p, flag_codes[i].code, 2))
				m->vmflags |= flag_codes[i].bit;
		c.p += 2;
		while (c.p < c.end && *c.p != ' ')
			c.p++;
	}
}

/* "Key:   value": false if it is no such line. */
static bool key_line(struct cur c, struct cpx_map *m)
{
	const char *colon = memchr(c.p, ':', (size_t)(c.end - c.p));
	size_t len = colon ? (size_t)(colon - c.p) : 0;
	const char *key = c.p;
	uint64_t v;

	if (!len || *key < 'A' || *key > 'Z')
		return false;
	c.p = colon + 1;
#define IS(text) (len == sizeof(text) - 1 && !memcmp(key, text, len))
	if (IS("VmFlags")) {
		flags_of(c, m);
		return true;
	}
	if (!IS("Rss") && !IS("KernelPageSize") && !IS("ProtectionKey"))
		return true;
	eat_blanks(&c);
	if (!number(&c, 10, &v) || v > UINT64_MAX / 1024)
		return false;
	if (IS("Rss"))
		m->rss = v * 1024;
	else if (IS("KernelPageSize"))
		m->page_size = v * 1024;
	else
		m->pkey = v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
#undef IS
	return true;
}

static int bad(struct cpx_err *err, size_t line, const char *why)
{
	return cpx_err_set(err, CPX_E_FORMAT, "line %zu of a list of mappings: %s", line, why);
}

static int add(struct cpx_maps *maps, size_t *cap, const struct cpx_map *m, struct cpx_err *err)
{
	if (maps->n == *cap) {
		size_t more = *cap ? *cap * 2 : 64;
		struct cpx_map *v = realloc(maps->v, more * sizeof(*v));

		if (!v)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory for mappings");
		maps->v = v;
		*cap = more;
	}
	maps->v[maps->n++] = *m;
	return 0;
}

static int parse(struct cpx_maps *maps, size_t len, struct cpx_err *err)
{
	char *p = maps->text, *end = p + len;
	size_t cap = 0, line = 0;

	while (p < end) {
		char *nl = memchr(p, '\n', (size_t)(end - p));
		struct cpx_map m;
		struct cur c = { p, nl };
		int rc;

		line++;
		if (!nl)
			return bad(err, line, "cut short");
		if (memchr(p, 0, (size_t)(nl - p)))
			return bad(err, line, "a NUL in it");
		if (map_line(c, &m)) {
			if (maps->n && m.start < maps->v[maps->n - 1].end)
				return bad(err, line, "not in order");
			*nl = 0;
			rc = add(maps, &cap, &m, err);
			if (rc < 0)
				return rc;
		} else if (!maps->n || !key_line(c, &maps->v[maps->n - 1])) {
			return bad(err, line, "not understood");
		}
		p = nl + 1;
	}
	return 0;
}

int cpx_maps_parse(char *text, size_t len, struct cpx_maps *out, struct cpx_err *err)
{
	struct cpx_maps maps = { .text = text };
	int rc = parse(&maps, len, err);

	if (rc < 0)
		cpx_maps_free(&maps);
	else
		*out = maps;
	return rc;
}

int cpx_maps_read(int proc_fd, const char *file, struct cpx_maps *out, struct cpx_err *err)
{
	char *text = NULL;
	ssize_t len = cpx_read_file(proc_fd, file, CPX_MAPS_MAX, &text, err);

	if (len < 0)
		return (int)len;
	return cpx_maps_parse(text, (size_t)len, out, err);
}

void cpx_maps_free(struct cpx_maps *maps)
{
	free(maps->v);
	free(maps->text);
	memset(maps, 0, sizeof(*maps));
}

const struct cpx_map *cpx_maps_at(const struct cpx_maps *maps, uint64_t addr)
{
	size_t lo = 0, hi = maps->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (maps->v[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < maps->n ? &maps->v[lo] : NULL;
}
