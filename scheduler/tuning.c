/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tuning.h"

#include <string.h>

#include "../chpox/base/err.h"
#include "proto.h"

static const char *const ways[] = { "auto", "precopy", "clone", "stop", NULL };
static const char *const codecs[] = { "auto", "lz4", "zlib", "none", NULL };

static int decode_word(const json_t *j, const char *key, const char *const *words, char *out,
		       struct cpx_err *err)
{
	const char *word = cpx_proto_str(j, key);

	out[0] = 0;
	if (!json_object_get(j, key))
		return 0;
	while (word && *words && strcmp(word, *words) != 0)
		words++;
	if (!word || !*words)
		return cpx_err_set(err, CPX_E_INVAL, "--%s cannot be '%.20s'", key,
				   word ? word : "?");
	strcpy(out, *words);
	return 0;
}

static int decode_number(const json_t *j, const char *key, int64_t min, int64_t max,
			 int64_t *out, struct cpx_err *err)
{
	*out = cpx_proto_int(j, key, 0);
	if (!json_object_get(j, key) || (*out >= min && *out <= max))
		return 0;
	return cpx_err_set(err, CPX_E_INVAL, "--%s is from %lld to %lld", key, (long long)min,
			   (long long)max);
}

int cpx_tuning_decode(const json_t *j, struct cpx_tuning *out, struct cpx_err *err)
{
	struct cpx_tuning t = { 0 };
	int64_t cpus = 0;
	int rc = decode_word(j, "snapshot", ways, t.snapshot, err);

	if (rc == 0)
		rc = decode_word(j, "codec", codecs, t.codec, err);
	if (rc == 0)
		rc = decode_number(j, "cpus", 1, CPX_TUNING_CPUS_MAX, &cpus, err);
	if (rc == 0)
		rc = decode_number(j, "rate", CPX_TUNING_RATE_MIN, INT64_MAX, &t.rate, err);
	if (rc < 0)
		return rc;
	t.cpus = (uint32_t)cpus;
	*out = t;
	return 0;
}

void cpx_tuning_encode(const struct cpx_tuning *t, json_t *j)
{
	if (t->snapshot[0])
		json_object_set_new(j, "snapshot", json_string(t->snapshot));
	if (t->codec[0])
		json_object_set_new(j, "codec", json_string(t->codec));
	if (t->cpus)
		json_object_set_new(j, "cpus", json_integer(t->cpus));
	if (t->rate)
		json_object_set_new(j, "rate", json_integer(t->rate));
}

struct cpx_tuning cpx_tuning_of(const struct cpx_tuning *first, const struct cpx_tuning *then)
{
	struct cpx_tuning t = *first;

	if (!t.snapshot[0])
		memcpy(t.snapshot, then->snapshot, sizeof(t.snapshot));
	if (!t.codec[0])
		memcpy(t.codec, then->codec, sizeof(t.codec));
	if (!t.cpus)
		t.cpus = then->cpus;
	if (!t.rate)
		t.rate = then->rate;
	return t;
}
