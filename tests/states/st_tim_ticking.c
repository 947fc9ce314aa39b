/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A ticking interval timer goes on ticking at its rate; no tick comes double. */
#include "state.h"

#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void on_alarm(int sig)
{
	(void)sig;
	ticks++;
}

int main(int argc, char **argv)
{
	const struct itimerval tick = { { 0, 20000 }, { 0, 20000 } };
	struct sigaction a = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	int64_t start;
	long max, got;

	st_begin(argc, argv);
	st_alive_start();
	ST_SYS(sigaction(SIGALRM, &a, NULL));
	ST_SYS(setitimer(ITIMER_REAL, &tick, NULL));
	start = st_alive_ns();
	st_wait();
	/* those due while it was stopped are one, so that only the rate from now on has a lower
	 * end */
	got = ticks;
	st_sleep_ms(300);
	got = ticks - got;
	ST_CHECK(got >= 5, "%ld ticks in 300 ms", got);
	got = ticks;
	max = (long)((st_alive_ns() - start) / 20000000) + 10;
	ST_CHECK(got <= max, "%ld ticks in %ld intervals", got, max);
	return st_end();
}
