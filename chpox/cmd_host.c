/* SPDX-License-Identifier: GPL-2.0-or-later */
/* why, check: what stands in the way, in a process or on this machine. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cmd.h"
#include "base/err.h"
#include "base/fd.h"
#include "capture.h"
#include "base/cgroup.h"
#include "ctl.h"
#include "engine.h"
#include "job_client.h"
#include "track.h"

static void print_obstacle(void *ctx, const char *line)
{
	(void)ctx;
	printf("%s\n", line);
}

int cpx_ctl_why(const struct cpx_args *a, struct cpx_err *err)
{
	pid_t pid;
	int r;

	/* a number is a process, anything else a job */
	if (a->pos[0][strspn(a->pos[0], "0123456789")])
		r = cpx_client_root(a->ctx, a->pos[0], &pid, err);
	else
		r = cpx_parse_pid(a->pos[0], &pid, err);
	if (r < 0)
		return r;
	if (kill(pid, 0) && errno == ESRCH)
		return cpx_err_set(err, CPX_E_NOENT, "there is no process %d", pid);
	r = cpx_capture_why(pid, print_obstacle, NULL, err);
	if (r < 0)
		return cpx_err_wrap(err, "cannot look into pid %d", pid);
	if (r == 0)
		printf("pid %d and its children can be checkpointed\n", pid);
	return r > 0;
}

/* --- check --------------------------------------------------------------------------- */

#define SAY_MAX 160

/* Return: 1 there, 0 not; @say explains. */
typedef int (*probe_fn)(char *say);

static int probe_kernel(char *say)
{
	struct utsname u;

	if (uname(&u))
		return 0;
	snprintf(say, SAY_MAX, "%.60s %.30s", u.release, u.machine);
	return !strcmp(u.machine, "x86_64");
}

static int has_cap(int cap)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { 0 };

	if (syscall(SYS_capget, &h, d))
		return 0;
	return d[cap / 32].effective >> (cap % 32) & 1;
}

static int probe_caps(char *say)
{
	static const struct {
		int cap;
		const char *name;
	} want[] = { { CAP_SYS_ADMIN, "sys_admin" },
		     { CAP_SYS_PTRACE, "sys_ptrace" },
		     { CAP_SETUID, "setuid" },
		     { CAP_SETGID, "setgid" },
		     { CAP_DAC_OVERRIDE, "dac_override" },
		     { CAP_KILL, "kill" } };
	size_t n = 0;

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		if (!has_cap(want[i].cap))
			n += (size_t)snprintf(say + n, SAY_MAX - n, "%s%s",
					      n ? ", " : "missing: ", want[i].name);
	return n == 0;
}

static int probe_resource(char *say)
{
	if (has_cap(CAP_SYS_RESOURCE))
		return 1;
	snprintf(say, SAY_MAX,
		 "without CAP_SYS_RESOURCE hard limits are not raised at restart");
	return 0;
}

static int probe_yama(char *say)
{
	CPX_AUTO_FREE char *s = NULL;

	if (cpx_read_file(AT_FDCWD, "/proc/sys/kernel/yama/ptrace_scope", 16, &s, NULL) < 0)
		return 1;
	if (s[0] != '3')
		return 1;
	snprintf(say, SAY_MAX, "kernel.yama.ptrace_scope is 3: nobody may trace");
	return 0;
}

/* A system call that is there answers anything but ENOSYS to nonsense. */
static int there(long r)
{
	return r >= 0 || errno != ENOSYS;
}

static int probe_pidfd_getfd(char *say)
{
	snprintf(say, SAY_MAX, "since 5.6");
	return there(syscall(SYS_pidfd_getfd, -1, 0, 0));
}

static int probe_close_range(char *say)
{
	snprintf(say, SAY_MAX, "since 5.9");
	return there(syscall(SYS_close_range, 5, 4, 0));
}

static int probe_kcmp(char *say)
{
	pid_t me = getpid();

	snprintf(say, SAY_MAX, "CONFIG_KCMP");
	return syscall(SYS_kcmp, me, me, KCMP_VM, 0, 0) == 0;
}

static int probe_mm_map(char *say)
{
	unsigned size = 0;

	snprintf(say, SAY_MAX, "CONFIG_CHECKPOINT_RESTORE");
	return prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) == 0 && size > 0;
}

