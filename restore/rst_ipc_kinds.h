/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_ipc_kinds.h - between the sources of the ipc family of restore only.
 *
 * An opener returns a descriptor of a fresh open file description in the conductor; the caller
 * owns it. Status flags are set by cpx_rst_open_ipc() afterwards.
 */
#ifndef CPX_RST_IPC_KINDS_H
#define CPX_RST_IPC_KINDS_H

#include "restore.h"
#include "rst_owner.h"

#define CPX_RST_IPC_SLOT \
	15 /* of cpx_rst.family: the private data, for calls from other families */

/* A descriptor made before it was asked for; which record's, and which of its ends. */
struct cpx_ipc_made {
	struct cpx_ipc_made *next;
	const void *rec;
	unsigned end;
	int fd;	    /* owned; openers hand out duplicates */
	bool taken; /* an ofd record has it */
};

/* Records of sockets by the number they are looked up by, in order. */
enum cpx_ipc_by { CPX_BY_SOCK, CPX_BY_OPT, CPX_BY_MSG, CPX_BY_COUNT };

struct cpx_ipc_index {
	struct cpx_ipc_pair {
		uint32_t key, at;
	} * v; /* owned */
	size_t n;
};

#define CPX_MADE_HASH 4096

struct cpx_rst_ipc {
	struct cpx_ipc_made *made[CPX_MADE_HASH];
	struct cpx_ipc_index index[CPX_BY_COUNT];
	bool unix_made, inet_made, late_done;
	struct cpx_rst_owner owner;
	uint32_t fsuid, fsgid; /* before cpx_ipc_drop() */
};

static inline struct cpx_rst_ipc *cpx_rst_ipc_of(const struct cpx_rst *r)
{
	return r->family[CPX_RST_IPC_SLOT];
}

/*
 * The record of kind @by at *@i of the index, or, where *@i is SIZE_MAX, the first one with
 * @key; *@i goes on. NULL: no more with this key.
 */
const void *cpx_ipc_next(const struct cpx_rst *r, enum cpx_ipc_by by, uint32_t key, size_t *i);
#define cpx_ipc_each(r, by, key, type, var)                                         \
	for (size_t i_##var = SIZE_MAX, once_##var = 1; once_##var; once_##var = 0) \
		for (const struct cpx_rec_##type *var;                              \
		     (var = cpx_ipc_next(r, by, key, &i_##var));)

/* Keep @fd (owned from now on, also on failure). Return: 0 or CPX_E_NOMEM. */
int cpx_ipc_made_add(struct cpx_rst *r, const void *rec, unsigned end, int fd,
		     struct cpx_err *err);
struct cpx_ipc_made *cpx_ipc_made_find(struct cpx_rst *r, const void *rec, unsigned end);

/* The task with this PID in the job's namespace; NULL. */
struct cpx_rst_task *cpx_ipc_task(const struct cpx_rst *r, uint32_t ns_pid);

/* Act as the job's owner on files; put it back with cpx_ipc_self(). */
struct cpx_ipc_who {
	uint32_t uid, gid;
};
struct cpx_ipc_who cpx_ipc_as_owner(const struct cpx_rst *r);
void cpx_ipc_self(struct cpx_ipc_who was);

/*
 * More than that: the owner's groups, too, and no capabilities, for what an image names by path
 * or asks the kernel for. Inside or outside the former; not nested.
 */
int cpx_ipc_drop(struct cpx_rst *r, struct cpx_err *err);
void cpx_ipc_undrop(struct cpx_rst *r);

/* Open @fd's file again through /proc. Return: descriptor or -1 with errno. */
int cpx_ipc_reopen(int fd, int flags);

int cpx_rst_eventfd(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);
int cpx_rst_timerfd(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);
int cpx_rst_signalfd(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);
int cpx_rst_pidfd(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);
int cpx_rst_inotify(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);
int cpx_rst_epoll(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);
int cpx_rst_pipe(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);
int cpx_rst_tty(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);
int cpx_rst_mqueue(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);

/* Once, when all processes have their descriptors. */
int cpx_rst_timerfds(struct cpx_rst *r, struct cpx_err *err);
int cpx_rst_epolls(struct cpx_rst *r, struct cpx_err *err);
int cpx_rst_tty_sessions(struct cpx_rst *r, struct cpx_err *err);
int cpx_rst_sysv(struct cpx_rst *r, struct cpx_err *err);
int cpx_rst_inotifies(struct cpx_rst *r, struct cpx_err *err);

#endif
