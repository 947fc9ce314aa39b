/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rst_mem_compare.c - is what was put into the processes what the image holds? */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "restore.h"
#include "rst_mem.h"
#include "rst_mem_priv.h"

#define RSEQ_SIZE 64 /* what kernels write there: the CPU and the node */

struct compared {
	const struct cpx_rst *r;
	const struct cpx_rst_task *t;
	_Atomic uint64_t bytes;
};

/* The kernel keeps a thread's rseq area: there the image's bytes count for nothing. */
static void mask_rseq(const struct compared *c, uint64_t page, uint8_t *is, const uint8_t *was)
{
	for (size_t i = 0; i < c->r->ntasks; i++) {
		const struct cpx_rst_task *t = &c->r->tasks[i];

		for (size_t k = 0; t->mm_of == c->t && k < t->nthreads; k++) {
			uint64_t at = t->threads[k].rec->rseq_addr;

			for (uint64_t b = at; at && b < at + RSEQ_SIZE; b++)
				if (b / CPX_PAGE == page / CPX_PAGE)
					is[b % CPX_PAGE] = was[b % CPX_PAGE];
		}
	}
}

static int compare(void *ctx, uint32_t space, uint64_t off, const void *data, size_t len,
		   struct cpx_err *err)
{
	struct compared *c = ctx;
	uint8_t is[CPX_PAGE];

	(void)space;
	for (size_t at = 0; at < len; at += CPX_PAGE) {
		const uint8_t *was = (const uint8_t *)data + at;

		if (cpx_pread_full(c->t->mem_fd, is, CPX_PAGE, off + at) != CPX_PAGE)
			return cpx_err_sys(err, errno,
					   "read memory at %" PRIx64 " of process %u", off + at,
					   c->t->rec->pid);
		if (memcmp(is, was, CPX_PAGE) == 0)
			continue;
		mask_rseq(c, off + at, is, was);
		if (memcmp(is, was, CPX_PAGE) != 0)
			return cpx_err_set(err, CPX_E_CHECKSUM,
					   "memory at %" PRIx64
					   " of process %u is not as the image has it",
					   off + at, c->t->rec->pid);
	}
	atomic_fetch_add(&c->bytes, len);
	return 0;
}

int cpx_rst_mem_compare(struct cpx_rst *r, uint64_t *bytes, struct cpx_err *err)
{
	uint64_t all = 0;

	for (size_t i = 0; i < r->ntasks; i++) {
		struct compared c = { .r = r, .t = &r->tasks[i] };
		const struct cpx_rst_mm *mm = cpx_rst_mm_find(r->mem, c.t->rec->mm_id);
		CPX_AUTO_FREE struct cpx_extent *x = NULL;
		int n;

		if (c.t->rec->state == CPX_TASK_ZOMBIE || c.t->mm_of != c.t || !mm)
			continue;
		n = cpx_rst_mem_extents(mm, &x, err);
		if (n > 0)
			n = cpx_rst_scan(r, x, (size_t)n, compare, &c, err);
		if (n < 0)
			return n;
		all += atomic_load(&c.bytes);
	}
	*bytes = all;
	return 0;
}
