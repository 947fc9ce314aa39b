/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UDP on loopback: bound, connected, with datagrams not read yet. */
#include "state.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) },
			   b = a, now;
	socklen_t len = sizeof(a);
	int s, c, one = 1, val = 0;
	char buf[64];

	st_begin(argc, argv);
	s = ST_SYS(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	c = ST_SYS(socket(AF_INET, SOCK_DGRAM, 0));
	ST_SYS(bind(s, (void *)&a, sizeof(a)));
	ST_SYS(getsockname(s, (void *)&a, &len));
	ST_SYS(bind(c, (void *)&b, sizeof(b)));
	ST_SYS(getsockname(c, (void *)&b, &len));
	ST_SYS(connect(c, (void *)&a, sizeof(a)));
	ST_SYS(setsockopt(s, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one)));
	if (argc > 2)
		ST_SYS(send(c, "in flight", 9, 0));
	st_wait();
	if (argc > 2)
		ST_EQ(recv(s, buf, sizeof(buf), 0), 9);
	ST_EQ(recv(s, buf, sizeof(buf), 0), -1);
	ST_EQ(errno, EAGAIN);
	len = sizeof(now);
	ST_OK(getpeername(c, (void *)&now, &len));
	ST_EQ(now.sin_port, a.sin_port);
	ST_EQ(send(c, "new", 3, 0), 3);
	len = sizeof(now);
	ST_EQ(recvfrom(s, buf, sizeof(buf), 0, (void *)&now, &len), 3);
	ST_EQ(now.sin_port, b.sin_port);
	len = sizeof(val);
	ST_OK(getsockopt(s, SOL_SOCKET, SO_BROADCAST, &val, &len));
	ST_EQ(val, 1);
	return st_end();
}
