/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_precopy.c - see cap_precopy.h.
 *
 * A round: collect what was written (which arms it again), put it, wait until it is read. What
 * is torn because the job wrote meanwhile is noted as written, and comes again. A range that
 * vanished reads as zeros here and does not count in the pause. Rounds end when little is left
 * or they do not shrink, and at the latest where pace.h says: a job that writes faster than we
 * read is not chased.
 */
#include "cap_precopy.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "pace.h"
#include "track.h"
#include "vma_flags.h"

#define ENOUGH (1u << 20) /* bytes: copied in well under a millisecond */
#define ROUND_MAX (1u << 30)
#define SAMPLES 32 /* pages that are read once more to see what that takes */

static int read_running(void *ctx, uint64_t off, void *buf, size_t len, struct cpx_err *err)
{
	const struct cpx_precopy_mm *mm = ctx;
	ssize_t n = cpx_pread_full(mm->mem_fd, buf, len, off);

	(void)err;
	if (n < (ssize_t)len)
		memset((char *)buf + (n > 0 ? n : 0), 0, len - (size_t)(n > 0 ? n : 0));
	return 0;
}

static int cmp_range(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return x[0] < y[0] ? -1 : x[0] > y[0];
}

/* Ascending and disjoint again after a round was added. */
static void tidy(struct cpx_mem_ranges *r)
{
	size_t n = 0;

	if (!r->n)
		return;
	qsort(r->v, r->n, sizeof(*r->v), cmp_range);
	for (size_t i = 1; i < r->n; i++) {
		if (r->v[i][0] <= r->v[n][1]) {
			if (r->v[i][1] > r->v[n][1])
				r->v[n][1] = r->v[i][1];
		} else {
			n++;
			r->v[n][0] = r->v[i][0];
			r->v[n][1] = r->v[i][1];
		}
	}
	r->n = n + 1;
}

static int put_round(struct cpx_cap *c, struct cpx_precopy_mm *mm,
		     const struct cpx_mem_ranges *dirty, uint64_t *bytes, struct cpx_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < dirty->n && rc == 0; i++) {
		uint64_t start = dirty->v[i][0], len = dirty->v[i][1] - start;

		*bytes += len;
		rc = cpx_image_put(c->writer, cpx_track_space(mm->track), start, len,
				   read_running, mm, err);
		if (rc == 0)
			rc = cpx_mem_add_range(&mm->copied, start, start + len, err);
	}
	return rc;
}

