/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * patch.h - time-outs that are shorter than the program's own for a moment.
 *
 * A call that is issued again reads its time-out again: from memory or from its socket. The
 * rest is written there before the thread is let go, and the program's own value is put back
 * when the thread sleeps in the call. Memory is put back by compare: bytes that are not what
 * was written are the program's, and left alone.
 */
#ifndef CPX_BASE_PATCH_H
#define CPX_BASE_PATCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_patch;

struct cpx_patches {
	struct cpx_patch *v; /* owned; free with cpx_patches_free() */
	size_t n;
};

/* Thread @tid of @pid (as we see them), about to sleep in call @nr: @left_ns into the struct
 * timespec at @addr. @mem_fd: /proc/PID/mem, borrowed. Failure means the full time-out. */
void cpx_patch_memory(struct cpx_patches *p, pid_t pid, pid_t tid, long nr, int mem_fd,
		      uint64_t addr, int64_t left_ns);

/* The same for the socket open as @fd in process @pidfd; @opt SO_RCVTIMEO or SO_SNDTIMEO. */
void cpx_patch_socket(struct cpx_patches *p, pid_t pid, pid_t tid, long nr, int pidfd, int fd,
		      int opt, int64_t left_ns);

/* All threads are on their way: wait for each to sleep in its call (50 ms at most), put back.
 */
void cpx_patches_put_back(struct cpx_patches *p);
void cpx_patches_free(struct cpx_patches *p);

#endif
