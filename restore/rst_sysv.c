/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_sysv.c - SysV semaphores and message queues.
 *
 * One that is gone is made with its number again. One that is still there is the owner's, and
 * put back to what it was only where nobody but the job has used it since. SEM_UNDO lists are
 * made by the processes themselves, by operations that end at the recorded values.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "rst_ipc_kinds.h"

#define SEMS_MAX 4096
#define SEM_VALUE_MAX_ 32767

union semarg {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
};

static int next_id(const char *what, int id, struct cpx_err *err)
{
	char path[64], text[16];
	int n = snprintf(text, sizeof(text), "%d", id);

	snprintf(path, sizeof(path), "/proc/sys/kernel/%s_next_id", what);
	CPX_AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, (size_t)n) != n)
		return cpx_err_sys(err, errno, "%s", path);
	return 0;
}

/* Was it used by the job only? A PID that is nobody's any more may be a former one of the job.
 */
static bool ours(const struct cpx_rst *r, pid_t pid)
{
	char path[32];

	if (pid <= 0)
		return true;
	for (size_t i = 0; i < r->ntasks; i++)
		if (r->tasks[i].pid == pid || r->tasks[i].rec->pid == (uint32_t)pid)
			return true;
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	return access(path, F_OK) != 0;
}

static bool may_have(const struct cpx_rst *r, uint32_t uid)
{
	return r->opts->trusted || uid == r->opts->owner_uid;
}

/* --- semaphores
 * ------------------------------------------------------------------------------------ */

/* Return: 1 there, 0 to be made, or an error. */
static int look_at_set(const struct cpx_rst *r, const struct cpx_rec_semset *rec,
		       struct cpx_err *err)
{
	struct semid_ds ds;

	if (semctl(rec->id, 0, IPC_STAT, (union semarg){ .buf = &ds }))
		return 0;
	if (ds.sem_perm.__key != rec->key || ds.sem_nsems != rec->values.n ||
	    !may_have(r, ds.sem_perm.uid))
		return cpx_err_set(
			err, CPX_E_CONFLICT,
			"the number %d of the job's semaphore set belongs to another", rec->id);
	for (uint32_t i = 0; i < rec->values.n; i++)
		if (!ours(r, semctl(rec->id, (int)i, GETPID))) {
			cpx_log_note("semaphore set %d was used by others since: left as it is",
				     rec->id);
			return 2;
		}
	return 1;
}

static int make_set(const struct cpx_rst *r, const struct cpx_rec_semset *rec,
		    struct cpx_err *err)
{
	struct semid_ds ds = { 0 };
	int id, rc = next_id("sem", rec->id, err);

	if (rc < 0)
		return rc;
	id = semget(rec->key, (int)rec->values.n,
		    IPC_CREAT | IPC_EXCL | (int)(rec->mode & 0777));
	if (id < 0)
		return cpx_err_sys(err, errno, "making semaphore set %d", rec->id);
	if (id != rec->id) {
		semctl(id, 0, IPC_RMID);
		return cpx_err_set(err, CPX_E_CONFLICT, "semaphore set %d would be %d", rec->id,
				   id);
	}
	ds.sem_perm.uid = may_have(r, rec->uid) ? rec->uid : r->opts->owner_uid;
	ds.sem_perm.gid = r->opts->trusted ? rec->gid : r->opts->owner_gid;
	ds.sem_perm.mode = (unsigned short)(rec->mode & 0777);
	return semctl(id, 0, IPC_SET, (union semarg){ .buf = &ds })
		       ? cpx_err_sys(err, errno, "owner of semaphore set %d", id)
		       : 0;
}

static int adjustment(const struct cpx_rst *r, int id, uint32_t num)
{
	int sum = 0;

	cpx_state_each(r->st, semundo, u)
		if (u->id == id && u->num == num)
			sum += u->adjust;
	return sum;
}

/* Values before the operations that are to be undone; the processes repeat those. */
static int rst_set(struct cpx_rst *r, const struct cpx_rec_semset *rec, struct cpx_err *err)
{
	unsigned short vals[SEMS_MAX];
	int rc;

	if (!rec->values.n || rec->values.n > SEMS_MAX || rec->id < 0)
		return cpx_err_set(err, CPX_E_FORMAT, "semaphore set %d makes no sense",
				   rec->id);
	rc = look_at_set(r, rec, err);
	if (rc == 0)
		rc = make_set(r, rec, err);
	if (rc < 0 || rc == 2)
		return rc;
	for (uint32_t i = 0; i < rec->values.n; i++) {
		int v = (int)rec->values.v[i] + adjustment(r, rec->id, i);

		if (v < 0 || v > SEM_VALUE_MAX_)
			return cpx_err_set(err, CPX_E_FORMAT, "semaphore set %d: value %d",
					   rec->id, v);
		vals[i] = (unsigned short)v;
	}
	return semctl(rec->id, 0, SETALL, (union semarg){ .array = vals })
		       ? cpx_err_sys(err, errno, "semaphore set %d", rec->id)
		       : 0;
}

