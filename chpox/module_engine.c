/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * module_engine.c - the engine that asks the kernel (docs/kernel-abi.md).
 *
 * Happy path: one call stops the tree, records it and copies its memory; the tree stays held
 * for what the families read in /proc; released, its memory is read from the copies.
 *
 * The kernel lets go by itself HOLD_MS after the stop; a checkpoint for which that happened
 * fails. Where memory is read from the parked tree itself (--stop, --kill, too little memory
 * for copies) a thread of ours renews the time. Our death closes the session, which lets go.
 */
#include "module_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../kernel/chpox_uapi.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "cap_mem.h"
#include "park.h"
#include "track.h"

#define DEVICE "/dev/chpox"
#define HOLD_MS 10000u
#define COMMIT_MS 60000u /* what moving an image's name into place takes at most */
#define RENEW_MS 2000
#define READ_BYTES (1u << 20)
#define WATCH_FLOOR (64u << 20)
#define GONE_NAPS 500 /* of 1 ms */

static int call(int fd, unsigned long what, void *arg)
{
	int sys = cpx_fault("module");

	if (sys) {
		errno = sys;
		return -1;
	}
	return ioctl(fd, what, arg);
}

/* --- can it be used? -----------------------------------------------------------------------
 */

static int open_device(int *out, struct cpx_err *err)
{
	struct chpox_info info = { .size = sizeof(info) };
	CPX_AUTO_FD fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	const uint64_t need = CHPOX_F_SNAPSHOT | CHPOX_F_PTRACE_CHECK;

	if (fd < 0)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   errno == ENOENT ? "the kernel module is not loaded"
						   : DEVICE ": %m");
	if (call(fd, CHPOX_IOC_INFO, &info) < 0 || info.abi != CHPOX_ABI)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "the kernel module is of another version");
	if ((info.features & need) != need)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "the kernel module lacks what it needs of this kernel (see "
				   "dmesg)");
	/* copies are looked at in /proc, where they are root's */
	if (geteuid() != 0)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "only root makes checkpoints by the kernel module");
	if (out)
		*out = cpx_steal_fd(&fd);
	return 0;
}

int cpx_module_usable(struct cpx_err *err)
{
	return open_device(NULL, err);
}

/* --- holding on ----------------------------------------------------------------------------
 */

static int renew(int fd, unsigned ms, struct cpx_err *err)
{
	struct chpox_hold hold = { .size = sizeof(hold), .hold_ms = ms };

	if (call(fd, CHPOX_IOC_HOLD, &hold) == 0)
		return 0;
	if (errno == ETIME)
		return cpx_err_set(err, CPX_E_TIMEOUT,
				   "the processes were stopped for too long and run again");
	return cpx_err_sys(err, errno, "hold the processes");
}

static void *keep_renewing(void *arg)
{
	const struct cpx_module *m = arg;
	struct pollfd p = { .fd = m->stop_fd, .events = POLLIN };

	while (poll(&p, 1, RENEW_MS) == 0 && renew(m->fd, HOLD_MS, NULL) == 0)
		;
	return NULL;
}

static int start_renewing(struct cpx_module *m, struct cpx_err *err)
{
	int sys;

	if (m->stop_fd >= 0)
		return 0;
	m->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (m->stop_fd < 0)
		return cpx_err_sys(err, errno, "cannot make an eventfd");
	sys = pthread_create(&m->renewer, NULL, keep_renewing, m);
	if (sys) {
		cpx_close(&m->stop_fd);
		return cpx_err_sys(err, sys, "cannot start a thread");
	}
	return 0;
}

static void stop_renewing(struct cpx_module *m)
{
	uint64_t one = 1;

	if (m->stop_fd < 0)
		return;
	if (write(m->stop_fd, &one, sizeof(one)) == (ssize_t)sizeof(one))
		pthread_join(m->renewer, NULL);
	cpx_close(&m->stop_fd);
}

