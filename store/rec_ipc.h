/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rec_ipc.h - what descriptors refer to that is no file on disk (types 0x0400..0x04ff).
 *
 * A record's id is the id of its ofd, but for pipes and terminals, which have two ends and an
 * id of their own (ofd.object). Other ofds are named by their ids. Included by state.h.
 */
#ifndef CPX_STORE_REC_IPC_H
#define CPX_STORE_REC_IPC_H

enum cpx_epoll_item_flags {
	CPX_EPOLL_SPENT = 1u << 0, /* EPOLLONESHOT that has fired: off until armed again */
};

enum cpx_sock_state {
	CPX_SOCK_IDLE = 0, /* perhaps bound, not connected */
	CPX_SOCK_LISTEN,
	CPX_SOCK_CONNECTED, /* to the socket @peer of the tree */
	CPX_SOCK_ORPHAN,    /* was connected, the other side is closed */
	CPX_SOCK_QUEUED,    /* connected, waits in the backlog of the listening socket @peer */
	CPX_SOCK_NAMED,	    /* datagrams: connected by name to a socket outside, @peer_name */
	CPX_SOCK_BROKEN,    /* TCP: reset, with something left to be told */
};

enum cpx_sock_flags {
	CPX_SOCK_LINKED = 1u << 0,  /* the name's file is still there */
	CPX_SOCK_ERROR = 1u << 1,   /* other side closed with data unread: ECONNRESET waits */
	CPX_SOCK_FIN = 1u << 2,	    /* TCP: our side has sent its end of stream */
	CPX_SOCK_REFUSED = 1u << 3, /* TCP: ECONNREFUSED waits */
};

enum cpx_tty_role {
	CPX_TTY_PTY = 0, /* a pair whose master is in the tree */
	CPX_TTY_OUTSIDE, /* the master, or the hardware, is outside */
	CPX_TTY_HUNG,	 /* the master is closed */
};

/* clang-format off */
#define CPX_FIELDS_eventfd(F)                                                                 \
	F(eventfd, u32, id)                                                                   \
	F(eventfd, u64, count)                                                                \
	F(eventfd, u32, semaphore)

#define CPX_FIELDS_timerfd(F)                                                                 \
	F(timerfd, u32, id)                                                                   \
	F(timerfd, i32, clock)                                                                \
	F(timerfd, u32, settime_flags) /* TFD_TIMER_* */                                      \
	F(timerfd, u64, ticks)      /* expired and not read yet */                            \
	F(timerfd, u64, left_ns)    /* until the next one; 0: not armed */                    \
	F(timerfd, i64, abs_ns)     /* the instant, where the clock is one of real time */    \
	F(timerfd, u64, interval_ns)

#define CPX_FIELDS_signalfd(F)                                                                \
	F(signalfd, u32, id)                                                                  \
	F(signalfd, u64, mask)

#define CPX_FIELDS_pidfd(F)                                                                   \
	F(pidfd, u32, id)                                                                     \
	F(pidfd, u32, pid)          /* 0: one that was reaped */                              \
	F(pidfd, u32, thread)

#define CPX_FIELDS_epoll(F)                                                                   \
	F(epoll, u32, id)                                                                     \
	F(epoll, u32, ready)        /* something was waiting to be reported */

#define CPX_FIELDS_epoll_item(F)                                                              \
	F(epoll_item, u32, epoll)                                                             \
	F(epoll_item, u32, fd)      /* number under which it was added */                     \
	F(epoll_item, u32, ofd)                                                               \
	F(epoll_item, u32, events)                                                            \
	F(epoll_item, u64, data)                                                              \
	F(epoll_item, u32, flags)   /* enum cpx_epoll_item_flags */

#define CPX_FIELDS_inotify_watch(F)                                                           \
	F(inotify_watch, u32, inotify) /* the ofd */                                          \
	F(inotify_watch, u32, wd)                                                             \
	F(inotify_watch, u32, mask)                                                           \
	F(inotify_watch, str, path)

#define CPX_FIELDS_pipe(F)                                                                    \
	F(pipe, u32, id)                                                                      \
	F(pipe, u32, capacity)                                                                \
	F(pipe, u32, outside)       /* an end is outside the tree: a standard stream */       \
	F(pipe, u32s, packets)      /* lengths of what single reads give */                    \
	F(pipe, blob, data)

#define CPX_FIELDS_sock(F)                                                                    \
	F(sock, u32, id)                                                                      \
	F(sock, u32, family)                                                                  \
	F(sock, u32, type)                                                                    \
	F(sock, u32, proto)                                                                   \
	F(sock, u32, state)         /* enum cpx_sock_state */                                 \
	F(sock, u32, flags)         /* enum cpx_sock_flags */                                 \
	F(sock, u32, peer)          /* ofd id */                                              \
	F(sock, u32, backlog)                                                                 \
	F(sock, u32, shutdown)      /* 1 receive, 2 send */                                   \
	F(sock, u32s, queued)       /* listening: ofds of the clients, 0: closed meanwhile */ \
	F(sock, blob, name)         /* as bind() got it */                                    \
	F(sock, blob, peer_name)                                                              \
	F(sock, str, path)          /* where the name's file is, absolute */                  \
	F(sock, u32, path_mode) F(sock, u32, path_uid) F(sock, u32, path_gid)                 \
	F(sock, u32, cred_pid) F(sock, u32, cred_uid) F(sock, u32, cred_gid) /* SO_PEERCRED */ \
	F(sock, u32s, groups)       /* netlink memberships */

#define CPX_FIELDS_sockopt(F)                                                                 \
	F(sockopt, u32, sock)                                                                 \
	F(sockopt, u32, level)                                                                \
	F(sockopt, u32, opt)                                                                  \
	F(sockopt, blob, value)

