/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_file_give.c - descriptors of the conductor, into the task.
 *
 * One at a time: the task fetches it with pidfd_getfd() from the conductor's pidfd that it
 * holds. A whole table: the task fetches one end of a socket pair, and receives up to 250 at
 * once over it. The kernel hands out the lowest free numbers in order, so most land where they
 * belong; the others are moved from the highest down, which never overwrites one that still is
 * to be moved (the k-th descriptor of a table has a number of at least k).
 */
#include "rst_file.h"

#include "../chpox/base/err.h"
#include "../chpox/base/fd.h"
#include "restore.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif

#define BATCH 250

struct slot {
	uint32_t want;
	uint32_t got;
	bool cloexec;
	int here;
};

static struct cpx_tracee *leader(struct cpx_rst_task *t)
{
	return &t->threads[0].t;
}

int cpx_rst_give_fd(struct cpx_rst *r, struct cpx_rst_task *t, int fd, int want, bool cloexec,
		    struct cpx_err *err)
{
	struct cpx_tracee *tr = leader(t);
	int64_t got, moved;
	int rc;

	(void)r;
	if (t->files_of->self_pidfd < 0)
		return cpx_err_set(err, CPX_E_INVAL, "process %u takes no more descriptors",
				   t->rec->pid);
	rc = cpx_tok(tr, &got, err, "fetch a descriptor", SYS_pidfd_getfd,
		     (uint64_t)t->files_of->self_pidfd, (uint64_t)fd);
	if (rc < 0)
		return rc;
	if (want >= 0 && got != want) {
		rc = cpx_tok(tr, &moved, err, "move a descriptor", SYS_dup3, (uint64_t)got,
			     (uint64_t)want, cloexec ? O_CLOEXEC : 0);
		if (rc == 0)
			rc = cpx_tok(tr, NULL, err, "close a descriptor", SYS_close,
				     (uint64_t)got);
		return rc < 0 ? rc : want;
	}
	/* what is fetched is close-on-exec */
	if (!cloexec)
		rc = cpx_tok(tr, NULL, err, "keep a descriptor across exec", SYS_fcntl,
			     (uint64_t)got, F_SETFD, 0);
	return rc < 0 ? rc : (int)got;
}

/* --- whole tables ------------------------------------------------------------------------ */

static int close_span(struct cpx_tracee *tr, uint32_t lo, uint32_t hi, struct cpx_err *err)
{
	int64_t ret;
	int rc;

	if (lo > hi)
		return 0;
	rc = cpx_tcall(tr, &ret, err, SYS_close_range, lo, hi, 0);
	if (rc < 0 || ret == 0)
		return rc;
	return cpx_err_sys(err, (int)-ret, "close descriptors %u to %u", lo, hi);
}

static int cloexec_span(struct cpx_tracee *tr, uint32_t lo, uint32_t hi, struct cpx_err *err)
{
	int64_t ret;
	int rc = cpx_tcall(tr, &ret, err, SYS_close_range, lo, hi, CLOSE_RANGE_CLOEXEC);

	if (rc < 0 || ret == 0)
		return rc;
	for (uint64_t fd = lo; fd <= hi && rc == 0; fd++) /* before 5.11 */
		rc = cpx_tok(tr, NULL, err, "mark a descriptor close-on-exec", SYS_fcntl, fd,
			     F_SETFD, FD_CLOEXEC);
	return rc;
}

/*
 * Numbers above all of the job's: the pidfd moves to the first, the socket to the second.
 * Everything else is closed.
 */
static int clear_table(struct cpx_rst *r, struct cpx_rst_task *t, uint32_t above,
		       struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	struct cpx_tracee *tr = leader(t);
	int64_t got;
	int rc;

	rc = cpx_tok(tr, &got, err, "make room for descriptors", SYS_dup3,
		     (uint64_t)t->self_pidfd, above, O_CLOEXEC);
	if (rc < 0)
		return rc;
	t->self_pidfd = (int)above;
	rc = close_span(tr, 0, above - 1, err);
	if (rc == 0)
		rc = close_span(tr, above + 1, ~0u, err);
	if (rc < 0)
		return rc;
	rc = cpx_rst_give_fd(r, t, p->sock[0], (int)above + 1, true, err);
	return rc < 0 ? rc : 0;
}

