/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * oracle.c - after each of N incremental generations of a program, what the image holds is what
 * a full stop-and-copy of the same instant holds: the program is stopped by SIGSTOP for both.
 * usage: oracle STORE GENERATIONS SEED PROGRAM ARG…   prints TAP
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../chpox/base/err.h"
#include "../../chpox/base/fault.h"
#include "../../chpox/base/log.h"
#include "../../chpox/capture.h"
#include "../../chpox/track.h"

#define CHUNK (1u << 20)

static void set_id(struct cpx_gen_id *id, const char *job, uint64_t seq)
{
	memset(id, 0, sizeof(*id));
	snprintf(id->job, sizeof(id->job), "%s", job);
	id->epoch = 1;
	id->seq = seq;
	snprintf(id->nonce, sizeof(id->nonce), "%016" PRIx64,
		 (uint64_t)(seq * 0x9e3779b97f4a7c15ull));
}

static int capture(struct cpx_store *store, pid_t pid, const char *job, uint64_t seq,
		   struct cpx_track *track, enum cpx_snapshot_way way, uint64_t *put,
		   struct cpx_err *err)
{
	/* ORACLE_ENGINES=both: they take turns, and the full one is always by ptrace */
	bool both = track && getenv("ORACLE_ENGINES");
	struct cpx_capture_opts o = {
		.root = pid,
		.store = store,
		.track = track,
		.snapshot = way,
		.engine = both && seq / 2 % 2 ? CPX_ENGINE_MODULE : CPX_ENGINE_PTRACE,
	};
	struct cpx_capture_result res;
	int rc;

	set_id(&o.id, job, seq);
	o.image.codec = CPX_CODEC_LZ4;
	rc = cpx_capture_run(&o, &res, err);
	if (rc == 0)
		*put = res.image.bytes_memory;
	return rc;
}

static uint64_t bytes_mapped(const struct cpx_state *st)
{
	uint64_t n = 0;

	cpx_state_each(st, vma, v)
		n += v->end - v->start;
	return n;
}

static const struct cpx_rec_mm *mm_of(const struct cpx_state *st, uint32_t id)
{
	cpx_state_each(st, mm, m)
		if (m->id == id)
			return m;
	return NULL;
}

/* The kernel itself writes the number of the CPU there, whenever a thread goes on. */
static bool in_rseq(struct cpx_image *img, uint64_t at)
{
	cpx_state_each(cpx_image_state(img), thread, th)
		if (th->rseq_addr && at - th->rseq_addr < th->rseq_size)
			return true;
	return false;
}

/* One mapping's or object's bytes in both images. */
static int compare_bytes(struct cpx_image *full, uint32_t full_space, struct cpx_image *incr,
			 uint32_t incr_space, uint64_t start, uint64_t end, struct cpx_err *err)
{
	static uint8_t a[CHUNK], b[CHUNK];

	for (uint64_t at = start; at < end; at += CHUNK) {
		size_t n = end - at < CHUNK ? end - at : CHUNK;
		int rc = cpx_image_read(full, full_space, at, a, n, err);

		if (rc == 0)
			rc = cpx_image_read(incr, incr_space, at, b, n, err);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < n; i++)
			if (a[i] != b[i] && !in_rseq(full, at + i))
				return cpx_err_set(err, CPX_E_FORMAT,
						   "space %u, byte at 0x%" PRIx64
						   " differs: %02x, not %02x",
						   incr_space, at + i, b[i], a[i]);
	}
	return 0;
}

