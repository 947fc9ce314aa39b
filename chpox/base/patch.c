/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "patch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "fd.h"
#include "log.h"

#define PUT_BACK_NS 50000000ll

struct cpx_patch {
	pid_t pid, tid;
	long nr;
	int mem_fd;  /* owned; -1: a socket */
	int sock_fd; /* owned */
	int opt;
	uint64_t addr;
	uint8_t was[16], now[16];
};

static struct cpx_patch *add(struct cpx_patches *p, pid_t pid, pid_t tid, long nr)
{
	struct cpx_patch *v = realloc(p->v, (p->n + 1) * sizeof(*v));

	if (!v)
		return NULL;
	p->v = v;
	v[p->n] = (struct cpx_patch){
		.pid = pid, .tid = tid, .nr = nr, .mem_fd = -1, .sock_fd = -1
	};
	return &v[p->n];
}

void cpx_patch_memory(struct cpx_patches *p, pid_t pid, pid_t tid, long nr, int mem_fd,
		      uint64_t addr, int64_t left_ns)
{
	struct timespec ts = { .tv_sec = left_ns / 1000000000,
			       .tv_nsec = left_ns % 1000000000 };
	struct cpx_patch *v = add(p, pid, tid, nr);

	if (!v || cpx_pread_full(mem_fd, v->was, sizeof(v->was), addr) != sizeof(v->was))
		return;
	v->mem_fd = fcntl(mem_fd, F_DUPFD_CLOEXEC, 3);
	v->addr = addr;
	memcpy(v->now, &ts, sizeof(ts));
	if (v->mem_fd < 0)
		return;
	if (pwrite(v->mem_fd, &ts, sizeof(ts), (off_t)addr) == (ssize_t)sizeof(ts))
		p->n++;
	else
		cpx_close(&v->mem_fd);
}

void cpx_patch_socket(struct cpx_patches *p, pid_t pid, pid_t tid, long nr, int pidfd, int fd,
		      int opt, int64_t left_ns)
{
	struct timeval tv = { .tv_sec = left_ns / 1000000000,
			      .tv_usec = left_ns % 1000000000 / 1000 };
	struct cpx_patch *v = add(p, pid, tid, nr);
	socklen_t len = sizeof(tv);

	if (!v)
		return;
	if (left_ns < 1000)
		tv.tv_usec = 1; /* 0 would be for ever */
	v->opt = opt;
	v->sock_fd = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (v->sock_fd >= 0 && getsockopt(v->sock_fd, SOL_SOCKET, opt, v->was, &len) == 0 &&
	    setsockopt(v->sock_fd, SOL_SOCKET, opt, &tv, sizeof(tv)) == 0)
		p->n++;
	else
		cpx_close(&v->sock_fd);
}

/* /proc/PID/syscall says "running" until the thread sleeps. */
static bool asleep_in(pid_t pid, pid_t tid, long nr)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[80], *end;
	long now;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	if (cpx_read_file(AT_FDCWD, path, 4096, &text, NULL) <= 0)
		return false;
	now = strtol(text, &end, 10);
	return end != text && now == nr;
}

static void put_back(struct cpx_patch *v)
{
	uint8_t now[16];

	if (v->sock_fd >= 0) {
		setsockopt(v->sock_fd, SOL_SOCKET, v->opt, v->was, sizeof(struct timeval));
		return;
	}
	if (cpx_pread_full(v->mem_fd, now, sizeof(now), v->addr) == (ssize_t)sizeof(now) &&
	    memcmp(now, v->now, sizeof(now)) == 0 &&
	    pwrite(v->mem_fd, v->was, sizeof(v->was), (off_t)v->addr) < 0)
		cpx_log_debug("thread %d: time-out not put back: %s", v->tid, strerror(errno));
}

void cpx_patches_put_back(struct cpx_patches *p)
{
	int64_t until = cpx_mono_ns() + PUT_BACK_NS;
	struct timespec nap = { .tv_nsec = 50000 };

	for (size_t i = 0; i < p->n; i++) {
		while (!asleep_in(p->v[i].pid, p->v[i].tid, p->v[i].nr) &&
		       cpx_mono_ns() < until)
			nanosleep(&nap, NULL);
		put_back(&p->v[i]);
	}
	cpx_patches_free(p);
}

void cpx_patches_free(struct cpx_patches *p)
{
	for (size_t i = 0; i < p->n; i++) {
		cpx_close(&p->v[i].mem_fd);
		cpx_close(&p->v[i].sock_fd);
	}
	free(p->v);
	p->v = NULL;
	p->n = 0;
}
