/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gossip and offers over UDP: what arrives, and what a stranger or an echo achieves: nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../chpox/base/err.h"
#include "../../scheduler/gossip_net.h"

static const struct cpx_load_figures figures = {
	.mean = 3, .upper = 4, .speed = 10000, .ncpus = 2, .mem_total = 100, .mem_free = 60
};
static const struct cpx_cluster_key ours = { { 1, 2, 3 } }, other = { { 1, 2, 4 } };

struct seen {
	int gossip, offers;
	struct cpx_gossip_msg msg;
	struct cpx_offer offer;
};

static void on_gossip(void *ctx, const struct cpx_gossip_msg *m)
{
	struct seen *s = ctx;

	s->gossip++;
	s->msg = *m;
}

static void on_offer(void *ctx, const struct cpx_offer *o)
{
	struct seen *s = ctx;

	s->offers++;
	s->offer = *o;
}

static const struct cpx_gossip_net_ops ops = { on_gossip, on_offer };

static struct sockaddr_in loopback(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return a;
}

static struct cpx_gossip_net *net(uv_loop_t *loop, const struct cpx_cluster_key *key,
				  struct seen *s)
{
	struct sockaddr_in at = loopback(0);
	struct cpx_gossip_net *g = NULL;

	assert_int_equal(
		cpx_gossip_net_open(loop, key, (struct sockaddr *)&at, &ops, s, &g, NULL), 0);
	assert_int_not_equal(cpx_gossip_net_port(g), 0);
	return g;
}

static struct cpx_gossip_msg some_gossip(void)
{
	struct cpx_gossip g;
	struct cpx_gossip_msg m;

	cpx_gossip_init(&g, 1, 0);
	cpx_gossip_own(&g, 7, &figures, 0);
	cpx_gossip_make(&g, &m);
	cpx_gossip_free(&g);
	return m;
}

static struct cpx_offer some_offer(void)
{
	struct cpx_offer o = { .from = { .node = 1, .life = 7, .f = figures },
			       .target = 3,
			       .epoch = 5,
			       .used_ms = 1234567890123,
			       .need = { 100, 2000, 3000 } };

	strcpy(o.job, "sim.1");
	return o;
}

/* Until as much has come as is to come, or none comes any more. */
static void turn(uv_loop_t *loop, const struct cpx_gossip_net *g, uint64_t datagrams)
{
	int i;

	for (i = 0; i < 2000 &&
		    cpx_gossip_net_count(g).heard + cpx_gossip_net_count(g).refused < datagrams;
	     i++) {
		uv_run(loop, UV_RUN_NOWAIT);
		usleep(1000);
	}
}

static void end(uv_loop_t *loop, struct cpx_gossip_net *a, struct cpx_gossip_net *b)
{
	cpx_gossip_net_close(a);
	cpx_gossip_net_close(b);
	uv_run(loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(loop), 0);
}

static void what_is_said_arrives(void **state)
{
	struct seen sa = { 0 }, sb = { 0 };
	struct cpx_gossip_msg m = some_gossip();
	struct cpx_offer o = some_offer();
	struct cpx_gossip_net *a, *b;
	struct sockaddr_in to;
	uv_loop_t loop;

	(void)state;
	uv_loop_init(&loop);
	a = net(&loop, &ours, &sa);
	b = net(&loop, &ours, &sb);
	to = loopback(cpx_gossip_net_port(b));
	assert_int_equal(cpx_gossip_net_send(a, (struct sockaddr *)&to, &m), 0);
	assert_int_equal(cpx_gossip_net_offer(a, (struct sockaddr *)&to, &o), 0);
	turn(&loop, b, 2);
	assert_int_equal(sb.gossip, 1);
	assert_int_equal(sb.msg.from, 1);
	assert_memory_equal(&sb.msg.e[0].f, &figures, sizeof(figures));
	assert_int_equal(sb.offers, 1);
	assert_string_equal(sb.offer.job, "sim.1");
	assert_int_equal(sb.offer.used_ms, 1234567890123);
	assert_int_equal(sb.offer.target, 3);
	assert_int_equal(sb.offer.epoch, 5);
	assert_int_equal(sb.offer.need.image, 3000);
	assert_memory_equal(&sb.offer.from.f, &figures, sizeof(figures));
	end(&loop, a, b);
}

static void a_stranger_and_an_echo_are_not_heard(void **state)
{
	struct seen sa = { 0 }, sb = { 0 };
	struct cpx_gossip_msg m = some_gossip();
	struct cpx_offer o = some_offer();
	struct cpx_gossip_net *a, *b, *stranger;
	struct sockaddr_in to, me = loopback(0);
	socklen_t len = sizeof(me);
	uint8_t d[2000] = { 0 };
	uv_loop_t loop;
	ssize_t n;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), i;

	(void)state;
	uv_loop_init(&loop);
	a = net(&loop, &ours, &sa);
	b = net(&loop, &ours, &sb);
	stranger = net(&loop, &other, &sa);
	to = loopback(cpx_gossip_net_port(b));
	assert_int_equal(cpx_gossip_net_send(stranger, (struct sockaddr *)&to, &m), 0);
	assert_int_equal(cpx_gossip_net_offer(stranger, (struct sockaddr *)&to, &o), 0);
	/* one listens on the wire, and sends it again: as it was, cut, longer, too long */
	assert_int_equal(bind(fd, (struct sockaddr *)&me, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&me, &len), 0);
	assert_int_equal(cpx_gossip_net_offer(a, (struct sockaddr *)&me, &o), 0);
	n = recv(fd, d, sizeof(d), 0);
	assert_true(n > 100 && n <= CPX_OFFER_MAX);
	for (i = 0; i < 2; i++)
		assert_int_equal(sendto(fd, d, (size_t)n, 0, (struct sockaddr *)&to, len), n);
	sendto(fd, d, (size_t)n - 1, 0, (struct sockaddr *)&to, len);
	sendto(fd, d, (size_t)n + 1, 0, (struct sockaddr *)&to, len);
	sendto(fd, d, sizeof(d), 0, (struct sockaddr *)&to, len);
	d[30] ^= 1;
	sendto(fd, d, (size_t)n, 0, (struct sockaddr *)&to, len);
	turn(&loop, b, 8);
	assert_int_equal(sb.gossip, 0);
	assert_int_equal(sb.offers, 1);
	assert_int_equal(cpx_gossip_net_count(b).refused, 7);
	close(fd);
	cpx_gossip_net_close(stranger);
	end(&loop, a, b);
}

static void a_port_that_is_taken_is_said(void **state)
{
	struct cpx_gossip_net *a, *taken = NULL;
	struct seen s = { 0 };
	struct sockaddr_in at;
	struct cpx_err err = { 0 };
	uv_loop_t loop;

	(void)state;
	uv_loop_init(&loop);
	a = net(&loop, &ours, &s);
	at = loopback(cpx_gossip_net_port(a));
	assert_int_equal(cpx_gossip_net_open(&loop, &ours, (struct sockaddr *)&at, &ops, &s,
					     &taken, &err),
			 CPX_E_SYS);
	assert_null(taken);
	assert_non_null(strstr(err.msg, "gossip"));
	end(&loop, a, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_said_arrives),
		cmocka_unit_test(a_stranger_and_an_echo_are_not_heard),
		cmocka_unit_test(a_port_that_is_taken_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
