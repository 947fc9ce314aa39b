#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every state program, over what is done to it x codec x snapshot way: pairwise here, all of it with FULL=1.
#   STATES_ONLY=regex   only these ("program way")
set -u
cd "$(dirname "$0")/../.." || exit 1
B=${CHPOX_BUILD:-build}
export STATES_OUT=${STATES_OUT:-$PWD/$B/states}
codecs=(lz4 zlib none) snaps=(clone stop auto)
args=(sys_timed:recv\ with\ SO_RCVTIMEO sys_timed:accept\ with\ SO_RCVTIMEO sys_timed:semtimedop
	sys_timed:mq_timedreceive sys_timed:io_getevents tree_groups:reaped net_udp:data un_listen:data mem_exe_deleted:memfd net_quiet:urgent
	id_prctl:dispatch)
obstacles=(io_uring userfaultfd fanotify perf bpf device packet ptraced strict outside_pipe thread_ns mount)
# what may be refused, but then must not be hurt
refusable='^(tree_vfork_long|ns_own|un_listen:data|sys_timed:io_getevents|net_quiet:urgent|id_prctl:dispatch)$'

programs() {
	local f
	for f in tests/states/st_*.c; do
		f=${f#tests/states/st_}
		[[ $f =~ ^(obstacle|exec_again)\.c$ ]] || echo "${f%.c}"
	done
	printf '%s\n' "${args[@]}"
}

cases() {
	local n=0 p w
	while read -r p; do
		if [ -n "${FULL:-}" ]; then
			for w in "${codecs[@]}"; do
				echo "$p|kill|--codec=$w"
				echo "$p|twice|--codec=$w"
				for s in "${snaps[@]}"; do
					echo "$p|leave|--codec=$w --snapshot=$s"
					echo "$p|old|--codec=$w --snapshot=$s"
				done
			done
		else
			w=(leave old twice)
			# a second checkpoint cannot tell when such a call began
			[[ $p == *SO_RCVTIMEO ]] && w=(old old old)
			echo "$p|kill|--codec=${codecs[n % 3]}"
			echo "$p|${w[n % 3]}|--codec=${codecs[n / 3 % 3]} --snapshot=${snaps[n / 9 % 3]}"
		fi
		n=$((n + 1))
	done < <(programs)
	# an error that waits may be lost by a restart, as the network may lose it
	echo "net_quiet:error|leave|--snapshot=clone"
	for p in "${obstacles[@]}"; do
		echo "obstacle:$p|refuse|"
	done
}

one() {
	local p way opts out rc
	IFS='|' read -r p way opts <<<"$1"
	# shellcheck disable=SC2086 # options are words
	out=$(timeout -k 5 120 tests/states/run.sh "$p" "$way" $opts 2>&1)
	rc=$?
	case $rc in
	0) echo "ok $p: $way ${opts}" ;;
	3) echo "ok $p: $way ${opts} # SKIP $out" ;;
	*)
		if [ $rc = 4 ] && { [[ $p =~ $refusable ]] ||
			[[ $opts == *clone* && $out =~ (does not reap|adopts orphans) ]]; }; then
			echo "ok $p: $way $opts # SKIP $out"
		else
			echo "not ok $p: $way $opts"
			printf '%s\n' "$out" | sed 's/^/  /' | cut -c1-700
		fi
		;;
	esac
}
export -f one
export refusable
cases | grep -E "${STATES_ONLY:-.}" | xargs -d '\n' -P "${PARALLEL:-2}" -I{} bash -c 'one "$1"' _ {}
