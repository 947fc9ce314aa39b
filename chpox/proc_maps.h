/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proc_maps.h - reading /proc/PID/maps and smaps: a pure, total parser.
 *
 * The text is hostile until checked: every line must have the form the kernel gives it, and
 * mappings must be page-aligned, ascending and disjoint; else CPX_E_FORMAT.
 * Keys of smaps that are not known are passed over.
 */
#ifndef CPX_PROC_MAPS_H
#define CPX_PROC_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cpx_err;

#define CPX_MAPS_MAX (256u << 20) /* bytes of text */

/* VmFlags of smaps that matter here. */
enum cpx_vmflag {
	CPX_VMF_LO = 1u << 0,  /* locked */
	CPX_VMF_DC = 1u << 1,  /* not copied by fork */
	CPX_VMF_WF = 1u << 2,  /* wiped by fork */
	CPX_VMF_HG = 1u << 3,  /* huge pages advised */
	CPX_VMF_NH = 1u << 4,  /* no huge pages advised */
	CPX_VMF_MG = 1u << 5,  /* mergeable */
	CPX_VMF_DD = 1u << 6,  /* not in core dumps */
	CPX_VMF_SR = 1u << 7,  /* sequential */
	CPX_VMF_RR = 1u << 8,  /* random */
	CPX_VMF_GD = 1u << 9,  /* grows down */
	CPX_VMF_NR = 1u << 10, /* no swap space reserved */
	CPX_VMF_HT = 1u << 11, /* hugetlb */
	CPX_VMF_MW = 1u << 12, /* may be made writable */
	CPX_VMF_SL = 1u << 13, /* sealed */
	CPX_VMF_DP = 1u << 14, /* droppable */
	CPX_VMF_SS = 1u << 15, /* shadow stack */
	CPX_VMF_IO = 1u << 16, /* device memory */
	CPX_VMF_PF = 1u << 17, /* page frames without struct page */
	CPX_VMF_UFFD =
		1u << 18, /* somebody serves its faults (write tracking alone, uw, is ours) */
	CPX_VMF_AC = 1u << 19 /* memory is reserved for it */
};

struct cpx_map {
	uint64_t start, end; /* addresses */
	uint64_t pgoff;	     /* bytes into the object */
	uint64_t ino;
	uint32_t dev_major, dev_minor;
	uint32_t prot; /* PROT_* */
	bool shared;
	const char *name; /* "" if it has none */
	/* from smaps only */
	uint64_t rss, page_size;
	uint32_t pkey;
	uint32_t vmflags; /* enum cpx_vmflag */
};

struct cpx_maps {
	struct cpx_map *v; /* ascending */
	size_t n;
	char *text; /* holds the names */
};

/*
 * cpx_maps_parse() - of either file.
 * @text: malloc'ed, @len bytes and a NUL; taken over (also on failure) and written to.
 */
int cpx_maps_parse(char *text, size_t len, struct cpx_maps *out, struct cpx_err *err);

/* Read and parse @file ("maps", "smaps") in the open /proc/PID. */
int cpx_maps_read(int proc_fd, const char *file, struct cpx_maps *out, struct cpx_err *err);
void cpx_maps_free(struct cpx_maps *maps);

/* The mapping that holds @addr, or the next above it; NULL if there is none. */
const struct cpx_map *cpx_maps_at(const struct cpx_maps *maps, uint64_t addr);

#endif
