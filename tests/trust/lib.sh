# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Sourced by the tests of images that are damaged, carried away and rehearsed: jobs without
# daemon, and ways to damage what they were dumped to.

set -u
CHPOX_BUILD=$(cd "${CHPOX_BUILD:-$(dirname "$0")/../../build}" && pwd) || exit 1
ctl=$CHPOX_BUILD/chpox_ctl
top=$(mktemp -d "${TMPDIR:-/tmp}/cpx-trust.XXXXXX") || exit 1
pids=()

for fd in /proc/self/fd/*; do
	n=${fd##*/}
	if [ "$n" -gt 2 ] && [ "$n" -ne 255 ]; then
		eval "exec $n>&-" 2>/dev/null
	fi
done
exec </dev/null

end_jobs() {
	local p
	for p in "${pids[@]}"; do
		kill -9 "$p" 2>/dev/null
	done
	pids=()
}
trap 'end_jobs; rm -rf "$top"' EXIT

# check NAME COMMAND...; fails NAME PATTERN COMMAND...: it must fail with one line like that
check() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "ok $name"
	else
		echo "not ok $name"
		printf '%s\n' "$out" | head -n 10 | sed 's/^/# /'
	fi
}
fails() {
	local name=$1 pattern=$2 out rc
	shift 2
	out=$("$@" 2>&1)
	rc=$?
	if [ $rc -ne 0 ] && [ $rc -lt 124 ] && [ "$(wc -l <<<"$out")" = 1 ] && grep -qE -- "$pattern" <<<"$out"; then
		echo "ok $name"
	else
		echo "not ok $name (exit status $rc)"
		printf '%s\n' "$out" | head -n 10 | sed 's/^/# /'
	fi
}
is() { # NAME GOT WANTED
	if [ "$2" = "$3" ]; then
		echo "ok $1"
	else
		echo "not ok $1"
		printf 'got %s, wanted %s\n' "$2" "$3" | head -n 10 | sed 's/^/# /'
	fi
}
like() { # NAME TEXT PATTERN
	if grep -qE -- "$3" <<<"$2"; then
		echo "ok $1"
	else
		echo "not ok $1"
		printf '%s\n' "$2" | head -n 10 | sed 's/^/# /'
	fi
}

# A job in $w with a file of each rule; sets $pid.
start_job() {
	w=$top/$1
	mkdir "$w" && cd "$w" || exit 1
	printf 'line 1\n' >app
	head -c 100000 /dev/urandom >db
	printf 'input' >in
	setsid bash -c 'exec 5>>app 6<>db 7<in; read -r -n 3 <&7; exec sleep 1000' </dev/null >out 2>&1 &
	pid=$!
	disown
	pids+=("$pid")
	for _ in $(seq 200); do
		[ "$(cat "/proc/$pid/comm")" = sleep ] && break
		sleep 0.01
	done
}
gone() {
	kill -9 "$1" 2>/dev/null
	for _ in $(seq 300); do
		[ -e "/proc/$1" ] || break
		sleep 0.01
	done
}
# Two dumps of $pid into $w/img, the newer with other content in db and in memory; then it ends.
two_dumps() {
	"$ctl" dump "$pid" --to "$w/img" -R >tool 2>&1 || { cat tool; return 1; }
	printf 'line 2\n' >>app
	head -c 100000 /dev/urandom >db
	"$ctl" dump "$pid" --to "$w/img" >tool 2>&1 || { cat tool; return 1; }
	gone "$pid"
	printf 'line 3\n' >>app
	printf 'changed' | dd of=db conv=notrunc status=none
	cp app app.then && cp db db.then
}
manifest() { find "$w/img" -name "*-000000000000000$1-*.m"; } # of generation $1
pack() { find "$w/img" -name "*-000000000000000$1-*.p" | sort | head -n 1; }
# flip FILE OFFSET: one byte; from the end where negative
flip() {
	python3 - "$1" "$2" <<-'END'
	import os, sys
	at = int(sys.argv[2])
	with open(sys.argv[1], 'r+b') as f:
	    f.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
	    b = f.read(1)
	    f.seek(-1, os.SEEK_CUR)
	    f.write(bytes([b[0] ^ 0x40]))
	END
}
shorter() { truncate -s -100 "$1"; }
without() { rm "$1"; }
