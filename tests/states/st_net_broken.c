/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TCP connections that have failed, and the program has not been told: reset, reset behind data
 * that was not read, refused, and one whose error is told already.
 */
#include "state.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

static int listener(struct sockaddr_in *a)
{
	socklen_t len = sizeof(*a);
	int fd = ST_SYS(socket(AF_INET, SOCK_STREAM, 0));

	*a = (struct sockaddr_in){ .sin_family = AF_INET };
	a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ST_SYS(bind(fd, (void *)a, sizeof(*a)));
	ST_SYS(getsockname(fd, (void *)a, &len));
	return fd;
}

/* A connection that its other side has reset after sending @text. */
static int broken(const char *text)
{
	struct linger now = { .l_onoff = 1 };
	struct sockaddr_in a;
	int l = listener(&a), fd = ST_SYS(socket(AF_INET, SOCK_STREAM, 0)), other;

	ST_SYS(listen(l, 1));
	ST_SYS(connect(fd, (void *)&a, sizeof(a)));
	other = ST_SYS(accept(l, NULL, NULL));
	close(l);
	ST_EQ(write(other, text, strlen(text)), (ssize_t)strlen(text));
	ST_SYS(setsockopt(other, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
	close(other);
	st_sleep_ms(20);
	return fd;
}

/* Two connections to one address, reset by those who made them. */
static void served(int fds[2])
{
	struct linger now = { .l_onoff = 1 };
	struct sockaddr_in a;
	int l = listener(&a);

	ST_SYS(listen(l, 2));
	for (int i = 0; i < 2; i++) {
		int client = ST_SYS(socket(AF_INET, SOCK_STREAM, 0));

		ST_SYS(connect(client, (void *)&a, sizeof(a)));
		fds[i] = ST_SYS(accept(l, NULL, NULL));
		ST_EQ(write(client, "text", 4), 4);
		ST_SYS(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
		close(client);
	}
	close(l);
	st_sleep_ms(20);
}

static int refused(void)
{
	struct sockaddr_in a;
	int fd = ST_SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));

	close(listener(&a));
	ST_EQ(connect(fd, (void *)&a, sizeof(a)), -1);
	st_sleep_ms(20);
	return fd;
}

static int error_of(int fd)
{
	int e = -1;
	socklen_t len = sizeof(e);

	ST_OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len));
	return e;
}

int main(int argc, char **argv)
{
	int reset, behind, no, told, both[2];
	struct pollfd pfd;
	char b[8];

	st_begin(argc, argv);
	reset = broken("");
	behind = broken("data");
	no = refused();
	served(both);
	told = broken("data");
	ST_EQ(error_of(told), ECONNRESET);
	st_wait();
	pfd = (struct pollfd){ .fd = reset, .events = POLLIN };
	ST_EQ(poll(&pfd, 1, 0), 1);
	ST_EQ(pfd.revents, POLLIN | POLLERR | POLLHUP);
	ST_EQ(recv(reset, b, sizeof(b), MSG_DONTWAIT), -1);
	ST_EQ(errno, ECONNRESET);
	ST_EQ(recv(reset, b, sizeof(b), MSG_DONTWAIT), 0);
	ST_EQ(recv(behind, b, sizeof(b), MSG_DONTWAIT), 4);
	ST_EQ(recv(behind, b, sizeof(b), MSG_DONTWAIT), -1);
	ST_EQ(errno, ECONNRESET);
	for (int i = 0; i < 2; i++) {
		ST_EQ(recv(both[i], b, sizeof(b), MSG_DONTWAIT), 4);
		ST_EQ(error_of(both[i]), ECONNRESET);
	}
	ST_EQ(error_of(no), ECONNREFUSED);
	ST_EQ(fcntl(no, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	ST_EQ(error_of(told), 0);
	ST_EQ(recv(told, b, sizeof(b), MSG_DONTWAIT), 4);
	ST_EQ(recv(told, b, sizeof(b), MSG_DONTWAIT), 0);
	ST_EQ(send(told, b, 1, MSG_NOSIGNAL), -1);
	ST_EQ(errno, EPIPE);
	return st_end();
}