static int rst_undo(struct cpx_rst *r, const struct cpx_rec_semundo *u, struct cpx_err *err)
{
	struct cpx_rst_task *t = cpx_ipc_task(r, u->pid);
	struct sembuf op = { (unsigned short)u->num, (short)-u->adjust, SEM_UNDO | IPC_NOWAIT };
	struct cpx_tracee *tr;
	int64_t ret = 0;
	uint64_t addr;
	int rc;

	if (!t || t->rec->state == CPX_TASK_ZOMBIE || t->pid <= 0)
		return cpx_err_set(err, CPX_E_FORMAT,
				   "SEM_UNDO of process %u, which is not there", u->pid);
	tr = &t->threads[0].t;
	cpx_tracee_reset(tr);
	addr = cpx_tracee_push(tr, &op, sizeof(op));
	rc = addr ? cpx_tcall(tr, &ret, err, SYS_semop, (uint64_t)u->id, addr, 1)
		  : cpx_err_set(err, CPX_E_SYS, "no room for a call's arguments");
	cpx_tracee_reset(tr);
	return rc < 0 || ret >= 0 ? rc : cpx_err_sys(err, (int)-ret, "semaphore set %d", u->id);
}

/* --- message queues
 * ---------------------------------------------------------------------------------- */

/* Return: 1 there and emptied, 2 left as it is, 0 to be made, or an error. */
static int look_at_queue(const struct cpx_rst *r, const struct cpx_rec_msgqueue *rec,
			 struct cpx_err *err)
{
	CPX_AUTO_FREE void *buf = NULL;
	struct msqid_ds ds;

	if (msgctl(rec->id, IPC_STAT, &ds))
		return 0;
	if (ds.msg_perm.__key != rec->key || !may_have(r, ds.msg_perm.uid))
		return cpx_err_set(
			err, CPX_E_CONFLICT,
			"the number %d of the job's message queue belongs to another", rec->id);
	if (!ours(r, ds.msg_lspid) || !ours(r, ds.msg_lrpid)) {
		cpx_log_note("message queue %d was used by others since: left as it is",
			     rec->id);
		return 2;
	}
	buf = malloc(ds.__msg_cbytes + sizeof(long) + 1);
	if (!buf)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	while (msgrcv(rec->id, buf, ds.__msg_cbytes, 0, IPC_NOWAIT) >= 0)
		;
	return 1;
}

static int make_queue(const struct cpx_rst *r, const struct cpx_rec_msgqueue *rec,
		      struct cpx_err *err)
{
	struct msqid_ds ds = { 0 };
	int id, rc = next_id("msg", rec->id, err);

	if (rc < 0)
		return rc;
	id = msgget(rec->key, IPC_CREAT | IPC_EXCL | (int)(rec->mode & 0777));
	if (id < 0)
		return cpx_err_sys(err, errno, "making message queue %d", rec->id);
	if (id != rec->id) {
		msgctl(id, IPC_RMID, NULL);
		return cpx_err_set(err, CPX_E_CONFLICT, "message queue %d would be %d", rec->id,
				   id);
	}
	ds.msg_perm.uid = may_have(r, rec->uid) ? rec->uid : r->opts->owner_uid;
	ds.msg_perm.gid = r->opts->trusted ? rec->gid : r->opts->owner_gid;
	ds.msg_perm.mode = (unsigned short)(rec->mode & 0777);
	ds.msg_qbytes = rec->qbytes;
	return msgctl(id, IPC_SET, &ds)
		       ? cpx_err_sys(err, errno, "owner of message queue %d", id)
		       : 0;
}

static int send_one(const struct cpx_rec_sysvmsg *m, struct cpx_err *err)
{
	CPX_AUTO_FREE char *buf = malloc(sizeof(long) + m->data.n);
	long type = (long)m->type;

	if (!buf)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	memcpy(buf, &type, sizeof(type));
	if (m->data.n)
		memcpy(buf + sizeof(type), m->data.p, m->data.n);
	return msgsnd(m->queue, buf, m->data.n, IPC_NOWAIT)
		       ? cpx_err_sys(err, errno, "a message for queue %d", m->queue)
		       : 0;
}

static int rst_queue(struct cpx_rst *r, const struct cpx_rec_msgqueue *rec, struct cpx_err *err)
{
	int rc = rec->id < 0 ? cpx_err_set(err, CPX_E_FORMAT, "message queue %d", rec->id)
			     : look_at_queue(r, rec, err);

	if (rc == 0)
		rc = make_queue(r, rec, err);
	if (rc < 0 || rc == 2)
		return rc;
	cpx_state_each(r->st, sysvmsg, m) {
		rc = m->queue == rec->id ? send_one(m, err) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

int cpx_rst_sysv(struct cpx_rst *r, struct cpx_err *err)
{
	bool left = false;
	int rc = 0;

	cpx_state_each(r->st, semset, rec) {
		rc = rst_set(r, rec, err);
		if (rc < 0)
			return rc;
		left |= rc == 2;
	}
	cpx_state_each(r->st, semundo, u) {
		rc = left ? 0 : rst_undo(r, u, err);
		if (rc < 0)
			return rc;
	}
	cpx_state_each(r->st, msgqueue, rec) {
		rc = rst_queue(r, rec, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}
