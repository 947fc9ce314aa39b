/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting keepers. They are our children only until we end; they do not care. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "server.h"

#define LINK_FD 3
#define STDIN_FD 4
#define HIGH_FD 10
#define ARGS 24

/* In the child: the keeper sees its link as 3, the job's input as 4, and nothing else. */
static void __attribute__((noreturn))
become_keeper(struct cpxd *d, char **argv, int link, int in)
{
	sigset_t none;
	int a = fcntl(link, F_DUPFD, HIGH_FD), b = in < 0 ? -1 : fcntl(in, F_DUPFD, HIGH_FD);

	if (a < 0 || dup2(a, LINK_FD) < 0 || (in >= 0 && dup2(b, STDIN_FD) < 0))
		_exit(126);
	close_range(in >= 0 ? STDIN_FD + 1 : LINK_FD + 1, ~0u, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (chdir("/"))
		_exit(126);
	execv(d->keeper_path, argv);
	_exit(127);
}

int cpxd_launch(struct cpxd *d, const struct cpxd_launch *l, struct cpx_err *err)
{
	char request[24], epoch[24], seq[24], own[24], lease[24], deadline[24];
	char *argv[ARGS] = { "chpox_keeper", (char *)l->mode, (char *)l->job, "--dir",
			     (char *)d->dir, "--request",     request };
	struct cpxd_conn *c;
	int n = 7, pair[2];
	pid_t pid;

	snprintf(request, sizeof(request), "%lld", (long long)l->request);
	snprintf(epoch, sizeof(epoch), "%llu", (unsigned long long)l->epoch);
	snprintf(seq, sizeof(seq), "%llu", (unsigned long long)l->seq);
	if (l->seq) {
		argv[n++] = "--seq";
		argv[n++] = seq;
	}
	if (l->epoch) {
		argv[n++] = "--epoch";
		argv[n++] = epoch;
	}
	snprintf(own, sizeof(own), "%llu", (unsigned long long)l->own_epoch);
	snprintf(lease, sizeof(lease), "%lld", (long long)l->lease);
	snprintf(deadline, sizeof(deadline), "%lld", (long long)l->deadline_ns);
	if (l->own_epoch) {
		argv[n++] = "--own";
		argv[n++] = own;
		argv[n++] = "--lease";
		argv[n++] = lease;
		argv[n++] = "--deadline";
		argv[n++] = deadline;
	}
	if (l->force)
		argv[n++] = "--force";
	if (l->stdin_fd >= 0)
		argv[n++] = "--stdin";
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return cpx_err_sys(err, errno, "cannot make a socket");
	pid = fork();
	if (pid == 0)
		become_keeper(d, argv, pair[1], l->stdin_fd);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return cpx_err_sys(err, errno, "cannot fork");
	}
	c = cpxd_conn_add(d, pair[0]);
	if (!c)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	c->keeper = true;
	c->starting = true;
	c->epoch = l->own_epoch;
	c->lease = l->lease;
	c->placed = !strcmp(l->mode, "place");
	c->pid = pid;
	strcpy(c->job, l->job);
	return 0;
}

/* Did the launcher leave a status that is worth a keeper's while? (Killed is for `recover`.) */
static bool left_status(struct cpxd *d, const char *name)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[4096];

	snprintf(path, sizeof(path), "%s/jobs/%s/exit", d->dir, name);
	return cpx_read_file(AT_FDCWD, path, 64, &text, NULL) > 0 &&
	       strtol(text, NULL, 10) != SIGKILL;
}

static void adopt(const struct cpx_reg_job *job, void *ctx)
{
	const struct cpxd_launch l = { .mode = "adopt", .job = job->name, .stdin_fd = -1 };
	struct cpxd *d = ctx;
	struct cpx_err err = { 0 };

	if (cpxd_elsewhere(d, job) || cpxd_keeper_of(d, job->name) ||
	    job->state != CPX_JOB_RUNNING || cpx_live_check(&job->keeper))
		return;
	if (cpxd_lost(job) && !(job->init.pid && left_status(d, job->name)))
		return;
	cpx_log_note("the keeper of '%s' has died; another takes over", job->name);
	if (cpxd_launch(d, &l, &err) < 0)
		cpx_log_error("%s: %s", job->name, err.msg);
}

int cpxd_adopt_all(struct cpxd *d)
{
	return cpx_registry_each(d->reg, adopt, d, NULL);
}
