/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Manifests. The input is put between a good head and a good digest, so that the fuzzer
 * meets the decoders of the sections and not only the check of the digest; as it stands
 * it is tried, too.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "chpox/base/buf.h"
#include "store/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const uint8_t *p, size_t n)
{
	struct cpx_buf again = { 0 };
	struct cpx_manifest m;

	if (cpx_manifest_decode(p, n, "fuzz", true, &m, NULL) < 0)
		return;
	for (uint32_t i = 0; i < m.nsegs; i++)
		if (cpx_manifest_seg(&m, m.segs[i].space, m.segs[i].seg) != i)
			abort();
	for (uint32_t i = 0; i < m.npacks; i++)
		if (cpx_manifest_pack(&m, m.packs[i].id) != &m.packs[i])
			abort();
	if (cpx_manifest_encode(&m, &again, NULL) < 0)
		abort();
	cpx_manifest_free(&m);
	if (cpx_manifest_decode(again.data, again.len, "fuzz", true, &m, NULL) < 0)
		abort();
	cpx_manifest_free(&m);
	cpx_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpx_buf b = { 0 };
	XXH128_canonical_t digest;

	use(data, size);
	cpx_buf_put(&b, "chpoxMF1", 8);
	cpx_buf_u32(&b, CPX_FORMAT_VERSION);
	cpx_buf_u32(&b, 0);
	cpx_buf_u64(&b, 24 + size + CPX_DIGEST);
	cpx_buf_put(&b, data, size);
	XXH128_canonicalFromHash(&digest, XXH3_128bits(b.data, b.len));
	cpx_buf_put(&b, digest.digest, CPX_DIGEST);
	use(b.data, b.len);
	cpx_buf_free(&b);
	return 0;
}
