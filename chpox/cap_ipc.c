/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cap_ipc.c - finds the kind of a descriptor and hands it on; the simplest kinds.
 *
 * Nothing is consumed: contents are peeked at, state is read from fdinfo and with getters on a
 * duplicate. What is not known is refused, so that nothing is lost in silence.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cap_ipc_kinds.h"

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
	s->ofd = f->ofd;
	s->rec = rec;
	while (*list)
		list = &(*list)->next;
	*list = s;
	return s;
}

static void forget(struct cpx_ipc_seen **list)
{
	while (*list) {
		struct cpx_ipc_seen *s = *list;

		*list = s->next;
		cpx_close(&s->here);
		free(s);
	}
}

int cpx_ipc_fdinfo(const struct cpx_ipc_fd *f, char **out, struct cpx_err *err)
{
	char path[32];

	snprintf(path, sizeof(path), "fdinfo/%d", f->num);
	return cpx_read_file(f->t->proc_fd, path, FDINFO_MAX, out, err) < 0 ? CPX_E_GONE : 0;
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

static int cap_eventfd(const struct cpx_ipc_fd *f, struct cpx_err *err)
{
	CPX_AUTO_FREE char *info = NULL;
	struct cpx_rec_eventfd *rec;
	uint64_t count, sem = 0;
	int rc = cpx_ipc_fdinfo(f, &info, err);

	if (rc < 0)
		return rc;
	if (!cpx_ipc_field(info, "eventfd-count:", 16, &count))
		return cpx_err_set(err, CPX_E_FORMAT, "fd %d: no eventfd-count", f->num);
	cpx_ipc_field(info, "eventfd-semaphore:", 10, &sem);
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

static const struct anon_kind {
	const char *link;
	int (*cap)(const struct cpx_ipc_fd *f, struct cpx_err *err);
} anon_kinds[] = {
	{ "anon_inode:[eventfd]", cap_eventfd },
};

int cpx_cap_ipc_fd(struct cpx_cap *c, struct cpx_cap_task *t, int fd_in_task, int fd_here,
		   const char *link_text, const struct stat *st, struct cpx_rec_ofd *ofd,
		   struct cpx_err *err)
{
	struct cpx_ipc_fd f = { c, t, fd_in_task, fd_here, link_text, st, ofd };

	for (size_t i = 0; i < sizeof(anon_kinds) / sizeof(*anon_kinds); i++)
		if (!strcmp(link_text, anon_kinds[i].link))
			return anon_kinds[i].cap(&f, err);
	return 0;
}

static int ipc_begin(struct cpx_cap *c, void **priv, struct cpx_err *err)
{
	*priv = calloc(1, sizeof(struct cpx_ipc));
	if (!*priv)
		return cpx_err_set(err, CPX_E_NOMEM, "out of memory");
	c->family[CPX_CAP_IPC_SLOT] = *priv;
	return 0;
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
	free(p);
	c->family[CPX_CAP_IPC_SLOT] = NULL;
}

const struct cpx_cap_family cpx_cap_ipc = {
	.name = "ipc",
	.begin = ipc_begin,
	.end = ipc_end,
};
