/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_ipc.c - finds the kind of a descriptor and hands it on; the simplest kinds.
 *
 * Nothing is consumed: contents are peeked at, state is read from fdinfo and with getters on a
 * duplicate. What is not known is refused, so that nothing is lost in silence.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kcmp.h>
#include <linux/magic.h>

#include "base/fd.h"
#include "base/log.h"
#include "cap_ipc_kinds.h"
#include "cap_sock.h"

#define FDINFO_MAX (16u << 20)

struct cpx_ipc_seen *cpx_ipc_see(struct cpx_ipc_seen **list, const struct cpx_ipc_fd *f,
				 void *rec, bool dup)
{
	struct cpx_ipc_seen *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->here = -1;
	if (dup) {
		s->here = fcntl(f->here, F_DUPFD_CLOEXEC, 3);
		if (s->here < 0) {
			free(s);
			return NULL;
		}
	}
	s->t = f->t;
	s->num = f->num;
	s->ino = f->st->st_ino;
	s->ofd_rdev = f->st->st_rdev;
	s->ofd = f->ofd;
	s->rec = rec;
	if (*list)
		(*list)->last->next = s;
	else
		*list = s;
	(*list)->last = s;
	return s;
}

static void forget(struct cpx_ipc_seen **list)
{
	while (*list) {
		struct cpx_ipc_seen *s = *list;

		*list = s->next;
		cpx_close(&s->here);
		free(s->info);
		free(s);
	}
}

int cpx_ipc_fdinfo(int here, char **out, struct cpx_err *err)
{
	char path[48];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", here);
	n = cpx_read_file(AT_FDCWD, path, FDINFO_MAX, out, err);
	return n < 0 ? (int)n : 0;
}

bool cpx_ipc_field(const char *text, const char *key, int base, uint64_t *out)
{
	size_t n = strlen(key);

	for (const char *p = text; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		char *end;

		if (strncmp(p, key, n))
			continue;
		errno = 0;
		*out = strtoull(p + n, &end, base);
		return end != p + n && !errno;
	}
	return false;
}

/*
 * Kernels before 6.5 do not say whether an eventfd counts as a semaphore: its count is made at
 * least 2, a read tells, and the count is put back. Only while the job stands.
 */
static bool probe_semaphore(int here, uint64_t count)
{
	uint64_t add = count < 2 ? 2 - count : 0, got = 0, back;
	bool sem;

	if (add && write(here, &add, sizeof(add)) != sizeof(add))
		return false;
	if (read(here, &got, sizeof(got)) != sizeof(got))
		return false;
	sem = got == 1;
	if (!sem) {
		back = count;
	} else {
		/* count + add - 1 is left, which is 1 where the count was below 2 */
		back = count >= 2 ? 1 : 0;
		if (!count && read(here, &got, sizeof(got)) != sizeof(got))
			return sem;
	}
	if (back && write(here, &back, sizeof(back)) != sizeof(back))
		cpx_log_error("an eventfd lost its count of %llu", (unsigned long long)count);
	return sem;
}

static int cap_eventfd(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	CPX_AUTO_FREE char *info = NULL;
	struct cpx_rec_eventfd *rec;
	uint64_t count, sem = 0;
	int rc = cpx_ipc_fdinfo(f->here, &info, err);

	if (rc < 0)
		return rc;
	if (!cpx_ipc_field(info, "eventfd-count:", 16, &count))
		return cpx_err_set(err, CPX_E_FORMAT, "fd %d: no eventfd-count", f->num);
	if (!cpx_ipc_field(info, "eventfd-semaphore:", 10, &sem) && !f->c->dry_run)
		sem = probe_semaphore(f->here, count);
	rec = cpx_state_new_rec(f->c->st, eventfd);
	if (!rec)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	rec->id = f->ofd->id;
	rec->count = count;
	rec->semaphore = sem != 0;
	f->ofd->kind = CPX_OFD_EVENTFD;
	f->ofd->object = 0;
	return 1;
}

/* --- who else has it ------------------------------------------------------------------ */

static pid_t parent_of(pid_t pid)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[40];
	const char *p;
	int ppid;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (cpx_read_file(AT_FDCWD, path, 8192, &text, NULL) < 0)
		return 0;
	p = strrchr(text, ')');
	return p && sscanf(p, ") %*c %d", &ppid) == 1 ? ppid : 0;
}

