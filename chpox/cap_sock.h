/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cap_sock.h - sockets: between cap_sock.c (all families), cap_unix.c and cap_inet.c. */
#ifndef CPX_CAP_SOCK_H
#define CPX_CAP_SOCK_H

#include "cap_ipc_kinds.h"

/* Record an option's value as getsockopt() gives it; one the socket does not have is left out.
 */
int cpx_sock_opt(struct cpx_cap *c, int here, uint32_t sock, int level, int opt,
		 struct cpx_err *err);
/* The options that every family has. */
int cpx_sock_common_opts(struct cpx_cap *c, int here, uint32_t sock, struct cpx_err *err);
/* The classic BPF filter, if there is one. */
int cpx_sock_filter(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err);
/* Multicast memberships with their source filters. */
int cpx_sock_multicast(struct cpx_cap *c, const struct cpx_ipc_seen *s, struct cpx_err *err);
/* Names by getsockname() and getpeername(). */
int cpx_sock_names(struct cpx_cap *c, int here, struct cpx_rec_sock *rec, struct cpx_err *err);
/* A socket in the network namespace of @t. Return: descriptor or an error. */
int cpx_sock_in_netns(const struct cpx_cap_task *t, int domain, int type, int proto,
		      struct cpx_err *err);
/*
 * Everything in the receive queue of @here, as sockmsg records, by peeking.
 */
int cpx_sock_queue(struct cpx_cap *c, const struct cpx_ipc_seen *s, bool closed_for_reading,
		   struct cpx_err *err);
/* The seen socket with inode @ino; NULL. */
struct cpx_ipc_seen *cpx_sock_by_ino(const struct cpx_cap *c, uint64_t ino);

int cpx_cap_unix_sockets(struct cpx_cap *c, struct cpx_err *err); /* finish */
int cpx_cap_inet_sockets(struct cpx_cap *c, struct cpx_err *err); /* finish */
/*
 * The job is killed next: its connections end without a word, so that no remains of them keep
 * its ports for a minute.
 */
void cpx_cap_inet_silence(const struct cpx_ipc_seen *socks);
int cpx_cap_netlink_sockets(struct cpx_cap *c, struct cpx_err *err); /* finish */

#endif
