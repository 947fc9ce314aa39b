/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_sysv.c - SysV semaphores and message queues that the job has used last.
 *
 * They have no owner among processes and outlive them. The job's are those whose last user is
 * one of its processes. Messages are copied by index and stay. What SEM_UNDO will add at a
 * process's end the kernel tells nobody: a process of one thread is made to leave its undo
 * list, which applies it; the difference is the list; the same operations, undone, bring values
 * and list back.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "cap_ipc_kinds.h"
#include "engine.h"

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif

#define SEMS_MAX 4096
#define OPS_MAX 128
#define MSG_BYTES_MAX (16u << 20)
#define PROC_MAX (16u << 20)

union semarg {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
};

static int nomem(struct cpx_err *err)
{
	return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
}

static uint32_t ns_pid(const struct cpx_cap *c, pid_t pid)
{
	for (size_t i = 0; pid > 0 && i < c->ntasks; i++)
		if (c->tasks[i]->pid == pid)
			return (uint32_t)c->tasks[i]->ns_pid;
	return 0;
}

static bool our_namespace(const struct cpx_cap *c)
{
	struct stat a, b;

	return !fstatat(c->tasks[0]->proc_fd, "ns/ipc", &a, 0) &&
	       !stat("/proc/self/ns/ipc", &b) && a.st_ino == b.st_ino;
}

/* --- semaphores ------------------------------------------------------------------------------
 */

static int cap_set(struct cpx_cap *c, int id, struct cpx_err *err)
{
	struct semid_ds ds;
	unsigned short vals[SEMS_MAX];
	struct cpx_rec_semset *rec;
	uint32_t *values, *pids;
	bool ours = false;

	if (semctl(id, 0, IPC_STAT, (union semarg){ .buf = &ds }) || ds.sem_nsems > SEMS_MAX)
		return 0;
	for (unsigned i = 0; i < ds.sem_nsems && !ours; i++)
		ours = ns_pid(c, semctl(id, (int)i, GETPID)) != 0;
	if (!ours || semctl(id, 0, GETALL, (union semarg){ .array = vals }))
		return 0;
	rec = cpx_state_new_rec(c->st, semset);
	values = cpx_state_alloc(c->st, ds.sem_nsems * sizeof(*values));
	pids = cpx_state_alloc(c->st, ds.sem_nsems * sizeof(*pids));
	if (!rec || !values || !pids)
		return nomem(err);
	for (unsigned i = 0; i < ds.sem_nsems; i++) {
		values[i] = vals[i];
		pids[i] = ns_pid(c, semctl(id, (int)i, GETPID));
	}
	rec->id = id;
	rec->key = ds.sem_perm.__key;
	rec->mode = ds.sem_perm.mode & 0777;
	rec->uid = ds.sem_perm.uid;
	rec->gid = ds.sem_perm.gid;
	rec->values = (struct cpx_u32s){ values, (uint32_t)ds.sem_nsems };
	rec->pids = (struct cpx_u32s){ pids, (uint32_t)ds.sem_nsems };
	return 0;
}

static int put_undo(struct cpx_cap *c, const struct cpx_cap_task *t,
		    const struct cpx_rec_semset *set, uint32_t num, int adjust,
		    struct cpx_err *err)
{
	struct cpx_rec_semundo *u = cpx_state_new_rec(c->st, semundo);

	if (!u)
		return nomem(err);
	u->pid = (uint32_t)t->ns_pid;
	u->id = set->id;
	u->num = num;
	u->adjust = adjust;
	return 0;
}

/* The process has left its list: what changed in @set is put back by the process itself. */
static int undo_of_set(struct cpx_cap *c, struct cpx_cap_task *t,
		       const struct cpx_rec_semset *set, struct cpx_err *err)
{
	struct cpx_tracee *tr = &t->threads[0].t;
	unsigned short now[SEMS_MAX];
	struct sembuf ops[OPS_MAX];
	size_t n = 0;
	int64_t ret = 0;
	uint64_t addr;
	int rc;

	if (semctl(set->id, 0, GETALL, (union semarg){ .array = now }))
		return 0;
	for (uint32_t i = 0; i < set->values.n && n < OPS_MAX; i++) {
		int adjust = (int)now[i] - (int)set->values.v[i];

		if (!adjust)
			continue;
		ops[n++] = (struct sembuf){ (unsigned short)i, (short)-adjust,
					    SEM_UNDO | IPC_NOWAIT };
		rc = put_undo(c, t, set, i, adjust, err);
		if (rc < 0)
			return rc;
	}
	if (!n)
		return 0;
	cpx_tracee_reset(tr);
	addr = cpx_tracee_push(tr, ops, n * sizeof(*ops));
	rc = addr ? cpx_tcall(tr, &ret, err, SYS_semop, (uint64_t)set->id, addr, n)
		  : cpx_err_set(err, CPX_E_SYS, "no room for a call's arguments");
	cpx_tracee_reset(tr);
	return rc < 0 || ret >= 0 ? rc
				  : cpx_err_sys(err, (int)-ret, "semaphore set %d", set->id);
}