static int module_held(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_module *m = cpx_module_of(c);

	stop_renewing(m);
	return renew(m->fd, COMMIT_MS, err);
}

/* --- stopping ------------------------------------------------------------------------------
 */

/* Is there room for copies of these processes' memory? */
static bool has_room(pid_t root)
{
	struct cpx_park tree;
	uint64_t size = 0;

	if (cpx_park_list(root, &tree, NULL) < 0)
		return true;
	for (size_t i = 0; i < tree.ntasks; i++)
		size += cpx_mem_private_bytes(tree.tasks[i].pid);
	cpx_park_free(&tree);
	return cpx_mem_head_room(root) >= size;
}

static int say_failure(int sys, pid_t root, struct cpx_err *err)
{
	switch (sys) {
	case ESRCH:
		return cpx_err_set(err, CPX_E_NOENT, "process %d does not exist or has ended",
				   root);
	case EPERM:
		return cpx_err_set(err, CPX_E_PERM,
				   "process %d or a child of it is not yours, or has rights "
				   "that you have not",
				   root);
	case EBUSY:
		return cpx_err_set(err, CPX_E_BUSY,
				   "process %d or a child of it is stopped by another "
				   "checkpoint",
				   root);
	case ETIMEDOUT:
	case ETIME:
		return cpx_err_set(err, CPX_E_TIMEOUT,
				   "process %d or a child of it cannot be stopped (a wait for "
				   "a device that does not end); try again later",
				   root);
	case EOPNOTSUPP:
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "process %d or a child of it has a userfaultfd", root);
	default:
		return cpx_err_sys(err, sys, "stop process %d by the kernel module", root);
	}
}

static int dump(struct cpx_cap *c, struct cpx_module *m, int64_t timeout_ns, bool copy,
		struct cpx_err *err)
{
	pid_t root = c->opts->root;
	int64_t ms = timeout_ns / 1000000;
	struct chpox_add add = { .size = sizeof(add), .flags = CHPOX_ADD_TREE, .pid = root };
	struct chpox_dump d = {
		.size = sizeof(d),
		.flags = CHPOX_DUMP_HOLD | (copy ? 0 : CHPOX_DUMP_NO_SNAPSHOT),
		.park_ms = ms < 1	  ? 1
			   : ms > HOLD_MS ? HOLD_MS
					  : (uint32_t)ms,
		.hold_ms = HOLD_MS,
	};
	char *data = NULL;
	size_t len = 0;

	if (call(m->fd, CHPOX_IOC_ADD, &add) < 0 || call(m->fd, CHPOX_IOC_DUMP, &d) < 0)
		return say_failure(errno, root, err);
	if (d.records <= CHPOX_RECORDS_MAX)
		data = malloc(d.records + 1);
	if (!data)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for records");
	while (len < d.records) {
		ssize_t n = read(m->fd, data + len, d.records - len);

		if (n <= 0) {
			free(data);
			return cpx_err_sys(err, n < 0 ? errno : EIO, "read " DEVICE);
		}
		len += (size_t)n;
	}
	m->copied = copy;
	return cpx_mod_parse(data, len, &m->records, err);
}

/* Threads that were stopped by a signal say so; all that /proc lists must have been recorded.
 */
static int compare(const struct cpx_module *m, struct cpx_park *park, struct cpx_err *err)
{
	for (size_t i = 0; i < park->ntasks; i++) {
		struct cpx_park_task *t = &park->tasks[i];

		for (size_t k = 0; k < t->nthreads; k++) {
			const struct cpx_mod_rec *r =
				cpx_mod_thread(&m->records, t->threads[k].tid);
			const struct chpox_rec_thread *th = r ? r->body : NULL;

			if (!th)
				return cpx_err_set(err, CPX_E_BUSY,
						   "thread %d came or went in the stop; try "
						   "again",
						   t->threads[k].tid);
			if (th->state == CHPOX_THREAD_STOPPED)
				t->threads[k].group_stop =
					th->stop_signal ? (int)th->stop_signal : SIGSTOP;
		}
	}
	return 0;
}

