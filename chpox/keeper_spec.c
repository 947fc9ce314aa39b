/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a job runs (spec.json, written by chpoxd), and its streams in out/. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "keeper.h"

#define SPEC_MAX (8u << 20)
#define ARGS_MAX 100000

static int load_ids(struct keeper_spec *s, const json_t *j)
{
	const json_t *groups = json_object_get(j, "groups");
	const json_t *limits = json_object_get(j, "limits");
	size_t n = json_array_size(groups);

	if (n > KEEPER_GROUPS || json_array_size(limits) > 2 * RLIM_NLIMITS)
		return -1;
	for (size_t i = 0; i < n; i++)
		s->groups[i] = (gid_t)json_integer_value(json_array_get(groups, i));
	s->cmd.groups = s->groups;
	s->cmd.ngroups = (uint32_t)n;
	s->cmd.has_limits = json_array_size(limits) == 2 * RLIM_NLIMITS;
	for (size_t i = 0; s->cmd.has_limits && i < RLIM_NLIMITS; i++) {
		/* -1 is infinity, which is how the cast gives it back */
		s->cmd.limits[i].rlim_cur =
			(rlim_t)json_integer_value(json_array_get(limits, 2 * i));
		s->cmd.limits[i].rlim_max =
			(rlim_t)json_integer_value(json_array_get(limits, 2 * i + 1));
	}
	return 0;
}

int keeper_spec_load(struct keeper *k, struct cpx_err *err)
{
	struct keeper_spec *s = &k->spec;
	CPX_AUTO_FREE char *text = NULL;
	json_t *j;
	ssize_t n;
	int r;

	if (k->own_epoch)
		n = cpx_registry_spec(k->reg, k->name, &text, err);
	else
		n = cpx_read_file(AT_FDCWD, "spec.json", SPEC_MAX, &text, err);
	if (k->own_epoch && n >= 0)
		n = (ssize_t)strlen(text);

	if (n < 0)
		return (int)n;
	r = cpx_proto_decode(text, (size_t)n, &j, err);
	if (r < 0)
		return r;
	s->cmd.argv = cpx_proto_unstrv(json_object_get(j, "argv"), ARGS_MAX);
	s->cmd.env = cpx_proto_unstrv(json_object_get(j, "env"), ARGS_MAX);
	s->cmd.cwd = cpx_proto_unbytes(json_object_get(j, "cwd"));
	s->cmd.umask = (uint32_t)cpx_proto_int(j, "umask", 022) & 0777;
	s->cmd.uid = k->job.uid;
	s->cmd.gid = k->job.gid;
	s->cmd.stdio[0] = s->cmd.stdio[1] = s->cmd.stdio[2] = -1;
	r = load_ids(s, j);
	json_decref(j);
	if (r < 0 || !s->cmd.argv || !s->cmd.argv[0] || !s->cmd.env || !s->cmd.cwd)
		return cpx_err_set(err, CPX_E_FORMAT, "%s/spec.json makes no sense", k->jobdir);
	k->has_spec = true;
	return 0;
}

void keeper_spec_free(struct keeper_spec *s)
{
	cpx_proto_strv_free(s->cmd.argv);
	cpx_proto_strv_free(s->cmd.env);
	free((char *)s->cmd.cwd);
	memset(s, 0, sizeof(*s));
}

/* Touch files as the owner does: no capabilities (they go with fsuid), his groups alone. */
static void as_owner(const struct keeper *k)
{
	syscall(SYS_setgroups, k->spec.cmd.ngroups, k->spec.cmd.groups);
	setfsgid(k->job.gid);
	setfsuid(k->job.uid);
}

static void as_root(void)
{
	setfsuid(0);
	setfsgid(0);
	syscall(SYS_setgroups, 0, NULL);
}

/* As the owner. In a cluster the streams lie beside his images, where each node finds them. */
static int open_out_dir(struct keeper *k)
{
	CPX_AUTO_FREE char *path = NULL;
	CPX_AUTO_FD store = -1;
	CPX_AUTO_FD out = -1;

	if (!k->own_epoch)
		return open("out", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (asprintf(&path, "%s/store/%u", k->dir, k->job.uid) < 0)
		return -1;
	store = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store < 0 || (mkdirat(store, "out", 0700) && errno != EEXIST))
		return -1;
	out = openat(store, "out", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0 || (mkdirat(out, k->name, 0700) && errno != EEXIST))
		return -1;
	return openat(out, k->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int keeper_open_out(struct keeper *k, const char *name, struct cpx_err *err)
{
	CPX_AUTO_FD dir = -1;
	struct stat st;
	int fd = -1, sys;

	as_owner(k);
	dir = open_out_dir(k);
	if (dir >= 0)
		fd = openat(dir, name,
			    O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
			    0600);
	sys = errno;
	as_root();
	if (fd < 0)
		return cpx_err_sys(err, sys, "cannot open %s/out/%s", k->jobdir, name);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || fcntl(fd, F_SETFL, O_WRONLY | O_APPEND)) {
		close(fd);
		return cpx_err_set(err, CPX_E_PERM, "%s/out/%s is no regular file", k->jobdir,
				   name);
	}
	return fd;
}

int keeper_move_out(struct keeper *k, struct cpx_err *err)
{
	static const char *const names[] = { "stdout", "stderr" };
	CPX_AUTO_FD dir = -1;
	int sys = 0;

	as_owner(k);
	dir = open_out_dir(k);
	if (dir < 0)
		sys = errno;
	for (size_t i = 0; !sys && i < 2; i++) {
		char to[64];

		snprintf(to, sizeof(to), "%s.rolledback.%llu", names[i],
			 (unsigned long long)k->job.epoch);
		if (renameat(dir, names[i], dir, to) && errno != ENOENT)
			sys = errno;
	}
	as_root();
	return sys ? cpx_err_sys(err, sys, "cannot move the old output in %s/out aside",
				 k->jobdir)
		   : 0;
}
