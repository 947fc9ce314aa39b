/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "state.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static char dir[PATH_MAX / 2]; /* set once, in st_begin() */

const char *st_path(const char *name)
{
	static __thread char ring[8][PATH_MAX];
	static __thread unsigned next;
	char *p = ring[next++ % 8];

	snprintf(p, PATH_MAX, "%s/%s", dir, name);
	return p;
}

static void put(const char *name, int flags, const char *text)
{
	int fd = open(st_path(name), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		perror(name);
	close(fd);
}

/* Whole or not at all: the runner polls for the name. */
static void publish(const char *name, const char *text)
{
	char tmp[64];

	snprintf(tmp, sizeof(tmp), ".%s.tmp", name);
	put(tmp, O_TRUNC, text);
	if (rename(st_path(tmp), st_path(name)) != 0)
		perror(name);
}

char **st_begin(int argc, char **argv)
{
	char text[32];
	int fd;
	pid_t pid;

	if (argc < 2 || argv[1][0] != '/' || strlen(argv[1]) >= sizeof(dir)) {
		fprintf(stderr, "usage: %s /DIR [ARG...]\n", argv[0]);
		exit(2);
	}
	snprintf(dir, sizeof(dir), "%s", argv[1]);
	if (getpid() == getpgrp()) {
		pid = ST_SYS(fork());
		if (pid > 0)
			_exit(0);
	}
	ST_SYS(setsid());
	umask(022);
	fd = ST_SYS(open("/dev/null", O_RDWR));
	dup2(fd, 0);
	close(fd);
	fd = ST_SYS(open(st_path("log"), O_WRONLY | O_CREAT | O_APPEND, 0644));
	dup2(fd, 1);
	dup2(fd, 2);
	close(fd);
	ST_SYS(syscall(SYS_close_range, 3U, ~0U, 0U));
	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(text, sizeof(text), "%d\n", getpid());
	publish("pid", text);
	return argv + 2;
}

bool st_gone(void)
{
	return access(st_path("go"), F_OK) == 0;
}

void st_sleep_ms(long ms)
{
	struct timespec left = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

void st_wait(void)
{
	publish("ready", "");
	while (!st_gone())
		st_sleep_ms(5);
}

void st_fail(const char *file, int line, const char *fmt, ...)
{
	char text[1024];
	int saved = errno, n;
	va_list ap;

	n = snprintf(text, sizeof(text),
		     "%s:%d: ", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line);
	va_start(ap, fmt);
	n += vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(text) - 2)
		n = sizeof(text) - 2;
	strcpy(text + n, "\n");
	put("fail", O_APPEND, text);
	errno = saved;
}

void st_die(const char *file, int line, const char *what)
{
	st_fail(file, line, "set-up: %s: %s", what, strerror(errno));
	publish("result", "FAIL\n");
	_exit(2);
}

void st_skip(const char *fmt, ...)
{
	char why[400], text[420];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "SKIP %s\n", why);
	publish("result", text);
	exit(0);
}

int st_end(void)
{
	bool bad = access(st_path("fail"), F_OK) == 0;

	publish("result", bad ? "FAIL\n" : "PASS\n");
	return bad;
}

int64_t st_now_ns(int clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

void *st_shared(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		st_die(__FILE__, __LINE__, "mmap");
	return p;
}

/* splitmix64: long period, cheap, no repeated words */
static uint64_t mix(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

void st_fill(void *p, size_t len, uint64_t seed)
{
	uint8_t *b = p;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = mix(&seed);

		memcpy(b + i, &v, len - i < 8 ? len - i : 8);
	}
}

bool st_filled(const void *p, size_t len, uint64_t seed)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = mix(&seed);

		if (memcmp(b + i, &v, len - i < 8 ? len - i : 8) != 0)
			return false;
	}
	return true;
}

char *st_slurp(const char *path, size_t *len)
{
	size_t cap = 1 << 16, n = 0;
	char *buf = malloc(cap + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = -1;

	while (fd >= 0 && buf && (got = read(fd, buf + n, cap - n)) > 0) {
		n += (size_t)got;
		if (n == cap)
			buf = realloc(buf, (cap *= 2) + 1);
	}
	if (fd >= 0)
		close(fd);
	if (got < 0 || !buf) {
		free(buf);
		return NULL;
	}
	buf[n] = 0;
	if (len)
		*len = n;
	return buf;
}

char *st_status(pid_t pid, const char *name)
{
	char path[64], key[64], *text, *p, *end, *val = NULL;

	snprintf(path, sizeof(path), pid ? "/proc/%d/status" : "/proc/thread-self/status", pid);
	snprintf(key, sizeof(key), "\n%s:", name);
	text = st_slurp(path, NULL);
	p = text ? strstr(text, key) : NULL;
	if (p) {
		p += strlen(key);
		p += strspn(p, " \t");
		end = strchrnul(p, '\n');
		val = strndup(p, (size_t)(end - p));
	}
	free(text);
	return val;
}

bool st_in_state(pid_t pid, char state, long ms)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	for (; ms >= 0; ms -= 2) {
		char *s = st_slurp(path, NULL);
		char *p = s ? strrchr(s, ')') : NULL;
		bool yes = p && p[2] == state;

		free(s);
		if (yes)
			return true;
		st_sleep_ms(2);
	}
	return false;
}

bool st_in_call(pid_t tid, long nr, long ms)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	for (; ms >= 0; ms -= 2) {
		char *s = st_slurp(path, NULL);
		char *end = NULL;
		long is = s ? strtol(s, &end, 10) : -1;
		bool yes = s && end != s && is == nr;

		free(s);
		if (yes)
			return true;
		st_sleep_ms(2);
	}
	return false;
}

pid_t st_fork(void)
{
	return ST_SYS(fork());
}

void st_until(const volatile int *flag)
{
	while (!*flag)
		st_sleep_ms(5);
}

int st_reap(pid_t pid)
{
	int status;

	for (;;) {
		pid_t r = waitpid(pid, &status, 0);

		if (r == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1 - WTERMSIG(status);
		if (r < 0 && errno != EINTR)
			return -1000 - errno;
	}
}

static _Atomic int64_t alive_ns;

static void *beat(void *arg)
{
	int64_t last = st_now_ns(CLOCK_MONOTONIC);

	(void)arg;
	for (;;) {
		int64_t now;

		st_sleep_ms(2);
		now = st_now_ns(CLOCK_MONOTONIC);
		alive_ns += now - last < 100000000 ? now - last : 2000000;
		last = now;
	}
	return NULL;
}

void st_alive_start(void)
{
	pthread_t t;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ST_ZERO(pthread_create(&t, NULL, beat, NULL));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int64_t st_alive_ns(void)
{
	return alive_ns;
}
