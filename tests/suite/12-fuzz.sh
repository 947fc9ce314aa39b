#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Every fuzzer of tests/fuzz, FUZZ_SECONDS (60) in all, shared among them. Each starts from the
# same seeds (tests/fuzz/corpus/NAME, where there is one) and keeps what it finds in build/.
cd "$(dirname "$0")/../.." || exit 1
set -- tests/fuzz/fuzz_*.c
[ -e "$1" ] || { echo "not ok fuzz: no fuzzer found"; exit 1; }
each=$((${FUZZ_SECONDS:-60} / $#))
[ $each -gt 0 ] || each=1
for f; do
	name=$(basename "$f" .c)
	corpus=build/fuzz/corpus/$name
	mkdir -p "$corpus" build/fuzz/found
	seeds=tests/fuzz/corpus/$name
	[ -d "$seeds" ] || seeds=
	log=build/fuzz/$name.log
	# shellcheck disable=SC2086
	if "build/tests/fuzz/$name" -max_total_time=$each -timeout=10 -rss_limit_mb=1024 \
		-print_final_stats=1 -verbosity=0 -artifact_prefix=build/fuzz/found/$name- \
		"$corpus" $seeds >"$log" 2>&1; then
		runs=$(awk '/number_of_executed_units/ { print $2 }' "$log")
		echo "ok $name: ${runs:-?} inputs in $each s"
	else
		tail -n 40 "$log"
		echo "not ok $name: see $log"
	fi
done
