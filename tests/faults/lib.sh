# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# lib.sh - what the fault tests share: starting a state program, and judging that it is whole.
#
#   start PROGRAM [ARG]   -> $dir, $pid    the program is ready
#   whole                 nothing of it is stopped, traced, a zombie or too many; else $why says what
#   judge                 make it judge itself and end; else $why
#   ok / bad TEXT         one TAP line

B=$(cd "${CHPOX_BUILD:-build}" && pwd) || exit 1
ctl=$B/chpox_ctl
why=

ok() { echo "ok $*"; }
bad() { echo "not ok $* | $why" | tr '\n' ' ' && echo; }

members() { grep -lzxF "ST_DIR=$dir" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }

start() {
	local i
	dir=$B/faults/$1${2:+.$2}
	rm -rf "$dir" && mkdir -p "$dir" || return 1
	(
		for fd in /proc/self/fd/*; do
			[ "${fd##*/}" -gt 2 ] && eval "exec ${fd##*/}>&-"
		done
		ST_DIR=$dir exec "$B/tests/states/$1" "$dir" ${2:+"$2"}
	) 2>/dev/null >/dev/null &
	disown
	for ((i = 0; i < 500; i++)); do
		[ -e "$dir/ready" ] && break
		sleep 0.02
	done
	pid=$(cat "$dir/pid")
	many=$(members | wc -l)
	[ -e "$dir/ready" ]
}

stop_all() {
	local p
	for p in $(members); do
		kill -9 "$p" 2>/dev/null
	done
}

# Within two seconds: the kernel and the tool's own cleaners may take a moment.
whole() {
	local i
	for ((i = 0; i < 100; i++)); do
		look && return 0
		sleep 0.02
	done
	return 1
}

look() {
	local p n=0
	why=
	for p in $(members); do
		n=$((n + 1))
		why=$(awk -v p="$p" '
			/^State:/ && $2 ~ /[TtZX]/ { print "process " p " is in state " $2; exit }
			/^TracerPid:/ && $2 != 0 { print "process " p " is traced by " $2; exit }
			' /proc/"$p"/task/*/status 2>/dev/null)
		[ -z "$why" ] || return 1
	done
	[ "$n" = "$many" ] || why="$n processes, not $many"
	for p in $(cat /proc/"$pid"/task/*/children 2>/dev/null); do
		[ "$(awk '/^State/ { print $2 }' "/proc/$p/status" 2>/dev/null)" = Z ] && why="a zombie child $p"
	done
	[ -z "$why" ]
}

judge() {
	local i word
	: >"$dir/go"
	for ((i = 0; i < 500; i++)); do
		[ -e "$dir/result" ] && break
		sleep 0.02
	done
	if ! [ -e "$dir/result" ]; then
		why="no answer; calls $(cut -c1-40 /proc/"$pid"/task/*/syscall 2>/dev/null | tr '\n' ';')"
		stop_all
		return 1
	fi
	read -r word <"$dir/result"
	why=$(head -n 3 "$dir/fail" 2>/dev/null)
	stop_all
	[ "$word" = PASS ]
}

dump() { # DIR [OPTION...]; output in $dir/tool
	local to=$1
	shift
	{ timeout -k 1 30 "$ctl" dump "$pid" --to "$to" "$@" >"$dir/tool" 2>&1; } 2>/dev/null
}

restore() {
	{ timeout -k 1 30 "$ctl" restore "$1" --detach </dev/null >"$dir/tool" 2>&1; } 2>/dev/null
}

one_line() {
	[ "$(wc -l <"$dir/tool")" = 1 ] || { why="$(wc -l <"$dir/tool") lines of reason"; return 1; }
}

# Nothing that looks like half an image, nor anything else, is in the directory.
empty() {
	local left
	left=$(find "$1" -type f 2>/dev/null | head -n 3 | tr '\n' ' ')
	[ -z "$left" ] || { why="left: $left"; return 1; }
}
