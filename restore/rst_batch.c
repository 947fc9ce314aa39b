/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rst_batch.c - see rst_batch.h. */
#include "rst_batch.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../chpox/base/err.h"
#include "../chpox/base/tracee.h"

#define CODE_OFF 32768u /* into the home */
#define TABLE_OFF (CODE_OFF + 128u)

/* One row of the table: nr, six arguments, flags; the result takes the place of the flags. */
#define ROW 8

/* rbx: row, ebp: rows left, r12: the kept descriptor. Ends with a trap. */
static const uint8_t code[] = {
	0x48, 0x8b, 0x03,	/* again: mov rax, [rbx] */
	0x48, 0x8b, 0x7b, 0x08, /* mov rdi, [rbx + 8] */
	0x48, 0x8b, 0x73, 0x10, /* mov rsi, [rbx + 16] */
	0x48, 0x8b, 0x53, 0x18, /* mov rdx, [rbx + 24] */
	0x4c, 0x8b, 0x53, 0x20, /* mov r10, [rbx + 32] */
	0x4c, 0x8b, 0x43, 0x28, /* mov r8, [rbx + 40] */
	0x4c, 0x8b, 0x4b, 0x30, /* mov r9, [rbx + 48] */
	0x4c, 0x8b, 0x6b, 0x38, /* mov r13, [rbx + 56] */
	0x41, 0xf6, 0xc5, 0x02, /* test r13b, FD_ARG5 */
	0x74, 0x03,		/* jz */
	0x4d, 0x89, 0xe0,	/* mov r8, r12 */
	0x41, 0xf6, 0xc5, 0x04, /* test r13b, FD_ARG1 */
	0x74, 0x03,		/* jz */
	0x4c, 0x89, 0xe7,	/* mov rdi, r12 */
	0x41, 0xf6, 0xc5, 0x08, /* test r13b, FD_STORE */
	0x74, 0x03,		/* jz */
	0x45, 0x89, 0x21,	/* mov [r9], r12d */
	0x0f, 0x05,		/* syscall */
	0x48, 0x89, 0x43, 0x38, /* mov [rbx + 56], rax */
	0x41, 0xf6, 0xc5, 0x01, /* test r13b, KEEP */
	0x74, 0x03,		/* jz */
	0x49, 0x89, 0xc4,	/* mov r12, rax */
	0x48, 0x83, 0xc3, 0x40, /* add rbx, 64 */
	0xff, 0xcd,		/* dec ebp */
	0x75, 0xaf,		/* jnz again */
	0xcc,			/* int3 */
};

int cpx_batch_init(struct cpx_batch *b, struct cpx_tracee *t, struct cpx_err *err)
{
	*b = (struct cpx_batch){ .t = t };
	b->v = calloc(CPX_BATCH_MAX, sizeof(*b->v));
	if (!b->v)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a batch of calls");
	cpx_tracee_reset(t);
	return 0;
}

void cpx_batch_free(struct cpx_batch *b)
{
	free(b->v);
	b->v = NULL;
}

int cpx_batch_add(struct cpx_batch *b, const char *what, uint64_t at, uint64_t flags, long nr,
		  const uint64_t args[6], struct cpx_err *err)
{
	struct cpx_call *c;

	/* a kept descriptor does not outlive the table: see cpx_batch_room() */
	if (b->n == CPX_BATCH_MAX) {
		int rc = cpx_batch_run(b, err);

		if (rc < 0)
			return rc;
	}
	c = &b->v[b->n++];
	*c = (struct cpx_call){ .nr = (uint64_t)nr, .flags = flags, .what = what, .at = at };
	memcpy(c->args, args, sizeof(c->args));
	return 0;
}

int cpx_batch_room(struct cpx_batch *b, size_t n, struct cpx_err *err)
{
	return b->n + n > CPX_BATCH_MAX ? cpx_batch_run(b, err) : 0;
}

