/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_mcast.c - multicast memberships of a datagram socket.
 *
 * The kernel lists the groups of each interface, not of each socket; but a socket can be asked
 * for its filter for one group, which is an error where it is no member.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "cap_sock.h"

#define SOURCES_MAX 64
#define LIST_MAX (4u << 20)

union filter {
	struct group_filter gf;
	char room[GROUP_FILTER_SIZE(SOURCES_MAX)];
};

static int ask(struct cpx_cap *c, const struct cpx_ipc_seen *s, int level, union filter *f,
	       struct cpx_err *err)
{
	const struct cpx_rec_sock *rec = s->rec;
	struct cpx_rec_sockopt *o;
	socklen_t len = sizeof(*f);

	f->gf.gf_numsrc = SOURCES_MAX;
	if (getsockopt(s->here, level, MCAST_MSFILTER, f, &len) ||
	    f->gf.gf_numsrc > SOURCES_MAX)
		return 0;
	o = cpx_state_new_rec(c->st, sockopt);
	if (!o)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	o->sock = rec->id;
	o->level = (uint32_t)level;
	o->opt = MCAST_MSFILTER;
	o->value = cpx_state_blob(c->st, f, GROUP_FILTER_SIZE(f->gf.gf_numsrc));
	return o->value.p ? 0 : cpx_err_set(err, CPX_E_NOMEM, "out of memory");
}

static int groups_v4(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	unsigned index = 0;
	int rc = 0;

	if (cpx_read_file(s->t->proc_fd, "net/igmp", LIST_MAX, &text, NULL) < 0)
		return 0;
	for (const char *p = text; p && *p && rc >= 0;
	     p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		union filter f = { .room = { 0 } };
		struct sockaddr_in *a = (void *)&f.gf.gf_group;
		unsigned group;

		if (*p != '\t') {
			sscanf(p, "%u", &index);
			continue;
		}
		if (sscanf(p, " %8x", &group) != 1)
			continue;
		f.gf.gf_interface = index;
		a->sin_family = AF_INET;
		a->sin_addr.s_addr = group;
		rc = ask(c, s, IPPROTO_IP, &f, err);
	}
	return rc;
}

static bool parse_v6(const char *hex, struct in6_addr *a)
{
	for (int i = 0; i < 16; i++) {
		unsigned byte;

		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			return false;
		a->s6_addr[i] = (uint8_t)byte;
	}
	return true;
}

static int groups_v6(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	int rc = 0;

	if (cpx_read_file(s->t->proc_fd, "net/igmp6", LIST_MAX, &text, NULL) < 0)
		return 0;
	for (const char *p = text; p && *p && rc >= 0;
	     p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		union filter f = { .room = { 0 } };
		struct sockaddr_in6 *a = (void *)&f.gf.gf_group;
		unsigned index;
		char hex[33];

		if (sscanf(p, "%u %*s %32[0-9a-f]", &index, hex) != 2 ||
		    !parse_v6(hex, &a->sin6_addr))
			continue;
		f.gf.gf_interface = index;
		a->sin6_family = AF_INET6;
		rc = ask(c, s, IPPROTO_IPV6, &f, err);
	}
	return rc;
}

int cpx_sock_multicast(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err)
{
	const struct cpx_rec_sock *rec = s->rec;
	int rc = groups_v4(c, s, err);

	if (rc < 0 || rec->family != AF_INET6)
		return rc;
	return groups_v6(c, s, err);
}