/* One message (or, for streams, one run of bytes) that waits in the receive queue of @sock. */
#define CPX_FIELDS_sockmsg(F)                                                                 \
	F(sockmsg, u32, sock)                                                                 \
	F(sockmsg, blob, data)                                                                \
	F(sockmsg, blob, name)      /* of the sender */                                       \
	F(sockmsg, u32s, ofds)      /* descriptors that travel with it */                     \
	F(sockmsg, u32, has_cred)                                                             \
	F(sockmsg, u32, pid) F(sockmsg, u32, uid) F(sockmsg, u32, gid)

#define CPX_FIELDS_tty(F)                                                                     \
	F(tty, u32, id)                                                                       \
	F(tty, u32, role)           /* enum cpx_tty_role */                                   \
	F(tty, u64, rdev)                                                                     \
	F(tty, i32, index)          /* of a pty */                                            \
	F(tty, str, path)           /* of the slave or the terminal */                        \
	F(tty, u32, mode) F(tty, u32, uid) F(tty, u32, gid)                                   \
	F(tty, blob, termios)       /* struct termios2 */                                     \
	F(tty, blob, winsize)       /* struct winsize */                                      \
	F(tty, u32, packet) F(tty, u32, locked) F(tty, u32, exclusive)                        \
	F(tty, u32, sid)            /* session that it controls, 0: none */                   \
	F(tty, u32, pgrp)           /* in the foreground */                                   \
	F(tty, blob, input)         /* typed, the slave has not read it */                    \
	F(tty, blob, output)        /* written, the master has not read it */                 \
	F(tty, u32, hup)            /* the slave was open once and is closed */               \
	F(tty, u32, stopped)        /* output was stopped by tcflow(TCOOFF) */

#define CPX_FIELDS_tty_end(F)                                                                 \
	F(tty_end, u32, id)         /* the ofd */                                             \
	F(tty_end, u32, tty)                                                                  \
	F(tty_end, u32, master)

#define CPX_FIELDS_mqueue(F)                                                                  \
	F(mqueue, u32, id)                                                                    \
	F(mqueue, str, name)                                                                  \
	F(mqueue, u32, unlinked)                                                              \
	F(mqueue, u32, mode) F(mqueue, u32, uid) F(mqueue, u32, gid)                          \
	F(mqueue, u64, maxmsg) F(mqueue, u64, msgsize)                                        \
	F(mqueue, u32, same_as)     /* an ofd before it on the same queue, or 0 */

#define CPX_FIELDS_mqmsg(F)                                                                   \
	F(mqmsg, u32, mqueue)                                                                 \
	F(mqmsg, u32, prio)                                                                   \
	F(mqmsg, blob, data)

#define CPX_FIELDS_semset(F)                                                                  \
	F(semset, i32, id)                                                                    \
	F(semset, i32, key)                                                                   \
	F(semset, u32, mode) F(semset, u32, uid) F(semset, u32, gid)                          \
	F(semset, u32s, values)                                                               \
	F(semset, u32s, pids)       /* who used each last, in the job's namespace */

/* SEM_UNDO: what is added when the process ends. */
#define CPX_FIELDS_semundo(F)                                                                 \
	F(semundo, u32, pid)                                                                  \
	F(semundo, i32, id)                                                                   \
	F(semundo, u32, num)                                                                  \
	F(semundo, i32, adjust)

#define CPX_FIELDS_msgqueue(F)                                                                \
	F(msgqueue, i32, id)                                                                  \
	F(msgqueue, i32, key)                                                                 \
	F(msgqueue, u32, mode) F(msgqueue, u32, uid) F(msgqueue, u32, gid)                    \
	F(msgqueue, u64, qbytes)                                                              \
	F(msgqueue, u32, lspid) F(msgqueue, u32, lrpid)

#define CPX_FIELDS_sysvmsg(F)                                                                 \
	F(sysvmsg, i32, queue)                                                                \
	F(sysvmsg, i64, type)                                                                 \
	F(sysvmsg, blob, data)

#define CPX_RECS_IPC(R)                                                                       \
	R(0x0401, eventfd, CPX_FIELDS_eventfd)                                                \
	R(0x0402, timerfd, CPX_FIELDS_timerfd)                                                \
	R(0x0403, signalfd, CPX_FIELDS_signalfd)                                              \
	R(0x0404, pidfd, CPX_FIELDS_pidfd)                                                    \
	R(0x0405, epoll, CPX_FIELDS_epoll)                                                    \
	R(0x0406, epoll_item, CPX_FIELDS_epoll_item)                                          \
	R(0x0407, inotify_watch, CPX_FIELDS_inotify_watch)                                    \
	R(0x0408, pipe, CPX_FIELDS_pipe)                                                      \
	R(0x0409, sock, CPX_FIELDS_sock)                                                      \
	R(0x040a, sockopt, CPX_FIELDS_sockopt)                                                \
	R(0x040b, sockmsg, CPX_FIELDS_sockmsg)                                                \
	R(0x040c, tty, CPX_FIELDS_tty)                                                        \
	R(0x040d, tty_end, CPX_FIELDS_tty_end)                                                \
	R(0x040e, mqueue, CPX_FIELDS_mqueue)                                                  \
	R(0x040f, mqmsg, CPX_FIELDS_mqmsg)                                                    \
	R(0x0410, semset, CPX_FIELDS_semset)                                                  \
	R(0x0411, semundo, CPX_FIELDS_semundo)                                                \
	R(0x0412, msgqueue, CPX_FIELDS_msgqueue)                                              \
	R(0x0413, sysvmsg, CPX_FIELDS_sysvmsg)
/* clang-format on */

#endif
