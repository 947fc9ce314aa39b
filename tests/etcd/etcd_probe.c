/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * etcd_probe URL KEY COMMAND... - does to a registry what the tests ask for, and says what came
 * of it.
 *
 *	make JOB, get JOB, list
 *	count JOB SECONDS	add 1 again and again: "ok N unsure N failed N max_ms N"
 *	fenced JOB NODE LEASE	add 1, if the node has that lease
 *	commit JOB N		N commits
 *	hold NODE TTL_MS GUARD_MS DIR [leave]
 *				be a node until standard input ends: a line
 *				"lease N left_ms N lost N" at each change
 *	node NODE		"lease N"
 *	watch SILENT_MS		a line for each hint until standard input ends
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../chpox/base/clock.h"
#include "../../chpox/base/err.h"
#include "../../chpox/base/log.h"
#include "../../scheduler/node_lease.h"
#include "../../scheduler/registry_watch.h"

static struct cpx_registry *reg;
static struct cpx_err err;

static int says(int r)
{
	if (r < 0)
		printf("%s: %s\n", cpx_err_name(r), err.msg);
	return r < 0;
}

static int add_one(struct cpx_reg_job *job, void *ctx, struct cpx_err *e)
{
	(void)ctx;
	(void)e;
	job->restarts++;
	return 0;
}

static int make(char **a)
{
	struct cpx_reg_job job = { .keep = { .last = 2 }, .epoch = 1 };

	snprintf(job.name, sizeof(job.name), "%s", a[0]);
	return says(cpx_registry_swap(reg, &job, &err));
}

static int get(char **a)
{
	struct cpx_reg_job job;
	int r = cpx_registry_get(reg, a[0], &job, &err);

	if (r >= 0)
		printf("%llu\n", (unsigned long long)job.restarts);
	return says(r);
}

static void print_name(const struct cpx_reg_job *job, void *ctx)
{
	(void)ctx;
	printf("%s\n", job->name);
}

static int list(char **a)
{
	(void)a;
	return says(cpx_registry_each(reg, print_name, NULL, &err));
}

static int count(char **a)
{
	int64_t end = cpx_mono_ns() + atoll(a[1]) * 1000000000, max = 0, t;
	unsigned ok = 0, unsure = 0, failed = 0;

	while ((t = cpx_mono_ns()) < end) {
		int r = cpx_registry_change(reg, a[0], add_one, NULL, NULL, &err);

		ok += r >= 0;
		unsure += r == CPX_E_TIMEOUT;
		failed += r < 0 && r != CPX_E_TIMEOUT;
		t = cpx_mono_ns() - t;
		max = t > max ? t : max;
		usleep(1000);
	}
	printf("ok %u unsure %u failed %u max_ms %lld\n", ok, unsure, failed,
	       (long long)max / 1000000);
	return 0;
}

static int fenced(char **a)
{
	cpx_registry_fence(reg, a[1], atoll(a[2]));
	return says(cpx_registry_change(reg, a[0], add_one, NULL, NULL, &err));
}

static int commit(char **a)
{
	int n = atoi(a[1]), r = 0;

	for (int i = 1; r >= 0 && i <= n; i++) {
		struct cpx_gen_id dead[CPX_REG_GENS];
		struct cpx_reg_gen g = { .id = { .epoch = 1, .seq = (uint64_t)i } };

		snprintf(g.id.job, sizeof(g.id.job), "%s", a[0]);
		snprintf(g.id.nonce, sizeof(g.id.nonce), "%016x", (unsigned)i);
		r = cpx_registry_commit(reg, a[0], 1, 0, &g, dead, NULL, &err);
	}
	return says(r);
}

static void changed(void *ctx)
{
	if (write(*(int *)ctx, "x", 1) != 1)
		_exit(1);
}

static int hold(const char *url, const char *key, char **a)
{
	int pipes[2];
	struct cpx_node_opts o = { .url = url,
				   .key_file = key,
				   .node = a[0],
				   .ttl_ns = atoll(a[1]) * 1000000,
				   .guard_ns = atoll(a[2]) * 1000000,
				   .dir = a[3],
				   .changed = changed,
				   .ctx = &pipes[1] };
	struct cpx_node_lease *l;
	struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .events = POLLIN } };
	char buf[16];

	if (pipe(pipes) || says(cpx_node_join(&o, &l, &err)))
		return 1;
	p[1].fd = pipes[0];
	changed(&pipes[1]);
	while (poll(p, 2, -1) > 0 && !(p[0].revents && read(0, buf, sizeof(buf)) <= 0)) {
		struct cpx_lease_view v;

		if (!p[1].revents || read(pipes[0], buf, sizeof(buf)) <= 0)
			continue;
		cpx_node_look(l, &v);
		printf("lease %lld left_ms %lld lost %llu\n", (long long)v.lease,
		       (long long)(v.deadline_ns - cpx_boot_ns()) / 1000000,
		       (unsigned long long)v.lost);
		fflush(stdout);
	}
	cpx_node_leave(l, a[4] != NULL);
	return 0;
}

static void hint(void *ctx)
{
	(void)ctx;
	printf("changed\n");
}

static int watch(const char *url, char **a)
{
	struct cpx_registry_watch *w;
	char buf[16];

	if (says(cpx_registry_watch(url, atoi(a[0]), hint, NULL, &w, &err)))
		return 1;
	while (read(0, buf, sizeof(buf)) > 0)
		;
	cpx_registry_unwatch(w);
	return 0;
}

static int node(char **a)
{
	struct cpx_reg_node n;
	int r = cpx_registry_node(reg, a[0], &n, &err);

	if (r >= 0)
		printf("lease %lld\n", (long long)n.lease);
	return says(r);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int args;
		int (*fn)(char **a);
	} cmds[] = { { "make", 1, make },   { "get", 1, get },	     { "list", 0, list },
		     { "count", 2, count }, { "fenced", 3, fenced }, { "commit", 2, commit },
		     { "node", 1, node } };

	cpx_log_init("etcd_probe");
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc >= 8 && !strcmp(argv[3], "hold"))
		return hold(argv[1], argv[2], argv + 4);
	if (argc == 5 && !strcmp(argv[3], "watch"))
		return watch(argv[1], argv + 4);
	if (argc < 4)
		return 2;
	if (says(cpx_registry_open(argv[1], argv[2], &reg, &err)))
		return 1;
	for (size_t i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++)
		if (!strcmp(argv[3], cmds[i].name) && argc == 4 + cmds[i].args) {
			int r = cmds[i].fn(argv + 4);

			cpx_registry_close(reg);
			return r;
		}
	return 2;
}
