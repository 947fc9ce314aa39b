/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gossip: what is newer wins, what is not authentic or seen before changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../chpox/base/err.h"
#include "../../scheduler/gossip.h"

static void toy_mac(void *key, const uint8_t *d, size_t len, uint8_t *tag)
{
	uint64_t h = *(uint64_t *)key;
	size_t i;

	for (i = 0; i < len; i++)
		h = (h ^ d[i]) * 1099511628211u;
	for (i = 0; i < CPX_GOSSIP_TAG; i++)
		tag[i] = (uint8_t)(h >> (i % 8 * 8));
}

static const struct cpx_load_figures figures = {
	.mean = 3, .upper = 4, .speed = 10000, .ncpus = 2, .mem_total = 100, .mem_free = 60
};

static size_t datagram(struct cpx_gossip *g, int64_t now, uint8_t *out)
{
	uint64_t key = 42;
	struct cpx_gossip_msg m;

	cpx_gossip_make(g, &m);
	return cpx_gossip_encode(&m, now, toy_mac, &key, out);
}

static int hear(struct cpx_gossip *g, const uint8_t *d, size_t len, int64_t now)
{
	uint64_t key = 42;
	struct cpx_gossip_msg m;
	int rc = cpx_gossip_decode(d, len, now, toy_mac, &key, &m, NULL);

	return rc < 0 ? rc : cpx_gossip_take(g, &m);
}

static void figures_arrive_with_their_age(void **state)
{
	struct cpx_gossip a, b, c;
	uint8_t d[CPX_GOSSIP_MAX];
	size_t len;

	(void)state;
	cpx_gossip_init(&a, 1, 0);
	cpx_gossip_init(&b, 2, 0);
	cpx_gossip_init(&c, 300, 0);
	cpx_gossip_own(&a, 7, &figures, 1000);
	len = datagram(&a, 1500, d);
	assert_int_equal(hear(&b, d, len, 990000), 1);
	assert_int_equal(cpx_gossip_get(&b, 1)->at_ms, 989500);
	assert_memory_equal(&cpx_gossip_get(&b, 1)->f, &figures, sizeof(figures));
	/* told on, two more seconds old */
	cpx_gossip_own(&b, 8, &figures, 991500);
	len = datagram(&b, 991500, d);
	assert_int_equal(hear(&c, d, len, 50), 2);
	assert_int_equal(cpx_gossip_get(&c, 1)->at_ms, -1950);
	assert_null(cpx_gossip_get(&c, 3));
	assert_null(cpx_gossip_get(&c, 9999));
	cpx_gossip_free(&a);
	cpx_gossip_free(&b);
	cpx_gossip_free(&c);
}

static void old_news_change_nothing(void **state)
{
	struct cpx_gossip a, b;
	uint8_t d[CPX_GOSSIP_MAX], e[CPX_GOSSIP_MAX];
	size_t dl, el;

	(void)state;
	cpx_gossip_init(&a, 1, 0);
	cpx_gossip_init(&b, 2, 0);
	cpx_gossip_own(&a, 7, &figures, 1000);
	dl = datagram(&a, 1000, d);
	cpx_gossip_own(&a, 7, &figures, 2000);
	el = datagram(&a, 2000, e);
	assert_int_equal(hear(&b, e, el, 2000), 1);
	/* delayed, doubled, and recorded to be sent again */
	assert_int_equal(hear(&b, d, dl, 2500), CPX_E_CONFLICT);
	assert_int_equal(hear(&b, e, el, 9000), CPX_E_CONFLICT);
	assert_int_equal(cpx_gossip_get(&b, 1)->at_ms, 2000);
	/* a dead life is not told on, nor believed again; the next one is */
	cpx_gossip_forget(&b, 1, 7);
	cpx_gossip_own(&b, 5, &figures, 2600);
	assert_int_equal(datagram(&b, 2600, d), 24 + 56 + 32);
	a.sent = 0;
	cpx_gossip_own(&a, 9, &figures, 3000);
	el = datagram(&a, 3000, e);
	assert_int_equal(hear(&b, e, el, 3000), 1);
	assert_int_equal(cpx_gossip_get(&b, 1)->life, 9);
	cpx_gossip_free(&a);
	cpx_gossip_free(&b);
}

