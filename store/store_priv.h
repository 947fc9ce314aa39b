/* SPDX-License-Identifier: GPL-2.0-or-later */
/* store_priv.h - what the files of store/ and its tests share; not for others. */
#ifndef CPX_STORE_PRIV_H
#define CPX_STORE_PRIV_H

#include <pthread.h>

#include "format.h"
#include "objio.h"
#include "state.h"

#define CPX_CODE_CACHE 64

/* A file whose code object is known to be there. */
struct cpx_code_known {
	uint64_t dev, ino, size;
	int64_t mtime_ns, ctime_ns;
	uint8_t sha256[32];
};

/* What was hashed already; may be shared by processes that work one after the other. */
struct cpx_code_cache {
	struct cpx_code_known known[CPX_CODE_CACHE];
	unsigned nknown;
};

/* The list of the generation that is being written: code_list.c. One thread uses it. */
struct cpx_code_list {
	struct cpx_gen_id id;
	struct cpx_io_file file;
	uint64_t len;
	bool open;
};

struct cpx_store {
	struct cpx_io io;
	struct cpx_code_list list;
	pthread_mutex_t lock; /* all below */
	bool code_unsynced;   /* the directory of code objects has new names */
	uint8_t (*fresh)[32]; /* code objects made since the last commit; owned */
	size_t nfresh;
	struct cpx_code_cache own, *cache; /* &own, or the caller's */
};

/* As cpx_store_open(), with a hook that sees all file calls from the first on. */
int cpx_store_open_hooked(const char *url, const struct cpx_store_opts *opts,
			  struct cpx_io_hook hook, struct cpx_store **out, struct cpx_err *err);

unsigned cpx_store_workers(unsigned wanted);
/* What the store was seen to take; since @before. */
void cpx_store_speed(struct cpx_store *s, struct cpx_store_speed *out);
void cpx_store_speed_since(struct cpx_store *s, const struct cpx_store_speed *before,
			   struct cpx_store_speed *out);
/* The directory of a job, durable. *@made: it was not there; also written on failure. */
int cpx_store_make_dir(struct cpx_store *s, const char *job, bool *made, struct cpx_err *err);
/* Names of new code objects durable: before a manifest that refers to them. */
int cpx_store_sync_code(struct cpx_store *s, struct cpx_err *err);
void cpx_store_committed(struct cpx_store *s); /* the fresh ones are fresh no more */
/* Note that generation @id will refer to it: before it is looked for. */
int cpx_code_list_add(struct cpx_store *s, const struct cpx_gen_id *id, const uint8_t sum[32],
		      struct cpx_err *err);
/* The generation is committed, or given up. */
void cpx_code_list_end(struct cpx_store *s);
/* What is noted. Return: how many sums of 32 bytes; *@out is malloc'ed. */
int cpx_code_list_read(struct cpx_store *s, const struct cpx_gen_id *id, uint8_t **out,
		       struct cpx_err *err);
/* Read-only descriptor of an object, also while a collector has it. @name: where it is. */
int cpx_code_open(struct cpx_store *s, const uint8_t sha256[32], char name[CPX_NAME_MAX],
		  struct cpx_err *err);
/* What a file takes on disk; 0 if it is not there. */
uint64_t cpx_store_file_bytes(struct cpx_store *s, const char *path);
/* The object is there and fits its name. */
int cpx_store_check_code(struct cpx_store *s, const uint8_t sha256[32], struct cpx_err *err);
/* Remove what writers of code objects left. Return: number removed. */
int cpx_store_clean_code(struct cpx_store *s, struct cpx_err *err);

/* --- an open image (image_read.c) --------------------------------------------------- */

struct cpx_pack {
	int fd; /* -1: not open */
	unsigned users;
	struct cpx_block *table; /* NULL: not loaded */
};

struct cpx_seg {
	struct cpx_seg_entry *entries; /* flattened: no zero entries, ascending */
	int64_t n;		       /* -1: not loaded */
};

#define CPX_BLOCK_CACHE 8

struct cpx_cached_block {
	uint32_t pack, block; /* pack 0: empty */
	uint32_t len;
	uint64_t used;
	uint8_t *data; /* CPX_BLOCK_RAW */
};

struct cpx_image {
	struct cpx_store *store;
	struct cpx_manifest m;
	struct cpx_state *state;
	size_t manifest_len;
	pthread_mutex_t lock; /* all below */
	struct cpx_pack *packs;
	unsigned open_packs;
	struct cpx_seg *segs;
	struct cpx_cached_block cache[CPX_BLOCK_CACHE];
	uint64_t clock;
};

/* An image of @m, which is emptied, as the one in @store will be; its records if it has them.
 */
int cpx_image_of_manifest(struct cpx_store *store, struct cpx_manifest *m,
			  struct cpx_image **out, struct cpx_err *err);
/* @want_state: without, only manifest and maps. */
int cpx_image_load(struct cpx_store *store, const struct cpx_gen_id *id, bool want_state,
		   struct cpx_image **out, struct cpx_err *err);
int cpx_image_load_manifest(struct cpx_store *s, const struct cpx_gen_id *id, bool want_state,
			    struct cpx_manifest *m, size_t *len, struct cpx_err *err);

/* Open file and table of the pack at index @i; the descriptor stays until cpx_pack_put(). */
int cpx_pack_get(struct cpx_image *img, uint32_t i, struct cpx_err *err);
void cpx_pack_put(struct cpx_image *img, uint32_t i);
void cpx_pack_path(const struct cpx_image *img, uint32_t i, char out[CPX_NAME_MAX]);
/* Check and decode one block whose stored bytes are at @stored. */
int cpx_block_decode(const struct cpx_image *img, uint32_t i, uint32_t block,
		     const void *stored, void *out, struct cpx_err *err);
/* The flattened entries of segment @i of the manifest. Valid until dropped or closed. */
int cpx_seg_load(struct cpx_image *img, uint32_t i, struct cpx_seg **out, struct cpx_err *err);
void cpx_seg_drop(struct cpx_image *img, uint32_t i);
/* The entries of one of its runs alone. *@out is malloc'ed. Return: their number. */
int64_t cpx_seg_run(struct cpx_image *img, uint32_t i, uint32_t run, struct cpx_seg_entry **out,
		    struct cpx_err *err);
/* Read and decode one data block of the pack at index @i into @out (CPX_BLOCK_RAW). */
int cpx_data_block(struct cpx_image *img, uint32_t i, uint32_t block, void *out,
		   struct cpx_err *err);
/* By id; UINT32_MAX: none. */
uint32_t cpx_pack_index(const struct cpx_image *img, uint32_t id);

#endif
