/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vma_flags.h - flags of mappings (VmFlags, protection key) without smaps, which walks all
 * pages of a process to tell them.
 *
 * A BPF iterator over mappings gives the kernel's own word for each. What its bits mean differs
 * from kernel to kernel; but what smaps says of a mapping is a function of that word alone, so
 * each word is looked up in smaps once and remembered. Linux 6.1 built with BTF; elsewhere
 * there is no reader and smaps is read each time.
 *
 * Not thread-safe.
 */
#ifndef CPX_VMA_FLAGS_H
#define CPX_VMA_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cpx_err;
struct cpx_maps;

#define CPX_VMA_WORDS_MAX 512

/* A mapping: addresses, and the kernel's word for it. */
struct cpx_vma_raw {
	uint64_t start, end, word;
};

struct cpx_vma_list {
	struct cpx_vma_raw *v; /* ascending; owned */
	size_t n;
};

struct cpx_vma_words {
	int prog_fd; /* -1: no reader */
	uint32_t n;
	struct {
		uint64_t word;
		uint32_t vmflags, pkey; /* as in struct cpx_map */
	} v[CPX_VMA_WORDS_MAX];
};

/* A reader that knows no word yet; CPX_E_UNSUPPORTED: not on this kernel, prog_fd is -1. */
int cpx_vma_words_init(struct cpx_vma_words *w, struct cpx_err *err);
void cpx_vma_words_free(struct cpx_vma_words *w);

/* A descriptor that reads the mappings of process @pid once, whenever it is read. */
int cpx_vma_open(const struct cpx_vma_words *w, pid_t pid, struct cpx_err *err);
/* Read it. @out is written on success. */
int cpx_vma_read(int fd, struct cpx_vma_list *out, struct cpx_err *err);
void cpx_vma_list_free(struct cpx_vma_list *l);
/* The word of all of [@start, @end). Return: false if no mapping holds it. */
bool cpx_vma_word(const struct cpx_vma_list *l, uint64_t start, uint64_t end, uint64_t *word);

/* Return: false if the word is not known. */
bool cpx_vma_flags(const struct cpx_vma_words *w, uint64_t word, uint32_t *vmflags,
		   uint32_t *pkey);
/*
 * Remember what @smaps and, read again, @again say of mappings that had the same word before
 * and after that. When the table is full it begins anew.
 */
void cpx_vma_learn(struct cpx_vma_words *w, const struct cpx_vma_list *before,
		   const struct cpx_maps *smaps, const struct cpx_maps *again,
		   const struct cpx_vma_list *after);

#endif
