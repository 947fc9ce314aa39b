// SPDX-License-Identifier: GPL-2.0
/*
 * chpox_pages.c - reading snapshots, and telling which pages are there or differ.
 *
 * Pages are got, never pinned: a pin would give the snapshot a copy of its own of every page
 * it shares with the job.
 *
 * A page is told by its identity: what its page table entry leads to. Two snapshots of a job
 * share the very page as long as nobody wrote it, for the older one's reference keeps it from
 * being written in place. The older side is looked at before and after the newer one: a page
 * that the kernel moved in between is taken for different, not for the same.
 */
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/pagewalk.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "chpox.h"
#include "chpox_symbols.h"

#define BATCH 256
#define CHUNK_PAGES (PMD_SIZE >> PAGE_SHIFT)

/* --- reading -------------------------------------------------------------------------------
 */

/* Give @n pages to the caller's buffer, the first from @offset on. Return: bytes. */
static ssize_t copy_out(struct page **pages, long n, size_t offset, char __user *buf,
			size_t bytes)
{
	size_t done = 0;
	bool fault = false;

	for (long i = 0; i < n; i++) {
		size_t part = min_t(size_t, PAGE_SIZE - offset, bytes - done);

		if (!fault && part) {
			char *from = kmap_local_page(pages[i]);

			fault = copy_to_user(buf + done, from + offset, part);
			kunmap_local(from);
			if (!fault)
				done += part;
		}
		put_page(pages[i]);
		offset = 0;
	}
	return done ? done : -EFAULT;
}

static ssize_t read_batch(struct mm_struct *mm, unsigned long at, char __user *buf,
			  size_t bytes, struct page **pages)
{
	size_t offset = offset_in_page(at);
	long n = min_t(size_t, BATCH, DIV_ROUND_UP(offset + bytes, PAGE_SIZE));
	int locked = 1;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	n = chpox_get_pages(mm, at - offset, n, FOLL_DUMP | FOLL_FORCE, pages, &locked);
	if (locked)
		mmap_read_unlock(mm);
	if (n <= 0)
		return n == -EFAULT || !n ? -ENXIO : n;
	return copy_out(pages, n, offset, buf, bytes);
}

ssize_t chpox_pages_read(struct chpox_snap *snap, char __user *buf, size_t bytes, loff_t *pos)
{
	struct mm_struct *mm = chpox_snap_mm(snap);
	struct page **pages;
	size_t done = 0;
	ssize_t n = 0;

	if (!mm)
		return -EIO;
	pages = kmalloc_array(BATCH, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages) {
		mmput(mm);
		return -ENOMEM;
	}
	if (*pos < 0 || *pos >= TASK_SIZE_MAX)
		bytes = 0;
	bytes = min_t(size_t, bytes, TASK_SIZE_MAX - *pos);
	while (done < bytes) {
		n = read_batch(mm, *pos + done, buf + done, bytes - done, pages);
		if (n <= 0)
			break;
		done += n;
		cond_resched();
	}
	/* what was taken away reads as zero */
	if (chpox_mm_test(mm, MMF_UNSTABLE)) {
		done = 0;
		n = -EIO;
	}
	kfree(pages);
	mmput(mm);
	*pos += done;
	return done ? done : n;
}

/* --- identities ----------------------------------------------------------------------------
 */

/* Bits 0..2: enum chpox_run_kind, 0 a hole; bit 3: soft-dirty; the rest: which page. */
#define KIND 7u
#define DIRTY 8u
#define WHICH_SHIFT 4

struct chunk {
	unsigned long start;
	u64 id[CHUNK_PAGES];
};

static u64 identity(u32 kind, bool dirty, u64 which)
{
	return kind | (dirty ? DIRTY : 0) | which << WHICH_SHIFT;
}

static u64 of_frame(const struct vm_area_struct *vma, unsigned long pfn, bool dirty)
{
	if (pfn_valid(pfn) && PageAnon(compound_head(pfn_to_page(pfn))))
		return identity(CHPOX_RUN_ANON, dirty, pfn);
	if (vma_is_anonymous((struct vm_area_struct *)vma) || is_zero_pfn(pfn))
		return identity(CHPOX_RUN_ZERO, dirty, 0);
	return identity(CHPOX_RUN_FILE, dirty, pfn);
}

