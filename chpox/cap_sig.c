/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_sig.c - signal actions, queued signals, interval timers, POSIX timers: the engine tells.
 */
#include "cap_sig.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/fd.h"
#include "base/proc_task.h"
#include "cap_resume.h"
#include "capture.h"
#include "engine.h"

#define PROC_TEXT_MAX (8u << 20)

int cpx_sig_add_pending(struct cpx_cap *c, struct cpx_cap_task *t, uint32_t tid,
			const union cpx_siginfo *info, struct cpx_err *err)
{
	struct cpx_rec_sigpending *rec;
	union cpx_siginfo copy = *info;

	/* the kernel's own mark on a timer's signal means nothing in another kernel */
	if (copy.timer.code == SI_TIMER)
		copy.timer.sys_private = 0;
	rec = cpx_state_new_rec(c->st, sigpending);
	if (!rec)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for signals");
	rec->pid = t->rec->pid;
	rec->tid = tid;
	rec->info = cpx_state_blob(c->st, &copy, sizeof(copy));
	return rec->info.p ? 0 : cpx_err_set(err, CPX_E_NOMEM, "no memory for signals");
}

static int sig_begin(struct cpx_cap *c, void **priv, struct cpx_err *err)
{
	(void)priv;
	return c->dry_run ? 0 : cpx_cap_resume_note(c, err);
}

static int sig_task(struct cpx_cap *c, void *priv, struct cpx_cap_task *t, struct cpx_err *err)
{
	struct cpx_proc_status s __attribute__((cleanup(cpx_proc_status_free))) = { 0 };
	CPX_AUTO_FREE char *text = NULL;
	int rc;

	(void)priv;
	if (t->zombie || c->dry_run)
		return 0;
	if (cpx_read_file(t->proc_fd, "status", PROC_TEXT_MAX, &text, err) < 0) {
		cpx_err_wrap(err, "process %d", t->pid);
		return err ? err->code : CPX_E_SYS;
	}
	rc = cpx_proc_status_parse(text, &s, err);
	return rc < 0 ? rc : c->engine->signals(c, t, &s, err);
}

const struct cpx_cap_family cpx_cap_sig = {
	.name = "sig",
	.begin = sig_begin,
	.task = sig_task,
};
