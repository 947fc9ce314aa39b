/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state.h - everything of a job but its page contents: a list of typed records.
 *
 * A record family (rec_*.h) lists its records and their fields in macros; from the
 * same list come the C struct (struct cpx_rec_<name>), the encoder, the total
 * decoder, and the text that `inspect` prints. On disk a record is {u16 type, u16
 * flags, u32 length, fields in order, little-endian}; fields may be added at the end
 * only (a missing one reads as zero), a type is never used again.
 *
 * All memory of a state (records, strings, blobs) belongs to its arena and lives
 * until cpx_state_free(). Not thread-safe while it is being built.
 */
#ifndef CPX_STORE_STATE_H
#define CPX_STORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpx_buf;
struct cpx_err;
struct cpx_state;

/* Field kinds: C type of kind K is cpx_k_K. */
struct cpx_blob {
	const void *p;
	uint32_t n; /* bytes */
};
struct cpx_u32s {
	const uint32_t *v;
	uint32_t n; /* elements */
};
struct cpx_u64s {
	const uint64_t *v;
	uint32_t n; /* elements */
};
typedef uint8_t cpx_k_u8;
typedef uint16_t cpx_k_u16;
typedef uint32_t cpx_k_u32;
typedef uint64_t cpx_k_u64;
typedef int32_t cpx_k_i32;
typedef int64_t cpx_k_i64;
typedef const char *cpx_k_str;	    /* NUL-terminated or NULL; <= CPX_STR_MAX */
typedef struct cpx_blob cpx_k_blob; /* <= CPX_BLOB_MAX */
typedef struct cpx_u32s cpx_k_u32s; /* <= CPX_BLOB_MAX bytes */
typedef struct cpx_u64s cpx_k_u64s;

#define CPX_STR_MAX 65536u
#define CPX_BLOB_MAX (64u << 20)
#define CPX_STATE_MAX (512u << 20) /* bytes of all records encoded */

#include "rec_core.h"
#include "rec_fd.h"
#include "rec_ipc.h"
#include "rec_mm.h"
#include "rec_task.h"

/* All families; each R(type, name, FIELDS). Types: see docs/image-format.md. */
#define CPX_RECS(R) \
	CPX_RECS_CORE(R) CPX_RECS_TASK(R) CPX_RECS_MM(R) CPX_RECS_FD(R) CPX_RECS_IPC(R)

#define CPX_DECLARE_FIELD(rec, kind, name) cpx_k_##kind name;
#define CPX_DECLARE_REC(type, name, FIELDS) \
	struct cpx_rec_##name {             \
		FIELDS(CPX_DECLARE_FIELD)   \
	};
CPX_RECS(CPX_DECLARE_REC)

#define CPX_ENUM_REC(type, name, FIELDS) CPX_REC_##name = (type),
enum cpx_rec_type { CPX_RECS(CPX_ENUM_REC) };

struct cpx_state *cpx_state_new(void); /* NULL: out of memory */
void cpx_state_free(struct cpx_state *s);

/* A zeroed record at the end of its type's list, at an address that never changes; NULL: out
 * of memory. */
void *cpx_state_add(struct cpx_state *s, enum cpx_rec_type type);
#define cpx_state_new_rec(s, name) ((struct cpx_rec_##name *)cpx_state_add(s, CPX_REC_##name))

/* Take back the last record added of @type (after a failure to fill it). */
void cpx_state_drop_last(struct cpx_state *s, enum cpx_rec_type type);

size_t cpx_state_count(const struct cpx_state *s, enum cpx_rec_type type);
/* The @i-th record of @type, in order of addition; NULL past the end. */
const void *cpx_state_at(const struct cpx_state *s, enum cpx_rec_type type, size_t i);
#define cpx_state_rec(s, name, i) \
	((const struct cpx_rec_##name *)cpx_state_at(s, CPX_REC_##name, i))
#define cpx_state_each(s, name, var)                                                          \
	for (size_t i_##var = 0; i_##var < cpx_state_count(s, CPX_REC_##name); i_##var++)     \
		for (const struct cpx_rec_##name *var = cpx_state_rec(s, name, i_##var); var; \
		     var = NULL)

/* Arena memory, zeroed, aligned to 16; NULL: out of memory. The other two copy. */
void *cpx_state_alloc(struct cpx_state *s, size_t n);
const char *cpx_state_str(struct cpx_state *s, const char *text);
struct cpx_blob cpx_state_blob(struct cpx_state *s, const void *p, size_t n);

/* Append all records to @out. Return: 0, CPX_E_NOMEM or CPX_E_LIMIT. */
int cpx_state_encode(const struct cpx_state *s, struct cpx_buf *out, struct cpx_err *err);

/*
 * cpx_state_decode() - read what cpx_state_encode() wrote, trusting nothing.
 * Checks lengths, limits and text; unknown records are skipped when they are marked optional,
 * refused otherwise. What the numbers mean is checked by those who use them.
 * Return: 0 and a new state in *@out, CPX_E_FORMAT, CPX_E_LIMIT or CPX_E_NOMEM.
 */
int cpx_state_decode(const void *p, size_t n, struct cpx_state **out, struct cpx_err *err);

/* Append a readable line a record ("task pid=7 ppid=1 …\n") to @out. */
void cpx_state_print(const struct cpx_state *s, struct cpx_buf *out);

/*
 * Append all records as a JSON array of objects. Numbers above 2^63 - 1 are strings in hex;
 * bytes are hex, too; text that is not UTF-8 has its bytes as U+0080 to U+00FF.
 */
void cpx_state_print_json(const struct cpx_state *s, struct cpx_buf *out);

#endif
