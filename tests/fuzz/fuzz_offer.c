/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Offers to the placer and what the meter reads, from any bytes. */
#include <stdlib.h>
#include <string.h>

#include "../../scheduler/meter.h"
#include "../../scheduler/offer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The tag is what stands there: the decoder behind it is what is tried. */
static void any_mac(void *key, const uint8_t *d, size_t len, uint8_t *tag)
{
	(void)key;
	memcpy(tag, d + len, CPX_GOSSIP_TAG);
}

static void own_mac(void *key, const uint8_t *d, size_t len, uint8_t *tag)
{
	(void)key;
	(void)d;
	memset(tag, (int)(len & 0x7f), CPX_GOSSIP_TAG);
}

static void meter(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	uint32_t total, available;

	if (!text)
		return;
	memcpy(text, data, size);
	text[size] = 0;
	cpx_meter_runnable(text, &total);
	if (cpx_meter_memory(text, &total, &available) == 0 && available > total)
		abort();
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpx_offer o, again;
	uint8_t out[CPX_OFFER_MAX];
	size_t len;

	meter(data, size);
	memset(&o, 0, sizeof(o));
	memset(&again, 0, sizeof(again));
	if (cpx_offer_decode(data, size, 1000000, any_mac, NULL, &o, NULL) < 0)
		return 0;
	o.from.at_ms = 1000000;
	len = cpx_offer_encode(&o, own_mac, NULL, out);
	if (len != size ||
	    cpx_offer_decode(out, len, 1000000, own_mac, NULL, &again, NULL) < 0 ||
	    memcmp(&o, &again, sizeof(o)))
		abort();
	return 0;
}
