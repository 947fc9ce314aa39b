/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sockets that are neither bound nor connected, and a netlink socket. */
#include "state.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct {
		struct nlmsghdr h;
		struct rtgenmsg g;
	} req = { { sizeof(req), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 },
		  { AF_UNSPEC } };
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK };
	int t, u, x, n, val = 0;
	socklen_t len = sizeof(val);
	char buf[8192];

	st_begin(argc, argv);
	t = ST_SYS(socket(AF_INET, SOCK_STREAM, 0));
	u = ST_SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	x = ST_SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
	n = ST_SYS(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	ST_SYS(bind(n, (void *)&nl, sizeof(nl)));
	st_wait();
	ST_OK(getsockopt(t, SOL_SOCKET, SO_TYPE, &val, &len));
	ST_EQ(val, SOCK_STREAM);
	ST_OK(getsockopt(u, SOL_SOCKET, SO_TYPE, &val, &len));
	ST_EQ(val, SOCK_DGRAM);
	ST_EQ(fcntl(u, F_GETFD), FD_CLOEXEC);
	ST_OK(getsockopt(x, SOL_SOCKET, SO_DOMAIN, &val, &len));
	ST_EQ(val, AF_UNIX);
	ST_EQ(send(n, &req, sizeof(req), 0), sizeof(req));
	ST_TRUE(recv(n, buf, sizeof(buf), 0) > 0);
	return st_end();
}
