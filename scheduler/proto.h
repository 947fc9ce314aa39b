/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proto.h - what chpoxd, keepers and chpox_ctl say to each other over unix sockets.
 *
 * A message is a little-endian u32 with the length of what follows, then that many bytes: one
 * JSON object. Descriptors travel with the first byte. A request has "op"; an answer has "ok"
 * (true, or false with "code", an enum cpx_errcode, and "error", a line for people).
 *
 * Strings of the system (arguments, environment, paths) are bytes, not text: they are carried
 * with each byte as the character of that number (cpx_proto_bytes(), cpx_proto_unbytes()).
 *
 * Messages come from any user: decoding is total, lengths are limited, and the getters check
 * the type of what they fetch.
 */
#ifndef CPX_SCHEDULER_PROTO_H
#define CPX_SCHEDULER_PROTO_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpx_err;

#define CPX_PROTO_MAX (4u << 20) /* bytes of one message */
#define CPX_PROTO_FDS 4
#define CPX_PROTO_RETRY \
	"cannot be reached now"	  /* in an error that goes by itself in a second */
#define CPX_PROTO_SOCKET "socket" /* in the state directory */

/* One JSON object from @n bytes. Return: 0 (free *@out with json_decref()) or CPX_E_FORMAT. */
int cpx_proto_decode(const void *p, size_t n, json_t **out, struct cpx_err *err);

/* The frame of @msg, malloc'ed. Return: its length or CPX_E_*. */
ssize_t cpx_proto_encode(const json_t *msg, uint8_t **out, struct cpx_err *err);

/* Blocking. @msg is freed, also on failure. */
int cpx_proto_send(int sock, json_t *msg, const int *fds, size_t nfds, struct cpx_err *err);
/* Blocking. Return: 0, CPX_E_GONE at end of file, …  The caller closes the descriptors. */
int cpx_proto_recv(int sock, json_t **out, int fds[CPX_PROTO_FDS], size_t *nfds,
		   struct cpx_err *err);

/* A reader for sockets that do not block: feed it when readable, take messages out. */
struct cpx_proto_in {
	uint8_t *data;
	size_t len, cap;
	int fds[CPX_PROTO_FDS]; /* of the message being read */
	size_t nfds;
};
/* Read what is there. Return: 0, CPX_E_GONE at end of file, CPX_E_LIMIT, … */
int cpx_proto_feed(struct cpx_proto_in *in, int sock, struct cpx_err *err);
/* Return: 1 and a message, 0 when none is complete, or CPX_E_FORMAT, CPX_E_LIMIT. */
int cpx_proto_next(struct cpx_proto_in *in, json_t **out, struct cpx_err *err);
/* The same without a socket: for tests. Return: 0, CPX_E_NOMEM or CPX_E_LIMIT. */
int cpx_proto_push(struct cpx_proto_in *in, const void *p, size_t n, struct cpx_err *err);
void cpx_proto_in_free(struct cpx_proto_in *in);

/* {"ok":true}; {"ok":false,"code":…,"error":…}; NULL: out of memory. */
json_t *cpx_proto_ok(void);
json_t *cpx_proto_fail(const struct cpx_err *err);
/* Turn an answer into a return value: 0, or its code with @err set. */
int cpx_proto_result(const json_t *answer, struct cpx_err *err);

/* Fields; NULL, @otherwise or false where they are missing or of another type. */
const char *cpx_proto_str(const json_t *m, const char *key);
int64_t cpx_proto_int(const json_t *m, const char *key, int64_t otherwise);
bool cpx_proto_bool(const json_t *m, const char *key);

json_t *cpx_proto_bytes(const char *s);
/* Return: malloc'ed bytes, or NULL when it is no such string (or holds a NUL). */
char *cpx_proto_unbytes(const json_t *s);
/* A whole list; NULL-terminated. cpx_proto_strv_free() frees it. */
json_t *cpx_proto_strv(char *const *v);
char **cpx_proto_unstrv(const json_t *list, size_t max);
void cpx_proto_strv_free(char **v);

/* Connect to, or listen at, @dir/@name; the path may be longer than a socket address. */
int cpx_proto_connect(const char *dir, const char *name, struct cpx_err *err);
int cpx_proto_listen(const char *dir, const char *name, int type, unsigned mode,
		     struct cpx_err *err);

#endif
