/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POINTS_MAX 8

int cpx_fault_armed;

static struct point {
	char name[48];
	long at;
	char action[32];
	atomic_long seen;
} points[POINTS_MAX];
static int npoints;

void cpx_fault_init(void)
{
	const char *s = secure_getenv("CHPOX_FAULT");

	while (s && *s && npoints < POINTS_MAX) {
		struct point *p = &points[npoints];

		if (sscanf(s, "%47[^:]:%ld:%31[^,]", p->name, &p->at, p->action) == 3)
			npoints++;
		s = strchr(s, ',');
		if (s)
			s++;
	}
	cpx_fault_armed = npoints > 0;
}

static int act(const struct point *p)
{
	if (!strcmp(p->action, "kill"))
		raise(SIGKILL);
	if (!strncmp(p->action, "sleep=", 6))
		usleep((useconds_t)atoi(p->action + 6) * 1000);
	if (!strncmp(p->action, "errno=", 6))
		return atoi(p->action + 6);
	return 0;
}

int cpx_fault_hit(const char *name)
{
	for (int i = 0; i < npoints; i++) {
		struct point *p = &points[i];
		bool onward = strchr(p->action, '+');
		long n;

		if (strcmp(p->name, name) != 0)
			continue;
		n = atomic_fetch_add(&p->seen, 1) + 1;
		if (n == p->at || (onward && n > p->at))
			return act(p);
	}
	return 0;
}
