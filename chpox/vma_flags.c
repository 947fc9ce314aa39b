/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vma_flags.c - see vma_flags.h.
 *
 * Happy path: the kernel's BTF says where struct vm_area_struct has what is needed and which
 * iterator goes over mappings; a program of a few instructions is loaded; an iterator bound to
 * one thread runs it when it is read.
 * Failures: whatever is not as expected means that there is no reader.
 */
#include "vma_flags.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "proc_maps.h"

#define BTF_MAX (64u << 20)
#define LIST_MAX (64u << 20) /* bytes */
#define DEPTH_MAX 8
#define CTX_META 0 /* of struct bpf_iter__task_vma: meta, task, vma */
#define CTX_VMA 16

static int none(struct cpx_err *err, const char *why)
{
	return cpx_err_set(err, CPX_E_UNSUPPORTED, "flags of mappings only from smaps: %s",
			   why);
}

/* --- BTF: bytes of the kernel, checked all the same --------------------------------------- */

struct btf {
	const uint8_t *types;
	const char *strings;
	uint32_t types_len, strings_len;
	uint32_t *at; /* offset of type i; 0 is void */
	uint32_t n;
};

static const struct btf_type *type_at(const struct btf *b, uint32_t id)
{
	return id && id < b->n ? (const void *)(b->types + b->at[id]) : NULL;
}

static bool name_is(const struct btf *b, uint32_t off, const char *name)
{
	size_t len = strlen(name) + 1;

	return off < b->strings_len && len <= b->strings_len - off &&
	       memcmp(b->strings + off, name, len) == 0;
}

/* Bytes behind the head of a type. Return: false for a kind that is not known. */
static bool tail_of(const struct btf_type *t, uint32_t *len)
{
	uint32_t n = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_PTR:
	case BTF_KIND_FWD:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_FUNC:
	case BTF_KIND_FLOAT:
	case BTF_KIND_TYPE_TAG:
		*len = 0;
		return true;
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case BTF_KIND_DECL_TAG:
		*len = 4;
		return true;
	case BTF_KIND_ARRAY:
		*len = sizeof(struct btf_array);
		return true;
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
	case BTF_KIND_DATASEC:
	case BTF_KIND_ENUM64:
		*len = n * 12;
		return true;
	case BTF_KIND_ENUM:
	case BTF_KIND_FUNC_PROTO:
		*len = n * 8;
		return true;
	default:
		return false;
	}
}

/* Note where each type begins. */
static int index_types(struct btf *b)
{
	uint32_t cap = b->types_len / sizeof(struct btf_type) + 1;

	b->at = malloc(cap * sizeof(*b->at));
	if (!b->at)
		return -1;
	b->n = 1;
	for (uint32_t off = 0; off < b->types_len;) {
		const struct btf_type *t = (const void *)(b->types + off);
		uint32_t left = b->types_len - off, len;

		if (left < sizeof(*t) || !tail_of(t, &len) || len > left - sizeof(*t))
			return -1;
		b->at[b->n++] = off;
		off += (uint32_t)sizeof(*t) + len;
	}
	return 0;
}

/* @data: aligned to 4. */
static int open_btf(struct btf *b, const uint8_t *data, size_t len)
{
	struct btf_header h;
	uint64_t end;

	memset(b, 0, sizeof(*b));
	if (len < sizeof(h))
		return -1;
	memcpy(&h, data, sizeof(h));
	end = len;
	if (h.magic != BTF_MAGIC || h.version != BTF_VERSION || h.hdr_len > end ||
	    h.hdr_len % 4 || h.type_off % 4)
		return -1;
	end -= h.hdr_len;
	if ((uint64_t)h.type_off + h.type_len > end || (uint64_t)h.str_off + h.str_len > end)
		return -1;
	b->types = data + h.hdr_len + h.type_off;
	b->types_len = h.type_len;
	b->strings = (const char *)data + h.hdr_len + h.str_off;
	b->strings_len = h.str_len;
	return index_types(b);
}

static uint32_t find_type(const struct btf *b, uint32_t kind, const char *name)
{
	for (uint32_t i = 1; i < b->n; i++) {
		const struct btf_type *t = type_at(b, i);

		if (BTF_INFO_KIND(t->info) == kind && name_is(b, t->name_off, name))
			return i;
	}
	return 0;
}

/* Without names and qualifiers. */
static const struct btf_type *plain_type(const struct btf *b, uint32_t id)
{
	const struct btf_type *t = type_at(b, id);

	for (int i = 0; t && i < DEPTH_MAX; i++) {
		uint32_t kind = BTF_INFO_KIND(t->info);

		if (kind != BTF_KIND_TYPEDEF && kind != BTF_KIND_CONST &&
		    kind != BTF_KIND_VOLATILE)
			return t;
		t = type_at(b, t->type);
	}
	return NULL;
}

