/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * limits.c - what the machine can do: the bounds that a checkpoint and a restart are held
 *against. Prints seconds (and, for lz4, the bytes that came out).
 *
 *	limits lz4 SIZE KIND		compress SIZE of data on all cores, in memory
 *	limits unlz4 SIZE KIND		decompress to SIZE of data on all cores, into fresh
 *memory limits write SIZE FILE		write with libaio and O_DIRECT, preallocated, made
 *durable limits read SIZE FILE		read with libaio and O_DIRECT limits spawn PROGRAM N
 *start and reap a program, N times; median
 *
 *	limits durable SIZE KIND FILE	compress SIZE of data on all cores, one O_DIRECT write
 *					of it, fdatasync, rename, fsync of the directory
 *
 * Sizes above PIECE are done in pieces of it, so that the bench needs no memory of its own
 *size.
 */
#include <fcntl.h>
#include <libaio.h>
#include <lz4.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "data.h"

#define PIECE (1ull << 30)
#define BLOCK (256u << 10) /* bytes that are compressed as one */
#define CHUNK (1u << 20)   /* of one I/O */
#define DEPTH 16

extern char **environ;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

struct work {
	uint8_t *data, *packed; /* blocks of BLOCK, and of the bound of it */
	uint32_t *sizes;	/* of each packed block */
	size_t blocks;
	_Atomic size_t next;
	_Atomic uint64_t bytes;
	int unpack;
};

static size_t bound(void)
{
	return (size_t)LZ4_compressBound(BLOCK);
}

static void *worker(void *arg)
{
	struct work *w = arg;
	char *out = malloc(bound());
	size_t i;

	if (!out)
		die("malloc");
	while ((i = w->next++) < w->blocks) {
		char *data = (char *)w->data + i * BLOCK;
		int n;

		if (w->unpack) {
			n = LZ4_decompress_safe((char *)w->packed + i * bound(), data,
						(int)w->sizes[i], BLOCK);
			if (n != BLOCK)
				die("LZ4_decompress_safe");
			continue;
		}
		n = LZ4_compress_default(data, out, BLOCK, (int)bound());
		w->bytes += n < (int)BLOCK ? (uint64_t)n : BLOCK;
		if (w->packed) {
			memcpy(w->packed + i * bound(), out, (size_t)n);
			w->sizes[i] = (uint32_t)n;
		}
	}
	free(out);
	return NULL;
}

/* All blocks of @w on all cores. Return: seconds. */
static double run(struct work *w)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t *t = calloc((size_t)cores, sizeof(*t));
	double start = now();

	if (!t)
		die("calloc");
	w->next = 0;
	for (long i = 0; i < cores; i++)
		if (pthread_create(&t[i], NULL, worker, w))
			die("pthread_create");
	for (long i = 0; i < cores; i++)
		pthread_join(t[i], NULL);
	free(t);
	return now() - start;
}

static uint8_t *fresh(size_t len)
{
	uint8_t *p =
		mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	madvise(p, len, MADV_NOHUGEPAGE);
	return p;
}

static int lz4(uint64_t size, int kind, int unpack)
{
	uint64_t piece = size < PIECE ? size : PIECE;
	struct work w = { .blocks = piece / BLOCK };
	double total = 0;

	w.data = fresh(piece);
	if (unpack) {
		w.packed = fresh(w.blocks * bound());
		w.sizes = calloc(w.blocks, sizeof(*w.sizes));
	}
	for (uint64_t done = 0; done < size; done += piece) {
		if (done == 0 || !unpack)
			bench_fill(w.data, piece, 1 + done, kind);
		if (unpack) {
			if (done == 0) {
				run(&w);
				w.unpack = 1;
			}
			munmap(w.data, piece);
			w.data = fresh(piece);
		}
		total += run(&w);
	}
	printf("%.6f %llu\n", total, (unsigned long long)w.bytes);
	return 0;
}

