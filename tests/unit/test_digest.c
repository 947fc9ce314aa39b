/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Digests, against the examples of FIPS 180-2 and RFC 4231. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../chpox/base/digest.h"

static void hex(const uint8_t *d, char out[65])
{
	for (int i = 0; i < 32; i++)
		sprintf(out + 2 * i, "%02x", d[i]);
}

static void sha256_of_pieces_is_that_of_the_whole(void **state)
{
	uint8_t d[CPX_SHA256_SIZE];
	struct cpx_sha256 *s;
	char text[65];

	(void)state;
	assert_int_equal(cpx_sha256_new(&s, NULL), 0);
	assert_int_equal(cpx_sha256_add(s, "ab", 2, NULL), 0);
	assert_int_equal(cpx_sha256_add(s, "", 0, NULL), 0);
	assert_int_equal(cpx_sha256_add(s, "c", 1, NULL), 0);
	assert_int_equal(cpx_sha256_end(s, d, NULL), 0);
	cpx_sha256_free(s);
	hex(d, text);
	assert_string_equal(text,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	cpx_sha256_free(NULL);
}

static void hmac_is_that_of_the_rfc(void **state)
{
	uint8_t d[CPX_SHA256_SIZE];
	char text[65];

	(void)state;
	assert_int_equal(
		cpx_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, d, NULL), 0);
	hex(d, text);
	assert_string_equal(text,
			    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256_of_pieces_is_that_of_the_whole),
		cmocka_unit_test(hmac_is_that_of_the_rfc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
