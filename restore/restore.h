/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * restore.h - from an image to running processes.
 *
 * The conductor (the calling process; single-threaded but for page workers) builds
 * each process from outside: an empty child is seized, its memory cleared but for
 * one page with a system call instruction, and everything it needs is made by calls that the
 * conductor runs in it (base/tracee.h). Children are forked by their real parents with
 * clone3(set_tid), threads by their processes. Descriptors are opened by the conductor as the
 * job's owner and fetched by the process with pidfd_getfd. At the end each thread gets its
 * saved registers and is let go. Until then PTRACE_O_EXITKILL holds: killed at any moment, the
 * conductor leaves no half job.
 *
 * Stages: open and check -> prepare (families) -> tree with memory -> tasks (families) ->
 * threads -> late (families) -> release. Nothing is created before all checks passed.
 */
#ifndef CPX_RESTORE_H
#define CPX_RESTORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sched.h>
#include <sys/types.h>

#include "../chpox/base/err.h"
#include "../chpox/base/tracee.h"
#include "../store/image.h"
#include "../store/state.h"

/* --- what commands, keeper and tests call --------------------------------------------- */

struct cpx_restore_opts {
	struct cpx_store *store;
	struct cpx_gen_id id;
	uint32_t owner_uid,
		owner_gid; /* recorded credentials are clamped to these unless trusted */
	bool trusted;	   /* root's own image: credentials as recorded */
	bool force;	   /* `verify` mismatches are warned about, not refused */
	bool stopped;	   /* leave the tree SIGSTOPped */
	/*
	 * Only try: everything is made and looked at, nothing of it ever runs, and then all is
	 * killed. What would be made or changed under a path of the host is made in the
	 * directory
	 * @scratch_fd instead, or only said; locks are not taken. The caller gives a sandbox:
	 * IPC and network namespaces of its own, and a @spawn into a PID namespace.
	 */
	bool rehearse;
	int scratch_fd;
	unsigned workers;
	/*
	 * Make the root process: a child of whoever shall be its parent, with PID @ns_pid in
	 * the job's namespace, that runs cpx_restore_child(@conductor_pidfd). The descriptor is
	 * borrowed; pass it on by fork or SCM_RIGHTS. Who forks should call
	 * cpx_restore_clocks() with @host's clocks before. Return: its PID in the caller's
	 * namespace or CPX_E_EXIST where that PID is taken. NULL: a child of the caller, in its
	 * namespace.
	 */
	pid_t (*spawn)(void *ctx, pid_t ns_pid, int conductor_pidfd,
		       const struct cpx_rec_host *host, struct cpx_err *err);
	void *spawn_ctx;
	int stdio[3]; /* replace the job's outside terminal or pipes by these; -1: as recorded
		       */
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *progress_ctx;
};

struct cpx_restore_result {
	pid_t root; /* in the caller's namespace */
	uint32_t tasks, threads;
	uint64_t bytes_memory; /* of a rehearsal: compared with the image */
	int64_t total_ns;
};

int cpx_restore_run(const struct cpx_restore_opts *opts, struct cpx_restore_result *res,
		    struct cpx_err *err);

/*
 * What an empty child does until it is taken over: it keeps one descriptor, @conductor_pidfd
 * as number 0, by which the tasks fetch descriptors from the conductor (pidfd_getfd works
 * across PID namespaces), and sleeps; it ends with the conductor. Never returns.
 */
void cpx_restore_child(int conductor_pidfd) __attribute__((noreturn));
/* CLONE_* flags that a child which shall have PID @want is made with. */
uint64_t cpx_restore_spawn_flags(pid_t want);

/*
 * cpx_restore_clocks() - make children forked from now on see CLOCK_MONOTONIC and
 * CLOCK_BOOTTIME go on from these values (ns), in a time namespace of their own.
 * cpx_restore_clocks_back() ends that for later children; *@old is what the first one gave.
 * Return: 1, or 0 where that cannot be had (the clocks jump then).
 */
int cpx_restore_clocks(int64_t monotonic_ns, int64_t boottime_ns, int *old);
void cpx_restore_clocks_back(int *old);

/* --- what families see ---------------------------------------------------------------- */

struct cpx_rst_thread {
	struct cpx_tracee t;
	const struct cpx_rec_thread *rec;
	/* what it goes on with: as recorded, then as thread() hooks change them (calls in
	 * progress) */
	struct user_regs_struct regs;
};

struct cpx_rst_task {
	pid_t pid; /* host; 0: not made yet */
	const struct cpx_rec_task *rec;
	struct cpx_rst_task *parent; /* in the tree; NULL: the root */
	struct cpx_rst_thread
		*threads; /* [0] is the leader; others exist from the threads stage on */
	size_t nthreads;
	struct cpx_home home;
	int mem_fd;
	/* first task sharing mm, files, fs, sighand (itself if none before it) */
	struct cpx_rst_task *mm_of, *files_of, *fs_of, *sighand_of;
	const struct cpx_rst_task
		*mem_from; /* whose memory it was born with; NULL: not known */
	/*
	 * Number, in the task, of a pidfd of the conductor: 0 at first (the only descriptor
	 * open); the files family moves it out of the way and closes it in the end (-1).
	 */
	int self_pidfd;
};

