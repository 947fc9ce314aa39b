/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unix datagram and seqpacket sockets: message borders, names, abstract names, connected ones,
 * senders. */
#include "state.h"

#include <sys/socket.h>
#include <sys/un.h>

static socklen_t name(struct sockaddr_un *un, const char *abstract, const char *path)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	if (abstract) {
		snprintf(un->sun_path + 1, sizeof(un->sun_path) - 1, "st_dgram.%d.%s", getpid(),
			 abstract);
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				   strlen(un->sun_path + 1));
	}
	snprintf(un->sun_path, sizeof(un->sun_path), "%s",
		 path); /* relative: paths may be long */
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
}

int main(int argc, char **argv)
{
	struct sockaddr_un srv, ab, cl, from;
	socklen_t ls, la, lc, len;
	int s, abs_s, c, pair[2], seq[2];
	char buf[64];

	st_begin(argc, argv);
	ST_SYS(chdir(st_path(".")));
	s = ST_SYS(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	abs_s = ST_SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
	c = ST_SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
	ls = name(&srv, NULL, "server");
	la = name(&ab, "srv", NULL);
	lc = name(&cl, NULL, "client");
	ST_SYS(bind(s, (void *)&srv, ls));
	ST_SYS(bind(abs_s, (void *)&ab, la));
	ST_SYS(bind(c, (void *)&cl, lc));
	ST_SYS(connect(c, (void *)&srv, ls));
	ST_SYS(send(c, "first", 5, 0));
	ST_SYS(send(c, "", 0, 0));
	ST_SYS(send(c, "third!!", 7, 0));
	ST_SYS(sendto(s, "to abstract", 11, 0, (void *)&ab, la));
	ST_SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	ST_SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, seq));
	ST_SYS(send(pair[0], "dg1", 3, 0));
	ST_SYS(send(pair[0], "dg-2", 4, 0));
	ST_SYS(send(seq[0], "seq1", 4, 0));
	ST_SYS(send(seq[0], "seq--2", 6, 0));
	st_wait();
	len = sizeof(from);
	ST_EQ(recvfrom(s, buf, sizeof(buf), 0, (void *)&from, &len), 5);
	ST_STR(from.sun_path, "client");
	ST_EQ(recv(s, buf, sizeof(buf), 0), 0);
	ST_EQ(recv(s, buf, sizeof(buf), 0), 7);
	ST_EQ(recv(s, buf, sizeof(buf), 0), -1);
	ST_EQ(errno, EAGAIN);
	ST_EQ(recv(abs_s, buf, sizeof(buf), 0), 11);
	len = sizeof(from);
	memset(&from, 0, sizeof(from));
	ST_OK(getsockname(abs_s, (void *)&from, &len));
	ST_EQ(len, la);
	ST_CHECK(!memcmp(&from, &ab, la), "abstract name");
	len = sizeof(from);
	ST_OK(getpeername(c, (void *)&from, &len));
	ST_STR(from.sun_path, "server");
	ST_EQ(send(c, "again", 5, 0), 5);
	ST_EQ(recv(s, buf, sizeof(buf), 0), 5);
	ST_EQ(sendto(s, "more", 4, 0, (void *)&ab, la), 4);
	ST_EQ(recv(abs_s, buf, sizeof(buf), 0), 4);
	ST_EQ(recv(pair[1], buf, sizeof(buf), 0), 3);
	ST_EQ(recv(pair[1], buf, sizeof(buf), 0), 4);
	ST_EQ(send(pair[1], "r", 1, 0), 1);
	ST_EQ(recv(pair[0], buf, sizeof(buf), 0), 1);
	ST_EQ(recv(seq[1], buf, sizeof(buf), 0), 4);
	ST_EQ(recv(seq[1], buf, sizeof(buf), 0), 6);
	close(seq[0]);
	ST_EQ(recv(seq[1], buf, sizeof(buf), 0), 0);
	return st_end();
}
