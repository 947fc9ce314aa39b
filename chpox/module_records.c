/* SPDX-License-Identifier: GPL-2.0-or-later */
/* module_records.c - see module_records.h. */
#include "module_records.h"

#include <stdlib.h>
#include <string.h>

#include "../kernel/chpox_uapi.h"
#include "base/err.h"

#define PAD 8
#define SIGINFO_BYTES 128
#define ACTIONS 64

/* Bytes of each type's payload; 0: at least the header of a register set, checked apart. */
static const uint32_t sizes[] = {
	[CHPOX_REC_CLOCKS] = sizeof(struct chpox_rec_clocks),
	[CHPOX_REC_PROCESS] = sizeof(struct chpox_rec_process),
	[CHPOX_REC_ACTIONS] = ACTIONS * sizeof(struct chpox_rec_action),
	[CHPOX_REC_SIGINFO] = SIGINFO_BYTES,
	[CHPOX_REC_ITIMER] = sizeof(struct chpox_rec_itimer),
	[CHPOX_REC_TIMER] = sizeof(struct chpox_rec_timer),
	[CHPOX_REC_THREAD] = sizeof(struct chpox_rec_thread),
	[CHPOX_REC_RESTART] = sizeof(struct chpox_rec_restart),
	[CHPOX_REC_END] = 0,
};

static bool right_size(uint32_t type, uint32_t bytes)
{
	if (type == CHPOX_REC_REGSET)
		return bytes >= PAD;
	return type >= sizeof(sizes) / sizeof(sizes[0]) || bytes == sizes[type];
}

/* Count records, or with @v fill them in. Return: how many, or -1. */
static ssize_t split(const char *data, size_t len, struct cpx_mod_rec *v)
{
	size_t at = 0, n = 0;
	uint32_t type = 0;

	while (len - at >= sizeof(struct chpox_record)) {
		struct chpox_record head;
		size_t body = at + sizeof(head);

		if (n && type == CHPOX_REC_END)
			return -1;
		memcpy(&head, data + at, sizeof(head));
		type = head.type;
		if (head.bytes > len - body ||
		    (head.bytes + PAD - 1) / PAD * PAD > len - body ||
		    !right_size(type, head.bytes))
			return -1;
		if (v)
			v[n] = (struct cpx_mod_rec){ .type = type,
						     .bytes = head.bytes,
						     .pid = head.pid,
						     .tid = head.tid,
						     .body = data + body };
		n++;
		at = body + (head.bytes + PAD - 1) / PAD * PAD;
	}
	return at == len && n && type == CHPOX_REC_END ? (ssize_t)n : -1;
}

/* --- index ---------------------------------------------------------------------------------
 */

static pid_t id_of(const struct cpx_mod_rec *r)
{
	return r->type == CHPOX_REC_THREAD ? r->tid : r->pid;
}

static int by_id(const void *a, const void *b, void *v)
{
	pid_t x = id_of((const struct cpx_mod_rec *)v + *(const size_t *)a);
	pid_t y = id_of((const struct cpx_mod_rec *)v + *(const size_t *)b);

	return x < y ? -1 : x > y;
}

static size_t *index_of(const struct cpx_mod_stream *s, uint32_t type, size_t *n)
{
	size_t *list = calloc(s->n, sizeof(*list));

	for (size_t i = 0; list && i < s->n; i++)
		if (s->v[i].type == type)
			list[(*n)++] = i;
	if (list)
		qsort_r(list, *n, sizeof(*list), by_id, s->v);
	return list;
}

static const struct cpx_mod_rec *look_up(const struct cpx_mod_stream *s, const size_t *list,
					 size_t n, pid_t id)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		pid_t at = id_of(&s->v[list[mid]]);

		if (at == id)
			return &s->v[list[mid]];
		if (at < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

int cpx_mod_parse(char *data, size_t len, struct cpx_mod_stream *out, struct cpx_err *err)
{
	struct cpx_mod_stream s = { .data = data };
	ssize_t n = split(data, len, NULL);

	if (n < 0) {
		free(data);
		return cpx_err_set(err, CPX_E_FORMAT,
				   "what /dev/chpox tells cannot be understood");
	}
	s.v = calloc((size_t)n, sizeof(*s.v));
	s.n = (size_t)n;
	if (s.v) {
		split(data, len, s.v);
		s.threads = index_of(&s, CHPOX_REC_THREAD, &s.nthreads);
		s.processes = index_of(&s, CHPOX_REC_PROCESS, &s.nprocesses);
	}
	if (!s.threads || !s.processes) {
		cpx_mod_free(&s);
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for records");
	}
	*out = s;
	return 0;
}

void cpx_mod_free(struct cpx_mod_stream *s)
{
	free(s->data);
	free(s->v);
	free(s->threads);
	free(s->processes);
	memset(s, 0, sizeof(*s));
}

/* --- finding -------------------------------------------------------------------------------
 */

const struct cpx_mod_rec *cpx_mod_thread(const struct cpx_mod_stream *s, pid_t tid)
{
	return look_up(s, s->threads, s->nthreads, tid);
}

const struct cpx_mod_rec *cpx_mod_process(const struct cpx_mod_stream *s, pid_t pid)
{
	return look_up(s, s->processes, s->nprocesses, pid);
}

const struct cpx_mod_rec *cpx_mod_next(const struct cpx_mod_stream *s,
				       const struct cpx_mod_rec *rec, uint32_t type)
{
	for (const struct cpx_mod_rec *r = rec + 1; r < s->v + s->n; r++) {
		if (r->type == type)
			return r;
		if (r->type == CHPOX_REC_THREAD || r->type == CHPOX_REC_PROCESS)
			break;
	}
	return NULL;
}

size_t cpx_mod_regset(const struct cpx_mod_stream *s, const struct cpx_mod_rec *thread,
		      uint32_t note, const void **set)
{
	const struct cpx_mod_rec *r = thread;

	while ((r = cpx_mod_next(s, r, CHPOX_REC_REGSET))) {
		uint32_t is;

		memcpy(&is, r->body, sizeof(is));
		if (is != note)
			continue;
		*set = (const char *)r->body + PAD;
		return r->bytes - PAD;
	}
	return 0;
}
