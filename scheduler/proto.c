/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../chpox/base/buf.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

#define HEAD 4
#define CHUNK 65536

int cpx_proto_decode(const void *p, size_t n, json_t **out, struct cpx_err *err)
{
	json_error_t je;
	json_t *j;

	if (n == 0 || n > CPX_PROTO_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "a message of %zu bytes", n);
	j = json_loadb(p, n, JSON_REJECT_DUPLICATES, &je);
	if (!j)
		return cpx_err_set(err, CPX_E_FORMAT, "a message that is no JSON: %s", je.text);
	if (!json_is_object(j)) {
		json_decref(j);
		return cpx_err_set(err, CPX_E_FORMAT, "a message that is no object");
	}
	*out = j;
	return 0;
}

ssize_t cpx_proto_encode(const json_t *msg, uint8_t **out, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
	struct cpx_buf b = { 0 };
	size_t n;

	if (!text)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	n = strlen(text);
	if (n > CPX_PROTO_MAX)
		return cpx_err_set(err, CPX_E_LIMIT,
				   "arguments and environment are too long (%zu bytes)", n);
	cpx_buf_u32(&b, (uint32_t)n);
	cpx_buf_put(&b, text, n);
	if (b.failed) {
		cpx_buf_free(&b);
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	}
	*out = b.data;
	return (ssize_t)b.len;
}

int cpx_proto_send(int sock, json_t *msg, const int *fds, size_t nfds, struct cpx_err *err)
{
	CPX_AUTO_FREE uint8_t *frame = NULL;
	ssize_t n = cpx_proto_encode(msg, &frame, err);

	json_decref(msg);
	if (n < 0)
		return (int)n;
	if (nfds && cpx_send_fds(sock, frame, 1, fds, nfds) < 0)
		return cpx_err_sys(err, errno, "cannot send");
	for (size_t done = nfds ? 1 : 0; done < (size_t)n;) {
		ssize_t w = send(sock, frame + done, (size_t)n - done, MSG_NOSIGNAL);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return cpx_err_sys(err, errno, "cannot send");
		done += (size_t)w;
	}
	return 0;
}

int cpx_proto_push(struct cpx_proto_in *in, const void *p, size_t n, struct cpx_err *err)
{
	if (in->len + n > CPX_PROTO_MAX + HEAD + CHUNK)
		return cpx_err_set(err, CPX_E_LIMIT, "a message is too long");
	if (in->len + n > in->cap) {
		size_t cap = in->cap ? in->cap : 1024;
		uint8_t *q;

		while (cap < in->len + n)
			cap *= 2;
		q = realloc(in->data, cap);
		if (!q)
			return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
		in->data = q;
		in->cap = cap;
	}
	if (n)
		memcpy(in->data + in->len, p, n);
	in->len += n;
	return 0;
}

int cpx_proto_feed(struct cpx_proto_in *in, int sock, struct cpx_err *err)
{
	uint8_t chunk[CHUNK];
	int fds[CPX_PROTO_FDS];
	size_t nfds = 0;
	ssize_t r = cpx_recv_fds(sock, chunk, sizeof(chunk), fds, CPX_PROTO_FDS, &nfds);

	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	for (size_t i = 0; r > 0 && i < nfds; i++) {
		if (in->nfds < CPX_PROTO_FDS)
			in->fds[in->nfds++] = fds[i];
		else
			close(fds[i]);
	}
	if (r < 0)
		return cpx_err_sys(err, errno, "cannot receive");
	if (r == 0)
		return cpx_err_set(err, CPX_E_GONE, "the other side has gone");
	return cpx_proto_push(in, chunk, (size_t)r, err);
}

int cpx_proto_next(struct cpx_proto_in *in, json_t **out, struct cpx_err *err)
{
	struct cpx_rd rd = cpx_rd_init(in->data, in->len);
	uint32_t n = cpx_rd_u32(&rd);
	int r;

	if (rd.failed)
		return 0;
	if (n == 0 || n > CPX_PROTO_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "a message of %u bytes", n);
	if (cpx_rd_left(&rd) < n)
		return 0;
	r = cpx_proto_decode(in->data + HEAD, n, out, err);
	if (r < 0)
		return r;
	memmove(in->data, in->data + HEAD + n, in->len - HEAD - n);
	in->len -= HEAD + n;
	return 1;
}

void cpx_proto_in_free(struct cpx_proto_in *in)
{
	for (size_t i = 0; i < in->nfds; i++)
		close(in->fds[i]);
	free(in->data);
	memset(in, 0, sizeof(*in));
}

int cpx_proto_recv(int sock, json_t **out, int fds[CPX_PROTO_FDS], size_t *nfds,
		   struct cpx_err *err)
{
	uint8_t head[HEAD];
	CPX_AUTO_FREE uint8_t *body = NULL;
	struct cpx_rd rd;
	size_t n = 0;
	uint32_t len;
	ssize_t r;

