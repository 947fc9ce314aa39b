#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Every cmocka program of tests/unit.
cd "$(dirname "$0")/../.." || exit 1
for t in tests/unit/test_*.c; do
	[ -e "$t" ] || { echo "not ok unit: no test found"; exit 1; }
	name=$(basename "$t" .c)
	out=$(CMOCKA_MESSAGE_OUTPUT=TAP timeout 300 "build/tests/unit/$name" 2>&1)
	rc=$?
	echo "$out" | sed -E "s/^(not ok|ok) [0-9]+/\\1 $name:/"
	[ $rc = 0 ] || echo "$out" | grep -q '^not ok' || echo "not ok $name: exit status $rc"
done
