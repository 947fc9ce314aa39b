/* SPDX-License-Identifier: GPL-2.0-or-later */
/* signalfd: its mask, and a signal that was pending. */
#include "state.h"

#include <signal.h>
#include <sys/signalfd.h>

int main(int argc, char **argv)
{
	struct signalfd_siginfo si;
	union sigval v = { .sival_int = 321 };
	sigset_t m;
	int fd;

	st_begin(argc, argv);
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigaddset(&m, SIGRTMIN + 9);
	sigprocmask(SIG_BLOCK, &m, NULL);
	fd = ST_SYS(signalfd(-1, &m, SFD_NONBLOCK | SFD_CLOEXEC));
	ST_SYS(sigqueue(getpid(), SIGRTMIN + 9, v));
	st_wait();
	ST_EQ(read(fd, &si, sizeof(si)), sizeof(si));
	ST_EQ(si.ssi_signo, SIGRTMIN + 9);
	ST_EQ(si.ssi_int, 321);
	ST_EQ(read(fd, &si, sizeof(si)), -1);
	ST_EQ(errno, EAGAIN);
	kill(getpid(), SIGUSR1);
	ST_EQ(read(fd, &si, sizeof(si)), sizeof(si));
	ST_EQ(si.ssi_signo, SIGUSR1);
	return st_end();
}