struct cpx_rst {
	const struct cpx_restore_opts *opts;
	struct cpx_image *img;
	const struct cpx_state *st;
	struct cpx_rst_task *tasks; /* parents before children */
	size_t ntasks;
	uint64_t home_page; /* address of the bare home, free in every address space of the job
			     */
	size_t home_size;
	void *family[16];
	void *files_priv;	 /* of rst_file.c, from its prepare() on */
	struct cpx_rst_mem *mem; /* of rst_mem.c, from cpx_rst_mem_pick_home() on */
	cpu_set_t own_cpus;	 /* of rst_cpu.c: the conductor's while it is on one CPU */
	bool joined;
};

struct cpx_rst_family {
	const char *name;
	/* before anything is created: check, open shared objects */
	int (*prepare)(struct cpx_rst *r, void **priv, struct cpx_err *err);
	/* for each live task once its memory is in place, before its threads exist; leader
	 * stopped */
	int (*task)(struct cpx_rst *r, void *priv, struct cpx_rst_task *t, struct cpx_err *err);
	/* all tasks and threads exist; once a task */
	int (*late)(struct cpx_rst *r, void *priv, struct cpx_rst_task *t, struct cpx_err *err);
	/* once a thread, all exist; the leader last */
	int (*thread)(struct cpx_rst *r, void *priv, struct cpx_rst_task *t,
		      struct cpx_rst_thread *th, struct cpx_err *err);
	void (*end)(struct cpx_rst *r, void *priv);
	/* all threads were let go; nothing can fail any more */
	void (*released)(struct cpx_rst *r, void *priv);
};

extern const struct cpx_rst_family cpx_rst_core;  /* rst_task.c */
extern const struct cpx_rst_family cpx_rst_sig;	  /* rst_sig.c */
extern const struct cpx_rst_family cpx_rst_mem;	  /* rst_mem.c */
extern const struct cpx_rst_family cpx_rst_files; /* rst_file.c */
extern const struct cpx_rst_family cpx_rst_ipc;	  /* rst_ipc.c */

/*
 * rst_cpu.c: conductor and job share one CPU from cpx_rst_cpu_join() to cpx_rst_cpu_leave(),
 * but for cpx_rst_scan() and cpx_rst_scan_pieces(), which are cpx_image_scan() and
 * cpx_image_scan_pieces() with workers on all CPUs.
 */
void cpx_rst_cpu_join(struct cpx_rst *r, pid_t root);
void cpx_rst_cpu_leave(struct cpx_rst *r);
int cpx_rst_scan(struct cpx_rst *r, const struct cpx_extent *ranges, size_t n,
		 cpx_page_sink sink, void *ctx, struct cpx_err *err);
int cpx_rst_scan_pieces(struct cpx_rst *r, const struct cpx_extent *ranges, size_t n,
			cpx_pieces_sink sink, void *ctx, struct cpx_err *err);

/* Memory (rst_mem.c), called by the tree stage right after a process was made (its address
 * space is its parent's or the empty child's): map and fill it. */
int cpx_rst_mem_fill(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err);

/*
 * Open a file record's file as the owner with @flags (O_*; O_PATH for exe and cwd): the node's
 * file, or the stored code object or saved content. Return: descriptor in the conductor.
 */
int cpx_rst_open_file(struct cpx_rst *r, uint32_t file_id, int flags, struct cpx_err *err);
/* A descriptor of a shm record's object in the conductor (borrowed; made and filled once). */
int cpx_rst_shm_fd(struct cpx_rst *r, uint32_t shm_id, struct cpx_err *err);

/*
 * Put the conductor's descriptor @fd into task @t. @want: the number it gets there, or -1 for
 * any. Return: the number in the task.
 */
int cpx_rst_give_fd(struct cpx_rst *r, struct cpx_rst_task *t, int fd, int want, bool cloexec,
		    struct cpx_err *err);
/* Give the task a descriptor of the ofd with this id (files family; opens it on first use). */
int cpx_rst_ofd_fd(struct cpx_rst *r, uint32_t ofd_id, struct cpx_err *err);

/*
 * @t has just become a session leader and has no children in that session yet: it takes the
 * controlling terminal that is recorded for it (rst_tty.c).
 */
int cpx_rst_tty_leader(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err);

/*
 * Openers of one kind of ofd: return a conductor's descriptor of a fresh open file description.
 * In the table of rst_file.c by enum cpx_ofd_kind; those of kinds other than CPX_OFD_FILE and
 * CPX_OFD_SHM are in rst_ipc.c.
 */
int cpx_rst_open_ipc(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);

#endif
