/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "gen.h"

#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../store/image.h"
#include "base/err.h"
#include "base/fd.h"

int cpx_gen_nonce(char out[17], struct cpx_err *err)
{
	uint64_t v;

	if (getrandom(&v, sizeof(v), 0) != sizeof(v))
		return cpx_err_sys(err, errno, "no random numbers");
	snprintf(out, 17, "%016llx", (unsigned long long)v);
	return 0;
}

/* What is wrong with a generation that is not whole. */
static int say_broken(struct cpx_store *store, const struct cpx_gen_id *id, struct cpx_err *err)
{
	struct cpx_image *img;
	int r = cpx_image_open(store, id, &img, err);

	if (r >= 0) {
		cpx_image_close(img);
		return cpx_err_set(err, CPX_E_NOENT,
				   "the image has just been written; try again");
	}
	return cpx_err_wrap(err, "there is no whole image");
}

int cpx_gen_newest(struct cpx_store *store, const char *job, struct cpx_gen_id *out,
		   unsigned *skipped, struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_gen_entry *list = NULL;
	int n = cpx_store_list(store, job, &list, err);
	const struct cpx_gen_entry *best = NULL;
	unsigned bad = 0;

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		if (!list[i].whole) {
			bad++;
			continue;
		}
		/* several jobs in one directory: the newest of all */
		if (!best || (strcmp(list[i].id.job, best->id.job) &&
			      list[i].realtime_ns > best->realtime_ns))
			best = &list[i];
	}
	if (!best && bad)
		return say_broken(store, &list[0].id, err);
	if (!best)
		return cpx_err_set(err, CPX_E_NOENT, "there is no image");
	*out = best->id;
	if (skipped)
		*skipped = bad;
	return 0;
}

int cpx_gen_candidates(struct cpx_store *store, struct cpx_gen_entry **out, struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_gen_entry *list = NULL;
	int n = cpx_store_list(store, NULL, &list, err), kept = 0;
	struct cpx_gen_id newest;

	if (n < 0)
		return n;
	if (n == 0)
		return cpx_err_set(err, CPX_E_NOENT, "there is no image");
	if (cpx_gen_newest(store, NULL, &newest, NULL, NULL) < 0)
		newest = list[0].id;
	for (int i = 0; i < n; i++)
		if (!strcmp(list[i].id.job, newest.job))
			list[kept++] = list[i];
	*out = cpx_steal_ptr(&list);
	return kept;
}

int cpx_gen_next(struct cpx_store *store, struct cpx_gen_id *out, struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_gen_entry *list = NULL;
	int n = cpx_store_list(store, CPX_GEN_DUMP_JOB, &list, err);

	if (n < 0)
		return n;
	memset(out, 0, sizeof(*out));
	strcpy(out->job, CPX_GEN_DUMP_JOB);
	out->epoch = 1;
	for (int i = 0; i < n; i++) {
		if (list[i].id.epoch > out->epoch)
			out->epoch = list[i].id.epoch;
		if (list[i].id.seq > out->seq)
			out->seq = list[i].id.seq;
	}
	out->seq++;
	return cpx_gen_nonce(out->nonce, err);
}

bool cpx_gen_is_bad(int code)
{
	return code == CPX_E_CHECKSUM || code == CPX_E_FORMAT || code == CPX_E_NOENT ||
	       code == CPX_E_IO || code == CPX_E_GONE;
}

static bool others_write(const struct stat *st)
{
	if (st->st_uid != 0)
		return true;
	if (S_ISLNK(st->st_mode))
		return false;
	if (st->st_mode & 02 || (st->st_mode & 020 && st->st_gid != 0))
		return !(S_ISDIR(st->st_mode) && st->st_mode & S_ISVTX);
	return false;
}

static int trust_path(const char *real, struct stat *bad, struct cpx_err *err)
{
	CPX_AUTO_FREE char *path = strdup(real);
	struct stat st;

	if (!path)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	for (;;) {
		char *slash;

		if (lstat(*path ? path : "/", &st))
			return cpx_err_sys(err, errno, "%s", *path ? path : "/");
		if (others_write(&st)) {
			*bad = st;
			return 0;
		}
		slash = strrchr(path, '/');
		if (!slash || !*path)
			return 1;
		*slash = 0;
	}
}

int cpx_gen_trust(const char *dir, uint32_t *uid, uint32_t *gid, struct cpx_err *err)
{
	CPX_AUTO_FREE char *real = realpath(dir, NULL);
	char *const roots[] = { real, NULL };
	struct stat bad = { 0 };
	FTSENT *e;
	FTS *fts;
	int r;

	if (!real)
		return cpx_err_sys(err, errno, "%s", dir);
	r = trust_path(real, &bad, err);
	if (r < 0)
		return r;
	fts = r ? fts_open(roots, FTS_PHYSICAL, NULL) : NULL;
	if (r && !fts)
		return cpx_err_sys(err, errno, "cannot read %s", dir);
	while (r && (e = fts_read(fts))) {
		/* in the image itself even a sticky directory would let others add files */
		if (e->fts_info == FTS_DP || e->fts_info == FTS_ERR || e->fts_info == FTS_NS ||
		    !e->fts_statp)
			continue;
		if (others_write(e->fts_statp) ||
		    (S_ISDIR(e->fts_statp->st_mode) && e->fts_statp->st_mode & 02)) {
			bad = *e->fts_statp;
			r = 0;
		}
	}
	if (fts)
		fts_close(fts);
	if (!r) {
		*uid = bad.st_uid;
		*gid = bad.st_gid;
	}
	return r;
}
