/* SPDX-License-Identifier: GPL-2.0-or-later */
/* chpox_ctl - the tool. What it can do is the table below; the bodies are in cmd_*.c. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cmd.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "ctl.h"

#define DEFAULT_DIR "/var/lib/chpox"

/* clang-format off */
static const struct cpx_opt opts_dump[] = {
	{ "to", 0, "DIR", "directory that holds the image; made if it is not there" },
	{ "leave-running", 'R', NULL, 
	  "let the processes run on (else they are killed once the image is safe)" },
	{ "codec", 0, "NAME",
	  "lz4 (default), zlib, none, or auto: what is quickest with this store" },
	{ "snapshot", 0, "WAY", "auto (default), clone (short pause) or stop (little memory)" },
	{ "rate", 0, "BYTES", "write at most so many a second while the processes run (10M)" },
	{ "engine", 0, "NAME",
	  "auto (default): the kernel module where it is loaded; module or ptrace: this one" },
	{ "workers", 0, "N", "threads that compress; default one a core" },
	{ 0 }
};
static const struct cpx_opt opts_restore[] = {
	{ "detach", 'd', NULL, "return when the processes run, do not wait for their end" },
	{ "pidfile", 0, "FILE", "write the root process's PID there" },
	{ "pids", 0, "WAY",
	  "same: the old PIDs on this host (default); new: a PID namespace of their own" },
	{ "force", 0, NULL, "restore although files that must be unchanged have changed" },
	{ "stopped", 0, NULL, "leave the processes stopped; SIGCONT lets them go on" },
	{ "workers", 0, "N", "threads that decompress; default one a core" },
	{ 0 }
};
static const struct cpx_opt opts_json[] = {
	{ "json", 0, NULL, "machine-readable" },
	{ 0 }
};
static const struct cpx_opt opts_gc[] = {
	{ "dry-run", 'n', NULL, "only say what would be removed" },
	{ "json", 0, NULL, "machine-readable" },
	{ 0 }
};
static const struct cpx_opt opts_verify[] = {
	{ "repair", 0, NULL,
	  "go back to the newest whole generation; what is damaged is set aside" },
	{ "json", 0, NULL, "machine-readable" },
	{ 0 }
};
static const struct cpx_opt opts_import[] = {
	{ "name", 'n', "NAME", "the new job's name; default made from the file's" },
	{ "to", 0, "DIR", "into a directory, as a dump would be, instead of a job" },
	{ "trust", 0, NULL, "root: give it the rights it records, whoever wrote it" },
	{ 0 }
};
/* how a job is checkpointed and what is kept: of run and mark */
#define OPTS_KEPT \
	{ "keep", 'k', "N", "generations to keep, default 2" }, \
	{ "keep-hourly", 0, "N", "and the last one of each of N hours" }, \
	{ "keep-daily", 0, "N", "and the last one of each of N days (UTC)" }, \
	{ "snapshot", 0, "WAY", \
	  "auto (default): what is expected to pause it least; precopy, clone, or stop" }, \
	{ "codec", 0, "NAME", \
	  "lz4 (default), zlib, none, or auto: what is quickest with this store" }, \
	{ "cpus", 0, "N", "processors that compress at a time; default all" }, \
	{ "rate", 0, "BYTES", "write at most so many a second while the job runs (10M)" }

static const struct cpx_opt opts_run[] = {
	{ "name", 'n', "NAME", "the job's name; default made from the command" },
	{ "every", 'e', "DUR",
	  "checkpoint it that often (10s, 5m, 1h); auto[:MIN..MAX] (default): by what one costs "
	  "and how often jobs fail; never: only when asked for" },
	OPTS_KEPT,
	{ "interactive", 'i', NULL, "keep the standard input (else /dev/null)" },
	{ "tty", 't', NULL, "give it a terminal; 'attach' shows it" },
	{ 0 }
};
static const struct cpx_opt opts_mark[] = {
	{ "name", 'n', "NAME", "the job's name; default made from the command" },
	{ "every", 'e', "DUR",
	  "checkpoint it that often (10s, 5m, 1h); auto[:MIN..MAX]: by what one costs and how "
	  "often jobs fail; never (default): only when asked for" },
	OPTS_KEPT,
	{ 0 }
};
static const struct cpx_opt opts_checkpoint[] = {
	{ "all", 'a', NULL, "all running jobs" },
	{ "kill", 0, NULL, "end it once the image is safe; 'restart' lets it go on" },
	{ "stop", 0, NULL, "leave it stopped; 'signal JOB CONT' lets it go on" },
	{ "deadline", 0, "DUR",
	  "give up after that time, for all of them together; the jobs run on" },
	{ "snapshot", 0, "WAY",
	  "auto (default): what is expected to pause it least; precopy, clone, or stop" },
	{ "codec", 0, "NAME",
	  "lz4 (default), zlib, none, or auto: what is quickest with this store" },
	{ "cpus", 0, "N", "processors that compress at a time; default all" },
	{ "rate", 0, "BYTES", "write at most so many a second while the job runs (10M)" },
	{ "json", 0, NULL, "machine-readable" },
	{ 0 }
};
static const struct cpx_opt opts_restart[] = {
	{ "all", 'a', NULL, "all jobs that a checkpoint --kill has ended" },
	{ "force", 0, NULL, "although files that must be unchanged have changed" },
	{ 0 }
};
static const struct cpx_opt opts_recover[] = {
	{ "all", 'a', NULL, "all jobs that were lost or killed from outside" },
	{ "force", 0, NULL, "although files that must be unchanged have changed" },
	{ 0 }
};
static const struct cpx_opt opts_logs[] = {
	{ "follow", 'f', NULL, "go on until the job ends" },
	{ "stderr", 0, NULL, "its standard error instead of its standard output" },
	{ 0 }
};
static const struct cpx_opt opts_rm[] = {
	{ "force", 'f', NULL, "kill it if it runs" },
	{ 0 }
};
static const struct cpx_opt opts_global[] = {
	{ "dir", 0, "DIR",
	  "state directory of chpoxd (environment CHPOX_DIR; default " DEFAULT_DIR ")" },
	{ "version", 0, NULL, "print the version" },
	{ 0 }
};

