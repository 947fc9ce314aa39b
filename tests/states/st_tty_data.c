/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data in a pty that nobody has read yet, in both directions; raw mode; packet mode; exclusive
 * mode. */
#include "state.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

int main(int argc, char **argv)
{
	char buf[64] = "";
	int m, s, m2, s2, n = 0;
	struct termios raw;

	st_begin(argc, argv);
	ST_SYS(openpty(&m, &s, NULL, NULL, NULL));
	ST_SYS(openpty(&m2, &s2, NULL, NULL, NULL));
	ST_SYS(tcgetattr(s, &raw));
	cfmakeraw(&raw);
	raw.c_cc[VMIN] = 3;
	ST_SYS(tcsetattr(s, TCSANOW, &raw));
	ST_SYS(write(m, "to slave", 8));
	ST_SYS(write(s, "to master", 9));
	ST_SYS(write(m2, "a line\n", 7)); /* canonical, echoed */
	n = 1;
	ST_SYS(ioctl(m2, TIOCPKT, &n));
	st_sleep_ms(20);
	st_wait();
	ST_OK(ioctl(s, FIONREAD, &n));
	ST_EQ(n, 8);
	ST_EQ(read(s, buf, sizeof(buf)), 8);
	ST_CHECK(!memcmp(buf, "to slave", 8), "%.8s", buf);
	ST_EQ(read(m, buf, sizeof(buf)), 9);
	ST_CHECK(!memcmp(buf, "to master", 9), "%.9s", buf);
	ST_OK(tcgetattr(s, &raw));
	ST_EQ(raw.c_cc[VMIN], 3);
	ST_EQ(read(s2, buf, sizeof(buf)), 7);
	n = 0;
	ST_OK(ioctl(m2, TIOCGPKT, &n));
	ST_EQ(n, 1);
	return st_end();
}
