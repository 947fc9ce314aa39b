/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of sockets of every kind, also those that few use, and an MPTCP listener. */
#include "state.h"

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <linux/tcp.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

struct opt {
	int level, opt, value;
};

static struct kept {
	int fd, level, opt, was;
} kept[400];
static int nkept;

static const struct opt of_all[] = {
	{ SOL_SOCKET, SO_KEEPALIVE, 1 },
	{ SOL_SOCKET, SO_BROADCAST, 1 },
	{ SOL_SOCKET, SO_SNDBUF, 50000 },
	{ SOL_SOCKET, SO_RCVBUF, 60000 },
	{ SOL_SOCKET, SO_MARK, 77 },
	{ SOL_SOCKET, SO_TIMESTAMPNS, 1 },
	{ SOL_SOCKET, SO_RCVLOWAT, 3 },
	{ SOL_SOCKET, SO_DONTROUTE, 1 },
	{ SOL_SOCKET, SO_NO_CHECK, 1 },
	{ SOL_SOCKET, SO_RXQ_OVFL, 1 },
	{ SOL_SOCKET, SO_ZEROCOPY, 1 },
	{ SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1 },
	{ SOL_SOCKET, SO_TIMESTAMPING, 3 },
	{ SOL_SOCKET, SO_MAX_PACING_RATE, 1000000 },
	{ SOL_SOCKET, SO_INCOMING_CPU, 0 },
	{ SOL_SOCKET, 69 /* SO_PREFER_BUSY_POLL */, 1 },
	{ SOL_SOCKET, 75 /* SO_RCVMARK */, 1 },
	{ SOL_SOCKET, 82 /* SO_RCVPRIORITY */, 1 },
	{ SOL_SOCKET, 83 /* SO_PASSRIGHTS */, 0 },
};

static const struct opt of_ipv4[] = {
	{ IPPROTO_IP, IP_TOS, 0x10 },
	{ IPPROTO_IP, IP_TTL, 33 },
	{ IPPROTO_IP, IP_PKTINFO, 1 },
	{ IPPROTO_IP, IP_RECVOPTS, 1 },
	{ IPPROTO_IP, IP_RECVERR, 1 },
	{ IPPROTO_IP, IP_RETOPTS, 1 },
	{ IPPROTO_IP, IP_MULTICAST_ALL, 0 },
	{ IPPROTO_IP, IP_MINTTL, 3 },
	{ IPPROTO_IP, 26 /* IP_RECVERR_RFC4884 */, 1 },
	{ IPPROTO_IP, 51 /* IP_LOCAL_PORT_RANGE */, 0x20002000 },
};

static const struct opt of_ipv6[] = {
	{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33 },    { IPPROTO_IPV6, IPV6_TCLASS, 0x20 },
	{ IPPROTO_IPV6, IPV6_DONTFRAG, 1 },	    { IPPROTO_IPV6, IPV6_RECVRTHDR, 1 },
	{ IPPROTO_IPV6, IPV6_RECVHOPOPTS, 1 },	    { IPPROTO_IPV6, IPV6_RECVDSTOPTS, 1 },
	{ IPPROTO_IPV6, IPV6_FREEBIND, 1 },	    { IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0 },
	{ IPPROTO_IPV6, IPV6_RECVPATHMTU, 1 },	    { IPPROTO_IPV6, IPV6_MINHOPCOUNT, 5 },
	{ IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, 2 }, { IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1 },
};

static const struct opt of_tcp[] = {
	{ IPPROTO_TCP, TCP_NODELAY, 1 },
	{ IPPROTO_TCP, TCP_KEEPIDLE, 77 },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, 12345 },
	{ IPPROTO_TCP, TCP_WINDOW_CLAMP, 30000 },
	{ IPPROTO_TCP, TCP_SAVE_SYN, 1 },
	{ IPPROTO_TCP, TCP_INQ, 1 },
	{ IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1 },
	{ IPPROTO_TCP, TCP_MAXSEG, 1000 },
	{ IPPROTO_TCP, TCP_FASTOPEN, 5 },
};

