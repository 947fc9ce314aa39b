/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * export, import: a generation as one file, or through a pipe.
 *
 * Both work with the store as the calling user: who exports can read the image anyway, and what
 * is imported belongs to who imports it. The file is written under a temporary name and fsynced
 * before it gets its own. Root is believed nothing that others could have written.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../scheduler/proto.h"
#include "../store/state.h"
#include "base/cmd.h"
#include "base/err.h"
#include "base/fd.h"
#include "ctl.h"
#include "gen.h"
#include "image_arg.h"
#include "job_client.h"

#define PATH_SIZE 4096

/* --- export -------------------------------------------------------------------------- */

static int write_image(struct cpx_image *img, int fd, uint64_t *bytes, struct cpx_err *err)
{
	struct cpx_progress progress;
	int r;

	cpx_progress_begin(&progress, "exporting");
	r = cpx_image_export(img, fd, cpx_progress_step, &progress, bytes, err);
	cpx_progress_end(&progress);
	return r;
}

static int sync_parent(const char *path, struct cpx_err *err)
{
	CPX_AUTO_FREE char *copy = strdup(path);
	CPX_AUTO_FD dir = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (dir < 0 || fsync(dir) < 0)
		return cpx_err_sys(err, copy ? errno : ENOMEM, "fsync the directory of %s",
				   path);
	return 0;
}

/* Temporary file -> fsync -> rename -> fsync of the directory. */
static int write_file(struct cpx_image *img, const char *path, uint64_t *bytes,
		      struct cpx_err *err)
{
	char tmp[PATH_SIZE];
	CPX_AUTO_FD fd = -1;
	int r, sys = 0;

	if (snprintf(tmp, sizeof(tmp), "%s.%d.tmp", path, getpid()) >= PATH_SIZE)
		return cpx_err_set(err, CPX_E_LIMIT, "the path is too long");
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return cpx_err_sys(err, errno, "cannot make %s", tmp);
	r = write_image(img, fd, bytes, err);
	if (r >= 0 && (fsync(fd) < 0 || rename(tmp, path) < 0)) {
		sys = errno;
		r = cpx_err_sys(err, sys, "cannot write %s", path);
	}
	if (r < 0) {
		unlink(tmp);
		return r;
	}
	return sync_parent(path, err);
}

static int export_to(struct cpx_image *img, const char *what, const char *path,
		     struct cpx_err *err)
{
	const struct cpx_gen_id *id = cpx_image_id(img);
	uint64_t bytes = 0;
	char size[16];
	int r;

	if (!strcmp(path, "-"))
		return isatty(STDOUT_FILENO)
			       ? cpx_err_set(err, CPX_E_INVAL,
					     "an image is nothing for a terminal; name a file, "
					     "or use a pipe")
			       : write_image(img, STDOUT_FILENO, NULL, err);
	r = write_file(img, path, &bytes, err);
	if (r >= 0)
		printf("%s: generation %llu, %s in %s\n", what, (unsigned long long)id->seq,
		       cpx_human_size(bytes, size), path);
	return r;
}

int cpx_ctl_export(const struct cpx_args *a, struct cpx_err *err)
{
	struct cpx_image_arg arg;
	struct cpx_image *img;
	struct cpx_gen_id id;
	CPX_AUTO_FD pin = -1;
	int r = cpx_image_arg_open(a->ctx, a->pos[0], &arg, err);

	if (r >= 0) {
		r = cpx_image_arg_pick(&arg, &id, NULL, err);
		if (r >= 0 && !arg.is_dir)
			r = pin = cpx_client_pin(a->ctx, &id, "export", err);
		if (r >= 0)
			r = cpx_image_open(arg.store, &id, &img, err);
		if (r >= 0) {
			r = export_to(img, a->pos[0], a->pos[1], err);
			cpx_image_close(img);
		}
		cpx_image_arg_close(&arg);
	}
	return r < 0 ? cpx_err_wrap(err, "cannot export %s", a->pos[0]) : 0;
}

