/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chpoxd - the daemon of a node.
 *
 * Start: state directory made -> lock taken (another daemon there: done, successfully) ->
 * socket
 * -> in the background -> jobs without keeper adopted -> loop. It returns to who started it
 * when it can be reached. SIGTERM ends it; the jobs stay with their keepers.
 */
#include <dirent.h>
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
#include "../chpox/base/cmd.h"
#include "../chpox/base/err.h"
#include "../chpox/base/fault.h"
#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "cluster_key.h"
#include "etcd_msg.h"
#include "server.h"

#define KEY_NAME "cluster.key"
#define DEFAULT_DIR "/var/lib/chpox"
#define DAEMON_CGROUP "chpox.daemon"
#define ADOPT_MS 1000

/* What the command line says; NULL: nothing. */
struct told {
	const char *dir, *registry, *store, *node, *key;
	int64_t ttl_ns, guard_ns; /* 0: nothing */
	bool foreground, init;
};

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
	/* a registry that does not answer is asked again */
	if (cpxd_adopt_all(t->data) >= 0)
		uv_timer_stop(t);
}

static int set_up(struct cpxd *d, struct cpx_err *err)
{
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
	r = cpx_registry_open_conf(&d->conf, &d->reg, err);
	if (r < 0)
		return r;
	if (uv_loop_init(&d->loop) || uv_signal_init(&d->loop, &d->sigchld) ||
	    uv_signal_init(&d->loop, &d->sigterm) || uv_signal_init(&d->loop, &d->sigint) ||
	    uv_timer_init(&d->loop, &d->adopt))
		return cpx_err_set(err, CPX_E_SYS, "cannot start the event loop");
	r = cpxd_join(d, err);
	if (r < 0)
		return r;
	uv_signal_start(&d->sigchld, on_sigchld, SIGCHLD);
	uv_signal_start(&d->sigterm, on_sigterm, SIGTERM);
	uv_signal_start(&d->sigint, on_sigterm, SIGINT);
	d->adopt.data = d;
	/* keepers that live need a moment to connect; in a cluster the core sees to the rest */
	if (!d->cluster)
		uv_timer_start(&d->adopt, on_adopt, ADOPT_MS, ADOPT_MS);
	return cpxd_listen(d, err);
}

/* --- what this node is told ---------------------------------------------------------- */

static bool has_jobs(const char *dir)
{
	char path[PATH_MAX];
	DIR *jobs;
	struct dirent *e;
	bool found = false;

	snprintf(path, sizeof(path), "%s/jobs", dir);
	jobs = opendir(path);
	while (jobs && !found && (e = readdir(jobs)))
		found = e->d_name[0] != '.';
	if (jobs)
		closedir(jobs);
	return found;
}

static int default_node(char out[CPX_JOB_NAME_MAX], struct cpx_err *err)
{
	char host[256] = "";

	if (gethostname(host, sizeof(host) - 1) || !cpx_job_name_ok(host))
		return cpx_err_set(err, CPX_E_INVAL,
				   "the host's name '%.80s' cannot be that of a node; give one "
				   "with --node",
				   host);
	strcpy(out, host);
	return 0;
}

static int put_text(char *out, size_t size, const char *s, struct cpx_err *err)
{
	if (strlen(s) >= size)
		return cpx_err_set(err, CPX_E_LIMIT, "'%.80s...' is too long", s);
	strcpy(out, s);
	return 0;
}

/*
 * What was told once is remembered, so that the daemon which chpox_ctl starts knows it too. The
 * registry of a directory with jobs is not changed: they would be forgotten.
 */