/* Offset of a member that is a number of 8 bytes, also in nameless parts. Return: it or -1. */
static int64_t member(const struct btf *b, const struct btf_type *s, const char *name,
		      int depth)
{
	const struct btf_member *m = (const void *)(s + 1);

	for (uint32_t i = 0; i < BTF_INFO_VLEN(s->info); i++) {
		const struct btf_type *t = plain_type(b, m[i].type);
		uint32_t kind = t ? BTF_INFO_KIND(t->info) : 0;
		uint32_t bits = BTF_INFO_KFLAG(s->info) ? BTF_MEMBER_BIT_OFFSET(m[i].offset)
							: m[i].offset;
		int64_t inner;

		if (kind == BTF_KIND_INT && t->size == 8 && bits % 64 == 0 &&
		    name_is(b, m[i].name_off, name))
			return bits / 8;
		if (!name_is(b, m[i].name_off, "") || depth == DEPTH_MAX ||
		    (kind != BTF_KIND_STRUCT && kind != BTF_KIND_UNION))
			continue;
		inner = member(b, t, name, depth + 1);
		if (inner >= 0)
			return bits / 8 + inner;
	}
	return -1;
}

/* --- the program ---------------------------------------------------------------------------
 */

/* clang-format off */
#define INSN(op, d, s, o, i) \
	(struct bpf_insn){ .code = (op), .dst_reg = (d), .src_reg = (s), .off = (int16_t)(o), .imm = (i) }
#define LOAD(d, s, o) INSN(BPF_LDX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE(d, o, s) INSN(BPF_STX | BPF_MEM | BPF_DW, d, s, o, 0)
#define MOVE(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define SET(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
/* clang-format on */

static long bpf(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

/* @off: of start, end and word in the kernel's struct. */
static int load(uint32_t iterator, const int64_t *off)
{
	const struct bpf_insn prog[] = {
		MOVE(BPF_REG_6, BPF_REG_1),
		LOAD(BPF_REG_7, BPF_REG_6, CTX_VMA),
		/* the last call comes without a mapping */
		INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_7, 0, 12, 0),
		LOAD(BPF_REG_1, BPF_REG_7, off[0]),
		STORE(BPF_REG_10, -24, BPF_REG_1),
		LOAD(BPF_REG_1, BPF_REG_7, off[1]),
		STORE(BPF_REG_10, -16, BPF_REG_1),
		LOAD(BPF_REG_1, BPF_REG_7, off[2]),
		STORE(BPF_REG_10, -8, BPF_REG_1),
		LOAD(BPF_REG_1, BPF_REG_6, CTX_META),
		LOAD(BPF_REG_1, BPF_REG_1, 0), /* the seq_file */
		MOVE(BPF_REG_2, BPF_REG_10),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -24),
		SET(BPF_REG_3, sizeof(struct cpx_vma_raw)),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_seq_write),
		SET(BPF_REG_0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	union bpf_attr a = { .prog_type = BPF_PROG_TYPE_TRACING,
			     .insn_cnt = sizeof(prog) / sizeof(prog[0]),
			     .insns = (uintptr_t)prog,
			     .license = (uintptr_t) "GPL",
			     .expected_attach_type = BPF_TRACE_ITER,
			     .attach_btf_id = iterator };

	return (int)bpf(BPF_PROG_LOAD, &a);
}

static int make(int *prog_fd, struct cpx_err *err)
{
	static const char *const names[] = { "vm_start", "vm_end", "vm_flags" };
	CPX_AUTO_FREE char *data = NULL;
	ssize_t len = cpx_read_file(AT_FDCWD, "/sys/kernel/btf/vmlinux", BTF_MAX, &data, NULL);
	uint32_t iterator = 0, vma = 0;
	bool found = true;
	int64_t off[3];
	struct btf b = { 0 };

	if (cpx_fault("vma_flags") || len < 0)
		return none(err, "no description of the kernel's types");
	if (open_btf(&b, (const uint8_t *)data, (size_t)len) == 0) {
		iterator = find_type(&b, BTF_KIND_FUNC, "bpf_iter_task_vma");
		vma = find_type(&b, BTF_KIND_STRUCT, "vm_area_struct");
	}
	for (int i = 0; i < 3 && vma; i++) {
		off[i] = member(&b, type_at(&b, vma), names[i], 0);
		found = found && off[i] >= 0 && off[i] < INT16_MAX;
	}
	free(b.at);
	if (!iterator || !vma || !found)
		return none(err, "the kernel's types are not as expected");
	*prog_fd = load(iterator, off);
	return *prog_fd < 0 ? none(err, strerror(errno)) : 0;
}

int cpx_vma_words_init(struct cpx_vma_words *w, struct cpx_err *err)
{
	int fd = -1, rc = make(&fd, err);

	memset(w, 0, sizeof(*w));
	w->prog_fd = rc == 0 ? fd : -1;
	return rc;
}

void cpx_vma_words_free(struct cpx_vma_words *w)
{
	cpx_close(&w->prog_fd);
}

