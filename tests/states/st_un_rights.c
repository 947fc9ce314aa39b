/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors in flight in unix sockets: also the only reference to a file, and a socket in
 * itself. */
#include "state.h"

#include <sys/socket.h>
#include <sys/un.h>

static void send_fd(int sock, int fd, const char *text)
{
	char ctl[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec v = { (void *)text, strlen(text) };
	struct msghdr m = { .msg_iov = &v,
			    .msg_iovlen = 1,
			    .msg_control = ctl,
			    .msg_controllen = sizeof(ctl) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	ST_SYS(sendmsg(sock, &m, 0));
}

static int recv_fd(int sock, char *text, size_t max)
{
	char ctl[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec v = { text, max - 1 };
	struct msghdr m = { .msg_iov = &v,
			    .msg_iovlen = 1,
			    .msg_control = ctl,
			    .msg_controllen = sizeof(ctl) };
	struct cmsghdr *c;
	ssize_t n = recvmsg(sock, &m, MSG_DONTWAIT);
	int fd = -1;

	text[n > 0 ? n : 0] = 0;
	c = CMSG_FIRSTHDR(&m);
	if (n > 0 && c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(int));
	return fd;
}

int main(int argc, char **argv)
{
	int s[2], file, p[2], got, kept;
	char text[64], buf[64];

	st_begin(argc, argv);
	ST_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	file = ST_SYS(open(st_path("file"), O_RDWR | O_CREAT, 0600));
	ST_SYS(write(file, "0123456789", 10));
	ST_SYS(lseek(file, 4, SEEK_SET));
	kept = ST_SYS(open(st_path("file"), O_RDONLY));
	ST_SYS(pipe(p));
	ST_SYS(write(p[1], "in the pipe", 11));
	send_fd(s[0], file, "a file");
	close(file); /* now only the message holds it */
	send_fd(s[0], p[0], "a pipe");
	close(p[0]);
	send_fd(s[0], kept, "kept");
	st_wait();
	got = recv_fd(s[1], text, sizeof(text));
	ST_STR(text, "a file");
	ST_EQ(lseek(got, 0, SEEK_CUR), 4);
	ST_EQ(read(got, buf, 2), 2);
	ST_CHECK(!memcmp(buf, "45", 2), "the file that was in flight");
	got = recv_fd(s[1], text, sizeof(text));
	ST_STR(text, "a pipe");
	ST_EQ(read(got, buf, sizeof(buf)), 11);
	ST_EQ(write(p[1], "x", 1), 1);
	ST_EQ(read(got, buf, sizeof(buf)), 1);
	got = recv_fd(s[1], text, sizeof(text));
	ST_STR(text, "kept");
	ST_EQ(lseek(got, 7, SEEK_SET), 7);
	ST_EQ(lseek(kept, 0, SEEK_CUR), 7); /* one description */
	return st_end();
}
