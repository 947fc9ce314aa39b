/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * track_ways.c - see track_ways.h.
 *
 * WRITTEN is asked for together with PRESENT or SWAPPED: asked alone it would mark holes, and
 * build page tables for them.
 *
 * Soft-dirty bits miss one thing: memory that was given back (MADV_DONTNEED) and then only
 * read is the zero page, whose entry has no bit, so it would pass for what was there before.
 * It is told by being shared, and by /proc/kpageflags.
 */
#include "track_ways.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "cap_mem.h"
#include "pagemap.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1ull << 12)
#endif
#define WP_ASYNC (1ull << 15) /* UFFD_FEATURE_WP_ASYNC, 6.7 */

/* Bits of an entry of /proc/PID/pagemap, and of /proc/kpageflags. */
#define ENTRY_PRESENT (1ull << 63)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_FILE (1ull << 61)
#define ENTRY_ALONE (1ull << 56)
#define ENTRY_SOFT_DIRTY (1ull << 55)
#define ENTRY_FRAME ((1ull << 55) - 1)
#define FRAME_ZERO (1ull << 24)

#define REGIONS 2048
#define ENTRIES 16384u

/* --- asynchronous write protection ---------------------------------------------------------
 */

int cpx_wp_set_up(int fd)
{
	struct uffdio_api api = { .api = UFFD_API,
				  .features = WP_ASYNC | UFFD_FEATURE_WP_HUGETLBFS_SHMEM };

	return ioctl(fd, UFFDIO_API, &api);
}

int cpx_wp_register(int uffd, uint64_t start, uint64_t end)
{
	struct uffdio_register reg = { .range = { .start = start, .len = end - start },
				       .mode = UFFDIO_REGISTER_MODE_WP };

	return ioctl(uffd, UFFDIO_REGISTER, &reg);
}

int cpx_wp_scan(int pagemap_fd, uint64_t start, uint64_t end, struct cpx_mem_ranges *dirty,
		struct cpx_err *err)
{
	CPX_AUTO_FREE struct page_region *v = malloc(REGIONS * sizeof(*v));

	if (!v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for page ranges");
	while (start < end) {
		struct pm_scan_arg a = {
			.size = sizeof(a),
			.flags = PM_WP_MATCHING | PM_CHECK_WPASYNC,
			.start = start,
			.end = end,
			.vec = (uintptr_t)v,
			.vec_len = REGIONS,
			.category_mask = PM_WRITTEN,
			.category_anyof_mask = PM_PRESENT | PM_SWAPPED,
			.return_mask = PM_WRITTEN,
		};
		int n = ioctl(pagemap_fd, PM_SCAN, &a);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EPERM)
			return 1;
		if (n < 0)
			return cpx_err_sys(err, errno, "scan pages at 0x%" PRIx64, start);
		for (int i = 0; i < n; i++) {
			int rc = cpx_mem_add_range(dirty, v[i].start, v[i].end, err);

			if (rc < 0)
				return rc;
		}
		if (a.walk_end <= start)
			break;
		start = a.walk_end;
	}
	return 0;
}