/* A process with a chosen PID, in a namespace of its own. */
static int probe_set_tid(char *say)
{
	pid_t want = 77;
	struct clone_args box = { .flags = CLONE_NEWPID, .exit_signal = SIGCHLD };
	struct clone_args ca = { .exit_signal = SIGCHLD,
				 .set_tid = (uintptr_t)&want,
				 .set_tid_size = 1 };
	int status = 0;
	pid_t pid = (pid_t)syscall(SYS_clone3, &box, sizeof(box));

	if (pid == 0) {
		pid = (pid_t)syscall(SYS_clone3, &ca, sizeof(ca));
		_exit(pid == 0 || pid == want ? 0 : 1);
	}
	snprintf(say, SAY_MAX, "%s", pid < 0 ? strerror(errno) : "since 5.5");
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int probe_timens(char *say)
{
	snprintf(say, SAY_MAX, "CLOCK_MONOTONIC goes on after a reboot");
	return access("/proc/self/ns/time", F_OK) == 0;
}

static int probe_timer_list(char *say)
{
	snprintf(say, SAY_MAX, "exact remaining time-outs");
	return access("/proc/timer_list", R_OK) == 0;
}

static int probe_changed_pages(char *say)
{
	/* there is always a way; "no" is the one that reads everything */
	return cpx_track_probe(say, SAY_MAX) != CPX_TRACK_CONTENT;
}

static int probe_cgroup(char *say)
{
	char path[CPX_CGROUP_PATH];

	if (cpx_cgroup_base(path) < 0) {
		snprintf(say, SAY_MAX,
			 "no writable cgroup v2 hierarchy: whole trees are found by "
			 "their PID namespace alone");
		return 0;
	}
	snprintf(say, SAY_MAX, "%.140s", path);
	return 1;
}

static int probe_module(char *say)
{
	struct cpx_err why = { 0 };

	if (cpx_module_usable(&why) == 0)
		return 1;
	snprintf(say, SAY_MAX, "optional, for shorter pauses: %.120s", why.msg);
	return 0;
}

static int probe_engine(char *say)
{
	cpx_engine_say(say, SAY_MAX);
	return 1;
}

/* clang-format off */
static const struct {
	const char *name;
	bool needed;
	probe_fn probe;
	const char *what_to_do;
} probes[] = {
	{ "kernel",       true,  probe_kernel,      "chpox runs on x86-64" },
	{ "rights",       true,  probe_caps,        "run as root" },
	{ "raise-limits", false, probe_resource,    NULL },
	{ "ptrace",       true,  probe_yama,        "boot with yama.ptrace_scope below 3" },
	{ "pidfd_getfd",  true,  probe_pidfd_getfd, "use a newer kernel" },
	{ "close_range",  true,  probe_close_range, "use a newer kernel" },
	{ "kcmp",         true,  probe_kcmp,        "use a kernel built with that option" },
	{ "mm-map",       true,  probe_mm_map,      "use a kernel built with that option" },
	{ "set_tid",      true,  probe_set_tid,     "run as root on a kernel from 5.5" },
	{ "timens",       false, probe_timens,      NULL },
	{ "timer_list",   false, probe_timer_list,  NULL },
	{ "changed-pages",false, probe_changed_pages, NULL },
	{ "cgroup2",      false, probe_cgroup,      NULL },
	{ "module",       false, probe_module,      NULL },
	{ "engine",       false, probe_engine,      NULL },
};
/* clang-format on */

int cpx_ctl_check(const struct cpx_args *a, struct cpx_err *err)
{
	bool json = cpx_arg_given(a, "json");
	json_t *all = json ? json_array() : NULL;
	int missing = 0;

	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		char say[SAY_MAX] = "";
		int ok = probes[i].probe(say);

		missing += !ok && probes[i].needed;
		if (json)
			json_array_append_new(all, json_pack("{s:s, s:b, s:b, s:s}", "name",
							     probes[i].name, "ok", ok, "needed",
							     probes[i].needed, "note", say));
		else
			printf("%-13s %-8s %s%s%s\n", probes[i].name,
			       ok		  ? "yes"
			       : probes[i].needed ? "MISSING"
						  : "no",
			       say, !ok && probes[i].what_to_do ? ": " : "",
			       !ok && probes[i].what_to_do ? probes[i].what_to_do : "");
	}
	if (json) {
		json_dumpf(all, stdout, JSON_INDENT(1));
		printf("\n");
		json_decref(all);
	}
	if (missing)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "%d thing(s) that chpox needs are missing on this host",
				   missing);
	return 0;
}
