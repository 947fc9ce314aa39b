/* SPDX-License-Identifier: GPL-2.0-or-later */
/* FS and GS bases, changed segment registers, and the protection key register where there is
 * one. */
#include "state.h"

#include <asm/prctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

int main(int argc, char **argv)
{
	uint64_t word = 0x1122334455667788ULL, got = 0, base = 0;
	int key;

	st_begin(argc, argv);
	ST_SYS(syscall(SYS_arch_prctl, ARCH_SET_GS, &word));
	key = pkey_alloc(0, 0);
	if (key > 0)
		ST_SYS(pkey_set(key, PKEY_DISABLE_WRITE));
	st_wait();
	ST_OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
	ST_EQ(base, (uintptr_t)&word);
	asm volatile("movq %%gs:0, %0" : "=r"(got));
	ST_EQ(got, word);
	if (key > 0) {
		ST_EQ(pkey_get(key), PKEY_DISABLE_WRITE);
		ST_EQ(pkey_free(key), 0);
	}
	return st_end();
}
