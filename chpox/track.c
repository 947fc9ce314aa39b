/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * track.c - see track.h.
 *
 * Happy path: start (with write protection three calls in the process), then at each
 * checkpoint collect mapping by mapping, and arm. A mapping that is not covered is registered
 * and armed on the way, so that the next checkpoint finds its writes.
 *
 * Soft-dirty bits belong to everybody: whoever else clears them takes our writes away. So the
 * page that injected calls live in, which is written after each clearing when it is put
 * back, is a witness: without its bit nothing counts as covered. It is asked before it is
 * written again.
 */
#include "track.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/tracee.h"
#include "cap_mem.h"
#include "known.h"
#include "track_ways.h"
#include "vma_flags.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define FIRST_SPACE (1u << 24) /* above all numbers that one generation counts up to */
#define EXPORT_MAGIC 0x334b5254u

struct cpx_track_mm {
	/* a process: @dev is 0 */
	pid_t pid;
	uint64_t born; /* start time of the process, clock ticks */
	/* or a shared memory object */
	uint64_t dev, ino;

	uint32_t space;
	bool seen;
	int uffd;		 /* write protection; -1: none */
	uint64_t witness;	 /* soft-dirty bits: a page whose bit must be there; 0: never
				    cleared */
	bool covered;		 /* soft-dirty bits: in this checkpoint the witness spoke */
	struct cpx_known *known; /* content; NULL: none */
};

struct cpx_track {
	enum cpx_track_way way;
	struct cpx_gen_id base;
	bool has_base;
	uint32_t next_space;
	struct cpx_track_mm *mms[CPX_TRACK_MMS_MAX];
	size_t n;
	bool words_asked; /* whether there is a reader of flags is known */
	struct cpx_vma_words words;
};

/* --- the tracker ---------------------------------------------------------------------------
 */

enum cpx_track_way cpx_track_probe(char *say, size_t size)
{
	char wp[80], soft[80];

	if (cpx_wp_probe(wp, sizeof(wp)) == 0) {
		snprintf(say, size, "asynchronous write protection and PAGEMAP_SCAN");
		return CPX_TRACK_WP;
	}
	if (cpx_soft_probe(soft, sizeof(soft)) == 0) {
		snprintf(say, size, "soft-dirty bits (%s)", wp);
		return CPX_TRACK_SOFT;
	}
	snprintf(say, size, "content hashes: all is read, what changed is stored (%s; %s)", wp,
		 soft);
	return CPX_TRACK_CONTENT;
}

int cpx_track_new(struct cpx_track **out, struct cpx_err *err)
{
	struct cpx_track *tr = calloc(1, sizeof(*tr));
	char say[200];

	if (!tr)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to track writes");
	tr->way = cpx_track_probe(say, sizeof(say));
	tr->next_space = FIRST_SPACE;
	tr->words.prog_fd = -1;
	*out = tr;
	return 0;
}

enum cpx_track_way cpx_track_way(const struct cpx_track *tr)
{
	return tr->way;
}

static void free_mm(struct cpx_track_mm *mm)
{
	if (!mm)
		return;
	cpx_close(&mm->uffd);
	cpx_known_free(mm->known);
	free(mm);
}

