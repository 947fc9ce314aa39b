/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The three interval timers keep interval and remaining value. */
#include "state.h"

#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

int main(int argc, char **argv)
{
	const struct itimerval real = { { 0, 0 }, { 600, 0 } },
			       vir = { { 3, 500000 }, { 100, 0 } },
			       prof = { { 0, 0 }, { 200, 0 } },
			       tick = { { 0, 50000 }, { 0, 50000 } };
	struct itimerval now;
	int was;

	st_begin(argc, argv);
	signal(SIGALRM, on_alarm);
	ST_SYS(setitimer(ITIMER_REAL, &real, NULL));
	ST_SYS(setitimer(ITIMER_VIRTUAL, &vir, NULL));
	ST_SYS(setitimer(ITIMER_PROF, &prof, NULL));
	st_wait();
	ST_EQ(getitimer(ITIMER_REAL, &now), 0);
	ST_EQ(now.it_interval.tv_sec, 0);
	ST_CHECK(now.it_value.tv_sec > 560 && now.it_value.tv_sec <= 600, "real: %ld s left",
		 now.it_value.tv_sec);
	ST_EQ(getitimer(ITIMER_VIRTUAL, &now), 0);
	ST_EQ(now.it_interval.tv_usec, 500000);
	ST_EQ(now.it_interval.tv_sec, 3);
	ST_CHECK(now.it_value.tv_sec > 90 && now.it_value.tv_sec <= 100, "virtual: %ld s left",
		 now.it_value.tv_sec);
	ST_EQ(getitimer(ITIMER_PROF, &now), 0);
	ST_CHECK(now.it_value.tv_sec > 190 && now.it_value.tv_sec <= 200, "prof: %ld s left",
		 now.it_value.tv_sec);
	ST_EQ(alarms, 0);
	ST_EQ(setitimer(ITIMER_REAL, &tick, NULL), 0);
	st_sleep_ms(200);
	was = alarms;
	ST_TRUE(was >= 2 && was <= 5);
	return st_end();
}
