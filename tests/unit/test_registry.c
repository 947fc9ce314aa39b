/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry: records, compare-and-swap, heads, and what a crash leaves. With CHPOX_TEST_ETCD
 * (a URL without path) the same in etcd, each test below a prefix of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../chpox/base/err.h"
#include "../../scheduler/cluster_key.h"
#include "../../scheduler/registry.h"

#define WRITERS 4
#define ROUNDS 50

struct fixture {
	char dir[64], where[256], key_file[80];
	struct cpx_registry *reg;
};

static const char *etcd_url(void)
{
	return getenv("CHPOX_TEST_ETCD");
}

static int open_one(const struct fixture *f, struct cpx_registry **out)
{
	return cpx_registry_open(f->where, etcd_url() ? f->key_file : NULL, out, NULL);
}

static int rm(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/cpx-registry.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->key_file, sizeof(f->key_file), "%s/cluster.key", f->dir);
	if (etcd_url()) {
		assert_int_equal(cpx_key_make(f->key_file, NULL), 0);
		snprintf(f->where, sizeof(f->where), "%s%s", etcd_url(), f->dir);
	} else {
		strcpy(f->where, f->dir);
	}
	assert_int_equal(open_one(f, &f->reg), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	cpx_registry_close(f->reg);
	nftw(f->dir, rm, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

static struct cpx_reg_job new_job(const char *name)
{
	struct cpx_reg_job job = {
		.uid = 5, .gid = 6, .keep = { .last = 2 }, .every_ns = -1, .epoch = 1
	};

	strcpy(job.name, name);
	strcpy(job.command, "a \xff command");
	return job;
}

static void a_record_comes_back(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job job = new_job("one"), got;

	job.state = CPX_JOB_DONE;
	job.has_status = true;
	job.status = 0x0700;
	job.ngens = 1;
	strcpy(job.gens[0].id.job, "one");
	strcpy(job.gens[0].id.nonce, "0123456789abcdef");
	job.gens[0].bytes_memory = 1ull << 40;
	job.bounds = (struct cpx_interval_bounds){ 1, 1ll << 60 };
	job.learned = (struct cpx_learned){ .cost = { 1.0 / 3, 1e-9, 7, 0.1, -2.5 },
					    .dirty = { .n = 1e-3 },
					    .memory = 12345678901.5,
					    .full = true,
					    .period_ns = 3,
					    .failures = { 4, 5 } };
	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	assert_true(job.version > 0);
	assert_int_equal(cpx_registry_get(f->reg, "one", &got, NULL), 0);
	assert_memory_equal(&job, &got, sizeof(job));
	assert_int_equal(cpx_registry_get(f->reg, "two", &got, NULL), CPX_E_NOENT);
}

static void only_the_newest_version_is_replaced(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job job = new_job("one"), other = job, old;

	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	assert_int_equal(cpx_registry_swap(f->reg, &other, NULL), CPX_E_EXIST);
	old = job;
	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	assert_int_equal(cpx_registry_swap(f->reg, &old, NULL), CPX_E_CONFLICT);
	assert_int_equal(cpx_registry_remove(f->reg, "one", old.version, NULL), CPX_E_CONFLICT);
	assert_int_equal(cpx_registry_remove(f->reg, "one", job.version, NULL), 0);
	assert_int_equal(cpx_registry_get(f->reg, "one", &old, NULL), CPX_E_NOENT);
}

static void names_are_checked(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = {
		"",
		".",
		"..",
		".x",
		"-x",
		"a/b",
		"a b",
		"\xc3\xa4",
		"0123456789012345678901234567890123456789012345678901234567890123"
	};
	struct cpx_reg_job job;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(cpx_registry_get(f->reg, bad[i], &job, NULL), CPX_E_INVAL);
	assert_true(cpx_job_name_ok("a.b_c-9"));
}

static void lists_are_sorted(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job b = new_job("b"), a = new_job("a"), c = new_job("x.tmp");
	char **names;

	assert_int_equal(cpx_registry_swap(f->reg, &b, NULL), 0);
	assert_int_equal(cpx_registry_swap(f->reg, &a, NULL), 0);
	assert_int_equal(cpx_registry_swap(f->reg, &c, NULL), 0);
	assert_int_equal(cpx_registry_list(f->reg, &names, NULL), 3);
	assert_string_equal(names[0], "a");
	assert_string_equal(names[1], "b");
	assert_string_equal(names[2], "x.tmp");
	cpx_registry_names_free(names);
}

static struct cpx_reg_gen gen(uint64_t epoch, uint64_t seq)
{
	struct cpx_reg_gen g = { .id = { .job = "one", .epoch = epoch, .seq = seq } };

	snprintf(g.id.nonce, sizeof(g.id.nonce), "%016llx",
		 (unsigned long long)(epoch * 100 + seq));
	return g;
}

static void what_is_learned_comes_with_the_commit(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job job = new_job("one"), got;
	struct cpx_reg_gen g = gen(1, 1);
	struct cpx_gen_id dead[CPX_REG_GENS];

	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	g.seen = (struct cpx_observed){ .period_ns = 10000000000,
					.cost_ns = 5000000,
					.delay_ns = 9000000,
					.bytes = 1 << 20,
					.full = true };
	assert_int_equal(cpx_registry_commit(f->reg, "one", 1, 0, &g, dead, NULL, NULL), 0);
	assert_int_equal(cpx_registry_get(f->reg, "one", &got, NULL), 0);
	assert_int_equal(got.learned.failures.seen_ns, 10000000000);
	assert_true(got.learned.cost.n == 1 && got.learned.period_ns > 10000000000);
}

/* In a cluster: what has been decided about a job comes back whole, and a bad name is refused.
 */
static void what_nodes_decide_by_is_kept(void **state)
{
	struct cpx_reg_job job = new_job("one"), got;
	json_t *j;

	(void)state;
	strcpy(job.node, "n1");
	job.lease = 77;
	job.state = CPX_JOB_RECOVERING;
	job.placing = (struct cpx_reg_placing){ .place = "n2",
						.want = "n3",
						.halt = true,
						.pinned = true,
						.skip = 2,
						.tries = 3,
						.why = 4,
						.needs = 5,
						.nrefused = 2,
						.refused = { "n4", "n5" } };
	j = cpx_reg_encode(&job);
	assert_int_equal(cpx_reg_decode(j, &got, NULL), 0);
	assert_memory_equal(&got.placing, &job.placing, sizeof(job.placing));
	assert_int_equal(got.state, CPX_JOB_RECOVERING);
	assert_int_equal(got.lease, 77);
	json_object_set_new(j, "place", json_string("../n2"));
	assert_int_equal(cpx_reg_decode(j, &got, NULL), CPX_E_FORMAT);
	json_decref(j);
}

static void a_commit_is_the_owners_under_its_lease(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job job = new_job("one"), got;
	struct cpx_reg_gen g = gen(1, 1);
	struct cpx_gen_id dead[CPX_REG_GENS];

	strcpy(job.node, "n1");
	job.lease = 77;
	job.placing.tries = 3;
	job.placing.skip = 1;
	job.placing.nrefused = 1;
	strcpy(job.placing.refused[0], "n2");
	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	assert_int_equal(cpx_registry_commit(f->reg, "one", 1, 76, &g, dead, NULL, NULL),
			 CPX_E_CONFLICT);
	assert_int_equal(cpx_registry_commit(f->reg, "one", 1, 77, &g, dead, &got, NULL), 0);
	assert_int_equal(got.ngens, 1);
	assert_int_equal(got.placing.tries + got.placing.skip + got.placing.nrefused, 0);
}

/* As another program, or an earlier version, may have left it. */
static void a_record_that_makes_no_sense_is_refused_and_an_old_one_taken(void **state)
{
	struct cpx_reg_job job = new_job("one"), got;
	json_t *j = cpx_reg_encode(&job);

	(void)state;
	assert_int_equal(cpx_reg_decode(j, &got, NULL), 0);
	json_object_set_new(json_object_get(j, "auto"), "memory", json_string("much"));
	assert_int_equal(cpx_reg_decode(j, &got, NULL), CPX_E_FORMAT);
	json_object_set_new(json_object_get(j, "auto"), "memory", json_real(-1));
	assert_int_equal(cpx_reg_decode(j, &got, NULL), CPX_E_FORMAT);
	json_object_del(j, "auto");
	assert_int_equal(cpx_reg_decode(j, &got, NULL), 0);
	assert_int_equal(cpx_reg_bounds(&got).min_ns, CPX_INTERVAL_MIN_NS);
	json_decref(j);
}

static void the_node_counts_its_failures_once(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_past n;
	const int64_t minute = 60000000000;
	char **names;

	/* etcd's keeps none: each node would need its own */
	if (etcd_url())
		skip();
	assert_int_equal(cpx_registry_past(f->reg, &n, NULL), 0);
	assert_int_equal(n.failures.count, 0);
	for (int64_t at = 1; at <= 61; at += 6)
		assert_int_equal(cpx_registry_past_seen(f->reg, "boot-1", at * minute, NULL),
				 0);
	assert_int_equal(cpx_registry_past(f->reg, &n, NULL), 0);
	assert_int_equal(n.failures.seen_ns, 60 * minute);
	/* it went down, and three jobs tell */
	for (int i = 0; i < 3; i++)
		assert_int_equal(cpx_registry_past_failed(f->reg, "boot-1", NULL), 0);
	assert_int_equal(cpx_registry_past_seen(f->reg, "boot-2", minute, NULL), 0);
	/* a day in which nobody looked does not count */
	assert_int_equal(cpx_registry_past_seen(f->reg, "boot-2", 1440 * minute, NULL), 0);
	assert_int_equal(cpx_registry_past(f->reg, &n, NULL), 0);
	assert_int_equal(n.failures.count, 1);
	assert_int_equal(n.failures.seen_ns, 60 * minute);
	/* and it is no job */
	assert_int_equal(cpx_registry_list(f->reg, &names, NULL), 0);
	cpx_registry_names_free(names);
}

static void the_head_moves_forward_and_the_old_ones_fall_out(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job job = new_job("one");
	struct cpx_gen_id dead[CPX_REG_GENS];
	struct cpx_reg_gen g;

	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	for (uint64_t i = 1; i <= 3; i++) {
		g = gen(1, i);
		assert_int_equal(cpx_registry_commit(f->reg, "one", 1, 0, &g, dead, &job, NULL),
				 i == 3);
		assert_int_equal(job.gens[0].id.seq, i);
	}
	assert_int_equal(dead[0].seq, 1);
	assert_int_equal(job.ngens, 2);
	assert_int_equal(job.checkpoints, 3);
	/* the same again: as before, what fell out falls out */
	assert_int_equal(cpx_registry_commit(f->reg, "one", 1, 0, &g, dead, &job, NULL), 0);
	assert_int_equal(job.ngens, 2);
	assert_int_equal(job.checkpoints, 3);
	/* not backwards */
	g = gen(1, 3);
	strcpy(g.id.nonce, "0123456789abcdef");
	assert_int_equal(cpx_registry_commit(f->reg, "one", 1, 0, &g, dead, NULL, NULL),
			 CPX_E_CONFLICT);
}

static void a_pinned_generation_is_kept_until_its_reader_ends(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job job = new_job("one");
	struct cpx_gen_id dead[CPX_REG_GENS];
	struct cpx_reg_gen g, got;
	int status;

	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	assert_int_equal(cpx_registry_pin(f->reg, "one", 0, 0, "test", NULL, NULL),
			 CPX_E_NOENT);
	for (uint64_t i = 1; i <= 6; i++) {
		g = gen(1, i);
		cpx_registry_commit(f->reg, "one", 1, 0, &g, dead, &job, NULL);
		if (i == 1) /* ours */
			assert_int_equal(
				cpx_registry_pin(f->reg, "one", 1, 1, "test", &got, NULL), 0);
		if (i == 2) { /* that of a process which ends without a word */
			if (fork() == 0)
				_exit(cpx_registry_pin(f->reg, "one", 0, 0, "x", NULL, NULL));
			wait(&status);
			assert_int_equal(status, 0);
		}
	}
	assert_string_equal(got.id.nonce, gen(1, 1).id.nonce);
	assert_int_equal(job.ngens, 3);
	assert_int_equal(job.gens[2].id.seq, 1);
	assert_int_equal(job.npins, 1);
	assert_int_equal(cpx_registry_pin(f->reg, "one", 1, 2, "test", NULL, NULL),
			 CPX_E_NOENT);
	assert_int_equal(cpx_registry_drop(f->reg, "one", dead, &job, NULL), 0);
	assert_int_equal(cpx_registry_unpin(f->reg, "one", &got.id, NULL), 0);
	assert_int_equal(cpx_registry_unpin(f->reg, "one", &got.id, NULL), CPX_E_NOENT);
	assert_int_equal(cpx_registry_drop(f->reg, "one", dead, &job, NULL), 1);
	assert_int_equal(dead[0].seq, 1);
	assert_int_equal(job.ngens, 2);
	for (int i = 0; i < CPX_REG_PINS; i++)
		assert_int_equal(cpx_registry_pin(f->reg, "one", 0, 0, "test", &got, NULL), 0);
	assert_int_equal(got.id.seq, 6);
	assert_int_equal(cpx_registry_pin(f->reg, "one", 0, 0, "test", NULL, NULL), CPX_E_BUSY);
}

static int next_epoch(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	(void)ctx;
	(void)err;
	job->epoch++;
	return 0;
}

static void an_old_owner_cannot_commit(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job job = new_job("one");
	struct cpx_gen_id dead[CPX_REG_GENS];
	struct cpx_reg_gen g = gen(1, 1), h = gen(2, 1);

	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	assert_int_equal(cpx_registry_change(f->reg, "one", next_epoch, NULL, NULL, NULL), 0);
	assert_int_equal(cpx_registry_commit(f->reg, "one", 1, 0, &g, dead, NULL, NULL),
			 CPX_E_CONFLICT);
	assert_int_equal(cpx_registry_commit(f->reg, "one", 2, 0, &h, dead, NULL, NULL), 0);
}

static int count(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	(void)ctx;
	(void)err;
	job->restarts++;
	return 0;
}

static void the_head_moves_down_when_it_is_the_one_that_was_meant(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job job = new_job("one"), got;

	job.ngens = 3;
	for (int i = 0; i < 3; i++) {
		job.gens[i].id.epoch = 1;
		job.gens[i].id.seq = (uint64_t)(3 - i);
		snprintf(job.gens[i].id.nonce, 17, "%016d", 3 - i);
	}
	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	assert_int_equal(cpx_registry_fall_back(f->reg, "one", "0000000000000002",
						"0000000000000001", NULL, NULL),
			 CPX_E_CONFLICT);
	assert_int_equal(cpx_registry_fall_back(f->reg, "one", "0000000000000003",
						"0000000000000009", NULL, NULL),
			 CPX_E_NOENT);
	assert_int_equal(cpx_registry_fall_back(f->reg, "one", "0000000000000003",
						"0000000000000002", &got, NULL),
			 0);
	assert_int_equal(got.ngens, 2);
	assert_int_equal(got.gens[0].id.seq, 2);
	assert_int_equal(got.gens[1].id.seq, 1);
}

static void no_change_is_lost_between_processes(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job job = new_job("one");

	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	for (int i = 0; i < WRITERS; i++)
		if (fork() == 0) {
			struct cpx_registry *own;

			if (open_one(f, &own) < 0)
				_exit(2);
			for (int k = 0; k < ROUNDS; k++)
				if (cpx_registry_change(own, "one", count, NULL, NULL, NULL) <
				    0)
					_exit(1);
			_exit(0);
		}
	for (int i = 0; i < WRITERS; i++) {
		int status;

		wait(&status);
		assert_int_equal(status, 0);
	}
	assert_int_equal(cpx_registry_get(f->reg, "one", &job, NULL), 0);
	assert_int_equal(job.restarts, WRITERS * ROUNDS);
}

static void sum_up(const struct cpx_reg_job *job, void *ctx)
{
	*(uint64_t *)ctx += job->epoch;
}

static void all_records_are_seen(void **state)
{
	struct fixture *f = *state;
	uint64_t sum = 0;

	/* more than a page of etcd's */
	for (int i = 1; i <= 600; i++) {
		char name[16];
		struct cpx_reg_job job;

		snprintf(name, sizeof(name), "j%d", i);
		job = new_job(name);
		job.epoch = (uint64_t)i;
		assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	}
	assert_int_equal(cpx_registry_each(f->reg, sum_up, &sum, NULL), 600);
	assert_int_equal(sum, 600 * 601 / 2);
}

static void a_crash_in_the_middle_leaves_the_old_record(void **state)
{
	struct fixture *f = *state;
	struct cpx_reg_job job = new_job("one"), got;
	char path[128];
	int fd;

	if (etcd_url())
		skip();
	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	snprintf(path, sizeof(path), "%s/one.tmp", f->dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "{\"for", 5), 5);
	close(fd);
	assert_int_equal(cpx_registry_get(f->reg, "one", &got, NULL), 0);
	assert_int_equal(cpx_registry_swap(f->reg, &job, NULL), 0);
	assert_int_equal(cpx_registry_get(f->reg, "one", &got, NULL), 0);
	assert_int_equal(got.version, 2);
}

static void nonsense_in_a_record_is_refused(void **state)
{
	static const char *const keys[] = { "epoch",  "state",	     "keep",	"name",
					    "keeper", "generations", "version", "uid" };
	static const char *const later[] = { "pins", "keep_hourly", "keep_daily" };
	struct cpx_reg_job job = new_job("one"), got;

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		json_t *j = cpx_reg_encode(&job);

		assert_int_equal(cpx_reg_decode(j, &got, NULL), 0);
		json_object_set_new(j, keys[i], json_string("x/"));
		assert_int_equal(cpx_reg_decode(j, &got, NULL), CPX_E_FORMAT);
		json_object_del(j, keys[i]);
		assert_int_equal(cpx_reg_decode(j, &got, NULL), CPX_E_FORMAT);
		json_decref(j);
	}
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
		json_t *j = cpx_reg_encode(&job);

		json_object_set_new(j, later[i], json_string("x/"));
		assert_int_equal(cpx_reg_decode(j, &got, NULL), CPX_E_FORMAT);
		json_object_del(j, later[i]); /* records of older versions have none */
		assert_int_equal(cpx_reg_decode(j, &got, NULL), 0);
		json_decref(j);
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_record_comes_back),
		T(only_the_newest_version_is_replaced),
		T(names_are_checked),
		T(lists_are_sorted),
		T(the_head_moves_forward_and_the_old_ones_fall_out),
		T(what_is_learned_comes_with_the_commit),
		cmocka_unit_test(what_nodes_decide_by_is_kept),
		T(a_commit_is_the_owners_under_its_lease),
		cmocka_unit_test(a_record_that_makes_no_sense_is_refused_and_an_old_one_taken),
		T(the_node_counts_its_failures_once),
		T(an_old_owner_cannot_commit),
		T(a_pinned_generation_is_kept_until_its_reader_ends),
		T(the_head_moves_down_when_it_is_the_one_that_was_meant),
		T(no_change_is_lost_between_processes),
		T(all_records_are_seen),
		T(a_crash_in_the_middle_leaves_the_old_record),
		T(nonsense_in_a_record_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
