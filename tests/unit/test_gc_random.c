/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random histories of one job: generations written, committed, refused and abandoned, by the
 * owner and by owners that have lost it; retention, readers with pins, cleaning, removal that
 * acts on a record read long ago, crashes in the middle of each of these.
 *
 * After each step all that the record names is whole and holds what was saved; what is pinned
 * is named. In the end all else is gone. SEED=n replays one history, HISTORIES=n makes more.
 */
#include "store_fixture.h"

#include <errno.h>

#include "../../scheduler/registry.h"

#define PAGES 48
#define STEPS 120
#define OWNERS 3
#define SAVED_MAX (2 * STEPS + 16)

/* One who is, or was, the owner. */
struct owner {
	struct cpx_store *s;
	long left; /* changing calls until it crashes; < 0: none */
	uint64_t epoch, seq;
	struct cpx_gen_id base; /* its head; job "": none, the next one is full */
	uint64_t mem[PAGES];
	bool dirty[PAGES];
	struct cpx_image_writer *w; /* begun and not committed */
	struct cpx_gen_id id;
	bool written; /* its manifest is there, the record does not name it yet */
	uint64_t at_begin[PAGES];
};

struct saved {
	struct cpx_gen_id id;
	uint64_t mem[PAGES];
};

struct history {
	uint64_t random, seed;
	char *dir, *regdir;
	struct cpx_registry *reg;
	struct cpx_store *s; /* that never crashes */
	struct owner owners[OWNERS];
	int current;
	struct saved saved[SAVED_MAX];
	size_t nsaved;
	uint64_t nonces, version;
	struct cpx_gen_id pins[CPX_REG_PINS];
	int npins;
	struct cpx_reg_job view; /* a record as it was some time ago */
	bool has_view;
	int commits, refused, crashes, copies, removed;
};

static uint64_t below(struct history *h, uint64_t n)
{
	return (next_random(&h->random) >> 20) % n;
}

static int crash(void *ctx, const struct cpx_io_op *op)
{
	struct owner *o = ctx;

	if (op->kind == CPX_IO_OPEN || op->kind == CPX_IO_READ || o->left < 0)
		return 0;
	if (o->left)
		o->left--;
	return o->left ? 0 : EIO;
}

static struct cpx_reg_job record_of(struct history *h)
{
	struct cpx_reg_job job;
	struct cpx_err err = { 0 };

	OK(cpx_registry_get(h->reg, "job", &job, &err));
	return job;
}

static void new_nonce(struct history *h, struct cpx_gen_id *id)
{
	snprintf(id->nonce, sizeof(id->nonce), "%016llx", (unsigned long long)++h->nonces);
}

static const struct saved *saved_of(const struct history *h, const struct cpx_gen_id *id)
{
	for (size_t i = 0; i < h->nsaved; i++)
		if (!strcmp(h->saved[i].id.nonce, id->nonce))
			return &h->saved[i];
	return NULL;
}

static void save(struct history *h, const struct cpx_gen_id *id, const uint64_t *mem)
{
	struct saved *s = &h->saved[h->nsaved++];

	s->id = *id;
	memcpy(s->mem, mem, sizeof(s->mem));
}

static int read_mem(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	const struct owner *o = ctx;

	(void)err;
	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = o->at_begin[(off + i) / CPX_PAGE] * 0x9e3779b97f4a7c15u;

		memcpy((uint8_t *)buf + i, &v, 8);
	}
	return 0;
}

/* --- what may happen ------------------------------------------------------------------ */

static void reopen(struct history *h, struct owner *o)
{
	const struct cpx_store_opts opts = { .uid = (uint32_t)-1, .gid = (uint32_t)-1 };
	struct cpx_err err = { 0 };

	cpx_image_abort(o->w);
	o->w = NULL;
	cpx_store_close(o->s);
	o->left = -1;
	OK(cpx_store_open_hooked(h->dir, &opts, (struct cpx_io_hook){ crash, o }, &o->s, &err));
}

/* A crash ends what an owner was about, and it knows its base no more. */
static void after_crash(struct history *h, struct owner *o)
{
	h->crashes++;
	o->left = 0; /* also for what the writer would clean up */
	reopen(h, o);
	memset(&o->base, 0, sizeof(o->base));
	o->written = false;
}

static int next_epoch(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	(void)ctx;
	(void)err;
	job->epoch++;
	return 0;
}