/* In a dry run the job forks as it likes: a descendant that was not listed is no outsider. */
static bool in_tree(const struct cpx_cap *c, pid_t pid)
{
	for (int depth = 0; pid > 1 && depth < 64; depth++) {
		for (size_t i = 0; i < c->ntasks; i++)
			if (c->tasks[i]->pid == pid)
				return true;
		if (!c->dry_run)
			return false;
		pid = parent_of(pid);
	}
	return false;
}

static int by_ino(const void *pa, const void *pb)
{
	const struct cpx_ipc_outside *a = pa, *b = pb;

	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

static bool note_outside(struct cpx_ipc *p, size_t *room, uint64_t ino, pid_t pid)
{
	if (p->noutside == *room) {
		size_t n = *room * 2 + 256;
		struct cpx_ipc_outside *more = realloc(p->outside, n * sizeof(*more));

		if (!more)
			return false;
		p->outside = more;
		*room = n;
	}
	p->outside[p->noutside++] = (struct cpx_ipc_outside){ ino, pid };
	return true;
}

/* Pipes and sockets share one sequence of inode numbers each; a clash would only be too
 * careful. */
static void look_at_process(struct cpx_ipc *p, size_t *room, pid_t pid)
{
	char path[300], text[64];
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, text, sizeof(text) - 1);
		unsigned long long ino;

		text[n > 0 ? n : 0] = '\0';
		if ((sscanf(text, "pipe:[%llu]", &ino) == 1 ||
		     sscanf(text, "socket:[%llu]", &ino) == 1) &&
		    !note_outside(p, room, ino, pid))
			break;
	}
	if (dir)
		closedir(dir);
}

static void look_outside(const struct cpx_cap *c, struct cpx_ipc *p)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	size_t room = 0;

	p->looked = true;
	while (dir && (e = readdir(dir))) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (pid > 0 && pid != getpid() && !in_tree(c, pid))
			look_at_process(p, &room, pid);
	}
	if (dir)
		closedir(dir);
	if (p->noutside)
		qsort(p->outside, p->noutside, sizeof(*p->outside), by_ino);
}

pid_t cpx_ipc_outsider(const struct cpx_cap *c, uint64_t ino)
{
	struct cpx_ipc *p = cpx_ipc_of(c);
	const struct cpx_ipc_outside key = { .ino = ino }, *hit;

	if (!p->looked)
		look_outside(c, p);
	hit = p->noutside ? bsearch(&key, p->outside, p->noutside, sizeof(key), by_ino) : NULL;
	return hit ? hit->pid : 0;
}

/* Does @pid have the open file description @s at @link? */
static bool has_same(pid_t pid, const struct cpx_ipc_seen *s, const char *link)
{
	char path[300], text[64];
	struct dirent *e;
	bool same = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && !same && (e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, text, sizeof(text) - 1);

		text[n > 0 ? n : 0] = '\0';
		same = !strcmp(text, link) && !syscall(SYS_kcmp, s->t->pid, pid, KCMP_FILE,
						       s->num, strtol(e->d_name, NULL, 10));
	}
	if (dir)
		closedir(dir);
	return same;
}

pid_t cpx_ipc_inherited(const struct cpx_cap *c, const struct cpx_ipc_seen *s)
{
	char path[40], link[64];
	ssize_t n;

	if (s->num < 3)
		return 0;
	cpx_state_each(c->st, fd, fd)
		if (fd->ofd == s->ofd->id && fd->fd < 3)
			return 0;
	snprintf(path, sizeof(path), "fd/%d", s->num);
	n = readlinkat(s->t->proc_fd, path, link, sizeof(link) - 1);
	if (n <= 0)
		return 0;
	link[n] = '\0';
	for (pid_t pid = parent_of(c->tasks[0]->pid); pid > 0; pid = parent_of(pid))
		if (pid != getpid() && has_same(pid, s, link))
			return pid;
	return 0;
}

/* --- open file descriptions met outside the descriptor tables -------------------------- */