static int see_pte(pte_t *at, unsigned long addr, unsigned long next, struct mm_walk *walk)
{
	struct chunk *c = walk->private;
	pte_t pte = ptep_get_lockless(at);
	u64 *id = &c->id[(addr - c->start) >> PAGE_SHIFT];

	if (pte_present(pte))
		*id = of_frame(walk->vma, pte_pfn(pte), pte_soft_dirty(pte));
	else if (!pte_none(pte))
		*id = identity(CHPOX_RUN_SWAP, pte_swp_soft_dirty(pte), pte_val(pte) >> 9);
	return 0;
}

static int see_pmd(pmd_t *at, unsigned long addr, unsigned long next, struct mm_walk *walk)
{
	struct chunk *c = walk->private;
	pmd_t pmd = chpox_pmd_get(at);
	unsigned long pfn;

	if (pmd_none(pmd) || (pmd_present(pmd) && !pmd_trans_huge(pmd) && !pmd_devmap(pmd)))
		return 0;
	walk->action = ACTION_CONTINUE;
	for (; addr < next; addr += PAGE_SIZE) {
		u64 *id = &c->id[(addr - c->start) >> PAGE_SHIFT];

		pfn = pmd_pfn(pmd) + ((addr & ~PMD_MASK) >> PAGE_SHIFT);
		if (!pmd_present(pmd)) /* on the way to another place */
			*id = identity(CHPOX_RUN_SWAP, true, 0);
		else
			*id = of_frame(walk->vma, pfn, pmd_soft_dirty(pmd));
	}
	return 0;
}

static int see_hugetlb(pte_t *at, unsigned long mask, unsigned long addr, unsigned long next,
		       struct mm_walk *walk)
{
	struct chunk *c = walk->private;
	bool there = !pte_none(ptep_get_lockless(at));

	for (; there && addr < next; addr += PAGE_SIZE)
		c->id[(addr - c->start) >> PAGE_SHIFT] = identity(CHPOX_RUN_HUGETLB, true, 0);
	return 0;
}

static const struct mm_walk_ops look = { .pmd_entry = see_pmd,
					 .pte_entry = see_pte,
					 .hugetlb_entry = see_hugetlb,
					 CHPOX_WALK_LOCK };

/* The identities of the chunk at @start, from @from to @to. */
static int see(struct mm_struct *mm, struct chunk *c, unsigned long start, unsigned long from,
	       unsigned long to)
{
	int rc;

	c->start = start;
	memset(c->id, 0, sizeof(c->id));
	if (mmap_read_lock_killable(mm))
		return -EINTR;
	rc = static_call(chpox_walk_page_range)(mm, from, to, &look, c);
	mmap_read_unlock(mm);
	if (!rc && chpox_mm_test(mm, MMF_UNSTABLE))
		rc = -EIO;
	return rc;
}

/* --- runs ----------------------------------------------------------------------------------
 */

struct asking {
	struct mm_struct *mm, *base; /* @base: NULL or an older one */
	struct chpox_run run;	     /* being made; bytes 0: none */
	struct chpox_run __user *to;
	u32 max, count;
	struct chunk now, before, after;
};

static int give_run(struct asking *a)
{
	if (!a->run.bytes)
		return 0;
	if (copy_to_user(a->to + a->count, &a->run, sizeof(a->run)))
		return -EFAULT;
	a->count++;
	a->run.bytes = 0;
	return 0;
}

static bool same_page(const struct asking *a, size_t i)
{
	const u64 clean = ~(u64)DIRTY;
	u64 id = a->now.id[i];

	if (!a->base || a->before.id[i] != a->after.id[i] ||
	    (id & clean) != (a->before.id[i] & clean))
		return false;
	return (id & KIND) == CHPOX_RUN_ANON || (id & KIND) == CHPOX_RUN_ZERO || !(id & KIND);
}

