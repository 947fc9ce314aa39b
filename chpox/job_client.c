/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "job_client.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../scheduler/proto.h"
#include "../store/image.h"
#include "base/err.h"
#include "base/fd.h"
#include "ctl.h"

#define START_TRIES 100
#define CALL_TRIES 125 /* 2.5 s: a daemon that starts waits for keepers of an earlier one */
#define START_NAP_NS 20000000

int cpx_beside(const char *name, char *out, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", out, size - 1);
	char *slash;

	if (n <= 0)
		return -1;
	out[n] = 0;
	slash = strrchr(out, '/');
	if (!slash || (size_t)(slash + 1 - out) + strlen(name) >= size)
		return -1;
	strcpy(slash + 1, name);
	return 0;
}

/* The daemon goes to the background by itself and returns once it can be reached. */
static int start_daemon(const char *dir, struct cpx_err *err)
{
	char path[PATH_MAX];
	char *argv[] = { path, "--dir", (char *)dir, NULL };
	int status, r;
	pid_t pid;

	if (cpx_beside("chpoxd", path, sizeof(path)))
		return cpx_err_set(err, CPX_E_NOENT, "cannot find chpoxd");
	r = posix_spawnp(&pid, path, NULL, NULL, argv, environ);
	if (r)
		return cpx_err_sys(err, r, "cannot start %s", path);
	if (waitpid(pid, &status, 0) != pid || status)
		return cpx_err_set(err, CPX_E_SYS, "chpoxd could not be started for %s", dir);
	return 0;
}

int cpx_client_open(const struct cpx_ctl *ctl, struct cpx_err *err)
{
	struct timespec nap = { .tv_nsec = START_NAP_NS };
	int fd = cpx_proto_connect(ctl->dir, CPX_PROTO_SOCKET, err);

	if (fd >= 0)
		return fd;
	if (geteuid() != 0)
		return cpx_err_set(
			err, fd,
			"chpoxd cannot be reached at %s; ask root to start it: chpoxd --dir %s",
			ctl->dir, ctl->dir);
	for (int i = 0; i < START_TRIES; i++) {
		int r = start_daemon(ctl->dir, err);

		if (r < 0)
			return r;
		fd = cpx_proto_connect(ctl->dir, CPX_PROTO_SOCKET, err);
		if (fd >= 0)
			return fd;
		nanosleep(&nap, NULL);
	}
	return fd;
}

static void show_progress(const json_t *m, struct cpx_progress *p)
{
	int64_t done = cpx_proto_int(m, "done", 0), total = cpx_proto_int(m, "total", 0);

	if (done >= 0 && total >= 0)
		cpx_progress_step(p, (uint64_t)done, (uint64_t)total);
}

int cpx_client_answer(int sock, const char *what, json_t **answer, int *fd_back,
		      struct cpx_err *err)
{
	struct cpx_progress progress;
	int fds[CPX_PROTO_FDS], r;
	json_t *m = NULL;
	size_t nfds;

	if (fd_back)
		*fd_back = -1;
	cpx_progress_begin(&progress, what);
	for (;;) {
		r = cpx_proto_recv(sock, &m, fds, &nfds, err);
		if (r < 0)
			break;
		for (size_t i = 0; i < nfds; i++) {
			if (fd_back && *fd_back < 0)
				*fd_back = fds[i];
			else
				close(fds[i]);
		}
		if (!json_object_get(m, "progress"))
			break;
		show_progress(m, &progress);
		json_decref(m);
	}
	cpx_progress_end(&progress);
	if (r == CPX_E_GONE)
		return cpx_err_set(err, r, "chpoxd has gone; try again");
	if (r < 0)
		return r;
	r = cpx_proto_result(m, err);
	if (r >= 0 && answer)
		*answer = m;
	else
		json_decref(m);
	return r;
}

/* Requests that change nothing are sent again when the daemon was replaced meanwhile. */
static bool only_looks(const json_t *req)
{
	static const char *const ops[] = { "list", "show", "logs" };
	const char *op = cpx_proto_str(req, "op");

	for (size_t i = 0; op && i < sizeof(ops) / sizeof(ops[0]); i++)
		if (!strcmp(op, ops[i]))
			return true;
	return false;
}