static int configure(struct cpxd *d, const struct told *t, struct cpx_err *err)
{
	struct cpx_reg_conf c;
	int r = cpx_registry_conf_load(d->dir, &c, err);

	if (r < 0)
		return r;
	if (!t->registry && !*c.node && (t->node || t->key || t->ttl_ns || t->guard_ns))
		return cpx_err_set(err, CPX_E_INVAL,
				   "--node, --key, --ttl and --guard are for --registry");
	d->conf = c;
	if (t->registry && !cpx_etcd_is_url(t->registry))
		return cpx_err_set(err, CPX_E_INVAL,
				   "--registry '%.200s': etcd://... or etcds://... is wanted",
				   t->registry);
	if (t->registry && (r = put_text(c.registry, sizeof(c.registry), t->registry, err)) < 0)
		return r;
	if (t->node && (r = put_text(c.node, sizeof(c.node), t->node, err)) < 0)
		return r;
	if (!*c.node && t->registry && (r = default_node(c.node, err)) < 0)
		return r;
	if (t->key && (r = put_text(c.key_file, sizeof(c.key_file), t->key, err)) < 0)
		return r;
	if (!*c.key_file && snprintf(c.key_file, sizeof(c.key_file), "%s/" KEY_NAME, d->dir) >=
				    (int)sizeof(c.key_file))
		return cpx_err_set(err, CPX_E_LIMIT, "path %s is too long", d->dir);
	c.ttl_ns = t->ttl_ns ? t->ttl_ns : c.ttl_ns;
	c.guard_ns = t->guard_ns ? t->guard_ns : c.guard_ns;
	if (!*c.node)
		return 0;
	if (!cpx_job_name_ok(c.node))
		return cpx_err_set(err, CPX_E_INVAL, "'%.80s' cannot be the name of a node",
				   c.node);
	r = cpx_lease_check(c.ttl_ns, c.guard_ns, err);
	if (r < 0)
		return r;
	if ((strcmp(c.registry, d->conf.registry) || strcmp(c.node, d->conf.node)) &&
	    has_jobs(d->dir))
		return cpx_err_set(err, CPX_E_BUSY,
				   "%s has jobs, which registry or node name would forget; "
				   "remove them first, or use another --dir",
				   d->dir);
	d->conf = c;
	return cpx_registry_conf_save(d->dir, &c, err);
}

/* DIR/store becomes a link to the store's directory. */
static int link_store(const char *dir, const char *url, struct cpx_err *err)
{
	const char *to = !strncmp(url, "file://", 7) ? url + 7 : url;
	char path[PATH_MAX], now[PATH_MAX];
	ssize_t n;

	if (to[0] != '/')
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "store '%.200s': file:///DIR is what this version can use",
				   url);
	snprintf(path, sizeof(path), "%s/store", dir);
	n = readlink(path, now, sizeof(now) - 1);
	if (n > 0) {
		now[n] = 0;
		if (!strcmp(now, to))
			return 0;
		return cpx_err_set(err, CPX_E_BUSY,
				   "%s leads to %s; move the images there to %s, then remove "
				   "the link",
				   path, now, to);
	}
	if (rmdir(path) && errno != ENOENT)
		return cpx_err_set(err, CPX_E_BUSY,
				   "there are images in %s; move them to %s, then remove it",
				   path, to);
	return symlink(to, path) ? cpx_err_sys(err, errno, "cannot make %s", path) : 0;
}

