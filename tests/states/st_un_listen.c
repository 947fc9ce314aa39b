/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening unix sockets: connections waiting to be accepted (un_listen DIR data: with data),
 * accepted ones with names, late ones. */
#include "state.h"

#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "listener" }, peer;
	socklen_t len;
	int srv, c[3], got, val = 0;
	char buf[64];
	pid_t pid;
	volatile int *go;

	st_begin(argc, argv);
	go = st_shared(4096);
	ST_SYS(chdir(st_path(".")));
	srv = ST_SYS(socket(AF_UNIX, SOCK_STREAM, 0));
	ST_SYS(bind(srv, (void *)&un, sizeof(un)));
	ST_SYS(listen(srv, 7));
	for (int i = 0; i < 3; i++) {
		c[i] = ST_SYS(socket(AF_UNIX, SOCK_STREAM, 0));
		ST_SYS(connect(c[i], (void *)&un, sizeof(un)));
	}
	got = ST_SYS(accept(srv, NULL, NULL)); /* the first is accepted, the others wait */
	ST_SYS(write(c[0], "to accepted", 11));
	if (argc > 2)
		ST_SYS(write(c[1], "to waiting", 10));
	pid = st_fork();
	if (pid == 0) {
		int late;

		for (int i = 0; i < 3; i++)
			close(c[i]);
		close(got);
		st_until(go);
		late = socket(AF_UNIX, SOCK_STREAM, 0);
		if (connect(late, (void *)&un, sizeof(un)) != 0)
			_exit(1);
		_exit(write(late, "late", 4) == 4 && read(late, buf, 3) == 3 ? 0 : 2);
	}
	st_wait();
	ST_EQ(read(got, buf, sizeof(buf)), 11);
	ST_EQ(write(got, "ok", 2), 2);
	ST_EQ(read(c[0], buf, sizeof(buf)), 2);
	len = sizeof(peer);
	memset(&peer, 0, sizeof(peer));
	ST_OK(getpeername(c[0], (void *)&peer, &len));
	ST_STR(peer.sun_path, "listener");
	len = sizeof(val);
	ST_OK(getsockopt(srv, SOL_SOCKET, SO_ACCEPTCONN, &val, &len));
	ST_EQ(val, 1);
	got = ST_OK(accept(srv, NULL, NULL));
	if (argc > 2)
		ST_EQ(recv(got, buf, sizeof(buf), MSG_DONTWAIT), 10);
	ST_EQ(write(got, "w", 1), 1);
	ST_EQ(recv(c[1], buf, sizeof(buf), MSG_DONTWAIT), 1);
	got = ST_OK(accept(srv, NULL, NULL));
	close(c[2]);
	ST_EQ(recv(got, buf, sizeof(buf), MSG_DONTWAIT), 0);
	*go = 1;
	got = ST_OK(accept(srv, NULL, NULL));
	ST_EQ(read(got, buf, sizeof(buf)), 4);
	ST_EQ(write(got, "bye", 3), 3);
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
