/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_ipc_kinds.h - between the sources of the ipc family only.
 *
 * Each kind has one function that describes one descriptor, and some have a second one that
 * runs in finish(), when all descriptors of the tree are known.
 */
#ifndef CPX_CAP_IPC_KINDS_H
#define CPX_CAP_IPC_KINDS_H

#include "cap_ipc.h"
#include "capture.h"

#define CPX_IPC_HASH 4096
#define CPX_CAP_IPC_SLOT \
	15 /* of cpx_cap.family: the private data, for calls from other families */

/* One descriptor as cpx_cap_ipc_fd() got it. */
struct cpx_ipc_fd {
	struct cpx_cap *c;
	struct cpx_cap_task *t;
	int num;  /* in the task */
	int here; /* in this process */
	const char *link;
	const struct stat *st;
	struct cpx_rec_ofd *ofd;
};

/* What is kept between a descriptor's visit and finish(). */
struct cpx_ipc_seen {
	struct cpx_ipc_seen *next;
	struct cpx_ipc_seen *last;  /* in the first of a list: the last of it */
	struct cpx_ipc_seen *chain; /* sockets: the next with the same hash of the inode */
	struct cpx_cap_task *t;
	int num;
	int here; /* a duplicate, owned; -1: none */
	uint64_t ino, ofd_rdev;
	struct cpx_rec_ofd *ofd;
	void *rec;  /* the kind's record */
	void *info; /* what the kind knows besides, one malloc'ed block */
};

struct cpx_ipc_outside {
	uint64_t ino;
	pid_t pid;
};

struct cpx_ipc {
	struct cpx_ipc_seen *pipes, *epolls, *socks, *ttys, *mqueues;
	struct cpx_ipc_seen *by_ino[CPX_IPC_HASH]; /* sockets */
	struct cpx_ipc_seen *travelling;	   /* ofds that only messages in flight hold */
	/* what processes outside hold, sorted; looked for once */
	struct cpx_ipc_outside *outside;
	size_t noutside;
	bool looked;
};

/* Remember @f in @list, with a duplicate if @dup. NULL: out of memory or descriptors. */
struct cpx_ipc_seen *cpx_ipc_see(struct cpx_ipc_seen **list, const struct cpx_ipc_fd *f,
				 void *rec, bool dup);

/* The text of fdinfo of our descriptor @here; malloc'ed. */
int cpx_ipc_fdinfo(int here, char **out, struct cpx_err *err);
/* The number behind "\n@key" in base @base. Return: whether it is there. */
bool cpx_ipc_field(const char *text, const char *key, int base, uint64_t *out);

static inline struct cpx_ipc *cpx_ipc_of(const struct cpx_cap *c)
{
	return c->family[CPX_CAP_IPC_SLOT];
}

/*
 * The ofd record of an open file description that we hold as @here; one that no task has (it
 * travels over a socket) gets a record of its own.
 */
int cpx_ipc_ofd_of(struct cpx_cap *c, struct cpx_cap_task *t, int here, uint32_t *id,
		   struct cpx_err *err);

/*
 * Is @s a descriptor that the job has merely inherited: no standard stream in any process of
 * it, and an ancestor of the job has the same open file description still? Return: the
 * ancestor, or 0.
 */
pid_t cpx_ipc_inherited(const struct cpx_cap *c, const struct cpx_ipc_seen *s);

/* A process outside the tree that holds the pipe or socket with inode @ino; 0: none. */
pid_t cpx_ipc_outsider(const struct cpx_cap *c, uint64_t ino);

int cpx_cap_timerfd(const struct cpx_ipc_fd *f, struct cpx_err *err);
int cpx_cap_signalfd(const struct cpx_ipc_fd *f, struct cpx_err *err);
int cpx_cap_pidfd(const struct cpx_ipc_fd *f, struct cpx_err *err);
int cpx_cap_inotify(const struct cpx_ipc_fd *f, struct cpx_err *err);
int cpx_cap_epoll(const struct cpx_ipc_fd *f, struct cpx_err *err);
int cpx_cap_epolls(struct cpx_cap *c, struct cpx_err *err); /* finish */
/* 0: the device is no terminal. */
int cpx_cap_tty(const struct cpx_ipc_fd *f, struct cpx_err *err);
int cpx_cap_ttys(struct cpx_cap *c, struct cpx_err *err); /* finish */
int cpx_cap_sysv(struct cpx_cap *c, struct cpx_err *err); /* finish */
bool cpx_is_mqueue(int fd);
int cpx_cap_mqueue(const struct cpx_ipc_fd *f, struct cpx_err *err);
int cpx_cap_socket(const struct cpx_ipc_fd *f, struct cpx_err *err);
int cpx_cap_pipe(const struct cpx_ipc_fd *f, struct cpx_err *err);
int cpx_cap_pipes(struct cpx_cap *c, struct cpx_err *err); /* finish */

#endif
