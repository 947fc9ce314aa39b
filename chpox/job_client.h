/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * job_client.h - chpox_ctl's side of chpoxd's socket. Root starts a daemon where none runs.
 */
#ifndef CPX_JOB_CLIENT_H
#define CPX_JOB_CLIENT_H

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_ctl;
struct cpx_err;
struct cpx_gen_entry;
struct cpx_gen_id;

/* Return: a connected socket. */
int cpx_client_open(const struct cpx_ctl *ctl, struct cpx_err *err);

/*
 * cpx_client_call() - one request, one answer; progress messages in between are shown.
 * @req is freed. @fds: sent along; descriptors that come back are in *@fd_back (-1: none; may
 * be NULL). *@answer: free with json_decref(); may be NULL.
 */
int cpx_client_call(const struct cpx_ctl *ctl, json_t *req, const int *fds, size_t nfds,
		    json_t **answer, int *fd_back, struct cpx_err *err);

/* Wait on an open connection for the answer. */
int cpx_client_answer(int sock, const char *what, json_t **answer, int *fd_back,
		      struct cpx_err *err);

/* The host PID of a job's root process. */
int cpx_client_root(const struct cpx_ctl *ctl, const char *job, pid_t *out,
		    struct cpx_err *err);

/*
 * cpx_client_images() - a job's generations as its record names them, the head first, and whose
 * it is. Only id is filled in. Return: their number, at least 1; *@out is malloc'ed.
 */
int cpx_client_images(const struct cpx_ctl *ctl, const char *job, struct cpx_gen_entry **out,
		      uint32_t *uid, uint32_t *gid, struct cpx_err *err);

/* One of the generations in an answer. */
int cpx_client_image(const json_t *g, const char *job, struct cpx_gen_id *id,
		     struct cpx_err *err);

/*
 * cpx_client_pin() - nothing that generation @id needs is removed while the connection lasts.
 * Return: the connection, to be closed when the generation was read.
 */
int cpx_client_pin(const struct cpx_ctl *ctl, const struct cpx_gen_id *id, const char *why,
		   struct cpx_err *err);

/* One request on an open connection; @req is freed. */
int cpx_client_ask(int sock, json_t *req, const char *what, json_t **answer,
		   struct cpx_err *err);

/* The path of a program beside the running one. */
int cpx_beside(const char *name, char *out, size_t size);

#endif
