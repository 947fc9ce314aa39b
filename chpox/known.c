/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * known.c - see known.h.
 *
 * The memfd holds a head and chunks of 64 pages in no order; a hash table of ours, made anew
 * when a table is attached, finds them by their offset. Chunks that the generation before did
 * not look at are thrown out when they are more than the others, so the table follows the
 * memory that is there.
 */
#define XXH_INLINE_ALL
#include "known.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/err.h"
#include "base/fd.h"

#define PAGE 4096u
#define CHUNK_PAGES 64u
#define MAGIC 0x314e574bu
#define HEAD 4096u
#define SLOTS_MIN 1024u

/* Of our own processes alone: never on a disk, never from elsewhere. */
struct head {
	uint32_t magic, gen, chunks, max;
};

struct entry {
	uint64_t low;
	uint32_t high, gen; /* gen 0: never seen */
};

struct chunk {
	uint64_t number; /* offset / (CHUNK_PAGES * PAGE) */
	uint32_t gen;	 /* the last in which it was looked at */
	uint32_t zero;
	struct entry pages[CHUNK_PAGES];
};

struct cpx_known {
	int fd;
	size_t len;
	struct head *head;
	struct chunk *chunks;
	uint32_t *slots; /* chunk + 1; 0: free */
	size_t nslots;	 /* a power of two, at least twice the chunks */
};

static size_t slot_of(const struct cpx_known *k, uint64_t number)
{
	size_t mask = k->nslots - 1, at = (size_t)(number * 0x9e3779b97f4a7c15ull >> 20) & mask;

	while (k->slots[at] && k->chunks[k->slots[at] - 1].number != number)
		at = (at + 1) & mask;
	return at;
}

/* Find all chunks again, with room for as many more. Return: 0 or -1. */
static int index_all(struct cpx_known *k)
{
	size_t n = SLOTS_MIN;
	uint32_t *slots;

	while (n < (size_t)k->head->chunks * 4)
		n *= 2;
	slots = calloc(n, sizeof(*slots));
	if (!slots)
		return -1;
	free(k->slots);
	k->slots = slots;
	k->nslots = n;
	for (uint32_t i = 0; i < k->head->chunks; i++)
		k->slots[slot_of(k, k->chunks[i].number)] = i + 1;
	return 0;
}

static int map(struct cpx_known *k, struct cpx_err *err)
{
	void *p = mmap(NULL, k->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, k->fd,
		       0);

	if (p == MAP_FAILED)
		return cpx_err_sys(err, errno, "map a table of known pages");
	k->head = p;
	k->chunks = (struct chunk *)((char *)p + HEAD);
	return 0;
}

int cpx_known_new(size_t max, struct cpx_known **out, struct cpx_err *err)
{
	struct cpx_known *k = calloc(1, sizeof(*k));
	uint32_t chunks = (uint32_t)((max ? max : CPX_KNOWN_MAX) / sizeof(struct chunk));
	int rc = 0;

	if (!k)
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for known pages");
	k->len = HEAD + chunks * sizeof(struct chunk);
	k->fd = memfd_create("chpox-known", MFD_CLOEXEC);
	if (k->fd < 0 || ftruncate(k->fd, (off_t)k->len) < 0)
		rc = cpx_err_sys(err, errno, "make a table of known pages");
	if (rc == 0)
		rc = map(k, err);
	if (rc == 0) {
		*k->head = (struct head){ .magic = MAGIC, .gen = 2, .max = chunks };
		if (index_all(k) < 0)
			rc = cpx_err_set(err, CPX_E_NOMEM, "no memory for known pages");
	}
	if (rc < 0) {
		cpx_known_free(k);
		return rc;
	}
	*out = k;
	return 0;
}