int cpx_batch_push(struct cpx_batch *b, const void *p, size_t len, uint64_t *at,
		   struct cpx_err *err)
{
	if (len > CPX_BATCH_DATA)
		return cpx_err_set(err, CPX_E_LIMIT, "%zu bytes are too many for one call",
				   len);
	if (b->t->data_used + len + 16 > CPX_BATCH_DATA) {
		int rc = cpx_batch_run(b, err);

		if (rc < 0)
			return rc;
	}
	*at = cpx_tracee_push(b->t, p, len);
	if (!*at)
		return cpx_err_set(err, CPX_E_SYS, "cannot write to process %d", b->t->pid);
	return 0;
}

static int wait_trap(struct cpx_tracee *t, struct cpx_err *err)
{
	for (;;) {
		int status;

		if (ptrace(PTRACE_CONT, t->tid, NULL, NULL) < 0)
			return cpx_err_sys(err, errno, "run process %d", t->pid);
		while (waitpid(t->tid, &status, __WALL) < 0)
			if (errno != EINTR)
				return cpx_err_sys(err, errno, "wait for process %d", t->pid);
		if (!WIFSTOPPED(status))
			return cpx_err_set(err, CPX_E_GONE, "process %d died", t->pid);
		if (status >> 16 == 0 && WSTOPSIG(status) == SIGTRAP)
			return 0;
		if (status >> 16 == 0 && WSTOPSIG(status) == SIGSEGV)
			return cpx_err_set(err, CPX_E_SYS, "process %d lost its home", t->pid);
		if (status >> 16 == 0 && WSTOPSIG(status) == SIGSTOP)
			t->stop_seen = true;
	}
}

static int execute(struct cpx_batch *b, uint64_t *rows, struct cpx_err *err)
{
	struct cpx_tracee *t = b->t;
	struct user_regs_struct regs = t->regs;
	struct iovec iov = { .iov_base = &regs, .iov_len = sizeof(regs) };
	uint64_t page = t->home->code;
	size_t len = b->n * ROW * sizeof(*rows);
	int rc;

	/* makes the registers ours, and blocks signals */
	if (!t->borrowed || t->home->user != t) {
		rc = cpx_tcall(t, NULL, err, SYS_getpid, 0);
		if (rc < 0)
			return rc;
	}
	rc = cpx_tracee_write(t, page + CODE_OFF, code, sizeof(code), err);
	if (rc == 0)
		rc = cpx_tracee_write(t, page + TABLE_OFF, rows, len, err);
	if (rc < 0)
		return rc;
	regs.rip = page + CODE_OFF;
	regs.rsp = page + CODE_OFF;
	regs.rbx = page + TABLE_OFF;
	regs.rbp = b->n;
	regs.r12 = (uint64_t)-1;
	regs.orig_rax = (uint64_t)-1;
	regs.eflags &= ~0x500ull;
	if (ptrace(PTRACE_SETREGSET, t->tid, NT_PRSTATUS, &iov) < 0)
		return cpx_err_sys(err, errno, "set registers of process %d", t->pid);
	rc = wait_trap(t, err);
	if (rc < 0)
		return rc;
	return cpx_tracee_read(t, page + TABLE_OFF, rows, len, err);
}

int cpx_batch_run(struct cpx_batch *b, struct cpx_err *err)
{
	uint64_t *rows;
	int rc;

	if (!b->n) {
		cpx_tracee_reset(b->t);
		return 0;
	}
	rows = calloc(b->n, ROW * sizeof(*rows));
	if (!rows)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for a batch of calls");
	for (size_t i = 0; i < b->n; i++) {
		rows[i * ROW] = b->v[i].nr;
		memcpy(&rows[i * ROW + 1], b->v[i].args, sizeof(b->v[i].args));
		rows[i * ROW + 7] = b->v[i].flags;
	}
	rc = execute(b, rows, err);
	for (size_t i = 0; i < b->n && rc == 0; i++) {
		int64_t ret = (int64_t)rows[i * ROW + 7];
		const struct cpx_call *c = &b->v[i];

		if (ret < 0 && ret > -4096 && !(c->flags & CPX_CALL_MAY_FAIL))
			rc = cpx_err_sys(err, (int)-ret, "process %d: %s at 0x%llx", b->t->pid,
					 c->what, (unsigned long long)c->at);
	}
	free(rows);
	b->n = 0;
	cpx_tracee_reset(b->t);
	return rc;
}
