/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_file.h - what the sources of the files family share (cap_file.c: descriptor tables and
 * open file descriptions; cap_file_rec.c: file records and their rules; cap_file_data.c: their
 * content).
 */
#ifndef CPX_CAP_FILE_H
#define CPX_CAP_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct cpx_cap;
struct cpx_cap_task;
struct cpx_err;
struct cpx_proc_fd;
struct cpx_rec_file;
struct cpx_rec_ofd;

/* Files open for reading and writing up to this size are saved with their content. */
#define CPX_SNAPSHOT_MAX (64u << 20)
/* Files that the job has made itself and only reads, up to this size, in case they are gone. */
#define CPX_KEEP_MAX (16u << 20)

/* A file record while it is being made. */
struct cpx_cap_file {
	struct cpx_rec_file *rec;
	int path_fd;	/* O_PATH: pins the inode, disturbs nobody; until end() */
	bool writable;	/* somebody of the job may change it: read it in the pause */
	bool tmpfs;	/* gone after a reboot */
	bool ephemeral; /* made by the job itself, or on tmpfs: may be missing at the restart */
	bool saved;	/* its content is queued, or copied */
	uint8_t *copy;	/* its content at the pause (mapped), or NULL */
	uint64_t copy_len;
	int read_fd; /* what queued reads read from, -1: none */
	struct cpx_cap_file *next;
};

/* Save @size bytes of @fd now, while the job waits. @path is for messages. */
int cpx_cap_file_put_fd(struct cpx_cap *c, int fd, const char *path, uint64_t size,
			uint32_t space, struct cpx_err *err);

struct cpx_cap_files {
	void *ofds;   /* tree of open file descriptions */
	void *by_key; /* tree of file records by device, inode and path */
	struct cpx_cap_file *list, **tail;
	struct cpx_cap_file **by_id; /* ids are small numbers */
	size_t ids;
	int root_fd;	  /* where the job's paths start: O_PATH; -1 until it is needed */
	int64_t start_ns; /* CLOCK_REALTIME at which the job's root started; 0: not known yet */
	uint64_t copied;  /* bytes held in memory */
};

/* cap_file_rec.c */
int cpx_cap_file_get(struct cpx_cap *c, struct cpx_cap_task *t, int fd, const char *link_text,
		     struct cpx_cap_file **out, struct cpx_err *err);
/* A regular file is open with @flags at @pos: settle what rule that asks for. */
void cpx_cap_file_opened(struct cpx_cap_file *f, uint32_t flags, uint64_t pos);
void cpx_cap_file_free_all(struct cpx_cap_files *p);

/* cap_file_data.c */
int cpx_cap_file_pause(struct cpx_cap *c, struct cpx_cap_files *p, struct cpx_err *err);
int cpx_cap_file_late(struct cpx_cap *c, struct cpx_cap_files *p, struct cpx_err *err);
/* @fd: the job's own description of the fifo, borrowed. */
int cpx_cap_fifo(struct cpx_cap *c, struct cpx_cap_file *f, int fd, struct cpx_err *err);

/* cap_file_lock.c: the locks that @info shows; @first: the ofd is seen for the first time. */
int cpx_cap_file_locks(struct cpx_cap *c, struct cpx_cap_task *t, int fd,
		       const struct cpx_proc_fd *info, const struct cpx_rec_ofd *ofd,
		       bool first, struct cpx_cap_file *f, struct cpx_err *err);

#endif