int cpx_known_attach(int fd, struct cpx_known **out, struct cpx_err *err)
{
	struct cpx_known *k = calloc(1, sizeof(*k));
	struct stat st;
	int rc = 0;

	if (!k) {
		close(fd);
		return cpx_err_set(err, CPX_E_NOMEM, "no memory for known pages");
	}
	k->fd = fd;
	if (fstat(fd, &st) < 0 || st.st_size < (off_t)HEAD)
		rc = cpx_err_set(err, CPX_E_FORMAT, "no table of known pages");
	k->len = rc == 0 ? (size_t)st.st_size : 0;
	if (rc == 0)
		rc = map(k, err);
	if (rc == 0 && (k->head->magic != MAGIC || k->head->chunks > k->head->max ||
			k->head->max > (k->len - HEAD) / sizeof(struct chunk)))
		rc = cpx_err_set(err, CPX_E_FORMAT, "the table of known pages is damaged");
	if (rc == 0 && index_all(k) < 0)
		rc = cpx_err_set(err, CPX_E_NOMEM, "no memory for known pages");
	if (rc < 0) {
		cpx_known_free(k);
		return rc;
	}
	*out = k;
	return 0;
}

void cpx_known_free(struct cpx_known *k)
{
	if (!k)
		return;
	if (k->head)
		munmap(k->head, k->len);
	cpx_close(&k->fd);
	free(k->slots);
	free(k);
}

int cpx_known_fd(const struct cpx_known *k)
{
	return k->fd;
}

size_t cpx_known_bytes(const struct cpx_known *k)
{
	return HEAD + k->head->chunks * sizeof(struct chunk) + k->nslots * sizeof(*k->slots);
}

/* Keep what the generation that ends now has looked at. */
static void throw_out(struct cpx_known *k)
{
	uint32_t n = 0, was = k->head->chunks;
	size_t from, to;

	for (uint32_t i = 0; i < was; i++)
		n += k->chunks[i].gen == k->head->gen;
	if (n > was / 2)
		return;
	n = 0;
	for (uint32_t i = 0; i < was; i++)
		if (k->chunks[i].gen == k->head->gen)
			k->chunks[n++] = k->chunks[i];
	k->head->chunks = n;
	memset(k->slots, 0, k->nslots * sizeof(*k->slots));
	for (uint32_t i = 0; i < n; i++)
		k->slots[slot_of(k, k->chunks[i].number)] = i + 1;
	from = (HEAD + n * sizeof(struct chunk) + PAGE - 1) & ~(size_t)(PAGE - 1);
	to = (HEAD + was * sizeof(struct chunk)) & ~(size_t)(PAGE - 1);
	if (to > from)
		madvise((char *)k->head + from, to - from, MADV_REMOVE);
}

void cpx_known_begin(struct cpx_known *k)
{
	throw_out(k);
	k->head->gen++;
}

/* The chunk of a page, made if it is not there; NULL when there is no more room. */
static struct chunk *chunk_of(struct cpx_known *k, uint64_t number)
{
	size_t at = slot_of(k, number);
	struct chunk *c;

	if (k->slots[at])
		return &k->chunks[k->slots[at] - 1];
	if (k->head->chunks == k->head->max)
		return NULL;
	c = &k->chunks[k->head->chunks++];
	memset(c, 0, sizeof(*c));
	c->number = number;
	k->slots[at] = k->head->chunks;
	if ((size_t)k->head->chunks * 2 > k->nslots && index_all(k) < 0) {
		k->slots[at] = 0;
		k->head->chunks--;
		return NULL;
	}
	return c;
}

bool cpx_known_same(struct cpx_known *k, uint64_t off, const void *page)
{
	XXH128_hash_t h = XXH3_128bits(page, PAGE);
	struct chunk *c = chunk_of(k, off / (CHUNK_PAGES * PAGE));
	struct entry *e, now = { h.low64, (uint32_t)h.high64, k->head->gen };
	bool same;

	if (!c)
		return false;
	c->gen = k->head->gen;
	e = &c->pages[off / PAGE % CHUNK_PAGES];
	same = e->gen + 1 == now.gen && e->low == now.low && e->high == now.high;
	*e = now;
	return same;
}
