/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * track.c - see track.h.
 *
 * Happy path: start (three calls in the process), then at each checkpoint collect mapping by
 * mapping. A mapping that is not covered is registered and armed on the way, so that the
 * next checkpoint finds its writes.
 *
 * WRITTEN is asked for together with PRESENT or SWAPPED: asked alone it would mark holes, and
 * build page tables for them.
 */
#include "track.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/tracee.h"
#include "cap_mem.h"
#include "pagemap.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1ull << 12)
#endif
#define WP_ASYNC (1ull << 15) /* UFFD_FEATURE_WP_ASYNC, 6.7 */

#define REGIONS 2048
#define FIRST_SPACE (1u << 24) /* above all numbers that one generation counts up to */
#define EXPORT_MAGIC 0x314b5254u

struct cpx_track_mm {
	pid_t pid;
	uint64_t born; /* start time of the process, clock ticks */
	int uffd;
	uint32_t space;
	bool seen;
};

struct cpx_track {
	struct cpx_gen_id base;
	bool has_base;
	uint32_t next_space;
	struct cpx_track_mm *mms[CPX_TRACK_MMS_MAX];
	size_t n;
};

/* --- the tracker ---------------------------------------------------------------------------
 */

static int set_up_uffd(int fd)
{
	struct uffdio_api api = { .api = UFFD_API,
				  .features = WP_ASYNC | UFFD_FEATURE_WP_HUGETLBFS_SHMEM };

	return ioctl(fd, UFFDIO_API, &api);
}

/* One process's probe of its own kernel: asynchronous mode and the scan. */
static bool kernel_can(void)
{
	CPX_AUTO_FD uffd =
		(int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	CPX_AUTO_FD map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct pm_scan_arg a = { .size = sizeof(a),
				 .end = CPX_PAGE,
				 .category_mask = PM_WRITTEN,
				 .return_mask = PM_WRITTEN };
	struct page_region v;

	a.vec = (uintptr_t)&v;
	a.vec_len = 1;
	return uffd >= 0 && map >= 0 && set_up_uffd(uffd) == 0 && ioctl(map, PM_SCAN, &a) >= 0;
}

int cpx_track_new(struct cpx_track **out, struct cpx_err *err)
{
	struct cpx_track *tr;

	if (!kernel_can())
		return cpx_err_set(
			err, CPX_E_UNSUPPORTED,
			"the kernel cannot note written pages (Linux 6.7 or newer can)");
	tr = calloc(1, sizeof(*tr));
	if (!tr)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to track writes");
	tr->next_space = FIRST_SPACE;
	*out = tr;
	return 0;
}

static void free_mm(struct cpx_track_mm *mm)
{
	if (!mm)
		return;
	cpx_close(&mm->uffd);
	free(mm);
}

void cpx_track_free(struct cpx_track *tr)
{
	if (!tr)
		return;
	for (size_t i = 0; i < tr->n; i++)
		free_mm(tr->mms[i]);
	free(tr);
}

const struct cpx_gen_id *cpx_track_base(const struct cpx_track *tr)
{
	return tr && tr->has_base ? &tr->base : NULL;
}

void cpx_track_set_base(struct cpx_track *tr, const struct cpx_gen_id *id)
{
	tr->base = *id;
	tr->has_base = true;
}

/* Field 22 of /proc/PID/stat; 0 if the process is gone. */
static uint64_t birth_of(pid_t pid)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (cpx_read_file(AT_FDCWD, path, 65536, &text, NULL) < 0)
		return 0;
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p, NULL, 10) : 0;
}

struct cpx_track_mm *cpx_track_find(struct cpx_track *tr, pid_t pid)
{
	for (size_t i = 0; i < tr->n; i++) {
		if (tr->mms[i]->pid == pid && tr->mms[i]->born == birth_of(pid)) {
			tr->mms[i]->seen = true;
			return tr->mms[i];
		}
	}
	return NULL;
}

uint32_t cpx_track_space(const struct cpx_track_mm *mm)
{
	return mm->space;
}

