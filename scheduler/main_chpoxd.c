/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chpoxd - the daemon of a node.
 *
 * Start: state directory made -> lock taken (another daemon there: done, successfully) ->
 * socket
 * -> in the background -> jobs without keeper adopted -> loop. It returns to who started it
 * when it can be reached. SIGTERM ends it; the jobs stay with their keepers.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../chpox/base/cgroup.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fault.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "server.h"

#define DEFAULT_DIR "/var/lib/chpox"
#define DAEMON_CGROUP "chpox.daemon"
#define ADOPT_MS 1000

static int make_dirs(const char *dir, struct cpx_err *err)
{
	static const char *const subs[] = { "", "/jobs", "/store" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++) {
		struct stat st;

		if (snprintf(path, sizeof(path), "%s%s", dir, subs[i]) >= (int)sizeof(path))
			return cpx_err_set(err, CPX_E_LIMIT, "path %s is too long", dir);
		if (mkdir(path, 0711) && errno != EEXIST)
			return cpx_err_sys(err, errno, "cannot make %s", path);
		if (stat(path, &st) || st.st_uid != 0 || st.st_mode & 022)
			return cpx_err_set(
				err, CPX_E_PERM,
				"%s must belong to root and be writable by root alone", path);
		/* users reach the socket and their own directories through it */
		if ((st.st_mode & 0111) != 0111 && chmod(path, (st.st_mode | 0111) & 07777))
			return cpx_err_sys(err, errno, "cannot open %s for searching", path);
	}
	return 0;
}

/* Held until we end. Return: 1 taken, 0 another daemon has it, or CPX_E_*. */
static int take_lock(const char *dir, struct cpx_err *err)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return cpx_err_sys(err, errno, "cannot open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int sys = errno;

		close(fd);
		return sys == EWOULDBLOCK ? 0 : cpx_err_sys(err, sys, "cannot lock %s", path);
	}
	/* for people and scripts; the lock itself is what counts */
	if (ftruncate(fd, 0) || dprintf(fd, "%d\n", getpid()) < 0)
		return cpx_err_sys(err, errno, "cannot write %s", path);
	return 1;
}

