/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry_nodes.h - what the nodes of a cluster know of each other through etcd.
 *
 *	PREFIX/nodes/NAME  under the node's lease (node_lease.h)
 *	PREFIX/flags/NAME  what users have said of it (drain, block, stay), kept when it leaves
 *	PREFIX/placer      under the lease of the node that places
 *	PREFIX/numbers     names of all nodes there ever were; a node's number is its place
 *there
 *
 * All calls block, like those of registry.h. With an embedded registry: CPX_E_UNSUPPORTED.
 */
#ifndef CPX_SCHEDULER_REGISTRY_NODES_H
#define CPX_SCHEDULER_REGISTRY_NODES_H

#include "registry.h"

struct cpx_reg_nodes {
	struct cpx_reg_node *v; /* those that are there */
	size_t n;
	uint64_t rev;	/* of that reading: who is not in @v had no lease then */
	int64_t placer; /* its lease, 0: nobody */
	uint64_t placer_rev;
};
int cpx_registry_nodes(struct cpx_registry *r, struct cpx_reg_nodes *out, struct cpx_err *err);
void cpx_registry_nodes_free(struct cpx_reg_nodes *n);

/* Become the placer, if there is none. @placer: who it is then, at @rev. */
int cpx_registry_elect(struct cpx_registry *r, const char *node, int64_t lease, int64_t *placer,
		       uint64_t *rev, struct cpx_err *err);

/*
 * cpx_registry_numbers() - the names; number N is names[N - 1].
 * @add: put this name there as well if it is not; may be NULL.
 * Return: how many; free with cpx_registry_names_free().
 */
int cpx_registry_numbers(struct cpx_registry *r, const char *add, char ***names,
			 struct cpx_err *err);

/* Set and clear flags (CPX_NODE_*) of @node. */
int cpx_registry_flags(struct cpx_registry *r, const char *node, uint32_t set, uint32_t clear,
		       struct cpx_err *err);

/*
 * cpx_registry_since() - records changed after revision @after; 0: all of them.
 * @rev: all that was written up to it has been given. Return: their number.
 */
int cpx_registry_since(struct cpx_registry *r, uint64_t after, cpx_reg_each fn, void *ctx,
		       uint64_t *rev, struct cpx_err *err);

#endif
