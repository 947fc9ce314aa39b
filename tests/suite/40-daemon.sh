#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Jobs, keepers and the daemon: each script of tests/daemon.
cd "$(dirname "$0")/../.." || exit 1
for t in tests/daemon/*.sh; do
	[ "$t" = tests/daemon/lib.sh ] && continue
	name=$(basename "$t" .sh)
	out=$(CHPOX_BUILD=build timeout -k 5 200 "$t" 2>&1)
	rc=$?
	echo "$out" | sed -E "s/^(not ok|ok) /\\1 $name: /"
	[ $rc = 0 ] || echo "$out" | grep -q '^not ok' || echo "not ok $name: exit status $rc"
done
