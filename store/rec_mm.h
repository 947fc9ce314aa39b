/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rec_mm.h - address spaces (types 0x0200..0x02ff).
 *
 * Page contents are not here: they are in packs, found by (space, offset). Each mm,
 * each shared memory object and each file whose content is saved has a space of its
 * own; for an mm the offset is the virtual address. Included by state.h.
 */
#ifndef CPX_STORE_REC_MM_H
#define CPX_STORE_REC_MM_H

#define CPX_PKEYS 16u /* protection keys that the processor has */

enum cpx_vma_kind {
	CPX_VMA_ANON = 0,     /* private anonymous (also heap and stack) */
	CPX_VMA_FILE_PRIVATE, /* private, of file_id at pgoff; changed pages are in the space */
	CPX_VMA_FILE_SHARED,  /* shared mapping of file_id */
	CPX_VMA_SHM,	      /* shared mapping of a shm record */
	CPX_VMA_SHM_PRIVATE,  /* private mapping of a shm record (a memfd) */
	CPX_VMA_VDSO,
	CPX_VMA_VVAR,
	CPX_VMA_VSYSCALL,
};

enum cpx_shm_kind {
	CPX_SHM_ANON = 0, /* MAP_SHARED|MAP_ANONYMOUS, /dev/zero */
	CPX_SHM_MEMFD,
	CPX_SHM_SYSV,
	CPX_SHM_UNLINKED, /* a deleted file on tmpfs */
};

/* vma.flags beyond MAP_*: bits that no mmap flag has. */
#define CPX_VMAF_ONFAULT 0x40000000u /* with MAP_LOCKED: pages are locked as they come */
#define CPX_VMAF_ACCOUNT 0x80000000u /* was writable once: memory is reserved for it */

/* vma.madv bits: what madvise() left on the mapping. */
enum cpx_madv {
	CPX_MADV_DONTFORK = 1u << 0,
	CPX_MADV_WIPEONFORK = 1u << 1,
	CPX_MADV_HUGEPAGE = 1u << 2,
	CPX_MADV_NOHUGEPAGE = 1u << 3,
	CPX_MADV_MERGEABLE = 1u << 4,
	CPX_MADV_DONTDUMP = 1u << 5,
	CPX_MADV_SEQUENTIAL = 1u << 6,
	CPX_MADV_RANDOM = 1u << 7,
};

/* clang-format off */
#define CPX_FIELDS_mm(F)                                                                      \
	F(mm, u32, id)                                                                        \
	F(mm, u32, space)                                                                     \
	F(mm, u64, start_code) F(mm, u64, end_code)                                           \
	F(mm, u64, start_data) F(mm, u64, end_data)                                           \
	F(mm, u64, start_brk) F(mm, u64, brk)                                                 \
	F(mm, u64, start_stack)                                                               \
	F(mm, u64, arg_start) F(mm, u64, arg_end)                                             \
	F(mm, u64, env_start) F(mm, u64, env_end)                                             \
	F(mm, blob, auxv)                                                                     \
	F(mm, u32, exe_file)        /* id of a file record */                                 \
	F(mm, u32, mlock_future)    /* MCL_FUTURE: 1, with MCL_ONFAULT: 2 */                  \
	F(mm, u32, pkeys)           /* bit k: protection key k is allocated; 0: as the vmas say */

#define CPX_FIELDS_vma(F)                                                                     \
	F(vma, u32, mm_id)                                                                    \
	F(vma, u64, start)                                                                    \
	F(vma, u64, end)                                                                      \
	F(vma, u32, prot)           /* PROT_* */                                              \
	F(vma, u32, flags)          /* MAP_* GROWSDOWN, LOCKED, NORESERVE, HUGETLB and size */ \
	F(vma, u32, kind)           /* enum cpx_vma_kind */                                   \
	F(vma, u32, file_id)        /* file or shm record */                                  \
	F(vma, u64, pgoff)          /* bytes into it */                                       \
	F(vma, u32, madv)                                                                     \
	F(vma, u32, file_flags)     /* O_RDONLY or O_RDWR: how the mapped file was open */    \
	F(vma, str, name)           /* PR_SET_VMA_ANON_NAME */                                \
	F(vma, u32, pkey)           /* protection key */                                      \
	F(vma, u32, sealed)         /* mseal() */

#define CPX_FIELDS_shm(F)                                                                     \
	F(shm, u32, id)                                                                       \
	F(shm, u32, space)                                                                    \
	F(shm, u32, kind)                                                                     \
	F(shm, u64, size)                                                                     \
	F(shm, str, name)                                                                     \
	F(shm, u32, seals)                                                                    \
	F(shm, u32, flags)          /* memfd_create flags */                                  \
	F(shm, u32, mode)                                                                     \
	F(shm, u32, uid) F(shm, u32, gid)                                                     \
	F(shm, i32, sysv_key)                                                                 \
	F(shm, i32, sysv_id)                                                                  \
	F(shm, blob, xattrs)        /* base/xattr.h */

#define CPX_FIELDS_vdso(F)                                                                    \
	F(vdso, u32, mm_id)                                                                   \
	F(vdso, u64, start)                                                                   \
	F(vdso, u64, vvar_start)    /* lowest of the vvar mappings */                         \
	F(vdso, blob, image)

/* guard regions (MADV_GUARD_INSTALL) of an mm: pairs start, end */
#define CPX_FIELDS_guard(F)                                                                   \
	F(guard, u32, mm_id)                                                                  \
	F(guard, u64s, ranges)

/* pages that an mm still shares copy-on-write with mm @of, at the same addresses: pairs start,
 * end. Their content is that of @of; @of stands before it. */
#define CPX_FIELDS_cow(F)                                                                     \
	F(cow, u32, mm_id)                                                                    \
	F(cow, u32, of)                                                                       \
	F(cow, u64s, ranges)

/* zeros: pages over a file that are the process's own and all zero, so that no content is stored */
#define CPX_FIELDS_zeros(F)                                                                   \
	F(zeros, u32, mm_id)                                                                  \
	F(zeros, u64s, ranges)      /* pairs start, end */

#define CPX_RECS_MM(R)                                                                        \
	R(0x0201, mm, CPX_FIELDS_mm)                                                          \
	R(0x0202, vma, CPX_FIELDS_vma)                                                        \
	R(0x0203, shm, CPX_FIELDS_shm)                                                        \
	R(0x0204, vdso, CPX_FIELDS_vdso)                                                      \
	R(0x0205, guard, CPX_FIELDS_guard)                                                    \
	R(0x0206, cow, CPX_FIELDS_cow)                                                        \
	R(0x0207, zeros, CPX_FIELDS_zeros)
/* clang-format on */

#endif
