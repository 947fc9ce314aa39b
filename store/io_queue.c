/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * io_queue.c - writes in flight: a few threads that do what is handed to them.
 *
 * The kernel's own queues (libaio) are as quick while they run, but taking one down waits for a
 * grace period of 25 to 45 ms, also at the end of the process: more than a small checkpoint
 * takes in all.
 *
 * A slot is free, then queued, then being written, then free again. A write that fails leaves
 * its errno, the next call for a slot tells. Without a thread all is done at once, in the
 * caller's. A file system that does not take a direct write gets it through the page cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "../chpox/base/err.h"
#include "objio.h"

static int write_slot(const struct cpx_io_slot *s)
{
	int flags;

	if (cpx_io_write_all(s->fd, s->buf, s->len, s->off) == 0)
		return 0;
	if (errno != EINVAL)
		return errno;
	flags = fcntl(s->fd, F_GETFL);
	if (flags < 0 || fcntl(s->fd, F_SETFL, flags & ~O_DIRECT) < 0 ||
	    cpx_io_write_all(s->fd, s->buf, s->len, s->off) < 0)
		return errno;
	return 0;
}

static void *writer(void *arg)
{
	struct cpx_io_queue *q = arg;

	pthread_mutex_lock(&q->lock);
	for (;;) {
		struct cpx_io_slot s;
		unsigned slot;
		int sys;

		while (!q->queued && !q->closing)
			pthread_cond_wait(&q->work, &q->lock);
		if (!q->queued)
			break;
		slot = (unsigned)__builtin_ctz(q->queued);
		q->queued &= ~(1u << slot);
		s = q->slots[slot];
		pthread_mutex_unlock(&q->lock);
		cpx_io_busy(q->io);
		sys = write_slot(&s);
		cpx_io_idle(q->io, s.len);
		pthread_mutex_lock(&q->lock);
		q->sys = q->sys ? q->sys : sys;
		q->busy &= ~(1u << slot);
		pthread_cond_signal(&q->done);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

void cpx_io_queue_init(struct cpx_io_queue *q)
{
	sigset_t all, old;

	memset(q, 0, sizeof(*q));
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->work, NULL);
	pthread_cond_init(&q->done, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (q->nthreads < CPX_IO_THREADS &&
	       pthread_create(&q->threads[q->nthreads], NULL, writer, q) == 0)
		q->nthreads++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void cpx_io_queue_fini(struct cpx_io_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closing = true;
	pthread_cond_broadcast(&q->work);
	pthread_mutex_unlock(&q->lock);
	for (unsigned i = 0; i < q->nthreads; i++)
		pthread_join(q->threads[i], NULL);
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->work);
	pthread_cond_destroy(&q->done);
}

int cpx_io_queue_write(struct cpx_io_queue *q, unsigned slot, struct cpx_io_file *f,
		       const void *buf, size_t len, uint64_t off, struct cpx_err *err)
{
	struct cpx_io_op op = {
		.kind = CPX_IO_WRITE, .path = f->path, .off = off, .data = buf, .len = len
	};
	int sys = 0;

	q->io = f->io;
	memcpy(q->path, f->path, sizeof(q->path));
	q->slots[slot] =
		(struct cpx_io_slot){ .fd = f->fd, .buf = buf, .len = len, .off = off };
	if (cpx_io_past_hook(f->io, &op) < 0)
		sys = errno;
	else if (!q->nthreads)
		sys = write_slot(&q->slots[slot]);
	if (sys)
		return cpx_err_sys(err, sys, "write %s/%s", f->io->shown, f->path);
	if (!q->nthreads)
		return 0;
	pthread_mutex_lock(&q->lock);
	q->busy |= 1u << slot;
	q->queued |= 1u << slot;
	pthread_cond_signal(&q->work);
	pthread_mutex_unlock(&q->lock);
	return 0;
}

/* Return: what is busy once that is at most @most slots, or the first error. */
static int wait_until(struct cpx_io_queue *q, int most, struct cpx_err *err)
{
	int sys, busy;

	pthread_mutex_lock(&q->lock);
	while (__builtin_popcount(q->busy) > most)
		pthread_cond_wait(&q->done, &q->lock);
	sys = q->sys;
	busy = (int)q->busy;
	pthread_mutex_unlock(&q->lock);
	return sys ? cpx_err_sys(err, sys, "write %s/%s", q->io->shown, q->path) : busy;
}

int cpx_io_queue_slot(struct cpx_io_queue *q, struct cpx_err *err)
{
	int busy = wait_until(q, CPX_IO_DEPTH - 1, err);

	return busy < 0 ? busy : __builtin_ctz(~(unsigned)busy);
}

int cpx_io_queue_drain(struct cpx_io_queue *q, struct cpx_err *err)
{
	return wait_until(q, 0, err);
}
