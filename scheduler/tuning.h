/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tuning.h - how a job's checkpoints are to be made, as its user wants it. Pure.
 *
 * It is part of the job's record, of the requests that set it, and of a request for one
 * checkpoint, where what is given counts before the record. The names of ways and codecs are
 * those of the command line.
 */
#ifndef CPX_SCHEDULER_TUNING_H
#define CPX_SCHEDULER_TUNING_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct cpx_err;

#define CPX_TUNING_CPUS_MAX 256
#define CPX_TUNING_RATE_MIN 1024

/* All zero: nothing is wanted. */
struct cpx_tuning {
	char snapshot[8]; /* auto, precopy, clone, stop; "": not given */
	char codec[8];	  /* auto, lz4, zlib, none; "": not given */
	uint32_t cpus;	  /* processors that write it use at most; 0: not given */
	int64_t rate;	  /* bytes a second into the store, while the job runs; 0: not given */
};

/* From the fields snapshot, codec, cpus, rate of @j, each of which may be missing. */
int cpx_tuning_decode(const json_t *j, struct cpx_tuning *out, struct cpx_err *err);
/* Put what is given into @j. */
void cpx_tuning_encode(const struct cpx_tuning *t, json_t *j);
/* @first counts before @then. */
struct cpx_tuning cpx_tuning_of(const struct cpx_tuning *first, const struct cpx_tuning *then);

#endif