void cpx_track_free(struct cpx_track *tr)
{
	if (!tr)
		return;
	for (size_t i = 0; i < tr->n; i++)
		free_mm(tr->mms[i]);
	cpx_vma_words_free(&tr->words);
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

/* Found for the first time in this checkpoint: its content is compared anew. */
static struct cpx_track_mm *found(struct cpx_track_mm *mm)
{
	if (!mm->seen && mm->known)
		cpx_known_begin(mm->known);
	mm->seen = true;
	return mm;
}

struct cpx_track_mm *cpx_track_find(struct cpx_track *tr, pid_t pid)
{
	for (size_t i = 0; i < tr->n; i++) {
		struct cpx_track_mm *mm = tr->mms[i];

		if (!mm->dev && mm->pid == pid && mm->born == birth_of(pid))
			return found(mm);
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
	if (rc == 0 && cpx_wp_set_up(fd) < 0)
		rc = cpx_err_sys(err, errno, "set up write tracking of process %d",
				 leader->pid);
	if (rc == 0)
		*out = cpx_steal_fd(&fd);
	return rc;
}

/* A new entry; @mm says what it is of. */
static int add(struct cpx_track *tr, const struct cpx_track_mm *what, bool by_content,
	       struct cpx_track_mm **out, struct cpx_err *err)
{
	struct cpx_track_mm *mm;
	int rc;

	if (tr->n == CPX_TRACK_MMS_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "more than %d address spaces",
				   CPX_TRACK_MMS_MAX);
	mm = calloc(1, sizeof(*mm));
	if (!mm)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory to track writes");
	*mm = *what;
	rc = by_content ? cpx_known_new(0, &mm->known, err) : 0;
	if (rc < 0) {
		free(mm);
		return rc;
	}
	mm->space = tr->next_space++;
	mm->seen = true;
	tr->mms[tr->n++] = mm;
	*out = mm;
	return 0;
}

void cpx_track_from_outside(struct cpx_track *tr)
{
	char why[80];

	if (tr->way == CPX_TRACK_WP && !tr->n && !tr->has_base &&
	    cpx_soft_probe(why, sizeof(why)) == 0)
		tr->way = CPX_TRACK_SOFT;
}

int cpx_track_start(struct cpx_track *tr, pid_t pid, struct cpx_tracee *leader,
		    struct cpx_track_mm **out, struct cpx_err *err)
{
	struct cpx_track_mm mm = { .pid = pid, .born = birth_of(pid), .uffd = -1 };
	int rc = 0;

	if (tr->way == CPX_TRACK_WP && !leader)
		return cpx_err_set(err, CPX_E_UNSUPPORTED, "no calls can be run in process %d",
				   pid);
	if (tr->way == CPX_TRACK_WP)
		rc = fetch_uffd(leader, &mm.uffd, err);

	if (rc == 0)
		rc = add(tr, &mm, tr->way == CPX_TRACK_CONTENT, out, err);
	if (rc < 0)
		cpx_close(&mm.uffd);
	return rc;
}

struct cpx_track_mm *cpx_track_object(struct cpx_track *tr, uint64_t dev, uint64_t ino)
{
	struct cpx_track_mm what = { .dev = dev, .ino = ino, .uffd = -1 }, *mm;

	for (size_t i = 0; i < tr->n; i++)
		if (tr->mms[i]->dev == dev && tr->mms[i]->ino == ino)
			return found(tr->mms[i]);
	return add(tr, &what, true, &mm, NULL) < 0 ? NULL : mm;
}

struct cpx_known *cpx_track_known(const struct cpx_track_mm *mm)
{
	return mm->known;
}

/* --- collecting ----------------------------------------------------------------------------
 */

static int collect_wp(struct cpx_track_mm *mm, int pagemap_fd, uint64_t start, uint64_t end,
		      struct cpx_mem_ranges *dirty, struct cpx_err *err)
{
	struct cpx_mem_ranges all = { 0 };
	int rc = cpx_wp_scan(pagemap_fd, start, end, dirty, err);

	if (rc != 1)
		return rc;
	/* refused ranges (another program after exec, a userfaultfd of the job) stay uncovered
	 */
	if (cpx_wp_register(mm->uffd, start, end) == 0)
		cpx_wp_scan(pagemap_fd, start, end, &all, NULL);
	free(all.v);
	return 1;
}

void cpx_track_parked(struct cpx_track *tr, pid_t pid)
{
	char path[64];

	if (!tr || tr->way != CPX_TRACK_SOFT)
		return;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	CPX_AUTO_FD map = open(path, O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; i < tr->n; i++) {
		struct cpx_track_mm *mm = tr->mms[i];

		if (!mm->dev && mm->pid == pid)
			mm->covered =
				map >= 0 && mm->witness && cpx_soft_is_set(map, mm->witness);
	}
}

int cpx_track_collect(struct cpx_track_mm *mm, int pagemap_fd, uint64_t start, uint64_t end,
		      struct cpx_mem_ranges *dirty, struct cpx_err *err)
{
	if (mm->uffd >= 0)
		return collect_wp(mm, pagemap_fd, start, end, dirty, err);
	return mm->covered ? cpx_soft_scan(pagemap_fd, start, end, dirty, err) : 1;
}

int cpx_track_arm(struct cpx_track_mm *mm, uint64_t witness, struct cpx_err *err)
{
	if (mm->uffd >= 0 || mm->known)
		return 0;
	mm->witness = witness;
	return cpx_soft_clear(mm->pid, err);
}

int cpx_track_peek(int pagemap_fd, uint64_t start, uint64_t end, struct cpx_mem_ranges *dirty,
		   struct cpx_err *err)
{
	int rc = cpx_wp_scan(pagemap_fd, start, end, dirty, err);

	return rc == CPX_E_GONE ? 1 : rc;
}

size_t cpx_track_list(const struct cpx_track *tr, struct cpx_track_mm **mms, pid_t *pids)
{
	size_t n = 0;

	for (size_t i = 0; i < tr->n; i++) {
		if (tr->mms[i]->dev)
			continue;
		mms[n] = tr->mms[i];
		pids[n++] = tr->mms[i]->pid;
	}
	return n;
}

void cpx_track_clear(struct cpx_track *tr)
{
	while (tr->n)
		free_mm(tr->mms[--tr->n]);
	tr->has_base = false;
}

struct cpx_vma_words *cpx_track_words(struct cpx_track *tr)
{
	struct cpx_err why;

	if (!tr->words_asked && cpx_vma_words_init(&tr->words, &why) < 0)
		cpx_log_debug("%s", why.msg);
	tr->words_asked = true;
	return tr->words.prog_fd >= 0 ? &tr->words : NULL;
}

/* --- handing over --------------------------------------------------------------------------
 */

enum { FD_NONE = 0, FD_UFFD, FD_KNOWN };

static void write_words(struct cpx_buf *b, const struct cpx_track *tr)
{
	const struct cpx_vma_words *w = &tr->words;

	cpx_buf_u8(b, tr->words_asked);
	cpx_buf_u8(b, w->prog_fd >= 0);
	cpx_buf_u32(b, w->n);
	for (uint32_t i = 0; i < w->n; i++) {
		cpx_buf_u64(b, w->v[i].word);
		cpx_buf_u32(b, w->v[i].vmflags);
		cpx_buf_u32(b, w->v[i].pkey);
	}
}

int cpx_track_export(const struct cpx_track *tr, void *buf, size_t size, size_t *len, int *fds,
		     size_t *nfds, struct cpx_err *err)
{
	struct cpx_buf b = { 0 };
	int rc = 0;

	cpx_buf_u32(&b, EXPORT_MAGIC);
	cpx_buf_u8(&b, tr->way);
	cpx_buf_put(&b, tr->base.job, sizeof(tr->base.job));
	cpx_buf_u64(&b, tr->base.epoch);
	cpx_buf_u64(&b, tr->base.seq);
	cpx_buf_put(&b, tr->base.nonce, sizeof(tr->base.nonce));
	cpx_buf_u8(&b, tr->has_base);
	cpx_buf_u32(&b, tr->next_space);
	write_words(&b, tr);
	cpx_buf_u32(&b, (uint32_t)tr->n);
	for (size_t i = 0; i < tr->n; i++) {
		const struct cpx_track_mm *mm = tr->mms[i];

		cpx_buf_u32(&b, (uint32_t)mm->pid);
		cpx_buf_u64(&b, mm->born);
		cpx_buf_u64(&b, mm->dev);
		cpx_buf_u64(&b, mm->ino);
		cpx_buf_u32(&b, mm->space);
		cpx_buf_u64(&b, mm->witness);
		cpx_buf_u8(&b, mm->known ? FD_KNOWN : mm->uffd >= 0 ? FD_UFFD : FD_NONE);
	}
	if (b.failed || b.len > size) {
		rc = cpx_err_set(err, CPX_E_LIMIT, "too much to hand over");
	} else {
		memcpy(buf, b.data, b.len);
		*len = b.len;
		*nfds = 0;
		if (tr->words.prog_fd >= 0)
			fds[(*nfds)++] = tr->words.prog_fd;
		for (size_t i = 0; i < tr->n; i++) {
			const struct cpx_track_mm *mm = tr->mms[i];

			if (mm->known || mm->uffd >= 0)
				fds[(*nfds)++] = mm->known ? cpx_known_fd(mm->known) : mm->uffd;
		}
	}
	cpx_buf_free(&b);
	return rc;
}

/* One entry; @fds are taken from *@next on. Return: 0 or -1. */
static int read_entry(struct cpx_track *tr, struct cpx_rd *r, const int *fds, size_t nfds,
		      size_t *next)
{
	struct cpx_track_mm *mm = calloc(1, sizeof(*mm));
	int fd = -1, kind;

	if (!mm)
		return -1;
	mm->uffd = -1;
	tr->mms[tr->n++] = mm;
	mm->pid = (pid_t)cpx_rd_u32(r);
	mm->born = cpx_rd_u64(r);
	mm->dev = cpx_rd_u64(r);
	mm->ino = cpx_rd_u64(r);
	mm->space = cpx_rd_u32(r);
	mm->witness = cpx_rd_u64(r);
	kind = cpx_rd_u8(r);
	if (r->failed || kind > FD_KNOWN || (kind != FD_NONE && *next == nfds))
		return -1;
	if (kind != FD_NONE)
		fd = fds[(*next)++];
	if (kind == FD_KNOWN)
		return cpx_known_attach(fd, &mm->known, NULL);
	mm->uffd = fd;
	return 0;
}

static int read_words(struct cpx_track *tr, struct cpx_rd *r, const int *fds, size_t nfds,
		      size_t *next)
{
	struct cpx_vma_words *w = &tr->words;
	bool has;
	uint32_t n;

	tr->words_asked = cpx_rd_u8(r);
	has = cpx_rd_u8(r);
	n = cpx_rd_u32(r);
	if (r->failed || n > CPX_VMA_WORDS_MAX || (has && *next == nfds))
		return -1;
	if (has)
		w->prog_fd = fds[(*next)++];
	for (w->n = 0; w->n < n; w->n++) {
		w->v[w->n].word = cpx_rd_u64(r);
		w->v[w->n].vmflags = cpx_rd_u32(r);
		w->v[w->n].pkey = cpx_rd_u32(r);
	}
	return 0;
}

static int read_export(struct cpx_track *tr, struct cpx_rd *r, const int *fds, size_t nfds,
		       size_t *next)
{
	const void *job, *nonce;
	uint32_t n;

	if (cpx_rd_u32(r) != EXPORT_MAGIC)
		return -1;
	tr->way = cpx_rd_u8(r);
	job = cpx_rd_bytes(r, sizeof(tr->base.job));
	tr->base.epoch = cpx_rd_u64(r);
	tr->base.seq = cpx_rd_u64(r);
	nonce = cpx_rd_bytes(r, sizeof(tr->base.nonce));
	tr->has_base = cpx_rd_u8(r);
	tr->next_space = cpx_rd_u32(r);
	if (read_words(tr, r, fds, nfds, next) < 0)
		return -1;
	n = cpx_rd_u32(r);
	if (r->failed || n > CPX_TRACK_MMS_MAX || tr->way > CPX_TRACK_CONTENT)
		return -1;
	memcpy(tr->base.job, job, sizeof(tr->base.job));
	memcpy(tr->base.nonce, nonce, sizeof(tr->base.nonce));
	tr->base.job[sizeof(tr->base.job) - 1] = 0;
	tr->base.nonce[sizeof(tr->base.nonce) - 1] = 0;
	for (uint32_t i = 0; i < n; i++)
		if (read_entry(tr, r, fds, nfds, next) < 0)
			return -1;
	return r->failed || *next != nfds ? -1 : 0;
}

int cpx_track_import(const void *buf, size_t len, const int *fds, size_t nfds,
		     struct cpx_track **out, struct cpx_err *err)
{
	struct cpx_track *tr = calloc(1, sizeof(*tr));
	struct cpx_rd r = cpx_rd_init(buf, len);
	size_t next = 0;

	if (tr)
		tr->words.prog_fd = -1;
	if (tr && read_export(tr, &r, fds, nfds, &next) == 0) {
		*out = tr;
		return 0;
	}
	while (next < nfds)
		close(fds[next++]);
	cpx_track_free(tr);
	return cpx_err_set(err, CPX_E_FORMAT, "the tracker that was handed over is damaged");
}
