/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker.h"

#include <pthread.h>
#include <stdlib.h>

#include "../chpox/base/clock.h"
#include "../chpox/base/err.h"

struct queue {
	struct cpxd_work *first, **last;
};

struct cpxd_worker {
	struct cpx_registry *reg;
	uv_async_t ready;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t wake;
	struct queue todo, done;
	bool stop;
};

static void push(struct queue *q, struct cpxd_work *w)
{
	w->next = NULL;
	*q->last = w;
	q->last = &w->next;
}

static struct cpxd_work *pop(struct queue *q)
{
	struct cpxd_work *w = q->first;

	if (!w)
		return NULL;
	q->first = w->next;
	if (!q->first)
		q->last = &q->first;
	return w;
}

static void *work(void *arg)
{
	struct cpxd_worker *w = arg;

	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		struct cpxd_work *item = pop(&w->todo);

		if (!item) {
			pthread_cond_wait(&w->wake, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		if (!item->until || cpx_boot_ns() < item->until) {
			item->ran = true;
			item->run(item, w->reg);
		}
		pthread_mutex_lock(&w->lock);
		push(&w->done, item);
		uv_async_send(&w->ready);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void on_ready(uv_async_t *h)
{
	struct cpxd_worker *w = h->data;

	for (;;) {
		struct cpxd_work *item;

		pthread_mutex_lock(&w->lock);
		item = pop(&w->done);
		pthread_mutex_unlock(&w->lock);
		if (!item)
			return;
		item->done(item);
	}
}

int cpxd_worker_open(uv_loop_t *loop, const struct cpx_reg_conf *conf, struct cpxd_worker **out,
		     struct cpx_err *err)
{
	struct cpxd_worker *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	w->todo.last = &w->todo.first;
	w->done.last = &w->done.first;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
	r = cpx_registry_open_conf(conf, &w->reg, err);
	if (r < 0) {
		free(w);
		return r;
	}
	w->ready.data = w;
	if (uv_async_init(loop, &w->ready, on_ready) ||
	    pthread_create(&w->thread, NULL, work, w)) {
		cpx_registry_close(w->reg);
		free(w);
		return cpx_err_set(err, CPX_E_SYS, "cannot start a thread");
	}
	*out = w;
	return 0;
}

void cpxd_worker_put(struct cpxd_worker *w, struct cpxd_work *item)
{
	pthread_mutex_lock(&w->lock);
	push(&w->todo, item);
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

void cpxd_worker_close(struct cpxd_worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	/* the loop is over: what is left in the queues and the handle go with the process */
	cpx_registry_close(w->reg);
}
