/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_lease.h - a node's membership: the key PREFIX/nodes/NAME under a lease in etcd.
 *
 * A node is alive as long as its lease is. Renewals are sent from a thread with a connection of
 * its own, so that they wait for nothing else. All that runs on the node may run until the
 * deadline: t_send of the last renewal that was answered, plus TTL, minus guard, on
 * CLOCK_BOOTTIME. Counted from the sending, for a leader that was cut off goes on answering for
 * a while; the guard covers that while.
 *
 * A daemon that starts again on the same boot and state directory takes over the lease that is
 * there. A lease that is lost is followed by a new one as soon as etcd answers.
 */
#ifndef CPX_SCHEDULER_NODE_LEASE_H
#define CPX_SCHEDULER_NODE_LEASE_H

#include "etcd_msg.h"
#include "registry.h"
#include "registry_seal.h"

struct cpx_node_lease;

#define CPX_LEASE_TTL_NS 15000000000LL
#define CPX_LEASE_GUARD_NS 2000000000LL
#define CPX_LEASE_STOP_NS 500000000LL
#define CPX_LEASE_ELECTION_NS 2100000000LL

struct cpx_node_opts {
	const char *url, *key_file; /* as for cpx_registry_open() */
	const char *node;
	const char *dir; /* state directory, which the caller has locked */
	int64_t ttl_ns, guard_ns;
	bool patient; /* an etcd that does not answer yet is asked again, by the thread */
	/* Called by the thread when the view has changed; may be NULL. */
	void (*changed)(void *ctx);
	void *ctx;
};

struct cpx_lease_view {
	int64_t lease;	     /* 0: none now */
	int64_t deadline_ns; /* CLOCK_BOOTTIME; of the last lease, when there is none now */
	int64_t sent_ns;     /* when the renewal that gave it was sent */
	uint64_t renewals, lost;
};

/* Pure: may these be used together? ttl >= 1.5 * (guard + stop + time-out + election). */
int cpx_lease_check(int64_t ttl_ns, int64_t guard_ns, struct cpx_err *err);

/*
 * cpx_node_join() - become @node. Waits for at most a TTL and 5 s for a lease that another one
 * left behind. Return: 0, CPX_E_EXIST when there is a node of that name, …
 */
int cpx_node_join(const struct cpx_node_opts *o, struct cpx_node_lease **out,
		  struct cpx_err *err);
/* Renew, or join, now; without it that is done a second later than every TTL/5. */
void cpx_node_poke(struct cpx_node_lease *l);
void cpx_node_look(struct cpx_node_lease *l, struct cpx_lease_view *out);
/* End the thread. @revoke: leave at once; else the lease runs out or is taken over. */
void cpx_node_leave(struct cpx_node_lease *l, bool revoke);

/* A node's record. */
char *cpx_node_record_make(const struct cpx_cluster_key *key, const char *path,
			   const struct cpx_reg_node *n);
int cpx_node_record_open(const struct cpx_cluster_key *key, const struct cpx_etcd_kv *kv,
			 const char *name, struct cpx_reg_node *out, struct cpx_err *err);

#endif
