/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store_aside.c - what is damaged gets out of the way, and nothing is deleted.
 *
 * Manifests first, durable; then their packs, for as long as a manifest is there its packs must
 * be. A crash in between leaves packs that no manifest refers to.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "store_priv.h"

#define ASIDE ".damaged"
#define PATH_SIZE (CPX_NAME_MAX + sizeof(ASIDE))

static int move(struct cpx_store *s, const char *path, struct cpx_err *err)
{
	char to[PATH_SIZE];

	snprintf(to, sizeof(to), "%.*s" ASIDE, CPX_NAME_MAX - 1, path);
	return cpx_io_rename(&s->io, path, to, err);
}

struct packs {
	struct cpx_store *s;
	const struct cpx_gen_id *ids;
	size_t n;
	const struct cpx_gen_entry *kept;
	int nkept;
	struct cpx_err *err;
};

/* Does a generation that is still there refer to this pack? One that cannot be read may. */
static bool is_needed(const struct packs *p, const struct cpx_gen_id *id, uint32_t k)
{
	for (int i = 0; i < p->nkept; i++) {
		struct cpx_manifest m;
		bool found = false;
		size_t len;

		if (cpx_image_load_manifest(p->s, &p->kept[i].id, false, &m, &len, NULL) < 0)
			return true;
		for (uint32_t q = 0; q < m.npacks && !found; q++)
			found = m.packs[q].k == k && !strcmp(m.packs[q].nonce, id->nonce);
		cpx_manifest_free(&m);
		if (found)
			return true;
	}
	return false;
}

static int move_pack(void *ctx, const char *name)
{
	struct packs *p = ctx;
	char path[CPX_NAME_MAX];
	struct cpx_gen_id id;
	uint32_t k;

	if (cpx_name_parse(name, &id, &k) != CPX_NAME_PACK)
		return 0;
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->ids[i].nonce, id.nonce) != 0 || is_needed(p, &id, k))
			continue;
		cpx_name_pack(p->ids[i].job, id.epoch, id.seq, id.nonce, k, path);
		return move(p->s, path, p->err);
	}
	return 0;
}

int cpx_store_set_aside(struct cpx_store *s, const struct cpx_gen_id *ids, size_t n,
			struct cpx_err *err)
{
	CPX_AUTO_FREE struct cpx_gen_entry *kept = NULL;
	struct packs p = { .s = s, .ids = ids, .n = n, .err = err };
	char path[CPX_NAME_MAX], dir[CPX_NAME_MAX];
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		if (!cpx_gen_valid(&ids[i]) || strcmp(ids[i].job, ids[0].job) != 0)
			return cpx_err_set(err, CPX_E_INVAL, "not a generation's name");
		cpx_name_manifest(&ids[i], false, path);
		rc = move(s, path, err);
	}
	if (rc < 0 || !n)
		return rc;
	cpx_name_job(ids[0].job, dir);
	rc = cpx_io_fsync_dir(&s->io, dir, err);
	if (rc == 0)
		rc = p.nkept = cpx_store_list(s, ids[0].job, &kept, err);
	if (rc < 0)
		return rc;
	p.kept = kept;
	rc = cpx_io_list(&s->io, dir, move_pack, &p, err);
	return rc < 0 ? rc : cpx_io_fsync_dir(&s->io, dir, err);
}

int cpx_store_lock(struct cpx_store *s, bool exclusive, struct cpx_err *err)
{
	/* where there are no locks at all, nobody is kept out */
	if (flock(s->io.root, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0 ||
	    (errno != EWOULDBLOCK && !exclusive))
		return 0;
	return cpx_err_set(err, CPX_E_BUSY,
			   "%s is just being changed by another command; "
			   "try again when that is done",
			   s->io.shown);
}
