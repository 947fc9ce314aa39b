/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bare.c - the least that a checkpoint of a process must do, without all that makes it one.
 *
 *	bare park PID N			stop all its threads and let them go, N times
 *	bare scan PID START LEN		list what was written, without a stop: seconds
 *	bare loop PID START LEN N	once a second: park, scan and re-arm, read, release
 *
 * The process has registered START..LEN for asynchronous write protection.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../chpox/pagemap.h"

#define REGIONS 4096
#define THREADS 64
#define BATCH 512

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int park(pid_t pid, pid_t *tids)
{
	char path[64];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && n < THREADS && (e = readdir(d)))
		if (e->d_name[0] != '.')
			tids[n++] = atoi(e->d_name);
	if (d)
		closedir(d);
	for (int i = 0; i < n; i++)
		if (ptrace(PTRACE_SEIZE, tids[i], NULL, NULL))
			die("seize");
	for (int i = 0; i < n; i++)
		ptrace(PTRACE_INTERRUPT, tids[i], NULL, NULL);
	for (int i = 0; i < n; i++)
		waitpid(tids[i], NULL, __WALL);
	return n;
}

static void release(const pid_t *tids, int n)
{
	for (int i = 0; i < n; i++)
		ptrace(PTRACE_DETACH, tids[i], NULL, NULL);
}

/* Regions one behind the other in @v, room for @max. Return: their number. */
static int scan(int map, uint64_t start, uint64_t len, int again, struct page_region *v,
		int max)
{
	struct pm_scan_arg a = { .size = sizeof(a),
				 .flags = again ? PM_WP_MATCHING | PM_CHECK_WPASYNC : 0,
				 .start = start,
				 .end = start + len,
				 .category_mask = PM_WRITTEN,
				 .category_anyof_mask = PM_PRESENT | PM_SWAPPED,
				 .return_mask = PM_WRITTEN };
	int n = 0, got;

	while (a.start < a.end && n < max) {
		a.vec = (uintptr_t)(v + n);
		a.vec_len = (uint64_t)(max - n < REGIONS ? max - n : REGIONS);
		got = ioctl(map, PM_SCAN, &a);
		if (got < 0)
			die("PAGEMAP_SCAN");
		n += got;
		a.start = a.walk_end;
	}
	return n;
}

static void read_all(pid_t pid, const struct page_region *v, int n, char *to, size_t room)
{
	struct iovec from[BATCH], into;

	for (int i = 0; i < n;) {
		size_t len = 0;
		int k = 0;

		while (i < n && k < BATCH && len + (v[i].end - v[i].start) <= room) {
			from[k].iov_base = (void *)(uintptr_t)v[i].start;
			from[k].iov_len = v[i].end - v[i].start;
			len += from[k++].iov_len;
			i++;
		}
		if (!k)
			break;
		into = (struct iovec){ to, len };
		if (process_vm_readv(pid, &into, 1, from, (unsigned long)k, 0) < 0)
			die("process_vm_readv");
	}
}

int main(int argc, char **argv)
{
	pid_t pid = argc > 2 ? atoi(argv[2]) : 0, tids[THREADS];
	uint64_t start = argc > 4 ? strtoull(argv[3], NULL, 0) : 0;
	uint64_t len = argc > 4 ? strtoull(argv[4], NULL, 0) : 0;
	int max = 1 << 20, map, n;
	size_t room = 64u << 20;
	struct page_region *v = calloc((size_t)max, sizeof(*v));
	char path[64], *to = malloc(room);
	double begun = now();

	if (argc < 4 || !v || !to)
		return 2;
	memset(to, 1, room);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	map = open(path, O_RDONLY | O_CLOEXEC);
	if (map < 0)
		die(path);
	if (strcmp(argv[1], "park") == 0) {
		for (int i = 0; i < atoi(argv[3]); i++) {
			release(tids, park(pid, tids));
			usleep(50000);
		}
	} else if (strcmp(argv[1], "scan") == 0) {
		begun = now();
		scan(map, start, len, 0, v, max);
		printf("%.6f\n", now() - begun);
	} else {
		for (int i = 0; i < atoi(argv[5]); i++) {
			n = park(pid, tids);
			read_all(pid, v, scan(map, start, len, 1, v, max), to, room);
			release(tids, n);
			begun += 1;
			if (begun > now())
				usleep((useconds_t)((begun - now()) * 1e6));
		}
	}
	return 0;
}
