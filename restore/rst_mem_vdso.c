/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_mem_vdso.c - the job's code calls the vDSO of the kernel it was started on, at its old
 * address. Where this kernel has the very same image and layout, it is mapped there. Where
 * not, the old image becomes ordinary memory: its entry points jump to this kernel's vDSO,
 * which is mapped behind the home, and the old data pages read as zeros, so that
 * old code which is still running (or is not patched) falls back to system calls.
 *
 * The old image comes from outside: its ELF tables are read with every offset checked, and
 * what does not fit is not patched.
 */
#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "../chpox/base/fault.h"
#include "../chpox/base/fd.h"
#include "rst_mem_priv.h"

#define MAP_VDSO_64 0x2003 /* ARCH_MAP_VDSO_64 */
#define JUMP 14u	   /* bytes of jmp [rip + 0] and its target */
#define SYMBOLS_MAX 256u
#define MAPS_MAX (1u << 20)

void cpx_rst_vdso_own(struct cpx_rst_mem *m)
{
	CPX_AUTO_FREE char *text = NULL;
	uint64_t vdso = 0, size = 0, vvar = 0;
	char *save = NULL;

	if (cpx_read_file(AT_FDCWD, "/proc/self/maps", MAPS_MAX, &text, NULL) < 0)
		return;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		uint64_t a, b;

		if (sscanf(l, "%" SCNx64 "-%" SCNx64, &a, &b) != 2)
			continue;
		if (strstr(l, " [vvar") && !vvar)
			vvar = a;
		if (strstr(l, " [vdso]")) {
			vdso = a;
			size = b - a;
		}
	}
	m->vdso = (const uint8_t *)(uintptr_t)vdso;
	m->vdso_size = size;
	m->vdso_gap = vvar && vvar < vdso ? vdso - vvar : 0;
}

/* --- symbols ------------------------------------------------------------------------------ */

struct image {
	const uint8_t *p;
	size_t n;
	uint64_t syms, strs, strs_len; /* offsets */
	uint32_t nsyms;
};

static bool inside(const struct image *im, uint64_t off, uint64_t len)
{
	return off <= im->n && len <= im->n - off;
}

static bool find_dynamic(struct image *im, const Elf64_Ehdr *eh, Elf64_Phdr *dyn,
			 uint64_t *base)
{
	bool load = false, found = false;

	for (uint32_t i = 0; i < eh->e_phnum; i++) {
		Elf64_Phdr ph;

		if (!inside(im, eh->e_phoff + i * sizeof(ph), sizeof(ph)))
			return false;
		memcpy(&ph, im->p + eh->e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_LOAD && !load) {
			*base = ph.p_vaddr - ph.p_offset;
			load = true;
		} else if (ph.p_type == PT_DYNAMIC) {
			*dyn = ph;
			found = true;
		}
	}
	return load && found && inside(im, dyn->p_offset, dyn->p_filesz);
}

/* The symbol table ends where the string table begins, in every vDSO there is. */
static bool open_image(const void *p, size_t n, struct image *im)
{
	Elf64_Ehdr eh;
	Elf64_Phdr dyn = { 0 };
	uint64_t base = 0;

	*im = (struct image){ .p = p, .n = n };
	if (n < sizeof(eh))
		return false;
	memcpy(&eh, p, sizeof(eh));
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 || eh.e_phoff > n ||
	    !find_dynamic(im, &eh, &dyn, &base))
		return false;
	for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= dyn.p_filesz; at += sizeof(Elf64_Dyn)) {
		Elf64_Dyn d;

		memcpy(&d, im->p + dyn.p_offset + at, sizeof(d));
		if (d.d_tag == DT_SYMTAB)
			im->syms = d.d_un.d_ptr - base;
		else if (d.d_tag == DT_STRTAB)
			im->strs = d.d_un.d_ptr - base;
		else if (d.d_tag == DT_STRSZ)
			im->strs_len = d.d_un.d_val;
	}
	if (!im->syms || im->strs <= im->syms || !inside(im, im->strs, im->strs_len))
		return false;
	im->nsyms = (uint32_t)((im->strs - im->syms) / sizeof(Elf64_Sym));
	return im->nsyms <= SYMBOLS_MAX;
}

/* The @i-th symbol if it is a function of the image; its name is NUL-terminated inside. */
static const char *function(const struct image *im, uint32_t i, Elf64_Sym *s)
{
	const char *name;

	memcpy(s, im->p + im->syms + i * sizeof(*s), sizeof(*s));
	if (ELF64_ST_TYPE(s->st_info) != STT_FUNC || s->st_shndx == SHN_UNDEF ||
	    s->st_name >= im->strs_len)
		return NULL;
	name = (const char *)im->p + im->strs + s->st_name;
	if (!memchr(name, 0, im->strs_len - s->st_name))
		return NULL;
	/* addresses in a vDSO are offsets from its start */
	return inside(im, s->st_value, s->st_size) ? name : NULL;
}