int cpx_wp_probe(char *why, size_t size)
{
	CPX_AUTO_FD uffd =
		(int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	CPX_AUTO_FD map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct pm_scan_arg a = { .size = sizeof(a),
				 .end = CPX_PAGE,
				 .category_mask = PM_WRITTEN,
				 .return_mask = PM_WRITTEN };
	int forced = cpx_fault("track.wp");
	struct page_region v;

	a.vec = (uintptr_t)&v;
	a.vec_len = 1;
	if (forced)
		snprintf(why, size, "switched off by a test");
	else if (uffd < 0)
		snprintf(why, size, "no userfaultfd: %s", strerror(errno));
	else if (map < 0)
		snprintf(why, size, "/proc/self/pagemap: %s", strerror(errno));
	else if (ioctl(map, PM_SCAN, &a) < 0)
		snprintf(why, size, "no PAGEMAP_SCAN: %s", strerror(errno));
	else if (cpx_wp_set_up(uffd) < 0)
		snprintf(why, size, "userfaultfd cannot write-protect by itself: %s",
			 strerror(errno));
	else
		return 0;
	return -1;
}

/* --- soft-dirty bits -----------------------------------------------------------------------
 */

/* A page that several have: perhaps it is the zero page, which never carries the bit. */
static bool may_be_zero(int frames_fd, uint64_t entry)
{
	uint64_t frame = entry & ENTRY_FRAME, flags;

	return !frame || frames_fd < 0 ||
	       pread(frames_fd, &flags, sizeof(flags), (off_t)(frame * sizeof(flags))) !=
		       (ssize_t)sizeof(flags) ||
	       (flags & FRAME_ZERO);
}

static bool written(int frames_fd, uint64_t entry)
{
	if (!(entry & (ENTRY_PRESENT | ENTRY_SWAPPED)) || (entry & ENTRY_FILE))
		return false;
	if (entry & ENTRY_SOFT_DIRTY)
		return true;
	return (entry & ENTRY_PRESENT) && !(entry & ENTRY_ALONE) &&
	       may_be_zero(frames_fd, entry);
}

int cpx_soft_scan(int pagemap_fd, uint64_t start, uint64_t end, struct cpx_mem_ranges *dirty,
		  struct cpx_err *err)
{
	CPX_AUTO_FREE uint64_t *e = malloc(ENTRIES * sizeof(*e));
	CPX_AUTO_FD frames = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);

	if (!e)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for page ranges");
	while (start < end) {
		uint64_t n = (end - start) / CPX_PAGE;
		ssize_t got;

		if (n > ENTRIES)
			n = ENTRIES;
		got = cpx_pread_full(pagemap_fd, e, n * sizeof(*e),
				     start / CPX_PAGE * sizeof(*e));
		if (got < 0)
			return cpx_err_sys(err, errno, "read page map at 0x%" PRIx64, start);
		if (got < (ssize_t)sizeof(*e))
			break;
		n = (uint64_t)got / sizeof(*e);
		for (uint64_t i = 0; i < n; i++) {
			uint64_t at = start + i * CPX_PAGE;
			int rc = written(frames, e[i])
					 ? cpx_mem_add_range(dirty, at, at + CPX_PAGE, err)
					 : 0;

			if (rc < 0)
				return rc;
		}
		start += n * CPX_PAGE;
	}
	return 0;
}

int cpx_soft_is_set(int pagemap_fd, uint64_t at)
{
	uint64_t e;

	return pread(pagemap_fd, &e, sizeof(e), (off_t)(at / CPX_PAGE * sizeof(e))) ==
		       (ssize_t)sizeof(e) &&
	       (e & (ENTRY_PRESENT | ENTRY_SWAPPED)) && (e & ENTRY_SOFT_DIRTY);
}

int cpx_soft_clear(pid_t pid, struct cpx_err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	CPX_AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "4", 1) != 1)
		return cpx_err_sys(err, errno, "write %s", path);
	return 0;
}

int cpx_soft_probe(char *why, size_t size)
{
	volatile char *p = mmap(NULL, CPX_PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CPX_AUTO_FD map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t at = (uint64_t)(uintptr_t)p;
	bool works = false;

	if (cpx_fault("track.soft")) {
		snprintf(why, size, "switched off by a test");
	} else if (p == MAP_FAILED || map < 0) {
		snprintf(why, size, "/proc/self/pagemap: %s", strerror(errno));
	} else {
		*p = 1;
		works = cpx_soft_is_set(map, at) && cpx_soft_clear(getpid(), NULL) == 0 &&
			!cpx_soft_is_set(map, at);
		*p = 2;
		works = works && cpx_soft_is_set(map, at);
		if (!works)
			snprintf(why, size, "no soft-dirty bits");
	}
	if (p != MAP_FAILED)
		munmap((void *)(uintptr_t)at, CPX_PAGE);
	return works ? 0 : -1;
}
