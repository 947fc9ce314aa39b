/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The main stack: deep content, and it still grows by itself. */
#include "state.h"

static int grow(int depth)
{
	volatile char page[4096];

	page[0] = (char)depth;
	page[4095] = (char)depth;
	return depth ? grow(depth - 1) + (page[0] == page[4095]) : 0;
}

static void deep(int depth)
{
	char page[8192];

	st_fill(page, sizeof(page), (uint64_t)depth);
	if (depth)
		deep(depth - 1);
	else
		st_wait();
	ST_CHECK(st_filled(page, sizeof(page), (uint64_t)depth), "stack frame %d", depth);
}

int main(int argc, char **argv)
{
	st_begin(argc, argv);
	deep(50);
	ST_EQ(grow(800), 800);
	return st_end();
}