/* --- import -------------------------------------------------------------------------- */

/* The path behind standard input, when that is a file. Return: @buf or NULL. */
static const char *stdin_path(char *buf, size_t size)
{
	struct stat st;
	ssize_t n;

	if (fstat(STDIN_FILENO, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	n = readlink("/proc/self/fd/0", buf, size - 1);
	if (n <= 0)
		return NULL;
	buf[n] = 0;
	return buf;
}

/*
 * Root's jobs get the rights that their image records, so what root imports must be what root
 * alone could have written, or what root says is good.
 */
static int check_trust(const struct cpx_args *a, const char *file, struct cpx_err *err)
{
	uint32_t uid, gid;
	char buf[PATH_SIZE];
	const char *path = strcmp(file, "-") ? file : stdin_path(buf, sizeof(buf));
	int r;

	if (geteuid() != 0 || cpx_arg_given(a, "trust"))
		return 0;
	if (!path)
		return cpx_err_set(
			err, CPX_E_PERM,
			"who wrote what comes through a pipe cannot be told, and root "
			"would give it all rights that it records; give --trust, if "
			"you know it is good");
	r = cpx_gen_trust(path, &uid, &gid, err);
	if (r != 0)
		return r < 0 ? r : 0;
	return cpx_err_set(err, CPX_E_PERM,
			   "user %u may write %s or a directory above it, and root would give "
			   "it all rights that it records; import it as that user, or give "
			   "--trust, if you know it is good",
			   uid, path);
}

static int read_image(struct cpx_store *s, int fd, const struct cpx_gen_id *as,
		      struct cpx_gen_entry *out, struct cpx_err *err)
{
	struct cpx_progress progress;
	int r;

	cpx_progress_begin(&progress, "importing");
	r = cpx_image_import(s, fd, as, cpx_progress_step, &progress, out, err);
	cpx_progress_end(&progress);
	return r;
}

static int open_store(const char *dir, bool create, struct cpx_store **out, struct cpx_err *err)
{
	const struct cpx_store_opts so = { .create = create,
					   .uid = (uint32_t)-1,
					   .gid = (uint32_t)-1 };

	return cpx_store_open(dir, &so, out, err);
}

/* Nothing of an import that failed stays; what was there before does. */
static void remove_empty(const char *dir, bool ours)
{
	char path[PATH_SIZE];

	if (snprintf(path, sizeof(path), "%s/jobs", dir) < PATH_SIZE)
		rmdir(path);
	if (ours)
		rmdir(dir);
}

static int import_to_dir(const char *dir, int fd, struct cpx_err *err)
{
	bool ours = access(dir, F_OK) != 0;
	struct cpx_gen_entry gen;
	struct cpx_store *s;
	struct cpx_gen_id id;
	char size[16];
	int r = open_store(dir, true, &s, err);

	if (r < 0)
		return r;
	r = cpx_store_lock(s, false, err);
	if (r >= 0)
		r = cpx_gen_next(s, &id, err);
	if (r >= 0)
		r = read_image(s, fd, &id, &gen, err);
	if (r < 0)
		cpx_store_drop_code(s);
	cpx_store_close(s);
	if (r < 0) {
		remove_empty(dir, ours);
		return r;
	}
	printf("%s: generation %llu, %s\n", dir, (unsigned long long)id.seq,
	       cpx_human_size(gen.bytes_stored, size));
	return 0;
}

/* Tell chpoxd what is there now: from then on it is a job. */
static int say_imported(int sock, struct cpx_store *s, const struct cpx_gen_entry *g,
			struct cpx_err *err)
{
	const struct cpx_state *st;
	struct cpx_image *img;
	json_t *req;
	int r = cpx_image_open(s, &g->id, &img, err);

	if (r < 0)
		return r;
	st = cpx_image_state(img);
	req = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "op", "imported", "nonce",
			g->id.nonce, "realtime_ns", (json_int_t)g->realtime_ns, "bytes_memory",
			(json_int_t)g->bytes_memory, "bytes_stored",
			(json_int_t)g->bytes_stored, "tasks",
			(json_int_t)cpx_state_count(st, CPX_REC_task), "threads",
			(json_int_t)cpx_state_count(st, CPX_REC_thread));
	cpx_image_close(img);
	return cpx_client_ask(sock, req, "import", NULL, err);
}

static int import_into(const struct cpx_ctl *ctl, int sock, const char *job, uint32_t uid,
		       int fd, struct cpx_err *err)
{
	struct cpx_gen_id id = { .epoch = 1, .seq = 1 };
	struct cpx_gen_entry gen;
	char dir[PATH_SIZE];
	struct cpx_store *s;
	int r;

	snprintf(id.job, sizeof(id.job), "%s", job);
	if (snprintf(dir, sizeof(dir), "%s/store/%u", ctl->dir, uid) >= PATH_SIZE)
		return cpx_err_set(err, CPX_E_LIMIT, "the path is too long");
	r = cpx_gen_nonce(id.nonce, err);
	if (r >= 0)
		r = open_store(dir, false, &s, err);
	if (r < 0)
		return r;
	r = read_image(s, fd, &id, &gen, err);
	if (r >= 0)
		r = say_imported(sock, s, &gen, err);
	cpx_store_close(s);
	return r;
}

/* A job's name is made from the file's, without what is behind its last dot. */
static char *base_of(const char *file)
{
	const char *slash = strrchr(file, '/');
	const char *base = strcmp(file, "-") ? (slash ? slash + 1 : file) : "imported";
	const char *dot = strrchr(base, '.');

	return strndup(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
}

static int import_job(const struct cpx_args *a, const char *file, int fd, struct cpx_err *err)
{
	const char *name = cpx_arg(a, "name"), *job;
	CPX_AUTO_FD sock = cpx_client_open(a->ctx, err);
	CPX_AUTO_FREE char *base = base_of(file);
	json_t *req, *answer;
	int r;

	if (sock < 0)
		return sock;
	req = json_pack("{s:s, s:o}", "op", "import", "from",
			cpx_proto_bytes(base ? base : "imported"));
	if (req && name && json_object_set_new(req, "name", json_string(name))) {
		json_decref(req);
		return cpx_err_set(err, CPX_E_INVAL,
				   "that name is no text; letters, digits, '.', '_' and '-' "
				   "make a name");
	}
	r = cpx_client_ask(sock, req, "import", &answer, err);
	if (r < 0)
		return r;
	job = cpx_proto_str(answer, "job");
	r = job ? import_into(a->ctx, sock, job, (uint32_t)cpx_proto_int(answer, "uid", 0), fd,
			      err)
		: cpx_err_set(err, CPX_E_FORMAT, "an answer that makes no sense");
	if (r >= 0)
		printf("%s\n", job);
	json_decref(answer);
	return r;
}

int cpx_ctl_import(const struct cpx_args *a, struct cpx_err *err)
{
	const char *file = a->pos[0], *to = cpx_arg(a, "to");
	CPX_AUTO_FD fd = -1;
	int r;

	if (to && cpx_arg(a, "name"))
		return cpx_err_set(err, CPX_E_INVAL,
				   "import: either --name, for a job, or --to, not both");
	fd = strcmp(file, "-") ? open(file, O_RDONLY | O_CLOEXEC)
			       : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return cpx_err_sys(err, errno, "cannot import %s", file);
	r = check_trust(a, file, err);
	if (r >= 0)
		r = to ? import_to_dir(to, fd, err) : import_job(a, file, fd, err);
	return r < 0 ? cpx_err_wrap(err, "cannot import %s", file) : 0;
}