/* Another owner; the old one may live on and not know. */
static void take_over(struct history *h)
{
	struct owner *o = &h->owners[h->current = (h->current + 1) % OWNERS];
	struct cpx_reg_job job;
	struct cpx_err err = { 0 };

	OK(cpx_registry_change(h->reg, "job", next_epoch, NULL, &job, &err));
	o->left = 0;
	reopen(h, o);
	memset(&o->base, 0, sizeof(o->base));
	o->written = false;
	o->epoch = job.epoch;
	o->seq = job.ngens ? job.gens[0].id.seq : 0;
	if (job.ngens)
		memcpy(o->mem, saved_of(h, &job.gens[0].id)->mem, sizeof(o->mem));
}

static void run_job(struct history *h, struct owner *o)
{
	for (uint64_t i = below(h, 12); i; i--) {
		size_t page = below(h, PAGES);

		o->mem[page] = below(h, 6) ? ++h->version : 0;
		o->dirty[page] = true;
	}
}

static void begin(struct history *h, struct owner *o)
{
	const struct cpx_image_opts opts = { .codec = CPX_CODEC_LZ4,
					     .workers = 1,
					     .base = o->base.job[0] ? &o->base : NULL };
	bool full = !opts.base;
	int rc;

	if (o->w || o->written || !o->epoch)
		return;
	o->id = (struct cpx_gen_id){ .job = "job", .epoch = o->epoch, .seq = ++o->seq };
	new_nonce(h, &o->id);
	memcpy(o->at_begin, o->mem, sizeof(o->mem));
	rc = cpx_image_create(o->s, &o->id, &opts, &o->w, NULL);
	if (rc < 0) { /* the base of a stale owner may be gone */
		o->w = NULL;
		memset(&o->base, 0, sizeof(o->base));
		return;
	}
	for (size_t i = 0; rc == 0 && i < PAGES; i++)
		if (full || o->dirty[i])
			rc = cpx_image_put(o->w, 1, i * CPX_PAGE, CPX_PAGE, read_mem, o, NULL);
		else
			rc = cpx_image_inherit(o->w, 1, i * CPX_PAGE, CPX_PAGE, NULL);
	assert_int_equal(rc, 0);
	memset(o->dirty, 0, sizeof(o->dirty));
}

static void write_it(struct history *h, struct owner *o)
{
	struct cpx_state *st;
	int rc;

	if (!o->w)
		return;
	if (!below(h, 5))
		o->left = 1 + (long)below(h, 10);
	st = some_state(7);
	rc = cpx_image_commit(o->w, st, NULL, NULL, NULL);
	cpx_state_free(st);
	o->w = NULL;
	if (rc < 0 || o->left == 0) {
		after_crash(h, o);
		return;
	}
	o->left = -1;
	o->written = true;
	save(h, &o->id, o->at_begin);
}

static void commit(struct history *h, struct owner *o)
{
	struct cpx_reg_gen g = { .id = o->id,
				 .realtime_ns = (int64_t)h->nonces * 1200000000000 };
	struct cpx_gen_id dead[CPX_REG_GENS];
	int rc;

	if (!o->written)
		return;
	if (!below(h, 12)) { /* dies in between */
		after_crash(h, o);
		return;
	}
	rc = cpx_registry_commit(h->reg, "job", o->epoch, 0, &g, dead, NULL, NULL);
	assert_true(rc >= 0 || rc == CPX_E_CONFLICT);
	/* only the newest epoch commits */
	assert_true(rc < 0 || o == &h->owners[h->current]);
	o->written = false;
	if (rc >= 0) {
		h->commits++;
		o->base = o->id;
		return;
	}
	h->refused++;
	memset(&o->base, 0, sizeof(o->base));
	if (below(h, 2))
		cpx_store_discard(o->s, &o->id, true, NULL);
}

static void clean(struct history *h, struct owner *o)
{
	struct cpx_gen_id old = o->base, copy = o->base;
	struct cpx_clean_stats st;
	int rc;

	if (o->w || o->written || !old.job[0])
		return;
	new_nonce(h, &copy);
	if (!below(h, 4))
		o->left = 1 + (long)below(h, 8);
	rc = cpx_image_clean(o->s, &old, &copy, CPX_CODEC_LZ4, UINT64_MAX, &st, NULL);
	if (o->left == 0) {
		after_crash(h, o);
		return;
	}
	o->left = -1;
	if (rc != 1)
		return;
	save(h, &copy, saved_of(h, &old)->mem);
	if (!below(h, 8)) {
		after_crash(h, o);
		return;
	}
	rc = cpx_registry_replace_head(h->reg, "job", o->epoch, &old, &copy, NULL, NULL);
	if (rc < 0) {
		cpx_store_discard(o->s, &copy, true, NULL);
		return;
	}
	h->copies++;
	o->base = copy;
	cpx_store_discard(o->s, &old, false, NULL);
}

