/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "pace.h"

/* Copying in a pause by reading before it, until it is known: it also needs memory to copy to.
 */
#define COPY_PERMILLE 2000
#define COPY_PERMILLE_MAX 20000
/* Reading a page, until some were read. */
#define READ_NS 1500
/* Of fewer pages it is the fixed costs that would be measured. */
#define COPY_PAGES_MIN 256

unsigned cpx_pace_rounds(struct cpx_pace *p)
{
	if (p->skip) {
		p->skip--;
		return 0;
	}
	return p->rounds < CPX_PACE_ROUNDS_MAX ? p->rounds + 1 : CPX_PACE_ROUNDS_MAX;
}

void cpx_pace_rounds_paid(struct cpx_pace *p, bool paid)
{
	if (paid) {
		if (p->rounds < CPX_PACE_ROUNDS_MAX)
			p->rounds++;
		p->skipped = 0;
		return;
	}
	p->rounds = 0;
	p->skipped = p->skipped ? p->skipped * 2 : 1;
	if (p->skipped > CPX_PACE_SKIP_MAX)
		p->skipped = CPX_PACE_SKIP_MAX;
	p->skip = p->skipped;
	/* what made us not copy is not measured again then: it must not stay for ever */
	if (p->copy_permille)
		p->copy_permille = (p->copy_permille + COPY_PERMILLE) / 2;
}

void cpx_pace_cloned(struct cpx_pace *p, int64_t ns, uint64_t resident_pages)
{
	if (ns <= 0 || !resident_pages)
		return;
	p->clone_ns = ns;
	p->clone_pages = resident_pages;
}

void cpx_pace_copied(struct cpx_pace *p, int64_t ns, uint64_t pages, int64_t read_ns)
{
	double now;

	if (read_ns > 0)
		p->read_ns = read_ns;
	if (pages < COPY_PAGES_MIN || ns <= 0 || read_ns <= 0)
		return;
	now = (double)ns / (double)pages / (double)read_ns * 1000;
	if (now > COPY_PERMILLE_MAX)
		now = COPY_PERMILLE_MAX;
	if (now < 1)
		now = 1;
	p->copy_permille =
		p->copy_permille ? (p->copy_permille + (int64_t)now) / 2 : (int64_t)now;
}

void cpx_pace_paused(struct cpx_pace *p, int64_t pause_ns, int64_t snapshot_ns)
{
	int64_t rest = pause_ns > snapshot_ns ? pause_ns - snapshot_ns : 0;

	p->rest_ns = p->rest_ns ? (p->rest_ns + rest) / 2 : rest;
}

static int64_t bounded(double ns)
{
	return ns < 1e18 ? (int64_t)ns : INT64_MAX;
}

int64_t cpx_pace_clone_ns(const struct cpx_pace *p, uint64_t resident_pages)
{
	if (!p->clone_ns || !p->clone_pages)
		return INT64_MAX;
	/* part of it is fixed: what is smaller by now is not quicker by as much */
	if (resident_pages <= p->clone_pages)
		return p->clone_ns;
	return bounded((double)p->clone_ns * (double)resident_pages / (double)p->clone_pages);
}

int64_t cpx_pace_copy_ns(const struct cpx_pace *p, uint64_t pages, int64_t read_ns)
{
	int64_t by = p->copy_permille ? p->copy_permille : COPY_PERMILLE;

	if (read_ns <= 0)
		read_ns = p->read_ns ? p->read_ns : READ_NS;

	return bounded((double)pages * (double)read_ns * (double)by / 1000);
}
