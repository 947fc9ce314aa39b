/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_netlink.c - netlink sockets: address, groups, options. What the kernel has answered and
 * nobody has read yet cannot be asked for again on the job's behalf.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/netlink.h>

#include "cap_sock.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

#define WORDS_MAX 64

/* Memberships as a list of group numbers. */
static int cap_groups(struct cpx_cap *c, int here, struct cpx_rec_sock *rec,
		      struct cpx_err *err)
{
	uint32_t words[WORDS_MAX] = { 0 }, *list;
	socklen_t len = sizeof(words);
	uint32_t n = 0;

	if (getsockopt(here, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &len))
		return 0;
	list = cpx_state_alloc(c->st, WORDS_MAX * 32 * sizeof(*list));
	if (!list)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	for (uint32_t g = 0; g < WORDS_MAX * 32; g++)
		if (words[g / 32] & (1u << (g % 32)))
			list[n++] = g + 1;
	rec->groups = (struct cpx_u32s){ list, n };
	return 0;
}

static int cap_one(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	static const int opts[] = { NETLINK_PKTINFO,	NETLINK_BROADCAST_ERROR,
				    NETLINK_NO_ENOBUFS, NETLINK_CAP_ACK,
				    NETLINK_EXT_ACK,	NETLINK_GET_STRICT_CHK };
	struct cpx_rec_sock *rec = s->rec;
	int rc = cpx_sock_names(c, s->here, rec, err);
	char byte;

	if (rc >= 0)
		rc = cap_groups(c, s->here, rec, err);
	if (rc >= 0)
		rc = cpx_sock_common_opts(c, s->here, rec->id, err);
	if (rc >= 0)
		rc = cpx_sock_filter(c, s, err);
	for (size_t i = 0; rc >= 0 && i < sizeof(opts) / sizeof(*opts); i++)
		rc = cpx_sock_opt(c, s->here, rec->id, SOL_NETLINK, opts[i], err);
	if (rc < 0 || c->dry_run || recv(s->here, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
		return rc;
	return cpx_cap_refuse(
		c, s->t, err,
		"fd %d is a netlink socket with messages that were not read yet; try "
		"again in a moment",
		s->num);
}

int cpx_cap_netlink_sockets(struct cpx_cap *c, struct cpx_err *err)
{
	for (struct cpx_ipc_seen *s = cpx_ipc_of(c)->socks; s; s = s->next) {
		const struct cpx_rec_sock *rec = s->rec;
		int rc = rec->family == AF_NETLINK ? cap_one(c, s, err) : 0;

		if (rc < 0)
			return rc;
	}
	return 0;
}