static int gc_with(struct history *h, struct cpx_store *s, const struct cpx_reg_job *job)
{
	struct cpx_gen_id kept[CPX_REG_GENS];
	struct cpx_gc gc;
	int rc;

	for (uint32_t i = 0; i < job->ngens; i++)
		kept[i] = job->gens[i].id;
	rc = cpx_store_gc(s, "job", kept, job->ngens, false, &gc, NULL);
	h->removed += (int)gc.dead_files;
	return rc;
}

/* By anybody, with the record as it is or as it was; it may crash. */
static void collect(struct history *h, struct owner *o)
{
	struct cpx_reg_job job = record_of(h);

	if (!o->s)
		return;
	if (!below(h, 3))
		o->left = 1 + (long)below(h, 5);
	gc_with(h, o->s, h->has_view && below(h, 2) ? &h->view : &job);
	if (o->left == 0)
		after_crash(h, o);
	o->left = -1;
}

static int set_keep(struct cpx_reg_job *job, void *ctx, struct cpx_err *err)
{
	(void)err;
	job->keep = *(struct cpx_retention *)ctx;
	return 0;
}

static void change_retention(struct history *h)
{
	struct cpx_retention r = { .last = 1 + (uint32_t)below(h, 4),
				   .hourly = (uint32_t)below(h, 3),
				   .daily = (uint32_t)below(h, 2) };
	struct cpx_err err = { 0 };

	OK(cpx_registry_change(h->reg, "job", set_keep, &r, NULL, &err));
	if (below(h, 2))
		OK(cpx_registry_drop(h->reg, "job", NULL, NULL, &err));
}

static void pin_or_unpin(struct history *h)
{
	struct cpx_reg_job job = record_of(h);
	struct cpx_reg_gen g;
	struct cpx_err err = { 0 };

	if (h->npins && below(h, 2)) {
		OK(cpx_registry_unpin(h->reg, "job", &h->pins[--h->npins], &err));
		return;
	}
	if (!job.ngens || h->npins == 3)
		return;
	g = job.gens[below(h, job.ngens)];
	OK(cpx_registry_pin(h->reg, "job", g.id.epoch, g.id.seq, "test", &g, &err));
	h->pins[h->npins++] = g.id;
}

static void step(struct history *h)
{
	struct owner *o = &h->owners[below(h, 3) ? h->current : (int)below(h, OWNERS)];

	switch (below(h, 16)) {
	case 0:
		take_over(h);
		break;
	case 1:
		change_retention(h);
		break;
	case 2:
	case 3:
		pin_or_unpin(h);
		break;
	case 4:
	case 5:
		collect(h, o);
		break;
	case 6:
		h->view = record_of(h);
		h->has_view = true;
		break;
	case 7:
	case 8:
		clean(h, o);
		break;
	case 9:
	case 10:
		run_job(h, o);
		begin(h, o);
		break;
	case 11:
	case 12:
		write_it(h, o);
		break;
	default:
		run_job(h, o);
		begin(h, o);
		write_it(h, o);
		commit(h, o);
	}
}

/* --- what must hold ------------------------------------------------------------------- */

static void check_content(struct history *h, struct cpx_image *img, const struct saved *want)
{
	struct cpx_err err = { 0 };

	for (size_t i = 0; i < PAGES; i++) {
		uint64_t v;

		OK(cpx_image_read(img, 1, i * CPX_PAGE + 8, &v, 8, &err));
		if (v != want->mem[i] * 0x9e3779b97f4a7c15u)
			fail_msg("SEED=%llu: page %zu is not as it was saved",
				 (unsigned long long)h->seed, i);
	}
}

static void check_record(struct history *h, int at)
{
	struct cpx_reg_job job = record_of(h);
	struct cpx_err err = { 0 };

	for (uint32_t i = 0; i < job.ngens; i++) {
		struct cpx_image *img;

		if (cpx_image_open(h->s, &job.gens[i].id, &img, &err) < 0 ||
		    cpx_image_verify(img, 1, &err) < 0)
			fail_msg("SEED=%llu step %d: %s", (unsigned long long)h->seed, at,
				 err.msg);
		check_content(h, img, saved_of(h, &job.gens[i].id));
		cpx_image_close(img);
	}
	for (int p = 0; p < h->npins; p++) {
		bool named = false;

		for (uint32_t i = 0; i < job.ngens; i++)
			named |= !strcmp(job.gens[i].id.nonce, h->pins[p].nonce);
		if (!named)
			fail_msg("SEED=%llu step %d: what is pinned is not named any more",
				 (unsigned long long)h->seed, at);
	}
}