/* Run recvmsg in the task for @n descriptors; their numbers go to s[].got. */
static int receive(struct cpx_rst_task *t, uint32_t sock, struct slot *s, size_t n,
		   struct cpx_err *err)
{
	struct cpx_tracee *tr = leader(t);
	uint8_t ctl[CMSG_SPACE(sizeof(int) * BATCH)];
	size_t len = CMSG_SPACE(sizeof(int) * n);
	struct msghdr m = { .msg_iovlen = 1, .msg_controllen = len };
	struct iovec iov = { .iov_len = 1 };
	struct cmsghdr head;
	uint64_t at, msg;
	int rc;

	cpx_tracee_reset(tr);
	iov.iov_base = (void *)cpx_tracee_push(tr, NULL, 16);
	m.msg_iov = (void *)cpx_tracee_push(tr, &iov, sizeof(iov));
	m.msg_control = (void *)(at = cpx_tracee_push(tr, NULL, len));
	msg = cpx_tracee_push(tr, &m, sizeof(m));
	if (!msg || !at || !iov.iov_base || !m.msg_iov)
		return cpx_err_set(err, CPX_E_LIMIT, "no room for arguments");
	rc = cpx_tok(tr, NULL, err, "receive descriptors", SYS_recvmsg, sock, msg,
		     MSG_DONTWAIT);
	if (rc == 0)
		rc = cpx_tracee_read(tr, msg, &m, sizeof(m), err);
	if (rc == 0)
		rc = cpx_tracee_read(tr, at, ctl, len, err);
	cpx_tracee_reset(tr);
	if (rc < 0)
		return rc;
	memcpy(&head, ctl, sizeof(head));
	if ((m.msg_flags & MSG_CTRUNC) || head.cmsg_level != SOL_SOCKET ||
	    head.cmsg_type != SCM_RIGHTS || head.cmsg_len != CMSG_LEN(sizeof(int) * n))
		return cpx_err_set(err, CPX_E_LIMIT,
				   "process %u did not get its descriptors (limit of open "
				   "files?)",
				   t->rec->pid);
	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, ctl + CMSG_LEN(sizeof(int) * i), sizeof(fd));
		s[i].got = (uint32_t)fd;
	}
	return 0;
}

static int send_batch(struct cpx_rst *r, struct cpx_rst_task *t, uint32_t sock, struct slot *s,
		      size_t n, struct cpx_err *err)
{
	struct cpx_rst_files *p = r->files_priv;
	int fds[BATCH];

	for (size_t i = 0; i < n; i++)
		fds[i] = s[i].here;
	if (cpx_send_fds(p->sock[1], "", 1, fds, n) < 0)
		return cpx_err_sys(err, errno, "send descriptors to process %u", t->rec->pid);
	return receive(t, sock, s, n, err);
}

/* Everything is there, at the lowest numbers: move it where it belongs. */
static int place(struct cpx_rst_task *t, struct slot *s, size_t n, struct cpx_err *err)
{
	struct cpx_tracee *tr = leader(t);
	int64_t got;
	int rc = 0;

	for (size_t i = n; i-- > 0 && rc == 0;)
		if (s[i].got != s[i].want)
			rc = cpx_tok(tr, &got, err, "move a descriptor", SYS_dup3, s[i].got,
				     s[i].want, s[i].cloexec ? O_CLOEXEC : 0);
	for (size_t i = 0; i < n && rc == 0; i++) {
		uint32_t from = i ? s[i - 1].want + 1 : 0;

		if (s[i].want > from && from < n)
			rc = close_span(tr, from, s[i].want - 1, err);
	}
	if (rc == 0 && s[n - 1].want + 1 < n)
		rc = close_span(tr, s[n - 1].want + 1, (uint32_t)n - 1, err);
	for (size_t i = 0; i < n && rc == 0;) {
		size_t k = i + 1;

		if (s[i].got != s[i].want || !s[i].cloexec) {
			i++;
			continue;
		}
		while (k < n && s[k].want == s[k - 1].want + 1 && s[k].cloexec &&
		       s[k].got == s[k].want)
			k++;
		rc = cloexec_span(tr, s[i].want, s[k - 1].want, err);
		i = k;
	}
	return rc;
}

