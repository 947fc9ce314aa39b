/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rec_core.h - records about the image as a whole (types 0x0001..0x00ff); for state.h. */
#ifndef CPX_STORE_REC_CORE_H
#define CPX_STORE_REC_CORE_H

/* host: where and when it was taken; one. Clocks in ns. */
/* clang-format off */
#define CPX_FIELDS_host(F)                                                                    \
	F(host, u32, version)       /* of the capturing program */                            \
	F(host, u32, page_size)                                                               \
	F(host, str, kernel)        /* uname release */                                       \
	F(host, str, node)          /* uname nodename */                                      \
	F(host, str, machine)       /* uname machine: x86_64 */                               \
	F(host, str, boot_id)                                                                 \
	F(host, i64, realtime_ns)                                                             \
	F(host, i64, monotonic_ns)  /* as the job sees it */                                  \
	F(host, i64, boottime_ns)                                                             \
	F(host, u64, xfeatures)     /* XCR0 */                                                \
	F(host, blob, cpu)          /* CPUID words the job could see */                       \
	F(host, u32, root_pid)      /* in the job's innermost PID namespace */                \
	F(host, u32, pidns_level)   /* 0: the host's own */                                   \
	F(host, u32, owner_uid)                                                               \
	F(host, u32, owner_gid)

#define CPX_RECS_CORE(R) R(0x0001, host, CPX_FIELDS_host)
/* clang-format on */

#endif