static int start_key(const struct told *t, struct cpx_err *err)
{
	char path[PATH_MAX];
	int r;

	if (geteuid() != 0)
		return cpx_err_set(err, CPX_E_PERM, "chpoxd must be started by root");
	r = make_dirs(t->dir, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/" KEY_NAME, t->dir);
	r = cpx_key_make(t->key ? t->key : path, err);
	if (r >= 0)
		printf("%s\n", t->key ? t->key : path);
	return r;
}

static int serve(const struct told *t, struct cpx_err *err)
{
	const char *dir = t->dir;
	struct cpxd d = { .dir = dir };
	int log = -1, ready = -1, r;

	if (geteuid() != 0)
		return cpx_err_set(err, CPX_E_PERM, "chpoxd must be started by root");
	if (t->store)
		mkdir(dir, 0711);
	r = t->store ? link_store(dir, t->store, err) : 0;
	if (r >= 0)
		r = make_dirs(dir, err);
	if (r >= 0 && !t->foreground)
		r = log = to_background(dir, &ready, err);
	if (r >= 0)
		r = take_lock(dir, err);
	/* as asked for, unless it was asked for something */
	if (r == 0 && ready >= 0 && !t->registry && !t->store && !t->node &&
	    write(ready, "", 1) == 1)
		return 0;
	if (r == 0)
		return cpx_err_set(err, CPX_E_BUSY, "another chpoxd serves %s", dir);
	if (r > 0) {
		leave_scope();
		r = configure(&d, t, err);
		if (r >= 0)
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
	cpxd_leave(&d);
	cpx_registry_close(d.reg);
	return 0;
}

static int usage(int status)
{
	printf("usage: chpoxd [--dir DIR] [--foreground] [--registry URL] [--store URL]\n"
	       "              [--node NAME] [--key FILE] [--ttl DUR] [--guard DUR]\n"
	       "       chpoxd init [--dir DIR] [--key FILE]\n"
	       "The daemon of a node; chpox_ctl starts it when root runs a job.\n"
	       "init makes the key that the nodes of a cluster share.\n\n"
	       "  --dir DIR       state directory (environment CHPOX_DIR; default " DEFAULT_DIR
	       ")\n"
	       "  --foreground    stay, log to stderr\n"
	       "  --registry URL  etcd://HOST:PORT,.../PREFIX, or "
	       "etcds://...?ca=F&cert=F&key=F\n"
	       "                  (default: a directory of this machine)\n"
	       "  --store URL     file:///DIR, which all nodes reach (default: DIR/store)\n"
	       "  --node NAME     of this node (default: the host's name)\n"
	       "  --key FILE      cluster key (default: DIR/" KEY_NAME ")\n"
	       "  --ttl DUR       of this node's lease (default 15s)\n"
	       "  --guard DUR     how much earlier jobs are frozen (default 2s)\n"
	       "The last six are remembered in DIR.\n");
	return status;
}

static int take_option(struct told *t, int c, const char *arg, struct cpx_err *err)
{
	switch (c) {
	case 'd':
		t->dir = arg;
		break;
	case 'f':
		t->foreground = true;
		break;
	case 'r':
		t->registry = arg;
		break;
	case 's':
		t->store = arg;
		break;
	case 'n':
		t->node = arg;
		break;
	case 'k':
		t->key = arg;
		break;
	case 't':
		return cpx_parse_duration(arg, "--ttl", &t->ttl_ns, err);
	case 'g':
		return cpx_parse_duration(arg, "--guard", &t->guard_ns, err);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "dir", 1, 0, 'd' },	{ "foreground", 0, 0, 'f' },
		{ "help", 0, 0, 'h' },	{ "registry", 1, 0, 'r' },
		{ "store", 1, 0, 's' }, { "node", 1, 0, 'n' },
		{ "key", 1, 0, 'k' },	{ "ttl", 1, 0, 't' },
		{ "guard", 1, 0, 'g' }, { 0 }
	};
	struct told t = { .dir = getenv("CHPOX_DIR") };
	struct cpx_err err = { 0 };
	struct rlimit files;
	int c, r = 0;

	cpx_log_init("chpoxd");
	cpx_fault_init();
	signal(SIGPIPE, SIG_IGN);
	while ((c = getopt_long(argc, argv, "hf", opts, NULL)) != -1) {
		if (c == 'h' || c == '?')
			return usage(c == 'h' ? 0 : 2);
		r = r < 0 ? r : take_option(&t, c, optarg, &err);
	}
	if (optind + 1 == argc && !strcmp(argv[optind], "init")) {
		t.init = true;
		optind++;
	}
	if (!t.dir || !*t.dir)
		t.dir = DEFAULT_DIR;
	if (t.dir[0] != '/' || optind < argc || (t.key && t.key[0] != '/'))
		return usage(2);
	/* each job's keeper holds a connection */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	umask(022);
	if (r >= 0)
		r = t.init ? start_key(&t, &err) : serve(&t, &err);
	if (r < 0) {
		cpx_log_error("%s", err.msg);
		return 1;
	}
	return 0;
}
