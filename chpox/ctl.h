/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl.h - what the commands of chpox_ctl share. The table of commands is in main_ctl.c,
 * their bodies are in cmd_*.c by what they work on: cmd_image.c (a directory, no daemon),
 * cmd_host.c (this machine, a process), cmd_job.c (jobs, through chpoxd), cmd_space.c (what
 * they take in the store).
 *
 * A command returns an exit status >= 0, or CPX_E_* with its error set.
 */
#ifndef CPX_CTL_H
#define CPX_CTL_H

#include <stdint.h>

struct cpx_args;
struct cpx_err;

struct cpx_ctl {
	const char *dir; /* state directory of chpoxd */
};

/* Progress on a terminal, from one second on; silent where stderr is none. */
struct cpx_progress {
	const char *what;
	int64_t start_ns, last_ns;
	int shown; /* there is a line to wipe */
};

void cpx_progress_begin(struct cpx_progress *p, const char *what);
void cpx_progress_step(void *progress, uint64_t done, uint64_t total);
void cpx_progress_end(struct cpx_progress *p);

/* "1.5 GiB", "12 KiB", into @buf of at least 16 bytes. Return: @buf. */
const char *cpx_human_size(uint64_t bytes, char buf[16]);

struct json_t;
/* --snapshot, --codec, --cpus, --rate into a request; the daemon knows what they may be. */
int cpx_ctl_tuning(const struct cpx_args *a, struct json_t *req, struct cpx_err *err);

int cpx_ctl_dump(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_restore(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_inspect(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_verify(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_export(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_import(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_rehearse(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_why(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_check(const struct cpx_args *a, struct cpx_err *err);

/* What the jobs of user @uid need no longer: best effort, silent. */
void cpx_ctl_collect_code(const struct cpx_ctl *ctl, uint32_t uid);

int cpx_ctl_run(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_mark(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_unmark(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_checkpoint(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_restart(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_recover(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_ps(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_show(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_images(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_gc(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_du(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_wait(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_logs(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_attach(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_signal(const struct cpx_args *a, struct cpx_err *err);
int cpx_ctl_rm(const struct cpx_args *a, struct cpx_err *err);

#endif