void cpx_track_drop(struct cpx_track *tr, struct cpx_track_mm *mm)
{
	for (size_t i = 0; i < tr->n; i++) {
		if (tr->mms[i] == mm) {
			tr->mms[i] = tr->mms[--tr->n];
			free_mm(mm);
			return;
		}
	}
}

void cpx_track_sweep(struct cpx_track *tr)
{
	for (size_t i = tr->n; i-- > 0;) {
		if (tr->mms[i]->seen)
			tr->mms[i]->seen = false;
		else
			cpx_track_drop(tr, tr->mms[i]);
	}
}

/* --- starting ------------------------------------------------------------------------------
 */

/* A userfaultfd of the process, here; its number there is closed again. */
static int fetch_uffd(struct cpx_tracee *leader, int *out, struct cpx_err *err)
{
	CPX_AUTO_FD pidfd = (int)syscall(SYS_pidfd_open, leader->pid, 0);
	CPX_AUTO_FD fd = -1;
	int64_t there, closed;
	int rc;

	if (pidfd < 0)
		return cpx_err_sys(err, errno, "open process %d", leader->pid);
	rc = cpx_tcall(leader, &there, err, SYS_userfaultfd,
		       O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (rc < 0)
		return rc;
	if (there < 0)
		return cpx_err_sys(err, (int)-there, "process %d: userfaultfd", leader->pid);
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, (int)there, 0);
	rc = fd < 0 ? cpx_err_sys(err, errno, "fetch a descriptor of process %d", leader->pid)
		    : 0;
	if (cpx_tcall(leader, &closed, rc < 0 ? NULL : err, SYS_close, (uint64_t)there) < 0 &&
	    rc == 0)
		return CPX_E_GONE;
	if (rc == 0 && set_up_uffd(fd) < 0)
		rc = cpx_err_sys(err, errno, "set up write tracking of process %d",
				 leader->pid);
	if (rc == 0)
		*out = cpx_steal_fd(&fd);
	return rc;
}

int cpx_track_start(struct cpx_track *tr, struct cpx_tracee *leader, struct cpx_track_mm **out,
		    struct cpx_err *err)
{
	struct cpx_track_mm *mm;
	int rc;

	if (tr->n == CPX_TRACK_MMS_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "more than %d address spaces",
				   CPX_TRACK_MMS_MAX);
	mm = calloc(1, sizeof(*mm));
	if (!mm)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to track writes");
	*mm = (struct cpx_track_mm){ .pid = leader->pid,
				     .born = birth_of(leader->pid),
				     .uffd = -1,
				     .space = tr->next_space,
				     .seen = true };
	rc = fetch_uffd(leader, &mm->uffd, err);
	if (rc < 0) {
		free_mm(mm);
		return rc;
	}
	tr->next_space++;
	tr->mms[tr->n++] = mm;
	*out = mm;
	return 0;
}

/* --- collecting ----------------------------------------------------------------------------
 */