static uint64_t look_up(const struct image *im, const char *name)
{
	for (uint32_t i = 0; i < im->nsyms; i++) {
		Elf64_Sym s;
		const char *n = function(im, i, &s);

		if (n && !strcmp(n, name))
			return s.st_value;
	}
	return 0;
}

/* --- patching ----------------------------------------------------------------------------- */

/* A thread that stands in the first bytes of an entry would run into the jump's target. */
static bool in_use(const struct cpx_rst *r, uint32_t mm_id, uint64_t entry)
{
	for (size_t i = 0; i < r->ntasks; i++) {
		const struct cpx_rst_task *t = &r->tasks[i];

		if (t->rec->mm_id != mm_id || t->rec->state == CPX_TASK_ZOMBIE)
			continue;
		for (size_t k = 0; k < t->nthreads; k++) {
			const struct cpx_rec_thread *th = t->threads[k].rec;
			struct user_regs_struct regs;

			if (th->regs.n != sizeof(regs))
				continue;
			memcpy(&regs, th->regs.p, sizeof(regs));
			if (regs.rip > entry && regs.rip < entry + JUMP)
				return true;
		}
	}
	return false;
}

static void patch(const struct cpx_rst *r, const struct cpx_rst_mm *mm, uint8_t *copy,
		  uint64_t to)
{
	struct image old, now;

	if (!open_image(copy, mm->vdso->image.n, &old) ||
	    !open_image(r->mem->vdso, r->mem->vdso_size, &now))
		return;
	for (uint32_t i = 0; i < old.nsyms; i++) {
		static const uint8_t jump[6] = { 0xff, 0x25, 0, 0, 0, 0 };
		Elf64_Sym s;
		const char *name = function(&old, i, &s);
		uint64_t target = name ? look_up(&now, name) : 0;

		if (!target || s.st_size < JUMP ||
		    in_use(r, mm->rec->id, mm->vdso->start + s.st_value))
			continue;
		target += to;
		memcpy(copy + s.st_value, jump, sizeof(jump));
		memcpy(copy + s.st_value + sizeof(jump), &target, sizeof(target));
	}
}

/* The old image and old data pages as ordinary memory. */
static int map_old(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_rst_task *t,
		   struct cpx_batch *b, uint64_t to, struct cpx_err *err)
{
	const struct cpx_rec_vdso *d = mm->vdso;
	CPX_AUTO_FREE uint8_t *copy = NULL;
	bool there = false;
	int rc = 0;

	for (size_t i = 0; i < mm->n && rc == 0; i++) {
		const struct cpx_rec_vma *v = mm->v[i];

		if (v->kind != CPX_VMA_VDSO && v->kind != CPX_VMA_VVAR)
			continue;
		there |= d && v->kind == CPX_VMA_VDSO && v->start == d->start &&
			 v->end - v->start == d->image.n;
		rc = cpx_badd(b, err, "keep the old vDSO", v->start, 0, SYS_mmap, v->start,
			      v->end - v->start,
			      v->kind == CPX_VMA_VDSO ? PROT_READ | PROT_EXEC : PROT_READ,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1ull, 0);
	}
	if (rc == 0)
		rc = cpx_batch_run(b, err);
	if (rc < 0 || !there)
		return rc;
	copy = malloc(d->image.n);
	if (!copy)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a vDSO");
	memcpy(copy, d->image.p, d->image.n);
	if (to)
		patch(r, mm, copy, to);
	return cpx_tracee_write(&t->threads[0].t, d->start, copy, d->image.n, err);
}

int cpx_rst_vdso_map(struct cpx_rst *r, struct cpx_rst_mm *mm, struct cpx_rst_task *t,
		     struct cpx_batch *b, struct cpx_err *err)
{
	const struct cpx_rst_mem *m = r->mem;
	const struct cpx_rec_vdso *d = mm->vdso;
	uint64_t beside = r->home_page + r->home_size;
	int rc;

	if (!d || !m->vdso)
		return map_old(r, mm, t, b, 0, err);
	/* the fault point: tests try another kernel's on this one */
	if (d->image.n == m->vdso_size && d->start - d->vvar_start == m->vdso_gap &&
	    !memcmp(d->image.p, m->vdso, m->vdso_size) && !cpx_fault("restore.vdso"))
		return cpx_badd(b, err, "map the vDSO", d->vvar_start, 0, SYS_arch_prctl,
				MAP_VDSO_64, d->vvar_start);
	if (m->vdso_gap + m->vdso_size > CPX_SPARE_SIZE)
		return cpx_err_set(err, CPX_E_LIMIT, "this kernel's vDSO is too large");
	rc = cpx_badd(b, err, "map the vDSO", beside, 0, SYS_arch_prctl, MAP_VDSO_64, beside);
	return rc == 0 ? map_old(r, mm, t, b, beside + m->vdso_gap, err) : rc;
}
