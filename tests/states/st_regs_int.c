/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Integer registers and flags in a busy loop, in two threads at once. */
#include "state.h"

#include <pthread.h>

static volatile int stop;
static volatile uint64_t rounds[2];

/* Patterns in all free registers; spin until *stop; a bit for each register that changed. */
static uint64_t spin(volatile int *flag, volatile uint64_t *count, uint64_t seed)
{
	uint64_t bad;

	asm volatile("mov %[seed], %%rax\n\t"
		     "lea 1(%%rax), %%rbx\n\t"
		     "lea 2(%%rax), %%r8\n\t"
		     "lea 3(%%rax), %%r9\n\t"
		     "lea 4(%%rax), %%r10\n\t"
		     "lea 5(%%rax), %%r11\n\t"
		     "lea 6(%%rax), %%r12\n\t"
		     "lea 7(%%rax), %%r13\n\t"
		     "lea 8(%%rax), %%r14\n\t"
		     "lea 9(%%rax), %%r15\n"
		     "1:\n\t"
		     "incq (%[count])\n\t"
		     "stc\n\t"
		     "pause\n\t"
		     "jnc 2f\n\t"
		     "cmpl $0, (%[flag])\n\t"
		     "je 1b\n\t"
		     "xor %%edx, %%edx\n\t"
		     "cmp %[seed], %%rax\n\t setne %%dl\n\t"
		     "sub $1, %%rbx\n\t cmp %%rax, %%rbx\n\t jne 2f\n\t"
		     "sub $2, %%r8\n\t cmp %%rax, %%r8\n\t jne 2f\n\t"
		     "sub $3, %%r9\n\t cmp %%rax, %%r9\n\t jne 2f\n\t"
		     "sub $4, %%r10\n\t cmp %%rax, %%r10\n\t jne 2f\n\t"
		     "sub $5, %%r11\n\t cmp %%rax, %%r11\n\t jne 2f\n\t"
		     "sub $6, %%r12\n\t cmp %%rax, %%r12\n\t jne 2f\n\t"
		     "sub $7, %%r13\n\t cmp %%rax, %%r13\n\t jne 2f\n\t"
		     "sub $8, %%r14\n\t cmp %%rax, %%r14\n\t jne 2f\n\t"
		     "sub $9, %%r15\n\t cmp %%rax, %%r15\n\t je 3f\n"
		     "2: mov $2, %%edx\n"
		     "3:\n\t"
		     : "=&d"(bad)
		     : [flag] "D"(flag), [count] "S"(count), [seed] "c"(seed)
		     : "rax", "rbx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc",
		       "memory");
	return bad;
}

static void *worker(void *arg)
{
	uint64_t i = (uint64_t)arg;

	ST_EQ(spin(&stop, &rounds[i], 0x8123456789abcdefULL * (i + 1)), 0);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[2];
	uint64_t before;

	st_begin(argc, argv);
	for (long i = 0; i < 2; i++)
		ST_ZERO(pthread_create(&t[i], NULL, worker, (void *)i));
	st_wait();
	before = rounds[0];
	st_sleep_ms(100);
	ST_TRUE(rounds[0] > before);
	stop = 1;
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	return st_end();
}