static int module_park(struct cpx_cap *c, struct cpx_park *park, int64_t timeout_ns,
		       struct cpx_err *err)
{
	const struct cpx_capture_opts *o = c->opts;
	bool copy =
		o->after == CPX_AFTER_RUN && o->snapshot != CPX_SNAP_STOP && has_room(o->root);
	struct cpx_module *m = calloc(1, sizeof(*m));
	int64_t asked;
	int rc;

	if (!m)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a checkpoint");
	m->fd = m->stop_fd = -1;
	c->engine_priv = m;
	rc = open_device(&m->fd, err);
	asked = cpx_mono_ns();
	if (rc == 0)
		rc = dump(c, m, timeout_ns, copy, err);
	if (rc == 0)
		rc = cpx_module_judge(&m->records, err);
	if (rc == 0 && !copy)
		rc = start_renewing(m, err);
	if (rc == 0)
		rc = cpx_park_list(o->root, park, err);
	if (rc < 0) {
		cpx_close(&m->fd);
		return rc;
	}
	park->first_stop_ns = asked;
	rc = compare(m, park, err);
	if (rc < 0) {
		cpx_close(&m->fd);
		cpx_park_free(park);
	}
	return rc;
}

/* --- snapshots -----------------------------------------------------------------------------
 */

static int take_one(struct cpx_module *m, struct cpx_cap_task *t, struct cpx_err *err)
{
	const struct cpx_mod_rec *r = cpx_mod_process(&m->records, t->pid);
	const struct chpox_rec_process *p = r ? r->body : NULL;
	struct chpox_snap_arg s = { .size = sizeof(s) };

	if (!p || p->snapshot < 0)
		return cpx_err_set(err, CPX_E_GONE, "process %d went away", t->pid);
	s.index = (uint32_t)p->snapshot;
	if (call(m->fd, CHPOX_IOC_SNAP, &s) < 0)
		return cpx_err_sys(err, errno, "take the snapshot of process %d", t->pid);
	t->clone_mem_fd = s.fd;
	t->clone_unmarked = s.unmarked != 0;
	t->clone_pid = s.holder;
	if (s.holder <= 0)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "snapshots cannot be looked at in this PID namespace");
	return 0;
}

static void module_drop(struct cpx_cap *c)
{
	for (size_t i = 0; i < c->ntasks; i++) {
		cpx_close(&c->tasks[i]->clone_mem_fd);
		c->tasks[i]->clone_pid = 0;
	}
}

static int module_snapshot(struct cpx_cap *c, struct cpx_err *err)
{
	struct cpx_module *m = cpx_module_of(c);
	uint64_t room;
	int rc = 0;

	if (!m->copied)
		return cpx_err_set(err, CPX_E_LIMIT, "too little memory is free for snapshots");
	for (size_t i = 0; i < c->mem->nmms && rc == 0; i++)
		rc = take_one(m, c->mem->mms[i]->t, err);
	if (rc < 0) {
		module_drop(c);
		return start_renewing(m, NULL) < 0 ? CPX_E_SYS : rc;
	}
	room = cpx_mem_head_room(c->tasks[0]->pid);
	c->mem->watch_floor = room / 4 < WATCH_FLOOR ? room / 4 : WATCH_FLOOR;
	return 0;
}

/* --- going on ------------------------------------------------------------------------------
 */

/*
 * Nothing is put into the process. But soft-dirty bits need a witness (track.h): the same page
 * as with injected calls, so that engines may take turns.
 */
static int module_settle(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	const struct cpx_track *track = c->opts->track;

	(void)err;
	if (track && cpx_track_way(track) == CPX_TRACK_SOFT &&
	    cpx_home_live(t->live, t->mem_fd, &t->home, NULL) < 0)
		t->home.code = 0;
	return 0;
}