static const struct opt of_udp[] = {
	{ IPPROTO_UDP, UDP_NO_CHECK6_TX, 1 },
	{ IPPROTO_UDP, UDP_NO_CHECK6_RX, 1 },
	{ IPPROTO_UDP, UDP_SEGMENT, 500 },
	{ IPPROTO_UDP, UDP_GRO, 1 },
};

/* What this kernel does not know is left out. */
static void set(int fd, const struct opt *o, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct kept k = { fd, o[i].level, o[i].opt, 0 };
		socklen_t len = sizeof(k.was);

		if (setsockopt(fd, k.level, k.opt, &o[i].value, sizeof(int)) == 0 &&
		    getsockopt(fd, k.level, k.opt, &k.was, &len) == 0)
			kept[nkept++] = k;
	}
}

#define SET(fd, list) set(fd, list, sizeof(list) / sizeof(*(list)))

static int listener(int proto, struct sockaddr_in *a)
{
	socklen_t len = sizeof(*a);
	int fd = socket(AF_INET, SOCK_STREAM, proto);

	memset(a, 0, len);
	a->sin_family = AF_INET;
	a->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0)
		return -1;
	ST_SYS(bind(fd, (void *)a, sizeof(*a)));
	ST_SYS(listen(fd, 5));
	ST_SYS(getsockname(fd, (void *)a, &len));
	return fd;
}

static void check_listener(int fd, struct sockaddr_in *a)
{
	int c = ST_OK(socket(AF_INET, SOCK_STREAM, 0)), s;
	char b[4];

	ST_OK(connect(c, (void *)a, sizeof(*a)));
	s = ST_OK(accept(fd, NULL, NULL));
	ST_EQ(write(c, "abc", 3), 3);
	ST_EQ(read(s, b, 4), 3);
}

int main(int argc, char **argv)
{
	int six = socket(AF_INET6, SOCK_DGRAM, 0), pair[2], l, m, u, t, proto = 0;
	struct sockaddr_in la, ma;
	struct sockaddr_in any = { .sin_family = AF_INET };
	unsigned lo = if_nametoindex("lo");
	socklen_t len = sizeof(proto);
	struct opt unicast = { IPPROTO_IP, IP_UNICAST_IF, (int)htonl(lo) };

	st_begin(argc, argv);
	ST_SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	l = ST_SYS(listener(0, &la));
	m = listener(IPPROTO_MPTCP, &ma);
	u = ST_SYS(socket(AF_INET, SOCK_DGRAM, 0));
	t = ST_SYS(socket(AF_INET, SOCK_STREAM, 0));
	/* the order matters to the kernel */
	set(u, &unicast, 1);
	ST_SYS(setsockopt(u, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	ST_SYS(bind(u, (void *)&any, sizeof(any)));
	SET(pair[0], of_all), SET(l, of_all), SET(u, of_all), SET(t, of_all);
	SET(l, of_ipv4), SET(u, of_ipv4), SET(t, of_ipv4);
	SET(l, of_tcp), SET(t, of_tcp);
	SET(u, of_udp);
	if (six >= 0)
		SET(six, of_all), SET(six, of_ipv6), SET(six, of_udp);
	if (nkept < 60)
		st_die(__FILE__, __LINE__, "hardly any option can be set");
	st_wait();
	for (int i = 0; i < nkept; i++) {
		int now = 0;

		len = sizeof(now);
		ST_OK(getsockopt(kept[i].fd, kept[i].level, kept[i].opt, &now, &len));
		ST_CHECK(now == kept[i].was, "fd %d: option %d of level %d is %d, was %d",
			 kept[i].fd, kept[i].opt, kept[i].level, now, kept[i].was);
	}
	check_listener(l, &la);
	if (m >= 0) {
		check_listener(m, &ma);
		len = sizeof(proto);
		ST_OK(getsockopt(m, SOL_SOCKET, SO_PROTOCOL, &proto, &len));
		ST_EQ(proto, IPPROTO_MPTCP);
	}
	return st_end();
}
