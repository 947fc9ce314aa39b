/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * objio.h - the one way in which the store touches files.
 *
 * Paths are relative to the store's root, at most CPX_IO_PATH_MAX bytes, without "..";
 * no symbolic link below the root is followed, and all is done as the owner. Each
 * changing call goes past a hook first: a test records the calls there or makes them
 * fail. Errors are CPX_E_* with the full path in the message.
 */
#ifndef CPX_STORE_OBJIO_H
#define CPX_STORE_OBJIO_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "owner.h"

struct cpx_err;

#define CPX_IO_PATH_MAX 256
#define CPX_IO_DEPTH 4	 /* buffers of a cpx_io_queue, */
#define CPX_IO_THREADS 2 /* and how many of them are being written at a time */

enum cpx_io_kind {
	CPX_IO_MKDIR,
	CPX_IO_CREATE,
	CPX_IO_ALLOCATE,
	CPX_IO_WRITE,
	CPX_IO_TRUNCATE,
	CPX_IO_FSYNC,
	CPX_IO_FSYNC_DIR,
	CPX_IO_RENAME,
	CPX_IO_UNLINK,
	CPX_IO_RMDIR,
	CPX_IO_OPEN,
	CPX_IO_READ,
	CPX_IO_KINDS
};

struct cpx_io_op {
	enum cpx_io_kind kind;
	const char *path;
	const char *to; /* rename */
	uint64_t off;	/* write, allocate, read; truncate: the new size */
	const void *data;
	size_t len;
};

struct cpx_io_hook {
	/* Return: 0, or an errno value with which the call fails without being made. */
	int (*call)(void *ctx, const struct cpx_io_op *op);
	void *ctx;
};

/* The time in which the store had something to write or to make durable. */
struct cpx_io_meter {
	pthread_mutex_t lock; /* all below */
	unsigned busy;	      /* calls under way */
	int64_t since;	      /* from when on */
	int64_t ns;
	uint64_t bytes;
};

struct cpx_io {
	int root;    /* directory descriptor */
	char *shown; /* its path, for messages; owned */
	struct cpx_owner owner;
	struct cpx_io_hook hook;
	struct cpx_io_meter meter;
};

struct cpx_io_file {
	struct cpx_io *io;
	int fd;
	char path[CPX_IO_PATH_MAX];
};

struct cpx_io_slot {
	int fd;
	const void *buf;
	size_t len;
	uint64_t off;
};

/* Writes in flight; one thread uses it. Buffers stay untouched until their slot is free. */
struct cpx_io_queue {
	pthread_mutex_t lock; /* of what follows, but for @threads, @io and @path */
	pthread_cond_t work, done;
	struct cpx_io_slot slots[CPX_IO_DEPTH];
	unsigned busy, queued; /* bit per slot; queued ones are busy, too */
	bool closing;
	int sys; /* first errno seen */
	pthread_t threads[CPX_IO_THREADS];
	unsigned nthreads; /* 0: writes are synchronous */
	struct cpx_io *io;
	char path[CPX_IO_PATH_MAX]; /* of the last write: one file at a time */
};

/* Open (and with @create make) the root directory @path as @uid. Consumes nothing on failure.
 */
int cpx_io_init(struct cpx_io *io, const char *path, bool create, uint32_t uid, uint32_t gid,
		struct cpx_err *err);
void cpx_io_fini(struct cpx_io *io);

/* Read-only descriptor of @path. */
int cpx_io_open(struct cpx_io *io, const char *path, struct cpx_err *err);
/* Read exactly @len bytes; fewer are CPX_E_CHECKSUM ("cut off"). @path: for the message. */
int cpx_io_read(struct cpx_io *io, int fd, const char *path, void *buf, size_t len,
		uint64_t off, struct cpx_err *err);

/* A new file, 0600, for writing. CPX_E_EXIST if the name is taken. */
int cpx_io_create(struct cpx_io *io, const char *path, struct cpx_io_file *f,
		  struct cpx_err *err);
/* Switch to O_DIRECT. Return: whether it could be had. */
bool cpx_io_direct(struct cpx_io_file *f);
/* Return: 0, or -1 with errno (a caller may go on without). */
int cpx_io_allocate(struct cpx_io_file *f, uint64_t off, uint64_t len);
int cpx_io_write(struct cpx_io_file *f, const void *buf, size_t len, uint64_t off,
		 struct cpx_err *err);
int cpx_io_truncate(struct cpx_io_file *f, uint64_t size, struct cpx_err *err);
int cpx_io_fsync(struct cpx_io_file *f, struct cpx_err *err);
void cpx_io_close(struct cpx_io_file *f);

void cpx_io_queue_init(struct cpx_io_queue *q); /* without threads: stays synchronous */
void cpx_io_queue_fini(struct cpx_io_queue *q); /* waits for what is in flight */
/* Start (or do) a write from a buffer that stays as it is; @slot must be free. */
int cpx_io_queue_write(struct cpx_io_queue *q, unsigned slot, struct cpx_io_file *f,
		       const void *buf, size_t len, uint64_t off, struct cpx_err *err);
/* A free slot, waiting for one if need be; or the first error of an earlier write. */
int cpx_io_queue_slot(struct cpx_io_queue *q, struct cpx_err *err);
int cpx_io_queue_drain(struct cpx_io_queue *q, struct cpx_err *err);

/* A call to the store begins; it ends, and @bytes are written. */
void cpx_io_busy(struct cpx_io *io);
void cpx_io_idle(struct cpx_io *io, uint64_t bytes);
/* Since the store was opened. */
void cpx_io_metered(struct cpx_io *io, uint64_t *bytes, int64_t *ns);

/* For io_queue.c: ask hook and fault points; write all. Return: 0, or -1 with errno. */
int cpx_io_past_hook(struct cpx_io *io, const struct cpx_io_op *op);
int cpx_io_write_all(int fd, const uint8_t *p, size_t len, uint64_t off);

/* 0700. Return: 1 made, 0 it was there, or an error. */
int cpx_io_mkdir(struct cpx_io *io, const char *path, struct cpx_err *err);
int cpx_io_rmdir(struct cpx_io *io, const char *path, struct cpx_err *err);
int cpx_io_fsync_dir(struct cpx_io *io, const char *path, struct cpx_err *err);
/* Never replaces: CPX_E_EXIST. */
int cpx_io_rename(struct cpx_io *io, const char *from, const char *to, struct cpx_err *err);
int cpx_io_unlink(struct cpx_io *io, const char *path, struct cpx_err *err);
bool cpx_io_exists(struct cpx_io *io, const char *path);
/* Names in directory @path without . and ..; no such directory: none. A negative return of
 * @each ends it. */
int cpx_io_list(struct cpx_io *io, const char *path, int (*each)(void *ctx, const char *name),
		void *ctx, struct cpx_err *err);

#endif
