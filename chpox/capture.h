/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * capture.h - the one place where a checkpoint is made.
 *
 * Happy path: pre-flight -> seize -> park -> families fill the state -> snapshot ->
 * release -> pages -> commit. On any failure before the commit the job runs on as if
 * nothing had happened and nothing is left in the store.
 *
 * A family (cap_*.c) captures one kind of state of each task while the tree is parked.
 * It reads /proc, uses descriptors taken out by pidfd_getfd, and as a last resort runs
 * a call in the task (base/tracee.h). It never changes the job.
 */
#ifndef CPX_CAPTURE_H
#define CPX_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../store/image.h"
#include "../store/state.h"
#include "base/err.h"
#include "base/tracee.h"

/* --- what commands, keeper and tests call --------------------------------------------- */

enum cpx_snapshot_way { CPX_SNAP_AUTO = 0, CPX_SNAP_CLONE, CPX_SNAP_STOP, CPX_SNAP_PRECOPY };
/* auto, clone, stop, precopy. Return: 0 or CPX_E_INVAL. */
int cpx_snapshot_parse(const char *name, enum cpx_snapshot_way *out);
const char *cpx_snapshot_name(enum cpx_snapshot_way way);
/* AUTO: the module where it can be used, else ptrace; engine.c says more */
enum cpx_engine_kind { CPX_ENGINE_AUTO = 0, CPX_ENGINE_MODULE, CPX_ENGINE_PTRACE };
enum cpx_after { CPX_AFTER_RUN = 0, CPX_AFTER_KILL, CPX_AFTER_STOP };

struct cpx_pace;

struct cpx_capture_opts {
	pid_t root; /* in the caller's PID namespace */
	enum cpx_engine_kind engine;
	enum cpx_snapshot_way snapshot; /* AFTER_KILL and AFTER_STOP always stop-and-copy */
	enum cpx_after after;
	struct cpx_store *store;
	struct cpx_gen_id id;
	struct cpx_image_opts image;
	uint32_t owner_uid, owner_gid; /* whose job it is; checked against every process */
	int64_t park_timeout_ns;       /* 0: 10 s */
	void (*progress)(void *ctx, uint64_t done, uint64_t total); /* may be NULL */
	void *progress_ctx;
	const char *note; /* for people; NULL: command line of the root */
	/*
	 * Write tracking that lives from one checkpoint of this job to the next (track.h), NULL
	 * for a full one. After a failure it must be freed: what it had noted is used up.
	 */
	struct cpx_track *track;
	struct cpx_pace *pace; /* what this job's checkpoints took, in and out; NULL: nothing */
	/* when the job runs again: take only what is left over (gentle.h), and write at most so
	 * many bytes a second (0: no limit) */
	bool gentle;
	uint64_t rate;
	int64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none. Past it the checkpoint fails, the job
				runs on */
};

struct cpx_capture_result {
	struct cpx_gen_id id;
	struct cpx_image_stats image;
	int64_t pause_ns;     /* from the first thread stopped to the last one released */
	int64_t predicted_ns; /* what the pause was expected to be; 0: nothing was known */
	int64_t total_ns;
	uint32_t tasks, threads;
	enum cpx_snapshot_way way; /* the one taken */
	bool incremental;
	const char *engine; /* "ptrace" or "module" */
};

int cpx_capture_run(const struct cpx_capture_opts *opts, struct cpx_capture_result *res,
		    struct cpx_err *err);

/*
 * Why a tree cannot be checkpointed: one line each ("pid 7 (sh): fd 3 is …; do …"), called
 * for every obstacle. Nothing is stopped. Return: number of obstacles, or an error.
 */
typedef void (*cpx_why_line)(void *ctx, const char *line);
int cpx_capture_why(pid_t root, cpx_why_line line, void *ctx, struct cpx_err *err);

/* --- what families see ---------------------------------------------------------------- */

struct cpx_pace;
struct cpx_engine;
struct cpx_precopy;
struct cpx_track;

struct cpx_cap_thread {
	struct cpx_tracee t;
	pid_t ns_tid; /* innermost */
	struct cpx_rec_thread *rec;
};

struct cpx_cap_task {
	pid_t pid;    /* host */
	pid_t ns_pid; /* innermost */
	pid_t live;   /* whose /proc to read: pid, or a further thread where the main one has
			 ended */
	int pidfd, proc_fd, mem_fd; /* owned; proc_fd is /proc/PID */
	bool zombie;
	struct cpx_rec_task *rec;
	struct cpx_cap_thread *threads; /* [0] is the leader */
	size_t nthreads;
	struct cpx_home home;
	/* first task with the same mm, files, fs, sighand (itself if none before it) */
	struct cpx_cap_task *mm_of, *files_of, *fs_of, *sighand_of;
	pid_t clone_pid;     /* its copy-on-write snapshot, 0: none */
	int clone_mem_fd;    /* where it is read, -1: none */
	bool clone_unmarked; /* it lacks the marks of memory that fork leaves out or empties */
};

