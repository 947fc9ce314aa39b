#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# run.sh PROGRAM[:ARG] WAY [OPTION...]	run one state program; OPTIONs go to `chpox_ctl dump`
#
# WAY: self    nothing is done to it: the program itself must be right
#      kill    dump (it is killed), restore, judge
#      leave   dump twice and leave it running, judge: it must not have noticed
#      old     dump twice, kill it, restore the first image, judge
#      twice   dump, restore, dump, restore, judge
#      refuse  dump and why must both refuse, with a reason, and it must not have noticed
# Exit: 0 passed, 1 failed, 3 skipped, 4 the dump was refused and the program not hurt. What happened is on standard output, and in $STATES_OUT/PROGRAM.WAY.
set -u
bin=${CHPOX_BUILD:-build}
bin=$(cd "$bin" && pwd) || exit 2
ctl=$bin/chpox_ctl
name=${1%%:*} arg=
[ "$name" = "$1" ] || arg=${1#*:}
way=$2
shift 2
opts=("$@")
dir=${STATES_OUT:-$bin/states}/$name${arg:+_${arg// /_}}.$way${opts[*]:+.$(echo "${opts[*]}" | tr -c 'a-z0-9\n' _)}
limit=${STATES_LIMIT:-30}
rm -rf "$dir" && mkdir -p "$dir" || exit 2
export ST_DIR=$dir

# Processes of this program, by their environment; those that overwrote it are in the root's session.
members() {
	local root
	root=$(cat "$dir/pid" 2>/dev/null)
	{
		grep -lzxF "ST_DIR=$dir" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3
		[ -n "$root" ] && ps -e -o pid=,sid= | awk -v s="$root" '$2 == s { print $1 }'
	} | sort -u | grep -vxF -e "$$" -e "$BASHPID"
}
# All that belong to it but this script and what it has started.
kill_all() {
	local p n
	for n in 1 2 3 4 5; do
		for p in $(members); do
			case $(readlink "/proc/$p/exe") in
			*/bash | */grep | */sort | */cut | */awk | */timeout | */sleep | */chpox_ctl) ;;
			*) kill -9 "$p" 2>/dev/null && n=again ;;
			esac
		done
		[ "$n" = again ] || break
		sleep 0.02
	done
}
finish() { # CODE TEXT
	kill_all
	echo "$2"
	exit "$1"
}
fail() { finish 1 "$1: $(tail -n 4 "$dir/fail" "$dir/tool" 2>/dev/null | grep -v '^==>' | grep . | tail -n 6 | tr '\n' '|')"; }
await() { # FILE SECONDS
	local i
	for ((i = 0; i < $2 * 50; i++)); do
		[ -e "$dir/$1" ] || [ -e "$dir/result" ] && return 0
		sleep 0.02
	done
	return 1
}
dump() { # IMAGE [OPTION...]
	local img=$1
	shift
	echo "dump $img $*" >>"$dir/tool"
	env -u ST_DIR timeout -k 1 "$limit" "$ctl" dump "$pid" --to "$dir/$img" "${opts[@]}" "$@" >>"$dir/tool" 2>&1 ||
		refused "$?"
}
refused() { # STATUS: the program must go on as if nothing had been
	local word why said
	said=$(tail -n 1 "$dir/tool")
	[ "$1" = 1 ] || fail "dump failed ($1)"
	sleep 0.1
	: >"$dir/go"
	await result "$limit" || fail "dump failed ($1), and it hangs"
	read -r word why <"$dir/result"
	[ "$word" = PASS ] || fail "dump failed ($1), and it was hurt"
	finish 4 "dump refused: ${said#*: }"
}
restore() { # IMAGE
	echo "restore $1" >>"$dir/tool"
	env -u ST_DIR timeout -k 1 "$limit" "$ctl" restore "$dir/$1" --detach --pidfile "$dir/pidfile" \
		>>"$dir/tool" 2>&1 </dev/null || fail "restore failed ($?)"
	pid=$(cat "$dir/pidfile") # another one where it leads a PID namespace
}
gone() {
	local p
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		p=$(members | while read -r q; do
			case $(readlink "/proc/$q/exe") in *"/$name" | */copy) echo "$q" ;; esac
		done)
		[ -z "$p" ] && return
		sleep 0.05
	done
	fail "still there after a dump that kills: $p"
}

[ -x "$bin/tests/states/$name" ] || finish 1 "no program"
"$bin/tests/states/$name" "$dir" ${arg:+"$arg"} &
disown
await ready 20 || fail "never ready"
[ -e "$dir/result" ] && [ ! -e "$dir/ready" ] && { # skipped, or set-up failed
	read -r word why <"$dir/result"
	[ "$word" = SKIP ] && finish 3 "$why"
	fail "set-up"
}
pid=$(cat "$dir/pid")
sleep 0.1
case $way in
self) ;;
kill)
	dump img
	gone
	sleep "${STATES_PAUSE:-0.3}"
	restore img
	;;
leave)
	dump img --leave-running
	sleep 0.1
	dump img2 --leave-running
	;;
old)
	dump img --leave-running
	sleep 0.1
	dump img2 --leave-running
	kill_all
	restore img
	;;
twice)
	dump img
	gone
	restore img
	sleep 0.1
	dump img2
	gone
	restore img2
	;;
refuse)
	env -u ST_DIR timeout -k 1 "$limit" "$ctl" why "$pid" >"$dir/why" 2>&1 && fail "why sees no obstacle"
	[ -s "$dir/why" ] || fail "why gives no reason"
	env -u ST_DIR timeout -k 1 "$limit" "$ctl" dump "$pid" --to "$dir/img" >"$dir/tool" 2>&1 &&
		fail "dumped in spite of the obstacle"
	[ "$(wc -l <"$dir/tool")" = 1 ] || fail "the reason is not one line"
	[ -n "$(ls -A "$dir/img" 2>/dev/null)" ] && fail "something is left in the directory: $(ls -A "$dir/img" | tr '\n' ' ')"
	;;
*) finish 2 "unknown way $way" ;;
esac
sleep 0.1
: >"$dir/go"
await result "$limit" || fail "no answer after $way (state $(awk '/^State/ { print $2 }' "/proc/$pid/status" 2>/dev/null))"
read -r word why <"$dir/result"
[ "$word" = PASS ] || fail "differs"
# everything of it must have ended by itself soon
for _ in 1 2 3 4 5 6 7 8 9 10; do
	[ -e "/proc/$pid/exe" ] || break
	sleep 0.05
done
[ -e "/proc/$pid/exe" ] && fail "does not end"
rm -rf "$dir/img" "$dir/img2"
finish 0 "passed"