/* Shared memory: one capture meets the objects in the same order as the other. */
static int compare_objects(struct cpx_image *full, struct cpx_image *incr, struct cpx_err *err)
{
	const struct cpx_state *si = cpx_image_state(incr);
	size_t n = 0, k;
	int rc = 0;

	cpx_state_each(cpx_image_state(full), shm, a) {
		k = n++;
		cpx_state_each(si, shm, b) {
			if (k--)
				continue;
			if (a->size != b->size || a->kind != b->kind)
				return cpx_err_set(err, CPX_E_FORMAT, "not the same objects");
			rc = compare_bytes(full, a->space, incr, b->space, 0,
					   a->size & ~(uint64_t)(CPX_PAGE - 1), err);
			break;
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* What a mapping is besides its content, found at the same address. */
static int compare_flags(const struct cpx_state *incr, const struct cpx_rec_vma *a,
			 struct cpx_err *err)
{
	cpx_state_each(incr, vma, b) {
		if (b->mm_id != a->mm_id || b->start > a->start || b->end <= a->start)
			continue;
		if (a->madv != b->madv || a->flags != b->flags || a->pkey != b->pkey)
			return cpx_err_set(err, CPX_E_FORMAT,
					   "mapping at 0x%" PRIx64
					   ": advice %x, flags %x, not %x, %x",
					   a->start, b->madv, b->flags, a->madv, a->flags);
		return 0;
	}
	return cpx_err_set(err, CPX_E_FORMAT, "no mapping at 0x%" PRIx64, a->start);
}

/* Every mapping of the full image against the same addresses of the incremental. */
static int compare(struct cpx_image *full, struct cpx_image *incr, struct cpx_err *err)
{
	const struct cpx_state *sf = cpx_image_state(full), *si = cpx_image_state(incr);

	/* registering may merge neighbours: the same addresses, not the same list */
	if (bytes_mapped(sf) != bytes_mapped(si))
		return cpx_err_set(err, CPX_E_FORMAT, "not the same mappings");
	cpx_state_each(sf, vma, v) {
		const struct cpx_rec_mm *mf = mm_of(sf, v->mm_id), *mi = mm_of(si, v->mm_id);
		int rc = 0;

		if (!mf || !mi)
			return cpx_err_set(err, CPX_E_FORMAT, "not the same processes");
		if (v->kind <= CPX_VMA_FILE_PRIVATE)
			rc = compare_bytes(full, mf->space, incr, mi->space, v->start, v->end,
					   err);
		if (rc == 0)
			rc = compare_flags(si, v, err);
		if (rc < 0)
			return rc;
	}
	return compare_objects(full, incr, err);
}

static int check(struct cpx_store *store, uint64_t seq, struct cpx_err *err)
{
	struct cpx_image *full = NULL, *incr = NULL;
	struct cpx_gen_id id;
	int rc;

	set_id(&id, "full", seq);
	rc = cpx_image_open(store, &id, &full, err);
	set_id(&id, "incr", seq);
	if (rc == 0)
		rc = cpx_image_open(store, &id, &incr, err);
	if (rc == 0)
		rc = compare(full, incr, err);
	cpx_image_close(full);
	cpx_image_close(incr);
	set_id(&id, "full", seq);
	cpx_store_remove(store, &id, NULL);
	set_id(&id, "incr", seq - 1);
	if (seq > 1)
		cpx_store_remove(store, &id, NULL);
	return rc;
}

static bool all_stopped(pid_t pid)
{
	char path[64], line[512], *p;
	bool all = true;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && all && (d = readdir(dir))) {
		FILE *f;

		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", pid, d->d_name);
		f = fopen(path, "r");
		if (f && fgets(line, sizeof(line), f) && (p = strrchr(line, ')')))
			all = p[2] == 'T' || p[2] == 'Z';
		if (f)
			fclose(f);
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", pid, d->d_name);
		f = fopen(path, "r");
		for (int child; f && all && fscanf(f, "%d", &child) == 1;)
			all = all_stopped(child);
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
	return all;
}

/* Return: 0, or -1 if it does not stop within a minute. */
static int stop_group(pid_t pid)
{
	struct timespec nap = { .tv_nsec = 500000 };

	kill(-pid, SIGSTOP);
	for (int i = 0; i < 120000; i++) {
		if (all_stopped(pid))
			return 0;
		nanosleep(&nap, NULL);
	}
	return -1;
}

/* As any other tool might that looks for written pages: behind the tracker's back. */
static void clear_soft_dirty(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "4", 1) < 0)
		errno = 0; /* a kernel without such bits */
	if (fd >= 0)
		close(fd);
}

static int generation(struct cpx_store *store, pid_t pid, uint64_t seq, struct cpx_track *track,
		      uint64_t put[2], struct cpx_err *err)
{
	enum cpx_snapshot_way ways[] = { CPX_SNAP_AUTO, CPX_SNAP_CLONE, CPX_SNAP_STOP,
					 CPX_SNAP_PRECOPY };
	int rc;

	if (stop_group(pid) < 0) /* its children too */
		return cpx_err_set(err, CPX_E_TIMEOUT, "the program does not stop");
	if (seq % 5 == 0)
		clear_soft_dirty(pid);
	rc = capture(store, pid, "incr", seq, track, ways[seq % 4], &put[0], err);
	if (rc == 0)
		rc = capture(store, pid, "full", seq, NULL, CPX_SNAP_STOP, &put[1], err);
	if (rc == 0)
		rc = check(store, seq, err);
	kill(-pid, SIGCONT);
	return rc;
}

int main(int argc, char **argv)
{
	struct cpx_store_opts so = { .create = true, .uid = (uint32_t)-1, .gid = (uint32_t)-1 };
	struct timespec nap = { .tv_nsec = 15000000 };
	uint64_t put[2] = { 0, 0 }, total[2] = { 0, 0 };
	struct cpx_track *track = NULL;
	struct cpx_store *store;
	struct cpx_err err = { 0 };
	char way[200];
	uint64_t n, i;
	pid_t pid;
	int rc;

	if (argc < 5)
		return 2;
	n = strtoull(argv[2], NULL, 10);
	cpx_log_init("oracle");
	cpx_fault_init(); /* to force a way of tracking */
	cpx_track_probe(way, sizeof(way));
	rc = cpx_track_new(&track, &err);
	if (rc < 0 || cpx_store_open(argv[1], &so, &store, &err) < 0) {
		printf("not ok oracle: %s\n", err.msg);
		return 1;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* of snapshots, as a keeper is */
	pid = fork();
	if (pid == 0) {
		/* what a test harness left open is not the program's */
		setpgid(0, 0);
		close_range(3, ~0u, 0);
		if (freopen("/dev/null", "r+", stdin) && dup2(0, 1) == 1)
			dup2(0, 2);
		execv(argv[4], argv + 4);
		_exit(127);
	}
	for (i = 1; i <= n && rc == 0; i++) {
		nanosleep(&nap, NULL);
		rc = generation(store, pid, i, track, put, &err);
		total[0] += put[0];
		total[1] += put[1];
	}
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (rc < 0)
		printf("not ok generation %" PRIu64 " (seed %s): %s\n", i - 1, argv[3],
		       err.msg);
	else
		printf("ok %" PRIu64
		       " incremental generations equal full ones; they put %.0f %% of the "
		       "bytes; by %.*s\n",
		       n, 100.0 * (double)total[0] / (double)(total[1] ? total[1] : 1),
		       (int)strcspn(way, ",:("), way);
	cpx_track_free(track);
	cpx_store_close(store);
	return rc < 0;
}
