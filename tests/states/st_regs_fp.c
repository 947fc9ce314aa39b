/* SPDX-License-Identifier: GPL-2.0-or-later */
/* x87, SSE, AVX and AVX-512 registers in busy loops, MXCSR and the x87 control word. */
#include "state.h"

#include <pthread.h>

static volatile int stop;

struct vec {
	uint8_t b[16][64];
} __attribute__((aligned(64)));

static void spin_sse(struct vec *v)
{
	asm volatile("movaps 0(%0), %%xmm0\n\t movaps 64(%0), %%xmm1\n\t"
		     "movaps 448(%0), %%xmm7\n\t movaps 960(%0), %%xmm15\n"
		     "1: pause\n\t cmpl $0, (%1)\n\t je 1b\n\t"
		     "movaps %%xmm0, 0(%0)\n\t movaps %%xmm1, 64(%0)\n\t"
		     "movaps %%xmm7, 448(%0)\n\t movaps %%xmm15, 960(%0)\n\t"
		     :
		     : "r"(v), "r"(&stop)
		     : "xmm0", "xmm1", "xmm7", "xmm15", "memory", "cc");
}

static void spin_avx(struct vec *v)
{
	asm volatile("vmovaps 0(%0), %%ymm0\n\t vmovaps 64(%0), %%ymm1\n\t"
		     "vmovaps 448(%0), %%ymm7\n\t vmovaps 960(%0), %%ymm15\n"
		     "1: pause\n\t cmpl $0, (%1)\n\t je 1b\n\t"
		     "vmovaps %%ymm0, 0(%0)\n\t vmovaps %%ymm1, 64(%0)\n\t"
		     "vmovaps %%ymm7, 448(%0)\n\t vmovaps %%ymm15, 960(%0)\n\t vzeroupper\n\t"
		     :
		     : "r"(v), "r"(&stop)
		     : "xmm0", "xmm1", "xmm7", "xmm15", "memory", "cc");
}

__attribute__((target("avx512f"))) static void spin_512(struct vec *v)
{
	asm volatile("vmovaps 0(%0), %%zmm0\n\t vmovaps 64(%0), %%zmm17\n\t"
		     "vmovaps 448(%0), %%zmm7\n\t vmovaps 960(%0), %%zmm31\n\t"
		     "movl $0x5a5a, %%eax\n\t kmovw %%eax, %%k3\n"
		     "1: pause\n\t cmpl $0, (%1)\n\t je 1b\n\t"
		     "vmovaps %%zmm0, 0(%0)\n\t vmovaps %%zmm17, 64(%0)\n\t"
		     "vmovaps %%zmm7, 448(%0)\n\t vmovaps %%zmm31, 960(%0)\n\t"
		     "kmovw %%k3, %%eax\n\t movl %%eax, 128(%0)\n\t vzeroupper\n\t"
		     :
		     : "r"(v), "r"(&stop)
		     : "xmm0", "xmm7", "rax", "memory", "cc");
}

static void spin_x87(struct vec *v)
{
	uint16_t cw = 0x0c7f, cw2 = 0;	 /* round to zero, double precision off */
	uint32_t csr = 0x9fc0, csr2 = 0; /* flush to zero, denormals are zero */

	asm volatile("fldcw %2\n\t ldmxcsr %3\n\t"
		     "fldpi\n\t fldl2e\n\t fldln2\n"
		     "1: pause\n\t cmpl $0, (%5)\n\t je 1b\n\t"
		     "fstpt 0(%4)\n\t fstpt 64(%4)\n\t fstpt 128(%4)\n\t"
		     "fnstcw %0\n\t stmxcsr %1\n\t fninit\n\t"
		     : "=m"(cw2), "=m"(csr2)
		     : "m"(cw), "m"(csr), "r"(v), "r"(&stop)
		     : "memory", "cc");
	ST_EQ(cw2, cw);
	ST_EQ(csr2 & 0xffc0, csr & 0xffc0);
}

static void (*const spins[])(struct vec *) = { spin_sse, spin_avx, spin_512, spin_x87 };

static void *worker(void *arg)
{
	long kind = (long)arg;
	struct vec v, want;

	memset(&v, 0, sizeof(v));
	st_fill(&v, sizeof(v), 100 + (uint64_t)kind);
	want = v;
	if (kind == 2) {
		uint32_t mask = 0x5a5a;

		memcpy(v.b[2], &mask, 4);
		memcpy(want.b[2], &mask, 4);
	}
	spins[kind](&v);
	if (kind == 3) {
		long double ln2, l2e, pi;

		memcpy(&ln2, v.b[0], 10);
		memcpy(&l2e, v.b[1], 10);
		memcpy(&pi, v.b[2], 10);
		ST_TRUE(ln2 > 0.693147180559945309L && ln2 < 0.693147180559945310L);
		ST_TRUE(l2e > 1.44269504088896340L && l2e < 1.44269504088896341L);
		ST_TRUE(pi > 3.14159265358979323L && pi < 3.14159265358979324L);
		return NULL;
	}
	ST_CHECK(!memcmp(&v, &want, sizeof(v)), "vector registers of kind %ld", kind);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[4];
	bool has[4] = { true, __builtin_cpu_supports("avx"), __builtin_cpu_supports("avx512f"),
			true };

	st_begin(argc, argv);
	for (long i = 0; i < 4; i++)
		if (has[i])
			ST_ZERO(pthread_create(&t[i], NULL, worker, (void *)i));
	st_wait();
	st_sleep_ms(20);
	stop = 1;
	for (int i = 0; i < 4; i++)
		if (has[i])
			pthread_join(t[i], NULL);
	return st_end();
}
