/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A job in UTS, IPC and network namespaces of its own, with connections over its own loopback
 * device; a child in a further UTS namespace, which its own child shares.
 */
#include "state.h"

#include <netinet/in.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>

static unsigned long ns(const char *name)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	return stat(path, &st) ? 0 : st.st_ino;
}

static void loopback_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = ST_SYS(socket(AF_INET, SOCK_DGRAM, 0));

	ST_SYS(ioctl(fd, SIOCSIFFLAGS, &lo));
	close(fd);
}

static void inner(volatile int *go, volatile unsigned long *seen)
{
	struct utsname u;
	pid_t pid;

	ST_SYS(unshare(CLONE_NEWUTS));
	ST_SYS(sethostname("further", 7));
	pid = st_fork();
	if (pid == 0) {
		go[1] = 1;
		st_until(go);
		uname(&u);
		ST_STR(u.nodename, "further");
		*seen = ns("uts");
		_exit(0);
	}
	st_until(go);
	uname(&u);
	ST_STR(u.nodename, "further");
	ST_EQ(st_reap(pid), 0);
	ST_EQ(*seen, ns("uts"));
	_exit(0);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	unsigned long host_uts = ns("uts"), host_ipc = ns("ipc"), host_net = ns("net");
	socklen_t len = sizeof(a);
	struct utsname u;
	volatile int *go;
	int l, c, s;
	char b[8];
	pid_t pid;

	st_begin(argc, argv);
	if (unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET))
		st_skip("no namespaces here: %s", strerror(errno));
	ST_SYS(sethostname("of-the-job", 10));
	ST_SYS(setdomainname("inside", 6));
	loopback_up();
	go = st_shared(4096);
	pid = st_fork();
	if (pid == 0)
		inner(go, (volatile unsigned long *)(go + 16));
	st_until(go + 1);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l = ST_SYS(socket(AF_INET, SOCK_STREAM, 0));
	ST_SYS(bind(l, (void *)&a, sizeof(a)));
	ST_SYS(listen(l, 3));
	ST_SYS(getsockname(l, (void *)&a, &len));
	c = ST_SYS(socket(AF_INET, SOCK_STREAM, 0));
	ST_SYS(connect(c, (void *)&a, sizeof(a)));
	s = ST_SYS(accept(l, NULL, NULL));
	ST_SYS(write(c, "abc", 3));
	st_wait();
	uname(&u);
	ST_STR(u.nodename, "of-the-job");
	ST_STR(u.domainname, "inside");
	ST_CHECK(ns("uts") != host_uts, "it is in the host's UTS namespace");
	ST_CHECK(ns("ipc") != host_ipc, "it is in the host's IPC namespace");
	ST_CHECK(ns("net") != host_net, "it is in the host's network namespace");
	ST_EQ(read(s, b, sizeof(b)), 3);
	c = ST_OK(socket(AF_INET, SOCK_STREAM, 0));
	ST_OK(connect(c, (void *)&a, sizeof(a)));
	ST_OK(accept(l, NULL, NULL));
	*go = 1;
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
