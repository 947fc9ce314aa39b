/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pty with both ends in the tree: termios, window size, foreground group, controlling
 * terminal, data. */
#include "state.h"

#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile sig_atomic_t winch, intr;

static void on_sig(int sig)
{
	if (sig == SIGWINCH)
		winch++;
	else
		intr++;
}

static int slave(volatile int *go, const char *name)
{
	struct termios t;
	struct winsize w;
	pid_t job;
	int fd, tty;
	char buf[64] = "";

	setsid();
	fd = ST_SYS(open(name, O_RDWR));
	ST_SYS(ioctl(fd, TIOCSCTTY, 0));
	ST_SYS(tcgetattr(fd, &t));
	t.c_lflag &= ~(tcflag_t)(ECHO | ECHOE);
	t.c_cc[VINTR] = 24;
	ST_SYS(tcsetattr(fd, TCSANOW, &t));
	job = st_fork();
	if (job == 0) { /* the foreground job */
		struct sigaction a = { .sa_handler = on_sig };

		setpgid(0, 0);
		sigaction(SIGWINCH, &a, NULL);
		sigaction(SIGINT, &a, NULL);
		go[2] = 1;
		while (!intr || !winch)
			st_sleep_ms(2);
		_exit(tcgetpgrp(fd) == getpid() ? 0 : 1);
	}
	st_until(go + 2);
	signal(SIGTTOU, SIG_IGN);
	setpgid(job, job);
	ST_SYS(tcsetpgrp(fd, job));
	go[1] = 1;
	st_until(go);
	ST_EQ(tcgetattr(fd, &t), 0);
	ST_TRUE(!(t.c_lflag & ECHO));
	ST_EQ(t.c_cc[VINTR], 24);
	ST_EQ(ioctl(fd, TIOCGWINSZ, &w), 0);
	ST_EQ(w.ws_row, 33);
	ST_EQ(w.ws_col, 99);
	ST_EQ(tcgetpgrp(fd), job);
	ST_EQ(tcgetsid(fd), getpid());
	tty = ST_OK(open("/dev/tty", O_RDWR)); /* still our controlling terminal */
	go[3] = 1;
	ST_EQ(st_reap(job), 0);
	ST_EQ(tcsetpgrp(fd, getpid()), 0);
	ST_EQ(read(tty, buf, sizeof(buf)), 6);
	ST_STR(buf, "typed\n");
	ST_EQ(write(fd, "shown", 5), 5);
	return 0;
}

int main(int argc, char **argv)
{
	struct winsize w = { 33, 99, 0, 0 };
	volatile int *go;
	char buf[64] = "", name[64];
	pid_t pid;
	int m;

	st_begin(argc, argv);
	go = st_shared(4096);
	m = ST_SYS(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	ST_SYS(grantpt(m));
	ST_SYS(unlockpt(m));
	ST_ZERO(ptsname_r(m, name, sizeof(name)));
	ST_SYS(ioctl(m, TIOCSWINSZ, &w));
	pid = st_fork();
	if (pid == 0)
		_exit(slave(go, name));
	st_until(go + 1);
	st_wait();
	*go = 1;
	st_until(go + 3);
	ptsname_r(m, buf, sizeof(buf));
	ST_STR(buf, name);
	w.ws_row = 34;
	ST_EQ(ioctl(m, TIOCSWINSZ, &w), 0); /* SIGWINCH to the foreground job */
	ST_EQ(write(m, "\x18", 1), 1);	    /* and SIGINT by the character that was set */
	st_sleep_ms(100);
	ST_EQ(write(m, "typed\n", 6), 6);
	memset(buf, 0, sizeof(buf));
	ST_TRUE(read(m, buf, sizeof(buf)) > 0);
	ST_EQ(st_reap(pid), 0);
	return st_end();
}