struct cpx_cap {
	const struct cpx_capture_opts *opts;
	const struct cpx_engine *engine;
	void *engine_priv; /* its own */
	struct cpx_state *st;
	struct cpx_cap_task **tasks; /* root first, parents before children */
	size_t ntasks;
	struct cpx_image_writer *writer; /* NULL in a dry run (why) */
	enum cpx_snapshot_way
		way; /* the one taken: CLONE, STOP or PRECOPY, settled before finish() */
	struct cpx_precopy *precopy; /* what was copied before the pause; NULL: nothing */
	struct cpx_pace *pace;	     /* never NULL */
	int64_t snapshot_ns;	     /* in the pause, for memory alone */
	bool incremental;	     /* the writer has a base: covered clean pages are inherited
				      */
	bool dry_run;		     /* nothing is parked: families only look for obstacles */
	cpx_why_line why;	     /* dry run: where obstacles go; see cpx_cap_refuse() */
	void *why_ctx;
	int obstacles;
	uint32_t next_id;    /* ids of files, ofds, spaces: cpx_cap_id() */
	void *family[16];    /* private data of each family, by its index in the table */
	void *files_priv;    /* of cap_file.c, from its begin() on */
	int64_t stop_ns;     /* CLOCK_MONOTONIC of the first stop; 0 in a dry run */
	void *resume;	     /* cap_resume.c's own */
	struct cpx_mem *mem; /* of cap_mem.c, for the shm records that descriptors need */
};

struct cpx_cap_family {
	const char *name;
	int (*begin)(struct cpx_cap *c, void **priv, struct cpx_err *err);
	/* each live task, parked (or running, in a dry run) */
	int (*task)(struct cpx_cap *c, void *priv, struct cpx_cap_task *t, struct cpx_err *err);
	/* after all tasks, still parked */
	int (*finish)(struct cpx_cap *c, void *priv, struct cpx_err *err);
	/* the tree runs again (or is about to be killed); queue what can be read late. Before
	 * commit. */
	int (*late)(struct cpx_cap *c, void *priv, struct cpx_err *err);
	/* committed, and the tree is killed next */
	void (*before_kill)(struct cpx_cap *c, void *priv);
	void (*end)(struct cpx_cap *c, void *priv); /* always, frees @priv */
};

/* The table of families, in order, is in capture.c. */
extern const struct cpx_cap_family
	cpx_cap_core; /* cap_task.c: tasks, threads, creds, sched, limits */
extern const struct cpx_cap_family cpx_cap_sig; /* cap_sig.c: signals, timers, time-outs */
extern const struct cpx_cap_family cpx_cap_mem; /* cap_mem.c: mm, vmas, shm, pages */
extern const struct cpx_cap_family
	cpx_cap_files; /* cap_file.c: descriptors, ofds, regular files, cwd, exe, locks */
extern const struct cpx_cap_family
	cpx_cap_ipc; /* cap_ipc.c … : pipes, eventfd, sockets, ttys … */

/* A new id, > 0, unique in the image. */
static inline uint32_t cpx_cap_id(struct cpx_cap *c)
{
	return ++c->next_id;
}

/*
 * cpx_cap_refuse() - this cannot be saved. In a dry run the line is reported and 0 returned, so
 * that all obstacles are found; else CPX_E_UNSUPPORTED with "pid N (comm): " before it.
 */
int cpx_cap_refuse(struct cpx_cap *c, const struct cpx_cap_task *t, struct cpx_err *err,
		   const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/*
 * File records (cap_file.c): the record of the file that @path_fd (O_PATH or open) refers to,
 * made once per (dev, ino, deleted name). For exe, cwd, mappings. Return: its id in *@id.
 */
int cpx_cap_file_of_fd(struct cpx_cap *c, struct cpx_cap_task *t, int fd, const char *link_text,
		       uint32_t *id, struct cpx_err *err);
/* Change the rule of a file record already made, if @rule is stricter (used by mappings). */
int cpx_cap_file_rule(struct cpx_cap *c, uint32_t file_id, uint32_t rule, struct cpx_err *err);
/* Which namespaces it is in, and what is in those that are the job's own (cap_ns.c). */
int cpx_cap_namespaces(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err);
/* Its mount namespace, where that is not ours (cap_mount.c); the job's root process. */
int cpx_cap_mounts(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err);
/* Refuse threads that have left their process's; takes time, not for the pause. */
int cpx_cap_ns_threads(struct cpx_cap *c, struct cpx_err *err);
/* Shared memory objects (cap_mem.c): the shm record of a memfd or deleted tmpfs file. */
int cpx_cap_shm_of_fd(struct cpx_cap *c, struct cpx_cap_task *t, int fd, const char *link_text,
		      uint32_t *id, struct cpx_err *err);

#endif
