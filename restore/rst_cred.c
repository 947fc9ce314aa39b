/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rst_cred.c - who a thread is: ids, groups, capabilities, securebits, seccomp.
 *
 * Checked before anything is created: unless the image is trusted, every id is the owner's and
 * there are no capabilities. A thread that has its identity already costs one read of /proc.
 * Order: filters (they need a right), bounding set, ids with fix-ups off, inheritable and
 * ambient sets, securebits, and the final sets last, since each step needs what a later one
 * gives up.
 */
#include "rst_call.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <fcntl.h>

#include "../chpox/base/fd.h"
#include "../chpox/base/log.h"
#include "../chpox/base/proc_task.h"

#define GROUPS_MAX 65536
#define FILTERS_MAX 256
#define SECUREBITS_ALL 0xffu
#define CAPS_ALL ((1ull << (CAP_LAST_CAP + 1)) - 1)

/* --- bytes for a call ------------------------------------------------------------------------
 */

int cpx_rst_bytes_put(struct cpx_tracee *t, const void *buf, size_t len,
		      struct cpx_rst_bytes *out, struct cpx_err *err)
{
	uint64_t size = (len + 4095) & ~4095ull;
	int64_t at;
	int rc;

	cpx_tracee_reset(t);
	*out = (struct cpx_rst_bytes){ .addr = cpx_tracee_push(t, buf, len) };
	if (out->addr)
		return 0;
	rc = cpx_tok(t, &at, err, "map room for a call", SYS_mmap, 0, size,
		     PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1ull, 0);
	if (rc < 0)
		return rc;
	*out = (struct cpx_rst_bytes){ .addr = (uint64_t)at, .mapped = size };
	return cpx_tracee_write(t, out->addr, buf, len, err);
}

int cpx_rst_bytes_drop(struct cpx_tracee *t, struct cpx_rst_bytes *b, struct cpx_err *err)
{
	int rc = 0;

	if (b->mapped)
		rc = cpx_tok(t, NULL, err, "unmap room", SYS_munmap, b->addr, b->mapped);
	*b = (struct cpx_rst_bytes){ 0 };
	cpx_tracee_reset(t);
	return rc;
}

/* --- checks
 * ----------------------------------------------------------------------------------- */

static bool group_of(const gid_t *have, int n, uint32_t gid)
{
	for (int i = 0; i < n; i++)
		if (have[i] == gid)
			return true;
	return false;
}

static int clamp_thread(const struct cpx_rst *r, const struct cpx_rec_thread *th,
			const gid_t *groups, int ngroups, struct cpx_err *err)
{
	const uint32_t uids[] = { th->uid, th->euid, th->suid, th->fsuid };
	const uint32_t gids[] = { th->gid, th->egid, th->sgid, th->fsgid };
	bool ok = true;

	for (size_t i = 0; i < 4; i++)
		ok = ok && uids[i] == r->opts->owner_uid &&
		     (gids[i] == r->opts->owner_gid || group_of(groups, ngroups, gids[i]));
	for (uint32_t i = 0; i < th->groups.n; i++)
		ok = ok && (th->groups.v[i] == r->opts->owner_gid ||
			    group_of(groups, ngroups, th->groups.v[i]));
	if (!ok)
		return cpx_err_set(
			err, CPX_E_PERM,
			"thread %u has ids that its owner (uid %u) may not have; only "
			"root's own image may hold them",
			th->tid, r->opts->owner_uid);
	if (r->opts->owner_uid != 0 &&
	    (th->cap_permitted | th->cap_effective | th->cap_inheritable | th->cap_ambient))
		return cpx_err_set(
			err, CPX_E_PERM,
			"thread %u has capabilities; only root's own image may hold them",
			th->tid);
	/* without rights nobody gets at these, and a set-user-id program would be misled */
	if (r->opts->owner_uid != 0 && ((th->securebits & ~(uint32_t)SECBIT_KEEP_CAPS) ||
					(th->seccomp_filters.n && !th->no_new_privs)))
		return cpx_err_set(err, CPX_E_PERM,
				   "thread %u has securebits or filters that only root sets; "
				   "only root's own image may hold them",
				   th->tid);
	return 0;
}

