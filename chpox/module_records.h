/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * module_records.h - the record stream of /dev/chpox, taken apart (kernel/chpox_uapi.h).
 *
 * Pure. A stream is checked as a whole before anything is found in it: each record of a known
 * type has the length it must have, the last one is END. Unknown types are passed over.
 */
#ifndef CPX_MODULE_RECORDS_H
#define CPX_MODULE_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_err;

struct cpx_mod_rec {
	uint32_t type; /* enum chpox_record_type */
	uint32_t bytes;
	pid_t pid, tid;
	const void *body; /* 8-aligned, in the stream's bytes */
};

struct cpx_mod_stream {
	char *data; /* malloc'ed, owned */
	struct cpx_mod_rec *v;
	size_t n;
	size_t *threads, *processes; /* indices of their first records, ascending by id */
	size_t nthreads, nprocesses;
};

/*
 * cpx_mod_parse() - @data: @len bytes, malloc'ed, taken over, also on failure.
 * Return: 0, CPX_E_FORMAT or CPX_E_NOMEM.
 */
int cpx_mod_parse(char *data, size_t len, struct cpx_mod_stream *out, struct cpx_err *err);
void cpx_mod_free(struct cpx_mod_stream *s);

/* The THREAD record of @tid, the PROCESS record of @pid; NULL: there is none. */
const struct cpx_mod_rec *cpx_mod_thread(const struct cpx_mod_stream *s, pid_t tid);
const struct cpx_mod_rec *cpx_mod_process(const struct cpx_mod_stream *s, pid_t pid);
/* The next one of @type that belongs to the same thread or process as @rec; NULL: none. */
const struct cpx_mod_rec *cpx_mod_next(const struct cpx_mod_stream *s,
				       const struct cpx_mod_rec *rec, uint32_t type);
/* The register set of note type @note of a THREAD record. Return: its bytes, 0: none. */
size_t cpx_mod_regset(const struct cpx_mod_stream *s, const struct cpx_mod_rec *thread,
		      uint32_t note, const void **set);

#endif
