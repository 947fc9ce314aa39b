/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proc_fd.h - reading the text of /proc/PID/fdinfo/N.
 *
 * Pure: text in, numbers out. The text is of unknown origin until checked: what does not
 * have the form that the kernel writes is CPX_E_FORMAT, keys that are not known are passed
 * over (kinds of descriptors add their own).
 */
#ifndef CPX_PROC_FD_H
#define CPX_PROC_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpx_err;

#define CPX_FDINFO_MAX (16u << 20) /* bytes of text: a descriptor with very many locks */

struct cpx_proc_lock {
	uint32_t kind; /* enum cpx_lock_kind */
	uint32_t type; /* F_RDLCK, F_WRLCK, F_UNLCK (a lease that is being broken to nothing) */
	uint64_t start; /* first byte */
	uint64_t len;	/* bytes; 0: to the end of the file, however far it grows */
	bool breaking;	/* lease */
	bool foreign;	/* delegation or layout: held by a server, not by the process */
};

struct cpx_proc_fd {
	uint64_t pos;
	uint32_t flags; /* O_*, without O_CLOEXEC */
	bool cloexec;
	int32_t mnt_id;
	uint64_t ino;		     /* 0: an old kernel does not say */
	struct cpx_proc_lock *locks; /* malloc'ed */
	size_t nlocks;
};

/* @text: @n bytes, no NUL needed. Free with cpx_proc_fd_free(), which may be called on zeros.
 */
int cpx_proc_fd_parse(const char *text, size_t n, struct cpx_proc_fd *out, struct cpx_err *err);
void cpx_proc_fd_free(struct cpx_proc_fd *f);

#endif
