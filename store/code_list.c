/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * code_list.c - which code objects a generation will refer to that is being written.
 *
 * A file beside its packs, one SHA-256 after the other. It is written before the object is
 * looked for, and goes when the manifest is durable, or with the generation that came to
 * nothing. It need not outlive a crash of the machine, for then its writer does not either.
 */
#include "store_priv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "container.h"

static int begin(struct cpx_store *s, const struct cpx_gen_id *id, struct cpx_err *err)
{
	char path[CPX_NAME_MAX];
	bool made;
	int rc;

	if (!cpx_gen_valid(id))
		return cpx_err_set(err, CPX_E_INVAL, "not a generation's name");
	cpx_code_list_end(s);
	rc = cpx_store_make_dir(s, id->job, &made, err);
	if (rc < 0)
		return rc;
	cpx_name_code_list(id, path);
	rc = cpx_io_create(&s->io, path, &s->list.file, err);
	if (rc < 0)
		return rc;
	s->list.id = *id;
	s->list.len = 0;
	s->list.open = true;
	return 0;
}

int cpx_code_list_add(struct cpx_store *s, const struct cpx_gen_id *id, const uint8_t sum[32],
		      struct cpx_err *err)
{
	int rc = 0;

	if (!s->list.open || cpx_gen_compare(&s->list.id, id) != 0 ||
	    strcmp(s->list.id.job, id->job) != 0)
		rc = begin(s, id, err);
	if (rc == 0)
		rc = cpx_io_write(&s->list.file, sum, 32, s->list.len, err);
	/* who collects on another node sees what the server has */
	if (rc == 0)
		rc = cpx_io_fsync(&s->list.file, err);
	if (rc == 0)
		s->list.len += 32;
	return rc;
}

void cpx_code_list_end(struct cpx_store *s)
{
	char path[CPX_NAME_MAX];

	if (!s->list.open)
		return;
	cpx_io_close(&s->list.file);
	s->list.open = false;
	cpx_name_code_list(&s->list.id, path);
	cpx_io_unlink(&s->io, path, NULL);
}

int cpx_code_list_read(struct cpx_store *s, const struct cpx_gen_id *id, uint8_t **out,
		       struct cpx_err *err)
{
	char path[CPX_NAME_MAX];
	struct stat st;
	uint8_t *v;
	size_t n;
	int rc;

	cpx_name_code_list(id, path);
	CPX_AUTO_FD fd = cpx_io_open(&s->io, path, err);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size / 32 > CPX_CODE_OBJECTS_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "%s/%s is too long", s->io.shown, path);
	/* what is cut off at its end is not in use: its writer has gone, or looks later */
	n = (size_t)st.st_size / 32;
	v = malloc(n * 32 + 1);
	if (!v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for %s", path);
	rc = cpx_io_read(&s->io, fd, path, v, n * 32, 0, err);
	if (rc < 0) {
		free(v);
		return rc;
	}
	*out = v;
	return (int)n;
}