/* No pins, one more generation, one removal: the directory holds what the record needs. */
static void check_end(struct history *h)
{
	struct cpx_err err = { 0 };
	struct cpx_reg_job job;
	struct owner *o;
	int files = 0;

	while (h->npins)
		OK(cpx_registry_unpin(h->reg, "job", &h->pins[--h->npins], &err));
	for (int i = 0; i < OWNERS; i++) {
		h->owners[i].left = 0;
		cpx_image_abort(h->owners[i].w);
		h->owners[i].w = NULL;
	}
	do {
		take_over(h);
		o = &h->owners[h->current];
		run_job(h, o);
		begin(h, o);
		write_it(h, o);
		commit(h, o);
		job = record_of(h);
	} while (!job.ngens || strcmp(job.gens[0].id.nonce, o->id.nonce) != 0);
	OK(gc_with(h, h->s, &job));
	check_record(h, STEPS);
	for (uint32_t i = 0; i < job.ngens; i++) {
		struct cpx_manifest m;
		size_t len;

		OK(cpx_image_load_manifest(h->s, &job.gens[i].id, false, &m, &len, &err));
		files++;
		/* each pack counts with the oldest generation that needs it */
		for (uint32_t p = 0; p < m.npacks; p++) {
			bool again = false;

			for (uint32_t k = i + 1; k < job.ngens && !again; k++) {
				struct cpx_manifest n;

				OK(cpx_image_load_manifest(h->s, &job.gens[k].id, false, &n,
							   &len, &err));
				for (uint32_t q = 0; q < n.npacks; q++)
					again |= !strcmp(n.packs[q].nonce, m.packs[p].nonce) &&
						 n.packs[q].k == m.packs[p].k;
				cpx_manifest_free(&n);
			}
			files += !again;
		}
		cpx_manifest_free(&m);
	}
	if (count_files(h->s, "jobs/job") != files)
		fail_msg("SEED=%llu: %d files are left, %d are needed",
			 (unsigned long long)h->seed, count_files(h->s, "jobs/job"), files);
}

static void play(uint64_t seed, int *sums)
{
	struct history *h = calloc(1, sizeof(*h));
	struct cpx_reg_job job = { .name = "job", .keep = { .last = 2 }, .every_ns = -1 };
	struct cpx_err err = { 0 };

	h->seed = seed;
	h->random = seed * 0x9e3779b97f4a7c15u + 1;
	h->dir = make_dir(fast_base());
	h->regdir = make_dir(fast_base());
	h->s = open_dir(h->dir);
	OK(cpx_registry_open(h->regdir, NULL, &h->reg, &err));
	OK(cpx_registry_swap(h->reg, &job, &err));
	take_over(h);
	for (int i = 0; i < STEPS; i++) {
		step(h);
		check_record(h, i);
	}
	check_end(h);
	sums[0] += h->commits;
	sums[1] += h->refused;
	sums[2] += h->crashes;
	sums[3] += h->copies;
	sums[4] += h->removed;
	for (int i = 0; i < OWNERS; i++)
		cpx_store_close(h->owners[i].s);
	cpx_store_close(h->s);
	cpx_registry_close(h->reg);
	remove_tree(h->dir);
	remove_tree(h->regdir);
	free(h);
}

static void what_is_needed_stays_and_all_else_goes(void **state)
{
	const char *seed = getenv("SEED"), *n = getenv("HISTORIES");
	uint64_t first = seed ? strtoull(seed, NULL, 10) : 1;
	uint64_t count = seed ? 1 : n ? strtoull(n, NULL, 10) : 60;
	int sums[5] = { 0 };

	(void)state;
	for (uint64_t i = first; i < first + count; i++)
		play(i, sums);
	print_message("%d commits, %d refused, %d crashes, %d copies, %d files removed\n",
		      sums[0], sums[1], sums[2], sums[3], sums[4]);
	if (!seed)
		for (int i = 0; i < 5; i++)
			assert_true(sums[i] > (int)count / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_needed_stays_and_all_else_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
