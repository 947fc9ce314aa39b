/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's lease in chpoxd. The thread of node_lease.c renews it when the core asks for that;
 * each renewal wakes the loop, which answers the core; the core has keepers told.
 */
#include "../chpox/base/err.h"
#include "server.h"

void cpxd_tell_lease(struct cpxd_conn *keeper, int64_t lease, int64_t deadline_ns)
{
	cpxd_answer(keeper,
		    json_pack("{s:s, s:I, s:I}", "op", "lease", "lease", (json_int_t)lease,
			      "deadline_ns", (json_int_t)deadline_ns));
}

static void on_renewed(uv_async_t *h)
{
	cpxd_cluster_lease(h->data);
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
		.patient = true,
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
	return r < 0 ? r : cpxd_cluster_open(d, err);
}

void cpxd_leave(struct cpxd *d)
{
	bool keepers = false;

	for (const struct cpxd_conn *c = d->conns; c; c = c->next)
		keepers |= c->keeper;
	cpxd_cluster_close(d);
	/* with jobs left the lease stays: the next daemon takes it over before it runs out */
	cpx_node_leave(d->lease, !keepers);
	d->lease = NULL;
}
