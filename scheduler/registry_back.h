/* SPDX-License-Identifier: GPL-2.0-or-later */
/* registry_back.h - between registry.c and its back ends. */
#ifndef CPX_SCHEDULER_REGISTRY_BACK_H
#define CPX_SCHEDULER_REGISTRY_BACK_H

#include "registry.h"

extern const struct cpx_reg_ops cpx_reg_embedded_ops;
int cpx_reg_embedded_open(const char *dir, void **be, struct cpx_err *err);

extern const struct cpx_reg_ops cpx_reg_etcd_ops;
int cpx_reg_etcd_open(const char *url, const char *key_file, void **be, struct cpx_err *err);

#endif