/* List what was written and arm it again. Return: 0, 1 not covered, or an error. */
static int scan(int pagemap_fd, uint64_t start, uint64_t end, struct cpx_mem_ranges *dirty,
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

int cpx_track_collect(struct cpx_track_mm *mm, int pagemap_fd, uint64_t start, uint64_t end,
		      struct cpx_mem_ranges *dirty, struct cpx_err *err)
{
	struct uffdio_register reg = { .range = { .start = start, .len = end - start },
				       .mode = UFFDIO_REGISTER_MODE_WP };
	struct cpx_mem_ranges all = { 0 };
	int rc = scan(pagemap_fd, start, end, dirty, err);

	if (rc != 1)
		return rc;
	/* refused ranges (another program after exec, a userfaultfd of the job) stay uncovered
	 */
	if (ioctl(mm->uffd, UFFDIO_REGISTER, &reg) == 0)
		scan(pagemap_fd, start, end, &all, NULL);
	free(all.v);
	return 1;
}

int cpx_track_peek(int pagemap_fd, uint64_t start, uint64_t end, struct cpx_mem_ranges *dirty,
		   struct cpx_err *err)
{
	int rc = scan(pagemap_fd, start, end, dirty, err);

	return rc == CPX_E_GONE ? 1 : rc;
}

size_t cpx_track_list(const struct cpx_track *tr, struct cpx_track_mm **mms, pid_t *pids)
{
	for (size_t i = 0; i < tr->n; i++) {
		mms[i] = tr->mms[i];
		pids[i] = tr->mms[i]->pid;
	}
	return tr->n;
}

void cpx_track_clear(struct cpx_track *tr)
{
	while (tr->n)
		free_mm(tr->mms[--tr->n]);
	tr->has_base = false;
}

/* --- handing over --------------------------------------------------------------------------
 */

int cpx_track_export(const struct cpx_track *tr, void *buf, size_t size, size_t *len, int *fds,
		     size_t *nfds, struct cpx_err *err)
{
	struct cpx_buf b = { 0 };
	int rc = 0;

	cpx_buf_u32(&b, EXPORT_MAGIC);
	cpx_buf_put(&b, tr->base.job, sizeof(tr->base.job));
	cpx_buf_u64(&b, tr->base.epoch);
	cpx_buf_u64(&b, tr->base.seq);
	cpx_buf_put(&b, tr->base.nonce, sizeof(tr->base.nonce));
	cpx_buf_u8(&b, tr->has_base);
	cpx_buf_u32(&b, tr->next_space);
	cpx_buf_u32(&b, (uint32_t)tr->n);
	for (size_t i = 0; i < tr->n; i++) {
		cpx_buf_u32(&b, (uint32_t)tr->mms[i]->pid);
		cpx_buf_u64(&b, tr->mms[i]->born);
		cpx_buf_u32(&b, tr->mms[i]->space);
	}
	if (b.failed || b.len > size) {
		rc = cpx_err_set(err, CPX_E_LIMIT, "too much to hand over");
	} else {
		memcpy(buf, b.data, b.len);
		*len = b.len;
		*nfds = tr->n;
		for (size_t i = 0; i < tr->n; i++)
			fds[i] = tr->mms[i]->uffd;
	}
	cpx_buf_free(&b);
	return rc;
}

static int read_export(struct cpx_track *tr, struct cpx_rd *r, const int *fds, size_t nfds)
{
	const void *job, *nonce;
	uint32_t n;

	if (cpx_rd_u32(r) != EXPORT_MAGIC)
		return -1;
	job = cpx_rd_bytes(r, sizeof(tr->base.job));
	tr->base.epoch = cpx_rd_u64(r);
	tr->base.seq = cpx_rd_u64(r);
	nonce = cpx_rd_bytes(r, sizeof(tr->base.nonce));
	tr->has_base = cpx_rd_u8(r);
	tr->next_space = cpx_rd_u32(r);
	n = cpx_rd_u32(r);
	if (r->failed || n != nfds || n > CPX_TRACK_MMS_MAX)
		return -1;
	memcpy(tr->base.job, job, sizeof(tr->base.job));
	memcpy(tr->base.nonce, nonce, sizeof(tr->base.nonce));
	tr->base.job[sizeof(tr->base.job) - 1] = 0;
	tr->base.nonce[sizeof(tr->base.nonce) - 1] = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct cpx_track_mm *mm = calloc(1, sizeof(*mm));

		if (!mm)
			return -1;
		mm->pid = (pid_t)cpx_rd_u32(r);
		mm->born = cpx_rd_u64(r);
		mm->space = cpx_rd_u32(r);
		mm->uffd = fds[i];
		tr->mms[tr->n++] = mm;
	}
	return r->failed ? -1 : 0;
}

int cpx_track_import(const void *buf, size_t len, const int *fds, size_t nfds,
		     struct cpx_track **out, struct cpx_err *err)
{
	struct cpx_track *tr = calloc(1, sizeof(*tr));
	struct cpx_rd r = cpx_rd_init(buf, len);

	if (tr && read_export(tr, &r, fds, nfds) == 0) {
		*out = tr;
		return 0;
	}
	for (size_t i = tr ? tr->n : 0; i < nfds; i++)
		close(fds[i]);
	cpx_track_free(tr);
	return cpx_err_set(err, CPX_E_FORMAT, "the tracker that was handed over is damaged");
}
