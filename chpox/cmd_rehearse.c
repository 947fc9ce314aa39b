/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rehearse: would this image restore, here and now?
 *
 * It is verified, then a child goes into mount, IPC and network namespaces of its own and
 * restores it there, into a PID namespace. What is built is held from its first to its last
 * moment: it is compared with the image and killed. The child works on the host's files without
 * changing any (restore.h, @rehearse); what must be made is made in a file system that nobody
 * else sees.
 *
 * All that exists of it hangs on the child (descriptors, namespaces, PTRACE_O_EXITKILL), and
 * the child dies with its parent: so nothing is left, whoever is killed whenever.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/mount.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../restore/restore.h"
#include "base/clock.h"
#include "base/cmd.h"
#include "base/err.h"
#include "base/fd.h"
#include "box.h"
#include "ctl.h"
#include "image_arg.h"
#include "job_client.h"

/* From <sys/mount.h>, which does not go together with <linux/mount.h>. */
extern int mount(const char *from, const char *to, const char *type, unsigned long flags,
		 const void *data);
#define MS_REC_SLAVE (16384 | (1 << 19))

struct rehearsal {
	struct cpx_image_arg arg;
	struct cpx_restore_opts opts;
	int64_t verify_ns;
};

/* What the child says. */
struct outcome {
	int r;
	struct cpx_restore_result res;
	struct cpx_err err;
};

/* --- the child ----------------------------------------------------------------------- */

/* A file system in memory, mounted nowhere. Return: its root directory. */
static int make_scratch(struct cpx_err *err)
{
	CPX_AUTO_FD fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	int fd = -1;

	if (fs >= 0 && syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "1777", 0) == 0 &&
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	return fd < 0 ? cpx_err_sys(err, errno, "cannot make a file system for the rehearsal")
		      : fd;
}

/* The network is the loopback, on which any address may be bound. */
static void raise_loopback(void)
{
	static const char *const any[] = { "/proc/sys/net/ipv4/ip_nonlocal_bind",
					   "/proc/sys/net/ipv6/ip_nonlocal_bind" };
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	CPX_AUTO_FD sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sock >= 0)
		ioctl(sock, SIOCSIFFLAGS, &ifr);
	for (size_t i = 0; i < 2; i++) {
		CPX_AUTO_FD fd = open(any[i], O_WRONLY | O_CLOEXEC);

		if (fd >= 0)
			cpx_write_full(fd, "1", 1);
	}
}

static int enter_sandbox(struct rehearsal *h, struct cpx_err *err)
{
	int r;

	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET) ||
	    mount(NULL, "/", NULL, MS_REC_SLAVE, NULL))
		return cpx_err_sys(err, errno, "cannot make namespaces for the rehearsal");
	raise_loopback();
	r = make_scratch(err);
	if (r < 0)
		return r;
	h->opts.scratch_fd = r;
	return 0;
}

static int build(struct rehearsal *h, struct cpx_restore_result *res, struct cpx_err *err)
{
	const struct cpx_box_opts bo = { .cgroup_fd = -1, .listen_fd = -1, .tty = true };
	struct cpx_box box = CPX_BOX_NONE;
	int r = enter_sandbox(h, err);

	if (r >= 0)
		r = cpx_box_make(&bo, &box, err);
	if (r < 0)
		return r;
	for (int i = 0; i < 3; i++)
		h->opts.stdio[i] = box.tty_slave;
	h->opts.spawn = cpx_box_spawn;
	h->opts.spawn_ctx = &box;
	r = cpx_restore_run(&h->opts, res, err);
	cpx_box_kill(&box);
	cpx_box_close(&box);
	return r;
}

static void __attribute__((noreturn)) child(struct rehearsal *h, pid_t parent, int out)
{
	struct outcome o = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == parent)
		o.r = build(h, &o.res, &o.err);
	cpx_write_full(out, &o, sizeof(o));
	_exit(0);
}

/* --- the parent ---------------------------------------------------------------------- */

