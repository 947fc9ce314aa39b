/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's lease in chpoxd. The thread of node_lease.c renews it; each renewal wakes the
 * loop, which hands lease and deadline on to the keepers, and fences its own writes with it.
 */
#include "../chpox/base/err.h"
#include "server.h"

void cpxd_tell_lease(struct cpxd_conn *keeper)
{
	struct cpx_lease_view v;

	if (!keeper->d->lease)
		return;
	cpx_node_look(keeper->d->lease, &v);
	if (!v.lease)
		return; /* the old deadline stays */
	cpxd_answer(keeper,
		    json_pack("{s:s, s:I, s:I}", "op", "lease", "lease", (json_int_t)v.lease,
			      "deadline_ns", (json_int_t)v.deadline_ns));
}

static void on_renewed(uv_async_t *h)
{
	struct cpxd *d = h->data;
	struct cpx_lease_view v;

	if (!d->lease)
		return;
	cpx_node_look(d->lease, &v);
	cpx_registry_fence(d->reg, d->conf.node, v.lease);
	/* one that is closed in here stays in memory until the loop goes on */
	for (struct cpxd_conn *c = d->conns, *next; c; c = next) {
		next = c->next;
		if (c->keeper && !c->closing)
			cpxd_tell_lease(c);
	}
}

static void wake(void *ctx)
{
	uv_async_send(ctx);
}

int cpxd_join(struct cpxd *d, struct cpx_err *err)
{
	const struct cpx_node_opts o = {
		.url = d->conf.registry,
		.key_file = d->conf.key_file,
		.node = d->conf.node,
		.dir = d->dir,
		.ttl_ns = d->conf.ttl_ns,
		.guard_ns = d->conf.guard_ns,
		.changed = wake,
		.ctx = &d->renewed,
	};
	int r;

	if (!*d->conf.node)
		return 0;
	if (uv_async_init(&d->loop, &d->renewed, on_renewed))
		return cpx_err_set(err, CPX_E_SYS, "cannot start the event loop");
	d->renewed.data = d;
	r = cpx_node_join(&o, &d->lease, err);
	if (r >= 0)
		on_renewed(&d->renewed);
	return r;
}

void cpxd_leave(struct cpxd *d)
{
	bool keepers = false;

	for (const struct cpxd_conn *c = d->conns; c; c = c->next)
		keepers |= c->keeper;
	/* with jobs left the lease stays: the next daemon takes it over before it runs out */
	cpx_node_leave(d->lease, !keepers);
	d->lease = NULL;
}
