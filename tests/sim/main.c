/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sim [--seed N] [--histories N] [--nodes N] [--seconds N] [--bug NAME | --bugs] [--trace] */
#include "sim.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const bug_names[BUGS] = {
	[BUG_NONE] = "none",
	[BUG_ANSWER_DEADLINE] = "answer-deadline",
	[BUG_COMMIT_EPOCH] = "commit-epoch",
	[BUG_CLAIM_COMPARE] = "claim-compare",
	[BUG_NO_GUARD] = "no-guard",
	[BUG_THAW] = "thaw",
	[BUG_NO_FREEZE] = "no-freeze",
	[BUG_DAEMON_ONLY] = "daemon-only",
	[BUG_SUSPECT] = "suspect",
	[BUG_JOIN_OVER] = "join-over",
	[BUG_OLD_HEAD] = "old-head",
	[BUG_NO_REREAD] = "no-reread",
	[BUG_NO_KILL] = "no-kill",
	[BUG_EARLY_EXPIRY] = "early-expiry",
};

struct options {
	uint64_t seed, histories;
	uint32_t nodes;
	double seconds;
	enum bug bug;
	bool trace, list;
};

static int usage(void)
{
	fputs("sim [--seed N] [--histories N] [--nodes N] [--seconds N] [--bug NAME] "
	      "[--trace]\n",
	      stderr);
	return 2;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option opts[] = {
		{ "seed", 1, NULL, 's' },  { "histories", 1, NULL, 'n' },
		{ "nodes", 1, NULL, 'N' }, { "seconds", 1, NULL, 'S' },
		{ "bug", 1, NULL, 'b' },   { "trace", 0, NULL, 't' },
		{ "bugs", 0, NULL, 'l' },  { NULL, 0, NULL, 0 },
	};
	int c, i;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		if (c == 's')
			o->seed = strtoull(optarg, NULL, 0);
		else if (c == 'n')
			o->histories = strtoull(optarg, NULL, 0);
		else if (c == 'N')
			o->nodes = (uint32_t)strtoul(optarg, NULL, 0);
		else if (c == 'S')
			o->seconds = strtod(optarg, NULL);
		else if (c == 't')
			o->trace = true;
		else if (c == 'l')
			o->list = true;
		else if (c == 'b') {
			for (i = 1; i < BUGS && strcmp(bug_names[i], optarg); i++)
				;
			if (i == BUGS)
				return -1;
			o->bug = (enum bug)i;
		} else
			return -1;
	}
	return optind == argc && o->nodes < SIM_NODES ? 0 : -1;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	struct options o = { .seed = 1, .histories = 1 };
	uint64_t i, sum[5] = { 0 }, *events;
	double begin = seconds();
	int rc = 0;

	if (parse(argc, argv, &o) < 0)
		return usage();
	for (i = 1; o.list && i < BUGS; i++)
		puts(bug_names[i]);
	if (o.list)
		return 0;
	events = calloc(o.histories + 1, sizeof(*events));
	if (!events)
		return 2;
	for (i = 0; i < o.histories && !rc; i++) {
		struct sim *s;

		if (o.seconds > 0 && seconds() - begin > o.seconds)
			break;
		s = sim_open(o.seed + i, o.bug, o.trace, o.nodes);
		sim_run(s);
		events[i] = s->events;
		sum[0] += s->starts;
		sum[1] += s->commits;
		sum[2] += s->recoveries;
		sum[3] += s->moves;
		sum[4] += s->requests;
		if (s->failed) {
			printf("seed %lu: at %.3f s: %s\n", s->seed, (double)s->now / 1e9,
			       s->what);
			rc = 1;
		}
		sim_close(s);
	}
	qsort(events, i, sizeof(*events), by_value);
	printf("%lu histories, %lu events in the median, %lu starts, %lu commits, %lu "
	       "recoveries, "
	       "%lu moves, %lu requests, %.1f s\n",
	       i, events[i / 2], sum[0], sum[1], sum[2], sum[3], sum[4], seconds() - begin);
	free(events);
	return rc;
}