static int by_want(const void *pa, const void *pb)
{
	const struct slot *a = pa, *b = pb;

	return a->want < b->want ? -1 : a->want > b->want;
}

/* The slots of the table, ascending; opens what is not open yet. Return: their number. */
static int64_t gather(struct cpx_rst *r, struct cpx_rst_task *t, struct slot **out,
		      struct cpx_err *err)
{
	size_t n = 0, max = cpx_state_count(r->st, CPX_REC_fd);
	CPX_AUTO_FREE struct slot *s = calloc(max + 1, sizeof(*s));

	if (!s)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for descriptors");
	cpx_state_each(r->st, fd, rec) {
		struct cpx_rst_ofd *o;
		int fd;

		if (rec->files_id != t->rec->files_id)
			continue;
		fd = cpx_rst_ofd_fd(r, rec->ofd, err);
		if (fd < 0)
			return cpx_err_wrap(err, "fd %u", rec->fd);
		s[n++] = (struct slot){ .want = rec->fd, .cloexec = rec->cloexec, .here = fd };
		o = cpx_rst_ofd_by_id(r, rec->ofd);
		if (o && !o->task) {
			o->task = t;
			o->task_fd = rec->fd;
		}
	}
	qsort(s, n, sizeof(*s), by_want);
	for (size_t i = 1; i < n; i++)
		if (s[i].want == s[i - 1].want)
			return cpx_err_set(err, CPX_E_FORMAT, "fd %u is recorded twice",
					   s[i].want);
	*out = cpx_steal_ptr(&s);
	return (int64_t)n;
}

/* Let the task have numbers up to @top; @was: what to give back. */
static int raise_limit(pid_t pid, uint32_t top, struct rlimit *was, struct cpx_err *err)
{
	struct rlimit want;

	if (prlimit(pid, RLIMIT_NOFILE, NULL, was) < 0)
		return cpx_err_sys(err, errno, "limit of open files");
	want = *was;
	if (want.rlim_cur > top)
		return 0;
	want.rlim_cur = (rlim_t)top + 1;
	if (want.rlim_max < want.rlim_cur)
		want.rlim_max = want.rlim_cur;
	if (prlimit(pid, RLIMIT_NOFILE, &want, NULL) < 0)
		return cpx_err_sys(
			err, errno,
			"the job has descriptors up to %u, more than may be open here",
			top - 2);
	return 0;
}

int cpx_rst_file_table(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	CPX_AUTO_FREE struct slot *s = NULL;
	int64_t n = gather(r, t, &s, err);
	uint32_t above, sock;
	struct rlimit was;
	int rc;

	if (n < 0)
		return (int)n;
	above = n ? s[n - 1].want + 1 : 0;
	if (above < (uint32_t)t->self_pidfd + 1)
		above = (uint32_t)t->self_pidfd + 1;
	sock = above + 1;
	rc = raise_limit(t->pid, sock + 1, &was, err);
	if (rc == 0)
		rc = clear_table(r, t, above, err);
	for (int64_t i = 0; i < n && rc == 0; i += BATCH)
		rc = send_batch(r, t, sock, s + i, n - i < BATCH ? (size_t)(n - i) : BATCH,
				err);
	if (rc == 0)
		rc = cpx_tok(leader(t), NULL, err, "close the channel", SYS_close, sock);
	if (rc == 0 && n)
		rc = place(t, s, (size_t)n, err);
	if (rc < 0)
		return rc;
	/* numbers that are in use stay so under a lower limit */
	if (prlimit(t->pid, RLIMIT_NOFILE, &was, NULL) < 0)
		return cpx_err_sys(err, errno, "limit of open files");
	for (size_t i = 0; i < r->ntasks; i++)
		if (r->tasks[i].files_of == t)
			r->tasks[i].self_pidfd = t->self_pidfd;
	return 0;
}
