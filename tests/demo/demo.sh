#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# demo.sh - twenty real jobs, checkpointed as they run, all killed at once, recovered, compared.
#
# Ten WAV files become MP3 with lame, ten text files are compressed with xz; each takes a core
# DEMO_SECONDS (5). First undisturbed, for the bytes to expect; then as jobs of chpox with a
# checkpoint every DEMO_EVERY (2s). About in the middle every process of theirs, their keepers
# and the daemon get SIGKILL. `recover --all` must bring all that had not finished back, and every
# output must be what it was without the crash. Exit status 0 only then.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=$PWD/build
work=$build/demo
export CHPOX_DIR=$work/state
ctl=$build/chpox_ctl
tools=$build/tests/demo
every=${DEMO_EVERY:-2s}
seconds=${DEMO_SECONDS:-5}
cores=$(nproc)
lame_options="-S -q 0 -b 320"
xz_options="-k -3e"

say() { printf '%5.1f s  %s\n' "$(since "$t0")" "$*"; }
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { print b - a }'; }
die() { echo "demo: $*" >&2; exit 1; }

# Everything of this demo that runs: by the state directory in its environment.
stop_all()
{
	local pids
	pids=$(tests/demo/demo.py pids "$work")
	# shellcheck disable=SC2086
	[ -z "$pids" ] || kill -KILL $pids 2>/dev/null
}
trap stop_all EXIT
trap 'exit 130' INT TERM

t0=$(now)
[ "$(id -u)" = 0 ] || die "root is needed: jobs of others are checkpointed by the system's daemon"
[ -x "$ctl" ] || die "no $ctl: run 'make' first"
stop_all
rm -rf "$work"
mkdir -p "$work"/{in,ref,run} || exit 1

# Seconds of a core that a command takes, whatever else this machine is doing.
cpu_seconds()
{
	local TIMEFORMAT=%U
	{ time "$@" >/dev/null 2>&1; } 2>&1
}

# How much input keeps a core busy for $seconds: try a little of each.
calibrate()
{
	"$tools/mkinput" wav 99 10 "$work/try.wav"
	"$tools/mkinput" text 99 2000000 "$work/try.txt"
	# shellcheck disable=SC2086
	wav_seconds=$(cpu_seconds lame $lame_options "$work/try.wav" "$work/try.mp3" |
		awk -v s="$seconds" '{ n = int(10 * s / ($1 + 0.01))
			print (n < 20 ? 20 : n > 900 ? 900 : n) }')
	# shellcheck disable=SC2086
	text_bytes=$(cpu_seconds xz $xz_options "$work/try.txt" |
		awk -v s="$seconds" '{ n = int(2000000 * s / ($1 + 0.01))
			print (n < 2e6 ? 2000000 : n > 1e8 ? 100000000 : n) }')
}

inputs()
{
	local n
	for n in 01 02 03 04 05 06 07 08 09 10; do
		"$tools/mkinput" wav "$n" "$wav_seconds" "$work/in/song$n.wav"
		"$tools/mkinput" text "$n" "$text_bytes" "$work/in/log$n.txt"
		cp "$work/in/log$n.txt" "$work/ref/"
		cp "$work/in/log$n.txt" "$work/run/"
	done
}

undisturbed()
{
	local n
	for n in 01 02 03 04 05 06 07 08 09 10; do
		echo "lame $lame_options $work/in/song$n.wav $work/ref/song$n.mp3"
		echo "xz $xz_options $work/ref/log$n.txt"
	done | xargs -P "$cores" -I CMD sh -c 'CMD' 2>/dev/null
}

# The plain shell loop. The first two jobs of each kind run under a meter, which looks at the
# clock from inside; what it starts is a child, so those jobs are small trees.
start_jobs()
{
	local n meter
	for n in 01 02 03 04 05 06 07 08 09 10; do
		meter=
		[ "$n" -gt 2 ] || meter="$tools/meter $work/run/song$n.gap"
		# shellcheck disable=SC2086
		"$ctl" run --name "song$n" --every "$every" -- \
			$meter lame $lame_options "$work/in/song$n.wav" "$work/run/song$n.mp3" ||
			die "cannot start song$n"
		[ "$n" -gt 2 ] || meter="$tools/meter $work/run/log$n.gap"
		# shellcheck disable=SC2086
		"$ctl" run --name "log$n" --every "$every" -- \
			$meter xz $xz_options "$work/run/log$n.txt" || die "cannot start log$n"
	done >"$work/started"
}

calibrate
say "inputs: 10 songs of $wav_seconds s, 10 logs of $((text_bytes / 1000000)) MB"
inputs
say "undisturbed run, $cores at a time"
t=$(now)
undisturbed
alone=$(since "$t")
say "undisturbed run took $(printf %.1f "$alone") s; now the same as jobs, all at once"

t=$(now)
start_jobs
[ "$(wc -l <"$work/started")" = 20 ] || die "not all jobs were started"
say "$(wc -l <"$work/started") jobs are running, each checkpointed every $every"

# The middle: half the undisturbed time, and every running job has a checkpoint.
limit=$(awk -v a="$alone" 'BEGIN { print a * 3 + 30 }')
while :; do
	sleep 0.5
	"$ctl" ps --json >"$work/ps.json" || die "chpox_ctl ps failed"
	tests/demo/demo.py ready "$work/ps.json" "$(since "$t")" "$alone"
	ready=$?
	[ $ready != 0 ] || break
	[ $ready != 2 ] || { tail -n 5 "$CHPOX_DIR/chpoxd.log" >&2; die "nothing left to crash"; }
	awk -v a="$(since "$t")" -v b="$limit" 'BEGIN { exit !(a > b) }' &&
		{ "$ctl" ps; die "no checkpoint of every job after $limit s"; }
done

pids=$(tests/demo/demo.py pids "$work")
crash=$(now)
cp "$work/ps.json" "$work/before.json"
# shellcheck disable=SC2086
kill -KILL $pids 2>/dev/null # some may end by themselves meanwhile
say "CRASH: SIGKILL to $(echo "$pids" | wc -w) processes: jobs, keepers and the daemon"
sleep 1
left=$(tests/demo/demo.py pids "$work")
[ -z "$left" ] || die "still running after the crash: $left"
tests/demo/demo.py partial "$work/ref" "$work/run"

"$ctl" recover --all || die "recover failed"
say "recovered"
while read -r job; do
	"$ctl" wait "$job" </dev/null
	echo "$job $?" >>"$work/status"
done <"$work/started"
say "all jobs have ended"

"$ctl" ps --json >"$work/ps.json" || die "chpox_ctl ps failed"
tests/demo/demo.py table "$work" "$crash"
rc=$?
say "$([ $rc = 0 ] && echo "PASS: 20 of 20 outputs are byte for byte those of the undisturbed run" ||
	echo "FAIL")"
[ $rc = 0 ] && rm -rf "$work/in" "$work/ref" "$work/run"
exit $rc
