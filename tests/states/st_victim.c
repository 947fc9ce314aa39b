/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A job that would notice if a checkpoint that fails half-way hurt it: threads that watch their
 * own registers, calls that must not return early, a child, and one writer whose lines are
 * counted.
 */
#include "state.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile int stop, word, early;
static volatile pid_t expect;

/* Registers that the kernel may clobber in calls are not among these: ours have to survive a
 * stop anywhere. */
static void *spin(void *arg)
{
	uint64_t seed = (uint64_t)arg, bad = 0;

	asm volatile("mov %[seed], %%r8\n\t mov %[seed], %%r9\n\t mov %[seed], %%r12\n\t"
		     "mov %[seed], %%r13\n\t mov %[seed], %%r14\n\t mov %[seed], %%r15\n\t"
		     "mov %[seed], %%rax\n\t mov %[seed], %%rbx\n\t"
		     "movq %[seed], %%xmm3\n\t movq %[seed], %%xmm14\n"
		     "1: pause\n\t"
		     "cmp %[seed], %%rax\n\t jne 2f\n\t cmp %[seed], %%rbx\n\t jne 2f\n\t"
		     "cmp %[seed], %%r8\n\t jne 2f\n\t cmp %[seed], %%r9\n\t jne 2f\n\t"
		     "cmp %[seed], %%r12\n\t jne 2f\n\t cmp %[seed], %%r13\n\t jne 2f\n\t"
		     "cmp %[seed], %%r14\n\t jne 2f\n\t cmp %[seed], %%r15\n\t jne 2f\n\t"
		     "movq %%xmm3, %%r10\n\t cmp %[seed], %%r10\n\t jne 2f\n\t"
		     "movq %%xmm14, %%r10\n\t cmp %[seed], %%r10\n\t jne 2f\n\t"
		     "cmpl $0, (%[stop])\n\t je 1b\n\t jmp 3f\n"
		     "2: mov $1, %[bad]\n"
		     "3:\n\t"
		     : [bad] "+d"(bad)
		     : [seed] "c"(seed), [stop] "D"(&stop)
		     : "rax", "rbx", "r8", "r9", "r10", "r12", "r13", "r14", "r15", "xmm3",
		       "xmm14", "cc", "memory");
	ST_EQ(bad, 0);
	return NULL;
}

static void *sleeper(void *arg)
{
	struct timespec t = { 0, 700000 };

	while (!stop)
		if (nanosleep(&t, NULL) != 0)
			early |= 1;
	return arg;
}

static void *waiter(void *arg)
{
	int status;
	pid_t pid = waitpid(-1, &status, 0);

	if (pid != expect)
		early |= 2;
	return arg;
}

static void *reader(void *arg)
{
	char c;

	if (read(*(int *)arg, &c, 1) != 1)
		early |= 4;
	return NULL;
}

static void *poller(void *arg)
{
	struct pollfd p = { *(int *)arg, POLLIN, 0 };

	if (poll(&p, 1, 3600000) != 1)
		early |= 8;
	return NULL;
}

static void *futexer(void *arg)
{
	while (!word)
		if (syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0) != 0 && !word)
			early |= 16;
	return arg;
}

/* Lines "n" with n from 0 on; a second writer or a lost or doubled write breaks the row. */
static void *writer(void *arg)
{
	int fd = *(int *)arg;

	for (long n = 0; !stop; n++) {
		char line[32];
		int len = snprintf(line, sizeof(line), "%ld\n", n);

		ST_EQ(write(fd, line, (size_t)len), len);
		st_sleep_ms(1);
	}
	return NULL;
}

static void check_row(void)
{
	char *text = st_slurp(st_path("row"), NULL), *p = text;

	for (long n = 0; p && *p; n++)
		if (strtol(p, &p, 10) != n || *p++ != '\n') {
			ST_CHECK(false, "line %ld is wrong", n);
			break;
		}
	free(text);
}

int main(int argc, char **argv)
{
	volatile int *go;
	pthread_t t[8];
	int quiet[2], polled[2], row;

	st_begin(argc, argv);
	go = st_shared(4096);
	ST_SYS(pipe(quiet));
	ST_SYS(pipe(polled));
	row = ST_SYS(open(st_path("row"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600));
	expect = st_fork();
	if (expect == 0) {
		close(quiet[1]);
		st_until(go);
		_exit(0);
	}
	ST_ZERO(pthread_create(&t[0], NULL, spin, (void *)0x1357246811223344));
	ST_ZERO(pthread_create(&t[1], NULL, spin, (void *)0xfedcba9876543210));
	ST_ZERO(pthread_create(&t[2], NULL, sleeper, NULL));
	ST_ZERO(pthread_create(&t[3], NULL, waiter, NULL));
	ST_ZERO(pthread_create(&t[4], NULL, reader, &quiet[0]));
	ST_ZERO(pthread_create(&t[5], NULL, poller, &polled[0]));
	ST_ZERO(pthread_create(&t[6], NULL, futexer, NULL));
	ST_ZERO(pthread_create(&t[7], NULL, writer, &row));
	st_sleep_ms(20);
	st_wait();
	ST_EQ(early, 0);
	stop = word = *go = 1;
	ST_EQ(write(quiet[1], "x", 1), 1);
	ST_EQ(write(polled[1], "x", 1), 1);
	syscall(SYS_futex, &word, FUTEX_WAKE, 100, NULL, NULL, 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	ST_EQ(early, 0);
	check_row();
	return st_end();
}
