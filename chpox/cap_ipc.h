/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_ipc.h - descriptors that are not files by path: pipes, eventfd, epoll, timers, signals,
 * inotify, pidfd, sockets, terminals, queues.
 *
 * The files family (cap_file.c) walks the descriptor tables, finds out which descriptors are
 * one open file description, and makes the fd and ofd records. For each new description that
 * is no regular file, directory, symbolic link, fifo by path or known device it calls here.
 */
#ifndef CPX_CAP_IPC_H
#define CPX_CAP_IPC_H

#include <sys/stat.h>

struct cpx_cap;
struct cpx_cap_task;
struct cpx_err;
struct cpx_rec_ofd;

/*
 * cpx_cap_ipc_fd() - capture the object behind descriptor @fd of task @t.
 * @fd_here: the same open file description in our own process; borrowed, -1 in no case.
 * @link_text: what /proc/PID/fd/N points to ("pipe:[1234]").
 * @ofd: id, flags, pos and owner are filled in already; the function sets kind and object.
 * Return: 1 it was taken, 0 it is of no kind known here (the caller refuses), or an error.
 */
int cpx_cap_ipc_fd(struct cpx_cap *c, struct cpx_cap_task *t, int fd, int fd_here,
		   const char *link_text, const struct stat *st, struct cpx_rec_ofd *ofd,
		   struct cpx_err *err);

#endif