static int run_child(struct rehearsal *h, struct cpx_restore_result *res, struct cpx_err *err)
{
	struct outcome o;
	int pair[2], status;
	pid_t pid, parent = getpid();
	ssize_t n;

	if (pipe2(pair, O_CLOEXEC))
		return cpx_err_sys(err, errno, "cannot make a pipe");
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		child(h, parent, pair[1]);
	close(pair[1]);
	n = pid < 0 ? -1 : cpx_read_full(pair[0], &o, sizeof(o));
	close(pair[0]);
	if (pid < 0)
		return cpx_err_sys(err, errno, "cannot fork");
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (n != sizeof(o))
		return cpx_err_set(err, CPX_E_SYS, "the rehearsal was killed by signal %d",
				   WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	if (o.r < 0) {
		*err = o.err;
		return o.r;
	}
	*res = o.res;
	return 0;
}

static int verify(struct rehearsal *h, struct cpx_err *err)
{
	int64_t start = cpx_mono_ns();
	struct cpx_image *img;
	int r = cpx_image_open(h->arg.store, &h->opts.id, &img, err);

	if (r < 0)
		return r;
	r = cpx_image_verify(img, 0, err);
	cpx_image_close(img);
	h->verify_ns = cpx_mono_ns() - start;
	return r;
}

static void print_json(const struct rehearsal *h, const struct cpx_restore_result *res, int r,
		       const struct cpx_err *err)
{
	json_t *j = json_pack(
		"{s:b, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "restores", r >= 0, "generation",
		(json_int_t)h->opts.id.seq, "epoch", (json_int_t)h->opts.id.epoch, "tasks",
		(json_int_t)res->tasks, "threads", (json_int_t)res->threads, "bytes_memory",
		(json_int_t)res->bytes_memory, "verify_ms", (double)h->verify_ns / 1e6,
		"restore_ms", (double)res->total_ns / 1e6);

	if (r < 0)
		json_object_set_new(j, "reason", json_string(err->msg));
	json_dumpf(j, stdout, JSON_INDENT(1));
	putchar('\n');
	json_decref(j);
}

static void print_text(const struct rehearsal *h, const struct cpx_restore_result *res)
{
	char mem[16];

	printf("%s: generation %llu restores: %u processes, %u threads, %s of memory as the "
	       "image has it; verified in %.2f s, built and compared in %.2f s\n",
	       h->arg.name, (unsigned long long)h->opts.id.seq, res->tasks, res->threads,
	       cpx_human_size(res->bytes_memory, mem), (double)h->verify_ns / 1e9,
	       (double)res->total_ns / 1e9);
}

static int rehearse(const struct cpx_args *a, struct rehearsal *h, struct cpx_err *err)
{
	struct cpx_restore_result res = { 0 };
	CPX_AUTO_FD pin = -1;
	int r = 0;

	/* what restore would take first, whole or not */
	h->opts.id = h->arg.gens[0].id;
	h->opts.store = h->arg.store;
	if (h->arg.is_dir) {
		r = cpx_image_rights(h->arg.dir, &h->opts, err);
	} else {
		h->opts.owner_uid = h->arg.uid;
		h->opts.owner_gid = h->arg.gid;
		h->opts.trusted = h->arg.uid == 0;
		r = pin = cpx_client_pin(a->ctx, &h->opts.id, "rehearse", err);
	}
	if (r >= 0)
		r = verify(h, err);
	if (r >= 0)
		r = run_child(h, &res, err);
	if (cpx_arg_given(a, "json"))
		print_json(h, &res, r, err);
	else if (r >= 0)
		print_text(h, &res);
	return r < 0 ? cpx_err_wrap(err, "generation %llu of %s would not restore",
				    (unsigned long long)h->opts.id.seq, h->arg.name)
		     : 0;
}

int cpx_ctl_rehearse(const struct cpx_args *a, struct cpx_err *err)
{
	struct rehearsal h = { .opts = { .rehearse = true, .scratch_fd = -1 } };
	int r;

	if (geteuid() != 0)
		return cpx_err_set(err, CPX_E_PERM,
				   "cannot rehearse %s: that needs namespaces, which only root "
				   "can make; ask root, or 'verify' it",
				   a->pos[0]);
	r = cpx_image_arg_open(a->ctx, a->pos[0], &h.arg, err);
	if (r < 0)
		return cpx_err_wrap(err, "cannot rehearse %s", a->pos[0]);
	r = rehearse(a, &h, err);
	cpx_image_arg_close(&h.arg);
	return r;
}
