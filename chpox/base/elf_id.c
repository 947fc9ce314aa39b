/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "elf_id.h"

#include "fd.h"

#include <elf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PHDRS_MAX 256
#define NOTES_MAX (1u << 20)

/* Return: length of the id in the notes @p, 0: none. */
static size_t find_note(const uint8_t *p, size_t n, size_t align, uint8_t id[CPX_BUILD_ID_MAX])
{
	while (n >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr h;
		size_t name, desc;

		memcpy(&h, p, sizeof(h));
		name = ((size_t)h.n_namesz + align - 1) & ~(align - 1);
		desc = ((size_t)h.n_descsz + align - 1) & ~(align - 1);
		if (name > n - sizeof(h) || h.n_descsz > n - sizeof(h) - name)
			return 0;
		if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == 4 &&
		    memcmp(p + sizeof(h), "GNU", 4) == 0 && h.n_descsz <= CPX_BUILD_ID_MAX) {
			memcpy(id, p + sizeof(h) + name, h.n_descsz);
			return h.n_descsz;
		}
		if (desc > n - sizeof(h) - name)
			return 0;
		p += sizeof(h) + name + desc;
		n -= sizeof(h) + name + desc;
	}
	return 0;
}

size_t cpx_elf_build_id(int fd, uint8_t id[CPX_BUILD_ID_MAX])
{
	Elf64_Phdr ph[PHDRS_MAX];
	Elf64_Ehdr eh;
	size_t got = 0, bytes;

	if (cpx_pread_full(fd, &eh, sizeof(eh), 0) != sizeof(eh) ||
	    memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
	    eh.e_ident[EI_DATA] != ELFDATA2LSB || eh.e_phentsize != sizeof(ph[0]) ||
	    eh.e_phnum == 0 || eh.e_phnum > PHDRS_MAX || eh.e_phoff > INT64_MAX - sizeof(ph))
		return 0;
	bytes = eh.e_phnum * sizeof(ph[0]);
	if (cpx_pread_full(fd, ph, bytes, eh.e_phoff) != (ssize_t)bytes)
		return 0;
	for (size_t i = 0; i < eh.e_phnum && got == 0; i++) {
		CPX_AUTO_FREE uint8_t *notes = NULL;

		if (ph[i].p_type != PT_NOTE || ph[i].p_filesz > NOTES_MAX ||
		    ph[i].p_offset > INT64_MAX - NOTES_MAX)
			continue;
		notes = malloc(ph[i].p_filesz + 1);
		if (!notes || cpx_pread_full(fd, notes, ph[i].p_filesz, ph[i].p_offset) !=
				      (ssize_t)ph[i].p_filesz)
			return 0;
		got = find_note(notes, ph[i].p_filesz, ph[i].p_align == 8 ? 8 : 4, id);
	}
	return got;
}
