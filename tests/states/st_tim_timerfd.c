/* SPDX-License-Identifier: GPL-2.0-or-later */
/* timerfd: relative, absolute, periodic with ticks not read, not armed; flags and clocks. */
#include "state.h"

#include <sys/timerfd.h>
#include <time.h>

int main(int argc, char **argv)
{
	struct itimerspec t;
	uint64_t ticks = 0;
	int64_t deadline;
	int rel, per, un, ab, fired;

	st_begin(argc, argv);
	rel = ST_SYS(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	per = ST_SYS(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	un = ST_SYS(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
	ab = ST_SYS(timerfd_create(CLOCK_BOOTTIME, 0));
	fired = ST_SYS(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	t = (struct itimerspec){ { 0, 0 }, { 400, 0 } };
	ST_SYS(timerfd_settime(rel, 0, &t, NULL));
	t = (struct itimerspec){ { 0, 20000000 }, { 0, 20000000 } };
	ST_SYS(timerfd_settime(per, 0, &t, NULL));
	t = (struct itimerspec){ { 0, 0 }, { 0, 1000000 } };
	ST_SYS(timerfd_settime(fired, 0, &t, NULL));
	deadline = st_now_ns(CLOCK_BOOTTIME) + 500 * 1000000000LL;
	t = (struct itimerspec){ { 9, 0 }, { deadline / 1000000000, deadline % 1000000000 } };
	ST_SYS(timerfd_settime(ab, TFD_TIMER_ABSTIME, &t, NULL));
	st_sleep_ms(100);
	st_wait();
	ST_OK(timerfd_gettime(rel, &t));
	ST_CHECK(t.it_value.tv_sec > 350 && t.it_value.tv_sec <= 400, "%ld s left",
		 t.it_value.tv_sec);
	ST_EQ(fcntl(rel, F_GETFD), FD_CLOEXEC);
	ST_OK(timerfd_gettime(ab, &t));
	ST_CHECK(t.it_value.tv_sec > 400 && t.it_value.tv_sec <= 500, "%ld s left",
		 t.it_value.tv_sec);
	ST_EQ(t.it_interval.tv_sec, 9);
	ST_EQ(read(per, &ticks, 8), 8);
	ST_CHECK(ticks >= 5 && ticks < 5000, "%llu ticks", (unsigned long long)ticks);
	st_sleep_ms(70);
	ST_EQ(read(per, &ticks, 8), 8);
	ST_CHECK(ticks >= 2 && ticks <= 30, "%llu ticks in 70 ms", (unsigned long long)ticks);
	ST_EQ(read(fired, &ticks, 8), 8);
	ST_EQ(ticks, 1);
	ST_EQ(read(fired, &ticks, 8), -1);
	ST_EQ(read(un, &ticks, 8), -1);
	ST_EQ(errno, EAGAIN);
	ST_OK(timerfd_gettime(un, &t));
	ST_EQ(t.it_value.tv_sec + t.it_value.tv_nsec, 0);
	return st_end();
}
