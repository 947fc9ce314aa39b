#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# runner.sh DIR... - run every script NN-name.sh of the directories, in order, and count.
#
# A script prints TAP: "ok WHAT", "not ok WHAT", "ok WHAT # SKIP why". One that ends badly, runs
# out of time or says nothing counts as a failure. Its whole output is in build/test-logs/; what
# is shown are failures, skips and a line per script. The last line is the sum, and the exit
# status is 0 only when nothing failed.
#
#   ONLY=regex     only scripts whose name matches       VERBOSE=1  show everything
#   TIMEOUT=secs   for each script (default 600)        RETRY=0    nothing is run a second time

set -u
cd "$(dirname "$0")/.." || exit 1
logs=build/test-logs
mkdir -p "$logs"
passed=0 failed=0 skipped=0

# Counts the TAP lines of $1 into p, f, s and checks the plan, where one is given.
count()
{
	read -r p f s < <(awk '
		/^(not )?ok([ \t]|$)/ {
			if (/# *[Ss][Kk][Ii][Pp]/) s++
			else if (/^not/) f++
			else p++
		}
		END { print p + 0, f + 0, s + 0 }' "$1")
}

attempt()
{
	local script=$1 rc start
	name=$(basename "$script" .sh)
	log=$logs/$name.log
	start=$SECONDS
	if [ -n "${VERBOSE:-}" ]; then
		timeout -k 10 "${TIMEOUT:-600}" "$script" </dev/null 2>&1 | tee "$log"
		rc=${PIPESTATUS[0]}
	else
		timeout -k 10 "${TIMEOUT:-600}" "$script" </dev/null >"$log" 2>&1
		rc=$?
	fi
	count "$log"
	if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then
		echo "not ok $name: out of time after ${TIMEOUT:-600} s" | tee -a "$log"
		f=$((f + 1))
	elif [ "$rc" != 0 ] && [ "$f" = 0 ]; then
		tail -n 5 "$log"
		echo "not ok $name: exit status $rc" | tee -a "$log"
		f=$((f + 1))
	elif [ $((p + f + s)) = 0 ]; then
		echo "not ok $name: no result" | tee -a "$log"
		f=$((f + 1))
	fi
	[ -n "${VERBOSE:-}" ] || grep -E '^not ok|^ok.*# *[Ss][Kk][Ii][Pp]' "$log" | sort -u
	printf '%-24s %4d passed %3d failed %3d skipped  %4d s\n' \
		"$name" "$p" "$f" "$s" $((SECONDS - start))
}

# Many promises are about time, and a busy machine breaks them by itself: what fails is run once more,
# alone, and the second run decides. Both are shown, and the first one's log is kept.
run_one()
{
	attempt "$1"
	if [ "$f" != 0 ] && [ "${RETRY:-1}" != 0 ]; then
		echo "# $name: $f failed; once more"
		mv "$log" "${log%.log}.first.log"
		attempt "$1"
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

for dir in "$@"; do
	for script in "$dir"/[0-9][0-9]-*.sh; do
		[ -x "$script" ] || continue
		if [ -n "${ONLY:-}" ] && ! [[ $(basename "$script") =~ $ONLY ]]; then
			continue
		fi
		run_one "$script"
	done
done
echo "took $SECONDS s; logs are in $logs"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
