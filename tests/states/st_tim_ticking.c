/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A ticking interval timer goes on ticking; no tick is lost while the program is alive, none comes double. */
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
	long want, got;

	st_begin(argc, argv);
	st_alive_start();
	ST_SYS(sigaction(SIGALRM, &a, NULL));
	ST_SYS(setitimer(ITIMER_REAL, &tick, NULL));
	start = st_alive_ns();
	st_wait();
	st_sleep_ms(100);
	got = ticks;
	want = (long)((st_alive_ns() - start) / 20000000);
	ST_CHECK(got >= want - 10 && got <= want + 10, "%ld ticks, %ld intervals", got, want);
	return st_end();
}
