/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A terminal whose output was stopped (^S, tcflow()) with something printed that waits. */
#include "state.h"

#include <pty.h>
#include <termios.h>

int main(int argc, char **argv)
{
	int m, s;
	char b[8];

	st_begin(argc, argv);
	ST_SYS(openpty(&m, &s, NULL, NULL, NULL));
	ST_SYS(write(s, "out", 3));
	ST_SYS(tcflow(s, TCOOFF));
	st_wait();
	ST_SYS(fcntl(m, F_SETFL, O_NONBLOCK));
	ST_EQ(read(m, b, sizeof(b)), 3);
	ST_OK(tcflow(s, TCOON));
	ST_EQ(write(s, "more", 4), 4);
	st_sleep_ms(20);
	ST_EQ(read(m, b, sizeof(b)), 4);
	return st_end();
}
