/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_mem_priv.h - what the parts of the memory family share. Private to rst_mem*.c.
 *
 * rst_mem.c	    checks, the home, mapping and filling an address space
 * rst_mem_shm.c    shared memory objects
 * rst_mem_vdso.c   the vDSO of this kernel under the job's old code
 */
#ifndef CPX_RST_MEM_PRIV_H
#define CPX_RST_MEM_PRIV_H

#include "restore.h"
#include "rst_batch.h"
#include "rst_owner.h"

#define CPX_USER_END 0x7ffffffff000ull /* of 47-bit address spaces */
#define CPX_HOME_SIZE 65536ull
#define CPX_SPARE_SIZE (256ull << 10) /* behind the home: where another kernel's vDSO goes */

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

struct cpx_rst_mm {
	const struct cpx_rec_mm *rec;
	const struct cpx_rec_vma **v; /* ascending */
	size_t n;
	const struct cpx_rec_vdso *vdso; /* NULL: the job had none */
	/* what it shares with another one, which stands before it; NULL: nothing */
	const struct cpx_rec_cow *cow;
	struct cpx_rst_mm *cow_of;
	bool filled; /* in some process, as recorded */
};

/* A part of a mapping that is treated in one way. */
struct cpx_rst_piece {
	const struct cpx_rec_vma *v;
	uint64_t start, end;
	bool kept;	   /* inherited from the parent process */
	uint32_t old_prot; /* if kept */
	bool apart;	   /* its neighbour looks the same, but they were two */
};

struct cpx_rst_pieces {
	struct cpx_rst_piece *v;
	size_t n, cap;
	bool keep_vdso;
};

struct cpx_rst_shm {
	const struct cpx_rec_shm *rec;
	int fd; /* -1: not made yet */
	int sysv_id;
	void *map; /* SysV: the conductor's own attachment */
	bool made; /* SysV: it was not there before */
};

/* A file that mappings need, opened once. */
struct cpx_rst_mfile {
	uint32_t id;
	int flags, fd;
};

struct cpx_rst_mem {
	struct cpx_rst_mm *mms;
	size_t nmms;
	struct cpx_rst_shm *shms;
	size_t nshms;
	struct cpx_rst_mfile *files;
	size_t nfiles;
	struct cpx_rst_owner owner;
	/* this kernel's vDSO, as the conductor has it */
	const uint8_t *vdso;
	size_t vdso_size, vdso_gap; /* gap: from the first vvar mapping to it */
	bool late_done;
};

/*
 * rst_mem.c: where the image has the pages of all private mappings of @mm, also those that it
 * shares with another one. Return: number; *@out is malloc'ed.
 */
int cpx_rst_mem_extents(const struct cpx_rst_mm *mm, struct cpx_extent **out,
			struct cpx_err *err);
struct cpx_rst_mm *cpx_rst_mm_find(struct cpx_rst_mem *m, uint32_t id);

/* --- rst_mem_map.c ------------------------------------------------------------------------ */

/* A descriptor of a file record in the conductor, opened once; borrowed. */
int cpx_rst_mem_file(struct cpx_rst *r, uint32_t id, int flags, struct cpx_err *err);
/* Pages in this mapping may have content of their own. */
bool cpx_rst_has_pages(const struct cpx_rec_vma *v);
/*
 * Settle what is kept and map the rest. @from: the address space that the process inherited
 * whole, or NULL. @out: free(out->v) when done.
 */
int cpx_rst_mem_map(struct cpx_rst *r, struct cpx_rst_mm *mm, const struct cpx_rst_mm *from,
		    struct cpx_rst_task *t, struct cpx_batch *b, struct cpx_rst_pieces *out,
		    struct cpx_err *err);
/* After the contents: protection as recorded. */
int cpx_rst_mem_protect(const struct cpx_rst_pieces *p, struct cpx_batch *b,
			struct cpx_err *err);
/* The first range of @cow that ends above @addr; index of its start in the list of numbers. */
uint32_t cpx_rst_cow_at(const struct cpx_rec_cow *cow, uint64_t addr);

/* --- rst_mem_shm.c ------------------------------------------------------------------------ */

int cpx_rst_shm_prepare(struct cpx_rst *r, struct cpx_err *err);
struct cpx_rst_shm *cpx_rst_shm_find(struct cpx_rst *r, uint32_t id);
/* Make and fill the object if that was not done. */
int cpx_rst_shm_make(struct cpx_rst *r, struct cpx_rst_shm *s, struct cpx_err *err);
/* Attach the SysV segments of an address space; before anything else is mapped there. */
int cpx_rst_shm_attach(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_batch *b,
		       struct cpx_err *err);
/* Seals, and removal of segments that were removed: when everybody has what he needs. */
int cpx_rst_shm_late(struct cpx_rst *r, struct cpx_err *err);
void cpx_rst_shm_end(struct cpx_rst *r);

/* --- rst_mem_vdso.c ----------------------------------------------------------------------- */

void cpx_rst_vdso_own(struct cpx_rst_mem *m);
/* Map this kernel's vDSO, in place or beside; called when the rest is mapped. */
int cpx_rst_vdso_map(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_rst_task *t,
		     struct cpx_batch *b, struct cpx_err *err);

#endif
