/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_batch.h - many system calls in a process that is being built, at the price of one.
 *
 * The calls are laid out as a table in the upper half of the home, where a few instructions
 * run them in one go. A failing call does not stop the others; cpx_batch_run() reports the
 * first failure of a call that was not marked CPX_CALL_MAY_FAIL. Arguments that point to
 * memory are put into the lower half with cpx_tracee_push().
 */
#ifndef CPX_RST_BATCH_H
#define CPX_RST_BATCH_H

#include <stddef.h>
#include <stdint.h>

struct cpx_err;
struct cpx_tracee;

enum cpx_call_flags {
	CPX_CALL_KEEP = 1u << 0,     /* the result is the kept descriptor from now on */
	CPX_CALL_FD_ARG5 = 1u << 1,  /* the kept descriptor is the fifth argument */
	CPX_CALL_FD_ARG1 = 1u << 2,  /* … the first */
	CPX_CALL_FD_STORE = 1u << 3, /* … is stored as 32 bits at the address in the sixth */
	CPX_CALL_MAY_FAIL = 1u << 8,
};

struct cpx_call {
	uint64_t nr, args[6];
	uint64_t flags;	  /* enum cpx_call_flags */
	const char *what; /* for the message, with @at */
	uint64_t at;
};

struct cpx_batch {
	struct cpx_tracee *t; /* its home is a bare one */
	struct cpx_call *v;
	size_t n;
};

/* @room: of the home, behind cpx_tracee_push()'s half. */
#define CPX_BATCH_MAX 400
/* Bytes that may be pushed for one batch. */
#define CPX_BATCH_DATA 16384u

int cpx_batch_init(struct cpx_batch *b, struct cpx_tracee *t, struct cpx_err *err);
void cpx_batch_free(struct cpx_batch *b);

/* Add a call; runs what there is when the table is full. Return: 0 or the failure of that. */
int cpx_batch_add(struct cpx_batch *b, const char *what, uint64_t at, uint64_t flags, long nr,
		  const uint64_t args[6], struct cpx_err *err);
#define cpx_badd(b, err, what, at, flags, nr, ...) \
	cpx_batch_add(b, what, at, flags, nr, (const uint64_t[6]){ __VA_ARGS__ }, err)

/* Make sure that the next @n calls run together; @n <= CPX_BATCH_MAX. */
int cpx_batch_room(struct cpx_batch *b, size_t n, struct cpx_err *err);

/* Copy bytes to where calls of this batch find them; runs what there is when there is no room.
 */
int cpx_batch_push(struct cpx_batch *b, const void *p, size_t len, uint64_t *at,
		   struct cpx_err *err);

/* Run all, and forget them. */
int cpx_batch_run(struct cpx_batch *b, struct cpx_err *err);

#endif