static int one_round(struct cpx_cap *c, struct cpx_precopy_mm *mm, uint64_t *bytes,
		     struct cpx_err *err)
{
	struct cpx_mem_ranges dirty = { 0 };
	char path[64];
	int rc = 0;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", mm->pid);
	CPX_AUTO_FD pagemap = open(path, O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		return 0; /* it has ended: the pause will not find it */
	for (size_t i = 0; i < mm->maps.n && rc >= 0; i++) {
		const struct cpx_map *m = &mm->maps.v[i];

		/* what is not covered, or no mapping any more, is the pause's business */
		if (m->shared || (mm->flags_fd < 0 && !m->rss) ||
		    !strcmp(m->name, "[vsyscall]"))
			continue;
		rc = cpx_track_peek(pagemap, m->start, m->end, &dirty, err);
		if (rc == 1)
			rc = cpx_mem_add_range(&mm->lost, m->start, m->end, err);
	}
	if (rc >= 0)
		rc = put_round(c, mm, &dirty, bytes, err);
	free(dirty.v);
	if (rc == 0)
		rc = cpx_image_drain(c->writer, err);
	tidy(&mm->copied);
	return rc;
}

/* Where flags can be had otherwise, smaps is not read: it walks all pages. */
static int read_maps(struct cpx_precopy_mm *mm, struct cpx_err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d", mm->pid);
	CPX_AUTO_FD proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return proc < 0 ? 0
			: cpx_maps_read(proc, mm->flags_fd < 0 ? "smaps" : "maps", &mm->maps,
					err);
}

static int open_all(struct cpx_cap *c, struct cpx_precopy *p, struct cpx_err *err)
{
	struct cpx_track_mm *mms[CPX_TRACK_MMS_MAX];
	pid_t pids[CPX_TRACK_MMS_MAX];
	const struct cpx_vma_words *words = cpx_track_words(c->opts->track);
	size_t n = cpx_track_list(c->opts->track, mms, pids);

	p->v = calloc(n + 1, sizeof(*p->v));
	if (!p->v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to copy beforehand");
	for (size_t i = 0; i < n; i++) {
		struct cpx_precopy_mm *mm = &p->v[p->n];
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/mem", pids[i]);
		*mm = (struct cpx_precopy_mm){ .track = mms[i],
					       .pid = pids[i],
					       .flags_fd = -1 };
		mm->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
		if (mm->mem_fd < 0)
			continue;
		if (words)
			mm->flags_fd = cpx_vma_open(words, pids[i], NULL);
		p->n++;
	}
	return 0;
}

/* What reading a page of those takes that were just copied. Return: ns, 0 where there are none.
 */
static int64_t try_reading(const struct cpx_precopy *p)
{
	int64_t start = cpx_mono_ns(), n = 0;
	uint8_t page[CPX_PAGE];

	for (size_t i = 0; i < p->n; i++) {
		const struct cpx_precopy_mm *mm = &p->v[i];
		size_t step = mm->copied.n / SAMPLES + 1;

		for (size_t k = 0; k < mm->copied.n && n < SAMPLES; k += step)
			n += pread(mm->mem_fd, page, sizeof(page), (off_t)mm->copied.v[k][0]) ==
			     (ssize_t)sizeof(page);
	}
	return n ? (cpx_mono_ns() - start) / n + 1 : 0;
}

int cpx_precopy_run(struct cpx_cap *c, struct cpx_precopy **out, struct cpx_err *err)
{
	struct cpx_precopy *p = calloc(1, sizeof(*p));
	uint64_t last = UINT64_MAX;
	unsigned rounds = cpx_pace_rounds(c->pace);
	int rc = p ? open_all(c, p, err) : cpx_err_set(err, CPX_E_NOMEM, "no memory");

	/* once: what is mapped later is not covered anyway */
	for (size_t i = 0; p && i < p->n && rc == 0; i++)
		rc = read_maps(&p->v[i], err);
	if (c->opts->snapshot == CPX_SNAP_PRECOPY)
		rounds = CPX_PACE_ROUNDS_MAX;
	for (unsigned round = 0; round < rounds && rc == 0; round++) {
		uint64_t bytes = 0;

		for (size_t i = 0; i < p->n && rc == 0; i++)
			rc = one_round(c, &p->v[i], &bytes, err);
		if (bytes < ENOUGH || bytes > last / 2 || bytes > ROUND_MAX)
			break;
		last = bytes;
	}
	if (rc < 0) {
		cpx_precopy_free(p);
		return rc;
	}
	p->rounds = rounds > 0;
	p->read_ns = try_reading(p);
	*out = p;
	return 0;
}

void cpx_precopy_free(struct cpx_precopy *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++) {
		cpx_close(&p->v[i].mem_fd);
		cpx_close(&p->v[i].flags_fd);
		cpx_maps_free(&p->v[i].maps);
		free(p->v[i].copied.v);
		free(p->v[i].lost.v);
	}
	free(p->v);
	free(p);
}

struct cpx_precopy_mm *cpx_precopy_find(struct cpx_precopy *p, pid_t pid)
{
	for (size_t i = 0; p && i < p->n; i++)
		if (p->v[i].pid == pid)
			return &p->v[i];
	return NULL;
}

bool cpx_precopy_lost(const struct cpx_precopy_mm *mm, uint64_t start, uint64_t end)
{
	for (size_t i = 0; mm && i < mm->lost.n; i++)
		if (mm->lost.v[i][0] < end && mm->lost.v[i][1] > start)
			return true;
	return false;
}

static const struct cpx_map *covering(const struct cpx_maps *maps, uint64_t start, uint64_t end)
{
	const struct cpx_map *m = cpx_maps_at(maps, start);

	return m && m->start <= start && m->end >= end ? m : NULL;
}

int cpx_precopy_flags(const struct cpx_maps *before, const struct cpx_maps *after,
		      uint64_t start, uint64_t end, const struct cpx_map **flags_of)
{
	const struct cpx_map *b = covering(before, start, end),
			     *a = covering(after, start, end);

	*flags_of = a ? a : b;
	if (!a && !b)
		return CPX_E_BUSY;
	return a && b && (a->vmflags != b->vmflags || a->pkey != b->pkey) ? CPX_E_BUSY : 0;
}
