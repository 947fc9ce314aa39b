/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state.h - what all state programs have in common.
 *
 * A state program brings about one kind of process state, says that it is ready, waits, and
 *then judges from inside whether anything of that state is different. What happens to it
 *meanwhile (nothing, a checkpoint, its death and restart) is the business of whoever runs it.
 *
 *	NAME DIR [ARG...]	leads a session of its own, stays its parent's child
 *	DIR/pid			its process id
 *	DIR/log			its standard output and error
 *	DIR/ready		made when the state is there
 *	DIR/go			made by the runner: judge now
 *	DIR/fail		a line for each thing that differs, by any process
 *	DIR/result		made last: PASS, FAIL, or SKIP and the reason
 *
 * Waiting is done by stat() and short sleeps, so that it needs no state of its own.
 */
#ifndef STATE_H
#define STATE_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Parse arguments, go into the background, redirect. Returns the rest of the arguments. */
char **st_begin(int argc, char **argv);
/* The state is there: say so, and come back when it shall be judged. */
void st_wait(void);
/* Write the result; the return value is main()'s. Only the process that called st_begin(). */
int st_end(void);
/* This machine cannot have this state. Before st_wait(). */
void st_skip(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* Set-up failed: the program itself is wrong or the machine odd. */
void st_die(const char *file, int line, const char *what) __attribute__((noreturn));
/* Something differs. */
void st_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* DIR/NAME; valid until eight more calls in this thread. */
const char *st_path(const char *name);
/* Has the trigger come? For children that wait by themselves. */
bool st_gone(void);
void st_sleep_ms(long ms);
int64_t st_now_ns(int clock);
/* Zeroed memory that children share. */
void *st_shared(size_t len);
/* A pattern of @len bytes made from @seed, and whether memory still holds it. */
void st_fill(void *p, size_t len, uint64_t seed);
bool st_filled(const void *p, size_t len, uint64_t seed);
/* The text of a /proc or other file, malloc'ed and NUL-terminated; NULL when unreadable. */
char *st_slurp(const char *path, size_t *len);
/* The value after "NAME:" in /proc/PID/status (0: self), malloc'ed. */
char *st_status(pid_t pid, const char *name);
/* Wait at most @ms for the process to be in the state (a letter of /proc/PID/stat). */
bool st_in_state(pid_t pid, char state, long ms);
/* Wait at most @ms until thread @tid of ours sleeps in system call @nr. */
bool st_in_call(pid_t tid, long nr, long ms);
/* fork() that must work. */
pid_t st_fork(void);
/* Child: sleep until the parent's flag, in shared memory, is not 0. */
void st_until(const volatile int *flag);
/* The child's exit status through waitpid; -1 - signal when it was killed. */
int st_reap(pid_t pid);

/*
 * A clock of the time in which the program was alive: a thread of its own that beats every few
 * ms; gaps over 100 ms are taken as time in which it did not exist. For remaining time-outs.
 */
void st_alive_start(void);
int64_t st_alive_ns(void);

#define ST_CHECK(cond, ...)                                          \
	do {                                                         \
		if (!(cond))                                         \
			st_fail(__FILE__, __LINE__, "" __VA_ARGS__); \
	} while (0)

#define ST_TRUE(cond) ST_CHECK(cond, "%s", #cond)

#define ST_EQ(got, want)                                                                    \
	do {                                                                                \
		long long st_g = (long long)(got), st_w = (long long)(want);                \
		if (st_g != st_w)                                                           \
			st_fail(__FILE__, __LINE__, "%s is %lld (%#llx), was %lld (%#llx)", \
				#got, st_g, st_g, st_w, st_w);                              \
	} while (0)

#define ST_STR(got, want)                                                                     \
	do {                                                                                  \
		const char *st_g = (got), *st_w = (want);                                     \
		if (!st_g || !st_w || strcmp(st_g, st_w) != 0)                                \
			st_fail(__FILE__, __LINE__, "%s is \"%.200s\", was \"%.200s\"", #got, \
				st_g ? st_g : "(none)", st_w ? st_w : "(none)");              \
	} while (0)

/* Set-up: a call that must not return -1. */
#define ST_SYS(expr)                                       \
	({                                                 \
		__typeof__(expr) st_r = (expr);            \
		if ((long)st_r == -1)                      \
			st_die(__FILE__, __LINE__, #expr); \
		st_r;                                      \
	})
/* Set-up: a pthread-like call that must return 0. */
#define ST_ZERO(expr)                                      \
	do {                                               \
		errno = (expr);                            \
		if (errno)                                 \
			st_die(__FILE__, __LINE__, #expr); \
	} while (0)
/* After the restart: a call that must not fail; its value. */
#define ST_OK(expr)                                                                    \
	({                                                                             \
		__typeof__(expr) st_r = (expr);                                        \
		if ((long)st_r == -1)                                                  \
			st_fail(__FILE__, __LINE__, "%s: %s", #expr, strerror(errno)); \
		st_r;                                                                  \
	})

#endif
