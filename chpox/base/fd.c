/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fd.h"
#include "err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 250

void cpx_close(int *fd)
{
	int keep = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = keep;
}

void cpx_freep(void *pptr)
{
	void **p = pptr;

	free(*p);
	*p = NULL;
}

int cpx_steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

ssize_t cpx_read_full(int fd, void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = read(fd, (char *)buf + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

ssize_t cpx_pread_full(int fd, void *buf, size_t n, uint64_t off)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pread(fd, (char *)buf + done, n - done, (off_t)(off + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

int cpx_write_full(int fd, const void *buf, size_t n)
{
	while (n) {
		ssize_t w = write(fd, buf, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -1;
		buf = (const char *)buf + w;
		n -= (size_t)w;
	}
	return 0;
}

ssize_t cpx_read_file(int dirfd, const char *path, size_t limit, char **out,
		      struct cpx_err *err)
{
	CPX_AUTO_FD fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	CPX_AUTO_FREE char *buf = NULL;
	size_t cap = 4096, len = 0;

	if (fd < 0)
		return cpx_err_sys(err, errno, "open %s", path);
	for (;;) {
		char *p = realloc(buf, cap + 1);
		ssize_t r;

		if (!p)
			return cpx_err_set(err, CPX_E_NOMEM, "no memory to read %s", path);
		buf = p;
		r = cpx_read_full(fd, buf + len, cap - len);
		if (r < 0)
			return cpx_err_sys(err, errno, "read %s", path);
		len += (size_t)r;
		if (len < cap)
			break;
		if (cap > limit)
			return cpx_err_set(err, CPX_E_LIMIT, "%s is larger than %zu bytes",
					   path, limit);
		cap *= 4;
	}
	buf[len] = 0;
	*out = cpx_steal_ptr(&buf);
	return (ssize_t)len;
}

int cpx_send_fds(int sock, const void *buf, size_t len, const int *fds, size_t nfds)
{
	union {
		char raw[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t r;

	if (nfds > FDS_MAX) {
		errno = EINVAL;
		return -1;
	}
	memset(&ctl, 0, sizeof(ctl));
	if (nfds) {
		msg.msg_control = ctl.raw;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	do {
		r = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	return r == (ssize_t)len ? 0 : -1;
}

ssize_t cpx_recv_fds(int sock, void *buf, size_t len, int *fds, size_t max, size_t *nfds)
{
	union {
		char raw[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = ctl.raw,
			      .msg_controllen = sizeof(ctl.raw) };
	ssize_t r;
	size_t got = 0;

	do {
		r = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; CMSG_LEN(sizeof(int) * (i + 1)) <= c->cmsg_len; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (got < max)
				fds[got++] = fd;
			else
				close(fd);
		}
	}
	*nfds = got;
	return r;
}
