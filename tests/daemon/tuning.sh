#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# How checkpoints are made: the way to a snapshot, the codec, and what they may take of the machine.
# shellcheck disable=SC2154 # $work is set in lib.sh
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

# of KEY JOB [OPTION]...: of the answer to a checkpoint
of()
{
	local key=$1
	shift
	ctl checkpoint "$@" --json | python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1]))' "$key"
}
begun() { [ "$(ctl logs "$1" | wc -l)" -gt 1 ]; }
hold()
{
	local name=$1
	shift
	ctl run --name "$name" --every never --keep 1 "${opts[@]}" -- python3 "$here/holder.py" "$@" >/dev/null
	await 20 begun "$name" || not_ok "$name begins"
}

opts=()
hold idle 64
is "the first one is a clone" "$(of way idle)" clone
if ctl check | grep -q "write protection"; then
	is "of an idle job the next is copied beforehand" "$(of way idle)" precopy
	is "also when that is asked for" "$(of way idle --snapshot precopy)" precopy
	check "what it would pause was foretold" test "$(of expected_pause_ms idle)" != None
else
	ok "pre-copy # SKIP this kernel cannot note writes"
fi
is "clone" "$(of way idle --snapshot=clone)" clone
is "stop" "$(of way idle --snapshot stop)" stop
is "and as before" "$(field idle state)" RUNNING
hold busy 128 write
of way busy >/dev/null
ways=
for _ in 1 2 3 4 5 6; do ways+=" $(of way busy)"; done
is "a job that writes all the time is not chased" "$ways" " clone clone clone clone clone clone"
ctl rm busy --force
for bad in "--snapshot=best" "--codec=zip" "--cpus=0" "--cpus=many" "--rate=fast" "--rate=1"; do
	like "$bad is refused" "$(ctl checkpoint idle $bad 2>&1)" "chpox_ctl: .*(cannot be|is from|no good)"
done
is "and nothing was begun" "$(of generation idle)" "$(($(field idle checkpoints)))"
ctl rm idle --force

# what a checkpoint may take
# low JOB: the child of the keeper that is at low priority, into $child
low()
{
	for child in $(cat /proc/"$(field "$1" keeper_pid)"/task/*/children); do
		[ "$(cut -d' ' -f19 "/proc/$child/stat" 2>/dev/null)" = 10 ] && return
	done
	child=
	return 1
}
more() { [ "$(ctl logs "$1" | wc -l)" -gt "$2" ]; }
opts=(--rate 8M --cpus 1)
hold slow 16 random
began=$(date +%s%N)
ctl checkpoint slow >"$work/said" &
waiting=$!
await 5 low slow
check "what writes it does so at low priority" test -n "$child"
is "and from the disk takes what is left over" "$(ionice -p "${child:-$$}" | cut -d: -f1)" idle
tasks=$(echo /proc/"$child"/task/* | wc -w)
check "one thread compresses (of $tasks)" test "$tasks" = 2 -o "$tasks" = 4
lines=$(ctl logs slow | wc -l)
check "the job runs on meanwhile" await 2 more slow "$lines"
wait $waiting
took=$((($(date +%s%N) - began) / 1000000))
check "it is written at no more than the rate ($took ms)" test $took -ge 1800
pause=$(ctl images slow --json | python3 -c 'import json, sys; print(int(json.load(sys.stdin)[0]["pause_ms"]))')
check "the job does not wait for that ($pause ms)" test "$pause" -lt 500
is "it is said" "$(field slow rate) $(field slow cpus)" "8388608 1"
began=$(date +%s%N)
ctl checkpoint slow --snapshot clone --deadline 30s >/dev/null
ctl checkpoint slow --kill >/dev/null
check "one that cannot wait is not held back" test $((($(date +%s%N) - began) / 1000000)) -lt 4000
check "and all of it was there" ctl verify slow
check "it restarts" ctl restart slow
check "with what was wanted" test "$(field slow rate)" = 8388608
ctl rm slow --force

opts=(--codec none)
hold text 16
of way text >/dev/null
none=$(field text bytes_stored)
check "codec none does not compress" test "$none" -gt $((16 << 20))
ctl checkpoint text --kill --codec zlib >/dev/null
check "zlib, for one checkpoint, does" test "$(field text bytes_stored)" -lt $((none / 4))
ctl restart text >/dev/null
is "the job's own stays" "$(field text codec)" none
check "auto does it somehow" test "$(of way text --snapshot=clone --codec auto)" = clone
check "and it is whole" ctl verify text

# all that was ended
opts=()
hold other 4
ctl run --name over -- true >/dev/null
ctl wait over
check "all are ended" ctl checkpoint --all --kill
is "and none runs" "$(field text state) $(field other state)" "STOPPED STOPPED"
like "restart --all" "$(ctl restart --all | sort)" $'^other: runs again, pid [0-9]+\ntext: runs again, pid [0-9]+$'
is "they run" "$(field text state) $(field other state)" "RUNNING RUNNING"
is "and nothing else does" "$(field over state)" DONE
is "then there is nothing" "$(ctl restart --all)" "nothing to restart"
like "a job or all" "$(ctl restart --all text 2>&1)" "name a job, or give --all"
finish
