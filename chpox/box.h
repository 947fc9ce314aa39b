/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * box.h - a job's own PID and mount namespace, and the two small processes in it.
 *
 * PID 1 (the inner half of a keeper) reaps orphans; when the launcher ends it ends, and the
 * kernel kills what is left in the namespace. PID 2 (the launcher) is the parent of the job's
 * root process: it starts the command, or makes the empty child of a restore with the PID
 * wanted, and takes the exit status. Both live as long as the job and need nobody outside: when
 * the outer half dies, a new one connects to the launcher's listening socket.
 *
 * The namespace has its own /proc and, for a job with a terminal, its own devpts; all other
 * mounts are the host's (propagation: slave).
 *
 * Until there is a root process the box lives only as long as its maker's connection.
 */
#ifndef CPX_BOX_H
#define CPX_BOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

struct cpx_err;
struct cpx_rec_host;

/* What is run, and as whom. All pointers are borrowed. */
struct cpx_box_cmd {
	char **argv, **env; /* NULL-terminated */
	const char *cwd;
	uint32_t umask, uid, gid;
	const gid_t *groups;
	uint32_t ngroups;
	struct rlimit limits[RLIM_NLIMITS];
	bool has_limits;
	int stdio[3]; /* -1: /dev/null, or the terminal of a box that has one */
};

struct cpx_box_opts {
	int cgroup_fd;	       /* directory of the job's cgroup (v2), -1: none */
	int listen_fd;	       /* SOCK_SEQPACKET, listening; -1: cannot be adopted */
	const char *exit_path; /* the launcher writes the wait status there; NULL: nowhere */
	bool bound;	       /* all in it dies with its maker's connection, at any time */
	bool tty;	       /* own devpts with one terminal */
	uint32_t tty_uid;      /* whose it is */
	const struct cpx_box_cmd *cmd; /* for cpx_box_exec(); NULL: only restores */
};

struct cpx_box {
	pid_t init, root; /* host PIDs; root 0: none yet */
	int sock;	  /* connection to the launcher */
	int init_pidfd, root_pidfd;
	int tty_master, tty_slave; /* -1: none */
	bool ended;		   /* the root process has ended with .. */
	int status;		   /* .. this wait status */
};

#define CPX_BOX_NONE                                                              \
	{                                                                         \
		.sock = -1, .init_pidfd = -1, .root_pidfd = -1, .tty_master = -1, \
		.tty_slave = -1                                                   \
	}

int cpx_box_make(const struct cpx_box_opts *opts, struct cpx_box *box, struct cpx_err *err);

/* Connect to a box that lost its outer half. @init: its PID 1, checked by the caller. */
int cpx_box_adopt(const char *sock_path, pid_t init, struct cpx_box *box, struct cpx_err *err);

/* Run the command of the options. CPX_E_NOENT, CPX_E_PERM …: it could not be started. */
int cpx_box_exec(struct cpx_box *box, struct cpx_err *err);

/* For struct cpx_restore_opts: @box is a struct cpx_box. */
pid_t cpx_box_spawn(void *box, pid_t ns_pid, int conductor_pidfd,
		    const struct cpx_rec_host *host, struct cpx_err *err);

/*
 * cpx_box_read() - take what the launcher says; call when sock is readable.
 * Return: 1 when the root has ended (box->status), 0 for anything else, CPX_E_GONE when the
 * launcher is no more.
 */
int cpx_box_read(struct cpx_box *box, struct cpx_err *err);

/* Kill everything in the box and wait until PID 1 is gone. */
void cpx_box_kill(struct cpx_box *box);
void cpx_box_close(struct cpx_box *box); /* descriptors only */

/* The host PID behind a pidfd; -1 when it is gone. */
pid_t cpx_pidfd_pid(int pidfd);

#endif
