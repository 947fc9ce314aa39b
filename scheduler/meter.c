/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See meter.h. */
#include "meter.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"

#define TRIES 5
#define ROUNDS 800000			/* 4 ms of the standard processor */
#define STD_ROUNDS_MS 200000		/* that it does in a millisecond */
#define RUNNABLE_MAX (64 * 1024 * 1024) /* of threads there are no more */
#define LOADAVG_MAX 4096
#define MEMINFO_MAX (64 * 1024)

void cpx_meter_init(struct cpx_meter *m, uint32_t speed)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	*m = (struct cpx_meter){ 0 };
	cpx_load_meter_init(&m->load, n > 0 && n <= 65536 ? (uint32_t)n : 1,
			    speed ? speed : cpx_meter_speed());
}

int cpx_meter_runnable(const char *text, uint32_t *out)
{
	uint32_t running;
	int at = 0;

	if (sscanf(text, "%*[0-9.] %*[0-9.] %*[0-9.] %9" SCNu32 "/%*9u%n", &running, &at) !=
		    1 ||
	    !at || running > RUNNABLE_MAX)
		return CPX_E_FORMAT;
	*out = running;
	return 0;
}

static bool field(const char *text, const char *name, uint32_t *mib)
{
	const char *p = strstr(text, name);
	uint64_t kib;

	if (!p || (p != text && p[-1] != '\n') ||
	    sscanf(p + strlen(name), " %15" SCNu64 " kB", &kib) != 1)
		return false;
	*mib = kib / 1024 > UINT32_MAX ? UINT32_MAX : (uint32_t)(kib / 1024);
	return true;
}

int cpx_meter_memory(const char *text, uint32_t *total, uint32_t *available)
{
	uint32_t t, a;

	if (!field(text, "MemTotal:", &t) || !field(text, "MemAvailable:", &a))
		return CPX_E_FORMAT;
	*total = t;
	*available = a < t ? a : t;
	return 0;
}

int cpx_meter_look(struct cpx_meter *m, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	ssize_t n = cpx_read_file(AT_FDCWD, "/proc/loadavg", LOADAVG_MAX, &text, err);
	uint32_t running;

	if (n < 0)
		return (int)n;
	if (cpx_meter_runnable(text, &running) < 0)
		return cpx_err_set(err, CPX_E_FORMAT, "cannot make sense of /proc/loadavg");
	m->adder += running ? running - 1 : 0; /* who looks is running */
	m->looks++;
	return 0;
}

int cpx_meter_second(struct cpx_meter *m, struct cpx_load_figures *f, struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	ssize_t n = cpx_read_file(AT_FDCWD, "/proc/meminfo", MEMINFO_MAX, &text, err);
	uint32_t total, available;

	if (n < 0)
		return (int)n;
	if (cpx_meter_memory(text, &total, &available) < 0)
		return cpx_err_set(err, CPX_E_FORMAT, "cannot make sense of /proc/meminfo");
	cpx_load_second(&m->load, m->adder, m->looks);
	m->adder = m->looks = 0;
	f->mean = cpx_load_mean(&m->load);
	f->upper = cpx_load_upper(&m->load);
	f->speed = m->load.speed;
	f->ncpus = m->load.ncpus;
	f->mem_total = total;
	f->mem_free = available;
	return 0;
}

static int64_t thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Each round waits for the one before, so it is the processor that is measured, not its width.
 */
static uint64_t chain(uint64_t x)
{
	int i;

	for (i = 0; i < ROUNDS; i++)
		x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u + 1;
	return x;
}

uint32_t cpx_meter_speed(void)
{
	volatile uint64_t sink = 1;
	int64_t least = INT64_MAX, ns;
	uint64_t speed;
	int i;

	for (i = 0; i < TRIES; i++) {
		ns = thread_ns();
		sink = chain(sink);
		ns = thread_ns() - ns;
		if (ns > 0 && ns < least)
			least = ns;
	}
	speed = (uint64_t)ROUNDS * 1000000u / STD_ROUNDS_MS * CPX_LOAD_STD_SPEED /
		(uint64_t)least;
	return speed < 1 ? 1 : speed > CPX_LOAD_MAX ? CPX_LOAD_MAX : (uint32_t)speed;
}
