/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pagemap.h - the kernel's PAGEMAP_SCAN (linux/fs.h of 6.7), which Debian 12's headers lack.
 */
#ifndef CPX_PAGEMAP_H
#define CPX_PAGEMAP_H

#include <stdint.h>
#include <sys/ioctl.h>

struct page_region {
	uint64_t start, end, categories;
};

struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PM_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PM_WP_MATCHING (1u << 0) /* flags */
#define PM_CHECK_WPASYNC (1u << 1)
#define PM_WRITTEN (1u << 1) /* categories */
#define PM_FILE (1u << 2)
#define PM_PRESENT (1u << 3)
#define PM_SWAPPED (1u << 4)
#define PM_PFNZERO (1u << 5)
#define PM_GUARD (1u << 8)

#endif
