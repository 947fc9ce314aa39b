/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * module.h - what the tests of chpox.ko share: TAP, targets that do something, and the calls
 * of /dev/chpox. A check that fails ends its test, not the program: CHECK() returns from the
 * test function with a text that says what was wrong.
 */
#ifndef CPX_TEST_MODULE_H
#define CPX_TEST_MODULE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "../../kernel/chpox_uapi.h"

#define CHECK(cond)                                                 \
	do {                                                        \
		if (!(cond))                                        \
			return mod_fail(__FILE__, __LINE__, #cond); \
	} while (0)

/* Return: @text with errno, in a static buffer. */
const char *mod_fail(const char *file, int line, const char *text);

/* A target: a child that runs @body with shared memory of one page, until killed. */
struct target {
	pid_t pid;
	struct shared {
		volatile uint64_t ready, ticks, done, error;
		volatile uint64_t at[16]; /* addresses and whatever the body tells */
	} * sh;
};

typedef void (*target_body)(struct shared *sh);
struct target mod_start(target_body body);
/* It still runs: ticks grow. For bodies that count. */
bool mod_ticks(const struct target *t);
void mod_end(struct target *t);
void mod_sleep_ms(int ms);
int64_t mod_now_ns(void);

int mod_open(void);
/* Session on a tree; -1 on failure. */
int mod_session(pid_t pid);
/* Return: 0 or -errno. */
int mod_dump(int fd, struct chpox_dump *d, unsigned flags, unsigned park_ms, unsigned hold_ms);
int mod_release(int fd);
/* Snapshot @index; *holder may be NULL. Return: descriptor or -errno. */
int mod_snap(int fd, unsigned index, pid_t *holder);
int mod_runs(int snap, int base, uint64_t start, uint64_t end, struct chpox_run *runs,
	     unsigned max);

/* The whole record stream; mod_record() finds the @nth of @type, NULL: there is none. */
struct stream {
	char *data;
	size_t len;
};
bool mod_read(int fd, struct stream *s);
const struct chpox_record *mod_record(const struct stream *s, unsigned type, pid_t pid,
				      unsigned nth);
const void *mod_payload(const struct chpox_record *r);

struct mod_test {
	const char *name;
	const char *(*run)(void);
};

/* Tables of the other files, ended by a NULL name. */
extern const struct mod_test mod_tests_state[], mod_tests_memory[], mod_tests_robust[],
	mod_tests_fence[];

#endif