static int cap_undo(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	int64_t ret;
	int rc;

	/* a tree with such a list is not the module's */
	if (t->zombie || t->nthreads != 1 || !c->engine->injects)
		return 0;
	rc = cpx_tcall(&t->threads[0].t, &ret, err, SYS_unshare, CLONE_SYSVSEM);
	if (rc < 0 || ret < 0)
		return rc;
	cpx_state_each(c->st, semset, set) {
		rc = undo_of_set(c, t, set, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- message queues
 * ------------------------------------------------------------------------------ */

static int cap_message(struct cpx_cap *c, int id, long index, void *buf, size_t size,
		       struct cpx_err *err)
{
	struct cpx_rec_sysvmsg *rec;
	long type;
	ssize_t n = msgrcv(id, buf, size, index, MSG_COPY | IPC_NOWAIT);

	if (n < 0)
		return cpx_err_sys(err, errno, "message queue %d", id);
	rec = cpx_state_new_rec(c->st, sysvmsg);
	if (!rec)
		return nomem(err);
	memcpy(&type, buf, sizeof(type));
	rec->queue = id;
	rec->type = type;
	rec->data = cpx_state_blob(c->st, (char *)buf + sizeof(type), (size_t)n);
	return n && !rec->data.p ? nomem(err) : 0;
}

static int cap_queue(struct cpx_cap *c, int id, struct cpx_err *err)
{
	CPX_AUTO_FREE void *buf = NULL;
	struct cpx_rec_msgqueue *rec;
	struct msqid_ds ds;
	int rc = 0;

	if (msgctl(id, IPC_STAT, &ds) || (!ns_pid(c, ds.msg_lspid) && !ns_pid(c, ds.msg_lrpid)))
		return 0;
	rec = cpx_state_new_rec(c->st, msgqueue);
	buf = malloc(ds.__msg_cbytes + sizeof(long));
	if (!rec || !buf || ds.__msg_cbytes > MSG_BYTES_MAX)
		return nomem(err);
	rec->id = id;
	rec->key = ds.msg_perm.__key;
	rec->mode = ds.msg_perm.mode & 0777;
	rec->uid = ds.msg_perm.uid;
	rec->gid = ds.msg_perm.gid;
	rec->qbytes = ds.msg_qbytes;
	rec->lspid = ns_pid(c, ds.msg_lspid);
	rec->lrpid = ns_pid(c, ds.msg_lrpid);
	for (unsigned long i = 0; rc >= 0 && i < ds.msg_qnum; i++)
		rc = cap_message(c, id, (long)i, buf, ds.__msg_cbytes, err);
	return rc;
}

/* --- all
 * -------------------------------------------------------------------------------------------
 */

static int each_id(struct cpx_cap *c, const char *list,
		   int (*one)(struct cpx_cap *c, int id, struct cpx_err *err),
		   struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	int rc = 0;

	if (cpx_read_file(AT_FDCWD, list, PROC_MAX, &text, NULL) < 0)
		return 0;
	for (char *p = strchr(text, '\n'); p && rc >= 0; p = strchr(p + 1, '\n')) {
		int id;

		if (sscanf(p + 1, "%*d %d", &id) == 1)
			rc = one(c, id, err);
	}
	return rc;
}

int cpx_cap_sysv(struct cpx_cap *c, struct cpx_err *err)
{
	int rc;

	if (c->dry_run || !our_namespace(c))
		return 0;
	rc = each_id(c, "/proc/sysvipc/sem", cap_set, err);
	if (rc >= 0)
		rc = each_id(c, "/proc/sysvipc/msg", cap_queue, err);
	for (size_t i = 0; rc >= 0 && cpx_state_count(c->st, CPX_REC_semset) && i < c->ntasks;
	     i++)
		rc = cap_undo(c, c->tasks[i], err);
	return rc;
}