static uint32_t known_ofd(const struct cpx_cap *c, int here)
{
	const struct cpx_ipc_seen *s;
	pid_t me = getpid();

	for (s = cpx_ipc_of(c)->travelling; s; s = s->next)
		if (!syscall(SYS_kcmp, me, me, KCMP_FILE, here, s->here))
			return s->ofd->id;
	for (size_t i = 0; i < c->ntasks; i++) {
		const struct cpx_cap_task *t = c->tasks[i];

		if (t->zombie || t->files_of != t)
			continue;
		cpx_state_each(c->st, fd, fd)
			if (fd->files_id == t->rec->files_id &&
			    !syscall(SYS_kcmp, me, t->live, KCMP_FILE, here, fd->fd))
				return fd->ofd;
	}
	return 0;
}

static int describe(struct cpx_cap *c, struct cpx_cap_task *t, int here,
		    struct cpx_rec_ofd *ofd, struct cpx_err *err)
{
	char path[40], link[4096];
	struct stat st;
	ssize_t n;
	int rc;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", here);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0 || fstat(here, &st))
		return cpx_err_sys(err, errno, "a descriptor in flight");
	link[n] = '\0';
	ofd->flags = (uint32_t)fcntl(here, F_GETFL);
	ofd->pos = (uint64_t)lseek(here, 0, SEEK_CUR);
	if ((int64_t)ofd->pos < 0)
		ofd->pos = 0;
	rc = cpx_cap_ipc_fd(c, t, -1, here, link, &st, ofd, err);
	if (rc)
		return rc < 0 ? rc : 0;
	ofd->kind = CPX_OFD_FILE;
	return cpx_cap_file_of_fd(c, t, here, link, &ofd->object, err);
}

int cpx_ipc_ofd_of(struct cpx_cap *c, struct cpx_cap_task *t, int here, uint32_t *id,
		   struct cpx_err *err)
{
	struct cpx_ipc_fd f = { .c = c, .t = t, .num = -1, .here = here };
	uint32_t known = known_ofd(c, here);
	struct cpx_rec_ofd *ofd;
	struct stat st = { 0 };

	if (known) {
		*id = known;
		return 0;
	}
	ofd = cpx_state_new_rec(c->st, ofd);
	if (!ofd)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	ofd->id = cpx_cap_id(c);
	f.st = &st;
	f.ofd = ofd;
	if (!cpx_ipc_see(&cpx_ipc_of(c)->travelling, &f, NULL, true))
		return cpx_err_sys(err, errno, "keeping a descriptor in flight");
	*id = ofd->id;
	return describe(c, t, here, ofd, err);
}

/* --- which kind -------------------------------------------------------------------------- */

static const struct anon_kind {
	const char *link; /* without "anon_inode:" */
	int (*cap)(const struct cpx_ipc_fd *f, struct cpx_err *err);
	const char *why; /* no function: what to do about it */
} anon_kinds[] = {
	{ "[eventfd]", cap_eventfd, NULL },
	{ "[eventpoll]", cpx_cap_epoll, NULL },
	{ "[timerfd]", cpx_cap_timerfd, NULL },
	{ "[signalfd]", cpx_cap_signalfd, NULL },
	{ "[pidfd]", cpx_cap_pidfd, NULL },
	{ "inotify", cpx_cap_inotify, NULL },
	{ "[io_uring]", NULL,
	  "an io_uring, whose requests in the kernel cannot be saved; close it, or "
	  "start the program so that it does not use one" },
	{ "[userfaultfd]", NULL,
	  "a userfaultfd, which serves page faults of live memory; close it" },
	{ "[perf_event]", NULL, "a performance counter; close it" },
	{ "[fanotify]", NULL,
	  "a fanotify group, whose answers the kernel waits for; close it" },
};

static int cap_anon_inode(const struct cpx_ipc_fd *f, const char *name, struct cpx_err *err)
{
	const char *why = "an object of the kernel that cannot be saved; close it";
	int rc;

	for (size_t i = 0; i < sizeof(anon_kinds) / sizeof(*anon_kinds); i++) {
		const struct anon_kind *k = &anon_kinds[i];

		if (strcmp(name, k->link))
			continue;
		if (k->cap)
			return k->cap(f, err);
		why = k->why;
	}
	rc = cpx_cap_refuse(f->c, f->t, err, "fd %d (%s) is %s", f->num, f->link, why);
	return rc < 0 ? rc : 1;
}

