#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What an incremental generation holds is what a full one of the same instant holds.
#   GENERATIONS=n SEEDS="…"   how much of it
set -u
cd "$(dirname "$0")/../.." || exit 1
B=${CHPOX_BUILD:-build}/tests/incremental
store=$(mktemp -d "${TMPDIR:-/tmp}/chpox-incr.XXXXXX") || exit 1
trap 'rm -rf "$store"' EXIT
rc=0
for seed in ${SEEDS:-1 2}; do
	"$B/oracle" "$store/$seed" "${GENERATIONS:-40}" "$seed" "$B/torture" "$seed" || rc=1
	rm -rf "${store:?}/$seed"
done
exit $rc
