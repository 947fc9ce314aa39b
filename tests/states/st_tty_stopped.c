/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Terminals whose output was stopped by tcflow(), with and without something printed that
 * waits, one of them for its opener alone (TIOCEXCL); one that ^S has stopped, which ^Q lets go
 * on (after a restart it may go on by itself).
 */
#include "state.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static void set_up(int *m, int *s, const char *text)
{
	ST_SYS(openpty(m, s, NULL, NULL, NULL));
	ST_EQ(write(*s, text, strlen(text)), (ssize_t)strlen(text));
	ST_SYS(fcntl(*m, F_SETFL, O_NONBLOCK));
	ST_SYS(fcntl(*s, F_SETFL, O_NONBLOCK));
}

static void judge(int m, int s, const char *text)
{
	char b[8];

	ST_EQ(read(m, b, sizeof(b)), *text ? (ssize_t)strlen(text) : -1);
	ST_EQ(write(s, "x", 1), -1);
	ST_OK(tcflow(s, TCOON));
	ST_EQ(write(s, "more", 4), 4);
	st_sleep_ms(20);
	ST_EQ(read(m, b, sizeof(b)), 4);
}

int main(int argc, char **argv)
{
	int m[3], s[3], excl = 0;
	char b[8];

	st_begin(argc, argv);
	set_up(&m[0], &s[0], "out");
	ST_SYS(tcflow(s[0], TCOOFF));
	set_up(&m[1], &s[1], "");
	ST_SYS(tcflow(s[1], TCOOFF));
	ST_SYS(ioctl(s[1], TIOCEXCL));
	set_up(&m[2], &s[2], "out");
	ST_EQ(write(m[2], "\x13", 1), 1);
	st_sleep_ms(20);
	st_wait();
	judge(m[0], s[0], "out");
	judge(m[1], s[1], "");
	ST_OK(ioctl(s[1], TIOCGEXCL, &excl));
	ST_EQ(excl, 1);
	ST_OK(ioctl(s[0], TIOCGEXCL, &excl));
	ST_EQ(excl, 0);
	ST_EQ(write(m[2], "\x11", 1), 1);
	st_sleep_ms(20);
	ST_EQ(write(s[2], "more", 4), 4);
	st_sleep_ms(20);
	ST_TRUE(read(m[2], b, 3) == 3 && !memcmp(b, "out", 3));
	return st_end();
}
