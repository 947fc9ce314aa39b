/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random histories of generations against a simple model: each puts, inherits and shares at
 * random, and must then read as the model says. The seeds are fixed.
 */
#include "store_fixture.h"

#define SPACES 3
#define PAGES 4500
#define FIRST_PAGE (CPX_SEG_PAGES - 2000) /* the spaces lie across a segment's end */
#define OPS 14
#define GENERATIONS 14

enum what { PUT, INHERIT, SHARE };

struct op {
	enum what what;
	uint32_t space, first, n, from_space, from;
	uint64_t tag; /* of a put: pages get ids made of it */
};

/* What a page holds: 0 is zero. */
struct model {
	uint64_t id[SPACES][PAGES];
};

static uint64_t id_of(uint64_t tag, uint32_t page)
{
	uint64_t x = tag * 1000003 + page + 1;

	next_random(&x);
	return x % 4 ? x : 0; /* one in four is zero */
}

static void page_of(uint64_t id, uint8_t *p)
{
	uint64_t x = id;

	memset(p, 0, CPX_PAGE);
	for (size_t i = 0; id && i < CPX_PAGE; i += 8) {
		uint64_t v = next_random(&x) | 1;

		memcpy(p + i, i % 64 < 24 ? &v : &id, 8);
	}
}

static int read_op(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	const struct op *o = ctx;

	(void)err;
	for (size_t i = 0; i < len; i += CPX_PAGE) {
		uint32_t page = (uint32_t)((off + i) / CPX_PAGE - FIRST_PAGE);

		page_of(id_of(o->tag, page), (uint8_t *)buf + i);
	}
	return 0;
}

static void make_op(struct op *o, uint64_t *x, bool first_generation)
{
	uint64_t r = next_random(x) >> 20;

	*o = (struct op){ .space = (uint32_t)(r % SPACES), .tag = next_random(x) % 1000000 };
	o->what = r / 8 % 4 == 0 && o->space	    ? SHARE
		  : r / 32 % 2 && !first_generation ? INHERIT
						    : PUT;
	o->first = (uint32_t)(next_random(x) % PAGES);
	o->n = 1 + (uint32_t)(next_random(x) % (o->what == PUT ? 300 : PAGES));
	if (o->n > PAGES - o->first)
		o->n = PAGES - o->first;
	if (o->what == SHARE) {
		o->from_space = (uint32_t)(next_random(x) % o->space);
		o->from = (uint32_t)(next_random(x) % (PAGES - o->n + 1));
	}
}

static uint64_t at(uint32_t page)
{
	return (uint64_t)(FIRST_PAGE + page) * CPX_PAGE;
}

static int do_op(struct cpx_image_writer *w, struct op *o, struct cpx_err *err)
{
	uint64_t len = (uint64_t)o->n * CPX_PAGE;

	if (o->what == INHERIT)
		return cpx_image_inherit(w, o->space, at(o->first), len, err);
	if (o->what == SHARE)
		return cpx_image_share(w, o->space, at(o->first), len, o->from_space,
				       at(o->from), err);
	return cpx_image_put(w, o->space, at(o->first), len, read_op, o, err);
}

static void model_op(struct model *new, const struct model *old, const struct op *o)
{
	for (uint32_t i = 0; i < o->n; i++) {
		uint64_t *to = &new->id[o->space][o->first + i];

		if (o->what == PUT)
			*to = id_of(o->tag, o->first + i);
		else if (o->what == INHERIT)
			*to = old->id[o->space][o->first + i];
		else
			*to = new->id[o->from_space][o->from + i];
	}
}

struct check {
	const struct model *m;
	uint8_t seen[SPACES][PAGES];
	pthread_mutex_t lock;
};

static int check_page(void *ctx, uint32_t space, uint64_t off, const void *data, size_t len,
		      struct cpx_err *err)
{
	struct check *c = ctx;
	uint8_t want[CPX_PAGE];

	for (size_t i = 0; i < len; i += CPX_PAGE) {
		uint64_t page = (off + i) / CPX_PAGE - FIRST_PAGE;

		if (space >= SPACES || page >= PAGES)
			return cpx_err_set(err, CPX_E_INVAL, "a page nobody asked for");
		page_of(c->m->id[space][page], want);
		if (memcmp(want, (const uint8_t *)data + i, CPX_PAGE) != 0)
			return cpx_err_set(err, CPX_E_INVAL, "page %d of space %u is wrong",
					   (int)page, space);
		pthread_mutex_lock(&c->lock);
		c->seen[space][page]++;
		pthread_mutex_unlock(&c->lock);
	}
	return 0;
}

static void compare(struct cpx_store *s, uint64_t seq, const struct model *m)
{
	struct check *c = calloc(1, sizeof(*c));
	struct cpx_extent all[SPACES];
	struct cpx_gen_id id = gen(seq);
	struct cpx_err err = { 0 };
	struct cpx_image *img;

	pthread_mutex_init(&c->lock, NULL);
	c->m = m;
	for (uint32_t i = 0; i < SPACES; i++)
		all[i] = (struct cpx_extent){ i, at(0), (uint64_t)PAGES * CPX_PAGE };
	OK(cpx_image_open(s, &id, &img, &err));
	OK(cpx_image_verify(img, 2, &err));
	OK(cpx_image_scan(img, all, SPACES, 2, check_page, c, &err));
	for (int i = 0; i < SPACES; i++)
		for (int k = 0; k < PAGES; k++)
			if (c->seen[i][k] != (m->id[i][k] ? 1 : 0))
				fail_msg("page %d of space %d was handed over %d times", k, i,
					 c->seen[i][k]);
	cpx_image_close(img);
	free(c);
}

static void one_generation(struct cpx_store *s, uint64_t seq, struct model *m, uint64_t *x)
{
	struct cpx_gen_id id = gen(seq), base = gen(seq - 1);
	const struct cpx_image_opts opts = { .codec = (enum cpx_codec)(seq % 3),
					     .base = seq > 1 ? &base : NULL };
	struct model *new = calloc(1, sizeof(*new));
	struct cpx_state *st = some_state((uint32_t)seq);
	struct cpx_image_writer *w;
	struct cpx_err err = { 0 };
	struct op ops[OPS];

	OK(cpx_image_create(s, &id, &opts, &w, &err));
	for (uint32_t i = 0; i < OPS; i++) {
		make_op(&ops[i], x, seq == 1);
		/* most of it stays as it was, as in real life */
		if (i < SPACES && seq > 1)
			ops[i] = (struct op){ .what = INHERIT, .space = i, .n = PAGES };
		OK(do_op(w, &ops[i], &err));
	}
	OK(cpx_image_commit(w, st, NULL, NULL, &err));
	for (uint32_t space = 0; space < SPACES; space++)
		for (int i = 0; i < OPS; i++)
			if (ops[i].space == space)
				model_op(new, m, &ops[i]);
	*m = *new;
	cpx_state_free(st);
	free(new);
}

static void random_histories(void **state)
{
	struct cpx_err err = { 0 };

	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct model *m = calloc(1, sizeof(*m));
		char *dir = make_dir(fast_base());
		struct cpx_store *s = open_dir(dir);
		uint64_t x = seed * 0x9e3779b97f4a7c15u;

		for (uint64_t seq = 1; seq <= GENERATIONS; seq++) {
			struct cpx_gen_id old = gen(seq - 1);

			one_generation(s, seq, m, &x);
			compare(s, seq, m);
			if (seq > 1)
				OK(cpx_store_remove(s, &old, &err));
			compare(s, seq, m);
		}
		cpx_store_close(s);
		remove_tree(dir);
		free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_histories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
