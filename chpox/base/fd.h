/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fd.h - descriptors and memory that clean up after themselves, whole reads and
 * writes, and descriptors over unix sockets.
 *
 * CPX_AUTO_FD closes at the end of the scope, CPX_AUTO_FREE frees; hand over with
 * cpx_steal_fd() and cpx_steal_ptr(). A descriptor of -1 is none.
 */
#ifndef CPX_BASE_FD_H
#define CPX_BASE_FD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_err;

void cpx_close(int *fd);    /* close unless -1, set to -1, keep errno */
void cpx_freep(void *pptr); /* free(*pptr), set to NULL */
int cpx_steal_fd(int *fd);  /* take the value, leave -1 */

#define CPX_AUTO_FD __attribute__((cleanup(cpx_close))) int
#define CPX_AUTO_FREE __attribute__((cleanup(cpx_freep)))
#define cpx_steal_ptr(pp)                         \
	({                                        \
		__typeof__(*(pp)) taken_ = *(pp); \
		*(pp) = NULL;                     \
		taken_;                           \
	})

/* Read until @n bytes or end of file. Return: bytes read, or -1 with errno. */
ssize_t cpx_read_full(int fd, void *buf, size_t n);
ssize_t cpx_pread_full(int fd, void *buf, size_t n, uint64_t off);
/* Write all. Return: 0, or -1 with errno. */
int cpx_write_full(int fd, const void *buf, size_t n);

/*
 * cpx_read_file() - the whole of a (proc) file, NUL added behind it.
 * @dirfd: where @path starts, or AT_FDCWD.
 * @limit: more bytes than this are CPX_E_LIMIT.
 * Return: length without the NUL; *@out is malloc'ed, the caller frees it.
 */
ssize_t cpx_read_file(int dirfd, const char *path, size_t limit, char **out,
		      struct cpx_err *err);

/* One message with up to 250 descriptors over a unix socket. Return: 0 or bytes, or -1 with
 * errno. */
int cpx_send_fds(int sock, const void *buf, size_t len, const int *fds, size_t nfds);
ssize_t cpx_recv_fds(int sock, void *buf, size_t len, int *fds, size_t max, size_t *nfds);

#endif