static int check_filters(const struct cpx_rst *r, const struct cpx_rec_thread *th,
			 struct cpx_err *err)
{
	size_t nfilters = cpx_state_count(r->st, CPX_REC_seccomp);

	if (th->seccomp == 1)
		return cpx_err_set(err, CPX_E_UNSUPPORTED,
				   "thread %u was in seccomp strict mode", th->tid);
	if (th->seccomp_filters.n > FILTERS_MAX)
		return cpx_err_set(err, CPX_E_LIMIT, "thread %u has %u seccomp filters",
				   th->tid, th->seccomp_filters.n);
	for (uint32_t i = 0; i < th->seccomp_filters.n; i++) {
		const struct cpx_rec_seccomp *f;

		if (th->seccomp_filters.v[i] >= nfilters)
			return cpx_err_set(err, CPX_E_FORMAT,
					   "thread %u: no such seccomp filter", th->tid);
		f = cpx_state_rec(r->st, seccomp, th->seccomp_filters.v[i]);
		if (f->filter.n == 0 || f->filter.n % sizeof(struct sock_filter) ||
		    f->filter.n / sizeof(struct sock_filter) > BPF_MAXINSNS)
			return cpx_err_set(err, CPX_E_FORMAT, "a seccomp filter is damaged");
	}
	return 0;
}