/* @size bytes of @fd through DEPTH requests in flight. */
static void stream(int fd, uint64_t size, int writing)
{
	struct iocb cb[DEPTH], *one;
	struct io_event done[DEPTH];
	io_context_t ctx = NULL;
	uint64_t at = 0;
	int flying = 0;
	void *buf;

	if (posix_memalign(&buf, 4096, (size_t)CHUNK * DEPTH) || io_setup(DEPTH, &ctx))
		die("io_setup");
	bench_fill(buf, (size_t)CHUNK * DEPTH, 7, BENCH_RANDOM);
	for (int i = 0; i < DEPTH; i++)
		cb[i].data = (char *)buf + (size_t)i * CHUNK;
	for (int i = 0; i < DEPTH || flying > 0;) {
		int n;

		for (; i < DEPTH && at < size; i++, flying++, at += CHUNK) {
			void *p = cb[i].data;

			if (writing)
				io_prep_pwrite(&cb[i], fd, p, CHUNK, (long long)at);
			else
				io_prep_pread(&cb[i], fd, p, CHUNK, (long long)at);
			cb[i].data = p;
			one = &cb[i];
			if (io_submit(ctx, 1, &one) != 1)
				die("io_submit");
		}
		i = DEPTH;
		if (!flying)
			break;
		n = io_getevents(ctx, 1, DEPTH, done, NULL);
		for (int e = 0; e < n; e++) {
			if ((long)done[e].res < 0)
				die("I/O");
			flying--;
			if (at < size) {
				struct iocb *c = done[e].obj;
				void *p = c->data;

				if (writing)
					io_prep_pwrite(c, fd, p, CHUNK, (long long)at);
				else
					io_prep_pread(c, fd, p, CHUNK, (long long)at);
				c->data = p;
				if (io_submit(ctx, 1, &c) != 1)
					die("io_submit");
				flying++;
				at += CHUNK;
			}
		}
	}
	io_destroy(ctx);
	free(buf);
}

static int disk(uint64_t size, const char *path, int writing)
{
	int flags = writing ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY;
	int fd = open(path, flags | O_DIRECT | O_CLOEXEC, 0600);
	double start;

	size = (size + CHUNK - 1) / CHUNK * CHUNK;
	if (fd < 0) /* tmpfs of older kernels */
		fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		die(path);
	start = now();
	if (writing && fallocate(fd, 0, 0, (off_t)size))
		fprintf(stderr, "limits: no preallocation here\n");
	stream(fd, size, writing);
	if (writing && fsync(fd))
		die("fsync");
	printf("%.6f\n", now() - start);
	close(fd);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static int spawn(char *program, int n)
{
	char *argv[] = { program, NULL };
	double *t = calloc((size_t)n, sizeof(*t));

	for (int i = 0; t && i < n; i++) {
		double start = now();
		pid_t pid;

		if (posix_spawn(&pid, program, NULL, NULL, argv, environ))
			die(program);
		waitpid(pid, NULL, 0);
		t[i] = now() - start;
	}
	qsort(t, (size_t)n, sizeof(*t), by_value);
	printf("%.6f %.6f %.6f\n", t[n / 2], t[n / 10], t[n * 9 / 10]);
	free(t);
	return 0;
}

/* The least that must be done for @size bytes of pages to outlast a power cut. */
static int durable(uint64_t size, int kind, const char *path)
{
	struct work w = { .blocks = (size + BLOCK - 1) / BLOCK };
	char part[4096], dir[4096];
	double start, packed;
	uint64_t len;
	void *buf;
	int fd, dfd;

	w.data = fresh(w.blocks * BLOCK);
	bench_fill(w.data, w.blocks * BLOCK, 1, kind);
	packed = run(&w) * (double)size / (double)(w.blocks * BLOCK);
	len = ((uint64_t)((double)w.bytes * (double)size / (double)(w.blocks * BLOCK)) | 4095) +
	      1;
	if (posix_memalign(&buf, 4096, len))
		die("memory");
	memset(buf, 1, len);
	snprintf(part, sizeof(part), "%s.part", path);
	snprintf(dir, sizeof(dir), "%s", path);
	*strrchr(dir, '/') = 0;
	start = now();
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	dfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || dfd < 0 || write(fd, buf, len) != (ssize_t)len || fdatasync(fd) ||
	    rename(part, path) || fsync(dfd))
		die(path);
	printf("%.6f\n", packed + now() - start);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "durable") == 0 && bench_size_of(argv[2]) &&
	    bench_kind_of(argv[3]) >= 0 && argv[4][0] == '/')
		return durable(bench_size_of(argv[2]), bench_kind_of(argv[3]), argv[4]);
	if (argc == 4) {
		uint64_t size = bench_size_of(argv[2]);
		int kind = bench_kind_of(argv[3]);

		if (strcmp(argv[1], "spawn") == 0 && atoi(argv[3]) > 0)
			return spawn(argv[2], atoi(argv[3]));
		if (size && strcmp(argv[1], "write") == 0)
			return disk(size, argv[3], 1);
		if (size && strcmp(argv[1], "read") == 0)
			return disk(size, argv[3], 0);
		if (size % BLOCK == 0 && size && kind >= 0 && strcmp(argv[1], "lz4") == 0)
			return lz4(size, kind, 0);
		if (size % BLOCK == 0 && size && kind >= 0 && strcmp(argv[1], "unlz4") == 0)
			return lz4(size, kind, 1);
	}
	fprintf(stderr, "usage: limits lz4|unlz4 SIZE mix|random, write|read SIZE FILE, "
			"spawn PROGRAM N, durable SIZE mix|random /FILE\n");
	return 2;
}