/* --- reading -------------------------------------------------------------------------------
 */

int cpx_vma_open(const struct cpx_vma_words *w, pid_t pid, struct cpx_err *err)
{
	union bpf_iter_link_info of = { .task = { .tid = (uint32_t)pid } };
	union bpf_attr a = { 0 };
	int fd;

	a.link_create.prog_fd = (uint32_t)w->prog_fd;
	a.link_create.attach_type = BPF_TRACE_ITER;
	a.link_create.iter_info = (uintptr_t)&of;
	a.link_create.iter_info_len = sizeof(of);
	CPX_AUTO_FD link = (int)bpf(BPF_LINK_CREATE, &a);
	if (link < 0)
		return none(err, strerror(errno));
	memset(&a, 0, sizeof(a));
	a.iter_create.link_fd = (uint32_t)link;
	fd = (int)bpf(BPF_ITER_CREATE, &a);
	return fd < 0 ? none(err, strerror(errno)) : fd;
}

/* Ascending and disjoint, as everything else relies on. */
static bool in_order(const struct cpx_vma_raw *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].start >= v[i].end || (i && v[i].start < v[i - 1].end))
			return false;
	return true;
}

int cpx_vma_read(int fd, struct cpx_vma_list *out, struct cpx_err *err)
{
	CPX_AUTO_FREE char *buf = NULL;
	size_t len = 0, cap = 0;
	ssize_t n = 1;

	while (n > 0) {
		if (len == cap) {
			void *more = realloc(buf, cap ? cap * 2 : 65536);

			if (!more || cap > LIST_MAX)
				return cpx_err_set(err, CPX_E_NOMEM, "no memory for mappings");
			buf = more;
			cap = cap ? cap * 2 : 65536;
		}
		n = read(fd, buf + len, cap - len);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			n = 1;
		else if (n > 0)
			len += (size_t)n;
	}
	if (n < 0)
		return cpx_err_sys(err, errno, "read the kernel's list of mappings");
	if (len % sizeof(*out->v) || !in_order((void *)buf, len / sizeof(*out->v)))
		return cpx_err_set(err, CPX_E_FORMAT, "the kernel's list of mappings");
	out->v = (void *)cpx_steal_ptr(&buf);
	out->n = len / sizeof(*out->v);
	return 0;
}

void cpx_vma_list_free(struct cpx_vma_list *l)
{
	free(l->v);
	memset(l, 0, sizeof(*l));
}

bool cpx_vma_word(const struct cpx_vma_list *l, uint64_t start, uint64_t end, uint64_t *word)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->v[mid].start < start)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* the last that begins at or below it; being watched may have joined some */
	if (lo == l->n || l->v[lo].start != start)
		lo--;
	if (lo >= l->n || l->v[lo].end < end)
		return false;
	*word = l->v[lo].word;
	return true;
}

/* --- what words mean ------------------------------------------------------------------------
 */

bool cpx_vma_flags(const struct cpx_vma_words *w, uint64_t word, uint32_t *vmflags,
		   uint32_t *pkey)
{
	for (uint32_t i = 0; i < w->n; i++) {
		if (w->v[i].word == word) {
			*vmflags = w->v[i].vmflags;
			*pkey = w->v[i].pkey;
			return true;
		}
	}
	return false;
}

static bool same_flags(const struct cpx_map *a, const struct cpx_map *b)
{
	return a->vmflags == b->vmflags && a->pkey == b->pkey;
}

/* Does another mapping with @word say something else? Then one of them had another meanwhile.
 */
static bool disagree(const struct cpx_maps *smaps, const struct cpx_vma_list *l, uint64_t word,
		     const struct cpx_map *m)
{
	uint64_t other;

	for (size_t i = 0; i < smaps->n; i++)
		if (cpx_vma_word(l, smaps->v[i].start, smaps->v[i].end, &other) &&
		    other == word && !same_flags(&smaps->v[i], m))
			return true;
	return false;
}

void cpx_vma_learn(struct cpx_vma_words *w, const struct cpx_vma_list *before,
		   const struct cpx_maps *smaps, const struct cpx_maps *again,
		   const struct cpx_vma_list *after)
{
	for (size_t i = 0; i < smaps->n; i++) {
		const struct cpx_map *m = &smaps->v[i];
		const struct cpx_map *twice = cpx_maps_at(again, m->start);
		uint32_t vmflags, pkey;
		uint64_t a, b;

		if (!cpx_vma_word(before, m->start, m->end, &a) ||
		    !cpx_vma_word(after, m->start, m->end, &b) || a != b || !twice ||
		    !same_flags(twice, m) || cpx_vma_flags(w, a, &vmflags, &pkey) ||
		    disagree(smaps, before, a, m))
			continue;
		if (w->n == CPX_VMA_WORDS_MAX)
			w->n = 0;
		w->v[w->n].word = a;
		w->v[w->n].vmflags = m->vmflags;
		w->v[w->n++].pkey = m->pkey;
	}
}