/* The log takes over from stderr; a pipe tells the starter that all is well. */
static int to_background(const char *dir, int *ready, struct cpx_err *err)
{
	char path[PATH_MAX], byte;
	int pair[2], log, null;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/chpoxd.log", dir);
	log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (log < 0 || null < 0 || pipe2(pair, O_CLOEXEC))
		return cpx_err_sys(err, errno, "cannot open %s", path);
	pid = fork();
	if (pid < 0)
		return cpx_err_sys(err, errno, "cannot fork");
	if (pid > 0) {
		close(pair[1]);
		_exit(read(pair[0], &byte, 1) == 1 ? 0 : 1);
	}
	close(pair[0]);
	setsid();
	if (chdir("/") || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		return cpx_err_sys(err, errno, "cannot go to the background");
	*ready = pair[1];
	/* stderr still is the starter's, for what may yet go wrong */
	return log;
}

/*
 * Out of the caller's session scope: where cgroup v2 is mounted a group of its own, in which no
 * log-out kills it. Jobs get groups of their own.
 */
static void leave_scope(void)
{
	int fd = cpx_cgroup_make(DAEMON_CGROUP, NULL);

	if (fd < 0)
		return;
	cpx_cgroup_add(fd, getpid(), NULL);
	close(fd);
}

static void on_sigchld(uv_signal_t *h, int sig)
{
	(void)h;
	(void)sig;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void on_sigterm(uv_signal_t *h, int sig)
{
	(void)sig;
	uv_stop(h->loop);
}

static void on_adopt(uv_timer_t *t)
{
	uv_timer_stop(t);
	cpxd_adopt_all(t->data);
}

static int set_up(struct cpxd *d, struct cpx_err *err)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", d->keeper_path, sizeof(d->keeper_path) - 32);
	char *slash;
	int r;

	d->keeper_path[n > 0 ? n : 0] = 0;
	slash = strrchr(d->keeper_path, '/');
	if (!slash)
		return cpx_err_set(err, CPX_E_NOENT, "cannot find chpox_keeper");
	strcpy(slash + 1, "chpox_keeper");
	if (access(d->keeper_path, X_OK))
		return cpx_err_sys(err, errno, "%s", d->keeper_path);
	snprintf(path, sizeof(path), "%s/registry", d->dir);
	r = cpx_registry_open(path, NULL, &d->reg, err);
	if (r < 0)
		return r;
	if (uv_loop_init(&d->loop) || uv_signal_init(&d->loop, &d->sigchld) ||
	    uv_signal_init(&d->loop, &d->sigterm) || uv_signal_init(&d->loop, &d->sigint) ||
	    uv_timer_init(&d->loop, &d->adopt))
		return cpx_err_set(err, CPX_E_SYS, "cannot start the event loop");
	uv_signal_start(&d->sigchld, on_sigchld, SIGCHLD);
	uv_signal_start(&d->sigterm, on_sigterm, SIGTERM);
	uv_signal_start(&d->sigint, on_sigterm, SIGINT);
	d->adopt.data = d;
	/* keepers that live need a moment to connect */
	uv_timer_start(&d->adopt, on_adopt, ADOPT_MS, ADOPT_MS);
	return cpxd_listen(d, err);
}

static int serve(const char *dir, bool foreground, struct cpx_err *err)
{
	struct cpxd d = { .dir = dir };
	int log = -1, ready = -1, r;

	if (geteuid() != 0)
		return cpx_err_set(err, CPX_E_PERM, "chpoxd must be started by root");
	r = make_dirs(dir, err);
	if (r >= 0 && !foreground)
		r = log = to_background(dir, &ready, err);
	if (r >= 0)
		r = take_lock(dir, err);
	if (r == 0 && ready >= 0 && write(ready, "", 1) == 1)
		return 0;
	if (r == 0)
		return cpx_err_set(err, CPX_E_BUSY, "another chpoxd serves %s", dir);
	if (r > 0) {
		leave_scope();
		r = set_up(&d, err);
	}
	if (r < 0)
		return r;
	if (log >= 0) {
		dup2(log, 2);
		close(log);
		if (write(ready, "", 1) != 1)
			cpx_log_note("whoever started chpoxd has gone");
		close(ready);
	}
	uv_run(&d.loop, UV_RUN_DEFAULT);
	cpx_registry_close(d.reg);
	return 0;
}

static int usage(int status)
{
	printf("usage: chpoxd [--dir DIR] [--foreground]\n"
	       "The daemon of a node; chpox_ctl starts it when root runs a job.\n\n"
	       "  --dir DIR       state directory (environment CHPOX_DIR; default " DEFAULT_DIR
	       ")\n"
	       "  --foreground    stay, log to stderr\n");
	return status;
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "dir", 1, 0, 'd' }, { "foreground", 0, 0, 'f' }, { "help", 0, 0, 'h' }, { 0 }
	};
	const char *dir = getenv("CHPOX_DIR");
	struct cpx_err err = { 0 };
	struct rlimit files;
	bool foreground = false;
	int c;

	cpx_log_init("chpoxd");
	cpx_fault_init();
	signal(SIGPIPE, SIG_IGN);
	while ((c = getopt_long(argc, argv, "hf", opts, NULL)) != -1) {
		if (c == 'd')
			dir = optarg;
		else if (c == 'f')
			foreground = true;
		else
			return usage(c == 'h' ? 0 : 2);
	}
	if (!dir || !*dir)
		dir = DEFAULT_DIR;
	if (dir[0] != '/' || optind < argc)
		return usage(2);
	/* each job's keeper holds a connection */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	umask(022);
	if (serve(dir, foreground, &err) < 0) {
		cpx_log_error("%s", err.msg);
		return 1;
	}
	return 0;
}
