#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Real programs, killed with a checkpoint and restarted at random moments: their output must not
# differ. kill: by dump and restore; job: by run, checkpoint --kill, restart; leave: they run on.
#   TIMES=N moments each (1)    APPS_ONLY=regex
set -u
cd "$(dirname "$0")/../.." || exit 1
one() {
	local app=$1 style=$2 times=$3 out rc
	if [ "$style" = job ]; then
		out=$(timeout -k 5 240 tests/apps/job.sh "$app" "$times" 2>&1)
	else
		out=$(timeout -k 5 240 tests/apps/run.sh "$app" "$times" "$style" 2>&1)
	fi
	rc=$?
	case $rc in
	0) echo "ok $app: $style at $times random moments" ;;
	3) echo "ok $app: $style # SKIP $out" ;;
	*)
		echo "not ok $app: $style at $times random moments"
		echo "$out" | sed 's/^/  /' | cut -c1-700
		;;
	esac
}
export -f one
for app in static python_threads python_sub perl pipeline xz pigz lame make sqlite node; do
	echo "$app kill ${TIMES:-1}"
	echo "$app job ${TIMES:-1}"
	echo "$app leave $((${TIMES:-1} * 3))"
done | grep -E "${APPS_ONLY:-.}" | xargs -P "${PARALLEL:-2}" -L 1 bash -c 'one "$@"' _