static const struct cpx_cmd commands[] = {
	{ "run", "[OPTION]... [--] CMD [ARG]...", "start a job; prints its name",
	  opts_run, 1, -1, true, cpx_ctl_run },
	{ "mark", "PID [OPTION]...", "make a running process and its children a job",
	  opts_mark, 1, 1, false, cpx_ctl_mark },
	{ "unmark", "JOB", "forget a marked job and its images; its processes run on",
	  NULL, 1, 1, false, cpx_ctl_unmark },
	{ "checkpoint", "JOB|--all [OPTION]...", "checkpoint a job now",
	  opts_checkpoint, 0, 1, false, cpx_ctl_checkpoint },
	{ "restart", "JOB[@GENERATION]|--all",
	  "restart a job that does not run from its newest, or that, checkpoint",
	  opts_restart, 0, 1, false, cpx_ctl_restart },
	{ "recover", "JOB|--all", "bring back what was lost in a crash",
	  opts_recover, 0, 1, false, cpx_ctl_recover },
	{ "ps", "[--json]", "list jobs",
	  opts_json, 0, 0, false, cpx_ctl_ps },
	{ "show", "JOB [--json]", "all about a job",
	  opts_json, 1, 1, false, cpx_ctl_show },
	{ "images", "JOB [--json]", "list a job's checkpoints, and why each is kept",
	  opts_json, 1, 1, false, cpx_ctl_images },
	{ "du", "[JOB] [--json]", "what images take in the store, and for what",
	  opts_json, 0, 1, false, cpx_ctl_du },
	{ "gc", "[JOB] [--dry-run] [--json]", "remove from the store what nothing needs",
	  opts_gc, 0, 1, false, cpx_ctl_gc },
	{ "wait", "JOB", "wait for a job's end; exits with its status",
	  NULL, 1, 1, false, cpx_ctl_wait },
	{ "logs", "JOB [-f] [--stderr]", "what a job has written",
	  opts_logs, 1, 1, false, cpx_ctl_logs },
	{ "attach", "JOB", "use the terminal of a job started with -t; Ctrl-\\ leaves it",
	  NULL, 1, 1, false, cpx_ctl_attach },
	{ "signal", "JOB SIGNAL", "send a signal to a job's root process",
	  NULL, 2, 2, false, cpx_ctl_signal },
	{ "rm", "JOB [--force]", "remove a job, its output and its images",
	  opts_rm, 1, 1, false, cpx_ctl_rm },
	{ "dump", "PID --to DIR [OPTION]...",
	  "checkpoint a process and its children into a directory",
	  opts_dump, 1, 1, false, cpx_ctl_dump },
	{ "restore", "DIR [OPTION]...", "bring the processes of a dumped image back",
	  opts_restore, 1, 1, false, cpx_ctl_restore },
	{ "inspect", "DIR|JOB[@GENERATION] [--json]", "show what an image holds",
	  opts_json, 1, 1, false, cpx_ctl_inspect },
	{ "verify", "DIR|JOB[@GENERATION] [OPTION]...",
	  "check every byte of an image without restoring it",
	  opts_verify, 1, 1, false, cpx_ctl_verify },
	{ "export", "DIR|JOB[@GENERATION] FILE|-", "write an image as one file",
	  NULL, 2, 2, false, cpx_ctl_export },
	{ "import", "FILE|- [OPTION]...", "make an exported image a job, or a directory",
	  opts_import, 1, 1, false, cpx_ctl_import },
	{ "rehearse", "DIR|JOB[@GENERATION] [--json]",
	  "try to restore an image where nothing can be changed, and throw it away",
	  opts_json, 1, 1, false, cpx_ctl_rehearse },
	{ "why", "PID|JOB", "can this be checkpointed, and if not, what stands in the way?",
	  NULL, 1, 1, false, cpx_ctl_why },
	{ "check", "[--json]", "what this host can do: kernel features, rights, limits",
	  opts_json, 0, 0, false, cpx_ctl_check },
	{ 0 }
};
/* clang-format on */

static int setup(const struct cpx_args *a, struct cpx_err *err)
{
	struct cpx_ctl *ctl = a->ctx;

	if (cpx_arg_given(a, "version")) {
		printf("chpox 0.1\n");
		return 1;
	}
	ctl->dir = cpx_arg(a, "dir");
	if (!ctl->dir)
		ctl->dir = getenv("CHPOX_DIR");
	if (!ctl->dir || !*ctl->dir)
		ctl->dir = DEFAULT_DIR;
	if (ctl->dir[0] != '/')
		return cpx_err_set(err, CPX_E_INVAL, "state directory '%s' must start with /",
				   ctl->dir);
	return 0;
}

int main(int argc, char **argv)
{
	struct cpx_ctl ctl = { 0 };
	const struct cpx_prog prog = {
		.name = "chpox_ctl",
		.summary = "checkpoint and restart Linux jobs",
		.cmds = commands,
		.opts = opts_global,
		.setup = setup,
		.ctx = &ctl,
	};

	cpx_log_init("chpox_ctl");
	cpx_fault_init();
	signal(SIGPIPE, SIG_IGN);
	return cpx_cmd_main(&prog, argc, argv);
}
