/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams of gossip, from any bytes, rightly authenticated or not. */
#include <stdlib.h>
#include <string.h>

#include "../../scheduler/gossip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The tag is what stands there: the decoder behind it is what is tried. */
static void any_mac(void *key, const uint8_t *d, size_t len, uint8_t *tag)
{
	(void)key;
	memcpy(tag, d + len, CPX_GOSSIP_TAG);
}

static void no_mac(void *key, const uint8_t *d, size_t len, uint8_t *tag)
{
	(void)key;
	(void)d;
	(void)len;
	memset(tag, 0x5a, CPX_GOSSIP_TAG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpx_gossip_msg m, again;
	struct cpx_gossip g;
	uint8_t out[CPX_GOSSIP_MAX];
	size_t len;

	if (cpx_gossip_decode(data, size, 1000000, no_mac, NULL, &m, NULL) == 0 &&
	    data[size - 1] != 0x5a)
		abort();
	memset(&m, 0, sizeof(m));
	if (cpx_gossip_decode(data, size, 1000000, any_mac, NULL, &m, NULL) < 0)
		return 0;
	len = cpx_gossip_encode(&m, 1000000, no_mac, NULL, out);
	if (len != size ||
	    cpx_gossip_decode(out, len, 1000000, no_mac, NULL, &again, NULL) < 0 ||
	    memcmp(&m, &again, sizeof(m)))
		abort();
	cpx_gossip_init(&g, 1, 0);
	cpx_gossip_take(&g, &m);
	if (cpx_gossip_take(&g, &m) > 0)
		abort();
	cpx_gossip_free(&g);
	return 0;
}