static int call_once(const struct cpx_ctl *ctl, json_t *req, const int *fds, size_t nfds,
		     json_t **answer, int *fd_back, struct cpx_err *err)
{
	CPX_AUTO_FD sock = cpx_client_open(ctl, err);
	const char *op = cpx_proto_str(req, "op");
	int r;

	if (sock < 0)
		return sock;
	r = cpx_proto_send(sock, json_incref(req), fds, nfds, err);
	return r < 0 ? CPX_E_GONE : cpx_client_answer(sock, op, answer, fd_back, err);
}

int cpx_client_call(const struct cpx_ctl *ctl, json_t *req, const int *fds, size_t nfds,
		    json_t **answer, int *fd_back, struct cpx_err *err)
{
	struct timespec nap = { .tv_nsec = START_NAP_NS };
	int r = CPX_E_NOMEM;

	for (int i = 0; req && i < CALL_TRIES; i++) {
		r = call_once(ctl, req, fds, nfds, answer, fd_back, err);
		if (!(r == CPX_E_GONE && only_looks(req)) &&
		    !(r == CPX_E_BUSY && strstr(err->msg, CPX_PROTO_RETRY)))
			break;
		nanosleep(&nap, NULL);
	}
	if (!req)
		cpx_err_set(err, r, "out of memory");
	json_decref(req);
	return r;
}

int cpx_client_root(const struct cpx_ctl *ctl, const char *job, pid_t *out, struct cpx_err *err)
{
	json_t *a = NULL;
	int r = cpx_client_call(ctl, json_pack("{s:s, s:s}", "op", "show", "job", job), NULL, 0,
				&a, NULL, err);

	if (r < 0)
		return r;
	*out = (pid_t)cpx_proto_int(json_object_get(a, "job"), "pid", 0);
	json_decref(a);
	if (*out <= 0)
		return cpx_err_set(err, CPX_E_GONE, "job '%s' does not run", job);
	return 0;
}

int cpx_client_image(const json_t *g, const char *job, struct cpx_gen_id *id,
		     struct cpx_err *err)
{
	const char *nonce = cpx_proto_str(g, "nonce");

	if (!nonce || strlen(nonce) >= sizeof(id->nonce) || strlen(job) >= sizeof(id->job))
		return cpx_err_set(err, CPX_E_FORMAT, "an answer that makes no sense");
	memset(id, 0, sizeof(*id));
	strcpy(id->job, job);
	strcpy(id->nonce, nonce);
	id->epoch = (uint64_t)cpx_proto_int(g, "epoch", 0);
	id->seq = (uint64_t)cpx_proto_int(g, "generation", 0);
	return 0;
}

int cpx_client_images(const struct cpx_ctl *ctl, const char *job, struct cpx_gen_entry **out,
		      uint32_t *uid, uint32_t *gid, struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_gen_entry *v = NULL;
	json_t *a = NULL, *list;
	size_t n;
	int r = cpx_client_call(ctl, json_pack("{s:s, s:s}", "op", "show", "job", job), NULL, 0,
				&a, NULL, err);

	if (r < 0)
		return r;
	list = json_object_get(a, "images");
	n = json_array_size(list);
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		r = cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	else if (!n)
		r = cpx_err_set(err, CPX_E_NOENT, "job '%s' has no checkpoint", job);
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = cpx_client_image(json_array_get(list, i), job, &v[i].id, err);
	if (r >= 0) {
		*uid = (uint32_t)cpx_proto_int(json_object_get(a, "job"), "uid", 0);
		*gid = (uint32_t)cpx_proto_int(json_object_get(a, "job"), "gid", 0);
		*out = cpx_steal_ptr(&v);
	}
	json_decref(a);
	return r < 0 ? r : (int)n;
}

int cpx_client_ask(int sock, json_t *req, const char *what, json_t **answer,
		   struct cpx_err *err)
{
	int r;

	if (!req)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	r = cpx_proto_send(sock, req, NULL, 0, err);
	return r < 0 ? r : cpx_client_answer(sock, what, answer, NULL, err);
}

int cpx_client_pin(const struct cpx_ctl *ctl, const struct cpx_gen_id *id, const char *why,
		   struct cpx_err *err)
{
	CPX_AUTO_FD sock = cpx_client_open(ctl, err);
	int r;

	if (sock < 0)
		return sock;
	r = cpx_client_ask(sock,
			   json_pack("{s:s, s:s, s:s, s:I, s:I}", "op", "pin", "job", id->job,
				     "why", why, "epoch", (json_int_t)id->epoch, "generation",
				     (json_int_t)id->seq),
			   why, NULL, err);
	return r < 0 ? r : cpx_steal_fd(&sock);
}
