/* SPDX-License-Identifier: GPL-2.0-or-later */
/* names.c - names of objects: jobs/JOB/EPOCH-SEQ-NONCE.m and .K.p, numbers in hex; code objects
 * by hash. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"

#define HEX "0123456789abcdef"
#define STEM 50 /* 16 + 1 + 16 + 1 + 16 */

bool cpx_job_name_valid(const char *name)
{
	size_t n = strnlen(name, CPX_JOB_NAME_MAX);

	if (n == 0 || n >= CPX_JOB_NAME_MAX || name[0] == '.' || name[0] == '-')
		return false;
	return strspn(name,
		      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

bool cpx_gen_valid(const struct cpx_gen_id *id)
{
	return cpx_job_name_valid(id->job) && strnlen(id->nonce, 17) == 16 &&
	       strspn(id->nonce, HEX) == 16;
}

void cpx_name_job(const char *job, char out[CPX_NAME_MAX])
{
	snprintf(out, CPX_NAME_MAX, "jobs/%.*s", CPX_JOB_NAME_MAX - 1, job);
}

void cpx_name_manifest(const struct cpx_gen_id *id, bool temporary, char out[CPX_NAME_MAX])
{
	snprintf(out, CPX_NAME_MAX, "jobs/%.*s/%016" PRIx64 "-%016" PRIx64 "-%.16s.m%s",
		 CPX_JOB_NAME_MAX - 1, id->job, id->epoch, id->seq, id->nonce,
		 temporary ? ".tmp" : "");
}

void cpx_name_pack(const char *job, uint64_t epoch, uint64_t seq, const char *nonce, uint32_t k,
		   char out[CPX_NAME_MAX])
{
	snprintf(out, CPX_NAME_MAX,
		 "jobs/%.*s/%016" PRIx64 "-%016" PRIx64 "-%.16s.%" PRIx32 ".p",
		 CPX_JOB_NAME_MAX - 1, job, epoch, seq, nonce, k);
}

void cpx_name_code_list(const struct cpx_gen_id *id, char out[CPX_NAME_MAX])
{
	snprintf(out, CPX_NAME_MAX, "jobs/%.*s/%016" PRIx64 "-%016" PRIx64 "-%.16s.c",
		 CPX_JOB_NAME_MAX - 1, id->job, id->epoch, id->seq, id->nonce);
}

void cpx_name_code(const uint8_t sha256[32], char out[CPX_NAME_MAX])
{
	int n = snprintf(out, CPX_NAME_MAX, "code/");

	for (int i = 0; i < 32; i++)
		n += snprintf(out + n, CPX_NAME_MAX - (size_t)n, "%02x", sha256[i]);
}

bool cpx_name_code_parse(const char *name, uint8_t sha256[32])
{
	const char *rest = name + 64;

	if (strlen(name) < 64 || strspn(name, HEX) < 64)
		return false;
	if (*rest && (strlen(rest) != 22 || rest[0] != '.' || strspn(rest + 1, HEX) != 16 ||
		      strcmp(rest + 17, ".gone") != 0))
		return false;
	for (int i = 0; i < 32; i++) {
		const char byte[3] = { name[2 * i], name[2 * i + 1], 0 };

		sha256[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
	return true;
}

static bool hex16(const char *p, uint64_t *v)
{
	char text[17];

	if (strspn(p, HEX) < 16)
		return false;
	memcpy(text, p, 16);
	text[16] = 0;
	*v = strtoull(text, NULL, 16);
	return true;
}

enum cpx_name_kind cpx_name_parse(const char *name, struct cpx_gen_id *id, uint32_t *k)
{
	size_t digits;

	if (strlen(name) < STEM + 2 || !hex16(name, &id->epoch) || name[16] != '-' ||
	    !hex16(name + 17, &id->seq) || name[33] != '-' || strspn(name + 34, HEX) != 16 ||
	    name[STEM] != '.')
		return CPX_NAME_OTHER;
	memcpy(id->nonce, name + 34, 16);
	id->nonce[16] = 0;
	name += STEM + 1;
	if (!strcmp(name, "m"))
		return CPX_NAME_MANIFEST;
	if (!strcmp(name, "m.tmp"))
		return CPX_NAME_TEMPORARY;
	if (!strcmp(name, "c"))
		return CPX_NAME_CODE;
	digits = strspn(name, HEX);
	if (digits == 0 || digits > 8 || strcmp(name + digits, ".p") != 0)
		return CPX_NAME_OTHER;
	*k = (uint32_t)strtoul(name, NULL, 16);
	return CPX_NAME_PACK;
}

int cpx_gen_compare(const struct cpx_gen_id *a, const struct cpx_gen_id *b)
{
	if (a->epoch != b->epoch)
		return a->epoch < b->epoch ? -1 : 1;
	if (a->seq != b->seq)
		return a->seq < b->seq ? -1 : 1;
	return strcmp(a->nonce, b->nonce);
}
