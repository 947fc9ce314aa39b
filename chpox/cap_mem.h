/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_mem.h - what the parts of the memory family share. Private to cap_mem*.c, snap_clone.c.
 *
 * cap_mem.c	    address spaces and mappings: records
 * cap_mem_shm.c    shared memory objects: records and content
 * cap_mem_pages.c  which pages there are, and handing them to the image
 * snap_clone.c	    the copy-on-write clone they are read from
 */
#ifndef CPX_CAP_MEM_H
#define CPX_CAP_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "capture.h"
#include "proc_maps.h"
#include "vma_flags.h"

struct cpx_mem_ranges {
	uint64_t (*v)[2]; /* start, end */
	size_t n, cap;
};

/* Where the pages of an address space are read. Valid until cpx_image_drain(). */
struct cpx_mem_src {
	int mem_fd;		     /* borrowed */
	const struct cpx_home *home; /* what we wrote there is not shown; NULL: nothing */
	pid_t pid;
	bool sparse; /* it ends where a page is not there: that one is zero */
};

struct cpx_mem_vma {
	const struct cpx_map *map;
	struct cpx_rec_vma *rec;
	bool taken;   /* in the pause: not in the clone */
	bool covered; /* mm->dirty says which pages were written since the base generation */
};

struct cpx_mem_mm {
	struct cpx_cap_task *t;
	struct cpx_rec_mm *rec;
	struct cpx_maps maps;
	struct cpx_mem_vma *v;
	size_t n;
	bool flags_known;	   /* VmFlags are in the records */
	struct cpx_mem_mm *parent; /* the address space it was forked from, if that is known */
	struct cpx_mem_ranges cow; /* what it still shares with that one */
	struct cpx_mem_src live, clone;
	struct cpx_track_mm *track;   /* NULL: not tracked, all pages are put */
	struct cpx_mem_ranges dirty;  /* ascending; of covered mappings */
	struct cpx_precopy_mm *early; /* what was put before the pause; NULL: nothing */
	struct cpx_vma_list words;    /* of the pause; empty where there is no reader */
};

struct cpx_mem_shm {
	struct cpx_mem_shm *next;
	uint64_t dev, ino;
	bool sysv;
	int fd; /* of our own, for reading */
	struct cpx_rec_shm *rec;
	struct cpx_known *known; /* borrowed from the tracker; NULL: none */
};

/* Bytes copied while the job is stopped, so that it need not wait for the image. */
struct cpx_mem_stash {
	struct cpx_mem_stash *next;
	uint64_t off;
	uint8_t data[];
};

#define CPX_MEM_STASH_MAX (32u << 20) /* bytes */

enum cpx_mem_scan { CPX_SCAN_UNKNOWN = 0, CPX_SCAN_GUARD, CPX_SCAN_PLAIN, CPX_SCAN_NONE };

struct cpx_mem {
	struct cpx_mem_mm **mms;
	size_t nmms;
	struct cpx_mem_shm *shms;
	struct cpx_mem_file *files; /* mapped files seen: cap_mem.c */
	struct cpx_mem_stash *stash;
	size_t stash_len;
	enum cpx_mem_scan scan; /* what the kernel's PAGEMAP_SCAN can do */
	uint64_t shm_dev;	/* of the kernel's own shared memory objects */
	bool direct;		/* something was queued that must be drained before release */
	uint64_t watch_floor;	/* bytes that must stay free while a clone lives; 0: no watch */
	int64_t watched_ns;	/* last look */
};

/* --- cap_mem_shm.c ---------------------------------------------------------------------- */

/*
 * The shm record of the object open at @fd (of any mode). @name: the link text, with
 * " (deleted)". Return: 0; *@out is NULL after a refusal in a dry run.
 */
int cpx_mem_shm_get(struct cpx_cap *c, struct cpx_cap_task *t, int fd, const struct stat *st,
		    const char *name, struct cpx_mem_shm **out, struct cpx_err *err);
bool cpx_mem_is_shm(const struct cpx_mem *m, int fd, const struct stat *st);
/* Queue the content of all objects. @stash: copy now what fits. */
int cpx_mem_shm_put(struct cpx_cap *c, bool stash, struct cpx_err *err);
void cpx_mem_shm_free(struct cpx_mem *m);

/* --- cap_mem_pages.c -------------------------------------------------------------------- */

/*
 * Private pages of @v that are there: present or swapped, not of a file; and its guard regions,
 * none where the kernel does not tell. Both are appended.
 */
int cpx_mem_scan_pages(struct cpx_mem *m, int pagemap_fd, const struct cpx_rec_vma *v,
		       struct cpx_mem_ranges *out, struct cpx_mem_ranges *guards,
		       struct cpx_err *err);
/* The first private page in there. Return: 1, 0 if there is none, or an error. */
int cpx_mem_first_page(struct cpx_mem *m, int pagemap_fd, uint64_t start, uint64_t end,
		       uint64_t *addr, struct cpx_err *err);
/* Append a range, merged with the last one if it follows it. */
int cpx_mem_add_range(struct cpx_mem_ranges *r, uint64_t start, uint64_t end,
		      struct cpx_err *err);
bool cpx_mem_has_pages(const struct cpx_mem_vma *v);

int cpx_mem_open_pagemap(const struct cpx_mem_src *src, struct cpx_err *err);
/*
 * Queue the private pages and note the guard regions of a mapping, as @src has them.
 * @parent_fd: the page map of mm->parent in the same state, or -1: pages that are the same
 * there are noted in mm->cow and not queued.
 */
int cpx_mem_put_vma(struct cpx_cap *c, struct cpx_mem_mm *mm, const struct cpx_mem_vma *v,
		    struct cpx_mem_src *src, int pagemap_fd, int parent_fd, bool stash,
		    struct cpx_err *err);
/* The record of mm->cow, when all mappings are through. */
int cpx_mem_cow_record(struct cpx_cap *c, struct cpx_mem_mm *mm, struct cpx_err *err);
/* Queue bytes of a space that @reader gives, copied at once if @stash and there is room. */
int cpx_mem_put(struct cpx_cap *c, uint32_t space, uint64_t off, uint64_t len,
		cpx_page_reader reader, void *ctx, bool stash, struct cpx_err *err);
/*
 * The same for a space that is told by its content: what changed since the base is queued, the
 * rest inherited.
 */
int cpx_mem_put_changed(struct cpx_cap *c, struct cpx_known *known, uint32_t space,
			uint64_t off, uint64_t len, cpx_page_reader reader, void *ctx,
			bool stash, struct cpx_err *err);
int cpx_mem_read_src(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err);

/* --- cap_mem.c -------------------------------------------------------------------------- */

/* Parked: what there is to copy in the pause, and of how many pages, into c->precopy. */
int cpx_mem_left(struct cpx_cap *c, struct cpx_err *err);
/* Pages that the job has. */
uint64_t cpx_mem_resident(const struct cpx_cap *c);
/* Locked memory of a process. */
uint64_t cpx_mem_locked_kb(const struct cpx_cap_task *t);

/* --- snap_clone.c ----------------------------------------------------------------------- */

/* Private memory in use, bytes: what a snapshot of the process costs at most. */
uint64_t cpx_mem_private_bytes(pid_t pid);
/* Bytes that machine and the job's memory cgroup can still give. */
uint64_t cpx_mem_head_room(pid_t pid);

#endif