/* Return: 1 when the answer is full before this page. */
static int add_page(struct asking *a, unsigned long addr, u64 id)
{
	u32 kind = id & KIND, flags = id & DIRTY ? CHPOX_RUN_SOFT_DIRTY : 0;
	int rc;

	if (a->run.bytes && a->run.kind == kind && a->run.flags == flags &&
	    a->run.start + a->run.bytes == addr) {
		a->run.bytes += PAGE_SIZE;
		return 0;
	}
	rc = give_run(a);
	if (rc)
		return rc;
	if (a->count == a->max)
		return 1;
	a->run.start = addr;
	a->run.bytes = PAGE_SIZE;
	a->run.kind = kind;
	a->run.flags = flags;
	return 0;
}

/* Return: 0, 1 when the answer is full, or an error; *@at is where to go on. */
static int do_chunk(struct asking *a, unsigned long *at, unsigned long end)
{
	unsigned long start = *at & PMD_MASK, to = min(start + PMD_SIZE, end);
	int rc = 0;

	if (a->base)
		rc = see(a->base, &a->before, start, *at, to);
	if (!rc)
		rc = see(a->mm, &a->now, start, *at, to);
	if (!rc && a->base)
		rc = see(a->base, &a->after, start, *at, to);
	for (; !rc && *at < to; *at += PAGE_SIZE) {
		size_t i = (*at - start) >> PAGE_SHIFT;

		/* with a base, what is gone is no run: mappings tell */
		if ((a->now.id[i] & KIND) && !same_page(a, i))
			rc = add_page(a, *at, a->now.id[i]);
		if (rc)
			break;
	}
	cond_resched();
	if (!rc && fatal_signal_pending(current))
		rc = -EINTR;
	return rc;
}

/* The first address from @at on that is mapped, or @end. */
static unsigned long next_mapped(struct mm_struct *mm, unsigned long at, unsigned long end)
{
	struct vm_area_struct *vma;

	if (mmap_read_lock_killable(mm))
		return at;
	vma = find_vma(mm, at);
	at = vma ? max(at, vma->vm_start) : end;
	mmap_read_unlock(mm);
	return min(at, end);
}

static int get_runs(struct asking *a, struct chpox_runs *r)
{
	unsigned long at = r->start;
	int rc = 0;

	while (!rc && at < r->end) {
		at = next_mapped(a->mm, at, r->end);
		if (at < r->end)
			rc = do_chunk(a, &at, r->end);
	}
	if (rc < 0)
		return rc;
	rc = give_run(a);
	r->count = a->count;
	r->next = at;
	return rc;
}

static int check_runs(const struct chpox_runs *r)
{
	if (r->flags || r->reserved || r->start > r->end || !r->max || r->max > 1u << 20 ||
	    r->end > TASK_SIZE_MAX || offset_in_page(r->start) || offset_in_page(r->end))
		return -EINVAL;
	return chpox_features() & CHPOX_F_PAGES ? 0 : -EOPNOTSUPP;
}

/* *@base: the address space of descriptor @fd with a reference; NULL with -1. */
static int base_of(int fd, struct mm_struct **base)
{
	struct chpox_snap *snap;
	struct file *file;

	*base = NULL;
	if (fd == -1)
		return 0;
	file = fget(fd);
	if (!file)
		return -EBADF;
	snap = chpox_snap_of(file);
	if (snap)
		*base = chpox_snap_mm(snap);
	fput(file);
	if (!snap)
		return -EINVAL;
	return *base ? 0 : -EIO;
}

long chpox_pages_runs(struct chpox_snap *snap, void __user *arg)
{
	struct chpox_runs r;
	struct asking *a;
	int rc = chpox_get_arg(&r, arg, sizeof(r));

	if (!rc)
		rc = check_runs(&r);
	if (rc)
		return rc;
	a = kvzalloc(sizeof(*a), GFP_KERNEL_ACCOUNT);
	if (!a)
		return -ENOMEM;
	a->to = u64_to_user_ptr(r.buf);
	a->max = r.max;
	a->mm = chpox_snap_mm(snap);
	rc = a->mm ? base_of(r.base_fd, &a->base) : -EIO;
	if (!rc)
		rc = get_runs(a, &r);
	if (!rc && copy_to_user(arg, &r, sizeof(r)))
		rc = -EFAULT;
	if (a->base)
		mmput(a->base);
	if (a->mm)
		mmput(a->mm);
	kvfree(a);
	return rc;
}
