/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_file.h - what the sources of the files family share: rst_file.c (tables, open file
 * descriptions), rst_file_open.c (finding and making files), rst_file_check.c (rules: the
 * plan), rst_file_apply.c (rules: rolling back), rst_file_give.c (into the task).
 */
#ifndef CPX_RST_FILE_H
#define CPX_RST_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "rst_owner.h"

struct cpx_err;
struct cpx_rec_file;
struct cpx_rec_ofd;
struct cpx_rst;
struct cpx_rst_task;

struct cpx_rst_file {
	const struct cpx_rec_file *rec;
	int path_fd;  /* O_PATH, or open: what all descriptors of the file are opened from */
	int guard_fd; /* fifo: both ends, so that no open waits */
	bool ours;    /* made by us or out of the image: opened with our own rights */
	bool in_job;  /* path_fd was opened from the job's root, not ours */
	bool checked;
	bool tmpfile; /* path_fd was opened with O_TMPFILE, as the job had it */
	bool left;    /* has more than recorded, and others write to it */
};

struct cpx_rst_ofd {
	const struct cpx_rec_ofd *rec;
	int fd; /* here; -1: not opened yet */
	bool opening;
	struct cpx_rst_task *task; /* a task that has it, */
	uint32_t task_fd;	   /* and its number there */
};

struct cpx_rst_files {
	struct cpx_rst_file *files; /* by id */
	size_t nfiles;
	struct cpx_rst_ofd *ofds; /* by id */
	size_t nofds;
	struct cpx_rst_owner owner;
	int root_fd;	 /* ours */
	int job_root_fd; /* the job's, where that is another mount namespace; else -1 */
	bool job_root_known;
	bool applied;
	int sock[2]; /* descriptors travel from [1] here to a copy of [0] in the task */
};

struct cpx_rst_file *cpx_rst_file_by_id(struct cpx_rst *r, uint32_t id);
struct cpx_rst_ofd *cpx_rst_ofd_by_id(struct cpx_rst *r, uint32_t id);

/* rst_file_open.c. Find (or make) the file: f->path_fd is valid then. */
int cpx_rst_file_ready(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err);
/* Find an existing file by its path, as the owner. Return: 0; CPX_E_NOENT is not an accident.
 */
int cpx_rst_file_find(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err);
/* Open @f anew from its path_fd. */
int cpx_rst_file_reopen(struct cpx_rst *r, struct cpx_rst_file *f, int flags,
			struct cpx_err *err);
/* Open the directory that @path is in, as the owner. @base: malloc'ed last component. */
int cpx_rst_file_parent(struct cpx_rst *r, const char *path, char **base, struct cpx_err *err);
/* Write the saved content into @fd (a file of that size already, zeros). */
int cpx_rst_file_fill(struct cpx_rst *r, const struct cpx_rst_file *f, int fd,
		      struct cpx_err *err);
/* Owner, mode, times and attributes of a file that we made. */
void cpx_rst_file_dress(struct cpx_rst *r, const struct cpx_rec_file *rec, int fd);
void cpx_rst_file_where(struct cpx_rst *r);

/* rst_file_check.c: the plan. Nothing is changed. */
int cpx_rst_file_check(struct cpx_rst *r, struct cpx_rst_file *f, struct cpx_err *err);

/* rst_file_apply.c: roll back what the rules say. Once. */
int cpx_rst_file_apply(struct cpx_rst *r, struct cpx_err *err);

/* rst_file_give.c: all descriptors of a table at once. */
int cpx_rst_file_table(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err);

/* rst_file_lock.c */
int cpx_rst_file_locks(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err);
int cpx_rst_file_ofd_locks(struct cpx_rst *r, struct cpx_err *err);
int cpx_rst_file_owners(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err);

#endif
