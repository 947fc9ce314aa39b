/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A crash at any instant leaves the old generation or the new one.
 *
 * All changing calls of a commit (or a removal) are recorded. For each prefix of them
 * the calls that no fsync has made durable yet are dropped in combinations, the
 * directory that remains is built, and the store in it is read. The model is harsher
 * than journalling file systems: each unsynced write, size change and directory entry
 * is lost or kept by itself.
 * Bound: with up to 7 unsynced calls all combinations; with more none, all, each one
 * lost, each one kept, and 20 random ones.
 */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#define OPS_MAX 4096
#define ALL_UP_TO 7
#define RANDOM_SUBSETS 20

struct op {
	enum cpx_io_kind kind;
	char path[CPX_IO_PATH_MAX], to[CPX_IO_PATH_MAX];
	uint64_t off;
	size_t len;
	uint8_t *data;
	int inode;    /* the file or directory it is about */
	bool durable; /* by a sync that came later in the prefix */
};

struct recorder {
	pthread_mutex_t lock;
	struct op *ops;
	size_t n;
	/* what is where as all calls were made */
	struct {
		char path[CPX_IO_PATH_MAX];
		int inode;
	} names[256];
	int nnames, inodes;
};

static int *inode_of(struct recorder *r, const char *path)
{
	for (int i = 0; i < r->nnames; i++)
		if (!strcmp(r->names[i].path, path))
			return &r->names[i].inode;
	return NULL;
}

static int *new_name(struct recorder *r, const char *path)
{
	int *old = inode_of(r, path);

	if (old)
		return old;
	if (r->nnames == 256)
		abort();
	snprintf(r->names[r->nnames].path, CPX_IO_PATH_MAX, "%s", path);
	return &r->names[r->nnames++].inode;
}

static void follow_names(struct recorder *r, struct op *o)
{
	int *at;

	switch (o->kind) {
	case CPX_IO_MKDIR:
	case CPX_IO_CREATE:
		o->inode = *new_name(r, o->path) = ++r->inodes;
		break;
	case CPX_IO_RENAME:
		at = inode_of(r, o->path);
		o->inode = at ? *at : 0;
		if (at)
			*at = 0;
		*new_name(r, o->to) = o->inode;
		break;
	case CPX_IO_UNLINK:
	case CPX_IO_RMDIR:
		at = inode_of(r, o->path);
		o->inode = at ? *at : 0;
		if (at)
			*at = 0;
		break;
	default:
		at = inode_of(r, o->path);
		o->inode = at ? *at : 0;
	}
}

