#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What an incremental generation holds is what a full one of the same instant holds, by the
# kernel's way of finding changed pages, by that with flags of mappings from smaps, and by comparing their content.
#   GENERATIONS=n SEEDS="…"   how much of it
set -u
cd "$(dirname "$0")/../.." || exit 1
B=${CHPOX_BUILD:-build}/tests/incremental
store=$(mktemp -d "${TMPDIR:-/tmp}/chpox-incr.XXXXXX") || exit 1
trap 'rm -rf "$store"' EXIT
rc=0
for seed in ${SEEDS:-1 2}; do
	for forced in '' vma_flags:1:errno=38+ track.wp:1:errno=38+,track.soft:1:errno=38+; do
		CHPOX_FAULT=$forced "$B/oracle" "$store/$seed" "${GENERATIONS:-40}" "$seed" \
			"$B/torture" "$seed" || rc=1
		rm -rf "${store:?}/$seed"
	done
done
exit $rc
