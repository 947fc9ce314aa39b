/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rst_sock.h - sockets: between rst_sock.c (all families), rst_unix.c and rst_inet.c. */
#ifndef CPX_RST_SOCK_H
#define CPX_RST_SOCK_H

#include "rst_ipc_kinds.h"

const struct cpx_rec_sock *cpx_sock_rec(const struct cpx_rst *r, uint32_t id);
/* Set the recorded options of @id that differ. Buffer sizes come with them: last of all. */
int cpx_sock_set_opts(struct cpx_rst *r, uint32_t id, int fd, struct cpx_err *err);
/* A socket in the job's network namespace. Return: descriptor or an error. */
int cpx_sock_new(struct cpx_rst *r, int family, int type, int proto, struct cpx_err *err);
/* Room for @bytes in flight while a queue is filled. */
void cpx_sock_widen(int fd, size_t bytes);

/* Descriptor (borrowed) of socket @id once made; -1. */
int cpx_sock_made(struct cpx_rst *r, uint32_t id);

int cpx_rst_unix(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);
int cpx_rst_unix_late(struct cpx_rst *r, struct cpx_err *err);
int cpx_rst_inet(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);
int cpx_rst_inet_late(struct cpx_rst *r, struct cpx_err *err);
int cpx_rst_netlink(struct cpx_rst *r, const struct cpx_rec_ofd *ofd, struct cpx_err *err);

#endif