int cpx_rst_creds_check(const struct cpx_rst *r, struct cpx_err *err)
{
	struct passwd *pw = r->opts->trusted ? NULL : getpwuid(r->opts->owner_uid);
	gid_t groups[1024];
	int n = 1024;

	if (!pw || getgrouplist(pw->pw_name, pw->pw_gid, groups, &n) < 0)
		n = 0;
	cpx_state_each(r->st, thread, th) {
		int rc = check_filters(r, th, err);

		if (rc == 0 && th->groups.n > GROUPS_MAX)
			rc = cpx_err_set(err, CPX_E_LIMIT, "thread %u is in %u groups", th->tid,
					 th->groups.n);
		if (rc == 0 && !r->opts->trusted)
			rc = clamp_thread(r, th, groups, n, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- seccomp
 * ---------------------------------------------------------------------------------- */

static int add_filter(struct cpx_tracee *t, const struct cpx_rec_seccomp *f,
		      struct cpx_err *err)
{
	struct cpx_rst_bytes code = { 0 };
	struct {
		uint16_t len, pad[3];
		uint64_t at;
	} prog = { .len = (uint16_t)(f->filter.n / sizeof(struct sock_filter)) };
	uint64_t at;
	int rc = cpx_rst_bytes_put(t, f->filter.p, f->filter.n, &code, err);

	prog.at = code.addr;
	at = rc == 0 ? cpx_tracee_push(t, &prog, sizeof(prog)) : 0;
	if (rc == 0 && !at)
		rc = cpx_err_set(err, CPX_E_SYS, "no room for a seccomp filter");
	if (rc == 0)
		rc = cpx_tok(t, NULL, err, "seccomp filter", SYS_seccomp,
			     SECCOMP_SET_MODE_FILTER, f->flags & SECCOMP_FILTER_FLAG_LOG, at);
	return rc < 0 ? rc : cpx_rst_bytes_drop(t, &code, err);
}

/* How many filters all threads of the process have in common, from the oldest on. */
static uint32_t common_filters(const struct cpx_rst_task *t)
{
	const struct cpx_u32s *lead = &t->threads[0].rec->seccomp_filters;
	uint32_t n = lead->n;

	for (size_t k = 1; k < t->nthreads; k++) {
		const struct cpx_u32s *own = &t->threads[k].rec->seccomp_filters;
		uint32_t same = 0;

		while (same < n && same < own->n && own->v[same] == lead->v[same])
			same++;
		n = same;
	}
	return n;
}

static int add_filters(struct cpx_rst *r, struct cpx_rst_thread *th, uint32_t from, uint32_t to,
		       struct cpx_err *err)
{
	int rc = 0;

	for (uint32_t i = from; i < to && rc == 0; i++)
		rc = add_filter(&th->t,
				cpx_state_rec(r->st, seccomp, th->rec->seccomp_filters.v[i]),
				err);
	return rc;
}

int cpx_rst_filters_common(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_err *err)
{
	return add_filters(r, &t->threads[0], 0, common_filters(t), err);
}

/* --- ids
 * ---------------------------------------------------------------------------------------- */

static int call(struct cpx_rst_thread *th, const char *what, struct cpx_err *err, long nr,
		uint64_t a, uint64_t b, uint64_t c)
{
	return cpx_tok(&th->t, NULL, err, what, nr, a, b, c);
}

static bool same_ids(const struct cpx_rec_thread *rec, const struct cpx_proc_status *s)
{
	const uint32_t uid[] = { rec->uid, rec->euid, rec->suid, rec->fsuid };
	const uint32_t gid[] = { rec->gid, rec->egid, rec->sgid, rec->fsgid };

	return memcmp(uid, s->uid, sizeof(uid)) == 0 && memcmp(gid, s->gid, sizeof(gid)) == 0 &&
	       rec->groups.n == s->ngroups &&
	       (s->ngroups == 0 ||
		memcmp(rec->groups.v, s->groups, s->ngroups * sizeof(uint32_t)) == 0);
}

static int set_ids(struct cpx_rst_thread *th, struct cpx_err *err)
{
	const struct cpx_rec_thread *rec = th->rec;
	struct cpx_rst_bytes groups = { 0 };
	int rc = call(th, "securebits", err, SYS_prctl, PR_SET_SECUREBITS,
		      SECBIT_NO_SETUID_FIXUP, 0);

	if (rc == 0 && rec->groups.n)
		rc = cpx_rst_bytes_put(&th->t, rec->groups.v, rec->groups.n * sizeof(uint32_t),
				       &groups, err);
	if (rc == 0)
		rc = call(th, "setgroups", err, SYS_setgroups, rec->groups.n, groups.addr, 0);
	if (rc == 0)
		rc = cpx_rst_bytes_drop(&th->t, &groups, err);
	if (rc == 0)
		rc = call(th, "setresgid", err, SYS_setresgid, rec->gid, rec->egid, rec->sgid);
	if (rc == 0 && rec->fsgid != rec->egid)
		rc = call(th, "setfsgid", err, SYS_setfsgid, rec->fsgid, 0, 0);
	if (rc == 0)
		rc = call(th, "setresuid", err, SYS_setresuid, rec->uid, rec->euid, rec->suid);
	if (rc == 0 && rec->fsuid != rec->euid)
		rc = call(th, "setfsuid", err, SYS_setfsuid, rec->fsuid, 0, 0);
	return rc;
}

/* --- capabilities
 * -------------------------------------------------------------------------------- */

static int capset_call(struct cpx_rst_thread *th, uint64_t eff, uint64_t prm, uint64_t inh,
		       struct cpx_err *err)
{
	const uint32_t head[2] = { _LINUX_CAPABILITY_VERSION_3, 0 };
	const uint32_t data[6] = { (uint32_t)eff,	  (uint32_t)prm,
				   (uint32_t)inh,	  (uint32_t)(eff >> 32),
				   (uint32_t)(prm >> 32), (uint32_t)(inh >> 32) };
	uint64_t h, d;

	cpx_tracee_reset(&th->t);
	h = cpx_tracee_push(&th->t, head, sizeof(head));
	d = cpx_tracee_push(&th->t, data, sizeof(data));
	if (!h || !d)
		return cpx_err_set(err, CPX_E_SYS, "no room for a call");
	return call(th, "capset", err, SYS_capset, h, d, 0);
}

/* @may_bound: a smaller bounding set misleads no set-user-id program. */
static int set_caps(struct cpx_rst_thread *th, const struct cpx_proc_status *now,
		    bool may_bound, struct cpx_err *err)
{
	const struct cpx_rec_thread *rec = th->rec;
	uint64_t prm = rec->cap_permitted & now->cap_prm, bits;
	int rc = 0;

	if (rec->cap_permitted & ~now->cap_prm & CAPS_ALL)
		cpx_log_note(
			"thread %u: capabilities 0x%llx cannot be had here and are lost",
			rec->tid,
			(unsigned long long)(rec->cap_permitted & ~now->cap_prm & CAPS_ALL));
	bits = may_bound ? now->cap_bnd & ~rec->cap_bounding & CAPS_ALL : 0;
	for (int cap = 0; cap <= CAP_LAST_CAP && rc == 0; cap++)
		if (bits >> cap & 1)
			rc = call(th, "bounding set", err, SYS_prctl, PR_CAPBSET_DROP,
				  (uint64_t)cap, 0);
	if (rc == 0)
		rc = capset_call(th, now->cap_eff, now->cap_prm,
				 rec->cap_inheritable & (now->cap_prm | now->cap_inh), err);
	if (rc == 0 && now->cap_amb)
		rc = call(th, "ambient set", err, SYS_prctl, PR_CAP_AMBIENT,
			  PR_CAP_AMBIENT_CLEAR_ALL, 0);
	bits = rec->cap_ambient & prm & rec->cap_inheritable;
	for (int cap = 0; cap <= CAP_LAST_CAP && rc == 0; cap++)
		if (bits >> cap & 1)
			rc = call(th, "ambient set", err, SYS_prctl, PR_CAP_AMBIENT,
				  PR_CAP_AMBIENT_RAISE, (uint64_t)cap);
	if (rc == 0)
		rc = call(th, "securebits", err, SYS_prctl, PR_SET_SECUREBITS,
			  rec->securebits & SECUREBITS_ALL, 0);
	if (rc == 0)
		rc = capset_call(th, rec->cap_effective & prm, prm,
				 rec->cap_inheritable & (now->cap_prm | now->cap_inh), err);
	return rc;
}

static bool same_caps(const struct cpx_rec_thread *rec, const struct cpx_proc_status *s)
{
	return rec->cap_permitted == s->cap_prm && rec->cap_effective == s->cap_eff &&
	       rec->cap_inheritable == s->cap_inh && rec->cap_bounding == s->cap_bnd &&
	       rec->cap_ambient == s->cap_amb && rec->securebits == 0;
}

/* --- all of it
 * ------------------------------------------------------------------------------------ */

static int read_status(const struct cpx_rst_thread *th, struct cpx_proc_status *s,
		       struct cpx_err *err)
{
	CPX_AUTO_FREE char *text = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", th->t.pid, th->t.tid);
	if (cpx_read_file(AT_FDCWD, path, 1 << 20, &text, err) < 0)
		return err ? err->code : CPX_E_SYS;
	return cpx_proc_status_parse(text, s, err);
}

int cpx_rst_creds_set(struct cpx_rst *r, struct cpx_rst_task *t, struct cpx_rst_thread *th,
		      struct cpx_err *err)
{
	struct cpx_proc_status s __attribute__((cleanup(cpx_proc_status_free))) = { 0 };
	const struct cpx_rec_thread *rec = th->rec;
	int rc = read_status(th, &s, err);
	bool ids;

	if (rc == 0 && rec->no_new_privs)
		rc = call(th, "no_new_privs", err, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0);
	if (rc == 0)
		rc = add_filters(r, th, common_filters(t), rec->seccomp_filters.n, err);
	if (rc < 0)
		return rc;
	ids = !same_ids(rec, &s);
	if (ids)
		rc = set_ids(th, err);
	if (rc == 0 && (ids || !same_caps(rec, &s)))
		rc = set_caps(th, &s, r->opts->trusted || rec->no_new_privs, err);
	/* a root process' parent is not the job's own: its end must not kill the job */
	if (rc == 0 && rec->pdeathsig && (t->parent || r->opts->spawn))
		rc = call(th, "parent-death signal", err, SYS_prctl, PR_SET_PDEATHSIG,
			  rec->pdeathsig, 0);
	return rc;
}