	*nfds = 0;
	do
		r = cpx_recv_fds(sock, head, HEAD, fds, CPX_PROTO_FDS, nfds);
	while (r < 0 && errno == EINTR);
	if (r > 0 && r < HEAD)
		n = (size_t)cpx_read_full(sock, head + r, HEAD - (size_t)r);
	if (r <= 0 || (size_t)r + n != HEAD)
		return cpx_err_set(err, CPX_E_GONE, "the other side has gone");
	rd = cpx_rd_init(head, HEAD);
	len = cpx_rd_u32(&rd);
	if (len == 0 || len > CPX_PROTO_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "a message of %u bytes", len);
	body = malloc(len);
	if (!body)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	if (cpx_read_full(sock, body, len) != (ssize_t)len)
		return cpx_err_set(err, CPX_E_GONE, "the other side has gone");
	return cpx_proto_decode(body, len, out, err);
}

json_t *cpx_proto_ok(void)
{
	return json_pack("{s:b}", "ok", 1);
}

json_t *cpx_proto_fail(const struct cpx_err *err)
{
	/* messages may quote what is no UTF-8 */
	char msg[sizeof(err->msg)];
	size_t i;

	for (i = 0; err->msg[i] && i + 1 < sizeof(msg); i++)
		msg[i] = (unsigned char)err->msg[i] < 0x80 ? err->msg[i] : '?';
	msg[i] = 0;
	return json_pack("{s:b, s:i, s:s}", "ok", 0, "code", err->code, "error", msg);
}

int cpx_proto_result(const json_t *a, struct cpx_err *err)
{
	const char *text = cpx_proto_str(a, "error");
	int64_t code = cpx_proto_int(a, "code", CPX_E_SYS);

	if (cpx_proto_bool(a, "ok"))
		return 0;
	if (code >= 0 || code < -1000)
		code = CPX_E_SYS;
	return cpx_err_set(err, (int)code, "%s", text ? text : "refused");
}

const char *cpx_proto_str(const json_t *m, const char *key)
{
	return json_string_value(json_object_get(m, key));
}

int64_t cpx_proto_int(const json_t *m, const char *key, int64_t otherwise)
{
	const json_t *v = json_object_get(m, key);

	return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

bool cpx_proto_bool(const json_t *m, const char *key)
{
	return json_is_true(json_object_get(m, key));
}

json_t *cpx_proto_bytes(const char *s)
{
	size_t n = strlen(s), k = 0;
	CPX_AUTO_FREE char *utf = malloc(2 * n + 1);

	if (!utf)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c >= 0x80) {
			utf[k++] = (char)(0xc0 | c >> 6);
			c = 0x80 | (c & 0x3f);
		}
		utf[k++] = (char)c;
	}
	return json_stringn(utf, k);
}

char *cpx_proto_unbytes(const json_t *s)
{
	const unsigned char *u = (const unsigned char *)json_string_value(s);
	size_t n = json_string_length(s), k = 0;
	CPX_AUTO_FREE char *out = u ? malloc(n + 1) : NULL;

	if (!out)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		unsigned c = u[i];

		if (c == 0)
			return NULL;
		if (c >= 0x80) {
			if ((c & 0xfc) != 0xc0 || i + 1 >= n)
				return NULL;
			c = (c & 3) << 6 | (u[++i] & 0x3f);
		}
		out[k++] = (char)c;
	}
	out[k] = 0;
	return cpx_steal_ptr(&out);
}

json_t *cpx_proto_strv(char *const *v)
{
	json_t *list = json_array();

	for (; list && *v; v++)
		if (json_array_append_new(list, cpx_proto_bytes(*v))) {
			json_decref(list);
			return NULL;
		}
	return list;
}

void cpx_proto_strv_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

char **cpx_proto_unstrv(const json_t *list, size_t max)
{
	size_t n = json_array_size(list);
	char **v;

	if (!json_is_array(list) || n > max)
		return NULL;
	v = calloc(n + 1, sizeof(*v));
	for (size_t i = 0; v && i < n; i++) {
		v[i] = cpx_proto_unbytes(json_array_get(list, i));
		if (!v[i]) {
			cpx_proto_strv_free(v);
			return NULL;
		}
	}
	return v;
}

/* The address of @dir/@name by way of a descriptor of @dir, which must stay open meanwhile. */
static int address(const char *dir, const char *name, struct sockaddr_un *sa, int *dirfd,
		   struct cpx_err *err)
{
	*dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dirfd < 0)
		return cpx_err_sys(err, errno, "%s", dir);
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	if (snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s", *dirfd, name) >=
	    (int)sizeof(sa->sun_path))
		return cpx_err_set(err, CPX_E_LIMIT, "socket name %s is too long", name);
	return 0;
}

int cpx_proto_connect(const char *dir, const char *name, struct cpx_err *err)
{
	struct sockaddr_un sa;
	CPX_AUTO_FD dirfd = -1;
	CPX_AUTO_FD fd = -1;
	int r = address(dir, name, &sa, &dirfd, err);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return cpx_err_sys(err, errno, "cannot connect to %s/%s", dir, name);
	return cpx_steal_fd(&fd);
}

int cpx_proto_listen(const char *dir, const char *name, int type, unsigned mode,
		     struct cpx_err *err)
{
	struct sockaddr_un sa;
	CPX_AUTO_FD dirfd = -1;
	CPX_AUTO_FD fd = -1;
	int r = address(dir, name, &sa, &dirfd, err);

	if (r < 0)
		return r;
	unlinkat(dirfd, name, 0);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) ||
	    fchmodat(dirfd, name, mode, 0) || listen(fd, 64))
		return cpx_err_sys(err, errno, "cannot listen at %s/%s", dir, name);
	return cpx_steal_fd(&fd);
}
