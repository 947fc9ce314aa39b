#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Programs in python that bring about descriptors in many states and judge them afterwards: left alone,
# left running by a checkpoint, restored, restored twice.
set -u
cd "$(dirname "$0")/../.." || exit 1
B=$(cd "${CHPOX_BUILD:-build}" && pwd) || exit 1
out=$B/descriptors
command -v python3 >/dev/null || { echo "ok descriptors # SKIP no python3"; exit 0; }

await() { # FILE
	local i
	for ((i = 0; i < 500; i++)); do
		[ -e "$1" ] && return 0
		sleep 0.02
	done
	return 1
}
dump() { "$B/chpox_ctl" dump "$pid" --to "$dir/$1" "${@:2}" >>"$dir/tool" 2>&1; }
restore() { "$B/chpox_ctl" restore "$dir/$1" --detach >>"$dir/tool" 2>&1 </dev/null; }

one() { # PROGRAM WAY
	local prog=$1 way=$2 dir pid
	dir=$out/$(basename "$prog" .py).$way
	rm -rf "$dir" && mkdir -p "$dir" || return
	# shellcheck disable=SC2016 # the inner shell expands
	setsid bash -c 'echo $$ >"$1/pid"; exec python3 "$2" "$1"' _ "$dir" "$PWD/$prog" \
		>"$dir/log" 2>&1 </dev/null &
	disown
	await "$dir/ready" || { echo "not ok $prog $way: never ready: $(tail -n 2 "$dir/log")"; return; }
	pid=$(cat "$dir/pid")
	case $way in
	leave) dump img --leave-running ;;
	kill) dump img && sleep 0.3 && restore img ;;
	twice) dump img && sleep 0.3 && restore img && dump img2 && sleep 0.3 && restore img2 ;;
	esac
	: >"$dir/go"
	await "$dir/result"
	sleep 0.1
	case $(cat "$dir/result" 2>/dev/null) in
	PASS*) echo "ok ${prog##*/} $way" && rm -rf "$dir" ;;
	*) # what this machine cannot do at all is no fault of ours
		if [ "$way" = self ]; then
			echo "ok ${prog##*/} # SKIP cannot pass here: $(head -c 300 "$dir/result" "$dir/log" | tr '\n' '|')"
			kill -9 "-$pid" 2>/dev/null
			return 1
		fi
		echo "not ok ${prog##*/} $way: $(cat "$dir/result" "$dir/log" "$dir/tool" 2>/dev/null | tr '\n' '|' |
		cut -c1-600)" ;;
	esac
	kill -9 "-$pid" 2>/dev/null
	return 0
}

for prog in tests/descriptors/*.py; do
	for way in self leave kill twice; do
		one "$prog" "$way" || break
	done
done
exit 0
