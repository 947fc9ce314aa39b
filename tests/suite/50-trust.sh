#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Images that are damaged, carried away, rehearsed: each script of tests/trust. TRUST_ONLY=regex
cd "$(dirname "$0")/../.." || exit 1
for t in tests/trust/*.sh; do
	name=$(basename "$t" .sh)
	[ "$name" = lib ] && continue
	[[ $name =~ ${TRUST_ONLY:-.} ]] || continue
	out=$(CHPOX_BUILD=${CHPOX_BUILD:-build} timeout -k 5 200 "$t" 2>&1)
	rc=$?
	echo "$out" | sed -E "s/^(not ok|ok) /\\1 $name: /"
	[ $rc = 0 ] || echo "$out" | grep -q '^not ok' || echo "not ok $name: exit status $rc"
done
