/* SPDX-License-Identifier: GPL-2.0-or-later */
/* registry_back.h - between registry.c and its back ends. */
#ifndef CPX_SCHEDULER_REGISTRY_BACK_H
#define CPX_SCHEDULER_REGISTRY_BACK_H

#include "registry.h"

struct cpx_registry {
	const struct cpx_reg_ops *ops;
	void *be;
	char node[CPX_JOB_NAME_MAX]; /* as cpx_registry_fence() was told */
	int64_t lease;
};

/* A number within [@min, @max], a string that fits; *@ok is cleared otherwise. */
int64_t cpx_reg_number(const json_t *j, const char *key, int64_t min, int64_t max, bool *ok);
void cpx_reg_text(const json_t *j, const char *key, char *out, size_t size, bool *ok);

/* registry_placing.c: what only a cluster has; absent in other records. */
void cpx_reg_placing_encode(const struct cpx_reg_job *job, json_t *j);
void cpx_reg_placing_decode(const json_t *j, struct cpx_reg_job *job, bool *ok);

/* registry_auto.c: what `every auto` knows; absent in records of older versions. */
json_t *cpx_reg_learned_encode(const struct cpx_reg_job *job);
void cpx_reg_learned_decode(const json_t *j, struct cpx_reg_job *job, bool *ok);

extern const struct cpx_reg_ops cpx_reg_embedded_ops;
int cpx_reg_embedded_open(const char *dir, void **be, struct cpx_err *err);

extern const struct cpx_reg_ops cpx_reg_etcd_ops;
int cpx_reg_etcd_open(const char *url, const char *key_file, void **be, struct cpx_err *err);

#endif