static int module_leave(struct cpx_cap *c, struct cpx_cap_task *t, struct cpx_err *err)
{
	uint8_t byte;

	(void)c;
	if (!t->home.code)
		return 0;
	if (pread(t->mem_fd, &byte, 1, (off_t)t->home.code) == 1 &&
	    pwrite(t->mem_fd, &byte, 1, (off_t)t->home.code) == 1)
		return 0;
	return cpx_err_sys(err, errno, "touch the vDSO of process %d", t->pid);
}

static int module_give_back(struct cpx_cap *c, struct cpx_cap_thread *th, struct cpx_err *err)
{
	(void)c, (void)th, (void)err;
	return 0;
}

static int module_again(struct cpx_cap *c, struct cpx_cap_thread *th,
			const struct user_regs_struct *regs, int arg, struct cpx_err *err)
{
	const uint64_t args[] = {
		regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9
	};
	struct chpox_again again = { .size = sizeof(again), .tid = th->t.tid };

	if (arg >= 0) {
		again.flags = CHPOX_AGAIN_ARG;
		again.arg = (uint32_t)arg;
		again.value = args[arg];
	}
	/* EINVAL: a signal has stopped it, and whatever stops one ends such a call */
	if (call(cpx_module_of(c)->fd, CHPOX_IOC_AGAIN, &again) < 0 && errno != EINVAL &&
	    errno != ESRCH)
		return cpx_err_sys(err, errno, "put thread %d back into its call", th->t.tid);
	return 0;
}

static int module_release(struct cpx_cap *c, struct cpx_park *park, bool stop,
			  struct cpx_err *err)
{
	struct cpx_module *m = cpx_module_of(c);
	struct chpox_release r = { .size = sizeof(r) };

	stop_renewing(m);
	for (size_t i = park->ntasks; stop && i-- > 0;)
		if (!park->tasks[i].zombie)
			kill(park->tasks[i].pid, SIGSTOP);
	if (call(m->fd, CHPOX_IOC_RELEASE, &r) == 0)
		return 0;
	if (errno == ETIME)
		return cpx_err_set(err, CPX_E_TIMEOUT,
				   "the processes were stopped for too long and run again");
	/* this lets them go as well */
	cpx_err_sys(err, errno, "release the processes");
	cpx_close(&m->fd);
	return CPX_E_SYS;
}

/* All at once: nobody sees another one go. Zombies are their parents', or init's. */
static void module_kill(struct cpx_cap *c, struct cpx_park *park)
{
	struct timespec nap = { .tv_nsec = 1000000 };
	int left = GONE_NAPS;

	for (size_t i = park->ntasks; i-- > 0;)
		if (!park->tasks[i].zombie)
			kill(park->tasks[i].pid, SIGKILL);
	stop_renewing(cpx_module_of(c));
	cpx_close(&cpx_module_of(c)->fd);
	/* who started the tree has the root's status; the others' numbers become free */
	for (size_t i = 0; i < park->ntasks; i++) {
		struct pollfd p = { .fd = c->tasks[i]->pidfd, .events = POLLIN };

		poll(&p, 1, 1000);
		while (i && kill(park->tasks[i].pid, 0) == 0 && left-- > 0)
			nanosleep(&nap, NULL);
	}
}

static void module_end(struct cpx_cap *c)
{
	struct cpx_module *m = cpx_module_of(c);

	if (!m)
		return;
	stop_renewing(m);
	cpx_close(&m->fd);
	cpx_mod_free(&m->records);
	free(m);
	c->engine_priv = NULL;
}

const struct cpx_engine cpx_engine_module = {
	.name = "module",
	.park = module_park,
	.registers = cpx_module_registers,
	.settle = module_settle,
	.thread = cpx_module_thread,
	.process = cpx_module_process,
	.signals = cpx_module_signals,
	.space = cpx_module_space,
	.time_left = cpx_module_time_left,
	.snapshot = module_snapshot,
	.drop = module_drop,
	.give_back = module_give_back,
	.again = module_again,
	.leave = module_leave,
	.held = module_held,
	.release = module_release,
	.kill = module_kill,
	.end = module_end,
};