static void a_datagram_is_the_freshest_of_many(void **state)
{
	struct cpx_gossip g;
	struct cpx_gossip_msg m;
	uint8_t d[CPX_GOSSIP_MAX];
	uint32_t i;

	(void)state;
	cpx_gossip_init(&g, 1, 0);
	cpx_gossip_own(&g, 1, &figures, 5000);
	for (i = 2; i < 500; i++) {
		m = (struct cpx_gossip_msg){ .from = i, .seq = 1, .n = 1 };
		m.e[0] = (struct cpx_gossip_entry){
			.node = i, .life = 1, .f = figures, .at_ms = (int64_t)i * 7 % 499
		};
		assert_int_equal(cpx_gossip_take(&g, &m), 1);
	}
	assert_in_range(datagram(&g, 5000, d), 1000, CPX_GOSSIP_MAX);
	cpx_gossip_make(&g, &m);
	assert_int_equal(m.n, CPX_GOSSIP_WINDOW);
	assert_int_equal(m.e[0].node, 1);
	for (i = 2; i < m.n; i++)
		assert_true(m.e[i - 1].at_ms >= m.e[i].at_ms);
	assert_in_range(m.e[CPX_GOSSIP_WINDOW - 1].at_ms, 478, 481);
	cpx_gossip_free(&g);
}

static void the_oldest_figures_give_way(void **state)
{
	struct cpx_gossip_msg m;
	struct cpx_gossip g;
	uint32_t i, known = 0;

	(void)state;
	cpx_gossip_init(&g, 500, 8);
	for (i = 1; i < 500; i++) {
		m = (struct cpx_gossip_msg){ .from = i, .seq = 5, .n = 1 };
		m.e[0] = (struct cpx_gossip_entry){
			.node = i, .life = 1, .f = figures, .at_ms = 1 + (int64_t)i * 7 % 499
		};
		assert_in_range(cpx_gossip_take(&g, &m), 0, 1);
	}
	assert_int_equal(cpx_gossip_own(&g, 3, &figures, 0), 0);
	for (i = 1; i < 500; i++)
		if (cpx_gossip_get(&g, i)) {
			known++;
			assert_in_range(cpx_gossip_get(&g, i)->at_ms, 493, 499);
			assert_int_equal(cpx_gossip_get(&g, i)->node, i);
		}
	assert_int_equal(known, 7);
	assert_non_null(cpx_gossip_get(&g, 500));
	/* what was heard from one that had to give way is still known to have been heard */
	m.from = m.e[0].node = 1;
	m.e[0].at_ms = 1000;
	assert_int_equal(cpx_gossip_take(&g, &m), CPX_E_CONFLICT);
	m.seq++;
	assert_int_equal(cpx_gossip_take(&g, &m), 1);
	cpx_gossip_free(&g);
}

static void a_strangers_word_is_refused(void **state)
{
	struct cpx_gossip a, b;
	uint8_t d[CPX_GOSSIP_MAX], x[CPX_GOSSIP_MAX + 1];
	size_t len, i;

	(void)state;
	cpx_gossip_init(&a, 1, 0);
	cpx_gossip_init(&b, 2, 0);
	cpx_gossip_own(&a, 7, &figures, 1000);
	len = datagram(&a, 1000, d);
	for (i = 0; i < len * 8; i++) {
		memcpy(x, d, len);
		x[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_true(hear(&b, x, len, 1000) < 0);
	}
	for (i = 0; i < len; i++)
		assert_true(hear(&b, d, i, 1000) < 0);
	memset(x, 0, sizeof(x));
	assert_int_equal(hear(&b, x, sizeof(x), 1000), CPX_E_FORMAT);
	assert_null(cpx_gossip_get(&b, 1));
	assert_int_equal(hear(&b, d, len, 1000), 1);
	assert_int_equal(cpx_gossip_init(&a, 0, 0), CPX_E_INVAL);
	cpx_gossip_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(figures_arrive_with_their_age),
		cmocka_unit_test(old_news_change_nothing),
		cmocka_unit_test(a_datagram_is_the_freshest_of_many),
		cmocka_unit_test(the_oldest_figures_give_way),
		cmocka_unit_test(a_strangers_word_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