static int cap_memory_file(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	int rc = cpx_cap_shm_of_fd(f->c, f->t, f->here, f->link, &f->ofd->object, err);

	if (rc < 0)
		return rc;
	f->ofd->kind = CPX_OFD_SHM;
	return 1;
}

static bool on_tmpfs(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == TMPFS_MAGIC;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

int cpx_cap_ipc_fd(struct cpx_cap *c, struct cpx_cap_task *t, int fd_in_task, int fd_here,
		   const char *link_text, const struct stat *st, struct cpx_rec_ofd *ofd,
		   struct cpx_err *err)
{
	struct cpx_ipc_fd f = { c, t, fd_in_task, fd_here, link_text, st, ofd };

	if (!strncmp(link_text, "anon_inode:", 11))
		return cap_anon_inode(&f, link_text + 11, err);
	if (S_ISFIFO(st->st_mode) && !strncmp(link_text, "pipe:[", 6))
		return cpx_cap_pipe(&f, err);
	if (S_ISCHR(st->st_mode))
		return cpx_cap_tty(&f, err);
	if (S_ISSOCK(st->st_mode))
		return cpx_cap_socket(&f, err);
	if (S_ISREG(st->st_mode) && cpx_is_mqueue(fd_here))
		return cpx_cap_mqueue(&f, err);
	if (S_ISREG(st->st_mode) && !strncmp(link_text, "/memfd:", 7))
		return cap_memory_file(&f, err);
	if (S_ISREG(st->st_mode) && ends_with(link_text, " (deleted)") && !st->st_nlink &&
	    on_tmpfs(fd_here))
		return cap_memory_file(&f, err);
	return 0;
}

/* Sockets first: their queues may hold ends of pipes and epoll sets that nobody else has. */
static int (*const finishers[])(struct cpx_cap *c, struct cpx_err *err) = {
	cpx_cap_unix_sockets, cpx_cap_inet_sockets, cpx_cap_netlink_sockets,
	cpx_cap_pipes,	      cpx_cap_ttys,	    cpx_cap_epolls,
	cpx_cap_sysv,
};

static void let_go(struct cpx_ipc_seen *s)
{
	for (; s; s = s->next)
		cpx_close(&s->here);
}

/*
 * The job must see ends of files when it runs again: no duplicate outlives this. One that is to
 * be killed does not; its connections are needed once more then.
 */
static int ipc_finish(struct cpx_cap *c, void *priv, struct cpx_err *err)
{
	struct cpx_ipc *p = priv;
	int rc = 0;

	for (size_t i = 0; rc >= 0 && i < sizeof(finishers) / sizeof(*finishers); i++)
		rc = finishers[i](c, err);
	let_go(p->epolls);
	if (c->opts->after != CPX_AFTER_KILL)
		let_go(p->socks);
	let_go(p->ttys);
	let_go(p->mqueues);
	let_go(p->travelling);
	return rc < 0 ? rc : 0;
}

static int ipc_begin(struct cpx_cap *c, void **priv, struct cpx_err *err)
{
	*priv = calloc(1, sizeof(struct cpx_ipc));
	if (!*priv)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	c->family[CPX_CAP_IPC_SLOT] = *priv;
	return 0;
}

static void ipc_before_kill(struct cpx_cap *c, void *priv)
{
	(void)c;
	cpx_cap_inet_silence(((struct cpx_ipc *)priv)->socks);
}

static void ipc_end(struct cpx_cap *c, void *priv)
{
	struct cpx_ipc *p = priv;

	if (!p)
		return;
	forget(&p->pipes);
	forget(&p->epolls);
	forget(&p->socks);
	forget(&p->ttys);
	forget(&p->mqueues);
	forget(&p->travelling);
	free(p->outside);
	free(p);
	c->family[CPX_CAP_IPC_SLOT] = NULL;
}

const struct cpx_cap_family cpx_cap_ipc = {
	.name = "ipc",
	.begin = ipc_begin,
	.finish = ipc_finish,
	.before_kill = ipc_before_kill,
	.end = ipc_end,
};