static int record(void *ctx, const struct cpx_io_op *op)
{
	struct recorder *r = ctx;
	struct op *o;

	if (op->kind == CPX_IO_OPEN || op->kind == CPX_IO_READ)
		return 0;
	pthread_mutex_lock(&r->lock);
	if (r->n == OPS_MAX)
		abort();
	o = &r->ops[r->n++];
	memset(o, 0, sizeof(*o));
	o->kind = op->kind;
	snprintf(o->path, sizeof(o->path), "%s", op->path);
	if (op->to)
		snprintf(o->to, sizeof(o->to), "%s", op->to);
	o->off = op->off;
	o->len = op->len;
	if (op->data) {
		o->data = malloc(op->len);
		memcpy(o->data, op->data, op->len);
	}
	follow_names(r, o);
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static void parent_of(const char *path, char out[CPX_IO_PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	snprintf(out, CPX_IO_PATH_MAX, "%.*s", slash ? (int)(slash - path) : 1,
		 slash ? path : ".");
}

static bool is_name_op(const struct op *o)
{
	return o->kind == CPX_IO_MKDIR || o->kind == CPX_IO_CREATE ||
	       o->kind == CPX_IO_RENAME || o->kind == CPX_IO_UNLINK || o->kind == CPX_IO_RMDIR;
}

static bool is_data_op(const struct op *o)
{
	return o->kind == CPX_IO_WRITE || o->kind == CPX_IO_TRUNCATE ||
	       o->kind == CPX_IO_ALLOCATE;
}

/* Which of the first @n calls are durable whatever happens. */
static void mark_durable(struct recorder *r, size_t n)
{
	char dir[CPX_IO_PATH_MAX];

	for (size_t i = 0; i < n; i++)
		r->ops[i].durable = !is_name_op(&r->ops[i]) && !is_data_op(&r->ops[i]);
	for (size_t i = 0; i < n; i++) {
		const struct op *s = &r->ops[i];

		for (size_t k = 0; k < i; k++) {
			struct op *o = &r->ops[k];

			if (s->kind == CPX_IO_FSYNC && is_data_op(o) && o->inode == s->inode)
				o->durable = true;
			parent_of(o->path, dir);
			if (s->kind == CPX_IO_FSYNC_DIR && is_name_op(o) &&
			    !strcmp(dir, s->path))
				o->durable = true;
		}
	}
}

/* --- building what a crash leaves ---------------------------------------------------- */

struct built {
	char root[256]; /* directory on disk */
	char data[256]; /* inode files before they get names */
};

static void inode_path(const struct built *b, int inode, char out[512])
{
	snprintf(out, 512, "%s/%d", b->data, inode);
}

static void apply_data(const struct built *b, const struct op *o)
{
	char path[512];
	int fd;

	inode_path(b, o->inode, path);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	if (o->kind == CPX_IO_WRITE)
		assert_int_equal(pwrite(fd, o->data, o->len, (off_t)o->off), o->len);
	else if (o->kind == CPX_IO_TRUNCATE)
		assert_int_equal(ftruncate(fd, (off_t)o->off), 0);
	else
		assert_int_equal(posix_fallocate(fd, (off_t)o->off, 1), 0);
	close(fd);
}

/* Link files as hard links of their inode's file, so that all writes show. */
static void apply_name(const struct built *b, const struct op *o)
{
	char path[1024], inode[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", b->root, o->path);
	inode_path(b, o->inode, inode);
	switch (o->kind) {
	case CPX_IO_MKDIR:
		mkdir(path, 0700);
		return;
	case CPX_IO_CREATE:
		fd = open(inode, O_WRONLY | O_CREAT, 0600);
		close(fd);
		if (link(inode, path) < 0)
			assert_int_equal(errno, ENOENT); /* its directory was lost */
		return;
	case CPX_IO_RENAME:
		unlink(path);
		fd = open(inode, O_WRONLY | O_CREAT, 0600);
		close(fd);
		snprintf(path, sizeof(path), "%s/%s", b->root, o->to);
		if (link(inode, path) < 0)
			assert_int_equal(errno, ENOENT);
		return;
	case CPX_IO_UNLINK:
		unlink(path);
		return;
	case CPX_IO_RMDIR:
		rmdir(path);
		return;
	default:
		return;
	}
}

static void copy_tree(const char *from, const char *to)
{
	char cmd[1200];

	snprintf(cmd, sizeof(cmd), "cp -a '%s/.' '%s/'", from, to);
	if (system(cmd) != 0)
		fail_msg("%s", cmd);
}

/* --- one scenario -------------------------------------------------------------------- */

struct scenario {
	const char *name;
	const char *base; /* where its store is: the kind of file system decides how packs are
			     written */
	size_t pages;
	unsigned workers;
	int (*prepare)(struct cpx_store *s, struct scenario *c, struct cpx_err *err);
	int (*act)(struct cpx_store *s, struct scenario *c, struct cpx_err *err);
	/* @all: the whole record was replayed and nothing lost. */
	void (*judge)(struct cpx_store *s, struct scenario *c, bool all);
	struct pages before, after;
	uint8_t sha256[32];
	char *start; /* copy of the directory before the recorded calls */
	size_t states;
};

static void judge_subset(struct scenario *c, struct recorder *r, size_t n, const bool *lost)
{
	struct built b;
	char *dir = make_dir(fast_base());
	struct cpx_store *s;
	bool any = false;

	snprintf(b.root, sizeof(b.root), "%s/store", dir);
	snprintf(b.data, sizeof(b.data), "%s/inodes", dir);
	mkdir(b.root, 0700);
	mkdir(b.data, 0700);
	copy_tree(c->start, b.root);
	for (size_t i = 0; i < n; i++) {
		any |= lost[i];
		if (lost[i])
			continue;
		if (is_data_op(&r->ops[i]))
			apply_data(&b, &r->ops[i]);
		else if (is_name_op(&r->ops[i]))
			apply_name(&b, &r->ops[i]);
	}
	s = open_dir(b.root);
	c->judge(s, c, n == r->n && !any);
	cpx_store_close(s);
	remove_tree(dir);
	c->states++;
}

static void judge_prefix(struct scenario *c, struct recorder *r, size_t n, uint64_t *random)
{
	size_t open_ops[OPS_MAX], u = 0;
	bool *lost = calloc(r->n + 1, sizeof(*lost));

	mark_durable(r, n);
	for (size_t i = 0; i < n; i++)
		if (!r->ops[i].durable)
			open_ops[u++] = i;
	if (u <= ALL_UP_TO) {
		for (uint32_t set = 0; set < 1u << u; set++) {
			for (size_t k = 0; k < u; k++)
				lost[open_ops[k]] = set >> k & 1;
			judge_subset(c, r, n, lost);
		}
		free(lost);
		return;
	}
	for (size_t t = 0; t < 2 + 2 * u + RANDOM_SUBSETS; t++) {
		for (size_t k = 0; k < u; k++) {
			bool *x = &lost[open_ops[k]];

			if (t < 2)
				*x = t;
			else if (t < 2 + u)
				*x = k == t - 2;
			else if (t < 2 + 2 * u)
				*x = k != t - 2 - u;
			else
				*x = next_random(random) >> 33 & 1;
		}
		judge_subset(c, r, n, lost);
	}
	free(lost);
}

static void run(struct scenario *c)
{
	struct recorder r = { .lock = PTHREAD_MUTEX_INITIALIZER };
	const struct cpx_store_opts opts = { .create = true,
					     .uid = (uint32_t)-1,
					     .gid = (uint32_t)-1 };
	struct cpx_err err = { 0 };
	char *dir = make_dir(c->base);
	struct cpx_store *s = open_dir(dir);
	uint64_t random = 4711;

	r.ops = calloc(OPS_MAX, sizeof(*r.ops));
	OK(c->prepare(s, c, &err));
	c->start = make_dir(fast_base());
	copy_tree(dir, c->start);
	cpx_store_close(s);
	OK(cpx_store_open_hooked(dir, &opts, (struct cpx_io_hook){ record, &r }, &s, &err));
	OK(c->act(s, c, &err));
	cpx_store_close(s);
	for (size_t n = 0; n <= r.n; n++)
		judge_prefix(c, &r, n, &random);
	print_message("%s: %zu calls, %zu states after a crash\n", c->name, r.n, c->states);
	for (size_t i = 0; i < r.n; i++)
		free(r.ops[i].data);
	free(r.ops);
	remove_tree(c->start);
	remove_tree(dir);
	free(c->before.p);
	free(c->after.p);
}

/* --- what is done, and what must hold ------------------------------------------------ */

static int prepare_old(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	c->before = make_pages(c->pages * CPX_PAGE, 0x10000);
	c->after = make_pages(c->pages * CPX_PAGE, 0x10000);
	fill(&c->before, FILL_RANDOM);
	memcpy(c->after.p, c->before.p, c->before.n);
	for (size_t i = 0; i < c->pages; i += 5)
		fill_page(&c->after, i, FILL_TEXT);
	return write_gen(s, 1, &c->before, NULL, NULL, err);
}

static int prepare_none(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	(void)s;
	(void)err;
	c->after = make_pages(c->pages * CPX_PAGE, 0);
	fill(&c->after, FILL_RANDOM);
	return 0;
}

static int commit_full(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	const struct cpx_image_opts opts = { .codec = CPX_CODEC_LZ4, .workers = c->workers };

	return write_gen(s, 2, &c->after, &opts, NULL, err);
}

static int commit_increment(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	struct cpx_gen_id id = gen(2), base = gen(1);
	const struct cpx_image_opts opts = { .codec = CPX_CODEC_LZ4,
					     .workers = c->workers,
					     .base = &base };
	struct cpx_state *st = some_state(2);
	struct cpx_image_writer *w;
	int rc = cpx_image_create(s, &id, &opts, &w, err);

	if (rc == 0)
		rc = cpx_image_inherit(w, 1, c->after.at, c->after.n, err);
	for (size_t i = 0; rc == 0 && i < c->pages; i += 5)
		rc = cpx_image_put(w, 1, c->after.at + i * CPX_PAGE, CPX_PAGE, read_pages,
				   &c->after, err);
	if (rc == 0)
		rc = cpx_image_commit(w, st, NULL, NULL, err);
	cpx_state_free(st);
	return rc;
}

static int put_program(struct cpx_store *s, uint64_t seq, const void *text, uint8_t sha256[32],
		       struct cpx_err *err)
{
	const struct cpx_gen_id id = gen(seq);
	int fd = memfd_create("program", MFD_CLOEXEC), rc;

	assert_int_equal(write(fd, text, 5000), 5000);
	rc = cpx_store_put_code(s, &id, fd, sha256, err);
	close(fd);
	return rc;
}

/* A code object and a generation that refers to it. */
static int commit_with_code(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	const struct cpx_gen_id id = gen(2);
	struct cpx_state *st = some_state(2);
	struct cpx_rec_file *f = cpx_state_new_rec(st, file);
	struct cpx_image_writer *w;
	int rc = put_program(s, 2, c->after.p, c->sha256, err);

	f->id = 1;
	f->sha256 = cpx_state_blob(st, c->sha256, 32);
	if (rc == 0)
		rc = cpx_image_create(s, &id, NULL, &w, err);
	if (rc == 0)
		rc = cpx_image_put(w, 1, c->after.at, c->after.n, read_pages, &c->after, err);
	if (rc == 0)
		rc = cpx_image_commit(w, st, NULL, NULL, err);
	cpx_state_free(st);
	return rc;
}

static int prepare_both(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	int rc = prepare_old(s, c, err);

	return rc < 0 ? rc : commit_increment(s, c, err);
}

static int prepare_two(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	int rc = prepare_old(s, c, err);

	return rc < 0 ? rc : commit_full(s, c, err);
}

static int remove_old(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	struct cpx_gen_id id = gen(1);

	(void)c;
	return cpx_store_remove(s, &id, err);
}

/* Every manifest that is there is whole; of @seq, if @must. */
static void judge_gen(struct cpx_store *s, uint64_t seq, struct pages *g, bool must)
{
	struct cpx_err err = { 0 };
	int rc = check_gen(s, seq, g, &err);

	if (rc < 0 && (must || rc != CPX_E_NOENT))
		fail_msg("generation %d: %s", (int)seq, err.msg);
	/* a pack that is not there is no generation that is not there */
	if (rc == CPX_E_NOENT && !strstr(err.msg, ".m:"))
		fail_msg("generation %d: %s", (int)seq, err.msg);
}

static void judge_old_and_new(struct cpx_store *s, struct scenario *c, bool all)
{
	if (c->before.p)
		judge_gen(s, 1, &c->before, true);
	judge_gen(s, 2, &c->after, all);
}

/* The object is whole or not there; with the manifest it is there. */
static void judge_code(struct cpx_store *s, struct scenario *c, bool all)
{
	struct cpx_gen_id id = gen(2);
	struct cpx_err err = { 0 };
	char name[CPX_NAME_MAX];
	int fd = cpx_store_get_code(s, c->sha256, NULL, &err);

	judge_old_and_new(s, c, all);
	cpx_name_manifest(&id, false, name);
	if (fd < 0 && (fd != CPX_E_NOENT || cpx_io_exists(&s->io, name)))
		fail_msg("code object: %s", err.msg);
	if (fd >= 0)
		close(fd);
}

static void judge_removal(struct cpx_store *s, struct scenario *c, bool all)
{
	struct cpx_gen_id id = gen(1);
	char name[CPX_NAME_MAX];

	judge_gen(s, 2, &c->after, true);
	cpx_name_manifest(&id, false, name);
	if (all)
		assert_false(cpx_io_exists(&s->io, name));
	else
		judge_gen(s, 1, &c->before, false);
}

/* --- cleaning and removal ------------------------------------------------------------- */

static struct cpx_gen_id copy_of(uint64_t seq)
{
	struct cpx_gen_id id = gen(seq);

	id.nonce[0] = 'c';
	return id;
}

/* Most of what the first one wrote is dead in the second. */
static int prepare_dead_packs(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	int rc = prepare_old(s, c, err);
	struct cpx_gen_id id = gen(2), base = gen(1);
	const struct cpx_image_opts opts = { .workers = 1, .base = &base };
	struct cpx_state *st = some_state(2);
	struct cpx_image_writer *w;

	if (rc == 0)
		rc = cpx_image_create(s, &id, &opts, &w, err);
	for (size_t i = 0; rc == 0 && i < c->pages; i++) {
		uint64_t at = c->after.at + i * CPX_PAGE;

		if (i % 5 != 3) {
			fill_page(&c->after, i, FILL_RANDOM);
			rc = cpx_image_put(w, 1, at, CPX_PAGE, read_pages, &c->after, err);
		} else {
			memcpy(c->after.p + i * CPX_PAGE, c->before.p + i * CPX_PAGE, CPX_PAGE);
			rc = cpx_image_inherit(w, 1, at, CPX_PAGE, err);
		}
	}
	if (rc == 0)
		rc = cpx_image_commit(w, st, NULL, NULL, err);
	cpx_state_free(st);
	return rc;
}

/* As the keeper does: a copy of the head, which takes its place; what nothing needs goes. */
static int clean_and_collect(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	const struct cpx_gen_id head = gen(2), copy = copy_of(2);
	struct cpx_clean_stats st;
	struct cpx_gc gc;
	int rc = cpx_image_clean(s, &head, &copy, CPX_CODEC_LZ4, UINT64_MAX, &st, err);

	(void)c;
	if (rc == 0)
		return cpx_err_set(err, CPX_E_INVAL, "there was nothing to be cleaned");
	if (rc > 0)
		rc = cpx_store_discard(s, &head, false, err);
	return rc < 0 ? rc : cpx_store_gc(s, "job", &copy, 1, false, &gc, err);
}

static bool manifest_is_there(struct cpx_store *s, const struct cpx_gen_id *id)
{
	char name[CPX_NAME_MAX];

	cpx_name_manifest(id, false, name);
	return cpx_io_exists(&s->io, name);
}

static void judge_copy(struct cpx_store *s, struct scenario *c, const struct cpx_gen_id *id)
{
	struct cpx_image *img;
	struct cpx_err err = { 0 };
	CPX_AUTO_FREE uint8_t *got = malloc(c->after.n);

	OK(cpx_image_open(s, id, &img, &err));
	OK(cpx_image_verify(img, 1, &err));
	OK(cpx_image_read(img, 1, c->after.at, got, c->after.n, &err));
	assert_memory_equal(got, c->after.p, c->after.n);
	cpx_image_close(img);
}

/* The head or its copy is there, each of them whole; and then the next sweep leaves one. */
static void judge_cleaning(struct cpx_store *s, struct scenario *c, bool all)
{
	const struct cpx_gen_id head = gen(2), copy = copy_of(2), old = gen(1);
	bool is_copy = manifest_is_there(s, &copy), is_head = manifest_is_there(s, &head);
	const struct cpx_gen_id *left = is_head ? &head : &copy;
	struct cpx_gc gc;
	struct cpx_err err = { 0 };

	assert_true(is_copy || is_head);
	if (is_copy)
		judge_copy(s, c, &copy);
	if (is_head)
		judge_copy(s, c, &head);
	if (all)
		assert_false(is_head || manifest_is_there(s, &old));
	if (is_head && is_copy)
		OK(cpx_store_discard(s, &copy, true, &err));
	OK(cpx_store_gc(s, "job", left, 1, false, &gc, &err));
	judge_copy(s, c, left);
	OK(cpx_store_gc(s, "job", left, 1, true, &gc, &err));
	assert_int_equal(gc.dead_files, 0);
}

static void cleaning(void **state)
{
	(void)state;
	run(&(struct scenario){ .name = "cleaning",
				.base = fast_base(),
				.pages = 60,
				.workers = 1,
				.prepare = prepare_dead_packs,
				.act = clean_and_collect,
				.judge = judge_cleaning });
}

/* What only the first one refers to, and an object that nothing does. */
static int prepare_garbage(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	uint8_t lost[32];
	int rc = prepare_old(s, c, err);

	if (rc == 0)
		rc = commit_with_code(s, c, err);
	if (rc == 0)
		rc = put_program(s, 3, c->before.p, lost, err);
	cpx_store_committed(s); /* nobody is writing any more */
	return rc;
}

static int collect_all(struct cpx_store *s, struct scenario *c, struct cpx_err *err)
{
	const struct cpx_gen_id head = gen(2);
	struct cpx_code_gc code;
	struct cpx_gc gc;
	int rc = cpx_store_gc(s, "job", &head, 1, false, &gc, err);

	(void)c;
	return rc < 0 ? rc : cpx_store_gc_code(s, false, &code, err);
}

/* The head is whole, with its program; the next one leaves no more than that. */
static void judge_collection(struct cpx_store *s, struct scenario *c, bool all)
{
	const struct cpx_gen_id old = gen(1), head = gen(2);
	struct cpx_code_gc code;
	struct cpx_err err = { 0 };

	judge_gen(s, 1, &c->before, false);
	judge_copy(s, c, &head);
	if (all)
		assert_false(manifest_is_there(s, &old));
	OK(collect_all(s, c, &err));
	judge_copy(s, c, &head);
	OK(cpx_store_gc_code(s, true, &code, &err));
	assert_int_equal(code.files, 1);
	assert_int_equal(code.dead_files, 0);
}

static void collection(void **state)
{
	(void)state;
	run(&(struct scenario){ .name = "collection",
				.base = fast_base(),
				.pages = 60,
				.workers = 1,
				.prepare = prepare_garbage,
				.act = collect_all,
				.judge = judge_collection });
}

static void first_generation(void **state)
{
	(void)state;
	run(&(struct scenario){ .name = "first",
				.base = fast_base(),
				.pages = 30,
				.workers = 1,
				.prepare = prepare_none,
				.act = commit_full,
				.judge = judge_old_and_new });
}

static void next_generation(void **state)
{
	(void)state;
	run(&(struct scenario){ .name = "next",
				.base = fast_base(),
				.pages = 60,
				.workers = 1,
				.prepare = prepare_old,
				.act = commit_full,
				.judge = judge_old_and_new });
}

/* Large enough for threads, and for asynchronous writes where the disk lets them. */
static void large_generation(void **state)
{
	(void)state;
	run(&(struct scenario){ .name = "large",
				.pages = 1800,
				.workers = 1,
				.prepare = prepare_old,
				.act = commit_full,
				.judge = judge_old_and_new });
}

static void code_object(void **state)
{
	(void)state;
	run(&(struct scenario){ .name = "code object",
				.base = fast_base(),
				.pages = 30,
				.workers = 1,
				.prepare = prepare_none,
				.act = commit_with_code,
				.judge = judge_code });
}

static void increment(void **state)
{
	(void)state;
	run(&(struct scenario){ .name = "increment",
				.base = fast_base(),
				.pages = 60,
				.workers = 1,
				.prepare = prepare_old,
				.act = commit_increment,
				.judge = judge_old_and_new });
}

static void removal(void **state)
{
	(void)state;
	run(&(struct scenario){ .name = "removal",
				.base = fast_base(),
				.pages = 60,
				.workers = 1,
				.prepare = prepare_both,
				.act = remove_old,
				.judge = judge_removal });
	run(&(struct scenario){ .name = "removal with packs",
				.base = fast_base(),
				.pages = 60,
				.workers = 1,
				.prepare = prepare_two,
				.act = remove_old,
				.judge = judge_removal });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_generation), cmocka_unit_test(next_generation),
		cmocka_unit_test(large_generation), cmocka_unit_test(increment),
		cmocka_unit_test(code_object),	    cmocka_unit_test(removal),
		cmocka_unit_test(cleaning),	    cmocka_unit_test(collection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
