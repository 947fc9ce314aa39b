/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proc_fd.h"

#include "../store/state.h"
#include "base/err.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define LOCKS_MAX 1000000u

/* What is left of a line; a word is what stands between blanks. */
struct line {
	const char *p, *end;
};

static struct line next_word(struct line *l)
{
	struct line w;

	while (l->p < l->end && (*l->p == ' ' || *l->p == '\t'))
		l->p++;
	w.p = l->p;
	while (l->p < l->end && *l->p != ' ' && *l->p != '\t')
		l->p++;
	w.end = l->p;
	return w;
}

static bool is(struct line w, const char *text)
{
	size_t n = strlen(text);

	return (size_t)(w.end - w.p) == n && memcmp(w.p, text, n) == 0;
}

/* The whole word is a number of @base; nothing else is accepted. */
static bool number(struct line w, unsigned base, uint64_t *out)
{
	uint64_t v = 0;

	if (w.p == w.end)
		return false;
	for (; w.p < w.end; w.p++) {
		unsigned d = (unsigned)(*w.p - '0');

		if (*w.p < '0' || d >= base)
			return false;
		if (v > (UINT64_MAX - d) / base)
			return false;
		v = v * base + d;
	}
	*out = v;
	return true;
}

static bool lock_kind(struct line w, struct cpx_proc_lock *k)
{
	k->foreign = false;
	if (is(w, "FLOCK"))
		k->kind = CPX_LOCK_FLOCK;
	else if (is(w, "POSIX") || is(w, "ACCESS"))
		k->kind = CPX_LOCK_POSIX;
	else if (is(w, "OFDLCK"))
		k->kind = CPX_LOCK_OFD;
	else if (is(w, "LEASE"))
		k->kind = CPX_LOCK_LEASE;
	else if (is(w, "DELEG") || is(w, "LAYOUT"))
		k->foreign = true;
	else
		return false;
	return true;
}

static bool lock_type(struct line w, struct cpx_proc_lock *k)
{
	if (is(w, "READ"))
		k->type = F_RDLCK;
	else if (is(w, "WRITE"))
		k->type = F_WRLCK;
	else if (is(w, "UNLCK"))
		k->type = F_UNLCK;
	else
		return false;
	return true;
}

/*
 * "1: POSIX  ADVISORY  WRITE 4711 08:02:1234 10 14": number, kind, how, type, owner,
 * inode, first and last byte, EOF where there is no last. A waiter has "->" before its kind.
 * Return: 1 and *@k, 0 for a waiter, -1 for nonsense.
 */
static int parse_lock(struct line l, struct cpx_proc_lock *k)
{
	struct line w;
	uint64_t last;

	next_word(&l);
	w = next_word(&l);
	if (is(w, "->"))
		return 0;
	if (!lock_kind(w, k))
		return -1;
	w = next_word(&l);
	k->breaking = is(w, "BREAKING") || is(w, "BREAKER");
	w = next_word(&l);
	if (!lock_type(w, k))
		return -1;
	next_word(&l);
	next_word(&l);
	if (!number(next_word(&l), 10, &k->start))
		return -1;
	w = next_word(&l);
	k->len = 0;
	if (is(w, "EOF"))
		return 1;
	if (!number(w, 10, &last) || last < k->start || last > INT64_MAX)
		return -1;
	k->len = last - k->start + 1;
	return 1;
}

static int add_lock(struct cpx_proc_fd *f, size_t *cap, const struct cpx_proc_lock *k)
{
	if (f->nlocks == *cap) {
		size_t want = *cap ? *cap * 2 : 4;
		void *p = realloc(f->locks, want * sizeof(*f->locks));

		if (!p)
			return CPX_E_NOMEM;
		f->locks = p;
		*cap = want;
	}
	if (f->nlocks >= LOCKS_MAX)
		return CPX_E_LIMIT;
	f->locks[f->nlocks++] = *k;
	return 0;
}

static int parse_line(struct line l, struct cpx_proc_fd *f, size_t *cap, unsigned *seen)
{
	struct line key = next_word(&l);
	struct cpx_proc_lock k;
	uint64_t v;
	int rc;

	memset(&k, 0, sizeof(k));
	if (is(key, "pos:")) {
		if (!number(next_word(&l), 10, &f->pos))
			return CPX_E_FORMAT;
		*seen |= 1;
	} else if (is(key, "flags:")) {
		if (!number(next_word(&l), 8, &v) || v > UINT32_MAX)
			return CPX_E_FORMAT;
		f->cloexec = v & O_CLOEXEC;
		f->flags = (uint32_t)v & ~(uint32_t)O_CLOEXEC;
		*seen |= 2;
	} else if (is(key, "mnt_id:")) {
		if (!number(next_word(&l), 10, &v) || v > INT32_MAX)
			return CPX_E_FORMAT;
		f->mnt_id = (int32_t)v;
	} else if (is(key, "ino:") && f->ino == 0) {
		if (!number(next_word(&l), 10, &f->ino))
			return CPX_E_FORMAT;
	} else if (is(key, "lock:")) {
		rc = parse_lock(l, &k);
		if (rc < 0)
			return CPX_E_FORMAT;
		return rc ? add_lock(f, cap, &k) : 0;
	}
	return 0;
}

int cpx_proc_fd_parse(const char *text, size_t n, struct cpx_proc_fd *out, struct cpx_err *err)
{
	struct cpx_proc_fd f = { 0 };
	unsigned seen = 0;
	size_t cap = 0;
	int rc = n > CPX_FDINFO_MAX ? CPX_E_LIMIT : 0;

	while (n && rc == 0) {
		const char *nl = memchr(text, '\n', n);
		size_t len = nl ? (size_t)(nl - text) : n;

		rc = parse_line((struct line){ text, text + len }, &f, &cap, &seen);
		len += nl != NULL;
		text += len;
		n -= len;
	}
	if (rc == 0 && seen != 3)
		rc = CPX_E_FORMAT;
	if (rc < 0) {
		cpx_proc_fd_free(&f);
		return cpx_err_set(err, rc, "fdinfo is not understood (%s)", cpx_err_name(rc));
	}
	*out = f;
	return 0;
}

void cpx_proc_fd_free(struct cpx_proc_fd *f)
{
	free(f->locks);
	memset(f, 0, sizeof(*f));
}
